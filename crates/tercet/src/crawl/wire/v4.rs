//! discv4 for a crawl: the endpoint proof both ways, then the node's record and its neighbours.
//!
//! One contact goes `Ping → Pong`, waits for the node's own Ping (a node answers nothing else before it holds a proof of ours) and puts
//! its two questions. A Neighbors packet says neither which question it answers nor how many there are, so a node has
//! one contact at a time, which ends when it has named 16 nodes or, after a packet that was not full, a moment later. What is
//! missing then is asked for once more; of a node that has answered neither question, with the proof before it.
//!
//! Packets are checked on several threads and may overtake each other there; and a busy machine checks late. So time is not up for a
//! contact while something is being checked that came before.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use tercet_discovery::Target;
use tercet_discovery::v4::codec::{Packet, UnverifiedPacket};
use tercet_discovery::v4::{
    EnrRequest, EnrResponse, FindNode, Message, MessageKind, Neighbors, PacketHash, Ping, Pong,
    WireEndpoint, WireTarget,
};
use tercet_enode::{Node, NodeId};
use tercet_machine::{BoundedLru, KeyedMap, KeyedState, MachineRng, MonoTime, Now, TimerSet};

use super::contact::{Contact, OwnRecord, Stage};
use super::{Job, Shared};
use crate::crawl::MAX_NODES;
use crate::crawl::io::{CrawlInput, Extent, Question};

/// How long a packet is good for, in seconds (geth).
const EXPIRATION: u64 = 20;

/// How long a node's own Ping is waited for after its Pong, and what neighbours may have been overtaken.
const GREETING: Duration = Duration::from_millis(500);
const LINGER: Duration = Duration::from_millis(50);

/// Packets from one address that are checked at a time: more than a whole contact has. Further ones are dropped, whoever sends them in
/// its name.
const MAX_CHECKS: usize = 8;

/// A node at an address. Addresses come first, so that all nodes at one are together.
type Peer = (SocketAddr, NodeId);

/// Which packet of whose contact was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Ping(NodeId),
    Pong(NodeId),
    Enr(NodeId),
    Other,
}

/// Packets of contacts at an address that are being checked.
#[derive(Debug, Default)]
struct Checks {
    under_way: usize,
    /// Time was up for a contact there: none are added.
    late: bool,
}

#[derive(Debug)]
pub(super) struct V4 {
    contacts: BTreeMap<Peer, Contact>,
    /// Of every contact, but those whose time was up while something was being checked.
    deadlines: TimerSet<Peer>,
    checks: KeyedMap<SocketAddr, Checks>,
    /// Who has proven its address in this crawl, and has had a proof of ours. Some 100 bytes each.
    bonds: BoundedLru<Peer, ()>,
}

impl V4 {
    pub(super) fn new(rng: &mut MachineRng) -> Self {
        Self {
            contacts: BTreeMap::new(),
            deadlines: TimerSet::new(),
            checks: KeyedMap::with_hasher(KeyedState::new(rng)),
            bonds: BoundedLru::new(MAX_NODES, KeyedState::new(rng)),
        }
    }

    pub(super) fn ask(
        &mut self,
        shared: &mut Shared,
        now: Now,
        question: Question,
        target: Target,
        record: bool,
    ) {
        let (to, id) = (question.node.endpoint().udp_addr(), question.node.id());
        let peer = (to, id);
        let contact = Contact::new(now.mono, &question, target, record);
        if let Some(former) = self.contacts.insert(peer, contact) {
            shared.tell(CrawlInput::Silent {
                serial: former.serial,
            });
        }
        if self.bonds.contains(&peer) {
            self.put(shared, now, peer);
        } else {
            self.ping(shared, now, peer);
        }
    }

