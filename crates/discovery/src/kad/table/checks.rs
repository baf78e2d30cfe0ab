//! When the nodes of the table are checked, and what an answer or its absence does to them.

use std::time::Duration;

use rand::RngExt;
use tercet_enode::{Endpoint, Node, NodeId};
use tercet_machine::MonoTime;

use super::{CheckFailed, Fallback, Table};
use crate::engine::{Protocol, Protocols};
use crate::kad::bucket::Entry;
use crate::kad::revalidate::RevalidationList;
use crate::kad::row::Mark;

impl Table {
    /// The node did not answer a check over `protocol`.
    ///
    /// If it never did over this one, only that is remembered, as long as it answers over another or has not been tried over
    /// all, nor at the other address of its record. Else its credit falls to a third; at nothing it is no longer live over
    /// this protocol, and when it is live over none it goes.
    ///
    /// A live node goes when it owes two answers at the earliest. Where another waits for its place that is enough, over every
    /// protocol it was proven over, whatever its credit; but if nobody has answered since the first of them, our own line may be
    /// down.
    pub fn on_check_failed(
        &mut self,
        now: MonoTime,
        id: &NodeId,
        protocol: Protocol,
        fallback: Fallback,
    ) -> CheckFailed {
        let elsewhere = fallback
            .endpoint
            .filter(|endpoint| self.admits(id, endpoint.ip));
        let fallback = Fallback {
            endpoint: elsewhere,
            ..fallback
        };
        let answered = self.history.answered;
        let mut proven = false;
        let replaceable = self.bucket(id).is_some_and(|b| b.replacements().len() > 0);
        let failed = self.edit_node(id, |entry| {
            proven = entry.live.contains(protocol);
            if proven {
                let owes = entry.owe(now, protocol);
                if owes.is_some_and(|since| replaceable && answered > Some(since)) {
                    entry.give_up(protocol);
                }
            }
            entry.fail(protocol, fallback)
        });
        match failed {
            None => CheckFailed::Gone,
            Some((CheckFailed::Gone, _)) => {
                if let Some(node) = self.remove(now, id).filter(|_| proven) {
                    self.schedule.on_gone();
                    self.history.on_gone(node);
                }
                CheckFailed::Gone
            }
            Some((failed, is_seen)) => {
                self.version += u64::from(is_seen);
                self.sync(now);
                failed
            }
        }
    }

    /// The node has not answered a question at `endpoint` over a protocol: if it never did there, that is remembered.
    pub fn on_unanswered(&mut self, id: &NodeId, endpoint: &Endpoint, protocol: Protocol) {
        self.edit_node(id, |entry| {
            let was_asked = entry.node.endpoint().udp_addr() == endpoint.udp_addr();
            if was_asked && !entry.live.contains(protocol) {
                entry.silent = entry.silent.with(protocol);
            }
        });
    }

    /// The node has not answered a lookup's question, after answering no other since `count - 1` such ones: returns `count`,
    /// or `None` if no bucket holds it. It counts as an answer it owes, and the node is checked soon.
    pub fn on_find_failed(
        &mut self,
        now: MonoTime,
        id: &NodeId,
        protocol: Protocol,
    ) -> Option<u32> {
        let (count, owes) = self.edit_node(id, |entry| {
            entry.find_failures = entry.find_failures.saturating_add(1);
            let owes = entry.live.contains(protocol);
            if owes {
                entry.owe(now, protocol);
            }
            (entry.find_failures, owes)
        })?;
        if owes {
            self.check_soon(now, id);
        }
        Some(count)
    }

    /// The node has answered a question. `true` if that ends a row of failures.
    pub fn on_find_answered(&mut self, id: &NodeId) -> bool {
        let has_failed = |entry: &Entry| entry.find_failures > 0;
        let ends = self
            .bucket(id)
            .and_then(|b| b.get(id))
            .is_some_and(has_failed);
        if ends {
            self.edit_node(id, |entry| entry.find_failures = 0);
        }
        ends
    }

    /// Remembers what an earlier run counted about a node.
    pub fn restore_failures(&mut self, id: &NodeId, count: u32) {
        self.edit_node(id, |entry| entry.find_failures = count);
    }

    /// The node is being checked, whoever asked for it.
    pub fn on_check_begun(&mut self, now: MonoTime, id: &NodeId) {
        self.set_checking(now, id, true);
    }

