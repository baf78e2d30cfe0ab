//! discv4 for a crawl: the endpoint proof both ways, then the node's record and its neighbours.
//!
//! One contact goes `Ping → Pong`, waits for the node's own Ping (a node answers nothing else before it holds a proof of ours) and puts
//! its two questions. A Neighbors packet says neither which question it answers nor how many there are, so a node has
//! one contact at a time, which ends when it has named 16 nodes or, after a packet that was not full, a moment later.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tercet_discovery::Target;
use tercet_discovery::v4::codec::{Packet, UnverifiedPacket};
use tercet_discovery::v4::{
    EnrRequest, EnrResponse, FindNode, MAX_NEIGHBORS_PER_PACKET, Message, MessageKind, Neighbors,
    PacketHash, Ping, Pong, WireEndpoint, WireTarget,
};
use tercet_enode::{Node, NodeId, NodeRecord};
use tercet_machine::{BoundedLru, KeyedState, MachineRng, MonoTime, Now, TimerSet};

use super::{Job, Shared};
use crate::crawl::MAX_NODES;
use crate::crawl::io::{CrawlInput, Question};

/// How long a packet is good for, in seconds (geth).
const EXPIRATION: u64 = 20;

/// How long a node's own Ping is waited for after its Pong, and what neighbours may have been overtaken.
const GREETING: Duration = Duration::from_millis(500);
const LINGER: Duration = Duration::from_millis(50);

/// Nodes a full answer names.
const FULL: usize = tercet_discovery::BUCKET_SIZE;

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its Pong is waited for.
    Ping,
    /// Its Ping is waited for.
    Greeting,
    /// Its answers are.
    Asked,
}

#[derive(Debug)]
struct Contact {
    serial: u64,
    target: Target,
    patience: Duration,
    stage: Stage,
    /// The hash of the Ping under way, once it is signed.
    ping: Option<PacketHash>,
    sent: MonoTime,
    rtt: Option<Duration>,
    /// It has pinged us and was answered, so it holds a proof or is about to.
    greeted: bool,
    wants_record: bool,
    enr: Option<PacketHash>,
    record: Option<NodeRecord>,
    named: Vec<Node>,
    /// No more neighbours are expected.
    named_all: bool,
}

#[derive(Debug)]
pub(super) struct V4 {
    contacts: BTreeMap<Peer, Contact>,
    deadlines: TimerSet<Peer>,
    /// Who has proven its address in this crawl, and has had a proof of ours. Some 100 bytes each.
    bonds: BoundedLru<Peer, ()>,
}

