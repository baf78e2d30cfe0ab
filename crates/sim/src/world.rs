//! Where nodes are and how they are connected: addresses, NATs, links, partitions. Nothing in here happens by itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use siphasher::sip::SipHasher13;
use tercet_machine::MonoTime;

use crate::link::LinkProfile;
use crate::nat::{Nat, NatKind};
use crate::simulation::{NatKey, NodeKey};

/// Where a node is: at an address everybody can reach, or at a private one behind a NAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub(crate) addr: SocketAddr,
    pub(crate) nat: Option<NatKey>,
}

impl Place {
    /// At a public address.
    #[must_use]
    pub const fn public(addr: SocketAddr) -> Self {
        Self { addr, nat: None }
    }

    /// At a private address, seen from outside as `nat`'s.
    #[must_use]
    pub const fn behind(nat: NatKey, addr: SocketAddr) -> Self {
        Self {
            addr,
            nat: Some(nat),
        }
    }

    /// Which of so many shares an address belongs to: who is there, and what is on its way there, whoever that may be.
    pub(crate) fn share(addr: SocketAddr, shares: usize) -> usize {
        if shares < 2 {
            return 0;
        }
        let mut hasher = SipHasher13::new();
        addr.hash(&mut hasher);
        (hasher.finish() % shares as u64) as usize
    }
}

/// Why a datagram has no way to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreachable {
    /// Nobody has the address.
    NoRoute,
    /// A NAT lets nothing in from there.
    Filtered,
}

#[derive(Debug)]
pub(crate) struct World {
    seed: u64,
    /// By key, as keys are given out in order.
    places: Vec<Option<Place>>,
    /// Only asked, never gone through: its order means nothing.
    routes: HashMap<Place, NodeKey, BuildHasherDefault<SipHasher13>>,
    nats: Vec<Nat>,
    nat_ips: BTreeMap<IpAddr, NatKey>,
    pub(crate) default_link: LinkProfile,
    /// Ways with a profile of their own, the smaller key first.
    links: BTreeMap<(NodeKey, NodeKey), LinkProfile>,
    /// The nodes cut off from the others.
    island: BTreeSet<NodeKey>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            places: Vec::new(),
            routes: HashMap::default(),
            nats: Vec::new(),
            nat_ips: BTreeMap::new(),
            default_link: LinkProfile::default(),
            links: BTreeMap::new(),
            island: BTreeSet::new(),
        }
    }

    pub(crate) fn add_nat(&mut self, ip: IpAddr, kind: NatKind) -> NatKey {
        let key = NatKey(self.nats.len());
        self.nats.push(Nat::new(ip, kind));
        self.nat_ips.insert(ip, key);
        key
    }

    pub(crate) fn set_nat_kind(&mut self, nat: NatKey, kind: NatKind) {
        if let Some(nat) = self.nats.get_mut(nat.0) {
            nat.set_kind(kind);
        }
    }

    pub(crate) const fn has_nats(&self) -> bool {
        !self.nats.is_empty()
    }

    /// Nothing arrives sooner after it was sent.
    pub(crate) fn shortest_latency(&self) -> Duration {
        let links = self.links.values().chain([&self.default_link]);
        links.map(|link| link.min_latency).min().unwrap_or_default()
    }

    pub(crate) fn has_nat(&self, nat: NatKey) -> bool {
        nat.0 < self.nats.len()
    }

    /// Says `false` if the place is taken.
    pub(crate) fn add(&mut self, node: NodeKey, place: Place) -> bool {
        if self.routes.contains_key(&place) {
            return false;
        }
        self.routes.insert(place, node);
        if self.places.len() <= node.index() {
            self.places.resize(node.index() + 1, None);
        }
        if let Some(slot) = self.places.get_mut(node.index()) {
            *slot = Some(place);
        }
        true
    }

    pub(crate) fn remove(&mut self, node: NodeKey) {
        if let Some(place) = self.places.get_mut(node.index()).and_then(Option::take) {
            self.routes.remove(&place);
        }
        self.island.remove(&node);
        self.links.retain(|(a, b), _| *a != node && *b != node);
    }

    pub(crate) fn place(&self, node: NodeKey) -> Option<Place> {
        self.places.get(node.index()).copied().flatten()
    }

    pub(crate) fn set_link(&mut self, a: NodeKey, b: NodeKey, profile: LinkProfile) {
        self.links.insert((a.min(b), a.max(b)), profile);
    }

    /// The link from `a`; to nobody in particular, the default.
    pub(crate) fn link(&self, a: NodeKey, b: Option<NodeKey>) -> LinkProfile {
        let own = b.and_then(|b| self.links.get(&(a.min(b), a.max(b))));
        own.copied().unwrap_or(self.default_link)
    }

    /// Where the way between two nodes lies between the shortest and the longest, 0 to 1: drawn by hash, so that no pair has
    /// to be remembered.
    pub(crate) fn position(&self, a: NodeKey, b: Option<NodeKey>) -> f64 {
        let pair = b.map_or((a, None), |b| (a.min(b), Some(a.max(b))));
        let mut hasher = SipHasher13::new_with_keys(self.seed, 0);
        pair.hash(&mut hasher);
        // 53 bits fill the mantissa.
        (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The chances of what a node sends.
    pub(crate) fn chances(&self, sender: NodeKey, number: u64) -> SmallRng {
        let mut hasher = SipHasher13::new_with_keys(self.seed, 1);
        (sender, number).hash(&mut hasher);
        SmallRng::seed_from_u64(hasher.finish())
    }

    pub(crate) fn set_island(&mut self, nodes: &[NodeKey]) {
        self.island = nodes.iter().copied().collect();
    }

    pub(crate) fn parted(&self, a: NodeKey, b: NodeKey) -> bool {
        self.island.contains(&a) != self.island.contains(&b)
    }

    /// The source address that `to` will see, opening the sender's NAT for the answer.
    pub(crate) fn leave(
        &mut self,
        now: MonoTime,
        sender: NodeKey,
        to: SocketAddr,
    ) -> Option<SocketAddr> {
        let place = self.place(sender)?;
        match place.nat {
            None => Some(place.addr),
            // Within one private network nothing is translated.
            Some(nat) if self.routes.contains_key(&Place::behind(nat, to)) => Some(place.addr),
            Some(nat) => self.nats.get_mut(nat.0)?.outbound(now, place.addr, to),
        }
    }

    /// Who receives what `sender` sent as `from` to `to`. A NAT does not send back inside what came from inside.
    pub(crate) fn arrive(
        &self,
        now: MonoTime,
        sender: Option<Place>,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Result<NodeKey, Unreachable> {
        let sender_nat = sender.and_then(|place| place.nat);
        if let Some(nat) = sender_nat
            && let Some(node) = self.routes.get(&Place::behind(nat, to))
        {
            return Ok(*node);
        }
        let place = match self.nat_ips.get(&to.ip()) {
            None => Place::public(to),
            Some(nat) if sender_nat == Some(*nat) => return Err(Unreachable::Filtered),
            Some(nat) => {
                let inside = self
                    .nats
                    .get(nat.0)
                    .and_then(|n| n.inbound(now, to.port(), from));
                Place::behind(*nat, inside.ok_or(Unreachable::Filtered)?)
            }
        };
        self.routes.get(&place).copied().ok_or(Unreachable::NoRoute)
    }
}
