//! What the benchmarks share: how a time is taken; services and discv5 peers whose packets are made beforehand, so that a
//! measurement holds next to nothing of their work; which cores the process runs on; and what each of its threads has cost.
#![allow(dead_code, unreachable_pub)] // no benchmark needs all of it

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};
use tercet_discovery::v5::{
    Message, Request, RequestId, Response, SessionInput, SessionOutput, Sessions, SessionsConfig,
    V5Peer, WireMessage,
};
use tercet_discovery::{Discovery, DiscoveryConfig, DiscoveryConfigBuilder};
use tercet_enode::{NodeId, NodeRecord, SecretKey};
use tercet_machine::{Clock, Machine, MachineRng, MonoTime, Now, UnixTime};
use tercet_nodedb::NodeDb;
use tokio::runtime::Runtime;

/// When machines are that are measured without a clock.
pub const NOW: Now = Now {
    mono: MonoTime::ZERO,
    unix: UnixTime::from_secs(1_700_000_000),
};

/// An answer that takes longer is lost, and the measurement with it.
const LOST: Duration = Duration::from_secs(5);

/// Whether figures are wanted: without this flag `cargo test` asks only whether the benchmark runs.
pub fn is_measured() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

pub fn time(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

/// The slowest of the quicker quarter: an interruption says nothing about what it interrupted.
pub fn quarter(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 4]
}

/// Says how busy the machine was with other things, as that decides what a figure is worth.
pub fn print_load() {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load of the machine: {}", load.trim());
}

/// A core of those this process may use, from the first on.
pub fn cores() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect()
}

/// This thread runs on this core alone.
pub fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).unwrap();
}

/// Every thread of this process runs on these cores alone.
pub fn restrict(cores: &[usize]) {
    let mut set = CpuSet::new();
    cores.iter().for_each(|cpu| set.set(*cpu));
    for thread in threads() {
        // One that has ended needs no place.
        let _gone = sched_setaffinity(Pid::from_raw(thread), &set);
    }
}

fn threads() -> Vec<i32> {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    threads
        .map(|thread| {
            thread
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect()
}

/// What the threads of each name have cost: time on a core, which other programs do not add to.
pub fn spent() -> BTreeMap<String, Duration> {
    let mut spent = BTreeMap::new();
    for thread in threads() {
        let folder = format!("/proc/self/task/{thread}");
        let (Ok(name), Ok(times)) = (
            fs::read_to_string(format!("{folder}/comm")),
            fs::read_to_string(format!("{folder}/schedstat")),
        ) else {
            continue;
        };
        let nanos = times.split(' ').next().unwrap().parse().unwrap();
        *spent.entry(name.trim().to_owned()).or_default() += Duration::from_nanos(nanos);
    }
    spent
}

/// What each name has cost since `before`, for one of `count` things.
pub fn spent_each(before: &BTreeMap<String, Duration>, count: usize) -> BTreeMap<String, Duration> {
    let each = |(name, now): (String, Duration)| {
        // Less than before where a thread of that name has ended.
        let since = now.saturating_sub(before.get(&name).copied().unwrap_or_default());
        (name, since / u32::try_from(count).unwrap())
    };
    spent().into_iter().map(each).collect()
}

pub fn runtime(name: &str, threads: usize) -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .enable_all()
        .build()
        .unwrap()
}

/// A service on loopback that remembers nothing, and how a discv5 peer names it.
pub fn start(runtime: &Runtime, seed: u8) -> (Discovery, V5Peer) {
    start_with(runtime, seed, DiscoveryConfig::builder())
}

pub fn start_with(
    runtime: &Runtime,
    seed: u8,
    config: DiscoveryConfigBuilder,
) -> (Discovery, V5Peer) {
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let config = config.listen(listen).build().unwrap();
    let key = SecretKey::generate(&mut MachineRng::from_seed([seed; 32]));
    let peer = peer(&key);
    let start = Discovery::start(config, key, NodeDb::memory().unwrap());
    (runtime.block_on(start).unwrap(), peer)
}

pub fn peer(key: &SecretKey) -> V5Peer {
    V5Peer {
        id: key.node_id(),
        key: Some(key.public_key()),
    }
}

pub fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(LOST)).unwrap();
    // What comes back of a burst waits here: as much as the system grants.
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 1 << 21).unwrap();
    socket
}

/// The next datagram's length.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> usize {
    let received = socket.recv(buffer);
    assert!(
        received.is_ok(),
        "nothing came in {LOST:?}: {received:?}. A handshake is lost where the machine stands still for a second in the middle of it"
    );
    received.unwrap()
}

/// A discv5 node for the benchmarked one to talk to. It has its own session machine and answers what it is asked.
pub struct Peer {
    pub key: SecretKey,
    pub record: NodeRecord,
    seed: [u8; 32],
    machine: Sessions,
    clock: Clock,
}

/// What came of a datagram.
pub struct Taken {
    /// To be sent back.
    pub send: Vec<Bytes>,
    /// Responses to this peer's requests.
    pub responses: Vec<(RequestId, Response<tercet_enode::UnverifiedRecord>)>,
}

