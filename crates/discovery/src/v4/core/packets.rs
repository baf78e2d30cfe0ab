//! What each message does when it arrives. Replies go to the UDP source, never to an address a packet names;
//! requests other than Ping are answered only to those who have proven that they receive there.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tercet_enode::{Endpoint, Node, NodeRecord, PublicKey, canonical_ip, check_relay};
use tercet_machine::Now;
use tercet_nodedb::Write;

use super::command::{PongInfo, Reply, RequestError};
use super::contact::{EnrWant, FindSlot, Slot};
use super::lookups::LookupId;
use super::{Drop, V4Core, is_expired};
use crate::kad::{Added, BUCKET_SIZE, Proof};
use crate::v4::bond::PeerKey;
use crate::v4::message::{
    EnrResponse, FindNode, MAX_NEIGHBORS_PER_PACKET, Message, Neighbor, Neighbors, PacketHash,
    Ping, Pong, Target, WireEndpoint,
};

/// How long a second Neighbors packet may take after the first, which was full; and the first after the second, for a
/// lookup that is about to end.
const GATHER: Duration = Duration::from_millis(100);

/// Nodes in a second packet, `16 - 12`: an answer that begins with more is whole.
const OVERTAKING: usize = BUCKET_SIZE - MAX_NEIGHBORS_PER_PACKET;

/// UDP ports of relayed nodes lie above this (geth): the ones below belong to services we should not be made
/// to talk to.
const MAX_RESERVED_PORT: u16 = 1024;

/// What a packet of neighbours was to the question under way.
#[derive(Clone, Copy)]
struct Gathered {
    lookup: LookupId,
    /// Nodes its answer had left to bring before this packet.
    room: usize,
    /// The question, if the packet ended it.
    ended: Option<FindSlot>,
}

impl V4Core {
    pub(super) fn handle_packet(
        &mut self,
        now: Now,
        from: SocketAddr,
        key: PublicKey,
        hash: PacketHash,
        message: Message,
    ) -> Result<(), Drop> {
        self.counters.received += 1;
        let from = SocketAddr::new(canonical_ip(from.ip()), from.port());
        let peer = PeerKey {
            id: key.node_id(),
            ip: from.ip(),
        };
        if peer.id == self.record.id() {
            return Err(Drop::Own);
        }
        if !self.permits(peer.ip) {
            return Err(Drop::Restricted);
        }
        if message.expiration().is_some_and(|at| is_expired(at, now)) {
            return Err(Drop::Expired);
        }
        match message {
            Message::Ping(ping) => self.on_ping(now, from, key, hash, &ping),
            Message::Pong(pong) => self.on_pong(now, peer, &pong),
            Message::FindNode(find) => self.on_find_node(now, from, peer, &find),
            Message::Neighbors(neighbors) => self.on_neighbors(now, peer, neighbors),
            Message::EnrRequest(_) => self.on_enr_request(now, from, peer, hash),
            Message::EnrResponse(response) => self.on_enr_response(now, peer, response),
        }
    }

    fn on_ping(
        &mut self,
        now: Now,
        from: SocketAddr,
        key: PublicKey,
        hash: PacketHash,
        ping: &Ping,
    ) -> Result<(), Drop> {
        let node = Node::new(key, Endpoint::new(from.ip(), from.port(), ping.from.tcp));
        let peer = PeerKey::of(&node);
        let pong = Pong {
            to: WireEndpoint::new(from.ip(), from.port(), ping.from.tcp),
            ping_hash: hash,
            expiration: Self::expiration(now),
            enr_seq: Some(self.record.seq()),
        };
        self.send(from, Message::Pong(pong), None);
        self.bonds.on_ping(peer, now.unix);
        if self.bonds.is_proven(&peer, now.unix) {
            // Only of the proven: an id and a forged source cost nothing, a row in the database does.
            self.write(Write::Ping {
                id: peer.id,
                ip: peer.ip,
                at: now.unix,
            });
            self.take_in(now, node, Proof::Contact);
            self.pull_record(peer, ping.enr_seq);
        } else if !self.ping_back(now, node) {
            return Err(Drop::Full);
        }
        self.on_greeted(now, peer);
        Ok(())
    }

