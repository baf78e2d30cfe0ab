//! Endpoint proofs ("bonds", `discv4.md` "Endpoint Proof"): who has answered a ping of ours at which IP,
//! and who has pinged us and so may count us as proven. A node that moves to another IP starts anew.
//!
//! Anybody can sign a ping and forge its source, so what a ping alone brings in is kept apart from what a
//! round trip has proven: a flood of forged pings pushes out other such pings and never a proof.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use tercet_enode::{Node, NodeId};
use tercet_machine::{BoundedLru, KeyedState, MachineRng, UnixTime};

/// How long a proof holds: 12 hours (`discv4.md`). geth accepts 24; answering for longer than the
/// specification asks would only help a reflector.
pub const BOND_LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// Proofs kept; the one renewed longest ago goes first. About 150 bytes each, 0.6 MB in all.
pub const MAX_BONDS: usize = 4096;

/// Unproven senders of pings kept, about 150 KB in all.
pub const MAX_HEARD: usize = 1024;

/// A node at one IP: what bonds, exchanges and failure counts are kept by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct PeerKey {
    pub(super) id: NodeId,
    pub(super) ip: IpAddr,
}

impl Hash for PeerKey {
    /// One number for the address, whatever its family: the hasher runs for every packet.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
        match self.ip {
            IpAddr::V4(ip) => state.write_u32(ip.to_bits()),
            IpAddr::V6(ip) => state.write_u128(ip.to_bits()),
        }
    }
}

impl PeerKey {
    pub(super) fn of(node: &Node) -> Self {
        Self {
            id: node.id(),
            ip: node.endpoint().ip,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bond {
    /// Its last ping, which we answered: after it the remote holds a proof of us.
    pub(super) last_ping: Option<UnixTime>,
    /// Its last answer to a ping of ours: our proof of it.
    pub(super) last_pong: Option<UnixTime>,
    /// Its last answer to a FindNode or ENRRequest, which it gives only to those it counts as proven.
    pub(super) last_answer: Option<UnixTime>,
    /// FindNode requests in a row that got no answer, since its last ping.
    pub(super) find_failures: u32,
}

#[derive(Debug)]
pub(super) struct Bonds {
    proven: BoundedLru<PeerKey, Bond>,
    heard: BoundedLru<PeerKey, Bond>,
}

impl Bonds {
    pub(super) fn new(rng: &mut MachineRng) -> Self {
        let (proven, heard) = (KeyedState::new(rng), KeyedState::new(rng));
        Self {
            proven: BoundedLru::new(MAX_BONDS, proven),
            heard: BoundedLru::new(MAX_HEARD, heard),
        }
    }

    /// Puts back what an earlier run had proven.
    pub(super) fn restore(&mut self, peer: PeerKey, bond: Bond) {
        if bond.last_pong.is_some() && self.proven.get(&peer).is_none() {
            self.proven.insert(peer, bond);
        }
    }

    pub(super) fn on_ping(&mut self, peer: PeerKey, at: UnixTime) {
        self.change(peer, |bond| {
            bond.last_ping = Some(at);
            // Whatever it had forgotten of us, with our pong it has a proof again.
            bond.find_failures = 0;
        });
    }

    pub(super) fn on_pong(&mut self, peer: PeerKey, at: UnixTime) {
        let mut bond = self
            .heard
            .remove(&peer)
            .or_else(|| self.proven.get(&peer).copied())
            .unwrap_or_default();
        bond.last_pong = Some(at);
        self.proven.insert(peer, bond);
    }

    /// Counts a FindNode that was not answered.
    pub(super) fn on_find_failure(&mut self, peer: PeerKey) {
        self.change(peer, |bond| {
            bond.find_failures = bond.find_failures.saturating_add(1);
        });
    }

    /// It answered a FindNode or ENRRequest. Ends a row of failures.
    pub(super) fn on_answer(&mut self, peer: PeerKey, at: UnixTime) {
        self.change(peer, |bond| {
            bond.last_answer = Some(at);
            bond.find_failures = 0;
        });
    }

    /// Whether it has proven that it receives at this IP.
    pub(super) fn is_proven(&self, peer: &PeerKey, now: UnixTime) -> bool {
        self.get(peer)
            .is_some_and(|bond| is_fresh(bond.last_pong, now))
    }

    /// Whether it may be expected to count us as proven. After an unanswered FindNode it is not: it may have
    /// forgotten us.
    pub(super) fn knows_us(&self, peer: &PeerKey, now: UnixTime) -> bool {
        self.get(peer).is_some_and(|bond| {
            is_fresh(bond.last_ping.max(bond.last_answer), now) && bond.find_failures == 0
        })
    }

    pub(super) fn last_ping(&self, peer: &PeerKey) -> Option<UnixTime> {
        self.get(peer)?.last_ping
    }

    /// Does not count as use, which moves a bond among the others and is for each packet: what renews a bond does count.
    fn get(&self, peer: &PeerKey) -> Option<Bond> {
        self.proven
            .peek(peer)
            .or_else(|| self.heard.peek(peer))
            .copied()
    }

    fn change(&mut self, peer: PeerKey, change: impl FnOnce(&mut Bond)) {
        if let Some(bond) = self.proven.get_mut(&peer) {
            change(bond);
        } else if let Some(bond) = self.heard.get_mut(&peer) {
            change(bond);
        } else {
            let mut bond = Bond::default();
            change(&mut bond);
            self.heard.insert(peer, bond);
        }
    }
}

/// A time in the future is no proof: the clock was set back, or the database is another machine's.
fn is_fresh(at: Option<UnixTime>, now: UnixTime) -> bool {
    at.is_some_and(|at| at <= now && now < at + BOND_LIFETIME)
}
