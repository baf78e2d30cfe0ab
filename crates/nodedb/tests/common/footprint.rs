//! Filling a store with realistic nodes and measuring what it costs the process.

#![allow(clippy::disallowed_methods)] // measures time

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tercet_nodedb::{NodeStore, Write};

use super::{T0, ping, pong, signed};

/// Small commits, so that what the test itself holds is small beside what it measures.
const COMMIT: u32 = 128;

pub const MIB: u64 = 1 << 20;

/// Records of nodes `from..to`, each with a ping, a pong and a contact.
pub fn writes(from: u32, to: u32) -> Vec<Write> {
    let of = |number: u32| {
        let ip = Ipv4Addr::from(0x0b00_0000 + number).into();
        let node = signed(number, ip, u64::from(number) + 1_700_000_000_000);
        [ping(&node, T0), pong(&node, T0), Write::Node(node)]
    };
    (from..to).flat_map(of).collect()
}

pub fn warm_up() {
    drop(writes(0, COMMIT));
}

pub fn fill(store: &dyn NodeStore, nodes: u32) -> (Duration, u64) {
    let (mut time, mut most) = (Duration::ZERO, 0);
    for from in (0..nodes).step_by(COMMIT as usize) {
        let writes = writes(from, (from + COMMIT).min(nodes));
        let start = Instant::now();
        store.apply(T0, &writes).unwrap();
        time += start.elapsed();
        most = most.max(store.stats().unwrap().memory_bytes);
    }
    (time, most)
}

/// Memory of this process that is not a file's, in bytes; `None` where the system does not say.
pub fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

pub fn grown(since: Option<u64>) -> Option<u64> {
    Some(resident()?.saturating_sub(since?))
}

pub fn show(what: &str, bytes: Option<u64>) {
    match bytes {
        Some(bytes) => println!("{what:<58} {:>8.1} MiB", bytes as f64 / MIB as f64),
        None => println!("{what:<58} not known on this system"),
    }
}

pub fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = run();
    println!("{what:<58} {:>8.1} ms", start.elapsed().as_secs_f64() * 1e3);
    result
}
