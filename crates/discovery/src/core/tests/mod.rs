//! The machine played at message level: a small network in virtual time, and single machines whose every
//! output is looked at.

mod answers;
mod bounds;
mod early;
mod families;
mod guest;
mod homeless;
mod late;
mod mixed;
mod network;
mod refreshes;
mod rules;
mod second;
mod tabled;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tercet_enode::{Endpoint, Node, NodeRecord, PublicKey, SecretKey};
use tercet_machine::{Machine, MachineRng, MonoTime, Now, UnixTime};
use tercet_nodedb::Write;

use super::*;
use crate::engine::{Protocols, Target};
use crate::v4::{
    Message, MessageKind, Neighbors, PacketHash, Ping, Pong, WireEndpoint, WireTarget,
};

pub(super) const START: Now = Now {
    mono: MonoTime::ZERO,
    unix: UnixTime::from_secs(1_700_000_000),
};

pub(super) fn key(n: u64) -> SecretKey {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    SecretKey::generate(&mut MachineRng::from_seed(seed))
}

pub(super) fn public(n: u64) -> PublicKey {
    key(n).public_key()
}

/// A global address of its own /24 for each `n`.
pub(super) fn address(n: u64) -> SocketAddr {
    let [.., a, b, c] = (n + 1).to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(20 + a, b, c, 7)), 30303)
}

pub(super) fn node_at(n: u64, at: SocketAddr) -> Node {
    Node::new(public(n), Endpoint::new(at.ip(), at.port(), at.port()))
}

pub(super) fn node(n: u64) -> Node {
    node_at(n, address(n))
}

pub(super) fn record_at(n: u64, at: SocketAddr, seq: u64) -> NodeRecord {
    NodeRecord::builder()
        .seq(seq)
        .ip(at.ip())
        .udp(at.port())
        .tcp(at.port())
        .sign(&key(n))
        .unwrap()
}

pub(super) fn config(n: u64) -> CoreConfig {
    let mut seed = [9; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    CoreConfig {
        protocols: Protocols::V4,
        ..CoreConfig::new(seed)
    }
}

pub(super) fn hash(n: u64) -> PacketHash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    PacketHash::new(bytes)
}

/// One machine, node 0, and the test in the place of everybody else.
pub(super) struct Bench {
    pub(super) core: DiscoveryCore,
    pub(super) now: Now,
    pub(super) hashes: u64,
    pub(super) sent: Vec<(SocketAddr, Message, PacketHash)>,
    pub(super) writes: Vec<Write>,
    pub(super) done: Vec<(OpId, Result<Reply, RequestError>)>,
    /// Everything else.
    pub(super) said: Vec<CoreOutput>,
}

impl Bench {
    /// After its first refresh, with an empty table and nothing under way.
    pub(super) fn new(config: CoreConfig) -> Self {
        let mut bench = Self::unborn(config);
        bench.core.handle_timeout(bench.now);
        bench.drain();
        bench
    }

    pub(super) fn unborn(config: CoreConfig) -> Self {
        let core = DiscoveryCore::new(config, record_at(0, address(0), 1), START);
        Self {
            core,
            now: START,
            hashes: 0,
            sent: vec![],
            writes: vec![],
            done: vec![],
            said: vec![],
        }
    }

    pub(super) fn drain(&mut self) {
        while let Some(output) = self.core.poll() {
            match output {
                CoreOutput::V4Send { to, message, token } => {
                    self.hashes += 1;
                    let hash = hash(self.hashes);
                    if let Some(token) = token {
                        self.core
                            .handle(self.now, CoreInput::V4Sent { token, hash });
                    }
                    self.sent.push((to, message, hash));
                }
                CoreOutput::Write(write) => self.writes.push(write),
                CoreOutput::LoadSeeds { .. } => {
                    self.core.handle(self.now, CoreInput::Seeds(vec![]));
                }
                CoreOutput::Done { op, result } => self.done.push((op, result)),
                other => self.said.push(other),
            }
        }
    }

    pub(super) fn input(&mut self, input: CoreInput) {
        self.core.handle(self.now, input);
        self.drain();
    }

    pub(super) fn command(&mut self, op: u64, command: Command) {
        self.input(CoreInput::Command {
            op: OpId(op),
            command,
        });
    }

