//! What each message does when it arrives. Replies go to the UDP source, never to an address a packet names;
//! requests other than Ping are answered only to those who have proven that they receive there.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tercet_enode::{Endpoint, Node, NodeRecord, PublicKey, canonical_ip, check_relay};
use tercet_machine::Now;
use tercet_nodedb::Write;

use super::contact::{Contact, FindSlot, Slot, Unanswered};
use super::{Drop, V4Engine, is_expired};
use crate::engine::{Asker, PongInfo, Protocol, Protocols, Report, RequestError};
use crate::kad::{BUCKET_SIZE, Proof, Table};
use crate::v4::bond::PeerKey;
use crate::v4::message::{
    EnrResponse, FindNode, MAX_NEIGHBORS_PER_PACKET, Message, Neighbor, Neighbors, PacketHash,
    Ping, Pong, WireEndpoint, WireTarget,
};

/// How long a second Neighbors packet may take after the first, which was full; and the first after the second, for a
/// lookup that is about to end.
const GATHER: Duration = Duration::from_millis(100);

/// Nodes in a second packet, `16 - 12`: an answer that begins with more is whole.
const OVERTAKING: usize = BUCKET_SIZE - MAX_NEIGHBORS_PER_PACKET;

/// What a packet of neighbours was to the question under way.
#[derive(Clone, Copy)]
struct Gathered {
    asker: Asker,
    /// Nodes its answer had left to bring before this packet.
    room: usize,
    /// The question, if the packet ended it.
    ended: Option<FindSlot>,
}

impl V4Engine {
    /// A message arrived.
    ///
    /// # Errors
    /// The reason it was dropped; it has been counted.
    pub(crate) fn handle_packet(
        &mut self,
        now: Now,
        table: &Table,
        from: SocketAddr,
        (key, hash): (PublicKey, PacketHash),
        message: Message,
    ) -> Result<(), Drop> {
        self.counters.received += 1;
        let verdict = self.take(now, table, from, (key, hash), message);
        self.counted(verdict)
    }

    fn take(
        &mut self,
        now: Now,
        table: &Table,
        from: SocketAddr,
        (key, hash): (PublicKey, PacketHash),
        message: Message,
    ) -> Result<(), Drop> {
        let from = SocketAddr::new(canonical_ip(from.ip()), from.port());
        let peer = PeerKey {
            id: key.node_id(),
            ip: from.ip(),
        };
        if peer.id == self.record.id() {
            return Err(Drop::Own);
        }
        if !self.policy.permits(peer.ip) {
            return Err(Drop::Restricted);
        }
        if message.expiration().is_some_and(|at| is_expired(at, now)) {
            return Err(Drop::Expired);
        }
        match message {
            Message::Ping(ping) => self.on_ping(now, from, (key, hash), &ping),
            Message::Pong(pong) => self.on_pong(now, table, peer, &pong),
            Message::FindNode(find) => self.on_find_node(now, table, (from, peer), &find),
            Message::Neighbors(neighbors) => self.on_neighbors(now, peer, neighbors),
            Message::EnrRequest(_) => self.on_enr_request(now, from, peer, hash),
            Message::EnrResponse(response) => self.on_enr_response(now, peer, response),
        }
    }

