//! A network that loses a tenth of its nodes each minute and gains as many.

use rand::RngExt;

use crate::network::{Network, Setup};
use crate::quality::{LookupQuality, TableQuality};
use crate::{Ending, MINUTE, Protocols, SECOND, end, grow, twice};

const NODES: usize = 300;
/// Ten minutes of a death every two seconds.
const DEATHS: usize = 300;

/// How a network fared in which as many nodes were replaced as it has.
#[derive(Debug, PartialEq)]
struct Churned {
    /// Datagrams a node receives in a minute before the first change.
    quiet: f64,
    /// Each minute, while nodes die.
    lookups: Vec<LookupQuality>,
    /// Right after the last change.
    tables: TableQuality,
    /// Smallest table of a node that came back from its database alone.
    restarted: usize,
    /// Ten quiet minutes later.
    ending: Ending,
}

/// For ten minutes a node dies and a new one comes every two seconds; every twentieth second one that died a minute ago or
/// longer comes back, with its database and without a boot node. Then ten quiet minutes.
fn churn(seed: u64) -> Churned {
    let mut setup = Setup::new(seed);
    setup.databases = true;
    let mut network = Network::new(setup);
    grow(&mut network, NODES, 20);
    // Nodes are written to the database once they have been in the table for five minutes.
    network.run(4 * MINUTE);
    let before = network.sim.counts().delivered;
    network.run(3 * MINUTE);
    let delivered = network.sim.counts().delivered - before;
    let quiet = delivered as f64 / NODES as f64 / 3.0;

    let (mut dead, mut restarted) = (Vec::new(), Vec::new());
    let mut lookups = Vec::new();
    for round in 1..=DEATHS {
        let victims: Vec<usize> = network
            .running()
            .into_iter()
            .filter(|index| *index != 0 && !restarted.contains(index))
            .collect();
        let victim = victims[network.sim.rng().random_range(0..victims.len())];
        network.kill(victim);
        dead.push(victim);
        network.join();
        if round % 10 == 0 && round >= 30 {
            // The first to die ran for seven minutes and more: its database has something to start from.
            let index = dead.remove(0);
            network.start(index, vec![]);
            restarted.push(index);
        }
        network.run(2 * SECOND);
        if round % 30 == 0 {
            lookups.push(LookupQuality::measure(&mut network, 60, Protocols::NONE));
        }
    }
    let tables = TableQuality::measure(&network);
    network.run(10 * MINUTE);
    let restarted = restarted
        .iter()
        .map(|index| network.core(*index).table().live_len())
        .min()
        .unwrap_or(0);
    Churned {
        quiet,
        lookups,
        tables,
        restarted,
        ending: end(&mut network, 100),
    }
}

#[test]
fn lookups_succeed_while_a_tenth_of_the_network_changes_each_minute() {
    let Churned {
        quiet,
        lookups,
        tables,
        restarted,
        ending,
    } = twice(|| churn(2));
    let nearest = lookups.iter().map(|minute| minute.nearest).sum::<f64>() / lookups.len() as f64;
    let overlap = lookups.iter().map(|minute| minute.overlap).sum::<f64>() / lookups.len() as f64;
    println!("{NODES} nodes at rest: {quiet:.1} datagrams a node and minute");
    println!("{NODES} nodes, a death and a birth every two seconds for ten minutes: {tables:?}");
    println!(
        "lookups meanwhile: {nearest:.3} end with the nearest, {overlap:.3} of the nearest sixteen are found"
    );
    for (minute, lookups) in lookups.iter().enumerate() {
        println!("  minute {}: {lookups:?}", minute + 1);
    }
    println!(
        "ten minutes later: {ending:#?}\nleast live after a restart from the database alone: {restarted}"
    );

    assert!(ending.counts.unroutable > 0, "the dead were missed");
    assert!(nearest >= 0.85 && overlap >= 0.85, "{lookups:?}");
    assert!(tables.smallest >= 1 && tables.dead < 0.12, "{tables:?}");
    let after = &ending.tables;
    assert!(after.dead < 0.02, "{tables:?} {after:?}");
    // A check in 4.5 s is 27 datagrams, half of them answers.
    assert!(quiet < 35.0, "{quiet}");
    assert!(
        after.poor <= 0.01 && restarted >= 16,
        "{after:?} {restarted}"
    );
    assert!(
        ending.lookups.nearest >= 0.9 && ending.lookups.overlap >= 0.9,
        "{ending:?}"
    );
}
