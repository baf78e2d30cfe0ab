//! Stacks against each other in virtual time, with every signature and every cipher: what the driver does, but for sockets
//! and threads.

mod contract;
mod families;
mod forged;
mod hostile;
mod network;
mod own;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tercet_enode::{Endpoint, Node, NodeRecord, SecretKey};
use tercet_machine::check::START;
use tercet_machine::{Machine, MachineRng, MonoTime, Now, Subnet};
use tercet_nodedb::Write;

use super::*;
use crate::core::{Command, OpId, Reply, RequestError};

const DELAY: Duration = Duration::from_millis(10);

pub(super) fn key(n: u64) -> SecretKey {
    let mut seed = [3; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    SecretKey::generate(&mut MachineRng::from_seed(seed))
}

/// A global address, each in a /16 of its own.
pub(super) fn address(n: u64) -> SocketAddr {
    let [.., a, b] = n.to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(20 + a, b, 1, 7)), 30303)
}

/// The same of IPv6, each in a /32 of its own.
pub(super) fn address6(n: u64) -> SocketAddr {
    let [.., a, b] = n.to_be_bytes();
    let ip = Ipv6Addr::from([0x2a00, u16::from_be_bytes([a, b]), 0, 0, 0, 0, 0, 7]);
    SocketAddr::new(ip.into(), 30306)
}

pub(super) fn node(n: u64) -> Node {
    node_at(n, address(n))
}

pub(super) fn node_at(n: u64, at: SocketAddr) -> Node {
    Node::new(key(n).public_key(), Endpoint::new(at.ip(), at.port(), 0))
}

/// As a boot node of discv5 is given: with its record.
pub(super) fn recorded(stack: &NodeStack) -> Node {
    Node::from_record(stack.record().clone()).unwrap()
}

/// A node at its address, which it is told.
pub(super) fn config(n: u64, protocols: Protocols) -> StackConfig {
    let mut seed = [5; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    let mut config = StackConfig::new(seed);
    config.core.protocols = protocols;
    let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 30303);
    config.listen = [Some(any), None];
    config.advertised = [Some(address(n)), None];
    config
}

pub(super) fn stack(n: u64, config: StackConfig) -> NodeStack {
    NodeStack::new(config, key(n), None, START).unwrap()
}

/// A datagram under way.
#[derive(Clone, Debug)]
pub(super) struct Flying {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) datagram: Bytes,
}

/// What a stack said besides datagrams.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) done: BTreeMap<OpId, Result<Reply, RequestError>>,
    pub(super) records: Vec<NodeRecord>,
    pub(super) seqs: Vec<u64>,
}

/// Stacks at their addresses, joined by links that delay and lose nothing.
pub(super) struct Net {
    pub(super) stacks: Vec<([SocketAddr; 2], NodeStack, Heard)>,
    pub(super) now: Now,
    queue: BinaryHeap<Reverse<(MonoTime, u64)>>,
    flying: BTreeMap<u64, Flying>,
    serial: u64,
    /// Everything that was delivered.
    pub(super) log: Vec<Flying>,
    /// What went into the first stack, and when.
    pub(super) script: Vec<(MonoTime, StackInput)>,
    next_op: u64,
}

impl Net {
    pub(super) fn new() -> Self {
        Self {
            stacks: vec![],
            now: START,
            queue: BinaryHeap::new(),
            flying: BTreeMap::new(),
            serial: 0,
            log: vec![],
            script: vec![],
            next_op: 0,
        }
    }

    /// A network of nodes that know the first one.
    pub(super) fn of(protocols: &[Protocols]) -> Self {
        let mut net = Self::new();
        for (n, protocols) in protocols.iter().enumerate() {
            let mut config = config(n as u64, *protocols);
            if n > 0 {
                config.core.bootnodes = vec![recorded(&net.stacks[0].1)];
            }
            net.add(n as u64, config);
        }
        net
    }

    pub(super) fn add(&mut self, n: u64, config: StackConfig) -> usize {
        let stack = NodeStack::new(config, key(n), None, self.now).unwrap();
        let here = [address(n), address6(n)];
        self.stacks.push((here, stack, Heard::default()));
        let at = self.stacks.len() - 1;
        self.drain(at);
        at
    }

    pub(super) fn stack(&self, at: usize) -> &NodeStack {
        &self.stacks[at].1
    }

