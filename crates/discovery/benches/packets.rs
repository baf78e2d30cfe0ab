//! The running service over loopback: how many packets a second it answers on two cores against one, discv4 and discv5. What is
//! sent is made before the clock runs, so that the other side costs no more than its system calls.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub
)] // a benchmark: it reads the clock, and a failure is to stop it

#[allow(dead_code)] // what other benchmarks need
mod common;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{
    Peer, cores, is_measured, pin, print_load, quarter, restrict, socket, spent, spent_each,
};
use secp256k1::SECP256K1;
use tercet_discovery::v4::codec;
use tercet_discovery::v4::{Message, MessageKind, PacketHash, Ping, Pong, WireEndpoint};
use tercet_discovery::v5::{Request, V5Peer};
use tercet_discovery::{Discovery, DiscoveryConfig};
use tercet_enode::SecretKey;
use tercet_machine::{Clock, MachineRng};
use tercet_nodedb::NodeDb;

/// What a second core should bring.
const REQUIRED: f64 = 1.7;
/// Senders, each with its own key and port: twice as many as one turn of the driver reads. What each sends at once, together
/// with all others', fits the system's smallest usual buffer of 208 KiB.
const SENDERS: usize = 128;
/// Bursts of one packet from each in one measurement, where they are not handshakes.
const BURSTS: usize = 20;
/// Measurements.
const ROUNDS: usize = 40;
/// Key recoveries of a thread in one measurement of the cores themselves: 5 ms or so.
const RECOVERIES: usize = 150;
/// A WHOAREYOU is as long as this, and nothing else is.
const WHOAREYOU: usize = 63;
/// Where a discv4 packet's type byte is: `32 hash + 65 signature` before it.
const TYPE: usize = 97;

/// Something to send, again and again, and how to know its answer.
trait Load {
    const WHAT: &'static str;

    /// Makes what the next measurement sends: bursts of one datagram from each sender.
    fn prepare(&mut self) -> Vec<Vec<Bytes>>;

    fn sockets(&self) -> &[UdpSocket];

    fn is_answer(&self, datagram: &[u8]) -> bool;
}

struct V4 {
    sockets: Vec<UdpSocket>,
    pings: Vec<Bytes>,
}

impl V4 {
    fn new(to: SocketAddr) -> Self {
        let mut rng = MachineRng::from_seed([3; 32]);
        let (mut sockets, mut pings) = (Vec::new(), Vec::new());
        for _ in 0..SENDERS {
            let (socket, key) = (socket(), SecretKey::generate(&mut rng));
            socket.connect(to).unwrap();
            pings.push(bond(&socket, &key));
            sockets.push(socket);
        }
        Self { sockets, pings }
    }
}

impl Load for V4 {
    const WHAT: &'static str = "discv4 pings";

    fn prepare(&mut self) -> Vec<Vec<Bytes>> {
        vec![self.pings.clone(); BURSTS]
    }

    fn sockets(&self) -> &[UdpSocket] {
        &self.sockets
    }

    fn is_answer(&self, datagram: &[u8]) -> bool {
        datagram[TYPE] == MessageKind::Pong as u8
    }
}

fn expiration() -> u64 {
    Clock::start().now().unix.as_secs() + 10_000
}

/// Proves a sender's address by a pong to the node's ping; returns its ping.
fn bond(socket: &UdpSocket, key: &SecretKey) -> Bytes {
    let ping = Message::Ping(Ping {
        from: WireEndpoint::default(),
        to: WireEndpoint::default(),
        expiration: expiration(),
        enr_seq: None,
    });
    let (ping, _) = codec::encode(key, &ping);
    socket.send(&ping).unwrap();
    let mut buffer = [0; 1280];
    while buffer[TYPE] != MessageKind::Ping as u8 {
        socket.recv(&mut buffer).unwrap();
    }
    let hash: [u8; 32] = buffer[..32].try_into().unwrap();
    let pong = Message::Pong(Pong {
        to: WireEndpoint::default(),
        ping_hash: PacketHash::new(hash),
        expiration: expiration(),
        enr_seq: None,
    });
    let (pong, _) = codec::encode(key, &pong);
    socket.send(&pong).unwrap();
    ping
}

/// discv5 peers, each behind its own port.
struct V5 {
    to: (SocketAddr, V5Peer),
    peers: Vec<Peer>,
    sockets: Vec<UdpSocket>,
    /// How long the answer to a ping is. What the node itself asks is shorter.
    pong: usize,
    next: u64,
}

impl V5 {
    fn new(to: SocketAddr, node: V5Peer) -> Self {
        let sockets: Vec<UdpSocket> = (0..SENDERS).map(|_| socket()).collect();
        let mut peers = Vec::new();
        for (n, socket) in (1..).zip(&sockets) {
            let mut peer = Peer::new(n, socket.local_addr().unwrap());
            peer.connect(socket, to, node);
            peers.push(peer);
        }
        let pong = peers[0].learn_pong(&sockets[0], to, node);
        for socket in &sockets {
            socket.connect(to).unwrap();
        }
        Self {
            to: (to, node),
            peers,
            sockets,
            pong,
            next: 0,
        }
    }

    fn ask(&mut self, peer: usize) -> Bytes {
        self.next += 1;
        let ((to, node), ping) = (self.to, Request::Ping { enr_seq: 1 });
        self.peers[peer].ask(self.next, to, node, ping)
    }
}

struct Ordinary(V5);

impl Load for Ordinary {
    const WHAT: &'static str = "discv5 pings over sessions";

    fn prepare(&mut self) -> Vec<Vec<Bytes>> {
        let burst = |_| (0..SENDERS).map(|peer| self.0.ask(peer)).collect();
        (0..BURSTS).map(burst).collect()
    }