    /// Begins with the proof of both addresses.
    fn ping(&mut self, shared: &mut Shared, now: Now, peer: Peer) {
        let Some(contact) = self.contacts.get_mut(&peer) else {
            return;
        };
        (contact.stage, contact.ping, contact.greeted) = (Stage::Ping, None, false);
        self.deadlines.set(peer, now.mono + contact.patience);
        let own = shared.record.endpoint();
        let ip = own.map_or(Ipv4Addr::UNSPECIFIED.into(), |own| own.ip);
        let (udp, tcp) = (
            shared.record.udp4().or(shared.record.udp6()).unwrap_or(0),
            0,
        );
        let (to, id) = peer;
        let ping = Message::Ping(Ping {
            from: WireEndpoint::new(ip, udp, tcp),
            to: WireEndpoint::new(to.ip(), to.port(), 0),
            expiration: now.unix.as_secs() + EXPIRATION,
            enr_seq: Some(shared.record.seq()),
        });
        sign(shared, Mark::Ping(id), to, ping);
    }

    /// Whether a packet is one that is waited for (`Some(true)`), a stranger's question (`Some(false)`), or neither.
    pub(super) fn is_awaited(
        &self,
        now: Now,
        from: SocketAddr,
        packet: &UnverifiedPacket,
    ) -> Option<bool> {
        if packet
            .expiration()
            .is_some_and(|at| at < now.unix.as_secs())
        {
            return None;
        }
        let mut contacts = self.contacts.range(at(from));
        let quoted = packet.answers();
        let checks = self.checks.get(&from);
        let is_busy = checks.is_some_and(|checks| checks.late || checks.under_way >= MAX_CHECKS);
        let is_question = matches!(
            packet.kind(),
            MessageKind::FindNode | MessageKind::EnrRequest
        );
        if is_busy && !is_question {
            return None;
        }
        match packet.kind() {
            MessageKind::Pong => contacts
                .any(|(_, contact)| contact.ping.is_some() && contact.ping == quoted)
                .then_some(true),
            MessageKind::EnrResponse => contacts
                .any(|(_, contact)| {
                    matches!(contact.record, OwnRecord::Wanted(asked @ Some(_)) if asked == quoted)
                })
                .then_some(true),
            MessageKind::Neighbors => contacts
                .any(|(_, contact)| contact.stage == Stage::Asked && !contact.answer.is_full())
                .then_some(true),
            MessageKind::Ping => Some(contacts.next().is_some()),
            MessageKind::FindNode | MessageKind::EnrRequest => Some(false),
        }
    }

    /// A packet that is waited for is being checked.
    pub(super) fn on_check(&mut self, from: SocketAddr) {
        self.checks.entry(from).or_default().under_way += 1;
    }

    /// It was.
    pub(super) fn on_checked(&mut self, shared: &mut Shared, now: Now, from: SocketAddr) {
        let Some(checks) = self.checks.get_mut(&from) else {
            return;
        };
        checks.under_way -= 1;
        if checks.under_way > 0 {
            return;
        }
        let late = self.checks.remove(&from).is_some_and(|checks| checks.late);
        if late {
            let waiting = self.contacts.range(at(from)).map(|(peer, _)| *peer);
            let waiting: Vec<Peer> = waiting
                .filter(|peer| self.deadlines.get(peer).is_none())
                .collect();
            for peer in waiting {
                self.on_due(shared, now, peer);
            }
        }
    }

    /// A packet of a contact's was signed, and is on its way. What the node may answer only once it has our Pong is signed
    /// after that, or it could overtake it.
    pub(super) fn on_signed(
        &mut self,
        shared: &mut Shared,
        now: Now,
        mark: Mark,
        to: SocketAddr,
        hash: PacketHash,
    ) {
        let (Mark::Ping(id) | Mark::Pong(id) | Mark::Enr(id)) = mark else {
            return;
        };
        let peer = (to, id);
        let Some(contact) = self.contacts.get_mut(&peer) else {
            return;
        };
        match (mark, contact.stage) {
            (Mark::Ping(_), Stage::Ping) => {
                contact.ping = Some(hash);
                contact.sent = now.mono;
                self.deadlines.set(peer, now.mono + contact.patience);
            }
            (Mark::Enr(_), Stage::Asked) if contact.wants_record() => {
                contact.record = OwnRecord::Wanted(Some(hash));
            }
            (Mark::Pong(_), Stage::Greeting) => self.put(shared, now, peer),
            (Mark::Pong(_), _) => contact.greeted = true,
            _ => {}
        }
    }

