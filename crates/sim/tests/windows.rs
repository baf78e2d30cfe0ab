//! Runs on several threads: the same as on one, whatever happens within a window.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a test fails by panicking

use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;
use tercet_machine::{Machine, MachineRng, MonoTime, Now};
use tercet_sim::{
    Actions, Adapter, Counts, Event, LinkProfile, NatKind, NodeKey, Place, SimError, Simulation,
    TraceHash,
};

/// Enough that several threads take part in a window.
const NODES: u8 = 200;
/// Nothing is sooner anywhere.
const SHORTEST: Duration = Duration::from_millis(5);

/// Who is told this opens a stream.
const CONNECT: u8 = u8::MAX;

/// Wakes up often, also several times in a window, and tells somebody; what it is told it tells on, until it has gone far enough.
struct Gossip {
    rng: MachineRng,
    next: MonoTime,
    out: Vec<(SocketAddr, u8)>,
    heard: Vec<(MonoTime, u8)>,
}

fn addr(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 30303))
}

impl Gossip {
    fn tell(&mut self, hops: u8) {
        let to = addr(self.rng.random_range(0..NODES));
        self.out.push((to, hops));
    }
}

impl Machine for Gossip {
    type Input = u8;
    type Output = (SocketAddr, u8);

    fn handle(&mut self, now: Now, hops: u8) {
        self.heard.push((now.mono, hops));
        if hops == CONNECT {
            self.out.push((addr(0), CONNECT));
        } else if let Some(left) = hops.checked_sub(1) {
            self.tell(left);
            // Sooner than planned, and within this window.
            self.next = self.next.min(now.mono + SHORTEST / 3);
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        let micros = self.rng.random_range(1..20_000);
        self.next = now.mono + Duration::from_micros(micros);
        if micros < 5_000 {
            self.tell(2);
        }
    }

    fn deadline(&self) -> Option<MonoTime> {
        Some(self.next)
    }

    fn poll(&mut self) -> Option<(SocketAddr, u8)> {
        self.out.pop()
    }
}

struct Ear;

impl Adapter for Ear {
    type Machine = Gossip;
    type Packet = Vec<u8>;

    fn deliver(&mut self, _: Now, event: Event<Vec<u8>>) -> Option<u8> {
        match event {
            Event::Datagram { packet, .. } => packet.first().copied(),
            _ => None,
        }
    }

    fn act(&mut self, _: Now, (to, hops): (SocketAddr, u8), actions: &mut Actions<Vec<u8>, u8>) {
        if hops == CONNECT {
            actions.connect(to);
        } else {
            actions.send(to, vec![hops; 20]);
        }
    }
}

fn network() -> (Simulation<Ear>, Vec<NodeKey>) {
    let mut sim = Simulation::new(77);
    let link = LinkProfile::default()
        .latency(SHORTEST, Duration::from_millis(30))
        .loss(0.05)
        .duplication(0.05)
        .reordering(0.1, Duration::from_millis(20));
    sim.set_default_link(link);
    let mut keys = Vec::new();
    for host in 0..NODES {
        let gossip = Gossip {
            rng: sim.rng().child("gossip"),
            next: MonoTime::ZERO,
            out: Vec::new(),
            heard: Vec::new(),
        };
        keys.push(
            sim.add_node(Place::public(addr(host)), Ear, gossip)
                .unwrap(),
        );
    }
    (sim, keys)
}

type Ending = (TraceHash, Counts, Vec<Vec<(MonoTime, u8)>>);

fn ending(sim: &Simulation<Ear>) -> Ending {
    let heard = sim
        .nodes()
        .map(|node| sim.machine(node).unwrap().heard.clone());
    (sim.trace_hash(), sim.counts(), heard.collect())
}

/// Spans that end within windows; nodes that go and come between them; a partition.
fn play(threads: usize) -> Ending {
    let (mut sim, keys) = network();
    sim.run_for_on(threads, Duration::from_micros(1_234_567))
        .unwrap();
    sim.remove_node(keys[3]).unwrap();
    sim.partition(&keys[50..100]);
    sim.run_for_on(threads, Duration::from_millis(501)).unwrap();
    sim.heal();
    sim.run_for_on(threads, Duration::from_nanos(1)).unwrap();
    sim.run_for_on(threads, Duration::from_secs(1)).unwrap();
    assert_eq!(
        sim.now().mono,
        MonoTime::ZERO + Duration::from_nanos(2_735_567_001)
    );
    ending(&sim)
}

#[test]
fn any_number_of_threads_plays_the_same_run() {
    let one = play(1);
    assert!(one.1.delivered > 40_000, "{:?}", one.1);
    assert!(one.1.parted > 0 && one.1.lost > 0 && one.1.duplicated > 0 && one.1.unroutable > 0);
    for threads in [2, 3, 8] {
        let several = play(threads);
        assert_eq!((one.0, one.1), (several.0, several.1), "{threads} threads");
        assert!(
            one.2 == several.2,
            "{threads} threads: who heard what, and when"
        );
    }
}

#[test]
fn behind_a_nat_one_thread_plays() {
    let run = |threads: usize| {
        let (mut sim, _) = network();
        sim.add_nat([9, 9, 9, 9].into(), NatKind::FullCone);
        sim.run_for_on(threads, Duration::from_millis(300)).unwrap();
        ending(&sim)
    };
    assert!(run(1) == run(4));
}

#[test]
fn a_stream_ends_the_run_with_its_node() {
    let (mut sim, keys) = network();
    sim.spoof(addr(1), addr(7), vec![CONNECT]);
    let run = sim.run_for_on(2, Duration::from_millis(100));
    assert_eq!(run, Err(SimError::Stream { node: keys[7] }));
}
