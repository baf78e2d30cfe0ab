//! The iterative lookup (Kademlia §2.3): ask the closest known nodes for closer ones, three at a
//! time, until the sixteen closest have all answered. Sends nothing itself: the protocol machine takes
//! queries from it and tells it how they ended.
//!
//! A node that fails gives its place among the sixteen to the next one. Answers come from strangers, so
//! the candidates and the number of queries are bounded: a network that invents ever closer nodes costs
//! at most [`MAX_QUERIES`] questions. What one network and one answer may take of a lookup is said in
//! `candidates`.
//!
//! Nobody is asked again who has answered or still may, and nobody twice at one place. A node that did not answer may have been
//! named at a wrong place, so it is asked where else somebody says it is, at [`MAX_PLACES`] places at most.
//!
//! A lookup may go several disjoint ways (S/Kademlia §4.4): each starts from its share of the known
//! nodes and follows only the answers its own questions got, and no node is asked on two of them. Somebody who
//! has captured one way with nodes in many networks still has to be met on each of the others; the result is
//! the closest of all ways together.

mod candidates;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tercet_enode::{Node, NodeId};
use tercet_machine::Subnet;

use super::bucket::BUCKET_SIZE;
use super::filter::{BUCKET_LIMITS, SubnetLimits};
use candidates::{Candidate, Candidates, State, spread};
pub use candidates::{MAX_CANDIDATES, MAX_NAMED};

/// Queries in flight on each path: Kademlia's α.
pub const ALPHA: usize = 3;

/// Nodes one path of a lookup asks. A lookup in a network of a million nodes asks about 40.
pub const MAX_QUERIES: usize = 128;

/// Disjoint paths of one lookup. More are of no use: eight paths of three queries each ask all of a bucket's
/// worth of start nodes at once.
pub const MAX_PATHS: usize = 8;

/// Places one node is looked for at, in the words of different nodes. Endpoints named over discv4 are
/// not signed, so whoever names an honest node first, at a wrong place, would else keep it out.
pub const MAX_PLACES: usize = 3;

/// Questions to one network: four times what may be in the result. Its dead nodes cost time, not the whole
/// lookup.
const ASKED: SubnetLimits = BUCKET_LIMITS.times(4);

/// Who has been asked, and where.
#[derive(Debug)]
struct Asked {
    path: usize,
    /// `None` once it has failed.
    state: Option<State>,
    /// As it was asked last.
    node: Node,
    places: Vec<SocketAddr>,
}

/// One of the disjoint ways.
#[derive(Debug)]
struct Path {
    candidates: Candidates,
    queries: usize,
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
    paths: Vec<Path>,
    /// Everybody ever asked, so that a node forgotten as too far is not asked again.
    asked: BTreeMap<NodeId, Asked>,
    /// Questions by network.
    asked_in: BTreeMap<Subnet, usize>,
    /// Who is being asked, and on which path.
    in_flight: BTreeMap<NodeId, usize>,
}

impl Lookup {
    /// A lookup of `target` that never asks `local` and starts from the nodes in `start`.
    pub fn new(local: NodeId, target: NodeId, start: impl IntoIterator<Item = Node>) -> Self {
        Self::disjoint(local, target, start, 1)
    }

    /// As [`new`](Self::new), on `paths` disjoint paths: at least one, at most [`MAX_PATHS`]. The start nodes are dealt out in
    /// turn, so each path begins with close and with farther ones. Costs up to `paths` times the questions.
    pub fn disjoint(
        local: NodeId,
        target: NodeId,
        start: impl IntoIterator<Item = Node>,
        paths: usize,
    ) -> Self {
        let path = || Path {
            candidates: Candidates::new(target),
            queries: 0,
        };
        let count = paths.clamp(1, MAX_PATHS);
        let mut lookup = Self {
            local,
            target,
            paths: std::iter::repeat_with(path).take(count).collect(),
            asked: BTreeMap::new(),
            asked_in: BTreeMap::new(),
            in_flight: BTreeMap::new(),
        };
        for (turn, node) in start.into_iter().enumerate() {
            lookup.admit(turn % count, None, node);
        }
        lookup
    }

    /// What is looked for.
    #[must_use]
    pub const fn target(&self) -> NodeId {
        self.target
    }

    /// Adds nodes heard of from nobody in particular, dealt out to the paths; those known or too far away are left
    /// out.
    pub fn learn(&mut self, nodes: impl IntoIterator<Item = Node>) {
        let count = self.paths.len();
        for (turn, node) in nodes.into_iter().enumerate() {
            self.admit(turn % count, None, node);
        }
    }

    /// Adds nodes that `from`, who was asked, has named, to the path it was asked on; also the rest of an answer that comes
    /// after [`on_answer`](Self::on_answer). Of those one node names at most [`MAX_NAMED`] wait to be asked, the closest.
    /// Ignored if `from` was never asked.
    pub fn learn_from(&mut self, from: &NodeId, nodes: impl IntoIterator<Item = Node>) {
        let Some(path) = self.asked.get(from).map(|asked| asked.path) else {
            return;
        };
        for node in nodes {
            self.admit(path, Some(*from), node);
        }
    }

