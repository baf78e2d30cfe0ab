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

use std::net::IpAddr;

use tercet_enode::{AddressClass, Node, NodeId};
use tercet_machine::Subnet;

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

#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) node: Node,
    pub(super) state: State,
    pub(super) network: Network,
    namer: Option<NodeId>,
    /// The same node somewhere else, in somebody's words: for when it does not answer.
    elsewhere: Option<Node>,
}

/// The networks of an address, or none if no limit applies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Network(Option<(Subnet, Subnet)>);

impl Network {
    pub(super) fn of(ip: IpAddr) -> Self {
        let free = AddressClass::of(ip).is_lan();
        Self((!free).then(|| (Subnet::of(ip), Subnet::wide(ip))))
    }

    const EXEMPT: Self = Self(None);

    /// Whether one more fits beside `present`.
    pub(super) fn fits<'a>(
        &self,
        limits: &SubnetLimits,
        present: impl Iterator<Item = &'a Self>,
    ) -> bool {
        let Some((narrow, wide)) = self.0 else {
            return true;
        };
        let (mut in_narrow, mut in_wide) = (0, 0);
        for (other_narrow, other_wide) in present.filter_map(|other| other.0) {
            if other_wide == wide {
                in_wide += 1;
                in_narrow += usize::from(other_narrow == narrow);
            }
        }
        in_narrow < limits.of(narrow) && in_wide < limits.of(wide)
    }

    fn shares_narrow(&self, other: &Self) -> bool {
        matches!((self.0, other.0), (Some((a, _)), Some((b, _))) if a == b)
    }

    fn shares_wide(&self, other: &Self) -> bool {
        matches!((self.0, other.0), (Some((_, a)), Some((_, b))) if a == b)
    }

    pub(super) const fn subnets(&self) -> Option<(Subnet, Subnet)> {
        self.0
    }
}

/// Sorted by distance to the target, no id twice.
#[derive(Clone, Debug)]
pub(super) struct Candidates {
    target: NodeId,
    #[allow(clippy::vec_box)] // each name that comes in moves half of the list
    list: Vec<Box<Candidate>>,
}

