//! One bucket: the nodes of one stretch of distance, and those waiting for a place among them.
//! Which node belongs to which bucket, and whether its network has room, the table decides.

use std::collections::VecDeque;
use std::net::IpAddr;

use tercet_enode::{Endpoint, Node, NodeId};
use tercet_machine::MonoTime;

use super::filter::may_share;
use super::revalidate::RevalidationList;
use super::row::{ROW, Row};
use crate::engine::{Protocol, Protocols};

/// Nodes in a bucket: Kademlia's k.
pub const BUCKET_SIZE: usize = 16;

/// Nodes waiting for a place in one bucket.
pub const MAX_REPLACEMENTS: usize = 10;

/// What is known about a node offered to the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proof {
    /// Somebody named it: a neighbour, a boot node, a seed, a record.
    Hearsay,
    /// It has sent a packet from an address it had proven before.
    Contact,
    /// It has just answered a ping at this endpoint over this protocol.
    Answer(Protocol),
}

/// A node in the table and what is known about it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) node: Node,
    /// When it came into the bucket.
    pub(super) added: MonoTime,
    /// The protocols over which it has answered a ping at its present endpoint; only over those is it told to others.
    pub(super) live: Protocols,
    /// Those over which it has not answered one and never did at this endpoint, as far as this is remembered.
    pub(super) silent: Protocols,
    /// Questions of lookups in a row that it has not answered.
    pub(super) find_failures: u32,
    /// It is at the other one of its record's addresses because the first was silent, and has not answered there yet.
    pub(super) elsewhere: bool,
    /// Credit of answered checks; a failure divides it by three.
    pub(super) checks: u32,
    /// Since it last answered, if it has not when it was asked.
    pub(super) missed: Option<Missed>,
    pub(super) list: RevalidationList,
    /// A check is under way.
    pub(super) checking: bool,
    /// The database has it as it stands.
    pub(super) saved: bool,
}

/// Answers that a live node owes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missed {
    /// When the first of them was given up.
    pub(super) since: MonoTime,
    /// The protocols they were expected over.
    pub(super) over: Protocols,
    /// How many they are.
    pub(super) count: u32,
}

impl Entry {
    pub(super) const fn unproven(node: Node, added: MonoTime) -> Self {
        Self {
            node,
            added,
            live: Protocols::NONE,
            silent: Protocols::NONE,
            find_failures: 0,
            elsewhere: false,
            checks: 0,
            missed: None,
            list: RevalidationList::Fast,
            checking: false,
            saved: false,
        }
    }

    pub(super) fn is_live(&self) -> bool {
        !self.live.is_empty()
    }

    pub(super) fn prove(&mut self, protocol: Protocol) {
        self.live = self.live.with(protocol);
        self.silent = self.silent.without(protocol);
        self.elsewhere = false;
        self.checks = self.checks.saturating_add(1);
        self.missed = None;
        self.list = RevalidationList::Slow;
        self.checking = false;
    }

    /// An answer has not come. Returns since when it owes one over every protocol it was proven over, if it has been asked
    /// twice at least.
    pub(super) fn owe(&mut self, now: MonoTime, protocol: Protocol) -> Option<MonoTime> {
        let Some(missed) = &mut self.missed else {
            let over = protocol.into();
            self.missed = Some(Missed {
                since: now,
                over,
                count: 1,
            });
            return None;
        };
        missed.over = missed.over.with(protocol);
        missed.count = missed.count.saturating_add(1);
        let all = self.live.but(missed.over).is_empty();
        all.then_some(missed.since)
    }
}

/// The nodes of one distance, from the one last heard of to the one least, and those waiting, the newest first.
///
/// What is asked of all of them again and again stands side by side in a [`Row`], which says the same as the entries.
#[derive(Clone, Debug, Default)]
pub(super) struct Bucket {
    #[allow(clippy::vec_box)] // whoever is heard of moves all before him
    entries: Vec<Box<Entry>>,
    replacements: VecDeque<Box<Entry>>,
    row: Row,
}

