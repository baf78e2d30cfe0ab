//! Which protocol a question takes, and what is tried when it gets no answer: the other protocol, and the other address of
//! a node that has one in each IP family.

use std::collections::BTreeMap;

use tercet_enode::{Node, NodeId, canonical_ip};
use tercet_machine::Now;

use super::DiscoveryCore;
use crate::engine::{Asker, Protocol, Protocols, Question, RequestError};
use crate::kad::{BUCKET_SIZE, CheckFailed, Fallback, Standing};

/// Questions that are being repeated over another protocol or at another address, about 100 bytes each. Lookups ask at most
/// `(16 + 4) × 3` nodes at a time; the rest is for callers. Beyond, a question ends with its first failure.
pub const MAX_REPEATS: usize = 1024;

/// Of so many checks one goes over a protocol that was silent, if the node has such a one: one lost datagram should not keep it from
/// being named over it for ever.
const SILENT_AGAIN: u64 = 5;

/// What has been tried for one question.
#[derive(Clone, Copy, Debug, Default)]
struct Tried {
    protocols: Protocols,
    elsewhere: bool,
}

#[derive(Debug, Default)]
pub(super) struct Repeats(BTreeMap<(Asker, NodeId), Tried>);

impl Repeats {
    pub(super) fn forget(&mut self, asker: Asker, id: NodeId) {
        if !self.0.is_empty() {
            self.0.remove(&(asker, id));
        }
    }
}

impl DiscoveryCore {
    /// Every protocol a node may be asked over: discv5 needs a record to show that the node may speak it.
    pub(super) fn possible(&self, node: &Node) -> Protocols {
        let protocols = self.config.protocols;
        if node.record().is_none() && protocols.contains(Protocol::V4) {
            protocols.without(Protocol::V5)
        } else {
            protocols
        }
    }

    /// Every protocol for one question. What only discv5 knows is asked even of a node whose record is not known.
    fn possible_for(&self, node: &Node, question: &Question) -> Protocols {
        let answerable = answerable(question);
        let possible = self.possible(node).and(answerable);
        if possible.is_empty() {
            self.config.protocols.and(answerable)
        } else {
            possible
        }
    }

    /// Asks a node over the protocol that suits it.
    pub(super) fn ask(
        &mut self,
        now: Now,
        node: &Node,
        question: Question,
        asker: Asker,
    ) -> Result<(), RequestError> {
        let possible = self.possible_for(node, &question);
        let standing = self.table.standing(&node.id()).unwrap_or_default();
        let protocol = possible
            .but(standing.silent)
            .preferred()
            .or(possible.preferred())
            .ok_or(RequestError::Unsupported)?;
        self.ask_over(now, protocol, node, question, asker)
    }

    /// Asks a node over one protocol.
    pub(super) fn ask_over(
        &mut self,
        now: Now,
        protocol: Protocol,
        node: &Node,
        question: Question,
        asker: Asker,
    ) -> Result<(), RequestError> {
        if !self.config.protocols.contains(protocol) {
            return Err(RequestError::Unsupported);
        }
        match protocol {
            Protocol::V4 => self.v4.ask(now, node, question, asker),
            Protocol::V5 => self.v5.ask(now, node, question, asker),
        }?;
        let ip = canonical_ip(node.endpoint().ip);
        if !self.invited.contains(&ip) {
            self.invited.insert(ip, ());
            let [v4, v6] = &mut self.strangers;
            *(if ip.is_ipv4() { v4 } else { v6 }) += 1;
        }
        Ok(())
    }

    /// Tries a question in another way after a failure over `protocol`. `false` if there is none left.
    pub(super) fn repeat(
        &mut self,
        now: Now,
        protocol: Protocol,
        node: &Node,
        (question, only): (Question, Option<Protocol>),
        asker: Asker,
    ) -> bool {
        let standing = self.table.standing(&node.id()).unwrap_or_default();
        let key = (asker, node.id());
        let mut tried = self.repeats.0.remove(&key).unwrap_or_default();
        tried.protocols = tried.protocols.with(protocol);
        // A node that has answered over this protocol was asked in the right way.
        if standing.live.contains(protocol) || self.repeats.0.len() >= MAX_REPEATS {
            return false;
        }
        let possible = match only {
            Some(only) => only.into(),
            None => self.possible_for(node, &question),
        };
        let (next, at) = if let Some(next) = possible.but(tried.protocols).preferred()
            && !tried.elsewhere
        {
            (next, node.clone())
        } else if let Some(other) = self.policy.other(node).filter(|_| !tried.elsewhere)
            && let Some(next) = only.or(possible.preferred())
        {
            tried.elsewhere = true;
            (next, node.clone().with_endpoint(other))
        } else {
            return false;
        };
        let asked = self.ask_over(now, next, &at, question, asker).is_ok();
        if asked {
            self.repeats.0.insert(key, tried);
        }
        asked
    }