impl Peer {
    /// Number `n`, that is reached at `addr`.
    pub fn new(n: u64, addr: SocketAddr) -> Self {
        let mut seed = [0x5e; 32];
        seed[..8].copy_from_slice(&n.to_be_bytes());
        let key = SecretKey::generate(&mut MachineRng::from_seed(seed));
        let record = NodeRecord::builder()
            .seq(1)
            .ip(addr.ip())
            .udp(addr.port())
            .tcp(addr.port())
            .sign(&key)
            .unwrap();
        let machine = Sessions::new(SessionsConfig::new(seed), key.clone(), record.clone());
        Self {
            key,
            record,
            seed,
            machine,
            clock: Clock::start(),
        }
    }

    pub fn id(&self) -> NodeId {
        self.key.node_id()
    }

    /// Loses its sessions, as a node that was restarted.
    pub fn forget(&mut self) {
        self.seed[31] = self.seed[31].wrapping_add(1);
        self.seed[30] = self.seed[30].wrapping_add(u8::from(self.seed[31] == 0));
        let config = SessionsConfig::new(self.seed);
        self.machine = Sessions::new(config, self.key.clone(), self.record.clone());
    }

    pub fn covers(&self, datagram: &[u8]) -> bool {
        self.machine.covers(datagram)
    }

    /// The datagrams that ask `to` for something: one, a request over the session or what begins a handshake.
    pub fn ask(&mut self, id: u64, to: SocketAddr, peer: V5Peer, request: Request) -> Bytes {
        let message = Message::Request(RequestId::new(&id.to_be_bytes()).unwrap(), request);
        let input = SessionInput::Send { to, peer, message };
        self.machine.handle(self.clock.now(), input);
        let mut sent = self.drain(to);
        assert_eq!(sent.send.len(), 1);
        sent.send.remove(0)
    }

    pub fn take(&mut self, from: SocketAddr, datagram: &[u8]) -> Taken {
        let datagram = BytesMut::from(datagram);
        let input = SessionInput::Datagram { from, datagram };
        self.machine.handle(self.clock.now(), input);
        self.drain(from)
    }

    fn drain(&mut self, with: SocketAddr) -> Taken {
        let now = self.clock.now();
        let mut taken = Taken {
            send: Vec::new(),
            responses: Vec::new(),
        };
        while let Some(output) = self.machine.poll() {
            match output {
                SessionOutput::Send { datagram, .. } => taken.send.push(datagram),
                SessionOutput::Unknown { from, id, nonce } => {
                    let known = None;
                    let input = SessionInput::Challenge {
                        from,
                        id,
                        nonce,
                        known,
                    };
                    self.machine.handle(now, input);
                }
                SessionOutput::Message { from, id, message } => match message {
                    WireMessage::Response(request, response) => {
                        taken.responses.push((request, response));
                    }
                    WireMessage::Request(request, asked) => {
                        let message = Message::Response(request, answer(with, asked));
                        let (to, peer) = (from, V5Peer { id, key: None });
                        let input = SessionInput::Send { to, peer, message };
                        self.machine.handle(now, input);
                    }
                },
                SessionOutput::Established { .. } => {}
            }
        }
        taken
    }

    /// How long the answer to a ping over the session is.
    pub fn learn_pong(&mut self, socket: &UdpSocket, to: SocketAddr, peer: V5Peer) -> usize {
        let ping = self.ask(0, to, peer, Request::Ping { enr_seq: 1 });
        socket.send_to(&ping, to).unwrap();
        let mut buffer = [0; 1280];
        loop {
            let len = receive(socket, &mut buffer);
            if !self.take(to, &buffer[..len]).responses.is_empty() {
                return len;
            }
        }
    }

    /// Shakes hands over `socket` and is answered.
    pub fn connect(&mut self, socket: &UdpSocket, to: SocketAddr, peer: V5Peer) {
        const PING: u64 = u64::MAX;
        let ping = Request::Ping { enr_seq: 1 };
        let first = self.ask(PING, to, peer, ping);
        socket.send_to(&first, to).unwrap();
        let (mut buffer, wanted) = ([0; 1280], RequestId::new(&PING.to_be_bytes()).unwrap());
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < LOST, "no answer to the handshake");
            let len = receive(socket, &mut buffer);
            let taken = self.take(to, &buffer[..len]);
            for datagram in taken.send {
                socket.send_to(&datagram, to).unwrap();
            }
            if taken.responses.iter().any(|(id, _)| *id == wanted) {
                return;
            }
        }
    }
}

fn answer(seen: SocketAddr, request: Request) -> Response {
    match request {
        Request::Ping { .. } => Response::Pong {
            enr_seq: 1,
            recipient: seen,
        },
        Request::FindNode { .. } => Response::Nodes {
            total: 1,
            records: Vec::new(),
        },
        Request::Talk { .. } => Response::Talk {
            payload: Bytes::new(),
        },
    }
}
