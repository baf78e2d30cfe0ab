//! What a crawl knows of the nodes: each with how far it is with it over either protocol, and what of the key space
//! the answers so far have covered. Whom to ask next is decided above.

use std::collections::{BTreeMap, BTreeSet};

use tercet_discovery::{Families, Protocol, Protocols};
use tercet_enode::{Node, NodeAddress, NodeId, NodeRecord};

use super::slices::{LEAF, Slice};
use crate::nodeset::KnownNode;

/// Nodes kept, the asked and the waiting: about 1 KiB each with a record (`Entry`, the record's 300 bytes and its index of
/// entries), so 100 MiB. Further ones are counted and left out.
pub(crate) const MAX_NODES: usize = 100_000;

/// So many nodes of a slice that have named all they know of it settle the slice: one may have lost the packet, or have
/// come a moment ago.
pub(super) const COVER: usize = 3;

/// How far the crawl is with a node over one protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    /// Not to be asked, or not yet.
    #[default]
    Unasked,
    /// In the queue.
    Waiting,
    /// Being asked.
    Asking,
    /// It has answered: it may be asked more.
    Answered,
    /// It has not.
    Silent,
}

impl State {
    fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Asking)
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Over {
    pub(super) state: State,
    /// Questions without an answer.
    pub(super) tries: u8,
    /// It has named every node it knows within this log distance from itself.
    pub(super) within: u16,
    /// A search is asking it.
    pub(super) searched: bool,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) known: KnownNode,
    /// Where it is asked; `None` where nothing says.
    pub(super) node: Option<Node>,
    /// Whether it still is in the set; a stranger that did not answer never was.
    pub(super) in_set: bool,
    /// Whether it has answered in this crawl.
    pub(super) answered: bool,
    /// Whether it was checked too recently to be visited.
    pub(super) recent: bool,
    v4: Over,
    v5: Over,
}

impl Entry {
    pub(super) fn over(&mut self, protocol: Protocol) -> &mut Over {
        match protocol {
            Protocol::V4 => &mut self.v4,
            Protocol::V5 => &mut self.v5,
        }
    }

    fn at(&self, protocol: Protocol) -> &Over {
        match protocol {
            Protocol::V4 => &self.v4,
            Protocol::V5 => &self.v5,
        }
    }

    /// Whether no question about it is open any more.
    pub(super) fn is_settled(&self) -> bool {
        !self.v4.state.is_open() && !self.v5.state.is_open()
    }

    /// Takes a record unless a newer one is known. The node is asked where its record says, or where it was.
    pub(super) fn learn(&mut self, record: NodeRecord, families: Families) {
        let older = self.known.record().map_or(0, NodeRecord::seq);
        if self.known.record().is_some() && record.seq() <= older {
            return;
        }
        let there = self.node.take();
        let named = Node::from_record(record.clone()).and_then(|node| within(&node, families));
        let kept = there.and_then(|node| node.with_record(record.clone()).ok());
        self.node = if self.answered {
            kept.or(named)
        } else {
            named.or(kept)
        };
        self.known.address = NodeAddress::Record(record);
    }
}

/// The node at an address of a family there is a socket for, with a port.
pub(super) fn within(node: &Node, families: Families) -> Option<Node> {
    let mut endpoints = node.endpoints();
    let endpoint = endpoints.find(|endpoint| endpoint.udp != 0 && families.reach(endpoint.ip))?;
    Some(node.clone().with_endpoint(endpoint))
}

/// All of them.
#[derive(Debug)]
pub(super) struct Nodes {
    map: BTreeMap<NodeId, Entry>,
    /// Those that have answered over each protocol.
    v4: BTreeSet<NodeId>,
    v5: BTreeSet<NodeId>,
    families: Families,
}

