//! The lookups under way and what becomes of their results.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use tercet_enode::{Node, NodeId};
use tercet_machine::{MachineRng, MonoTime, Now};

use super::DiscoveryCore;
use super::command::{Found, OpId, Reply, RequestError};
use crate::engine::{Asker, LookupId, Protocol, Protocols, Question, Target};
use crate::kad::{ALPHA, BUCKET_SIZE, Lookup};

/// Lookups for callers at one time; a refresh adds up to three.
pub const MAX_LOOKUPS: usize = 16;

/// Who started a lookup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    Op(OpId),
    Resolve(OpId),
    Refresh,
}

#[derive(Debug)]
struct Running {
    lookup: Lookup,
    target: Target,
    purpose: Purpose,
    /// It does not end before: the rest of an answer may be close behind.
    linger: Option<MonoTime>,
    /// The protocol for the next node that is known to answer over both.
    turn: Protocol,
    /// Over which protocol each node has answered; no more of them than were asked.
    answered: BTreeMap<NodeId, Protocol>,
    /// Questions over the other protocol without an answer yet; `None` before they are asked.
    second: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Lookups {
    running: BTreeMap<LookupId, Running>,
    /// Those something has happened to since they were last driven.
    touched: BTreeSet<LookupId>,
    /// When the first of those ends that only linger, as of when they were last driven.
    ends: Option<MonoTime>,
    next: u64,
    rng: MachineRng,
}

impl Lookups {
    pub(super) const fn new(rng: MachineRng) -> Self {
        Self {
            running: BTreeMap::new(),
            touched: BTreeSet::new(),
            ends: None,
            next: 0,
            rng,
        }
    }

    pub(super) fn target(&self, id: LookupId) -> Option<Target> {
        self.running.get(&id).map(|running| running.target)
    }

    pub(super) fn learn(
        &mut self,
        id: LookupId,
        from: &NodeId,
        nodes: impl IntoIterator<Item = Node>,
    ) {
        self.touch(id, |lookup| lookup.learn_from(from, nodes));
    }

    pub(super) fn on_answer(&mut self, id: LookupId, protocol: Protocol, node: &NodeId) {
        if let Some(running) = self.running.get_mut(&id) {
            running.answered.insert(*node, protocol);
        }
        self.touch(id, |lookup| lookup.on_answer(node));
    }

    /// A question over the other protocol has come to its end.
    pub(super) fn on_second_end(&mut self, id: LookupId) {
        if let Some(running) = self.running.get_mut(&id) {
            running.second = running.second.map(|left| left.saturating_sub(1));
            self.touched.insert(id);
        }
    }

    pub(super) fn on_failure(&mut self, id: LookupId, node: &NodeId) {
        self.touch(id, |lookup| lookup.on_failure(node));
    }

    /// Keeps a lookup from ending before `until`, if it knows of more nodes than one answer holds: somebody who names only
    /// a few of them has probably been overtaken by his own second packet. In a network that small few is all there is.
    pub(super) fn linger(&mut self, id: LookupId, until: MonoTime) {
        if let Some(running) = self.running.get_mut(&id)
            && running.lookup.has_seen_more_than(BUCKET_SIZE)
        {
            running.linger = Some(until);
            self.touched.insert(id);
        }
    }

    /// When [`on_timeout`](Self::on_timeout) lets a lookup end.
    pub(super) const fn deadline(&self) -> Option<MonoTime> {
        self.ends
    }

    /// Says when they end. To be called when all have been driven.
    fn on_driven(&mut self) {
        let lingering = self.running.values().filter(|r| r.lookup.is_done());
        self.ends = lingering.filter_map(|running| running.linger).min();
    }

    pub(super) fn on_timeout(&mut self, now: MonoTime) {
        for (id, running) in &mut self.running {
            if running.linger.take_if(|until| *until <= now).is_some() {
                self.touched.insert(*id);
            }
        }
    }

    pub(super) fn random_target(&mut self) -> Target {
        Target::new(std::array::from_fn(|_| self.rng.random()))
    }

    fn touch(&mut self, id: LookupId, change: impl FnOnce(&mut Lookup)) {
        if let Some(running) = self.running.get_mut(&id) {
            change(&mut running.lookup);
            self.touched.insert(id);
        }
    }

    /// The protocol a node is asked over that answers over both: they take turns.
    fn take_turn(&mut self, id: LookupId) -> Option<Protocol> {
        let turn = &mut self.running.get_mut(&id)?.turn;
        let next = match *turn {
            Protocol::V4 => Protocol::V5,
            Protocol::V5 => Protocol::V4,
        };
        Some(std::mem::replace(turn, next))
    }

    fn next_query(&mut self, id: LookupId) -> Option<Node> {
        self.running.get_mut(&id)?.lookup.next_query()
    }

    fn take_done(&mut self, id: LookupId) -> Option<Running> {
        self.running
            .get(&id)
            .filter(|running| running.second == Some(0))
            .filter(|running| running.linger.is_none() && running.lookup.is_done())?;
        self.running.remove(&id)
    }

    /// The closest nodes with the protocol each has answered over, once, when the lookup has come to its end.
    fn take_second(&mut self, id: LookupId) -> Vec<(Node, Protocol)> {
        let Some(running) = self.running.get_mut(&id) else {
            return Vec::new();
        };
        if running.second.is_some() || !running.lookup.is_done() {
            return Vec::new();
        }
        running.second = Some(0);
        let closest = running.lookup.closest().take(ALPHA);
        closest
            .filter_map(|node| Some((node.clone(), *running.answered.get(&node.id())?)))
            .collect()
    }