    pub(super) fn on_packet(
        &mut self,
        shared: &mut Shared,
        now: Now,
        from: SocketAddr,
        packet: Packet,
    ) {
        let Packet { key, hash, message } = packet;
        let peer = (from, key.node_id());
        match message {
            Message::Ping(ping) => {
                let pong = Message::Pong(Pong {
                    to: WireEndpoint::new(from.ip(), from.port(), ping.from.tcp),
                    ping_hash: hash,
                    expiration: now.unix.as_secs() + EXPIRATION,
                    enr_seq: Some(shared.record.seq()),
                });
                sign(shared, Mark::Pong(peer.1), from, pong);
                let contact = self.contacts.get(&peer);
                if contact.is_some_and(|contact| contact.stage == Stage::Greeting) {
                    // The questions follow once the Pong is on its way, however long that takes.
                    self.deadlines.set(peer, now.mono + GREETING);
                }
            }
            Message::Pong(pong) => self.on_pong(shared, now, peer, &pong),
            Message::EnrResponse(response) => self.on_record(shared, peer, response),
            Message::Neighbors(neighbors) => self.on_neighbors(shared, now, peer, &neighbors),
            // Only for who has shown that it receives here, or the answer could go to somebody else.
            Message::EnrRequest(_) if self.bonds.contains(&peer) => {
                let record = shared.record.clone();
                let response = EnrResponse {
                    request_hash: hash,
                    record,
                };
                sign(shared, Mark::Other, from, Message::EnrResponse(response));
            }
            Message::FindNode(_) if self.bonds.contains(&peer) => {
                let none = Neighbors {
                    nodes: Vec::new(),
                    expiration: now.unix.as_secs() + EXPIRATION,
                };
                sign(shared, Mark::Other, from, Message::Neighbors(none));
            }
            Message::EnrRequest(_) | Message::FindNode(_) => shared.counters.ignored += 1,
        }
    }

    fn on_pong(&mut self, shared: &mut Shared, now: Now, peer: Peer, pong: &Pong) {
        let Some(contact) = self.contacts.get_mut(&peer) else {
            return;
        };
        if contact.stage != Stage::Ping || contact.ping != Some(pong.ping_hash) {
            shared.counters.ignored += 1;
            return;
        }
        contact.rtt = Some(now.mono - contact.sent);
        self.bonds.insert(peer, ());
        if contact.greeted {
            self.put(shared, now, peer);
        } else {
            contact.stage = Stage::Greeting;
            self.deadlines.set(peer, now.mono + GREETING);
        }
    }

    /// Puts the questions the contact is for, or those whose answers are missing.
    fn put(&mut self, shared: &mut Shared, now: Now, peer: Peer) {
        let Some(contact) = self.contacts.get_mut(&peer) else {
            return;
        };
        contact.stage = Stage::Asked;
        contact.sent = now.mono;
        contact.linger = None;
        self.deadlines.set(peer, now.mono + contact.patience);
        let expiration = now.unix.as_secs() + EXPIRATION;
        if contact.wants_record() {
            sign(
                shared,
                Mark::Enr(peer.1),
                peer.0,
                Message::EnrRequest(EnrRequest { expiration }),
            );
        }
        if contact.answer.extent() != Extent::Part {
            return;
        }
        // A place nobody knows the bytes of cannot be asked for; a crawl has those of all its targets.
        if let Ok(target) = WireTarget::try_from(contact.target) {
            sign(
                shared,
                Mark::Other,
                peer.0,
                Message::FindNode(FindNode { target, expiration }),
            );
        }
    }

