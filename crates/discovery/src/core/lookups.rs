//! The lookups under way and what becomes of their results.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use tercet_enode::{Node, NodeId};
use tercet_machine::{MachineRng, MonoTime, Now};

use super::DiscoveryCore;
use super::command::{Found, OpId, Reply, RequestError};
use crate::engine::{Asker, LookupId, Protocol, Question, Target};
use crate::kad::{BUCKET_SIZE, Lookup};

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
}

#[derive(Debug)]
pub(super) struct Lookups {
    running: BTreeMap<LookupId, Running>,
    /// Those something has happened to since they were last driven.
    touched: BTreeSet<LookupId>,
    next: u64,
    rng: MachineRng,
}

impl Lookups {
    pub(super) const fn new(rng: MachineRng) -> Self {
        Self {
            running: BTreeMap::new(),
            touched: BTreeSet::new(),
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

    pub(super) fn on_answer(&mut self, id: LookupId, node: &NodeId) {
        self.touch(id, |lookup| lookup.on_answer(node));
    }

    pub(super) fn on_failure(&mut self, id: LookupId, node: &NodeId) {
        self.touch(id, |lookup| lookup.on_failure(node));
    }

    /// Keeps a lookup from ending before `until`, if it knows of more nodes than one answer holds: somebody who names only
    /// a few of them has probably been overtaken by his own second packet. In a network that small few is all there is.
    pub(super) fn linger(&mut self, id: LookupId, until: MonoTime) {
        if let Some(running) = self.running.get_mut(&id)
            && running.lookup.seen().count() > BUCKET_SIZE
        {
            running.linger = Some(until);
        }
    }

    /// When [`on_timeout`](Self::on_timeout) lets a lookup end.
    pub(super) fn deadline(&self) -> Option<MonoTime> {
        self.running
            .values()
            .filter_map(|running| running.linger.filter(|_| running.lookup.is_done()))
            .min()
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

    fn next_query(&mut self, id: LookupId) -> Option<Node> {
        self.running.get_mut(&id)?.lookup.next_query()
    }

    fn take_done(&mut self, id: LookupId) -> Option<Running> {
        self.running
            .get(&id)
            .filter(|running| running.linger.is_none() && running.lookup.is_done())?;
        self.running.remove(&id)
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
            .closest(&target.id(), BUCKET_SIZE, |node, _| may_ask(node));
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
            if let Some(done) = self.lookups.take_done(id) {
                self.on_lookup_done(now, &done);
            }
        }
        driven
    }

    /// Asks a node on a lookup's behalf: where the table knows it to answer, if that knows more than whoever named it.
    fn query(&mut self, now: Now, id: LookupId, node: &Node) -> bool {
        let Some(target) = self.lookups.target(id) else {
            return false;
        };
        let standing = self.table.standing(&node.id());
        let known = self.table.get(&node.id()).filter(|known| {
            let is_live = standing.is_some_and(|standing| !standing.live.is_empty());
            is_live || (node.record().is_none() && known.record().is_some())
        });
        let node = known.unwrap_or(node).clone();
        let (question, asker) = (Question::Find(target), Asker::Lookup(id));
        self.ask(now, &node, question, asker).is_ok()
    }

    /// Whether a node can be asked for a target: without the target's bytes only over discv5, which needs a record.
    pub(super) fn may_ask(&self, target: &Target, node: &Node) -> bool {
        target.bytes().is_some() || self.possible(node).contains(Protocol::V5)
    }

    fn on_lookup_done(&mut self, now: Now, done: &Running) {
        match done.purpose {
            Purpose::Op(op) => {
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
