//! `tercet crawl` over a network of 2,000 nodes on loopback sockets, against the rate at which the same nodes answer the same
//! questions put to them in a row from one socket, by a loop that knows them all and does nothing else: no search for them, no table, no
//! limits, no file. Over discv4, discv5 and both.
//!
//! Beside the rate it prints what a node costs the crawler: bytes on the wire, and memory, as the difference between the most memory
//! of a crawl of 200 nodes and of one of 2,000.
//!
//! Every node is new to whoever asks, so each is asked with a proof of address (discv4) or a handshake (discv5) first. All the
//! nodes' own work is part of both figures, on the same cores.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)] // a benchmark: it reads the clock, and a failure is to stop it

#[path = "../tests/responder/mod.rs"]
mod responder;

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use criterion::Criterion;
use responder::net::Network;
use tercet_discovery::Protocols;
use tercet_discovery::v4::{
    EnrRequest, FindNode, MAX_NEIGHBORS_PER_PACKET, Message as V4Message, Ping, Pong, WireEndpoint,
    WireTarget, codec,
};
use tercet_discovery::v5::{
    Distances, Message, Request, RequestId, Response, SessionInput, SessionOutput, Sessions,
    SessionsConfig, V5Peer,
};
use tercet_enode::{Node, NodeId, NodeRecord, SecretKey};
use tercet_machine::{Clock, Machine as _, MachineRng};

/// The crawl must be at least this part as fast.
const REQUIRED: f64 = 0.5;
const NODES: usize = 2000;
/// The network whose crawl costs what every crawl does: the program, its threads, its empty tables.
const FEW: usize = 200;
const ROUNDS: usize = 3;
/// Nodes asked at a time by the plain loop; the crawl finds its own number, up to 256.
const IN_FLIGHT: usize = 128;
/// What was not answered is asked again.
const PATIENCE: Duration = Duration::from_secs(1);
/// System buffers asked for, as in the crawler.
const BUFFER: usize = 1 << 20;

/// One crawl by the program, as it reports it.
struct Crawled {
    took: Duration,
    nodes: usize,
    /// Payloads of UDP, sent and received.
    bytes: [u64; 2],
    /// The most memory of the process; nothing where the system does not say.
    memory: Option<u64>,
}

fn crawl(network: &Network, protocol: &str) -> Crawled {
    let folder = tempfile::tempdir().unwrap();
    let boot = network.world.node(0).record().unwrap().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tercet"));
    command.arg("crawl").arg(folder.path().join("nodes.json"));
    command.args(["--bootnodes", &boot, "--protocol", protocol, "--json"]);
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |name: &str| report[name].as_u64().unwrap();
    assert_eq!(report["complete"], true);
    Crawled {
        took: Duration::from_millis(number("elapsed_ms")),
        nodes: usize::try_from(number("answered")).unwrap(),
        bytes: [number("sent_bytes"), number("received_bytes")],
        memory: report["peak_memory_bytes"].as_u64(),
    }
}

/// How far the plain loop is with a node.
#[derive(Default)]
struct Asked {
    at: Option<Instant>,
    record: bool,
    named: usize,
    v4_done: bool,
    messages: u64,
    v5_done: bool,
}

struct Plain<'a> {
    network: &'a Network,
    protocols: Protocols,
    key: SecretKey,
    sessions: Sessions,
    socket: UdpSocket,
    clock: Clock,
    asked: HashMap<SocketAddr, Asked>,
    done: usize,
    repeats: usize,
}

impl<'a> Plain<'a> {
    fn new(network: &'a Network, protocols: Protocols, round: usize) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let buffers = socket2::SockRef::from(&socket);
        buffers.set_recv_buffer_size(BUFFER).unwrap();
        // New to every node each time, as a crawler is.
        let mut seed = [0x77; 32];
        seed[..8].copy_from_slice(&round.to_be_bytes());
        let key = SecretKey::generate(&mut MachineRng::from_seed(seed));
        let addr = socket.local_addr().unwrap();
        let record = NodeRecord::builder()
            .ip(addr.ip())
            .udp(addr.port())
            .sign(&key)
            .unwrap();
        Self {
            network,
            protocols,
            sessions: Sessions::new(SessionsConfig::new(seed), key.clone(), record),
            key,
            socket,
            clock: Clock::start(),
            asked: HashMap::new(),
            done: 0,
            repeats: 0,
        }
    }