    /// The next node to ask: the closest one not asked yet among the sixteen that count. `None` while
    /// [`ALPHA`] queries run on each path or when nobody is left to ask.
    pub fn next_query(&mut self) -> Option<Node> {
        let (at, node) = (0..self.paths.len()).find_map(|at| {
            let path = self.paths.get(at)?;
            if self.running(at) >= ALPHA || path.queries >= MAX_QUERIES {
                return None;
            }
            let next = self.next_on(path)?;
            Some((at, next.node.clone()))
        })?;
        let id = node.id();
        let network = self.paths.get(at)?.candidates.network_of(&node);
        for subnet in subnets(network) {
            *self.asked_in.entry(subnet).or_default() += 1;
        }
        let place = place(&node);
        let asked = self.asked.entry(id).or_insert_with(|| Asked {
            path: at,
            state: None,
            node: node.clone(),
            places: Vec::new(),
        });
        asked.path = at;
        asked.state = Some(State::Asked);
        asked.node = node.clone();
        asked.places.push(place);
        self.in_flight.insert(id, at);
        for (index, path) in self.paths.iter_mut().enumerate() {
            path.queries += usize::from(index == at);
            path.candidates.ask(&node);
        }
        Some(node)
    }

    /// The node answered, with or without nodes; give those to [`learn_from`](Self::learn_from) first. Ignored unless
    /// a query to it is in flight.
    pub fn on_answer(&mut self, id: &NodeId) {
        if self.in_flight.remove(id).is_none() {
            return;
        }
        if let Some(asked) = self.asked.get_mut(id) {
            asked.state = Some(State::Answered);
        }
        for path in &mut self.paths {
            path.candidates.answered(id);
        }
    }

    /// The node did not answer; the next one takes its place, or the same one at another place somebody named.
    /// Ignored unless a query to it is in flight.
    pub fn on_failure(&mut self, id: &NodeId) {
        if self.in_flight.remove(id).is_none() {
            return;
        }
        if let Some(asked) = self.asked.get_mut(id) {
            asked.state = None;
        }
        for at in 0..self.paths.len() {
            let elsewhere = self
                .paths
                .get_mut(at)
                .and_then(|path| path.candidates.remove(id));
            if let Some(node) = elsewhere {
                self.admit(at, None, node);
            }
        }
    }

    /// Queries in flight, at most [`ALPHA`] for each path.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether the closest have all answered, or nobody is left.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.in_flight.is_empty()
            && self
                .paths
                .iter()
                .all(|path| path.queries >= MAX_QUERIES || self.next_on(path).is_none())
    }

    /// The nodes that answered, closest first: at most 16, of one network no more than two.
    pub fn closest(&self) -> impl Iterator<Item = &Node> {
        let answered = self
            .merged()
            .into_iter()
            .filter(|candidate| candidate.state == State::Answered);
        spread(answered, |candidate| candidate.network)
            .map(|candidate| &candidate.node)
            .take(BUCKET_SIZE)
    }

    /// Everybody heard of and not known to be dead, closest first, at most [`MAX_CANDIDATES`].
    pub fn seen(&self) -> impl Iterator<Item = &Node> {
        self.merged()
            .into_iter()
            .map(|candidate| &candidate.node)
            .take(MAX_CANDIDATES)
    }

    /// What all paths know, closest first, nobody twice.
    fn merged(&self) -> Vec<&Candidate> {
        let mut all: Vec<&Candidate> = self
            .paths
            .iter()
            .flat_map(|path| path.candidates.iter())
            .collect();
        if self.paths.len() > 1 {
            all.sort_by(|a, b| self.target.cmp_distance(&a.node.id(), &b.node.id()));
            all.dedup_by_key(|candidate| candidate.node.id());
        }
        all
    }

    fn admit(&mut self, path: usize, namer: Option<NodeId>, node: Node) {
        let id = node.id();
        if id == self.local {
            return;
        }
        let state = match self.asked.get(&id) {
            None => State::New,
            // On this path it may not be known yet: it is where it was asked, whatever is said here.
            Some(Asked {
                state: Some(state),
                node,
                ..
            }) => {
                if let Some(path) = self.paths.get_mut(path) {
                    path.candidates.insert(node.clone(), namer, *state);
                }
                *state
            }
            // It did not answer where it was asked. It may be somewhere else.
            Some(failed)
                if failed.places.len() < MAX_PLACES && !failed.places.contains(&place(&node)) =>
            {
                State::New
            }
            Some(_) => return,
        };
        if let Some(path) = self.paths.get_mut(path) {
            path.candidates.insert(node, namer, state);
        }
    }

    /// Whom a path would ask next.
    fn next_on<'a>(&self, path: &'a Path) -> Option<&'a Candidate> {
        path.candidates
            .selected(|candidate| self.is_used_up(candidate))
            .find(|candidate| candidate.state == State::New)
    }

    /// Whether enough of the candidate's network were asked.
    fn is_used_up(&self, candidate: &Candidate) -> bool {
        subnets(candidate.network)
            .any(|subnet| self.asked_in.get(&subnet).copied().unwrap_or(0) >= ASKED.of(subnet))
    }

    fn running(&self, path: usize) -> usize {
        self.in_flight.values().filter(|at| **at == path).count()
    }
}

fn subnets(network: candidates::Network) -> impl Iterator<Item = Subnet> {
    let both = network.subnets();
    let narrow = both.map(|(narrow, _)| narrow);
    let wide = both
        .filter(|(narrow, wide)| narrow != wide)
        .map(|(_, wide)| wide);
    narrow.into_iter().chain(wide)
}

fn place(node: &Node) -> SocketAddr {
    SocketAddr::new(node.endpoint().ip, node.endpoint().udp)
}