impl Candidates {
    pub(super) const fn new(target: NodeId) -> Self {
        Self {
            target,
            list: Vec::new(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Candidate> {
        self.list.iter().map(Box::as_ref)
    }

    /// Those that count, closest first: sixteen at most, no more of one network than [`BUCKET_LIMITS`] lets. `skip` names
    /// those not to be asked any more.
    pub(super) fn selected(
        &self,
        skip: impl Fn(&Candidate) -> bool,
    ) -> impl Iterator<Item = &Candidate> {
        let alive = self
            .iter()
            .filter(move |candidate| candidate.state != State::New || !skip(candidate));
        spread(alive, |candidate| candidate.network).take(BUCKET_SIZE)
    }

    pub(super) fn network_of(&self, node: &Node) -> Network {
        network_of(&self.target, node)
    }

    /// Takes in a node that `namer` named, with what is known of it already: `state`.
    pub(super) fn insert(&mut self, node: Node, namer: Option<NodeId>, state: State) {
        match self.place(&node.id()) {
            Ok(at) => {
                if let Some(known) = self.list.get_mut(at) {
                    known.hear(node);
                    known.network = network_of(&self.target, &known.node);
                }
            }
            Err(_) => {
                let candidate = Box::new(Candidate {
                    network: self.network_of(&node),
                    node,
                    state,
                    namer,
                    elsewhere: None,
                });
                if state != State::New || self.make_room(&candidate) {
                    let at = self.place(&candidate.node.id()).unwrap_or_else(|at| at);
                    self.list.insert(at, candidate);
                }
            }
        }
    }

    /// The node is being asked where `asked` says. If it is known at another place here, that one is remembered for when it
    /// does not answer; else its answer would speak for a place where nobody was asked.
    pub(super) fn ask(&mut self, asked: &Node) {
        let Ok(at) = self.place(&asked.id()) else {
            return;
        };
        if let Some(known) = self.list.get_mut(at) {
            known.state = State::Asked;
            if known.node.endpoint() != asked.endpoint() {
                let other = std::mem::replace(&mut known.node, asked.clone());
                known.elsewhere.get_or_insert(other);
                known.network = network_of(&self.target, asked);
            }
        }
    }

    pub(super) fn answered(&mut self, id: &NodeId) {
        if let Ok(at) = self.place(id)
            && let Some(candidate) = self.list.get_mut(at)
        {
            candidate.state = State::Answered;
        }
    }

    /// Takes out a node that did not answer. What somebody else says of its place is handed back.
    pub(super) fn remove(&mut self, id: &NodeId) -> Option<Node> {
        let at = self.place(id).ok()?;
        self.list.remove(at).elsewhere
    }

    fn place(&self, id: &NodeId) -> Result<usize, usize> {
        // Distances to one target are distinct for distinct ids, so an equal one is the same node.
        self.list
            .binary_search_by(|known| self.target.cmp_distance(&known.node.id(), id))
    }

    /// Makes room by pushing out those farthest off, one for each limit met; `false`, and nobody goes, if the newcomer is
    /// itself farther than those it would push out.
    fn make_room(&mut self, new: &Candidate) -> bool {
        let (narrow, wide) = match new.network.subnets() {
            Some((narrow, wide)) => (REMEMBERED.of(narrow), REMEMBERED.of(wide)),
            None => (usize::MAX, usize::MAX),
        };
        type Group = fn(&Candidate, &Candidate) -> bool;
        let limits: [(usize, Group); 4] = [
            (narrow, |new, old| new.network.shares_narrow(&old.network)),
            (wide, |new, old| new.network.shares_wide(&old.network)),
            (MAX_NAMED, |new, old| {
                new.namer.is_some() && new.namer == old.namer
            }),
            (MAX_CANDIDATES, |_, _| true),
        ];
        let mut members = [0; 4];
        for old in self.iter().filter(|old| old.state == State::New) {
            for (members, (_, group)) in members.iter_mut().zip(limits) {
                *members += usize::from(group(new, old));
            }
        }
        if members
            .iter()
            .zip(limits)
            .all(|(members, (limit, _))| *members < limit)
        {
            return true;
        }
        let mut going: Vec<NodeId> = Vec::new();
        for (limit, group) in limits {
            let (mut members, mut farthest) = (0, None);
            for old in self.iter() {
                let id = old.node.id();
                if old.state == State::New && group(new, old) && !going.contains(&id) {
                    members += 1;
                    farthest = Some(id);
                }
            }
            let Some(id) = farthest.filter(|_| members >= limit) else {
                continue;
            };
            if self.target.cmp_distance(&new.node.id(), &id).is_gt() {
                return false;
            }
            going.push(id);
        }
        self.list.retain(|old| !going.contains(&old.node.id()));
        true
    }
}

impl Candidate {
    /// More about a node that is known: a newer record replaces what strangers say, another place is remembered.
    fn hear(&mut self, node: Node) {
        if self.state == State::Answered || node.endpoint() == self.node.endpoint() {
            return;
        }
        if self.state == State::New && node.seq() > self.node.seq() {
            self.elsewhere = Some(std::mem::replace(&mut self.node, node));
        } else if self.elsewhere.is_none() {
            self.elsewhere = Some(node);
        }
    }
}

/// No limit applies to the target itself.
fn network_of(target: &NodeId, node: &Node) -> Network {
    if node.id() == *target {
        Network::EXEMPT
    } else {
        Network::of(node.endpoint().ip)
    }
}

/// Of `nodes` those that find room in their networks beside the ones before.
pub(super) fn spread<T>(
    nodes: impl Iterator<Item = T>,
    network: impl Fn(&T) -> Network,
) -> impl Iterator<Item = T> {
    let mut taken: Vec<Network> = Vec::with_capacity(BUCKET_SIZE);
    nodes.filter(move |node| {
        let network = network(node);
        let fits = network.fits(&BUCKET_LIMITS, taken.iter());
        if fits {
            taken.push(network);
        }
        fits
    })
}