    fn on_second_begun(&mut self, id: LookupId) {
        if let Some(running) = self.running.get_mut(&id) {
            running.second = running.second.map(|left| left + 1);
        }
    }
}

impl DiscoveryCore {
    /// Starts a lookup; it moves at the next [`drive_lookups`](Self::drive_lookups).
    pub(super) fn start_lookup(
        &mut self,
        target: Target,
        purpose: Purpose,
    ) -> Result<(), RequestError> {
        let for_callers = self
            .lookups
            .running
            .values()
            .filter(|running| running.purpose != Purpose::Refresh);
        if purpose != Purpose::Refresh && for_callers.count() >= MAX_LOOKUPS {
            return Err(RequestError::Busy);
        }
        let may_ask = |node: &Node| self.may_ask(&target, node);
        let start = self
            .table
            .closest(&target.id(), BUCKET_SIZE, |node, _| may_ask(node))
            .into_iter()
            .cloned();
        let lookup = Lookup::disjoint(
            self.record.id(),
            target.id(),
            start,
            self.config.lookup_paths,
        );
        let id = LookupId(self.lookups.next);
        self.lookups.next += 1;
        self.lookups.running.insert(
            id,
            Running {
                lookup,
                target,
                purpose,
                linger: None,
                turn: Protocol::V5,
                answered: BTreeMap::new(),
                second: None,
            },
        );
        self.lookups.touched.insert(id);
        Ok(())
    }

    /// Sends what the lookups want to ask and ends those that are done. Everything that happens to a lookup
    /// only marks it, so that a chain of failures is a loop here and not a recursion. `false` if there was nothing to do.
    pub(super) fn drive_lookups(&mut self, now: Now) -> bool {
        let driven = !self.lookups.touched.is_empty();
        while let Some(id) = self.lookups.touched.pop_first() {
            while let Some(node) = self.lookups.next_query(id) {
                if !self.query(now, id, &node) {
                    self.lookups.on_failure(id, &node.id());
                }
            }
            for (node, answered) in self.lookups.take_second(id) {
                self.query_again(now, id, &node, answered);
            }
            if let Some(done) = self.lookups.take_done(id) {
                self.on_lookup_done(now, &done);
            }
        }
        if driven {
            self.lookups.on_driven();
        }
        driven
    }

    /// Asks a node on a lookup's behalf: where the table knows it to answer, if that knows more than whoever named it.
    ///
    /// Answers over discv5 never name a node that speaks discv4 alone, nor the other way round. So those that answer over both
    /// are asked over either in turn, if the target can be named over both, and the lookup hears of all.
    fn query(&mut self, now: Now, id: LookupId, node: &Node) -> bool {
        let Some(target) = self.lookups.target(id) else {
            return false;
        };
        let live = self.table.standing(&node.id()).unwrap_or_default().live;
        let known = self.table.get(&node.id()).filter(|known| {
            !live.is_empty() || (node.record().is_none() && known.record().is_some())
        });
        let node = known.unwrap_or(node).clone();
        let (question, asker) = (Question::Find(target), Asker::Lookup(id));
        let turn = (live == Protocols::ALL && target.bytes().is_some())
            .then(|| self.lookups.take_turn(id))
            .flatten();
        match turn {
            Some(protocol) => self.ask_over(now, protocol, &node, question, asker),
            None => self.ask(now, &node, question, asker),
        }
        .is_ok()
    }

    /// Asks one of the closest nodes once more, over the protocol it has not answered over, if it may speak it: near the target
    /// there are nodes only one of the protocols knows. Silence is not held against it.
    fn query_again(&mut self, now: Now, id: LookupId, node: &Node, answered: Protocol) {
        let Some(target) = self.lookups.target(id).filter(|t| t.bytes().is_some()) else {
            return;
        };
        let known = self.table.known(&node.id());
        let known = known.filter(|known| node.record().is_none() && known.record().is_some());
        let node = known.unwrap_or(node).clone();
        let silent = self.table.standing(&node.id()).unwrap_or_default().silent;
        let other = self.possible(&node).but(silent).without(answered);
        if let Some(protocol) = other.preferred() {
            let (question, asker) = (Question::Find(target), Asker::Second(id));
            if self.ask_over(now, protocol, &node, question, asker).is_ok() {
                self.lookups.on_second_begun(id);
            }
        }
    }

    /// Whether a node can be asked for a target: without the target's bytes only over discv5, which needs a record.
    pub(super) fn may_ask(&self, target: &Target, node: &Node) -> bool {
        target.bytes().is_some() || self.possible(node).contains(Protocol::V5)
    }

    fn on_lookup_done(&mut self, now: Now, done: &Running) {
        match done.purpose {
            Purpose::Op(op) => {
                let is_vain = done.lookup.closest().next().is_none();
                if is_vain && self.begin_again(op, done.target) {
                    return;
                }
                let found = Found {
                    closest: done.lookup.closest().cloned().collect(),
                    seen: done.lookup.seen().cloned().collect(),
                };
                self.done(op, Ok(Reply::Found(found)));
            }
            Purpose::Resolve(op) => {
                let found = done
                    .lookup
                    .closest()
                    .find(|node| node.id() == done.target.id())
                    .cloned();
                self.on_searched(op, found);
            }
            Purpose::Refresh => self.on_refresh_lookup_done(now),
        }
    }
}