impl V4 {
    pub(super) fn new(rng: &mut MachineRng) -> Self {
        Self {
            contacts: BTreeMap::new(),
            deadlines: TimerSet::new(),
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
        let Question {
            serial,
            node,
            patience,
            ..
        } = question;
        let to = node.endpoint().udp_addr();
        let peer = (to, node.id());
        let bonded = self.bonds.contains(&peer);
        let contact = Contact {
            serial,
            target,
            patience,
            stage: Stage::Ping,
            ping: None,
            sent: now.mono,
            rtt: None,
            greeted: false,
            wants_record: record,
            enr: None,
            record: None,
            named: Vec::new(),
            named_all: false,
        };
        if let Some(former) = self.contacts.insert(peer, contact) {
            shared.tell(CrawlInput::Silent {
                serial: former.serial,
            });
        }
        if bonded {
            self.put(shared, now, peer);
            return;
        }
        self.deadlines.set(peer, now.mono + patience);
        let own = shared.record.endpoint();
        let ip = own.map_or(Ipv4Addr::UNSPECIFIED.into(), |own| own.ip);
        let (udp, tcp) = (
            shared.record.udp4().or(shared.record.udp6()).unwrap_or(0),
            0,
        );
        let ping = Message::Ping(Ping {
            from: WireEndpoint::new(ip, udp, tcp),
            to: WireEndpoint::new(to.ip(), to.port(), 0),
            expiration: now.unix.as_secs() + EXPIRATION,
            enr_seq: Some(shared.record.seq()),
        });
        sign(shared, Mark::Ping(peer.1), to, ping);
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
        let mut contacts = self
            .contacts
            .range((from, NodeId::new([0; 32]))..=(from, NodeId::new([u8::MAX; 32])));
        let quoted = packet.answers();
        match packet.kind() {
            MessageKind::Pong => contacts
                .any(|(_, contact)| contact.ping.is_some() && contact.ping == quoted)
                .then_some(true),
            MessageKind::EnrResponse => contacts
                .any(|(_, contact)| contact.enr.is_some() && contact.enr == quoted)
                .then_some(true),
            MessageKind::Neighbors => contacts
                .any(|(_, contact)| contact.stage == Stage::Asked && contact.named.len() < FULL)
                .then_some(true),
            MessageKind::Ping => Some(contacts.next().is_some()),
            MessageKind::FindNode | MessageKind::EnrRequest => Some(false),
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
            (Mark::Enr(_), Stage::Asked) => contact.enr = Some(hash),
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

    /// Puts the questions the contact is for.
    fn put(&mut self, shared: &mut Shared, now: Now, peer: Peer) {
        let Some(contact) = self.contacts.get_mut(&peer) else {
            return;
        };
        contact.stage = Stage::Asked;
        contact.sent = now.mono;
        self.deadlines.set(peer, now.mono + contact.patience);
        let expiration = now.unix.as_secs() + EXPIRATION;
        if contact.wants_record {
            sign(
                shared,
                Mark::Enr(peer.1),
                peer.0,
                Message::EnrRequest(EnrRequest { expiration }),
            );
        }
        match WireTarget::try_from(contact.target) {
            Ok(target) => sign(
                shared,
                Mark::Other,
                peer.0,
                Message::FindNode(FindNode { target, expiration }),
            ),
            // A place nobody knows the bytes of cannot be asked for.
            Err(_) => contact.named_all = true,
        }
    }

    fn on_record(&mut self, shared: &mut Shared, peer: Peer, response: EnrResponse) {
        let Some(contact) = self.contacts.get_mut(&peer) else {
            return;
        };
        let is_its = response.record.id() == peer.1;
        if !is_its || contact.enr != Some(response.request_hash) || !contact.wants_record {
            shared.counters.ignored += 1;
            return;
        }
        contact.wants_record = false;
        shared.records.insert(&response.record);
        contact.record = Some(response.record);
        self.end_if_whole(shared, peer);
    }

    fn on_neighbors(&mut self, shared: &mut Shared, now: Now, peer: Peer, neighbors: &Neighbors) {
        let Some(contact) = self.contacts.get_mut(&peer) else {
            return;
        };
        if contact.stage != Stage::Asked || contact.named.len() >= FULL {
            shared.counters.ignored += 1;
            return;
        }
        contact.rtt.get_or_insert(now.mono - contact.sent);
        for neighbor in &neighbors.nodes {
            let node = Node::new(neighbor.key, neighbor.endpoint);
            let is_new = contact.named.iter().all(|other| other.id() != node.id());
            if !shared.records.may_name(peer.0.ip(), &node) || contact.named.len() >= FULL {
                shared.counters.refused += u64::from(node.id() != shared.key.node_id());
            } else if is_new {
                contact.named.push(node);
            }
        }
        contact.named_all = contact.named.len() >= FULL;
        if contact.named_all {
            self.end_if_whole(shared, peer);
        } else if neighbors.nodes.len() < MAX_NEIGHBORS_PER_PACKET {
            let linger = now.mono + LINGER;
            let waits = contact.wants_record && contact.record.is_none();
            if !waits {
                self.deadlines.set(peer, linger);
            }
            contact.named_all = waits;
        }
    }

    fn end_if_whole(&mut self, shared: &mut Shared, peer: Peer) {
        let whole = |contact: &Contact| contact.named_all && !contact.wants_record;
        if self.contacts.get(&peer).is_some_and(whole) {
            self.end(shared, peer);
        }
    }

    fn end(&mut self, shared: &mut Shared, peer: Peer) {
        self.deadlines.cancel(&peer);
        let Some(contact) = self.contacts.remove(&peer) else {
            return;
        };
        let serial = contact.serial;
        shared.tell(match contact.rtt {
            None => {
                // Whoever does not answer any more may have forgotten the proof.
                self.bonds.remove(&peer);
                CrawlInput::Silent { serial }
            }
            Some(rtt) => CrawlInput::Answered {
                serial,
                record: contact.record,
                named: contact.named,
                rtt,
            },
        });
    }

    pub(super) fn handle_timeout(&mut self, shared: &mut Shared, now: Now) {
        while let Some(peer) = self.deadlines.pop_expired(now.mono) {
            let stage = self.contacts.get(&peer).map(|contact| contact.stage);
            if stage == Some(Stage::Greeting) {
                // It held a proof already.
                self.put(shared, now, peer);
            } else {
                self.end(shared, peer);
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<MonoTime> {
        self.deadlines.deadline()
    }
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