    fn sockets(&self) -> &[UdpSocket] {
        &self.0.sockets
    }

    fn is_answer(&self, datagram: &[u8]) -> bool {
        datagram.len() == self.0.pong
    }
}

struct Handshakes(V5);

impl Load for Handshakes {
    const WHAT: &'static str = "discv5 handshakes";

    /// Everybody has lost his session, and his answer to the node's WHOAREYOU is ready.
    fn prepare(&mut self) -> Vec<Vec<Bytes>> {
        let v5 = &mut self.0;
        for at in 0..SENDERS {
            v5.peers[at].forget();
            let first = v5.ask(at);
            v5.sockets[at].send(&first).unwrap();
        }
        let mut buffer = [0; 1280];
        let answer = |at: usize| {
            while v5.sockets[at].recv(&mut buffer).unwrap() != WHOAREYOU {}
            v5.peers[at]
                .take(v5.to.0, &buffer[..WHOAREYOU])
                .send
                .remove(0)
        };
        vec![(0..SENDERS).map(answer).collect()]
    }

    fn sockets(&self) -> &[UdpSocket] {
        &self.0.sockets
    }

    fn is_answer(&self, datagram: &[u8]) -> bool {
        datagram.len() == self.0.pong
    }
}

/// The time from the first datagram of some bursts to their last answer. A burst is sent before the answers to the one before are
/// read, so that the service always has something to do.
fn measure(load: &impl Load, bursts: &[Vec<Bytes>]) -> Duration {
    let start = Instant::now();
    let mut waiting = false;
    for burst in bursts {
        for (socket, datagram) in load.sockets().iter().zip(burst) {
            socket.send(datagram).unwrap();
        }
        if waiting {
            receive(load);
        }
        waiting = true;
    }
    receive(load);
    start.elapsed()
}

/// One answer for each sender. The last one's first: when it is there, so are nearly all others, and the thread sleeps once
/// instead of for every answer.
fn receive(load: &impl Load) {
    let mut buffer = [0; 1280];
    for socket in load.sockets().iter().rev() {
        loop {
            let len = socket.recv(&mut buffer).unwrap();
            if load.is_answer(&buffer[..len]) {
                break;
            }
        }
    }
}

/// How much more two cores do than one where there is nothing to share out and nothing to hand over: key recoveries on one thread
/// for each core. Two cores that are halves of one do less than twice as much, and no program can change that.
fn second_core() {
    let digest = secp256k1::Message::from_digest([7; 32]);
    let secret = secp256k1::SecretKey::from_byte_array([3; 32]).unwrap();
    let signature = SECP256K1.sign_ecdsa_recoverable(digest, &secret);
    let work = || {
        for _ in 0..RECOVERIES {
            black_box(
                SECP256K1
                    .recover_ecdsa(black_box(digest), &signature)
                    .unwrap(),
            );
        }
    };
    let all = cores();
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (cores, times) in [(1, &mut one), (2, &mut two)] {
            let start = Instant::now();
            std::thread::scope(|scope| {
                for core in all.iter().take(cores) {
                    scope.spawn(|| {
                        pin(*core);
                        work();
                    });
                }
            });
            times.push(start.elapsed() / cores as u32);
        }
    }
    let (one, two) = (quarter(one), quarter(two));
    println!(
        "two cores do {:.2} times as many key recoveries as one",
        one.as_secs_f64() / two.as_secs_f64()
    );
}

fn compare<L: Load>(mut load: L) {
    let bursts = load.prepare();
    measure(&load, &bursts);
    if !is_measured() {
        return;
    }
    let all = cores();
    let (mut one, mut two, mut count) = (Vec::new(), Vec::new(), 0);
    let mut costs = BTreeMap::new();
    for _ in 0..ROUNDS {
        for (cores, times) in [(1, &mut one), (2, &mut two)] {
            restrict(&all);
            let bursts = load.prepare();
            restrict(&all[..cores.min(all.len())]);
            count = bursts.len() * SENDERS;
            let before = spent();
            times.push(measure(&load, &bursts));
            if cores == 2 {
                for (name, each) in spent_each(&before, count) {
                    costs.entry(name).or_insert_with(Vec::new).push(each);
                }
            }
        }
    }
    restrict(&all);
    let rate = |time: Duration| count as f64 / time.as_secs_f64();
    let (one, two) = (rate(quarter(one)), rate(quarter(two)));
    println!(
        "{}: {one:.0} a second on one core, {two:.0} on two: ratio {:.2} (required {REQUIRED})",
        L::WHAT,
        two / one
    );
    let costs: Vec<String> = costs
        .into_iter()
        .map(|(name, each)| (name, quarter(each)))
        .filter(|(_, each)| *each > Duration::from_nanos(50))
        .map(|(name, each)| format!("{name} {each:?}"))
        .collect();
    println!("  time on a core for each: {}", costs.join(", "));
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("driver")
        .enable_all()
        .build()
        .unwrap();
    let config = DiscoveryConfig::builder()
        .listen((Ipv4Addr::LOCALHOST, 0).into())
        .build()
        .unwrap();
    let key = SecretKey::generate(&mut MachineRng::from_seed([1; 32]));
    let peer = V5Peer {
        id: key.node_id(),
        key: Some(key.public_key()),
    };
    let node = runtime
        .block_on(Discovery::start(config, key, NodeDb::memory().unwrap()))
        .unwrap();
    let to = node.local_addr();
    if is_measured() {
        print_load();
        second_core();
    }
    compare(V4::new(to));
    compare(Handshakes(V5::new(to, peer)));
    compare(Ordinary(V5::new(to, peer)));
    if is_measured() {
        print_load();
    }
    runtime.block_on(node.shutdown());
}
