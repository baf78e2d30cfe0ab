//! What is under way with each peer: at most one ping, one FindNode and one ENRRequest at a time, and the
//! jobs that wait for the bond or for their turn. One FindNode at a time because a Neighbors packet does not
//! say which request it answers. Data only; `exchange` moves it on.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use tercet_enode::{Node, NodeId};
use tercet_machine::{KeyedMap, KeyedState, MachineRng, MonoTime, TimerSet};

use crate::engine::Asker;
use crate::v4::bond::PeerKey;
use crate::v4::message::{MessageKind, PacketHash, WireTarget};

/// Peers with something under way, about 500 bytes each. At 500 ms a timeout that is over a thousand
/// exchanges a second, twenty times what sixteen lookups need.
pub const MAX_CONTACTS: usize = 512;

/// Contacts that exist only because the peer pinged first. The rest is kept for this node's own work, so
/// that a flood of pings cannot stop its lookups.
pub const MAX_INBOUND_CONTACTS: usize = MAX_CONTACTS / 2;

/// Jobs waiting at one peer: one of each lookup that can run, `16 + 3`, and records for a few callers.
pub const MAX_JOBS: usize = 32;

/// Callers sharing one request.
pub const MAX_WAITERS: usize = 8;

/// Names a sent message whose hash the core wants to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token {
    peer: PeerKey,
    serial: u64,
}

/// The parts of an exchange that have a deadline.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) enum Slot {
    Ping,
    Greeting,
    Find,
    Enr,
}

const SLOTS: [Slot; 4] = [Slot::Ping, Slot::Greeting, Slot::Find, Slot::Enr];

/// Something to ask a peer once it counts us as proven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Job {
    Find { asker: Asker, target: WireTarget },
    Enr(Asker),
}

#[derive(Debug)]
pub(super) struct PingSlot {
    pub(super) token: Token,
    pub(super) hash: Option<PacketHash>,
    pub(super) sent: MonoTime,
    /// Callers; the table need not be named.
    pub(super) askers: Vec<Asker>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FindSlot {
    pub(super) asker: Asker,
    /// Nodes in the packets so far, if there has been one.
    pub(super) received: Option<usize>,
    pub(super) deadline: MonoTime,
}

#[derive(Debug)]
pub(super) struct EnrSlot {
    pub(super) token: Token,
    pub(super) hash: Option<PacketHash>,
    pub(super) wants: Vec<Asker>,
}

#[derive(Debug)]
pub(super) struct Contact {
    pub(super) node: Node,
    /// It pinged us before we wanted anything of it.
    pub(super) inbound: bool,
    /// It may be expected to answer FindNode and ENRRequest.
    pub(super) ready: bool,
    /// It has answered our ping, and its own is waited for.
    pub(super) greeting: bool,
    pub(super) ping: Option<PingSlot>,
    pub(super) find: Option<FindSlot>,
    pub(super) enr: Option<EnrSlot>,
    pub(super) jobs: VecDeque<Job>,
    /// A question of the peer's that has come before its pong to the ping under way, and where from.
    pub(super) asked: Option<(SocketAddr, WireTarget)>,
    /// The peer's own ping, which has no answer yet.
    pub(super) unanswered: Option<Unanswered>,
}

/// A ping that a guest has not answered, as it wanted nothing of the peer but a pong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unanswered {
    pub(super) from: SocketAddr,
    pub(super) hash: PacketHash,
    pub(super) tcp: u16,
}

impl Contact {
    /// Whether something is wanted of the peer that it gives only to those who have proven their address.
    pub(super) fn wants(&self) -> bool {
        self.find.is_some() || self.enr.is_some() || !self.jobs.is_empty()
    }

    /// Whether what is wanted waits for the peer's own ping.
    fn awaits_ping(&self) -> bool {
        self.wants() && !self.ready && (self.greeting || self.ping.is_some())
    }

    fn is_idle(&self) -> bool {
        self.ping.is_none() && !self.wants() && !self.greeting
    }
}

