//! One bucket: the nodes of one stretch of distance, and those waiting for a place among them.
//! Which node belongs to which bucket, and whether its network has room, the table decides.

use std::collections::VecDeque;
use std::net::IpAddr;

use tercet_enode::{Endpoint, Node, NodeId};
use tercet_machine::MonoTime;

use super::filter::may_share;
use super::revalidate::RevalidationList;
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

/// The nodes of one distance. `entries` runs from the one last heard of to the one least.
#[derive(Clone, Debug, Default)]
pub(super) struct Bucket {
    pub(super) entries: Vec<Entry>,
    /// The newest first.
    pub(super) replacements: VecDeque<Entry>,
}

impl Bucket {
    pub(super) fn get(&self, id: &NodeId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.node.id() == *id)
    }

    pub(super) fn get_mut(&mut self, id: &NodeId) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.node.id() == *id)
    }

    pub(super) fn replacement(&self, id: &NodeId) -> Option<&Entry> {
        self.replacements
            .iter()
            .find(|entry| entry.node.id() == *id)
    }

    pub(super) fn replacement_mut(&mut self, id: &NodeId) -> Option<&mut Entry> {
        self.replacements
            .iter_mut()
            .find(|entry| entry.node.id() == *id)
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= BUCKET_SIZE
    }

    /// Moves a known node to the head.
    pub(super) fn move_up(&mut self, id: &NodeId) {
        if let Some(at) = self.entries.iter().position(|entry| entry.node.id() == *id)
            && let Some(upto) = self.entries.get_mut(..=at)
        {
            upto.rotate_right(1);
        }
    }

    pub(super) fn take(&mut self, id: &NodeId) -> Option<Entry> {
        let at = self
            .entries
            .iter()
            .position(|entry| entry.node.id() == *id)?;
        Some(self.entries.remove(at))
    }

    pub(super) fn take_replacement(&mut self, id: &NodeId) -> Option<Entry> {
        let at = self
            .replacements
            .iter()
            .position(|entry| entry.node.id() == *id)?;
        self.replacements.remove(at)
    }

    /// Puts a node in front of those waiting; the one that has waited longest gives way.
    pub(super) fn wait(&mut self, entry: Entry) {
        self.replacements.push_front(entry);
        self.replacements.truncate(MAX_REPLACEMENTS);
    }

    /// Addresses that may count against the network limits at `ip`, but for that of `id`. Ids are looked at last: nearly
    /// nobody shares a network.
    pub(super) fn ips_near(&self, ip: IpAddr, id: &NodeId) -> impl Iterator<Item = IpAddr> {
        self.entries
            .iter()
            .chain(&self.replacements)
            .map(|entry| (entry.node.endpoint().ip, entry))
            .filter(move |(other, entry)| may_share(ip, *other) && entry.node.id() != *id)
            .map(|(other, _)| other)
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