    fn on_record(&mut self, shared: &mut Shared, peer: Peer, response: EnrResponse) {
        let Some(contact) = self.contacts.get_mut(&peer) else {
            return;
        };
        let asked = Some(response.request_hash);
        let is_asked = matches!(contact.record, OwnRecord::Wanted(hash) if hash == asked);
        if response.record.id() != peer.1 || !is_asked {
            shared.counters.ignored += 1;
            return;
        }
        shared.records.insert(&response.record);
        contact.record = OwnRecord::Here(response.record);
        if let Some(linger) = contact.linger {
            self.deadlines.set(peer, linger);
        }
        self.end_if_full(shared, peer);
    }

    fn on_neighbors(&mut self, shared: &mut Shared, now: Now, peer: Peer, neighbors: &Neighbors) {
        let Some(contact) = self.contacts.get_mut(&peer) else {
            return;
        };
        if contact.stage != Stage::Asked || contact.answer.is_full() {
            shared.counters.ignored += 1;
            return;
        }
        contact.rtt.get_or_insert(now.mono - contact.sent);
        let nodes = neighbors.nodes.iter();
        let nodes = nodes.map(|neighbor| Node::new(neighbor.key, neighbor.endpoint));
        let records = &shared.records;
        let refused = contact
            .answer
            .take(nodes, |node| records.may_name(peer.0.ip(), node));
        shared.counters.refused += refused as u64;
        if contact.answer.is_at_its_end() {
            let linger = now.mono + LINGER;
            contact.linger = Some(linger);
            if !contact.wants_record() {
                self.deadlines.set(peer, linger);
            }
        }
        self.end_if_full(shared, peer);
    }

    fn end_if_full(&mut self, shared: &mut Shared, peer: Peer) {
        let full = |contact: &Contact| contact.answer.is_full() && !contact.wants_record();
        if self.contacts.get(&peer).is_some_and(full) {
            self.end(shared, peer);
        }
    }

    fn end(&mut self, shared: &mut Shared, peer: Peer) {
        self.deadlines.cancel(&peer);
        let Some(contact) = self.contacts.remove(&peer) else {
            return;
        };
        let serial = contact.serial;
        let extent = contact.answer.extent();
        shared.tell(match contact.rtt {
            None => CrawlInput::Silent { serial },
            Some(rtt) => CrawlInput::Answered {
                serial,
                record: match contact.record {
                    OwnRecord::Here(record) => Some(record),
                    OwnRecord::Unwanted | OwnRecord::Wanted(_) => None,
                },
                named: contact.answer.named,
                extent,
                rtt,
            },
        });
    }

    /// Time is up for a contact.
    fn on_due(&mut self, shared: &mut Shared, now: Now, peer: Peer) {
        let Some(contact) = self.contacts.get_mut(&peer) else {
            return;
        };
        match contact.stage {
            // It held a proof already.
            Stage::Greeting => self.put(shared, now, peer),
            Stage::Asked if !contact.is_whole() && !contact.repeated => {
                contact.repeated = true;
                if contact.is_unheard() {
                    // It may have forgotten our proof, or never had it.
                    self.bonds.remove(&peer);
                    self.ping(shared, now, peer);
                } else {
                    self.put(shared, now, peer);
                }
            }
            Stage::Ping | Stage::Asked => self.end(shared, peer),
        }
    }

    pub(super) fn handle_timeout(&mut self, shared: &mut Shared, now: Now) {
        while let Some(peer) = self.deadlines.pop_expired(now.mono) {
            match self.checks.get_mut(&peer.0) {
                Some(checks) => checks.late = true,
                None => self.on_due(shared, now, peer),
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<MonoTime> {
        self.deadlines.deadline()
    }
}

/// All contacts at an address.
fn at(addr: SocketAddr) -> RangeInclusive<Peer> {
    (addr, NodeId::new([0; 32]))..=(addr, NodeId::new([u8::MAX; 32]))
}

fn sign(shared: &mut Shared, mark: Mark, to: SocketAddr, message: Message) {
    let key = shared.key.clone();
    shared.job(Job::Sign {
        mark,
        to,
        key,
        message,
    });
}