    pub(super) fn stack_mut(&mut self, at: usize) -> &mut NodeStack {
        &mut self.stacks[at].1
    }

    pub(super) fn heard(&self, at: usize) -> &Heard {
        &self.stacks[at].2
    }

    /// Puts a datagram into the network as if `from` had sent it.
    pub(super) fn send(&mut self, from: SocketAddr, to: SocketAddr, datagram: Bytes) {
        self.serial += 1;
        self.queue
            .push(Reverse((self.now.mono + DELAY, self.serial)));
        let flying = Flying { from, to, datagram };
        self.flying.insert(self.serial, flying);
    }

    pub(super) fn input(&mut self, at: usize, input: StackInput) {
        self.handle(at, input);
        self.drain(at);
    }

    fn handle(&mut self, at: usize, input: StackInput) {
        let now = self.now;
        if at == 0 {
            self.script.push((now.mono, input.clone()));
        }
        self.stack_mut(at).handle(now, input);
    }

    /// What a command comes to.
    pub(super) fn run(&mut self, at: usize, command: Command) -> Result<Reply, RequestError> {
        self.next_op += 1;
        let op = OpId(self.next_op);
        self.input(at, StackInput::Command { op, command });
        let limit = Duration::from_secs(60);
        assert!(
            self.until(limit, |net| net.heard(at).done.contains_key(&op)),
            "the operation ends"
        );
        self.stacks[at].2.done.remove(&op).unwrap()
    }

    pub(super) fn drain(&mut self, at: usize) {
        let [four, six] = self.stacks[at].0;
        while let Some(output) = self.stacks[at].1.poll() {
            let heard = &mut self.stacks[at].2;
            match output {
                StackOutput::Datagram { to, datagram } => {
                    assert!(datagram.len() <= 1280);
                    let here = if to.is_ipv4() { four } else { six };
                    self.send(here, to, datagram);
                }
                StackOutput::Write(Write::LocalSeq { seq, .. }) => heard.seqs.push(seq),
                StackOutput::Write(_) => {}
                StackOutput::LoadSeeds { .. } => {
                    self.handle(at, StackInput::Seeds(vec![]));
                }
                StackOutput::Done { op, result } => drop(heard.done.insert(op, result)),
                StackOutput::Record(record) => heard.records.push(record),
                StackOutput::SuspectClock => {}
                StackOutput::TalkRequest(asked) => {
                    let mut payload = asked.payload.to_vec();
                    payload.reverse();
                    let answer = asked.answer(payload.into());
                    self.handle(at, StackInput::TalkResponse(answer));
                }
            }
        }
    }

    /// Runs until `done` or for `limit`; whether it was done.
    pub(super) fn until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now.after(limit);
        while !done(self) {
            let packet = self.queue.peek().map(|Reverse((at, _))| *at);
            let deadlines = self
                .stacks
                .iter()
                .filter_map(|(_, stack, _)| stack.deadline());
            let next = packet.into_iter().chain(deadlines).min();
            let Some(at) = next.filter(|at| *at <= end.mono) else {
                self.now = end;
                return done(self);
            };
            // Something may have been due before.
            let at = at.max(self.now.mono);
            self.now = START.after(at - START.mono);
            if packet == Some(at) {
                self.deliver();
            } else {
                for n in 0..self.stacks.len() {
                    if self.stacks[n].1.deadline().is_some_and(|due| due <= at) {
                        let now = self.now;
                        self.stack_mut(n).handle_timeout(now);
                        self.drain(n);
                    }
                }
            }
        }
        true
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.until(time, |_| false);
    }

    fn deliver(&mut self) {
        let Some(Reverse((_, serial))) = self.queue.pop() else {
            return;
        };
        let Some(flying) = self.flying.remove(&serial) else {
            return;
        };
        let Flying { from, to, datagram } = flying.clone();
        self.log.push(flying);
        if let Some(n) = self.stacks.iter().position(|(here, ..)| here.contains(&to)) {
            let datagram = BytesMut::from(datagram.as_ref());
            self.input(n, StackInput::Datagram { from, datagram });
        }
    }

    /// Whether `one` has had an answer from `other` over exactly these protocols.
    pub(super) fn lives(&self, one: usize, other: usize, over: Protocols) -> bool {
        let id = self.stack(other).record().id();
        let standing = self.stack(one).table().standing(&id);
        standing.unwrap_or_default().live == over
    }
}