    /// The node is to be checked as soon as one that has not answered yet.
    pub fn check_soon(&mut self, now: MonoTime, id: &NodeId) {
        self.edit_node(id, |entry| entry.list = RevalidationList::Fast);
        self.sync(now);
    }

    /// The check never took place (nothing could be sent): it will be tried again.
    pub fn on_check_skipped(&mut self, now: MonoTime, id: &NodeId) {
        self.set_checking(now, id, false);
    }

    fn set_checking(&mut self, now: MonoTime, id: &NodeId, checking: bool) {
        self.edit_node(id, |entry| entry.checking = checking);
        self.sync(now);
    }

    /// When [`next_check`](Self::next_check) has something to give.
    #[must_use]
    pub fn deadline(&self) -> Option<MonoTime> {
        self.schedule.deadline()
    }

    /// A node to ping now. Call until `None`. It ends with [`add`](Self::add) of an [`Proof::Answer`],
    /// [`on_check_failed`](Self::on_check_failed) or [`on_check_skipped`](Self::on_check_skipped).
    ///
    /// [`Proof::Answer`]: crate::kad::Proof::Answer
    pub fn next_check(&mut self, now: MonoTime) -> Option<Node> {
        let list = self.schedule.due(now)?;
        let census = self.stock.census();
        self.schedule.rearm(now, list, census, &mut self.rng);
        let len = census.of(list);
        if len == 0 {
            self.sync(now);
            return self.next_check(now);
        }
        let chosen = self.rng.random_range(0..len);
        let (at, chosen) = self.stock.bucket_of(list, chosen)?;
        let marks = self.buckets.get(at)?.row().marks();
        let (place, _) = marks
            .filter(|(_, mark)| mark.is_idle_on(list))
            .nth(chosen)?;
        let node = self.edit_place(at, place, |entry| {
            entry.checking = true;
            entry.node.clone()
        });
        self.history.turns += 1;
        node
    }

    /// Live nodes that have stayed at least `min_age` and whose present state has not been taken by this call
    /// before: what the database should have.
    pub fn take_settled(&mut self, now: MonoTime, min_age: Duration) -> Vec<Node> {
        let mut settled = Vec::new();
        for bucket in &mut self.buckets {
            for place in 0..bucket.len() {
                let is_news = bucket.row().mark(place).is_some_and(Mark::is_news);
                let added = is_news.then(|| bucket.entry(place)).flatten();
                if added.is_some_and(|entry| now - entry.added >= min_age) {
                    settled.extend(bucket.edit_at(place, |entry| {
                        entry.saved = true;
                        entry.node.clone()
                    }));
                }
            }
        }
        settled
    }
}

impl Entry {
    /// Whatever its credit, it goes at this failure.
    fn give_up(&mut self, protocol: Protocol) {
        self.checks = 0;
        self.live = protocol.into();
    }

    /// A check over `protocol` has failed. Says what becomes of the entry, and whether readers of the table see it.
    fn fail(&mut self, protocol: Protocol, fallback: Fallback) -> (CheckFailed, bool) {
        self.checking = false;
        if !self.live.contains(protocol) {
            self.silent = self.silent.with(protocol);
            if self.is_live() {
                return (CheckFailed::Kept, false);
            }
            if !fallback.protocols.but(self.silent).is_empty() {
                return (CheckFailed::Retry, false);
            }
        }
        // The first may be the network's fault: whoever has answered is asked twice.
        let spared = self.missed.is_some_and(|missed| missed.count == 1);
        self.checks = (self.checks / 3).max(u32::from(spared));
        self.list = RevalidationList::Fast;
        if self.checks > 0 {
            return (CheckFailed::Kept, true);
        }
        self.live = self.live.without(protocol);
        if self.is_live() {
            self.silent = self.silent.with(protocol);
            self.checks = 1;
            return (CheckFailed::Kept, true);
        }
        if let Some(endpoint) = fallback.endpoint.filter(|_| !self.elsewhere) {
            self.node = self.node.clone().with_endpoint(endpoint);
            self.elsewhere = true;
            self.silent = Protocols::NONE;
            self.missed = None;
            self.saved = false;
            return (CheckFailed::Retry, true);
        }
        (CheckFailed::Gone, true)
    }
}