    /// Asks every node once and waits for all answers.
    fn run(mut self) -> (Duration, usize) {
        let begun = Instant::now();
        let mut next = 0;
        let mut buffer = [0; 1281];
        while self.done < NODES {
            while next < NODES && self.asked.len() - self.done < IN_FLIGHT {
                let node = self.network.world.nodes[next].clone();
                next += 1;
                self.ask(&node);
            }
            match self.socket.recv_from(&mut buffer) {
                Ok((len, from)) => self.take(from, &buffer[..len]),
                Err(_) => self.repeat(),
            }
        }
        (begun.elapsed(), self.repeats)
    }

    fn ask(&mut self, node: &Node) {
        let to = node.endpoint().udp_addr();
        let asked = self.asked.entry(to).or_default();
        asked.at = Some(Instant::now());
        let (v4, v5) = (!asked.v4_done, !asked.v5_done);
        if v4 && self.protocols.contains(tercet_discovery::Protocol::V4) {
            let own = self.socket.local_addr().unwrap();
            self.send_v4(
                to,
                &V4Message::Ping(Ping {
                    from: WireEndpoint::new(own.ip(), own.port(), 0),
                    to: WireEndpoint::new(to.ip(), to.port(), 0),
                    expiration: self.expiration(),
                    enr_seq: Some(1),
                }),
            );
        }
        if v5 && self.protocols.contains(tercet_discovery::Protocol::V5) {
            let distances = Distances::new(std::iter::once(0).chain((209..=256).rev()));
            let message = Message::Request(
                RequestId::new(&[1; 8]).unwrap(),
                Request::FindNode { distances },
            );
            let peer = V5Peer {
                id: node.id(),
                key: Some(node.public_key()),
            };
            self.sessions
                .handle(self.clock.now(), SessionInput::Send { to, peer, message });
            self.drain();
        }
    }

    fn take(&mut self, from: SocketAddr, datagram: &[u8]) {
        if self.sessions.covers(datagram) {
            let datagram = BytesMut::from(datagram);
            self.sessions
                .handle(self.clock.now(), SessionInput::Datagram { from, datagram });
            self.drain();
            return;
        }
        let packet = codec::decode(datagram).unwrap();
        let expiration = self.expiration();
        match packet.message {
            V4Message::Ping(_) => {
                let to = WireEndpoint::new(from.ip(), from.port(), 0);
                self.send_v4(
                    from,
                    &V4Message::Pong(Pong {
                        to,
                        ping_hash: packet.hash,
                        expiration,
                        enr_seq: Some(1),
                    }),
                );
                self.send_v4(from, &V4Message::EnrRequest(EnrRequest { expiration }));
                let target = WireTarget::from(packet.key);
                self.send_v4(from, &V4Message::FindNode(FindNode { target, expiration }));
            }
            V4Message::EnrResponse(_) => self.on(from, |asked| asked.record = true),
            V4Message::Neighbors(neighbors) => self.on(from, |asked| {
                let count = neighbors.nodes.len();
                asked.named += if count < MAX_NEIGHBORS_PER_PACKET {
                    16
                } else {
                    count
                };
            }),
            _ => {}
        }
    }

    fn on(&mut self, from: SocketAddr, change: impl FnOnce(&mut Asked)) {
        let (v4, v5) = (
            self.protocols.contains(tercet_discovery::Protocol::V4),
            self.protocols.contains(tercet_discovery::Protocol::V5),
        );
        let asked = self.asked.get_mut(&from).unwrap();
        let is_whole = |asked: &Asked| (!v4 || asked.v4_done) && (!v5 || asked.v5_done);
        let before = is_whole(asked);
        change(asked);
        asked.v4_done |= asked.record && asked.named >= 16;
        self.done += usize::from(is_whole(asked) && !before);
    }

