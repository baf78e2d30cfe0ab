//! Somebody with one network, and somebody with a hundred, tries to own one node's table: by knocking at it with as many
//! identities as he likes, made so that they fall into every one of its buckets, which all live and name only each other.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rand::RngExt;
use tercet_discovery::{BUCKET_LIMITS, Protocols, TABLE_LIMITS, Target};
use tercet_enode::{NodeId, SecretKey};
use tercet_machine::Subnet;
use tercet_sim::TraceHash;

use crate::liar::{Conspiracy, Tactic};
use crate::network::{Network, Setup, node};
use crate::quality::share;
use crate::{MINUTE, SECOND, grow, twice};

const NODES: usize = 200;
const IDENTITIES: usize = 400;
/// Keys the attacker has made to choose from: enough for some in each of the ten farthest buckets, half of them in the
/// farthest.
const KEYS: usize = 4000;

/// What an attacker got.
#[derive(Debug, PartialEq)]
struct Share {
    /// Of the nodes in the table.
    entries: f64,
    /// Of those that answer.
    live: f64,
    /// Of those waiting for a place.
    waiting: f64,
    /// Places in buckets and among those waiting.
    places: usize,
    /// Buckets without an honest node, of those that hold anybody.
    owned: (usize, usize),
    /// The victim's lookups of honest nodes that found them.
    found: f64,
}

#[derive(Debug, PartialEq)]
struct Attacked {
    trace: TraceHash,
    /// Honest nodes the victim knew before, and how many of them it knows still.
    before: usize,
    kept: usize,
    share: Share,
}

/// The attacker's addresses, one for each identity.
fn address(subnets: usize, index: usize) -> SocketAddr {
    let (subnet, host) = (index % subnets, index / subnets);
    let port = 30303 + (host / 250) as u16;
    SocketAddr::from(([66, 0, subnet as u8, 1 + (host % 250) as u8], port))
}

/// Identities at those addresses, as many in each of the victim's buckets as there are keys for.
fn identities(network: &mut Network, victim: NodeId, subnets: usize) -> Arc<Conspiracy> {
    let mut by_distance: BTreeMap<u16, Vec<SecretKey>> = BTreeMap::new();
    for _ in 0..KEYS {
        let secret = SecretKey::generate(network.sim.rng());
        let distance = victim.log_distance(&secret.node_id());
        by_distance.entry(distance).or_default().push(secret);
    }
    let mut chosen = Vec::new();
    while chosen.len() < IDENTITIES {
        let turn = by_distance.values_mut().filter_map(Vec::pop);
        chosen.extend(turn);
    }
    chosen.truncate(IDENTITIES);
    let mut plan = Conspiracy::default();
    let seq = network.sim.now().unix.as_millis();
    for (index, secret) in chosen.into_iter().enumerate() {
        let at = address(subnets, index);
        plan.liars.push(node(&secret, at, seq));
        network.enlist(secret, at, Protocols::ALL);
    }
    Arc::new(plan)
}

fn play(subnets: usize, fresh: bool) -> Attacked {
    let mut setup = Setup::new(51);
    setup.limited = true;
    let mut network = Network::new(setup);
    grow(&mut network, NODES, 20);
    let victim = network.enroll(SocketAddr::from(([21, 0, 0, 7], 30303)), Protocols::ALL);
    let node = network.peers[victim].node.clone();
    let boot = vec![network.peers[0].node.clone()];
    network.run(5 * MINUTE);
    if !fresh {
        network.start(victim, boot.clone());
        network.run(5 * MINUTE);
    }
    let known = if fresh {
        Vec::new()
    } else {
        honest(&network, victim)
    };
    let mut plan = identities(&mut network, node.id(), subnets);
    Arc::get_mut(&mut plan).expect("nobody has it yet").marks = vec![node];
    for index in victim + 1..network.peers.len() {
        network.start_liar(index, Tactic::Each, &plan);
    }
    if fresh {
        // It starts into the middle of it.
        network.run(5 * SECOND);
        network.start(victim, boot);
    }
    network.run(10 * MINUTE);
    check_limits(&network, victim);
    let still = honest(&network, victim);
    let kept = known.iter().filter(|id| still.contains(id)).count();
    let share = measure(&mut network, victim);
    Attacked {
        trace: network.sim.trace_hash(),
        before: known.len(),
        kept,
        share,
    }
}

