//! A network that falls in two and comes together again.

use rand::RngExt;
use tercet_discovery::Target;
use tercet_sim::{NodeKey, TraceHash};

use crate::network::{Network, Setup};
use crate::quality::share;
use crate::{MINUTE, Protocols, SECOND, grow, twice};

const NODES: usize = 200;
const LOOKUPS: usize = 60;

/// How lookups went that were started on one side.
#[derive(Debug, PartialEq)]
struct Found {
    /// Of nodes of the same side.
    here: f64,
    /// Of nodes of the other one.
    there: f64,
    /// Share of table places held by nodes of the other side.
    foreign: f64,
}

#[derive(Debug, PartialEq)]
struct Parted {
    trace: TraceHash,
    before: Found,
    /// After half an hour apart.
    apart: Found,
    /// A minute after the cut was mended.
    soon: Found,
    /// After as long as the longest wait between two refreshes.
    refreshed: Found,
    /// After twice as long.
    healed: Found,
}

fn is_island(index: usize) -> bool {
    index % 2 == 1
}

/// The share of lookups that found the very node they looked for.
fn look(network: &mut Network) -> Found {
    let mut wanted = Vec::new();
    let mut askers = network.running();
    while wanted.len() < 2 * LOOKUPS {
        let rng = network.sim.rng();
        let asker = askers.swap_remove(rng.random_range(0..askers.len()));
        let other = rng.random_range(0..NODES);
        let target = &network.peers[other];
        let wants_same = wanted.len() % 2 == 0;
        let spoken = network.peers[asker].protocols.and(target.protocols);
        if asker == other
            || (is_island(asker) == is_island(other)) != wants_same
            || spoken == Protocols::NONE
        {
            askers.push(asker);
            continue;
        }
        wanted.push((asker, Target::from(target.node.public_key())));
    }
    let mut found = [0, 0];
    for (turn, done) in network.lookups(&wanted).into_iter().enumerate() {
        let closest = done.found.closest.first().map(|node| node.id());
        found[turn % 2] += usize::from(closest == Some(wanted[turn].1.id()));
    }
    let (mut entries, mut foreign) = (0, 0);
    for index in network.running() {
        let table = network.core(index).snapshot();
        entries += table.len();
        foreign += (0..NODES)
            .filter(|other| is_island(*other) != is_island(index))
            .filter(|other| table.get(&network.peers[*other].node.id()).is_some())
            .count();
    }
    Found {
        here: share(found[0], LOOKUPS),
        there: share(found[1], LOOKUPS),
        foreign: share(foreign, entries),
    }
}

fn play() -> Parted {
    let mut network = Network::new(Setup::new(81));
    grow(&mut network, NODES, 20);
    network.run(5 * MINUTE);
    let before = look(&mut network);
    let island: Vec<NodeKey> = (0..NODES)
        .filter(|index| is_island(*index))
        .map(|index| network.peers[index].place.expect("it runs"))
        .collect();
    network.sim.partition(&island);
    network.run(30 * MINUTE);
    let apart = look(&mut network);
    network.sim.heal();
    network.run(60 * SECOND);
    let soon = look(&mut network);
    network.run(30 * MINUTE);
    let refreshed = look(&mut network);
    network.run(30 * MINUTE);
    let healed = look(&mut network);
    Parted {
        trace: network.sim.trace_hash(),
        before,
        apart,
        soon,
        refreshed,
        healed,
    }
}

#[test]
fn a_network_that_fell_in_two_works_in_halves_and_grows_together_again() {
    let parted = twice(play);
    println!("{NODES} nodes, half of them cut off for half an hour: {parted:#?}");

    assert!(
        parted.before.there >= 0.9 && parted.before.foreign > 0.4,
        "{parted:?}"
    );
    assert_eq!(parted.apart.there, 0.0, "the cut is one");
    assert!(
        parted.apart.here >= 0.9,
        "each half is a network: {parted:?}"
    );
    assert!(
        parted.apart.foreign < 0.05,
        "who is not there is forgotten: {parted:?}"
    );
    assert!(
        parted.healed.here >= 0.9 && parted.healed.there >= 0.9,
        "{parted:?}"
    );
    // Who has lived through the cut keeps his place in a full bucket, so the halves stay more at home than before.
    assert!(parted.healed.foreign > 0.15, "{parted:?}");
}