impl Nodes {
    pub(super) fn new(families: Families) -> Self {
        Self {
            map: BTreeMap::new(),
            v4: BTreeSet::new(),
            v5: BTreeSet::new(),
            families,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn contains(&self, id: &NodeId) -> bool {
        self.map.contains_key(id)
    }

    pub(super) fn get(&self, id: &NodeId) -> Option<&Entry> {
        self.map.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &NodeId) -> Option<&mut Entry> {
        self.map.get_mut(id)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Entry> {
        self.map.values()
    }

    pub(super) fn insert(&mut self, known: KnownNode) {
        let id = known.address.id();
        let entry = self.entry(known);
        self.map.insert(id, entry);
    }

    fn entry(&self, known: KnownNode) -> Entry {
        let node = known.address.to_node();
        Entry {
            node: node.and_then(|node| within(&node, self.families)),
            in_set: known.score > 0,
            known,
            answered: false,
            recent: false,
            v4: Over::default(),
            v5: Over::default(),
        }
    }

    /// The node has answered over `protocol`, or it was asked once more and has not.
    pub(super) fn set_answering(&mut self, id: &NodeId, protocol: Protocol, answers: bool) {
        let Some(entry) = self.map.get_mut(id) else {
            return;
        };
        let answering = match protocol {
            Protocol::V4 => &mut self.v4,
            Protocol::V5 => &mut self.v5,
        };
        entry.over(protocol).state = if answers {
            answering.insert(*id);
            State::Answered
        } else {
            answering.remove(id);
            State::Silent
        };
    }

    /// The node's newer record, if it is one.
    pub(super) fn learn(&mut self, record: NodeRecord) {
        let families = self.families;
        if let Some(entry) = self.map.get_mut(&record.id()) {
            entry.learn(record, families);
        }
    }

    /// The protocols of `wanted` a node can be asked over and has not been: discv5 needs a record that names an address.
    pub(super) fn open(&self, id: &NodeId, wanted: Protocols) -> Protocols {
        let Some(entry) = self.map.get(id) else {
            return Protocols::NONE;
        };
        let mut open = Protocols::NONE;
        for protocol in [Protocol::V4, Protocol::V5] {
            let unasked = entry.at(protocol).state == State::Unasked;
            if wanted.contains(protocol) && unasked && entry.place(protocol).is_some() {
                open = open.with(protocol);
            }
        }
        open
    }

    /// How many nodes of a slice are known, up to [`LEAF`].
    pub(super) fn count(&self, slice: Slice) -> usize {
        self.map.range(slice.ids()).take(LEAF).count()
    }

    /// Whether enough nodes of the slice have said all they know of it.
    pub(super) fn is_covered(&self, slice: Slice, protocol: Protocol) -> bool {
        let members = self.map.range(slice.ids());
        let cover = members.filter(|(_, entry)| entry.at(protocol).within >= slice.reach());
        cover.take(COVER).count() == COVER
    }

    /// The nodes nearest to `target`, which is in `slice`, that have answered over `protocol` and that no search asks at the
    /// moment, nearest first: all of the smallest slice around it that has [`COVER`] of them.
    pub(super) fn nearest(&self, slice: Slice, target: &NodeId, protocol: Protocol) -> Vec<NodeId> {
        let answering = match protocol {
            Protocol::V4 => &self.v4,
            Protocol::V5 => &self.v5,
        };
        let is_free = |id: &&NodeId| {
            let entry = self.map.get(*id);
            entry.is_some_and(|entry| !entry.at(protocol).searched)
        };
        let mut around = Some(slice);
        let mut found = Vec::new();
        while let Some(slice) = around {
            found = answering
                .range(slice.ids())
                .filter(is_free)
                .copied()
                .collect();
            if found.len() >= COVER {
                break;
            }
            around = slice.parent();
        }
        found.sort_by(|a, b| target.cmp_distance(a, b));
        found
    }
}

impl Entry {
    /// Where the node is asked over `protocol`.
    pub(super) fn place(&self, protocol: Protocol) -> Option<&Node> {
        let node = self.node.as_ref()?;
        let is_named = protocol == Protocol::V4 || node.record()?.endpoint().is_some();
        is_named.then_some(node)
    }
}

#[cfg(test)]
impl Nodes {
    /// An entry under any id, for tests of the bounds.
    pub(super) fn insert_at(&mut self, id: NodeId, known: KnownNode) {
        let entry = self.entry(known);
        self.map.insert(id, entry);
    }
}
