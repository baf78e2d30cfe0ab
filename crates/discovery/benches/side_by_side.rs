//! The same FINDNODE load from the same generator on this crate's service and on the `discv5` crate's: how many a second each
//! answers. Both know the same nodes and answer with sixteen of them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)] // a benchmark: it reads the clock, and a failure is to stop it

mod common;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{
    Peer, cores, is_measured, peer, print_load, quarter, restrict, runtime, socket, spent,
    spent_each, start,
};
use discv5::{ConfigBuilder, Discv5, ListenConfig};
use enr::{CombinedKey, Enr};
use tercet_discovery::v5::{Distances, Request, Response, V5Peer};
use tercet_enode::SecretKey;
use tercet_machine::MachineRng;

/// How many times as many we are to answer.
const REQUIRED: f64 = 2.0;
/// Nodes in each table.
const KNOWN: usize = 32;
/// Records in an answer.
const ANSWER: usize = 16;
/// Who asks, each over its own session.
const ASKERS: usize = 8;
/// Requests sent at once, and each asker's of them; twice as many are in flight.
const BURST: usize = 64;
const EACH: usize = BURST / ASKERS;
const BURSTS: usize = 30;
const ROUNDS: usize = 20;
/// Far longer than it takes until the service has found its nodes alive.
const LIMIT: Duration = Duration::from_secs(60);

/// A server as the generator sees it.
struct Server {
    name: &'static str,
    addr: SocketAddr,
    node: V5Peer,
    askers: Vec<Peer>,
    /// One for each asker.
    sockets: Vec<UdpSocket>,
    next: u64,
    /// Datagrams that answer one request, and their bytes.
    answer: (usize, usize),
}

impl Server {
    fn new(name: &'static str, (addr, node): (SocketAddr, V5Peer)) -> Self {
        let sockets: Vec<UdpSocket> = (0..ASKERS).map(|_| socket()).collect();
        let mut askers = Vec::new();
        for (n, socket) in (1000..).zip(&sockets) {
            let mut asker = Peer::new(n, socket.local_addr().unwrap());
            asker.connect(socket, addr, node);
            socket.connect(addr).unwrap();
            askers.push(asker);
        }
        let mut server = Self {
            name,
            addr,
            node,
            askers,
            sockets,
            next: 0,
            answer: (0, 0),
        };
        server.answer = server.learn();
        server
    }

    fn ask(&mut self, asker: usize) -> Bytes {
        self.next += 1;
        let distances = Distances::new([256, 255, 254, 253, 252]);
        let request = Request::FindNode { distances };
        self.askers[asker].ask(self.next, self.addr, self.node, request)
    }

    /// Asks once and reads all of the answer.
    fn learn(&mut self) -> (usize, usize) {
        let request = self.ask(0);
        self.sockets[0].send(&request).unwrap();
        let (mut buffer, mut packets, mut bytes, mut found) = ([0; 1280], 0, 0, 0);
        loop {
            let len = self.sockets[0].recv(&mut buffer).unwrap();
            for (_, response) in self.askers[0].take(self.addr, &buffer[..len]).responses {
                if let Response::Nodes { total, records } = response {
                    packets += 1;
                    bytes += len;
                    found += records.len();
                    if packets as u64 == total {
                        assert_eq!(found, ANSWER, "{} names so many", self.name);
                        return (packets, bytes);
                    }
                }
            }
        }
    }

    /// Bursts, each asker's requests of one together.
    fn prepare(&mut self) -> Vec<Bytes> {
        (0..BURST * BURSTS)
            .map(|n| self.ask(n / EACH % ASKERS))
            .collect()
    }

    /// The time until every request has its answer. A burst is sent before the answers to the one before are read, so that the
    /// server always has something to do.
    fn measure(&self, requests: &[Bytes]) -> Duration {
        let start = Instant::now();
        let mut waiting = false;
        for burst in requests.chunks(BURST) {
            for (socket, requests) in self.sockets.iter().zip(burst.chunks(EACH)) {
                for request in requests {
                    socket.send(request).unwrap();
                }
            }
            if waiting {
                self.receive();
            }
            waiting = true;
        }
        self.receive();
        start.elapsed()
    }

    /// The answers to a burst, the last asker's first: when they are there, so are nearly all others, and this thread sleeps a
    /// few times instead of for every answer. Only answers are as long as records are.
    fn receive(&self) {
        let mut buffer = [0; 1280];
        for socket in self.sockets.iter().rev() {
            let mut packets = 0;
            while packets < EACH * self.answer.0 {
                packets += usize::from(socket.recv(&mut buffer).unwrap() > 200);
            }
        }
    }
}