    fn drain(&mut self) {
        while let Some(output) = self.sessions.poll() {
            match output {
                SessionOutput::Send { to, datagram } => {
                    self.socket.send_to(&datagram, to).unwrap();
                }
                SessionOutput::Message {
                    from,
                    message: Message::Response(_, Response::Nodes { total, .. }),
                    ..
                } => {
                    self.on(from, |asked| {
                        asked.messages += 1;
                        asked.v5_done |= asked.messages >= total;
                    });
                }
                _ => {}
            }
        }
    }

    fn repeat(&mut self) {
        let late: Vec<SocketAddr> = self
            .asked
            .iter()
            .filter(|(_, asked)| asked.at.is_some_and(|at| at.elapsed() > PATIENCE))
            .map(|(addr, _)| *addr)
            .collect();
        let is_open = |asked: &Asked, protocols: Protocols| {
            (protocols.contains(tercet_discovery::Protocol::V4) && !asked.v4_done)
                || (protocols.contains(tercet_discovery::Protocol::V5) && !asked.v5_done)
        };
        for addr in late {
            if is_open(&self.asked[&addr], self.protocols) {
                let node = self
                    .network
                    .world
                    .nodes
                    .iter()
                    .find(|node| node.endpoint().udp_addr() == addr);
                self.repeats += 1;
                self.ask(&node.unwrap().clone());
            }
        }
    }

    fn send_v4(&self, to: SocketAddr, message: &V4Message) {
        self.socket
            .send_to(&codec::encode(&self.key, message).0, to)
            .unwrap();
    }

    fn expiration(&self) -> u64 {
        self.clock.now().unix.as_secs() + 20
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut criterion = Criterion::default().configure_from_args().sample_size(10);
    let small = runtime.block_on(Network::start(100, |_| Protocols::ALL));
    criterion.bench_function("crawl/100_nodes_over_both", |bench| {
        bench.iter(|| crawl(&small, "both").nodes);
    });
    criterion.final_summary();
    drop(small);
    // Without this flag `cargo test` asks only whether the benchmark runs.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let few = runtime.block_on(Network::start(FEW, |_| Protocols::ALL));
    let network = runtime.block_on(Network::start(NODES, |_| Protocols::ALL));
    for (name, protocols) in [
        ("v4", Protocols::V4),
        ("v5", Protocols::V5),
        ("both", Protocols::ALL),
    ] {
        report(&network, &few, name, protocols);
    }
}

/// In turn, so that a slow moment of the machine meets both; the median of either.
fn report(network: &Network, few: &Network, name: &str, protocols: Protocols) {
    let (mut crawls, mut plain, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bytes, mut repeats, mut fewest) = ([0; 2], 0, NODES);
    for round in 0..ROUNDS {
        let (took, repeated) = Plain::new(network, protocols, round).run();
        plain.push(took);
        repeats += repeated;
        let crawled = crawl(network, name);
        fewest = fewest.min(crawled.nodes);
        crawls.push(crawled.took);
        bytes = crawled.bytes.map(|bytes| bytes / NODES as u64);
        let base = crawl(few, name).memory;
        memory.extend(
            crawled
                .memory
                .zip(base)
                .map(|(all, base)| all.saturating_sub(base) / (NODES - FEW) as u64),
        );
    }
    let [crawl, plain] = [crawls, plain].map(|mut times| {
        times.sort();
        NODES as f64 / times[ROUNDS / 2].as_secs_f64()
    });
    println!(
        "{name}: crawl {crawl:.0} nodes a second, plain requests {plain:.0}: ratio {:.3} (required {REQUIRED}); {fewest} of {NODES} found in the worst of {ROUNDS} crawls, {repeats} plain questions put again",
        crawl / plain,
    );
    memory.sort_unstable();
    let memory = memory.get(memory.len() / 2);
    let memory = memory.map_or("unknown".to_owned(), ToString::to_string);
    let [sent, received] = bytes;
    println!("{name}: a node costs {sent} bytes sent, {received} received, {memory} of memory");
}

/// Not used here, but part of what the responders are shared as.
const _: fn() -> NodeId = responder::stranger;