    fn on_pong(&mut self, now: Now, peer: PeerKey, pong: &Pong) -> Result<(), Drop> {
        let contact = self.contacts.get_mut(&peer).ok_or(Drop::Unsolicited)?;
        let ping = contact
            .ping
            .take_if(|ping| ping.hash == Some(pong.ping_hash))
            .ok_or(Drop::Unsolicited)?;
        let (node, inbound) = (contact.node.clone(), contact.inbound);
        let asked = contact.asked.take();
        self.contacts.disarm(peer, Slot::Ping);
        self.bonds.on_pong(peer, now.unix);
        let PeerKey { id, ip } = peer;
        self.write(Write::Pong {
            id,
            ip,
            at: now.unix,
        });
        if let Some(at) = self.bonds.last_ping(&peer) {
            self.write(Write::Ping { id, ip, at });
        }
        let info = PongInfo {
            rtt: now.mono - ping.sent,
            enr_seq: pong.enr_seq,
            seen_as: pong.to,
        };
        for op in ping.ops {
            self.done(op, Ok(Reply::Pong(info)));
        }
        if inbound {
            self.take_in(now, node, Proof::Answer);
        } else {
            self.table.add(now.mono, node, Proof::Answer);
        }
        if let Some((from, target)) = asked {
            self.send_neighbors(now, from, peer, target);
        }
        self.pull_record(peer, pong.enr_seq);
        self.await_greeting(now, peer);
        Ok(())
    }

    /// Offers the table a node that came by itself. Until this node has found its own way into the network such
    /// nodes wait behind those it finds.
    fn take_in(&mut self, now: Now, node: Node, proof: Proof) -> Added {
        if self.refresh.has_joined() {
            self.table.add(now.mono, node, proof)
        } else {
            self.table.add_waiting(now.mono, node, proof)
        }
    }

    fn on_find_node(
        &mut self,
        now: Now,
        from: SocketAddr,
        peer: PeerKey,
        find: &FindNode,
    ) -> Result<(), Drop> {
        if self.bonds.is_proven(&peer, now.unix) {
            self.send_neighbors(now, from, peer, find.target);
            return Ok(());
        }
        // Sent right behind the pong that proves its sender, it may have overtaken it: the answer waits for the proof.
        match self.contacts.get_mut(&peer) {
            Some(contact) if contact.ping.is_some() && contact.asked.is_none() => {
                contact.asked = Some((from, find.target));
                Ok(())
            }
            _ => Err(Drop::Unproven),
        }
    }

    fn send_neighbors(&mut self, now: Now, from: SocketAddr, peer: PeerKey, target: Target) {
        let relayed = |node: &Node, live: bool| {
            live && node.id() != peer.id && check_relay(peer.ip, node.endpoint().ip).is_ok()
        };
        let nodes: Vec<Neighbor> = self
            .table
            .closest(&target.id(), BUCKET_SIZE, relayed)
            .iter()
            .map(Neighbor::from)
            .collect();
        for packet in Neighbors::split(&nodes, Self::expiration(now)) {
            self.send(from, Message::Neighbors(packet), None);
        }
    }

    /// Neighbors say neither which request they answer nor how many packets there are. At a packet that is not full the
    /// lookup goes on; after a full one a second may follow at once. What the network delivers out of order is taken
    /// until the request's deadline, and where answers of one peer cannot be told apart, each lookup hears of all.
    fn on_neighbors(&mut self, now: Now, peer: PeerKey, packet: Neighbors) -> Result<(), Drop> {
        let count = packet.nodes.len();
        let find = self.gather(now, peer, count);
        // An empty packet takes a place too, so that a peer cannot send them without end.
        let rest = find.map_or(count.max(1), |find| count.saturating_sub(find.room));
        let (late_room, mut lookups) = self.late.take(now.mono, &peer, rest);
        lookups.extend(find.map(|find| find.lookup));
        if lookups.is_empty() {
            return Err(Drop::Unsolicited);
        }
        let room = late_room + find.map_or(0, |find| find.room);
        let nodes: Vec<Node> = packet
            .nodes
            .into_iter()
            .take(room)
            .map(|neighbor| Node::new(neighbor.key, neighbor.endpoint))
            .filter(|node| self.is_relayable(peer.ip, node))
            .collect();
        for node in &nodes {
            self.table.add(now.mono, node.clone(), Proof::Hearsay);
        }
        let from = peer.id;
        for lookup in lookups {
            self.lookups.learn(lookup, &from, nodes.iter().cloned());
        }
        if let Some(ended) = find.and_then(|find| find.ended) {
            if (1..=OVERTAKING).contains(&count) && count == ended.received.unwrap_or(0) {
                self.lookups.linger(ended.lookup, now.mono + GATHER);
            }
            self.on_find_end(now, peer, ended);
            self.advance(now, peer);
        }
        Ok(())
    }