    /// Sends the ping of a check: over a protocol not proven yet before one that is, over a silent one only now and then or if there
    /// is no other. Where several are proven they take turns. A node that owes an answer is asked over what it was proven over, first
    /// where it owes none: it has to be found out whether it lives, not what else it speaks.
    pub(super) fn check(&mut self, now: Now, node: &Node) {
        let id = node.id();
        let possible = self.possible(node);
        let standing = self.table.standing(&id).unwrap_or_default();
        let proven = possible.and(standing.live);
        let untried = self.untried(node, standing).preferred();
        let in_turn = if standing.checks.is_multiple_of(2) {
            proven.preferred()
        } else {
            proven.but(Protocols::V5).preferred().or(proven.preferred())
        };
        let protocol = if standing.missed.is_empty() {
            let again = possible.and(standing.silent).preferred();
            let again = again.filter(|_| self.table.turns().is_multiple_of(SILENT_AGAIN));
            untried.or(again).or(in_turn)
        } else {
            let unowed = proven.but(standing.missed).preferred();
            unowed.or(proven.preferred()).or(untried)
        };
        let protocol = protocol.or(possible.preferred());
        let asked = protocol
            .map(|protocol| self.ask_over(now, protocol, node, Question::Ping, Asker::Check));
        if asked != Some(Ok(())) {
            self.table.on_check_skipped(now.mono, &id);
        }
    }

    /// Checks a node that has answered over one protocol over those it may speak and was not tried over yet: only over what
    /// is proven is it named to others. At once while few are proven over it, else with the fast list, so that a node that comes
    /// into a large network does not ask everybody twice in its first seconds.
    ///
    /// It ends, as each check makes a protocol proven or silent. A stranger gains one ping by it, sent to an address that has
    /// just shown that it receives; another only by a newer record with his signature, or by an answer to one more ping of
    /// this node's. And it is a ping that the node's next turn would have brought.
    pub(super) fn prove_rest(&mut self, now: Now, id: &NodeId) {
        let standing = self.table.standing(id).unwrap_or_default();
        if standing.live.is_empty() || standing.checking {
            return;
        }
        if let Some(node) = self.table.get(id).cloned()
            && let Some(protocol) = self.untried(&node, standing).preferred()
        {
            if self.table.live_over(protocol) < BUCKET_SIZE {
                self.table.on_check_begun(now.mono, id);
                self.check(now, &node);
            } else {
                self.table.check_soon(now.mono, id);
            }
        }
    }

    fn untried(&self, node: &Node, standing: Standing) -> Protocols {
        let possible = self.possible(node);
        possible.but(standing.silent).but(standing.live)
    }

    /// A node has not answered a ping at the endpoint it has in `node`.
    pub(super) fn on_silent(&mut self, now: Now, protocol: Protocol, node: &Node) {
        let id = node.id();
        let endpoint = match self.table.get(&id) {
            None => return,
            Some(known) => known.endpoint(),
        };
        if endpoint.udp_addr() != node.endpoint().udp_addr() {
            // It has moved meanwhile; what is there now has not been checked.
            self.table.on_check_skipped(now.mono, &id);
            return;
        }
        let known = self.table.get(&id).unwrap_or(node);
        let fallback = Fallback {
            protocols: self.possible(known),
            endpoint: self.policy.other(known),
        };
        let failed = self
            .table
            .on_check_failed(now.mono, &id, protocol, fallback);
        if failed == CheckFailed::Retry
            && let Some(node) = self.table.get(&id).cloned()
        {
            self.table.on_check_begun(now.mono, &id);
            self.check(now, &node);
        }
        if self.table.is_empty() {
            self.refresh.hurry(now.mono);
        }
    }
}

/// The protocols that know a question.
fn answerable(question: &Question) -> Protocols {
    match question {
        Question::Ping | Question::Record => Protocols::ALL,
        Question::Find(target) if target.bytes().is_some() => Protocols::ALL,
        Question::Find(_) | Question::Distances(_) | Question::Talk { .. } => Protocols::V5,
    }
}