    fn on_ping(
        &mut self,
        now: Now,
        from: SocketAddr,
        (key, hash): (PublicKey, PacketHash),
        ping: &Ping,
    ) -> Result<(), Drop> {
        let node = Node::new(key, Endpoint::new(from.ip(), from.port(), ping.from.tcp));
        let peer = PeerKey::of(&node);
        let tcp = ping.from.tcp;
        let ours = Unanswered { from, hash, tcp };
        // Whoever has our pong takes us for a node, and tells others of us.
        let wanted = || self.contacts.get(&peer).is_some_and(Contact::wants);
        if self.guest && !wanted() {
            self.leave_unanswered(now, &node, ours);
            return Err(Drop::Unsolicited);
        }
        self.send_pong(now, peer, ours);
        if self.bonds.is_proven(&peer, now.unix) {
            // Only of the proven: an id and a forged source cost nothing, a row in the database does.
            self.write(Write::Ping {
                id: peer.id,
                ip: peer.ip,
                at: now.unix,
            });
            let proof = Proof::Contact;
            self.report(Report::Heard {
                node: node.clone(),
                proof,
            });
            if let Some(seq) = ping.enr_seq {
                self.report(Report::Newer { node, seq });
            }
        } else if !self.ping_back(now, node) {
            return Err(Drop::Full);
        }
        self.on_greeted(now, peer);
        Ok(())
    }

    fn on_pong(&mut self, now: Now, table: &Table, peer: PeerKey, pong: &Pong) -> Result<(), Drop> {
        let contact = self.contacts.get_mut(&peer).ok_or(Drop::Unsolicited)?;
        let ping = contact
            .ping
            .take_if(|ping| ping.hash == Some(pong.ping_hash))
            .ok_or(Drop::Unsolicited)?;
        let (node, inbound) = (contact.node.clone(), contact.inbound);
        let asked = contact.asked.take();
        self.contacts.disarm(peer, Slot::Ping);
        self.bonds.on_pong(peer, now.unix);
        let (PeerKey { id, ip }, at) = (peer, now.unix);
        self.write(Write::Pong { id, ip, at });
        if let Some(at) = self.bonds.last_ping(&peer) {
            self.write(Write::Ping { id, ip, at });
        }
        if inbound {
            let proof = Proof::Answer(Protocol::V4);
            self.report(Report::Heard {
                node: node.clone(),
                proof,
            });
            let from = node.endpoint().udp_addr();
            self.report(Report::Unsolicited { from });
        } else {
            self.report(Report::Alive(node.clone()));
        }
        let seen_as = seen_as(&pong.to);
        if let Some(seen_as) = seen_as {
            self.report(Report::Vote { voter: ip, seen_as });
        }
        let info = PongInfo {
            rtt: now.mono - ping.sent,
            enr_seq: pong.enr_seq,
            seen_as,
        };
        for asker in ping.askers {
            let node = node.clone();
            self.report(Report::Pong { asker, node, info });
        }
        if let Some((from, target)) = asked {
            self.send_neighbors(now, table, (from, peer), target);
        }
        if let Some(seq) = pong.enr_seq {
            self.report(Report::Newer { node, seq });
        }
        self.await_greeting(now, peer);
        Ok(())
    }

