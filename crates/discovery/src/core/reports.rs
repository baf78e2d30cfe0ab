//! What the engines tell, and what follows from it.

use tercet_enode::{Node, NodeId, NodeRecord};
use tercet_machine::Now;
use tercet_nodedb::Write;

use super::command::{Reply, RequestError};
use super::{CoreOutput, DiscoveryCore};
use crate::engine::{Asker, Protocol, Question, Report};
use crate::kad::{Added, Proof};

/// Lookups' questions unanswered in a row that cost a node its place (geth).
const MAX_FIND_FAILURES: u32 = 5;

/// A bucket with fewer nodes than this loses none to unanswered questions (geth): if our own line is down, the
/// table survives it.
const MIN_BUCKET_TO_DROP: usize = 4;

impl DiscoveryCore {
    pub(super) fn on_report(&mut self, now: Now, protocol: Protocol, report: Report) {
        match report {
            Report::Alive(node) => self.on_alive(now, protocol, node),
            Report::Silent(node) => {
                self.suspicion.on_silence(protocol);
                self.on_silent(now, protocol, &node);
            }
            Report::Pong { asker, node, info } => {
                self.repeats.forget(asker, node.id());
                self.end(asker, Ok(Reply::Pong(info)));
            }
            Report::Nodes {
                asker,
                from,
                nodes,
                last,
            } => self.on_nodes(now, protocol, (asker, from), nodes, last),
            Report::Linger { asker, until } => {
                if let Asker::Lookup(lookup) | Asker::Second(lookup) = asker {
                    self.lookups.linger(lookup, until);
                }
            }
            Report::Record {
                asker,
                node,
                record,
            } => self.on_record(now, protocol, (asker, node), record),
            Report::Talk { asker, payload } => {
                self.suspicion.on_answer(protocol);
                self.end(asker, Ok(Reply::Talk(payload)));
            }
            Report::Failed { asker, node, error } => {
                self.on_failed(now, protocol, asker, &node, error);
            }
            Report::Heard { node, proof } => self.on_heard(now, node, proof),
            Report::Newer { node, seq } => self.on_newer(now, protocol, &node, seq),
            Report::Vote { voter, seen_as } => {
                self.out.push(CoreOutput::Vote { voter, seen_as });
            }
            Report::Unsolicited { from } => {
                if !self.invited.contains(&from.ip()) {
                    self.out.push(CoreOutput::Unsolicited { from });
                }
            }
            Report::TalkRequest(message) => {
                self.out.push(CoreOutput::TalkRequest(message));
            }
            Report::Write(write) => self.write(write),
        }
    }

    fn on_alive(&mut self, now: Now, protocol: Protocol, node: Node) {
        self.suspicion.on_answer(protocol);
        let id = node.id();
        self.offer(now, node, Proof::Answer(protocol));
        self.prove_rest(now, &id);
    }

    /// Offers the table a node; one without a usable endpoint never enters it.
    fn offer(&mut self, now: Now, node: Node, proof: Proof) {
        if self.policy.usable(&node).is_ok() {
            let id = node.id();
            let added = self.table.add(now.mono, node, proof);
            self.on_added(now, &id, added);
        }
    }

    /// What is new of a node may be a protocol, proven or shown by its record: the others are tried at once.
    fn on_added(&mut self, now: Now, id: &NodeId, added: Added) {
        if matches!(added, Added::Inserted | Added::Updated) {
            self.prove_rest(now, id);
        }
    }

    /// Offers the table a node that came by itself. Until this node has found its own way into the network such
    /// nodes wait behind those it finds. A newcomer whose protocols are not proven is checked at once.
    fn on_heard(&mut self, now: Now, node: Node, proof: Proof) {
        if self.policy.usable(&node).is_err() {
            return;
        }
        let id = node.id();
        if !self.refresh.has_joined() {
            let added = self.table.add_waiting(now.mono, node, proof);
            self.on_added(now, &id, added);
            return;
        }
        let added = self.table.add(now.mono, node, proof);
        if added == Added::Inserted
            && proof == Proof::Contact
            && let Some(node) = self.table.get(&id).cloned()
        {
            self.table.on_check_begun(now.mono, &id);
            self.check(now, &node);
        } else {
            self.on_added(now, &id, added);
        }
    }

    fn on_nodes(
        &mut self,
        now: Now,
        protocol: Protocol,
        (asker, from): (Asker, NodeId),
        mut nodes: Vec<Node>,
        last: bool,
    ) {
        self.suspicion.on_answer(protocol);
        for node in &nodes {
            if !self.table.has_heard(node) {
                self.offer(now, node.clone(), Proof::Hearsay);
            }
        }
        if last {
            self.repeats.forget(asker, from);
            if self.table.on_find_answered(&from) {
                self.write_failures(protocol, from, 0);
            }
        }
        match asker {
            Asker::Lookup(lookup) | Asker::Second(lookup) => {
                if let Some(target) = self.lookups.target(lookup) {
                    nodes.retain(|node| self.may_ask(&target, node));
                    self.lookups.learn(lookup, &from, nodes);
                }
                match asker {
                    Asker::Second(_) if last => self.lookups.on_second_end(lookup),
                    _ if last => self.lookups.on_answer(lookup, protocol, &from),
                    _ => {}
                }
            }
            Asker::Op(op) => {
                let Some(operation) = self.ops.get_mut(&op) else {
                    return;
                };
                operation.nodes.extend(nodes);
                if last {
                    let nodes = std::mem::take(&mut operation.nodes);
                    self.end(asker, Ok(Reply::Nodes(nodes)));
                }
            }
            Asker::Check | Asker::Newer | Asker::Resolve(_) => {}
        }
    }

