//! The running service over loopback: how many packets a second it answers on two cores against one, discv4 and discv5. What is
//! sent is made before the clock runs, so that the other side costs no more than its system calls.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)] // a benchmark: it reads the clock, and a failure is to stop it

mod common;

use std::collections::BTreeMap;
use std::hint::{black_box, spin_loop};
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{
    Peer, cores, is_measured, pin, print_load, quarter, receive, restrict, runtime, socket, spent,
    spent_each, start_with,
};
use secp256k1::SECP256K1;
use tercet_discovery::v4::codec;
use tercet_discovery::v4::{Message, MessageKind, PacketHash, Ping, Pong, WireEndpoint};
use tercet_discovery::v5::{CHALLENGE_LIFETIME, Request, V5Peer};
use tercet_discovery::{Discovery, DiscoveryConfig};
use tercet_enode::SecretKey;
use tercet_machine::{Clock, MachineRng};
use tokio::runtime::Runtime;

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
/// How often each of two cores writes what the other waits for in one measurement of them: a millisecond or so.
const HANDOVERS: usize = 5000;
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
    fn new(service: &Service) -> Self {
        let (to, mut rng) = (service.node.local_addr(), MachineRng::from_seed([3; 32]));
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
        receive(socket, &mut buffer);
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
    fn new(service: &Service) -> Self {
        let (to, node) = (service.node.local_addr(), service.peer);
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

impl V5 {
    /// Answers to the WHOAREYOUs that everybody gets who has lost his session; `None` if this has taken longer than they are good for.
    fn lose_sessions(&mut self) -> Option<Vec<Bytes>> {
        let begun = Instant::now();
        for at in 0..SENDERS {
            self.peers[at].forget();
            let first = self.ask(at);
            self.sockets[at].send(&first).unwrap();
        }
        let mut buffer = [0; 1280];
        let mut handshakes = Vec::new();
        for (peer, socket) in self.peers.iter_mut().zip(&self.sockets) {
            while receive(socket, &mut buffer) != WHOAREYOU {}
            let taken = peer.take(self.to.0, &buffer[..WHOAREYOU]);
            let handshake = taken.send.into_iter().next();
            let in_time = begun.elapsed() < CHALLENGE_LIFETIME;
            assert!(
                handshake.is_some() || !in_time,
                "a WHOAREYOU in time that leads to nothing"
            );
            handshakes.push(handshake.filter(|_| in_time)?);
        }
        Some(handshakes)
    }

    /// Reads what has come and is not wanted any more.
    fn drain(&self) {
        let mut buffer = [0; 1280];
        for socket in &self.sockets {
            socket.set_nonblocking(true).unwrap();
            while socket.recv(&mut buffer).is_ok() {}
            socket.set_nonblocking(false).unwrap();
        }
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
    ///
    /// A challenge, and the request it is about, are good for a second. Where the machine stands still for as long in the middle of this
    /// (a program of higher priority, another virtual machine), a WHOAREYOU leads to nothing, or its answer would: all is made anew when the
    /// node has forgotten its challenges, or it would repeat them.
    fn prepare(&mut self) -> Vec<Vec<Bytes>> {
        loop {
            if let Some(handshakes) = self.0.lose_sessions() {
                return vec![handshakes];
            }
            println!("  the machine has stood still for a second: handshakes prepared again");
            std::thread::sleep(CHALLENGE_LIFETIME);
            self.0.drain();
        }
    }

    fn sockets(&self) -> &[UdpSocket] {
        &self.0.sockets
    }

    fn is_answer(&self, datagram: &[u8]) -> bool {
        datagram.len() == self.0.pong
    }
}

/// The service under measurement. Its runtime has one thread; the others it starts itself.
struct Service {
    runtime: Runtime,
    node: Discovery,
    peer: V5Peer,
}

impl Service {
    fn start(seed: u8) -> Self {
        let runtime = runtime("driver", 1);
        let config = DiscoveryConfig::builder().second_reader(true);
        let (node, peer) = start_with(&runtime, seed, config);
        Self {
            runtime,
            node,
            peer,
        }
    }
}

/// The time from the first datagram of some bursts to their last answer. On each of `cores` a thread stands for the network, for a
/// card with a queue for each: it has its part of the senders. A burst is sent before the answers to the one before are read, so that
/// the service always has something to do.
fn measure(load: &(impl Load + Sync), bursts: &[Vec<Bytes>], cores: &[usize]) -> Duration {
    let (share, begin) = (SENDERS.div_ceil(cores.len()), &Barrier::new(cores.len()));
    let times: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
        let network = |(at, core): (usize, &usize)| {
            let (core, part) = (*core, at * share..SENDERS.min((at + 1) * share));
            let run = move || {
                pin(core);
                begin.wait();
                let start = Instant::now();
                exchange(load, bursts, part);
                (start, Instant::now())
            };
            let thread = std::thread::Builder::new().name("network".to_owned());
            thread.spawn_scoped(scope, run).unwrap()
        };
        let threads: Vec<_> = cores.iter().enumerate().map(network).collect();
        let times = threads.into_iter().map(|thread| thread.join().unwrap());
        times.collect()
    });
    let start = times.iter().map(|(start, _)| *start).min().unwrap();
    let end = times.iter().map(|(_, end)| *end).max().unwrap();
    end - start
}

/// What this part of the senders does.
fn exchange(load: &impl Load, bursts: &[Vec<Bytes>], part: Range<usize>) {
    let sockets = &load.sockets()[part.clone()];
    let mut waiting = false;
    for burst in bursts {
        for (socket, datagram) in sockets.iter().zip(&burst[part.clone()]) {
            socket.send(datagram).unwrap();
        }
        if waiting {
            receive_answers(load, sockets);
        }
        waiting = true;
    }
    receive_answers(load, sockets);
}

/// One answer for each sender. The last one's first: when it is there, so are nearly all others, and the thread sleeps once
/// instead of for every answer.
fn receive_answers(load: &impl Load, sockets: &[UdpSocket]) {
    let mut buffer = [0; 1280];
    for socket in sockets.iter().rev() {
        loop {
            let len = receive(socket, &mut buffer);
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

/// How long it takes until one core sees what another has written. Everything that is handed from one core to another waits for this
/// many times, and a virtual machine's cores are near to each other at one moment and far at the next.
fn between_cores() {
    let all = cores();
    let [first, second, ..] = all[..] else {
        return;
    };
    let turn = AtomicUsize::new(0);
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        turn.store(0, Ordering::SeqCst);
        let run = |core, own: usize| {
            pin(core);
            for n in 0..HANDOVERS {
                let mut spins = 0_u32;
                while turn.load(Ordering::Acquire) != 2 * n + own {
                    spin_loop();
                    spins += 1;
                    // The other one may not have got to its core yet.
                    if spins.is_multiple_of(1 << 16) {
                        std::thread::yield_now();
                    }
                }
                turn.store(2 * n + own + 1, Ordering::Release);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| run(first, 0));
            let start = Instant::now();
            scope.spawn(|| run(second, 1)).join().unwrap();
            times.push(start.elapsed());
        });
    }
    let each = quarter(times) / (2 * HANDOVERS) as u32;
    println!("one core sees what another has written after {each:?}");
}

/// A measurement: which service, on how many cores, and on how many of these something arrives.
const WAYS: [(usize, usize, usize); 3] = [(0, 1, 1), (1, 2, 2), (1, 2, 1)];

/// The same load on a service that has found one core when it started, on one, and on a service that has found all, on two.
fn compare<L: Load + Sync>(services: &[Service; 2], new: impl Fn(&Service) -> L) {
    let mut loads = services.each_ref().map(new);
    let all = cores();
    let rounds = if is_measured() { ROUNDS } else { 1 };
    let (mut times, mut count) = ([const { Vec::new() }; WAYS.len()], 0);
    let mut costs = BTreeMap::new();
    for _ in 0..rounds {
        for ((service, cores, arriving), times) in WAYS.iter().zip(&mut times) {
            let load = &mut loads[*service];
            restrict(&all);
            let bursts = load.prepare();
            restrict(&all[..all.len().min(*cores)]);
            count = bursts.len() * SENDERS;
            let before = spent();
            times.push(measure(load, &bursts, &all[..all.len().min(*arriving)]));
            if (*cores, *arriving) == (2, 2) {
                for (name, each) in spent_each(&before, count) {
                    costs.entry(name).or_insert_with(Vec::new).push(each);
                }
            }
        }
    }
    restrict(&all);
    if !is_measured() {
        return;
    }
    let [one, two, unshared] = times.map(|times| count as f64 / quarter(times).as_secs_f64());
    println!(
        "{}: {one:.0} a second on one core, {two:.0} on two: ratio {:.2} (required {REQUIRED}); \
         {unshared:.0} if all arrive on one of the two: {:.2}",
        L::WHAT,
        two / one,
        unshared / one
    );
    let costs: Vec<String> = costs
        .into_iter()
        .map(|(name, each)| (name, quarter(each)))
        .filter(|(_, each)| *each > Duration::from_nanos(50))
        .map(|(name, each)| format!("{name} {each:?}"))
        .collect();
    println!(
        "  time of the service on a core for each: {}",
        costs.join(", ")
    );
}

fn main() {
    let all = cores();
    restrict(&all[..1]);
    let one = Service::start(1);
    restrict(&all);
    let services = [one, Service::start(2)];
    if is_measured() {
        print_load();
        second_core();
        between_cores();
    }
    compare(&services, V4::new);
    compare(&services, |service| Handshakes(V5::new(service)));
    compare(&services, |service| Ordinary(V5::new(service)));
    if is_measured() {
        between_cores();
        print_load();
    }
    for service in services {
        let shutdown = service.node.shutdown();
        service.runtime.block_on(shutdown);
    }
}
