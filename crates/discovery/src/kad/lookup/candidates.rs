//! What one path of a lookup knows, and who of it counts.
//!
//! Whoever answers may name whom he likes, so what he names is admitted within three limits, each of which stops one way of
//! steering a lookup:
//!
//! - By network: an attacker who owns one /24 can make keys until he has sixteen closer to any target than anybody honest.
//!   Of one network at most two are among the sixteen that count ([`BUCKET_LIMITS`]), and twice that are remembered.
//! - By who named them: one answer takes at most a quarter of the places, so it cannot push out what others have named.
//! - By number: [`MAX_CANDIDATES`] not asked yet. Who has been asked is not pushed out by names alone.
//!
//! Within each limit the closer one wins. Loopback and LAN addresses are exempt from the first, and so is the target
//! itself: nobody can be closer to it than it is.
//!
//! An answer is sixteen names of which nearly all are known or too far off, and it comes when nothing of the lookup is in the
//! processor's caches any more. So what is searched, counted and chosen by lies side by side in the list, half a cache line each, and the
//! node itself is touched once it is the one meant.

use tercet_enode::{Node, NodeId};

use super::asked::Number;
use super::network::{Network, spread};
use crate::kad::bucket::BUCKET_SIZE;
use crate::kad::filter::{BUCKET_LIMITS, SubnetLimits};

/// Nodes not asked yet that one path remembers: the sixteen that count and three times as many to fall back on.
pub const MAX_CANDIDATES: usize = 4 * BUCKET_SIZE;

/// Of those, named by one node.
pub const MAX_NAMED: usize = MAX_CANDIDATES / 4;

/// Of those, in one network: as many again as count, for when those do not answer.
const REMEMBERED: SubnetLimits = BUCKET_LIMITS.times(2);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    New,
    Asked,
    Answered,
}

/// A node in the list.
#[derive(Debug)]
pub(super) struct Candidate {
    /// The leading bits of the distance to the target.
    lead: u64,
    network: Network,
    known: Box<Known>,
    namer: Option<Number>,
    state: State,
}

/// What is said of a node.
#[derive(Debug)]
struct Known {
    node: Node,
    /// The same node somewhere else, in somebody's words: for when it does not answer. Rare, so it is kept apart.
    elsewhere: Option<Box<Node>>,
}

/// Sorted by distance to the target, no id twice.
#[derive(Debug)]
pub(super) struct Candidates {
    target: NodeId,
    list: Vec<Candidate>,
    /// How many were not asked yet.
    new: usize,
}