#[derive(Debug)]
pub(super) struct Contacts {
    /// Boxed: each place of the map is new to the caches, each allocation is not.
    map: KeyedMap<PeerKey, Box<Contact>>,
    timers: TimerSet<(PeerKey, Slot)>,
    serial: u64,
}

impl Contacts {
    pub(super) fn new(rng: &mut MachineRng) -> Self {
        Self {
            map: KeyedMap::with_hasher(KeyedState::new(rng)),
            timers: TimerSet::new(),
            serial: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn get(&self, peer: &PeerKey) -> Option<&Contact> {
        self.map.get(peer).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, peer: &PeerKey) -> Option<&mut Contact> {
        self.map.get_mut(peer).map(Box::as_mut)
    }

    /// The contact with `node`, made if there is room: `None` if there is not.
    pub(super) fn open(&mut self, node: &Node, inbound: bool) -> Option<&mut Contact> {
        let peer = PeerKey::of(node);
        let bound = if inbound {
            MAX_INBOUND_CONTACTS
        } else {
            MAX_CONTACTS
        };
        if !self.map.contains_key(&peer) && self.map.len() >= bound {
            return None;
        }
        let fresh = || Contact {
            node: node.clone(),
            inbound,
            ready: false,
            greeting: false,
            ping: None,
            find: None,
            enr: None,
            jobs: VecDeque::new(),
            asked: None,
            unanswered: None,
        };
        Some(self.map.entry(peer).or_insert_with(|| Box::new(fresh())))
    }

    /// Forgets a contact with which nothing is under way any more.
    pub(super) fn tidy(&mut self, peer: &PeerKey) {
        if self.get(peer).is_some_and(Contact::is_idle) {
            self.map.remove(peer);
            for slot in SLOTS {
                self.timers.cancel(&(*peer, slot));
            }
        }
    }

    pub(super) fn token(&mut self, peer: PeerKey) -> Token {
        self.serial += 1;
        Token {
            peer,
            serial: self.serial,
        }
    }

    pub(super) fn on_sent(&mut self, token: Token, hash: PacketHash) {
        let Some(contact) = self.map.get_mut(&token.peer) else {
            return;
        };
        if let Some(ping) = contact.ping.as_mut().filter(|ping| ping.token == token) {
            ping.hash = Some(hash);
        } else if let Some(enr) = contact.enr.as_mut().filter(|enr| enr.token == token) {
            enr.hash = Some(hash);
        }
    }

    /// Whether a message of this kind from this address can be of use. Requests always can.
    pub(super) fn expects(
        &self,
        from: IpAddr,
        kind: MessageKind,
        answers: Option<PacketHash>,
    ) -> bool {
        let mut there = self
            .map
            .iter()
            .filter(|(peer, _)| peer.ip == from)
            .map(|(_, contact)| contact);
        match kind {
            MessageKind::Ping | MessageKind::FindNode | MessageKind::EnrRequest => true,
            MessageKind::Pong => {
                there.any(|c| c.ping.as_ref().is_some_and(|ping| ping.hash == answers))
            }
            MessageKind::EnrResponse => {
                there.any(|c| c.enr.as_ref().is_some_and(|enr| enr.hash == answers))
            }
            MessageKind::Neighbors => there.any(|c| c.find.is_some()),
        }
    }

    /// Whether the ping of somebody at this address is waited for; of `id`, if that is known.
    pub(super) fn awaits_ping(&self, from: IpAddr, id: Option<&NodeId>) -> bool {
        let mut there = self.map.iter().filter(|(peer, _)| peer.ip == from);
        there.any(|(peer, contact)| id.is_none_or(|id| peer.id == *id) && contact.awaits_ping())
    }

    pub(super) fn arm(&mut self, peer: PeerKey, slot: Slot, at: MonoTime) {
        self.timers.set((peer, slot), at);
    }

    pub(super) fn disarm(&mut self, peer: PeerKey, slot: Slot) {
        self.timers.cancel(&(peer, slot));
    }

    pub(super) fn deadline(&self) -> Option<MonoTime> {
        self.timers.deadline()
    }

    pub(super) fn pop_expired(&mut self, now: MonoTime) -> Option<(PeerKey, Slot)> {
        self.timers.pop_expired(now)
    }
}