impl Bucket {
    pub(super) fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter().map(Box::as_ref)
    }

    pub(super) fn replacements(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.replacements.iter().map(Box::as_ref)
    }

    pub(super) const fn row(&self) -> &Row {
        &self.row
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= BUCKET_SIZE
    }

    pub(super) fn entry(&self, at: usize) -> Option<&Entry> {
        self.entries.get(at).map(Box::as_ref)
    }

    pub(super) fn get(&self, id: &NodeId) -> Option<&Entry> {
        self.entry(self.find(id)?)
    }

    pub(super) fn replacement(&self, id: &NodeId) -> Option<&Entry> {
        let at = self.find_replacement(id)?;
        self.replacements.get(at).map(Box::as_ref)
    }

    /// Changes the node at this place.
    pub(super) fn edit_at<T>(
        &mut self,
        at: usize,
        change: impl FnOnce(&mut Entry) -> T,
    ) -> Option<T> {
        let entry = self.entries.get_mut(at)?;
        let result = change(entry);
        self.row.set(at, entry);
        Some(result)
    }

    /// Puts a node in the place of one that waits.
    pub(super) fn replace_waiting(&mut self, id: &NodeId, entry: Entry) {
        if let Some(at) = self.find_replacement(id)
            && let Some(place) = self.replacements.get_mut(at)
        {
            self.row.set(BUCKET_SIZE + at, &entry);
            **place = entry;
        }
    }

    /// Puts a node at the tail. Nothing happens if the bucket is full.
    pub(super) fn push(&mut self, entry: Entry) {
        if !self.is_full() {
            self.row.set(self.len(), &entry);
            self.entries.push(Box::new(entry));
        }
    }

    /// Moves a known node to the head.
    pub(super) fn move_up(&mut self, id: &NodeId) {
        if let Some(at) = self.find(id)
            && let Some(upto) = self.entries.get_mut(..=at)
        {
            upto.rotate_right(1);
            self.row.raise(0..at + 1);
        }
    }

    pub(super) fn take(&mut self, id: &NodeId) -> Option<Entry> {
        let at = self.find(id)?;
        self.row.close(at..self.len());
        Some(*self.entries.remove(at))
    }

    /// Puts a node in front of those waiting; the one that has waited longest gives way.
    pub(super) fn wait(&mut self, entry: Entry) {
        self.row.raise(BUCKET_SIZE..ROW);
        self.row.set(BUCKET_SIZE, &entry);
        self.replacements.push_front(Box::new(entry));
        self.replacements.truncate(MAX_REPLACEMENTS);
    }

    pub(super) fn take_replacement(&mut self, id: &NodeId) -> Option<Entry> {
        let at = self.find_replacement(id)?;
        self.take_replacement_at(at)
    }

    pub(super) fn take_replacement_at(&mut self, at: usize) -> Option<Entry> {
        let end = self.replacements.len();
        let taken = self.replacements.remove(at)?;
        self.row.close(BUCKET_SIZE + at..BUCKET_SIZE + end);
        Some(*taken)
    }

    /// Addresses that may count against the network limits at `ip`, but for that of `id`. Ids are looked at last: nearly
    /// nobody shares a network.
    pub(super) fn ips_near(&self, ip: IpAddr, id: &NodeId) -> impl Iterator<Item = IpAddr> {
        self.entries()
            .chain(self.replacements())
            .map(|entry| (entry.node.endpoint().ip, entry))
            .filter(move |(other, entry)| may_share(ip, *other) && entry.node.id() != *id)
            .map(|(other, _)| other)
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.row, Row::of(self));
    }

    /// Where the node with this id is.
    pub(super) fn find(&self, id: &NodeId) -> Option<usize> {
        let is_it = |at: &usize| self.entries.get(*at).is_some_and(|e| e.node.id() == *id);
        self.row.with_head(0..self.len(), id).find(is_it)
    }

    fn find_replacement(&self, id: &NodeId) -> Option<usize> {
        let is_it = |at: &usize| {
            self.replacements
                .get(*at)
                .is_some_and(|e| e.node.id() == *id)
        };
        let places = BUCKET_SIZE..BUCKET_SIZE + self.replacements.len();
        let places = self.row.with_head(places, id);
        places.map(|at| at - BUCKET_SIZE).find(is_it)
    }
}

/// What is known of a node after hearing `new` about it.
pub(super) fn merge(old: &Entry, new: &Node, proof: Proof) -> Node {
    let newer = if new.seq() > old.node.seq() {
        new.record()
    } else {
        None
    };
    let (was, is) = (*old.node.endpoint(), *new.endpoint());
    // A node with both families comes from either; the one that works is kept until it stops.
    let other_family = was.ip.is_ipv4() != is.ip.is_ipv4();
    let keep = if proof == Proof::Hearsay {
        old.is_live() || newer.is_none()
    } else {
        old.is_live() && other_family
    };
    let mut endpoint = if keep { was } else { is };
    if endpoint.ip == is.ip && is.tcp != 0 && (proof != Proof::Hearsay || newer.is_some()) {
        endpoint.tcp = is.tcp;
    } else if endpoint.ip == was.ip && endpoint.tcp == 0 {
        endpoint.tcp = was.tcp;
    }
    let node =
        old.node
            .clone()
            .with_endpoint(Endpoint::new(endpoint.ip, endpoint.udp, endpoint.tcp));
    match newer.map(|record| node.clone().with_record(record.clone())) {
        Some(Ok(updated)) => updated,
        // No newer record; the ids are equal, or this would not be the node's entry.
        _ => node,
    }
}