impl Candidates {
    pub(super) fn new(target: NodeId) -> Self {
        Self {
            target,
            // A lookup asks some twenty nodes, which stay beside those that wait.
            list: Vec::with_capacity(MAX_CANDIDATES + 2 * BUCKET_SIZE),
            new: 0,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Candidate> {
        self.list.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// The closest that is not asked yet of those that count: sixteen at most, no more of one network than [`BUCKET_LIMITS`]
    /// lets. `skip` names networks not to be asked any more.
    pub(super) fn next(&self, skip: impl Fn(Network) -> bool) -> Option<&Candidate> {
        if self.new == 0 {
            return None;
        }
        let alive = self
            .iter()
            .filter(|candidate| candidate.state != State::New || !skip(candidate.network));
        spread(alive, |candidate| candidate.network).find(|candidate| candidate.state == State::New)
    }

    /// Where a node is in the list, or where it would be.
    pub(super) fn place(&self, id: &NodeId) -> Result<usize, usize> {
        let leading = self.lead(id);
        // Distances to one target are distinct for distinct ids, so an equal one is the same node. The leading bits are the same
        // for nobody else, unless somebody has searched for such keys.
        self.list.binary_search_by(|other| {
            let rest = || self.target.cmp_distance(&other.id(), id);
            other.lead.cmp(&leading).then_with(rest)
        })
    }

    pub(super) fn at(&self, at: usize) -> Option<&Candidate> {
        self.list.get(at)
    }

    pub(super) fn get(&self, id: &NodeId) -> Option<&Candidate> {
        self.list.get(self.place(id).ok()?)
    }

    /// Takes in a node that `namer` named and that is not known yet, at its place, if there is room for it.
    pub(super) fn insert_new(&mut self, at: usize, node: Node, namer: Option<Number>) {
        let network = self.network_of(&node);
        if self.make_room(at, network, namer) {
            self.insert(at, node, network, namer, State::New);
        }
    }

    /// Takes in a node that another path has asked and that is not known here yet, at its place.
    pub(super) fn insert_asked(
        &mut self,
        at: usize,
        node: Node,
        namer: Option<Number>,
        state: State,
    ) {
        let network = self.network_of(&node);
        self.insert(at, node, network, namer, state);
    }

    fn insert(
        &mut self,
        at: usize,
        node: Node,
        network: Network,
        namer: Option<Number>,
        state: State,
    ) {
        self.new += usize::from(state == State::New);
        let candidate = Candidate {
            lead: self.lead(&node.id()),
            network,
            known: Box::new(Known {
                node,
                elsewhere: None,
            }),
            namer,
            state,
        };
        self.list.insert(at, candidate);
    }

    /// More about a node that is known: a newer record replaces what strangers say, another place is remembered.
    pub(super) fn hear(&mut self, at: usize, node: Node) {
        let Some(candidate) = self.list.get_mut(at).filter(|known| known.is_news(&node)) else {
            return;
        };
        let known = &mut candidate.known;
        if candidate.state == State::New && node.seq() > known.node.seq() {
            candidate.network = network_of(&self.target, &node);
            known.elsewhere = Some(Box::new(std::mem::replace(&mut known.node, node)));
        } else if known.elsewhere.is_none() {
            known.elsewhere = Some(Box::new(node));
        }
    }

    /// The node is being asked where `asked` says. If it is known at another place here, that one is remembered for when it
    /// does not answer; else its answer would speak for a place where nobody was asked.
    pub(super) fn ask(&mut self, asked: &Node) {
        let Ok(at) = self.place(&asked.id()) else {
            return;
        };
        let Some(candidate) = self.list.get_mut(at) else {
            return;
        };
        self.new -= usize::from(candidate.state == State::New);
        candidate.state = State::Asked;
        let known = &mut candidate.known;
        if known.node.endpoint() != asked.endpoint() {
            candidate.network = network_of(&self.target, asked);
            let other = std::mem::replace(&mut known.node, asked.clone());
            known.elsewhere.get_or_insert_with(|| Box::new(other));
        }
    }

    pub(super) fn answered(&mut self, id: &NodeId) {
        if let Ok(at) = self.place(id)
            && let Some(candidate) = self.list.get_mut(at)
        {
            self.new -= usize::from(candidate.state == State::New);
            candidate.state = State::Answered;
        }
    }

    /// Takes out a node that did not answer. What somebody else says of its place is handed back.
    pub(super) fn remove(&mut self, id: &NodeId) -> Option<Node> {
        let at = self.place(id).ok()?;
        let gone = self.list.remove(at);
        self.new -= usize::from(gone.state == State::New);
        gone.known.elsewhere.map(|node| *node)
    }

    /// Makes room for a newcomer at a place by pushing out those farthest off, one for each limit met; `false`, and nobody goes, if
    /// the newcomer is itself farther than those it would push out. Those that go are behind it: its place stays.
    fn make_room(&mut self, at: usize, network: Network, namer: Option<Number>) -> bool {
        let waiting = |candidate: &Candidate| candidate.state == State::New;
        // Most newcomers find the list full and are farther off than all: then no other limit matters.
        if self.new >= MAX_CANDIDATES
            && !self.list.get(at..).unwrap_or_default().iter().any(waiting)
        {
            return false;
        }
        let (narrow, wide) = network.limits(&REMEMBERED);
        let limits = [narrow, wide, MAX_NAMED, MAX_CANDIDATES];
        let groups = |old: &Candidate| {
            [
                old.network == network,
                old.network.shares_wide(network),
                namer.is_some() && old.namer == namer,
                true,
            ]
        };
        let mut members = [0; 4];
        for old in self.list.iter().filter(|old| waiting(old)) {
            for (members, is_one) in members.iter_mut().zip(groups(old)) {
                *members += usize::from(is_one);
            }
        }
        let mut going: Vec<usize> = Vec::new();
        for (group, (limit, members)) in limits.into_iter().zip(members).enumerate() {
            if members < limit {
                continue;
            }
            let is_member =
                |old: &Candidate| waiting(old) && groups(old).get(group).is_some_and(|is| *is);
            let leaving = going
                .iter()
                .filter(|at| self.list.get(**at).is_some_and(is_member))
                .count();
            if members - leaving < limit {
                continue;
            }
            let farthest = self
                .list
                .iter()
                .enumerate()
                .rfind(|(at, old)| is_member(old) && !going.contains(at));
            match farthest {
                Some((farthest, _)) if farthest >= at => going.push(farthest),
                _ => return false,
            }
        }
        // From the end, so that each is still where it was.
        going.sort_unstable();
        for at in going.into_iter().rev() {
            self.list.remove(at);
            self.new -= 1;
        }
        true
    }

    fn lead(&self, id: &NodeId) -> u64 {
        lead(&self.target) ^ lead(id)
    }

    fn network_of(&self, node: &Node) -> Network {
        network_of(&self.target, node)
    }
}

impl Candidate {
    pub(super) const fn id(&self) -> NodeId {
        self.known.node.id()
    }

    pub(super) fn node(&self) -> &Node {
        &self.known.node
    }

    pub(super) const fn state(&self) -> State {
        self.state
    }

    pub(super) const fn network(&self) -> Network {
        self.network
    }

    /// Whether what is said of the node may matter: it is where it answered, and where it is known is no news.
    pub(super) fn is_news(&self, node: &Node) -> bool {
        self.state != State::Answered && node.endpoint() != self.known.node.endpoint()
    }
}

/// The leading bits of an id, by which lists of nodes are searched; who shares them is told apart by the whole.
pub(super) fn lead(id: &NodeId) -> u64 {
    // In the crate's own tests a few bits only, so that many share them: keys for the others cannot be found.
    const LEFT_OUT: u32 = if cfg!(test) { 61 } else { 0 };
    let bytes = id.as_bytes().first_chunk();
    bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes) >> LEFT_OUT)
}

/// No limit applies to the target itself.
fn network_of(target: &NodeId, node: &Node) -> Network {
    if node.id() == *target {
        Network::FREE
    } else {
        Network::of(node.endpoint().ip)
    }
}