/// The nodes in the tables: all behind one port, each answers what it is asked.
struct Crowd {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Crowd {
    fn meet(servers: &[(SocketAddr, V5Peer)]) -> (Self, Vec<String>) {
        let socket = socket();
        let own = socket.local_addr().unwrap();
        let mut peers: Vec<Peer> = (0..KNOWN as u64).map(|n| Peer::new(1 + n, own)).collect();
        let texts = peers.iter().map(|peer| peer.record.to_string()).collect();
        for (addr, node) in servers {
            for peer in &mut peers {
                peer.connect(&socket, *addr, *node);
            }
        }
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let serve = move || {
            let mut buffer = [0; 1280];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                let datagram = &buffer[..len];
                let Some(peer) = peers.iter_mut().find(|peer| peer.covers(datagram)) else {
                    continue;
                };
                for answer in peer.take(from, datagram).send {
                    socket.send_to(&answer, from).unwrap();
                }
            }
        };
        let thread = std::thread::Builder::new().name("crowd".to_owned());
        let thread = thread.spawn(serve).unwrap();
        (Self { stop, thread }, texts)
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

fn free_port() -> u16 {
    socket().local_addr().unwrap().port()
}

/// The `discv5` crate with its defaults, which set no limit on who asks how much.
async fn start_discv5(key: &SecretKey) -> (Discv5, SocketAddr) {
    let (ip, port) = (Ipv4Addr::LOCALHOST, free_port());
    let key = CombinedKey::secp256k1_from_bytes(key.to_bytes().as_mut_slice()).unwrap();
    let enr = Enr::builder().ip4(ip).udp4(port).build(&key).unwrap();
    let config = ConfigBuilder::new(ListenConfig::Ipv4 { ip, port }).build();
    let mut discv5 = Discv5::new(enr, key, config).unwrap();
    discv5.start().await.unwrap();
    (discv5, (ip, port).into())
}

fn main() {
    let (ours, theirs) = (runtime("tercet", 2), runtime("discv5", 2));
    let (service, node) = start(&ours, 1);
    let mut rng = MachineRng::from_seed([1; 32]);
    // The first is the service's. With this second one its neighbour too knows sixteen of the crowd at the distances asked for.
    let [_, key] = [(); 2].map(|()| SecretKey::generate(&mut rng));
    let (mut other, other_addr) = theirs.block_on(start_discv5(&key));
    let addrs = [(service.local_addr(), node), (other_addr, peer(&key))];
    let (crowd, records) = Crowd::meet(&addrs);
    for record in records {
        // Those that have shaken hands may be there already.
        let _there = other.add_enr(record.parse().unwrap());
    }
    let mut table = service.table_watch();
    let alive =
        table.wait_for(|table| table.entries().filter(|entry| entry.live).count() >= KNOWN - 4);
    ours.block_on(async {
        tokio::time::timeout(LIMIT, alive).await.unwrap().unwrap();
    });

    let mut servers = [
        Server::new("tercet", addrs[0]),
        Server::new("discv5", addrs[1]),
    ];
    for server in &mut servers {
        let requests = server.prepare();
        server.measure(&requests);
    }
    if is_measured() {
        report(&mut servers);
    }
    crowd.end();
    other.shutdown();
    ours.block_on(service.shutdown());
}

/// On one core, where nothing waits for another core to wake, and on all.
fn report(servers: &mut [Server; 2]) {
    print_load();
    let all = cores();
    for (on, set) in [("one core", &all[..1]), ("all cores", &all[..])] {
        let [ours, theirs] = compare(servers, set);
        println!(
            "on {on}: tercet answers {:.0} FINDNODE a second, {:?} on a core for each; discv5 {:.0}, {:?}: ratio {:.2} (required {REQUIRED}), by time on a core {:.2}",
            ours.0,
            ours.1,
            theirs.0,
            theirs.1,
            ours.0 / theirs.0,
            theirs.1.as_secs_f64() / ours.1.as_secs_f64()
        );
    }
    for server in servers {
        let (packets, bytes) = server.answer;
        println!(
            "an answer of {} is {packets} packets, {bytes} bytes",
            server.name
        );
    }
    print_load();
}

/// Answers a second and time on a core for each. In turn, so that a slow moment of the machine meets both.
fn compare(servers: &mut [Server; 2], set: &[usize]) -> [(f64, Duration); 2] {
    restrict(set);
    let mut times = [(); 2].map(|()| (Vec::new(), Vec::new()));
    for _ in 0..ROUNDS {
        for (server, (walls, costs)) in servers.iter_mut().zip(&mut times) {
            let requests = server.prepare();
            let before = spent();
            walls.push(server.measure(&requests));
            costs.push(cost(server.name, &before, requests.len()));
        }
    }
    times.map(|(walls, costs)| {
        let rate = (BURST * BURSTS) as f64 / quarter(walls).as_secs_f64();
        (rate, quarter(costs))
    })
}

/// Time of a server's threads on a core for each request.
fn cost(name: &str, before: &BTreeMap<String, Duration>, count: usize) -> Duration {
    let each = spent_each(before, count);
    let of_service = |thread: &str| match name {
        "tercet" => thread == name || thread.starts_with("discovery-"),
        _ => thread == name,
    };
    each.iter()
        .filter(|(thread, _)| of_service(thread))
        .map(|(_, each)| *each)
        .sum()
}