    /// A record is believed to be its node's newest, and kept wherever the node is known.
    fn on_record(
        &mut self,
        now: Now,
        protocol: Protocol,
        (asker, node): (Asker, Node),
        record: NodeRecord,
    ) {
        self.suspicion.on_answer(protocol);
        let id = node.id();
        self.repeats.forget(asker, id);
        if self.table.on_find_answered(&id) {
            self.write_failures(protocol, id, 0);
        }
        if let Some(known) = self.table.known(&id) {
            if record.seq() > known.seq() {
                self.claims.on_delivered(&id);
            }
            // Its record does not bring in a node that waits until this one has found its own way.
            self.on_heard(now, node.clone(), Proof::Hearsay);
        } else if asker == Asker::Newer {
            self.on_homeless_record(now, &node, &record);
        }
        match asker {
            Asker::Op(_) => self.end(asker, Ok(Reply::Record(record))),
            Asker::Resolve(op) => self.on_resolve_answer(op, node),
            Asker::Lookup(_) | Asker::Second(_) | Asker::Check | Asker::Newer => {}
        }
    }

    /// A node without a place in the table has delivered its record, as it said that there is a newer one. It comes in with the
    /// endpoint that names, if it names one, and not with where it happens to speak from.
    fn on_homeless_record(&mut self, now: Now, node: &Node, record: &NodeRecord) {
        self.homeless.on_delivered(&node.id());
        let named = self.policy.node(record.clone());
        if named.is_some_and(|named| named.endpoint() == node.endpoint()) {
            self.on_heard(now, node.clone(), Proof::Hearsay);
        }
    }

    fn on_failed(
        &mut self,
        now: Now,
        protocol: Protocol,
        asker: Asker,
        node: &Node,
        error: RequestError,
    ) {
        let id = node.id();
        if error == RequestError::Timeout {
            // discv4 says of each ping that it was not answered.
            if protocol == Protocol::V5 {
                self.suspicion.on_silence(protocol);
            }
            self.table.on_unanswered(&id, node.endpoint(), protocol);
            let again = self
                .question_of(asker)
                .is_some_and(|question| self.repeat(now, protocol, node, question, asker));
            if again {
                return;
            }
        }
        self.repeats.forget(asker, id);
        match asker {
            Asker::Lookup(lookup) => {
                self.lookups.on_failure(lookup, &id);
                if error == RequestError::Timeout {
                    self.on_find_failed(now, protocol, id);
                }
            }
            Asker::Second(lookup) => self.lookups.on_second_end(lookup),
            Asker::Op(_) => self.end(asker, Err(error)),
            Asker::Resolve(op) => self.search(op),
            Asker::Check => self.on_silent(now, protocol, node),
            Asker::Newer => {}
        }
    }

    /// What was asked on this behalf, and the only protocol it may be asked over, if there is one.
    fn question_of(&self, asker: Asker) -> Option<(Question, Option<Protocol>)> {
        match asker {
            Asker::Lookup(lookup) => {
                let target = self.lookups.target(lookup)?;
                Some((Question::Find(target), None))
            }
            Asker::Op(op) => {
                let operation = self.ops.get(&op)?;
                Some((operation.question.clone(), operation.only))
            }
            Asker::Resolve(_) => Some((Question::Record, None)),
            Asker::Second(_) | Asker::Check | Asker::Newer => None,
        }
    }

    /// Failures are counted in the database; too many in a row drop the node.
    fn on_find_failed(&mut self, now: Now, protocol: Protocol, id: NodeId) {
        let Some(count) = self.table.on_find_failed(now.mono, &id, protocol) else {
            return;
        };
        self.write_failures(protocol, id, count);
        if count >= MAX_FIND_FAILURES && self.table.bucket_len(&id) >= MIN_BUCKET_TO_DROP {
            self.table.remove(now.mono, &id);
        }
    }

    fn write_failures(&mut self, protocol: Protocol, id: NodeId, count: u32) {
        if let Some(ip) = self.table.get(&id).map(|node| node.endpoint().ip) {
            self.write(match protocol {
                Protocol::V4 => Write::FindFailures { id, ip, count },
                Protocol::V5 => Write::FindFailuresV5 { id, ip, count },
            });
        }
    }

    /// Fetches the record of a node that says it has a newer one than we know, from where we know it: one of the table, or one
    /// with a discv5 session and no endpoint yet.
    fn on_newer(&mut self, now: Now, protocol: Protocol, node: &Node, seq: u64) {
        let id = node.id();
        let Some(known) = self.table.known(&id) else {
            if protocol == Protocol::V5 && self.homeless.ask(now.mono, id) {
                let _asked = self.ask_over(now, protocol, node, Question::Record, Asker::Newer);
            }
            return;
        };
        if seq <= known.seq() || known.endpoint().ip != node.endpoint().ip {
            return;
        }
        if !self.claims.ask(now.mono, id) {
            self.counters.claims_ignored += 1;
            return;
        }
        let known = known.clone();
        // A full engine is no reason to remember anything: the claim's pause has begun and ends.
        let _asked = self.ask_over(now, protocol, &known, Question::Record, Asker::Newer);
    }

    /// Ends a caller's operation; others have no such end.
    fn end(&mut self, asker: Asker, result: Result<Reply, RequestError>) {
        if let Asker::Op(op) = asker
            && self.ops.remove(&op).is_some()
        {
            self.done(op, result);
        }
    }
}
