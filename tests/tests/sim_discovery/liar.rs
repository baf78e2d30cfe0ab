//! Nodes that lie. They answer pings, so that they are believed to live, and questions with whatever suits them. What they
//! name was prepared before the run; it is drawn from by closeness to the target, as if they had ground keys for it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tercet_discovery::v4::{
    self, EnrResponse, FindNode, Neighbor, Neighbors, Ping, Pong, WireEndpoint,
};
use tercet_discovery::v5::{self, Distances, Request, RequestId, Response, V5Peer, pack_nodes};
use tercet_discovery::{BUCKET_SIZE, CoreInput, Protocols};
use tercet_enode::{Endpoint, Node, NodeId, NodeRecord};
use tercet_machine::{MachineRng, MonoTime, Now};

use crate::node::{Codec, Input, Output};
use crate::packet::Datagram;

/// How often a liar makes itself known to somebody.
const KNOCK: Duration = Duration::from_secs(1);
/// Nodes it knocks at each time.
const KNOCKS: usize = 4;

/// What a liar names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tactic {
    /// Honest nodes where they are not (discv4, where nobody signs that); over discv5, nobody.
    WrongPlaces,
    /// Nodes nobody runs.
    Dead,
    /// The other liars.
    Each,
}

/// What all liars of a scenario know.
#[derive(Default)]
pub(crate) struct Conspiracy {
    pub(crate) misplaced: Vec<Node>,
    pub(crate) dead: Vec<Node>,
    pub(crate) liars: Vec<Node>,
    /// Whom they want to be known by.
    pub(crate) marks: Vec<Node>,
}

pub(crate) struct Liar {
    codec: Codec,
    tactic: Tactic,
    plan: Arc<Conspiracy>,
    rng: MachineRng,
    next_knock: MonoTime,
    next_request: u64,
    out: VecDeque<Output>,
}

impl Liar {
    pub(crate) fn new(
        codec: Codec,
        tactic: Tactic,
        plan: Arc<Conspiracy>,
        mut rng: MachineRng,
        now: Now,
    ) -> Self {
        let first = Duration::from_nanos(rng.random_range(1..=KNOCK.as_nanos() as u64));
        Self {
            codec,
            tactic,
            plan,
            rng,
            next_knock: now.mono + first,
            next_request: 0,
            out: VecDeque::new(),
        }
    }