    /// Counts a packet of `count` neighbours towards the question under way, if there is one, and ends it if the lookup need
    /// not wait for more.
    fn gather(&mut self, now: Now, peer: PeerKey, count: usize) -> Option<Gathered> {
        let contact = self.contacts.get_mut(&peer)?;
        let find = contact.find.as_mut()?;
        let received = find.received.unwrap_or(0);
        let (lookup, room) = (find.lookup, BUCKET_SIZE.saturating_sub(received));
        find.received = Some(received + count);
        let deadline = find.deadline.min(now.mono + GATHER);
        let ended = contact
            .find
            .take_if(|_| count >= room || count < MAX_NEIGHBORS_PER_PACKET);
        match ended {
            Some(_) => self.contacts.disarm(peer, Slot::Find),
            None => self.contacts.arm(peer, Slot::Find, deadline),
        }
        Some(Gathered {
            lookup,
            room,
            ended,
        })
    }

    fn on_enr_request(
        &mut self,
        now: Now,
        from: SocketAddr,
        peer: PeerKey,
        hash: PacketHash,
    ) -> Result<(), Drop> {
        if !self.bonds.is_proven(&peer, now.unix) {
            return Err(Drop::Unproven);
        }
        let record = self.record.clone();
        self.send(
            from,
            Message::EnrResponse(EnrResponse {
                request_hash: hash,
                record,
            }),
            None,
        );
        Ok(())
    }

    fn on_enr_response(
        &mut self,
        now: Now,
        peer: PeerKey,
        response: EnrResponse,
    ) -> Result<(), Drop> {
        let contact = self.contacts.get_mut(&peer).ok_or(Drop::Unsolicited)?;
        let enr = contact
            .enr
            .take_if(|enr| enr.hash == Some(response.request_hash))
            .ok_or(Drop::Unsolicited)?;
        let known = contact.node.clone();
        self.contacts.disarm(peer, Slot::Enr);
        self.on_answered(now, peer);
        let record = response.record;
        if record.id() == peer.id {
            let fresh = self.with_record(peer.ip, known, &record);
            if self.table.get(&peer.id).is_some() {
                self.table.add(now.mono, fresh.clone(), Proof::Hearsay);
            }
            for want in enr.wants {
                match want {
                    EnrWant::Table => {}
                    EnrWant::Op(op) => self.done(op, Ok(Reply::Record(record.clone()))),
                    EnrWant::Resolve(op) => self.on_resolve_answer(op, fresh.clone()),
                }
            }
        } else {
            for want in enr.wants {
                self.on_enr_failure(want, RequestError::WrongRecord);
            }
        }
        self.advance(now, peer);
        Ok(())
    }

    /// The node with its record, at the endpoint the record names if that may be believed: a record says
    /// whatever its owner likes.
    fn with_record(&self, sender: IpAddr, known: Node, record: &NodeRecord) -> Node {
        match Node::from_record(record.clone()) {
            Some(node) if self.is_relayable(sender, &node) => node,
            _ => known.clone().with_record(record.clone()).unwrap_or(known),
        }
    }

    /// Whether an address somebody at `sender` names may be used.
    fn is_relayable(&self, sender: IpAddr, node: &Node) -> bool {
        let endpoint = node.endpoint();
        endpoint.udp > MAX_RESERVED_PORT
            && check_relay(sender, endpoint.ip).is_ok()
            && self.usable(node).is_ok()
    }
}
