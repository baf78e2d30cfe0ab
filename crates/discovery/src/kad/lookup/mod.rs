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

mod asked;
mod candidates;
mod network;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use tercet_enode::{Node, NodeId};

use asked::{AllAsked, Asked, Number};
use candidates::{Candidate, Candidates, State};
pub use candidates::{MAX_CANDIDATES, MAX_NAMED};
use network::{Questions, spread};

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

/// One of the disjoint ways.
#[derive(Debug)]
struct Path {
    candidates: Candidates,
    queries: usize,
    in_flight: usize,
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
    asked: AllAsked,
    questions: Questions,
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
            in_flight: 0,
        };
        let count = paths.clamp(1, MAX_PATHS);
        let mut lookup = Self {
            local,
            target,
            paths: std::iter::repeat_with(path).take(count).collect(),
            asked: AllAsked::default(),
            questions: Questions::default(),
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
        let Some(namer) = self.asked.find(from) else {
            return;
        };
        let Some(path) = self.asked.get(namer).map(|asked| asked.path) else {
            return;
        };
        for node in nodes {
            self.admit(path, Some(namer), node);
        }
    }

    /// The next node to ask: the closest one not asked yet among the sixteen that count. `None` while
    /// [`ALPHA`] queries run on each path or when nobody is left to ask.
    pub fn next_query(&mut self) -> Option<Node> {
        let (at, next) = self.paths.iter().enumerate().find_map(|(at, path)| {
            if path.in_flight >= ALPHA || path.queries >= MAX_QUERIES {
                return None;
            }
            Some((at, self.next_on(path)?))
        })?;
        let (node, network) = (next.node().clone(), next.network());
        self.questions.count(network);
        self.asked.ask(node.id(), at);
        for (index, path) in self.paths.iter_mut().enumerate() {
            path.queries += usize::from(index == at);
            path.in_flight += usize::from(index == at);
            path.candidates.ask(&node);
        }
        Some(node)
    }

    /// The node answered, with or without nodes; give those to [`learn_from`](Self::learn_from) first. Ignored unless
    /// a query to it is in flight.
    pub fn on_answer(&mut self, id: &NodeId) {
        if self.end(id, Some(State::Answered)).is_none() {
            return;
        }
        for path in &mut self.paths {
            path.candidates.answered(id);
        }
    }

    /// The node did not answer; the next one takes its place, or the same one at another place somebody named.
    /// Ignored unless a query to it is in flight.
    pub fn on_failure(&mut self, id: &NodeId) {
        let Some(number) = self.end(id, None) else {
            return;
        };
        if let Some(asked) = self.asked.get_mut(number)
            && let Some(path) = self.paths.get(asked.path)
            && let Some(candidate) = path.candidates.get(id)
        {
            asked.failed_at.push(place_of(candidate.node()));
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
        self.paths.iter().map(|path| path.in_flight).sum()
    }

    /// Whether the closest have all answered, or nobody is left.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.in_flight() == 0
            && self
                .paths
                .iter()
                .all(|path| path.queries >= MAX_QUERIES || self.next_on(path).is_none())
    }

    /// The nodes that answered, closest first: at most 16, of one network no more than two.
    pub fn closest(&self) -> impl Iterator<Item = &Node> {
        let answered = self
            .merged()
            .filter(|candidate| candidate.state() == State::Answered);
        spread(answered, |candidate| candidate.network()).map(Candidate::node)
    }

    /// Everybody heard of and not known to be dead, closest first, at most [`MAX_CANDIDATES`].
    pub fn seen(&self) -> impl Iterator<Item = &Node> {
        self.merged().map(Candidate::node).take(MAX_CANDIDATES)
    }

    /// Whether [`seen`](Self::seen) gives more than `count` nodes. Costs nothing on one path.
    #[must_use]
    pub fn has_seen_more_than(&self, count: usize) -> bool {
        match self.paths.as_slice() {
            [path] => path.candidates.len().min(MAX_CANDIDATES) > count,
            _ => self.seen().nth(count).is_some(),
        }
    }

    /// What all paths know, closest first, nobody twice.
    fn merged(&self) -> impl Iterator<Item = &Candidate> {
        let (one, several) = match self.paths.as_slice() {
            [path] => (Some(path.candidates.iter()), Vec::new()),
            paths => (None, self.sorted(paths)),
        };
        one.into_iter().flatten().chain(several)
    }

    fn sorted<'a>(&self, paths: &'a [Path]) -> Vec<&'a Candidate> {
        let mut all: Vec<&Candidate> = paths
            .iter()
            .flat_map(|path| path.candidates.iter())
            .collect();
        all.sort_by(|a, b| self.target.cmp_distance(&a.id(), &b.id()));
        all.dedup_by_key(|candidate| candidate.id());
        all
    }

    /// Ends a question, if there is one in flight to the node.
    fn end(&mut self, id: &NodeId, state: Option<State>) -> Option<Number> {
        let number = self.asked.find(id)?;
        let asked = self.asked.get_mut(number)?;
        if asked.state != Some(State::Asked) {
            return None;
        }
        asked.state = state;
        let path = self.paths.get_mut(asked.path)?;
        path.in_flight -= 1;
        Some(number)
    }

    fn admit(&mut self, at: usize, namer: Option<Number>, node: Node) {
        let id = node.id();
        let Some(path) = self.paths.get(at).filter(|_| id != self.local) else {
            return;
        };
        let place = path.candidates.place(&id);
        // Nearly every name is one that the path knows, where it knows it.
        let known = place.ok().and_then(|place| path.candidates.at(place));
        if known.is_some_and(|known| !known.is_news(&node)) {
            return;
        }
        let asked = self.asked.find(&id).and_then(|asked| self.asked.get(asked));
        let asked_there = match asked {
            None => None,
            // On this path it may not be known yet: it is where it was asked, whatever is said here.
            Some(Asked {
                state: Some(state),
                path: other,
                ..
            }) => {
                let there = self.paths.get(*other).filter(|_| place.is_err());
                let known = there.and_then(|path| path.candidates.get(&id));
                known.map(|known| (known.node().clone(), *state))
            }
            // It did not answer where it was asked. It may be somewhere else.
            Some(failed) if failed.may_be_at(place_of(&node)) => None,
            Some(_) => return,
        };
        let Some(path) = self.paths.get_mut(at) else {
            return;
        };
        match (place, asked_there) {
            (Ok(place), _) => path.candidates.hear(place, node),
            (Err(place), None) => path.candidates.insert_new(place, node, namer),
            (Err(place), Some((asked, state))) => {
                path.candidates.insert_asked(place, asked, namer, state);
                path.candidates.hear(place, node);
            }
        }
    }

    /// Whom a path would ask next.
    fn next_on<'a>(&self, path: &'a Path) -> Option<&'a Candidate> {
        path.candidates
            .next(|network| self.questions.are_enough(network))
    }
}

fn place_of(node: &Node) -> SocketAddr {
    SocketAddr::new(node.endpoint().ip, node.endpoint().udp)
}