/// The honest nodes in the victim's table.
fn honest(network: &Network, victim: usize) -> Vec<NodeId> {
    let table = network.core(victim).snapshot();
    let entries = table.entries().map(|entry| &entry.node);
    entries
        .filter(|node| !is_attacker(node.endpoint().ip))
        .map(|node| node.id())
        .collect()
}

fn is_attacker(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 66)
}

/// What the table promises, whoever comes.
fn check_limits(network: &Network, victim: usize) {
    let table = network.core(victim).snapshot();
    let mut total: BTreeMap<Subnet, usize> = BTreeMap::new();
    for bucket in &table.buckets {
        let mut here: BTreeMap<Subnet, usize> = BTreeMap::new();
        let entries = bucket.entries.iter().map(|entry| &entry.node);
        for node in entries.chain(&bucket.replacements) {
            *here.entry(Subnet::of(node.endpoint().ip)).or_default() += 1;
            *total.entry(Subnet::of(node.endpoint().ip)).or_default() += 1;
        }
        assert!(
            here.values().all(|count| *count <= BUCKET_LIMITS.v4),
            "{here:?}"
        );
    }
    assert!(
        total.values().all(|count| *count <= TABLE_LIMITS.v4),
        "{total:?}"
    );
}

fn measure(network: &mut Network, victim: usize) -> Share {
    let table = network.core(victim).snapshot();
    let (mut attackers, mut live, mut waiting, mut all_waiting) = (0, 0, 0, 0);
    let mut owned = (0, 0);
    for bucket in &table.buckets {
        let lying = |ip| usize::from(is_attacker(ip));
        let here: usize = bucket
            .entries
            .iter()
            .map(|e| lying(e.node.endpoint().ip))
            .sum();
        attackers += here;
        live += bucket
            .entries
            .iter()
            .filter(|entry| entry.live && is_attacker(entry.node.endpoint().ip))
            .count();
        waiting += bucket
            .replacements
            .iter()
            .map(|node| lying(node.endpoint().ip))
            .sum::<usize>();
        all_waiting += bucket.replacements.len();
        owned.0 += usize::from(here > 0 && here == bucket.entries.len());
        owned.1 += usize::from(!bucket.entries.is_empty());
    }
    let (len, live_len) = (table.len(), table.live_len());
    Share {
        entries: share(attackers, len),
        live: share(live, live_len),
        waiting: share(waiting, all_waiting),
        places: attackers + waiting,
        owned,
        found: lookups(network, victim),
    }
}

/// The share of the victim's lookups of honest nodes that end with them; as many at once as it is allowed.
fn lookups(network: &mut Network, victim: usize) -> f64 {
    let (mut found, mut asked) = (0, 0);
    for _ in 0..5 {
        let mut wanted = Vec::new();
        for _ in 0..12 {
            let other = network.sim.rng().random_range(0..NODES);
            let target = Target::from(network.peers[other].node.public_key());
            wanted.push((victim, target));
        }
        for (done, (_, target)) in network.lookups(&wanted).iter().zip(&wanted) {
            let closest = done.found.closest.first().map(|node| node.id());
            found += usize::from(closest == Some(target.id()));
            asked += 1;
        }
    }
    share(found, asked)
}

#[test]
fn one_network_gets_no_more_of_a_table_than_its_limit() {
    let (running, starting) = (twice(|| play(1, false)), twice(|| play(1, true)));
    println!("{IDENTITIES} identities in one /24 against a running node: {running:#?}");
    println!("against a starting node: {starting:#?}");
    for attacked in [&running, &starting] {
        assert!(attacked.share.places > 0, "the attack is one: {attacked:?}");
        assert!(attacked.share.places <= TABLE_LIMITS.v4, "{attacked:?}");
        assert!(attacked.share.found >= 0.95, "{attacked:?}");
    }
    assert!(running.kept * 100 >= running.before * 95, "{running:?}");
}

#[test]
fn a_hundred_networks_do_not_displace_who_answers() {
    let (running, starting) = (twice(|| play(100, false)), twice(|| play(100, true)));
    println!("{IDENTITIES} identities in 100 /24s against a running node: {running:#?}");
    println!("against a starting node: {starting:#?}");
    assert!(running.kept * 100 >= running.before * 95, "{running:?}");
    // Whoever knocks waits until it has found its own way.
    assert!(starting.share.entries < 0.55, "{starting:?}");
    for attacked in [&running, &starting] {
        assert!(
            attacked.share.places > TABLE_LIMITS.v4,
            "the attack is one: {attacked:?}"
        );
        assert!(attacked.share.found >= 0.85, "{attacked:?}");
    }
}
