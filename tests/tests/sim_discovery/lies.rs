//! Three nodes of ten lie: a third of them name honest nodes where they are not, a third nodes nobody runs, a third each
//! other, always those nearest to what they are asked for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use rand::RngExt;
use tercet_discovery::{Protocols, Target};
use tercet_enode::{Endpoint, Node, SecretKey};
use tercet_sim::TraceHash;

use crate::liar::{Conspiracy, Tactic};
use crate::network::{Network, Setup, mixed, node};
use crate::quality::{TableQuality, share};
use crate::{MINUTE, SECOND, twice};

const NODES: usize = 500;
const TACTICS: [Tactic; 3] = [Tactic::WrongPlaces, Tactic::Dead, Tactic::Each];
/// Keys the liars have prepared for nodes nobody runs: of so many, sixteen are nearer to any target than the honest ones.
const DEAD: usize = 2000;
const LOOKUPS: usize = 300;

const fn is_liar(index: usize) -> bool {
    matches!(index % 10, 3 | 6 | 9)
}

#[derive(Debug, PartialEq)]
struct Lied {
    trace: TraceHash,
    tables: TableQuality,
    /// The share of places in honest tables that liars have.
    liars: f64,
    /// Lookups of honest nodes that ended with the node itself.
    found: f64,
    /// Among the sixteen nearest such a lookup found, the true ones that are honest.
    overlap: f64,
    mean_queries: f64,
    /// Lookups that did not find the node, by the protocols of who asked and of who was looked for.
    missed: BTreeMap<String, usize>,
}

/// A network in which those liars run, or nobody in their places.
fn play(lying: bool) -> Lied {
    let mut network = Network::new(Setup::new(31));
    for index in 0..NODES {
        let at = SocketAddr::from(([20, (index >> 8) as u8, index as u8, 7], 30303));
        network.enroll(at, mixed(index));
    }
    let plan = Arc::new(conspire(&mut network));
    for index in 0..NODES {
        if !is_liar(index) {
            let boot = (index > 0).then(|| network.peers[0].node.clone());
            network.start(index, boot.into_iter().collect());
        } else if lying {
            network.start_liar(index, TACTICS[index / 10 % 3], &plan);
        }
        network.run(SECOND / 20);
    }
    network.run(5 * MINUTE);
    measure(&mut network)
}

fn conspire(network: &mut Network) -> Conspiracy {
    let (mut plan, peers) = (Conspiracy::default(), network.peers.clone());
    for (index, peer) in peers.iter().enumerate() {
        if is_liar(index) {
            plan.liars.push(peer.node.clone());
        } else {
            let nowhere = Endpoint::new(
                [60, (index >> 8) as u8, index as u8, 7].into(),
                30303,
                30303,
            );
            plan.misplaced
                .push(Node::new(peer.node.public_key(), nowhere));
            plan.marks.push(peer.node.clone());
        }
    }
    let seq = network.sim.now().unix.as_millis();
    for index in 0..DEAD {
        let secret = SecretKey::generate(network.sim.rng());
        let at = SocketAddr::from(([90, (index >> 8) as u8, index as u8, 7], 30303));
        plan.dead.push(node(&secret, at, seq));
    }
    plan
}

fn measure(network: &mut Network) -> Lied {
    let tables = TableQuality::measure(network);
    let honest = network.running();
    let (mut entries, mut lying) = (0, 0);
    for index in &honest {
        let table = network.core(*index).snapshot();
        entries += table.len();
        lying += (0..NODES)
            .filter(|index| {
                is_liar(*index) && table.get(&network.peers[*index].node.id()).is_some()
            })
            .count();
    }
    let mut askers = honest.clone();
    let mut wanted = Vec::new();
    while wanted.len() < LOOKUPS {
        let rng = network.sim.rng();
        let asker = askers.swap_remove(rng.random_range(0..askers.len()));
        let other = honest[rng.random_range(0..honest.len())];
        let (asker, other) = (asker, &network.peers[other]);
        let spoken = network.peers[asker].protocols.and(other.protocols);
        if other.node.id() != network.peers[asker].node.id() && spoken != Protocols::NONE {
            wanted.push((asker, Target::from(other.node.public_key())));
        }
    }
    let (mut found, mut overlap, mut possible, mut queries) = (0, 0, 0, 0);
    let mut missed = BTreeMap::new();
    let done = network.lookups(&wanted);
    for ((asker, target), done) in wanted.iter().zip(done) {
        let closest: Vec<_> = done.found.closest.iter().map(Node::id).collect();
        let truth = network.truly_closest(target, *asker, 16);
        if closest.first() == Some(&target.id()) {
            found += 1;
        } else {
            let mut peers = network.peers.iter();
            let sought = peers.find(|peer| peer.node.id() == target.id());
            let kinds = (
                network.peers[*asker].protocols,
                sought.map(|peer| peer.protocols),
            );
            *missed.entry(format!("{kinds:?}")).or_default() += 1;
        }
        overlap += truth.iter().filter(|id| closest.contains(id)).count();
        possible += truth.len();
        queries += done.sent.finds;
    }
    Lied {
        trace: network.sim.trace_hash(),
        tables,
        liars: share(lying, entries),
        found: share(found, LOOKUPS),
        overlap: share(overlap, possible),
        mean_queries: queries as f64 / LOOKUPS as f64,
        missed,
    }
}

#[test]
fn three_liars_in_ten_do_not_keep_lookups_from_the_truth() {
    let honest = twice(|| play(false));
    let lied = twice(|| play(true));
    println!("without liars: {honest:#?}\nwith liars: {lied:#?}");

    assert!(honest.found >= 0.93, "{honest:?}");
    assert!(lied.liars >= 0.2, "they are believed to live: {lied:?}");
    assert!(lied.found >= 0.85, "{lied:?}");
}
