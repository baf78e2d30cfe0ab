//! What a crawl knows of the nodes: each with how far it is with it over either protocol, and what of the key space
//! the answers so far have covered. Whom to ask next is decided above.

use std::collections::{BTreeMap, BTreeSet};

use tercet_discovery::{Families, Protocol, Protocols};
use tercet_enode::{Endpoint, Node, NodeAddress, NodeId, NodeRecord, check_relay};

use super::slices::{LEAF, Slice};
use super::wire::MAX_RESERVED_PORT;
use crate::nodeset::KnownNode;

/// Nodes kept, the asked and the waiting: 2 to 3.5 KB each with all that is kept elsewhere for them (measured by the benchmark
/// `crawl`), so some 350 MB. Further ones are counted and left out.
pub(crate) const MAX_NODES: usize = 100_000;

/// So many nodes of a slice that have named all they know of it settle the slice: one may have lost the packet, or have
/// come a moment ago.
pub(super) const COVER: usize = 3;

/// So many times a crawl begins anew with a node that has not answered over a protocol, as news of it comes. With [`TRIES`] questions to
/// each of two addresses a node is so asked at most 3 × 4 times over a protocol, however many records are signed for it.
pub(super) const MAX_RENEWALS: u8 = 2;

/// A node that does not answer is asked once more at each of its addresses, when the others have been: one lost datagram is no death.
pub(super) const TRIES: u8 = 2;

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
    /// It has answered, and no longer does.
    Gone,
}

impl State {
    fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Asking)
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Over {
    pub(super) state: State,
    /// Questions without an answer since the last news of it.
    tries: u8,
    /// How often it was begun with anew, at most [`MAX_RENEWALS`].
    renewals: u8,
    /// Where it was visited last, so where it has answered if it has.
    pub(super) at: Option<Endpoint>,
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
    /// The score it had before it was found silent in this crawl.
    pub(super) before: Option<u64>,
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

    /// Takes a record unless a newer one is known; says whether it did. The node is asked where its record says, or where it was.
    fn learn(&mut self, record: NodeRecord, families: Families) -> bool {
        let older = self.known.record().map_or(0, NodeRecord::seq);
        if self.known.record().is_some() && record.seq() <= older {
            return false;
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
        true
    }

    /// It has answered over `protocol` at the address it was asked at: there it stays. Says whether it is its first answer in this
    /// crawl.
    pub(super) fn stay(&mut self, protocol: Protocol) -> bool {
        let first = !std::mem::replace(&mut self.answered, true);
        if let Some(at) = self.at(protocol).at.filter(|_| first) {
            self.node = self.node.take().map(|node| node.with_endpoint(at));
        }
        first
    }

    /// It has not answered over `protocol`. Says what is left to be tried.
    pub(super) fn on_silent(&mut self, protocol: Protocol, families: Families) -> Rest {
        let places = self.node.iter().flat_map(|node| places(node, families));
        let most = usize::from(TRIES) * places.count();
        let elsewhere = self.place(protocol, families).map(|node| *node.endpoint());
        let over = self.over(protocol);
        over.tries += 1;
        if usize::from(over.tries) >= most {
            over.state = State::Silent;
            return Rest::Nothing;
        }
        over.state = State::Waiting;
        if elsewhere == over.at || over.tries.is_multiple_of(2) {
            Rest::Later
        } else {
            Rest::Now
        }
    }

    /// There is news of it: what has not answered is begun with anew.
    fn renew(&mut self) {
        for over in [&mut self.v4, &mut self.v5] {
            let has_answered = matches!(over.state, State::Answered | State::Gone);
            if !has_answered && over.tries > 0 && over.renewals < MAX_RENEWALS {
                over.renewals += 1;
                over.tries = 0;
                if over.state == State::Silent {
                    over.state = State::Unasked;
                }
            }
        }
    }
}

/// What is left to be tried with a node that has not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Its address of the other family.
    Now,
    /// To ask it once more.
    Later,
    Nothing,
}

/// The addresses of a node that can be asked, of a family there is a socket for and with a port. Who named it was judged by its first
/// address alone, so one of another family must be of a kind that somebody at the first may name.
fn places(node: &Node, families: Families) -> impl Iterator<Item = Endpoint> + use<> {
    let first = *node.endpoint();
    node.endpoints().filter(move |endpoint| {
        let is_first = endpoint.ip == first.ip;
        let may_name =
            || endpoint.udp > MAX_RESERVED_PORT && check_relay(first.ip, endpoint.ip).is_ok();
        endpoint.udp != 0 && families.reach(endpoint.ip) && (is_first || may_name())
    })
}

