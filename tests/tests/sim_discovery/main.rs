//! Discovery with many nodes in virtual time, over both protocols. Most scenarios are played at the level of messages, where
//! nothing is signed or encrypted, so that ten thousand nodes run in one process; floods and NATs with whole stacks (`stacks`).
//! Each scenario runs twice, side by side, and both runs must leave the same trace.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod bootstrap;
mod churn;
mod eclipse;
mod flood;
mod liar;
mod lies;
mod nat;
mod network;
mod node;
mod packet;
mod partition;
mod quality;
mod sessions;
mod stacks;
mod wire;

use std::fmt::Debug;
use std::thread;
use std::time::Duration;

use tercet_discovery::{Command, OpId, Protocols};
use tercet_sim::{Counts, TraceHash};

use network::Network;
use quality::{LookupQuality, TableQuality};
use tikv_jemallocator::Jemalloc;

/// What one thread allocates another frees, as a datagram that comes to another's node: this allocator keeps both from waiting for
/// each other, and takes huge pages. A third less time than with the system's for ten thousand nodes.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Plays a scenario twice and holds the runs against each other.
fn twice<R: Send + PartialEq + Debug>(play: impl Fn() -> R + Sync) -> R {
    let (first, second) = thread::scope(|scope| {
        let second = scope.spawn(&play);
        (play(), second.join().expect("the second run"))
    });
    assert_eq!(first, second, "a seed repeats its run");
    first
}

/// What two runs are compared by.
#[derive(Debug, PartialEq)]
struct Ending {
    trace: TraceHash,
    counts: Counts,
    tables: TableQuality,
    lookups: LookupQuality,
}

/// Moments of a second at which nodes come: as far apart as the nearest nodes are, so that several threads have something to do.
const TICKS: u32 = 100;

/// Nodes that know the first one only, so many a second; then until the first refresh of each is over.
fn grow(network: &mut Network, nodes: usize, a_second: u32) -> Duration {
    let mut joining: Vec<(usize, OpId)> = Vec::new();
    for tick in 1.. {
        while joining.len() < nodes && joining.len() < (tick * a_second / TICKS) as usize {
            let index = network.join();
            // A node's first refresh is over when a refresh it was asked to wait for is.
            joining.push((index, network.command(index, Command::Refresh)));
        }
        if joining.len() == nodes {
            break;
        }
        network.run(SECOND / TICKS);
    }
    let mut waited = Duration::ZERO;
    while !joining
        .iter()
        .all(|(index, op)| network.is_done(*index, *op))
    {
        network.run(SECOND);
        waited += SECOND;
        assert!(waited < MINUTE, "every first refresh ends within a minute");
    }
    waited
}

fn end(network: &mut Network, lookups: usize) -> Ending {
    let tables = TableQuality::measure(network);
    let lookups = LookupQuality::measure(network, lookups, Protocols::NONE);
    Ending {
        trace: network.sim.trace_hash(),
        counts: network.sim.counts(),
        tables,
        lookups,
    }
}
