//! discv4 with many nodes in virtual time: a network that grows from one node, and one that loses and gains members all the
//! while. Each scenario runs twice, side by side, and both runs must leave the same trace.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod network;
mod quality;

use std::fmt::Debug;
use std::thread;
use std::time::Duration;

use network::Network;
use quality::{LookupQuality, TableQuality};
use rand::RngExt;
use tercet_discovery::OpId;
use tercet_sim::{Counts, TraceHash};

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

/// Nodes that know the first one only, twenty a second; then until the first refresh of each is over.
fn grow(network: &mut Network, nodes: usize) -> Duration {
    let mut joining: Vec<(usize, OpId)> = Vec::new();
    for _ in 0..nodes {
        let index = network.join();
        joining.push((index, network.ask_to_join(index)));
        network.run(SECOND / 20);
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

fn end(mut network: Network, lookups: usize) -> Ending {
    let tables = TableQuality::measure(&network);
    let lookups = LookupQuality::measure(&mut network, lookups);
    Ending {
        trace: network.sim.trace_hash(),
        counts: network.sim.counts(),
        tables,
        lookups,
    }
}

#[test]
fn a_thousand_nodes_find_each_other_from_one() {
    let (waited, ending) = twice(|| {
        let mut network = Network::new(1);
        let waited = grow(&mut network, 1000);
        network.run(MINUTE / 2);
        (waited, end(network, 60))
    });
    let Ending {
        trace,
        counts,
        tables,
        lookups,
    } = ending;
    println!("1000 nodes, trace {trace}: the last had joined {waited:?} after it came");
    println!("{counts:?}\n{tables:?}\n{lookups:?}");

    assert!(waited <= 15 * SECOND, "{waited:?}");
    assert!(tables.smallest >= 1 && tables.poor <= 0.01, "{tables:?}");
    assert!(tables.mean >= 80.0 && tables.live >= 0.99, "{tables:?}");
    assert!(tables.nearest_known >= 0.9, "{tables:?}");
    assert!(
        lookups.nearest >= 0.85 && lookups.overlap >= 0.9,
        "{lookups:?}"
    );
    assert!(
        lookups.most_hops <= 5 && lookups.most_queries <= 40,
        "{lookups:?}"
    );
    assert!(lookups.mean_time <= 3 * SECOND, "{lookups:?}");
}

#[test]
fn lookups_find_the_nearest_where_datagrams_overtake_each_other() {
    let Ending {
        trace,
        counts,
        tables,
        lookups,
    } = twice(|| {
        let mut network = Network::reordering(3);
        grow(&mut network, 300);
        network.run(MINUTE / 2);
        end(network, 100)
    });
    println!("300 nodes, datagrams out of order, trace {trace}");
    println!("{counts:?}\n{tables:?}\n{lookups:?}");

    assert!(
        lookups.nearest >= 0.95 && lookups.overlap >= 0.95,
        "{lookups:?}"
    );
    assert!(
        lookups.most_hops <= 5 && lookups.most_queries <= 40,
        "{lookups:?}"
    );
}

/// How a network fared in which half of the nodes were replaced.
#[derive(Debug, PartialEq)]
struct Churned {
    /// Right after the last change.
    before: TableQuality,
    /// Smallest table of a node that came back from its database alone.
    restarted: usize,
    ending: Ending,
}

/// For ten minutes a node dies and a new one comes every four seconds; every twentieth second one that died a minute ago or
/// longer comes back, with its database and without a boot node. Then ten quiet minutes.
fn churn(seed: u64) -> Churned {
    const NODES: usize = 300;
    let mut network = Network::new(seed);
    grow(&mut network, NODES);
    // Nodes are written to the database once they have been in the table for five minutes.
    network.run(7 * MINUTE);

    let mut dead: Vec<usize> = Vec::new();
    let mut restarted: Vec<usize> = Vec::new();
    for round in 0..150 {
        let victims: Vec<usize> = network
            .running()
            .into_iter()
            .filter(|index| *index != 0 && !restarted.contains(index))
            .collect();
        let victim = victims[network.sim.rng().random_range(0..victims.len())];
        network.kill(victim);
        dead.push(victim);
        network.join();
        if round % 5 == 4 && round >= 15 {
            // The first to die ran for seven minutes and more: its database has something to start from.
            let index = dead.remove(0);
            network.start(index, vec![]);
            restarted.push(index);
        }
        network.run(4 * SECOND);
    }
    let before = TableQuality::measure(&network);
    network.run(10 * MINUTE);
    let restarted = restarted
        .iter()
        .map(|index| network.table(*index).live_len())
        .min()
        .unwrap_or(0);
    Churned {
        before,
        restarted,
        ending: end(network, 60),
    }
}

#[test]
fn tables_recover_from_churn_and_restarted_nodes_find_back_by_their_database() {
    let Churned {
        before,
        restarted,
        ending,
    } = twice(|| churn(2));
    let Ending {
        trace,
        counts,
        tables,
        lookups,
    } = ending;
    println!(
        "300 nodes, half of them replaced, trace {trace}: least table after a restart {restarted}"
    );
    println!(
        "{counts:?}\nat the end of the churn: {before:?}\nten minutes later: {tables:?}\n{lookups:?}"
    );

    assert!(counts.unroutable > 0, "the dead were missed");
    assert!(before.smallest >= 1 && before.dead < 0.5, "{before:?}");
    assert!(
        tables.dead < before.dead / 2.0 && tables.dead < 0.06,
        "{before:?} {tables:?}"
    );
    assert!(
        tables.poor <= 0.01 && restarted >= 16,
        "{tables:?} {restarted}"
    );
    assert!(
        lookups.nearest >= 0.85 && lookups.overlap >= 0.9,
        "{lookups:?}"
    );
}
