//! A discv5 request and its response over a session that is there, through the running service, against an echo of the same
//! datagrams: the same socket code, batches and loop, with nothing in between.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub
)] // a benchmark: it reads the clock, and a failure is to stop it

mod common;
/// The driver's own; what it names of its crate is below.
#[allow(dead_code, unused_imports)] // with its tests, of which nothing is left here
#[path = "../src/socket/mod.rs"]
mod socket;

mod error {
    pub use tercet_discovery::StartError;
}
mod metrics {
    pub use tercet_discovery::DiscoveryMetrics;
}

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{
    Peer, cores, is_measured, print_load, quarter, restrict, runtime, spent, spent_each, start,
};
use metrics::DiscoveryMetrics;
use socket::Sockets;
use tercet_discovery::v5::Request;

/// The echo's time must be at least this part of ours.
const REQUIRED: f64 = 0.60;
/// Requests sent at once: what the driver reads in one turn.
const BURST: usize = 64;
const BURSTS: usize = 50;
const ROUNDS: usize = 40;
/// Datagrams the driver reads in one turn.
const MAX_READS: usize = 64;

/// The driver's loop with nothing in it.
async fn echo(mut sockets: Sockets) {
    let mut metrics = DiscoveryMetrics::default();
    loop {
        sockets.flush(&mut metrics);
        tokio::select! {
            biased;
            () = sockets.sent() => {},
            ready = sockets.readable() => {
                ready.unwrap();
                for _ in 0..MAX_READS {
                    sockets.fill(&mut metrics, || ());
                    let Some((from, datagram)) = sockets.take(&mut metrics) else {
                        break;
                    };
                    sockets.send(from, datagram.freeze(), &mut metrics);
                }
            }
        }
    }
}

/// The time until every request has its answer, `len` bytes long.
fn measure(socket: &UdpSocket, to: SocketAddr, requests: &[Bytes], len: usize) -> Duration {
    let mut buffer = [0; 1280];
    let start = Instant::now();
    for burst in requests.chunks(BURST) {
        for request in burst {
            socket.send_to(request, to).unwrap();
        }
        let mut answers = 0;
        while answers < burst.len() {
            let got = socket.recv(&mut buffer).unwrap();
            answers += usize::from(got == len);
        }
    }
    start.elapsed()
}

fn main() {
    // One core: the service takes in a burst as soon as the other side has sent it, and nobody waits for another core to wake.
    let one = cores()[..1].to_vec();
    restrict(&one);
    let (ours, theirs) = (runtime("service", 1), runtime("echo", 1));
    let (service, node) = start(&ours, 1);
    let to = service.local_addr();
    let echoing = {
        let _inside = theirs.enter();
        Sockets::bind((Ipv4Addr::LOCALHOST, 0).into(), None).unwrap()
    };
    let echo_addr = echoing.local_addr();
    theirs.spawn(echo(echoing));

    let socket = common::socket();
    let mut peer = Peer::new(1, socket.local_addr().unwrap());
    peer.connect(&socket, to, node);
    // What it answers differs in length from what the service asks on its own account.
    let pong = peer.learn_pong(&socket, to, node);
    let mut next = 0;
    let mut prepare = || -> Vec<Bytes> {
        let ask = |_| {
            next += 1;
            peer.ask(next, to, node, Request::Ping { enr_seq: 1 })
        };
        (0..BURST * BURSTS).map(ask).collect()
    };
    let first = prepare();
    measure(&socket, to, &first, pong);
    measure(&socket, echo_addr, &first, first[0].len());
    if !is_measured() {
        return;
    }
    print_load();
    let (mut ours, mut echo) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for _ in 0..ROUNDS {
        let requests = prepare();
        for (name, to, len, times) in [
            ("service", to, pong, &mut ours),
            ("echo", echo_addr, requests[0].len(), &mut echo),
        ] {
            let before = spent();
            times.0.push(measure(&socket, to, &requests, len));
            times.1.push(spent_each(&before, requests.len())[name]);
        }
    }
    let rate = |times: Vec<Duration>| (BURST * BURSTS) as f64 / quarter(times).as_secs_f64();
    let (ours_all, echo_all) = (rate(ours.0), rate(echo.0));
    let (ours, echo) = (quarter(ours.1), quarter(echo.1));
    let ratio = echo.as_secs_f64() / ours.as_secs_f64();
    println!(
        "discv5 ping to pong over a session {ours:?} of the service's thread, echo {echo:?}: ratio {ratio:.3} (required {REQUIRED})"
    );
    println!(
        "with the other side's work on the same core: {ours_all:.0} a second, echo {echo_all:.0}: ratio {:.3}",
        ours_all / echo_all
    );
    print_load();
}
