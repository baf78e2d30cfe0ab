//! The running service over loopback: how many pings a second it answers on two cores against one.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)] // a benchmark: it reads the clock, and a failure is to stop it

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tercet_discovery::v4::codec;
use tercet_discovery::v4::{Message, MessageKind, PacketHash, Ping, Pong, WireEndpoint};
use tercet_discovery::{Discovery, DiscoveryConfig};
use tercet_enode::SecretKey;
use tercet_machine::{Clock, MachineRng};
use tercet_nodedb::NodeDb;

/// What a second core should bring.
const REQUIRED: f64 = 1.7;
/// Senders, each with its own key and port: as many as one turn of the driver reads.
const SENDERS: usize = 64;
/// Pings of each in one burst. All of a burst fit the system's smallest usual buffer of 208 KiB.
const PINGS: usize = 2;
/// Bursts in one measurement, and measurements.
const BURSTS: usize = 10;
const ROUNDS: usize = 40;
/// A pong that takes longer is lost, and the measurement with it.
const LOST: Duration = Duration::from_secs(5);

/// Where a packet's type byte is: `32 hash + 65 signature` before it.
const TYPE: usize = 97;

struct Sender {
    key: SecretKey,
    socket: UdpSocket,
}

impl Sender {
    fn ping(&self, expiration: u64) -> Bytes {
        let ping = Message::Ping(Ping {
            from: WireEndpoint::default(),
            to: WireEndpoint::default(),
            expiration,
            enr_seq: None,
        });
        codec::encode(&self.key, &ping).0
    }

    /// Until `pongs` pongs have come.
    fn receive(&self, pongs: usize) {
        let (mut buffer, mut came) = ([0; 1280], 0);
        while came < pongs {
            self.socket.recv(&mut buffer).unwrap();
            came += usize::from(buffer[TYPE] == MessageKind::Pong as u8);
        }
    }

    /// Proves the sender's address: a pong to the node's ping.
    fn bond(&self, to: SocketAddr) {
        self.socket.send_to(&self.ping(expiration()), to).unwrap();
        let mut buffer = [0; 1280];
        loop {
            self.socket.recv(&mut buffer).unwrap();
            if buffer[TYPE] == MessageKind::Ping as u8 {
                break;
            }
        }
        let hash: [u8; 32] = buffer[..32].try_into().unwrap();
        let pong = Message::Pong(Pong {
            to: WireEndpoint::default(),
            ping_hash: PacketHash::new(hash),
            expiration: expiration(),
            enr_seq: None,
        });
        let (pong, _) = codec::encode(&self.key, &pong);
        self.socket.send_to(&pong, to).unwrap();
    }
}

fn expiration() -> u64 {
    Clock::start().now().unix.as_secs() + 10_000
}

fn senders(to: SocketAddr) -> Vec<Sender> {
    let mut rng = MachineRng::from_seed([3; 32]);
    let senders: Vec<Sender> = (0..SENDERS)
        .map(|_| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket.set_read_timeout(Some(LOST)).unwrap();
            let key = SecretKey::generate(&mut rng);
            Sender { key, socket }
        })
        .collect();
    for sender in &senders {
        sender.bond(to);
    }
    senders
}

/// The time from the first ping of some bursts to their last pong.
fn measure(senders: &[Sender], pings: &[Bytes], to: SocketAddr) -> Duration {
    let start = Instant::now();
    for _ in 0..BURSTS {
        for (sender, ping) in senders.iter().zip(pings) {
            for _ in 0..PINGS {
                sender.socket.send_to(ping, to).unwrap();
            }
        }
        for sender in senders {
            sender.receive(PINGS);
        }
    }
    start.elapsed()
}

/// Every thread of this process runs on the first `cores` of those it may use.
fn restrict(all: &CpuSet, cores: usize) {
    let mut set = CpuSet::new();
    (0..CpuSet::MAX_CPU)
        .filter(|cpu| all.is_set(*cpu))
        .take(cores)
        .for_each(|cpu| set.set(cpu));
    for thread in std::fs::read_dir("/proc/self/task").unwrap() {
        let id: i32 = thread
            .unwrap()
            .file_name()
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        sched_setaffinity(rustix::thread::Pid::from_raw(id), &set).unwrap();
    }
}

fn quarter(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 4]
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let config = DiscoveryConfig::builder()
        .listen((Ipv4Addr::LOCALHOST, 0).into())
        .build()
        .unwrap();
    let key = SecretKey::generate(&mut MachineRng::from_seed([1; 32]));
    let node = runtime
        .block_on(Discovery::start(config, key, NodeDb::memory().unwrap()))
        .unwrap();
    let to = node.local_addr();
    let senders = senders(to);
    let pings: Vec<Bytes> = senders
        .iter()
        .map(|sender| sender.ping(expiration()))
        .collect();
    measure(&senders, &pings, to);
    // Without this flag `cargo test` asks only whether the benchmark runs.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let all = sched_getaffinity(None).unwrap();
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (cores, times) in [(1, &mut one), (2, &mut two)] {
            restrict(&all, cores);
            times.push(measure(&senders, &pings, to));
        }
    }
    let rate = |time: Duration| (SENDERS * PINGS * BURSTS) as f64 / time.as_secs_f64();
    let (one, two) = (rate(quarter(one)), rate(quarter(two)));
    println!(
        "discv4: pings answered a second, the sender's work included: {one:.0} on one core, {two:.0} on two: ratio {:.2} (wanted {REQUIRED})",
        two / one
    );
    println!("{:?}", node.metrics());
    runtime.block_on(node.shutdown());
}
