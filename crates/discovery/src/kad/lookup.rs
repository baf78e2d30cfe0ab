//! The iterative lookup (Kademlia §2.3): ask the closest known nodes for closer ones, three at a
//! time, until the sixteen closest have all answered. Sends nothing itself: the protocol machine takes
//! queries from it and tells it how they ended.
//!
//! A node that fails gives its place among the sixteen to the next one. Answers come from strangers, so
//! the candidates and the number of queries are bounded: a network that invents ever closer nodes costs
//! at most [`MAX_QUERIES`] questions.

use std::collections::BTreeSet;

use tercet_enode::{Node, NodeId};

use super::bucket::BUCKET_SIZE;

/// Queries in flight: Kademlia's α.
pub const ALPHA: usize = 3;

/// Nodes a lookup remembers: the sixteen that count and three times as many to fall back on.
pub const MAX_CANDIDATES: usize = 4 * BUCKET_SIZE;

/// Nodes one lookup asks. A lookup in a network of a million nodes asks about 40.
pub const MAX_QUERIES: usize = 128;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    New,
    Asked,
    Answered,
}

/// One running lookup.
///
/// Drive it so: take nodes from [`next_query`](Self::next_query) until it returns `None`, end every query
/// with [`on_answer`](Self::on_answer) or [`on_failure`](Self::on_failure), repeat until
/// [`is_done`](Self::is_done).
#[derive(Debug)]
pub struct Lookup {
    local: NodeId,
    target: NodeId,
    /// Sorted by distance to the target, at most [`MAX_CANDIDATES`], no id twice.
    candidates: Vec<(Node, State)>,
    /// Everybody ever asked, so that a node forgotten as too far is not asked again.
    asked: BTreeSet<NodeId>,
    in_flight: BTreeSet<NodeId>,
}

impl Lookup {
    /// A lookup of `target` that never asks `local` and starts from the nodes in `start`.
    pub fn new(local: NodeId, target: NodeId, start: impl IntoIterator<Item = Node>) -> Self {
        let mut lookup = Self {
            local,
            target,
            candidates: Vec::new(),
            asked: BTreeSet::new(),
            in_flight: BTreeSet::new(),
        };
        lookup.learn(start);
        lookup
    }

    /// What is looked for.
    #[must_use]
    pub const fn target(&self) -> NodeId {
        self.target
    }

    /// Adds nodes heard of; those known or too far away are left out.
    pub fn learn(&mut self, nodes: impl IntoIterator<Item = Node>) {
        for node in nodes {
            let id = node.id();
            if id == self.local || self.asked.contains(&id) {
                continue;
            }
            // Distances to one target are distinct for distinct ids, so an equal one is the same node.
            let place = self
                .candidates
                .binary_search_by(|(known, _)| self.target.cmp_distance(&known.id(), &id));
            if let Err(at) = place
                && at < MAX_CANDIDATES
            {
                self.candidates.insert(at, (node, State::New));
                self.candidates.truncate(MAX_CANDIDATES);
            }
        }
    }

    /// The next node to ask: the closest one not asked yet among the sixteen that count. `None` while
    /// [`ALPHA`] queries run or when nobody is left to ask.
    pub fn next_query(&mut self) -> Option<Node> {
        if self.in_flight.len() >= ALPHA || self.asked.len() >= MAX_QUERIES {
            return None;
        }
        let (node, state) = self
            .candidates
            .iter_mut()
            .take(BUCKET_SIZE)
            .find(|(_, state)| *state == State::New)?;
        *state = State::Asked;
        self.asked.insert(node.id());
        self.in_flight.insert(node.id());
        Some(node.clone())
    }

    /// The node answered, with or without nodes; give those to [`learn`](Self::learn) first. Ignored unless
    /// a query to it is in flight.
    pub fn on_answer(&mut self, id: &NodeId) {
        if self.in_flight.remove(id)
            && let Some((_, state)) = self
                .candidates
                .iter_mut()
                .find(|(node, _)| node.id() == *id)
        {
            *state = State::Answered;
        }
    }

    /// The node did not answer; the next one takes its place. Ignored unless a query to it is in flight.
    pub fn on_failure(&mut self, id: &NodeId) {
        if self.in_flight.remove(id) {
            self.candidates.retain(|(node, _)| node.id() != *id);
        }
    }

    /// Queries in flight, at most [`ALPHA`].
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether the closest have all answered, or nobody is left.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.in_flight.is_empty()
            && (self.asked.len() >= MAX_QUERIES
                || self
                    .candidates
                    .iter()
                    .take(BUCKET_SIZE)
                    .all(|(_, state)| *state != State::New))
    }

    /// The nodes that answered, closest first, at most 16.
    pub fn closest(&self) -> impl Iterator<Item = &Node> {
        self.candidates
            .iter()
            .filter(|(_, state)| *state == State::Answered)
            .map(|(node, _)| node)
            .take(BUCKET_SIZE)
    }

    /// Everybody heard of and not known to be dead, closest first, at most [`MAX_CANDIDATES`].
    pub fn seen(&self) -> impl Iterator<Item = &Node> {
        self.candidates.iter().map(|(node, _)| node)
    }
}
