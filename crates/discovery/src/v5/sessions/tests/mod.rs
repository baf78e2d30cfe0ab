//! Two or three machines on a wire that does what the test says.

mod bounds;
mod crossing;
mod rules;

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::Strategy;
use tercet_machine::check::START;

use super::*;
use crate::v5::codec::MAX_MESSAGE;
use crate::v5::message::{Distances, Request, RequestId, Response};
use crate::v5::packet::{CHALLENGE_DATA, Draft, MAX_PACKET, handshake_len};
use crate::v5::session_io::V5Peer;

/// A machine at an address, and what came out of it.
struct Node {
    key: SecretKey,
    addr: SocketAddr,
    machine: Sessions,
    /// Whether it knows the records of others, as one with a table does.
    knows: bool,
    heard: Vec<(NodeId, WireMessage)>,
    established: Vec<(NodeId, Option<NodeRecord>, bool)>,
}

struct Datagram {
    from: usize,
    to: usize,
    bytes: Bytes,
}

struct Wire {
    nodes: Vec<Node>,
    now: Now,
    flying: VecDeque<Datagram>,
    sent: usize,
}

fn secret(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n + 1; 32]).unwrap()
}

fn record(key: &SecretKey, seq: u64) -> NodeRecord {
    NodeRecord::builder().seq(seq).sign(key).unwrap()
}

fn addr(n: u8) -> SocketAddr {
    SocketAddr::new([20, 0, n, 1].into(), 30_303)
}

fn machine(n: u8) -> Sessions {
    let key = secret(n);
    let record = record(&key, 1);
    Sessions::new(SessionsConfig::new([n; 32]), key, record)
}

fn ping(id: u64) -> Message {
    let id = RequestId::new(&id.to_be_bytes()).unwrap();
    Message::Request(id, Request::Ping { enr_seq: 1 })
}

fn pong(id: RequestId) -> Message {
    let recipient = addr(0);
    Message::Response(
        id,
        Response::Pong {
            enr_seq: 1,
            recipient,
        },
    )
}

fn peer(key: &SecretKey) -> V5Peer {
    V5Peer {
        id: key.node_id(),
        key: Some(key.public_key()),
    }
}

impl Wire {
    fn new(count: u8) -> Self {
        let node = |n| Node {
            key: secret(n),
            addr: addr(n),
            machine: machine(n),
            knows: false,
            heard: Vec::new(),
            established: Vec::new(),
        };
        Self {
            nodes: (0..count).map(node).collect(),
            now: START,
            flying: VecDeque::new(),
            sent: 0,
        }
    }

    fn request(&mut self, from: usize, to: usize, message: Message) {
        let (to, peer) = (self.nodes[to].addr, peer(&self.nodes[to].key));
        let input = SessionInput::Send { to, peer, message };
        self.nodes[from].machine.handle(self.now, input);
        self.drain(from);
    }

    fn drain(&mut self, at: usize) {
        while let Some(output) = self.nodes[at].machine.poll() {
            match output {
                SessionOutput::Send { to, datagram } => {
                    assert!(datagram.len() <= MAX_PACKET);
                    self.sent += 1;
                    if let Some(to) = self.nodes.iter().position(|node| node.addr == to) {
                        self.flying.push_back(Datagram {
                            from: at,
                            to,
                            bytes: datagram,
                        });
                    }
                }
                SessionOutput::Message { from, id, message } => {
                    self.answer(at, from, id, &message);
                    self.nodes[at].heard.push((id, message));
                }
                SessionOutput::Established {
                    id,
                    record,
                    inbound,
                    ..
                } => self.nodes[at].established.push((id, record, inbound)),
                SessionOutput::Unknown { from, id, nonce } => {
                    let known = self.nodes[at].knows.then(|| {
                        let node = self.nodes.iter().find(|node| node.key.node_id() == id);
                        record(&node.unwrap().key, 1)
                    });
                    let input = SessionInput::Challenge {
                        from,
                        id,
                        nonce,
                        known,
                    };
                    self.nodes[at].machine.handle(self.now, input);
                }
            }
        }
    }

    fn answer(&mut self, at: usize, from: SocketAddr, id: NodeId, message: &WireMessage) {
        if let Message::Request(request, Request::Ping { .. }) = message {
            let peer = V5Peer { id, key: None };
            let message = pong(*request);
            let input = SessionInput::Send {
                to: from,
                peer,
                message,
            };
            self.nodes[at].machine.handle(self.now, input);
        }
    }

    fn deliver(&mut self, datagram: &Datagram) {
        let from = self.nodes[datagram.from].addr;
        self.inject(datagram.to, from, &datagram.bytes);
    }

    fn inject(&mut self, to: usize, from: SocketAddr, bytes: &[u8]) {
        let datagram = BytesMut::from(bytes);
        let input = SessionInput::Datagram { from, datagram };
        self.nodes[to].machine.handle(self.now, input);
        self.drain(to);
    }

    /// Delivers everything in order until nothing flies.
    fn run(&mut self) {
        let mut delivered = 0;
        while let Some(datagram) = self.flying.pop_front() {
            self.deliver(&datagram);
            delivered += 1;
            assert!(delivered < 1000, "this does not end");
        }
    }

    fn wait(&mut self, duration: Duration) {
        self.now = self.now.after(duration);
        for at in 0..self.nodes.len() {
            self.nodes[at].machine.handle_timeout(self.now);
            self.drain(at);
        }
    }

    fn pongs(&self, at: usize) -> Vec<u64> {
        let pong = |(_, message): &(NodeId, WireMessage)| match message {
            Message::Response(id, Response::Pong { .. }) => {
                Some(u64::from_be_bytes(id.as_bytes().try_into().unwrap()))
            }
            _ => None,
        };
        self.nodes[at].heard.iter().filter_map(pong).collect()
    }

    fn next(&mut self) -> Datagram {
        self.flying.pop_front().unwrap()
    }

    fn dropped(&self, at: usize, reason: SessionDrop) -> u64 {
        self.nodes[at].machine.counters().dropped(reason)
    }
}