    pub(super) fn wait(&mut self, duration: Duration) {
        let end = self.now.after(duration);
        while let Some(at) = self.core.deadline().filter(|at| *at <= end.mono) {
            self.now = self.now.after(at - self.now.mono);
            self.core.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    pub(super) fn expiration(&self) -> u64 {
        self.now.unix.as_secs() + 20
    }

    /// Node `n` sends a message from its address.
    pub(super) fn receive(&mut self, n: u64, message: Message) {
        self.receive_from(n, address(n), message);
    }

    pub(super) fn receive_from(&mut self, n: u64, from: SocketAddr, message: Message) {
        self.hashes += 1;
        let hash = hash(self.hashes);
        self.input(CoreInput::V4Packet {
            from,
            key: public(n),
            hash,
            message,
        });
    }

    pub(super) fn ping_from(&mut self, n: u64, at: SocketAddr, enr_seq: Option<u64>) {
        let from = WireEndpoint::new(at.ip(), at.port(), at.port());
        let ping = Ping {
            from,
            to: WireEndpoint::default(),
            expiration: self.expiration(),
            enr_seq,
        };
        self.receive_from(n, at, Message::Ping(ping));
    }

    /// Answers the last ping sent to node `n`.
    pub(super) fn answer_ping(&mut self, n: u64, at: SocketAddr, enr_seq: Option<u64>) {
        let ping_hash = self.last(at, MessageKind::Ping).expect("a ping was sent");
        let to = WireEndpoint::default();
        self.receive_from(
            n,
            at,
            Message::Pong(Pong {
                to,
                ping_hash,
                expiration: self.expiration(),
                enr_seq,
            }),
        );
    }

    /// Node `n` pings us and answers our ping: both hold a proof of each other.
    pub(super) fn bond(&mut self, n: u64) {
        self.bond_at(n, address(n));
    }

    pub(super) fn bond_at(&mut self, n: u64, at: SocketAddr) {
        self.ping_from(n, at, None);
        self.answer_ping(n, at, None);
    }

    /// Nodes in `numbers` answer what has been sent to them: pings, and questions with nobody. Returns the targets asked
    /// for.
    pub(super) fn serve(&mut self, numbers: &[u64]) -> Vec<WireTarget> {
        let mut targets = vec![];
        while let Some(at) = self
            .sent
            .iter()
            .position(|(to, ..)| numbers.iter().any(|n| address(*n) == *to))
        {
            let (to, message, ping_hash) = self.sent.remove(at);
            let n = *numbers.iter().find(|n| address(**n) == to).unwrap();
            let expiration = self.expiration();
            match message {
                Message::Ping(_) => {
                    let to = WireEndpoint::default();
                    self.receive(
                        n,
                        Message::Pong(Pong {
                            to,
                            ping_hash,
                            expiration,
                            enr_seq: None,
                        }),
                    );
                }
                Message::FindNode(find) => {
                    targets.push(find.target);
                    self.receive(
                        n,
                        Message::Neighbors(Neighbors {
                            nodes: vec![],
                            expiration,
                        }),
                    );
                }
                _ => {}
            }
        }
        targets
    }

    pub(super) fn last(&self, to: SocketAddr, kind: MessageKind) -> Option<PacketHash> {
        self.sent
            .iter()
            .rev()
            .find(|(at, message, _)| *at == to && message.kind() == kind)
            .map(|(.., hash)| *hash)
    }

    /// Kinds of the messages sent to `to` since the last call for anybody.
    pub(super) fn take_sent(&mut self, to: SocketAddr) -> Vec<MessageKind> {
        let sent = std::mem::take(&mut self.sent);
        sent.into_iter()
            .filter(|(at, ..)| *at == to)
            .map(|(_, message, _)| message.kind())
            .collect()
    }
}

enum Packet {
    V4(PacketHash, Message),
    V5(v5::Message),
}

/// A network of machines with a fixed delay, each answering as the real thing.
pub(super) struct Net {
    pub(super) cores: Vec<DiscoveryCore>,
    addrs: Vec<SocketAddr>,
    pub(super) now: Now,
    delay: Duration,
    queue: BinaryHeap<Reverse<(MonoTime, u64)>>,
    flying: std::collections::HashMap<u64, (usize, SocketAddr, Packet)>,
    /// Who has a discv5 session with whom.
    sessions: std::collections::HashSet<(usize, usize)>,
    serial: u64,
    pub(super) done: Vec<(usize, OpId, Result<Reply, RequestError>)>,
}

impl Net {
    /// `n` machines that know node 0 only.
    pub(super) fn new(n: u64, delay: Duration, address: impl Fn(u64) -> SocketAddr) -> Self {
        Self::speaking(n, delay, address, |_| Protocols::V4)
    }

    /// The same, each speaking its protocols. Where discv5 is among them they know the record of node 0 too.
    pub(super) fn speaking(
        n: u64,
        delay: Duration,
        address: impl Fn(u64) -> SocketAddr,
        protocols: impl Fn(u64) -> Protocols,
    ) -> Self {
        let addrs: Vec<SocketAddr> = (0..n).map(&address).collect();
        let cores = (0..n)
            .map(|i| {
                let mut config = config(i);
                config.protocols = protocols(i);
                let mut first = node_at(0, addrs[0]);
                if config.protocols.contains(Protocol::V5) {
                    first = first.with_record(record_at(0, addrs[0], 1)).unwrap();
                }
                config.bootnodes = if i == 0 { vec![] } else { vec![first] };
                DiscoveryCore::new(config, record_at(i, addrs[i as usize], 1), START)
            })
            .collect();
        Self {
            cores,
            addrs,
            now: START,
            delay,
            queue: BinaryHeap::new(),
            flying: std::collections::HashMap::new(),
            sessions: std::collections::HashSet::new(),
            serial: 0,
            done: vec![],
        }
    }

    pub(super) fn command(&mut self, at: usize, op: u64, command: Command) {
        let now = self.now;
        self.cores[at].handle(
            now,
            CoreInput::Command {
                op: OpId(op),
                command,
            },
        );
        self.drain(at);
    }

    fn drain(&mut self, at: usize) {
        while let Some(output) = self.cores[at].poll() {
            match output {
                CoreOutput::V4Send { to, message, token } => {
                    let hash = hash(self.serial + 1);
                    if let Some(token) = token {
                        self.cores[at].handle(self.now, CoreInput::V4Sent { token, hash });
                    }
                    self.send(at, to, Packet::V4(hash, message));
                }
                CoreOutput::V5Send { to, message, .. } => self.send(at, to, Packet::V5(message)),
                CoreOutput::TalkRequest(asked) => {
                    let answer = asked.answer(asked.payload.clone());
                    self.cores[at].handle(self.now, CoreInput::TalkResponse(answer));
                }
                CoreOutput::LoadSeeds { .. } => {
                    self.cores[at].handle(self.now, CoreInput::Seeds(vec![]));
                }
                CoreOutput::Done { op, result } => self.done.push((at, op, result)),
                _ => {}
            }
        }
    }

    fn send(&mut self, from: usize, to: SocketAddr, packet: Packet) {
        self.serial += 1;
        let at = self.now.mono + self.delay;
        self.queue.push(Reverse((at, self.serial)));
        self.flying.insert(self.serial, (from, to, packet));
    }

    fn deliver(&mut self, from: usize, to: usize, packet: Packet) {
        let address = self.addrs[from];
        match packet {
            Packet::V4(hash, message) => {
                let input = CoreInput::V4Packet {
                    from: address,
                    key: public(from as u64),
                    hash,
                    message,
                };
                self.cores[to].handle(self.now, input);
            }
            Packet::V5(message) => {
                if !self.cores[to].config.protocols.contains(Protocol::V5) {
                    return;
                }
                if self.sessions.insert((from, to)) {
                    self.sessions.insert((to, from));
                    self.meet(to, from, true);
                    self.meet(from, to, false);
                }
                let id = public(from as u64).node_id();
                let input = CoreInput::V5Message {
                    from: address,
                    id,
                    message,
                };
                self.cores[to].handle(self.now, input);
            }
        }
        self.drain(to);
    }

    fn meet(&mut self, at: usize, other: usize, inbound: bool) {
        let record = self.cores[other].record().clone();
        let input = CoreInput::V5Session {
            from: self.addrs[other],
            id: record.id(),
            record: inbound.then_some(record),
            inbound,
        };
        self.cores[at].handle(self.now, input);
        self.drain(at);
    }

    /// Runs until `until` says stop or `limit` has passed; says how long it took.
    pub(super) fn run(
        &mut self,
        limit: Duration,
        until: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        let (begin, end) = (self.now.mono, self.now.mono + limit);
        while !until(self) {
            let packet = self.queue.peek().map(|Reverse((at, _))| *at);
            let timer = self.cores.iter().filter_map(DiscoveryCore::deadline).min();
            let at = packet
                .into_iter()
                .chain(timer)
                .min()
                .filter(|at| *at <= end)?;
            self.now = self.now.after(at - self.now.mono);
            if packet == Some(at) {
                let Some(Reverse((_, serial))) = self.queue.pop() else {
                    continue;
                };
                let Some((sender, to, packet)) = self.flying.remove(&serial) else {
                    continue;
                };
                if let Some(i) = self.addrs.iter().position(|addr| *addr == to) {
                    self.deliver(sender, i, packet);
                }
                continue;
            }
            for i in 0..self.cores.len() {
                if self.cores[i].deadline().is_some_and(|due| due <= at) {
                    self.cores[i].handle_timeout(self.now);
                    self.drain(i);
                }
            }
        }
        Some(self.now.mono - begin)
    }
}