    fn on_find_node(
        &mut self,
        now: Now,
        table: &Table,
        (from, peer): (SocketAddr, PeerKey),
        find: &FindNode,
    ) -> Result<(), Drop> {
        if self.bonds.is_proven(&peer, now.unix) {
            self.send_neighbors(now, table, (from, peer), find.target);
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

    fn send_neighbors(
        &mut self,
        now: Now,
        table: &Table,
        (from, peer): (SocketAddr, PeerKey),
        target: WireTarget,
    ) {
        let relayed = |node: &Node, live: Protocols| {
            live.contains(Protocol::V4)
                && node.id() != peer.id
                && check_relay(peer.ip, node.endpoint().ip).is_ok()
        };
        let nodes: Vec<Neighbor> = table
            .closest(&target.id(), BUCKET_SIZE, relayed)
            .into_iter()
            .map(Neighbor::from)
            .collect();
        for packet in Neighbors::split(&nodes, Self::expiration(now)) {
            self.send(from, Message::Neighbors(packet), None);
        }
    }

    /// Neighbors say neither which request they answer nor how many packets there are. At a packet that is not full the
    /// asker goes on; after a full one a second may follow at once. What the network delivers out of order is taken
    /// until the request's deadline, and where answers of one peer cannot be told apart, each asker hears of all.
    fn on_neighbors(&mut self, now: Now, peer: PeerKey, packet: Neighbors) -> Result<(), Drop> {
        let count = packet.nodes.len();
        let find = self.gather(now, peer, count);
        // An empty packet takes a place too, so that a peer cannot send them without end.
        let rest = find.map_or(count.max(1), |find| count.saturating_sub(find.room));
        let (late_room, mut askers) = self.late.take(now.mono, &peer, rest);
        askers.extend(find.map(|find| find.asker));
        if askers.is_empty() {
            return Err(Drop::Unsolicited);
        }
        let room = late_room + find.map_or(0, |find| find.room);
        let nodes: Vec<Node> = packet
            .nodes
            .into_iter()
            .take(room)
            .map(|neighbor| Node::new(neighbor.key, neighbor.endpoint))
            .filter(|node| self.policy.is_relayable(peer.ip, node))
            .collect();
        let mut copies = std::iter::repeat_n(nodes, askers.len());
        for asker in askers {
            let nodes = copies.next().unwrap_or_default();
            self.report(Report::Nodes {
                asker,
                from: peer.id,
                nodes,
                last: false,
            });
        }
        if let Some(ended) = find.and_then(|find| find.ended) {
            if (1..=OVERTAKING).contains(&count) && count == ended.received.unwrap_or(0) {
                let (asker, until) = (ended.asker, now.mono + GATHER);
                self.report(Report::Linger { asker, until });
            }
            self.on_find_end(now, peer, ended);
            self.advance(now, peer);
        }
        Ok(())
    }

    /// Counts a packet of `count` neighbours towards the question under way, if there is one, and ends it if the asker need
    /// not wait for more.
    fn gather(&mut self, now: Now, peer: PeerKey, count: usize) -> Option<Gathered> {
        let contact = self.contacts.get_mut(&peer)?;
        let find = contact.find.as_mut()?;
        let received = find.received.unwrap_or(0);
        let (asker, room) = (find.asker, BUCKET_SIZE.saturating_sub(received));
        find.received = Some(received + count);
        let deadline = find.deadline.min(now.mono + GATHER);
        // A caller who asks one node gets one answer, so it must be whole; a lookup learns the rest later.
        let overtaken = received == 0 && (1..=OVERTAKING).contains(&count);
        let patient = overtaken && matches!(asker, Asker::Op(_));
        let ended = contact
            .find
            .take_if(|_| count >= room || (count < MAX_NEIGHBORS_PER_PACKET && !patient));
        match ended {
            Some(_) => self.contacts.disarm(peer, Slot::Find),
            None => self.contacts.arm(peer, Slot::Find, deadline),
        }
        Some(Gathered { asker, room, ended })
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
        self.bonds.on_answer(peer, now.unix);
        let record = response.record;
        if record.id() == peer.id {
            let node = self.with_record(peer.ip, known, &record);
            for asker in enr.wants {
                let (node, record) = (node.clone(), record.clone());
                self.report(Report::Record {
                    asker,
                    node,
                    record,
                });
            }
        } else {
            self.fail(peer, enr.wants, RequestError::WrongRecord);
        }
        self.advance(now, peer);
        Ok(())
    }

    /// The node with its record, at the endpoint the record names if that may be believed: a record says
    /// whatever its owner likes.
    fn with_record(&self, sender: IpAddr, known: Node, record: &NodeRecord) -> Node {
        match self.policy.node(record.clone()) {
            Some(node) if self.policy.is_relayable(sender, &node) => node,
            _ => known.clone().with_record(record.clone()).unwrap_or(known),
        }
    }
}

/// The address a pong says, if it is one.
fn seen_as(to: &WireEndpoint) -> Option<SocketAddr> {
    let ip = to.ip.filter(|ip| !ip.is_unspecified())?;
    (to.udp != 0).then(|| SocketAddr::new(canonical_ip(ip), to.udp))
}