    pub(crate) fn handle(&mut self, now: Now, input: Input) {
        let Input::Datagram { from, packet } = input else {
            return;
        };
        let (packets, inputs) = self.codec.read(from, *packet);
        for packet in packets {
            self.send(from, packet);
        }
        for input in inputs {
            match input {
                CoreInput::V4Packet {
                    hash, message, key, ..
                } => self.answer_v4(now, from, (key.node_id(), hash), message),
                CoreInput::V5Message { id, message, .. } => self.answer_v5(now, from, id, message),
                _ => {}
            }
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Now) {
        if self.next_knock > now.mono {
            return;
        }
        self.next_knock = now.mono + KNOCK;
        let plan = Arc::clone(&self.plan);
        for _ in 0..KNOCKS.min(plan.marks.len()) {
            let Some(mark) = plan
                .marks
                .get(self.rng.random_range(0..plan.marks.len().max(1)))
            else {
                return;
            };
            let to = mark.endpoint().udp_addr();
            if self.codec.protocols.and(Protocols::V4) == Protocols::V4 {
                self.ping_v4(now, to);
            }
            if self.codec.protocols.and(Protocols::V5) == Protocols::V5 {
                let request = RequestId::new(&self.next_request.to_be_bytes()).unwrap();
                self.next_request += 1;
                let enr_seq = self.codec.record.seq();
                let key = Some(mark.public_key());
                let ping = v5::Message::Request(request, Request::Ping { enr_seq });
                self.send_v5(now, to, V5Peer { id: mark.id(), key }, ping);
            }
        }
    }

    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        (!self.plan.marks.is_empty()).then_some(self.next_knock)
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn answer_v4(
        &mut self,
        now: Now,
        from: SocketAddr,
        (id, hash): (NodeId, v4::PacketHash),
        message: v4::Message,
    ) {
        let expiration = expiration(now);
        match message {
            v4::Message::Ping(ping) => {
                self.send_v4(
                    from,
                    v4::Message::Pong(Pong {
                        to: WireEndpoint::new(from.ip(), from.port(), ping.from.tcp),
                        ping_hash: hash,
                        expiration,
                        enr_seq: Some(self.codec.record.seq()),
                    }),
                );
            }
            v4::Message::FindNode(FindNode { target, .. }) => {
                let lies: Vec<Neighbor> = self
                    .lies(&target.id(), id, |_| true)
                    .iter()
                    .map(Neighbor::from)
                    .collect();
                for packet in Neighbors::split(&lies, expiration) {
                    self.send_v4(from, v4::Message::Neighbors(packet));
                }
            }
            v4::Message::EnrRequest(_) => {
                let record = self.codec.record.clone();
                let request_hash = hash;
                self.send_v4(
                    from,
                    v4::Message::EnrResponse(EnrResponse {
                        request_hash,
                        record,
                    }),
                );
            }
            v4::Message::Pong(_) | v4::Message::Neighbors(_) | v4::Message::EnrResponse(_) => {}
        }
    }

    fn answer_v5(&mut self, now: Now, from: SocketAddr, id: NodeId, message: v5::Message) {
        let v5::Message::Request(request, ask) = message else {
            return;
        };
        let peer = V5Peer { id, key: None };
        match ask {
            Request::Ping { .. } => {
                let enr_seq = self.codec.record.seq();
                let pong = Response::Pong {
                    enr_seq,
                    recipient: from,
                };
                self.send_v5(now, from, peer, v5::Message::Response(request, pong));
            }
            Request::FindNode { distances } => {
                let records = self.records(&distances, id);
                for message in pack_nodes(request, records) {
                    self.send_v5(now, from, peer, message);
                }
            }
            Request::Talk { .. } => {}
        }
    }

    fn records(&self, distances: &Distances, asker: NodeId) -> Vec<NodeRecord> {
        let (own, asked) = (self.codec.record.id(), distances.as_slice());
        let at = |node: &Node| asked.contains(&own.log_distance(&node.id()));
        let mut records: Vec<NodeRecord> = if asked.contains(&0) {
            vec![self.codec.record.clone()]
        } else {
            Vec::new()
        };
        // The asker's own id is the best guess of what it is interested in.
        let lies = self.lies(&asker, asker, at);
        records.extend(lies.into_iter().filter_map(|node| node.record().cloned()));
        records.truncate(BUCKET_SIZE);
        records
    }

    /// The sixteen of the tactic's nodes nearest to a target.
    fn lies(&self, target: &NodeId, asker: NodeId, keep: impl Fn(&Node) -> bool) -> Vec<Node> {
        let pool = match self.tactic {
            Tactic::WrongPlaces => &self.plan.misplaced,
            Tactic::Dead => &self.plan.dead,
            Tactic::Each => &self.plan.liars,
        };
        let mut lies: Vec<&Node> = pool
            .iter()
            .filter(|node| node.id() != asker && keep(node))
            .collect();
        if lies.len() > BUCKET_SIZE {
            lies.select_nth_unstable_by(BUCKET_SIZE, |a, b| target.cmp_distance(&a.id(), &b.id()));
            lies.truncate(BUCKET_SIZE);
        }
        lies.sort_by(|a, b| target.cmp_distance(&a.id(), &b.id()));
        lies.into_iter().cloned().collect()
    }

    fn ping_v4(&mut self, now: Now, to: SocketAddr) {
        let Endpoint { ip, udp, tcp } = self.codec.record.endpoint().unwrap();
        self.send_v4(
            to,
            v4::Message::Ping(Ping {
                from: WireEndpoint::new(ip, udp, tcp),
                to: WireEndpoint::new(to.ip(), to.port(), 0),
                expiration: expiration(now),
                enr_seq: Some(self.codec.record.seq()),
            }),
        );
    }

    fn send(&mut self, to: SocketAddr, packet: Datagram) {
        let packet = Box::new(packet);
        self.out.push_back(Output::Datagram { to, packet });
    }

    fn send_v4(&mut self, to: SocketAddr, message: v4::Message) {
        let (_, packet) = self.codec.write_v4(message);
        self.send(to, packet);
    }

    fn send_v5(&mut self, now: Now, to: SocketAddr, peer: V5Peer, message: v5::Message) {
        let own = self.codec.record.id();
        let packet = self.codec.sessions.send(now.mono, own, to, peer, message);
        if let Some(packet) = packet {
            self.send(to, packet);
        }
    }
}

fn expiration(now: Now) -> u64 {
    now.unix.as_secs() + 20
}