/// The node at the first of its addresses that can be asked.
fn within(node: &Node, families: Families) -> Option<Node> {
    let endpoint = places(node, families).next()?;
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
            before: None,
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
            State::Gone
        };
    }

    /// The node's record, if it is newer; says whether it is.
    pub(super) fn learn(&mut self, record: NodeRecord) -> bool {
        let families = self.families;
        let Some(entry) = self.map.get_mut(&record.id()) else {
            return false;
        };
        let is_newer = entry.learn(record, families);
        if is_newer {
            entry.renew();
        }
        is_newer
    }

    /// Somebody names a node without its record. Where none is known and nobody has answered, it may be there; says whether it is to be
    /// asked there.
    pub(super) fn hear(&mut self, node: &Node) -> bool {
        let families = self.families;
        let Some(entry) = self.map.get_mut(&node.id()) else {
            return false;
        };
        let is_open = entry.known.record().is_none() && !entry.answered && entry.is_settled();
        let there = entry.node.as_ref().map(Node::endpoint);
        let is_news = there.is_none_or(|there| there.udp_addr() != node.endpoint().udp_addr());
        let Some(named) = within(node, families).filter(|_| is_open && is_news) else {
            return false;
        };
        entry.node = Some(named);
        entry.renew();
        true
    }

    /// Where a node is to be asked over `protocol`.
    pub(super) fn place(&self, id: &NodeId, protocol: Protocol) -> Option<Node> {
        self.map.get(id)?.place(protocol, self.families)
    }

    /// The node at each of its addresses, first where it is asked.
    pub(super) fn places(&self, id: &NodeId) -> Vec<Node> {
        let Some(node) = self.map.get(id).and_then(|entry| entry.node.as_ref()) else {
            return Vec::new();
        };
        places(node, self.families)
            .map(|place| node.clone().with_endpoint(place))
            .collect()
    }

    /// A node has not answered over `protocol`. Says what is left to be tried.
    pub(super) fn on_silent(&mut self, id: &NodeId, protocol: Protocol) -> Rest {
        let entry = self.map.get_mut(id);
        entry.map_or(Rest::Nothing, |entry| {
            entry.on_silent(protocol, self.families)
        })
    }

    /// The protocols of `wanted` a node can be asked over and has not been: discv5 needs a record that names an address.
    pub(super) fn open(&self, id: &NodeId, wanted: Protocols) -> Protocols {
        let Some(entry) = self.map.get(id) else {
            return Protocols::NONE;
        };
        let mut open = Protocols::NONE;
        for protocol in [Protocol::V4, Protocol::V5] {
            let unasked = entry.at(protocol).state == State::Unasked;
            if wanted.contains(protocol) && unasked && entry.is_named(protocol) {
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
    /// moment, nearest first: all of the smallest slice around it that has [`COVER`] of them, and that slice.
    pub(super) fn nearest(
        &self,
        slice: Slice,
        target: &NodeId,
        protocol: Protocol,
    ) -> (Slice, Vec<NodeId>) {
        let is_free = |id: &&NodeId| {
            let entry = self.map.get(*id);
            entry.is_some_and(|entry| !entry.at(protocol).searched)
        };
        let answering = self.answering(protocol);
        let mut around = slice;
        loop {
            let members = answering.range(around.ids());
            let mut found: Vec<NodeId> = members.filter(is_free).copied().collect();
            let larger = around.parent().filter(|_| found.len() < COVER);
            let Some(larger) = larger else {
                found.sort_by(|a, b| target.cmp_distance(a, b));
                return (around, found);
            };
            around = larger;
        }
    }

    /// The smallest slice around `slice` in which [`COVER`] nodes have answered over `protocol`.
    pub(super) fn around(&self, slice: Slice, protocol: Protocol) -> Slice {
        let is_enough = |slice: &Slice| {
            let members = self.answering(protocol).range(slice.ids());
            members.take(COVER).count() == COVER
        };
        let mut around = slice;
        while !is_enough(&around)
            && let Some(larger) = around.parent()
        {
            around = larger;
        }
        around
    }

    pub(super) fn is_any_answering(&self, protocol: Protocol) -> bool {
        !self.answering(protocol).is_empty()
    }

    fn answering(&self, protocol: Protocol) -> &BTreeSet<NodeId> {
        match protocol {
            Protocol::V4 => &self.v4,
            Protocol::V5 => &self.v5,
        }
    }
}

impl Entry {
    fn is_named(&self, protocol: Protocol) -> bool {
        let record = self.node.as_ref().map(Node::record);
        record.is_some_and(|record| {
            protocol == Protocol::V4 || record.is_some_and(|record| record.endpoint().is_some())
        })
    }

    /// Where the node is asked over `protocol`: where it has answered, or else at its addresses in turn.
    fn place(&self, protocol: Protocol, families: Families) -> Option<Node> {
        let node = self.node.clone().filter(|_| self.is_named(protocol))?;
        let over = self.at(protocol);
        let place = match over.at {
            Some(at) if over.state == State::Answered => at,
            Some(at) => places(&node, families)
                .find(|place| place.ip.is_ipv4() != at.ip.is_ipv4())
                .unwrap_or(*node.endpoint()),
            None => *node.endpoint(),
        };
        Some(node.with_endpoint(place))
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
