//! A network of nodes that only answer: each with its own key and address, a table of the others as Kademlia would have it, and both
//! protocols by the library's codecs. No lookups, no table upkeep, no clock: what a crawler costs is seen against them.
#![allow(dead_code, unreachable_pub)] // each test file uses its share
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a failed expectation is the test's result

pub mod net;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tercet_discovery::Protocols;
use tercet_discovery::v4::{self, EnrResponse, Neighbors, Ping, Pong, WireEndpoint, codec};
use tercet_discovery::v5::{
    Message, Request, Response, SessionInput, SessionOutput, Sessions, SessionsConfig, V5Peer,
    pack_nodes,
};
use tercet_enode::{Node, NodeId, NodeRecord, SecretKey};
use tercet_machine::{Machine, MachineRng, Now};

/// Nodes in a bucket, and in an answer.
const BUCKET: usize = 16;

/// All nodes, by id.
pub struct World {
    pub nodes: Vec<Node>,
}

/// The key of the node with this number.
pub fn key(number: usize) -> SecretKey {
    let mut seed = [0x5a; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    SecretKey::generate(&mut MachineRng::from_seed(seed))
}

/// The record of node `number` at `addr`. Even ones say that they serve snap, and all that they are at mainnet's first fork.
pub fn record(number: usize, addr: SocketAddr) -> NodeRecord {
    let mut record = NodeRecord::builder()
        .seq(1)
        .ip(addr.ip())
        .udp(addr.port())
        .eth([0xfc, 0x64, 0xec, 0x04], 1_150_000);
    if number.is_multiple_of(2) {
        record = record.snap();
    }
    record.sign(&key(number)).unwrap()
}

impl World {
    /// The nodes with numbers from 0 at `addrs`.
    pub fn new(addrs: &[SocketAddr]) -> Arc<Self> {
        let nodes = addrs.iter().enumerate();
        let nodes = nodes.map(|(number, addr)| Node::from_record(record(number, *addr)).unwrap());
        let mut nodes: Vec<Node> = nodes.collect();
        nodes.sort_by_key(Node::id);
        Arc::new(Self { nodes })
    }

    pub fn node(&self, number: usize) -> &Node {
        let id = key(number).node_id();
        &self.nodes[self.nodes.binary_search_by_key(&id, Node::id).unwrap()]
    }
}

/// One node.
pub struct Responder {
    key: SecretKey,
    node: Node,
    speaks: Protocols,
    world: Arc<World>,
    /// Indexes of those it knows, by log distance.
    table: Vec<(u16, usize)>,
    sessions: Sessions,
    bonds: HashSet<SocketAddr>,
    /// Requests that were answered.
    pub answered: u64,
}

impl Responder {
    pub fn new(world: &Arc<World>, number: usize, speaks: Protocols) -> Self {
        let node = world.node(number).clone();
        let key = key(number);
        let mut table = Vec::new();
        let mut room = [BUCKET; 257];
        // Which of a bucket a node knows differs from node to node.
        let start = number * 7919 % world.nodes.len();
        for turn in 0..world.nodes.len() {
            let index = (start + turn) % world.nodes.len();
            let distance = node.id().log_distance(&world.nodes[index].id());
            if distance > 0 && room[usize::from(distance)] > 0 {
                room[usize::from(distance)] -= 1;
                table.push((distance, index));
            }
        }
        let config = SessionsConfig {
            sessions: 16,
            ..SessionsConfig::new(*key.node_id().as_bytes())
        };
        Self {
            sessions: Sessions::new(config, key.clone(), node.record().unwrap().clone()),
            key,
            node,
            speaks,
            world: Arc::clone(world),
            table,
            bonds: HashSet::new(),
            answered: 0,
        }
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Takes a datagram and gives out what it brings about.
    pub fn take(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) -> Vec<Bytes> {
        if self.sessions.covers(datagram) {
            if !self.speaks.contains(tercet_discovery::Protocol::V5) {
                return Vec::new();
            }
            let datagram = BytesMut::from(datagram);
            self.sessions
                .handle(now, SessionInput::Datagram { from, datagram });
            return self.drain(now);
        }
        match codec::decode(datagram) {
            Ok(packet) if self.speaks.contains(tercet_discovery::Protocol::V4) => {
                self.take_v4(now, from, &packet)
            }
            _ => Vec::new(),
        }
    }

    fn take_v4(&mut self, now: Now, from: SocketAddr, packet: &codec::Packet) -> Vec<Bytes> {
        let expiration = now.unix.as_secs() + 20;
        let to = WireEndpoint::new(from.ip(), from.port(), 0);
        let own = self.node.record().unwrap();
        let replies = match &packet.message {
            v4::Message::Ping(_) => {
                let pong = v4::Message::Pong(Pong {
                    to,
                    ping_hash: packet.hash,
                    expiration,
                    enr_seq: Some(own.seq()),
                });
                let ping = v4::Message::Ping(Ping {
                    from: WireEndpoint::new(self.node.endpoint().ip, self.node.endpoint().udp, 0),
                    to,
                    expiration,
                    enr_seq: Some(own.seq()),
                });
                if self.bonds.contains(&from) {
                    vec![pong]
                } else {
                    vec![pong, ping]
                }
            }
            v4::Message::Pong(_) => {
                self.bonds.insert(from);
                Vec::new()
            }
            v4::Message::EnrRequest(_) if self.bonds.contains(&from) => {
                let record = own.clone();
                vec![v4::Message::EnrResponse(EnrResponse {
                    request_hash: packet.hash,
                    record,
                })]
            }
            v4::Message::FindNode(find) if self.bonds.contains(&from) => {
                let target = find.target.id();
                let mut known: Vec<&Node> = self
                    .table
                    .iter()
                    .map(|(_, index)| &self.world.nodes[*index])
                    .collect();
                known.sort_by(|a, b| target.cmp_distance(&a.id(), &b.id()));
                let nearest: Vec<_> = known
                    .into_iter()
                    .take(BUCKET)
                    .map(v4::Neighbor::from)
                    .collect();
                Neighbors::split(&nearest, expiration)
                    .map(v4::Message::Neighbors)
                    .collect()
            }
            _ => Vec::new(),
        };
        self.answered += u64::from(!replies.is_empty());
        replies
            .iter()
            .map(|message| codec::encode(&self.key, message).0)
            .collect()
    }

    fn drain(&mut self, now: Now) -> Vec<Bytes> {
        let mut sent = Vec::new();
        while let Some(output) = self.sessions.poll() {
            match output {
                SessionOutput::Send { datagram, .. } => sent.push(datagram),
                SessionOutput::Unknown { from, id, nonce } => {
                    let known = None;
                    self.sessions.handle(
                        now,
                        SessionInput::Challenge {
                            from,
                            id,
                            nonce,
                            known,
                        },
                    );
                }
                SessionOutput::Message {
                    from,
                    id,
                    message: Message::Request(request, asked),
                } => {
                    self.answered += 1;
                    for message in self.answer(from, request, &asked) {
                        let peer = V5Peer { id, key: None };
                        self.sessions.handle(
                            now,
                            SessionInput::Send {
                                to: from,
                                peer,
                                message,
                            },
                        );
                    }
                }
                SessionOutput::Message { .. } | SessionOutput::Established { .. } => {}
            }
        }
        sent
    }

    fn answer(
        &self,
        from: SocketAddr,
        id: tercet_discovery::v5::RequestId,
        asked: &Request,
    ) -> Vec<Message> {
        let own = self.node.record().unwrap();
        match asked {
            Request::FindNode { distances } => {
                let records = distances.as_slice().iter().flat_map(|distance| {
                    let bucket = self.table.iter().filter(move |(at, _)| at == distance);
                    let named = bucket.map(|(_, index)| self.world.nodes[*index].record().unwrap());
                    (*distance == 0).then_some(own).into_iter().chain(named)
                });
                pack_nodes(id, records.take(BUCKET).cloned())
            }
            Request::Ping { .. } => {
                vec![Message::Response(
                    id,
                    Response::Pong {
                        enr_seq: own.seq(),
                        recipient: from,
                    },
                )]
            }
            Request::Talk { .. } => vec![Message::Response(
                id,
                Response::Talk {
                    payload: Bytes::new(),
                },
            )],
        }
    }

    /// Whether it still holds a proof of `addr`.
    pub fn is_bonded(&self, addr: SocketAddr) -> bool {
        self.bonds.contains(&addr)
    }

    /// Forgets all sessions and proofs, as a restart would.
    pub fn restart(&mut self) {
        let mut seed = *self.key.node_id().as_bytes();
        seed[31] ^= 1;
        let own = self.node.record().unwrap().clone();
        self.sessions = Sessions::new(SessionsConfig::new(seed), self.key.clone(), own);
        self.bonds.clear();
    }
}

/// An id nobody has.
pub fn stranger() -> NodeId {
    key(usize::MAX).node_id()
}
