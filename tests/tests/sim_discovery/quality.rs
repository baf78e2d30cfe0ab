//! How good a network is: what its tables hold, and what its lookups find.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::RngExt;
use tercet_discovery::{BUCKET_SIZE, Protocols, Target};
use tercet_enode::{Node, NodeId};

use crate::network::Network;

/// Over the tables of all running honest nodes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TableQuality {
    pub(crate) smallest: usize,
    /// The share of tables with fewer than sixteen nodes: what a datagram lost at the start costs a node until its next
    /// refresh.
    pub(crate) poor: f64,
    pub(crate) mean: f64,
    /// The share of all entries that are live by the table's account.
    pub(crate) live: f64,
    /// The share of entries whose node does not run any more.
    pub(crate) dead: f64,
    /// The same in the worst table.
    pub(crate) most_dead: f64,
    /// The share of nodes that have the node nearest to them, of those they can talk to, in their table.
    pub(crate) nearest_known: f64,
}

/// Over random lookups by random nodes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LookupQuality {
    /// The share that found the node nearest to the target.
    pub(crate) nearest: f64,
    /// The share of the true sixteen nearest that were found.
    pub(crate) overlap: f64,
    pub(crate) mean_queries: f64,
    pub(crate) most_queries: u64,
    /// Pings, questions and handshakes of the asker.
    pub(crate) mean_messages: f64,
    pub(crate) mean_hops: f64,
    pub(crate) most_hops: u32,
    pub(crate) mean_time: Duration,
}

pub(crate) fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

impl TableQuality {
    pub(crate) fn measure(network: &Network) -> Self {
        let running = network.running();
        let alive: BTreeSet<NodeId> = network
            .peers
            .iter()
            .filter(|peer| peer.place.is_some())
            .map(|peer| peer.node.id())
            .collect();
        let nearest = Nearest::new(network, &running);
        let (mut entries, mut live, mut dead, mut poor, mut nearest_known) = (0, 0, 0, 0, 0);
        let (mut smallest, mut most_dead) = (usize::MAX, 0.0f64);
        for index in &running {
            let table = network.core(*index).table();
            let peer = &network.peers[*index];
            let own = peer.node.id();
            assert!(table.get(&own).is_none(), "no table holds its own node");
            let nearest = nearest.to(own, peer.protocols);
            nearest_known += usize::from(nearest.is_none_or(|id| table.get(&id).is_some()));
            let table = network.core(*index).snapshot();
            assert!(
                table
                    .buckets
                    .iter()
                    .all(|bucket| bucket.entries.len() <= BUCKET_SIZE)
            );
            let gone = table
                .entries()
                .filter(|entry| !alive.contains(&entry.node.id()))
                .count();
            entries += table.len();
            live += table.live_len();
            dead += gone;
            poor += usize::from(table.len() < BUCKET_SIZE);
            smallest = smallest.min(table.len());
            most_dead = most_dead.max(share(gone, table.len()));
        }
        Self {
            smallest,
            poor: share(poor, running.len()),
            mean: share(entries, running.len()),
            live: share(live, entries),
            dead: share(dead, entries),
            most_dead,
            nearest_known: share(nearest_known, running.len()),
        }
    }
}

/// Finds nearest neighbours among many: in the order of ids a node's nearest ones share the longest beginning with it, so
/// they are beside it.
struct Nearest {
    by_kind: BTreeMap<u8, Vec<NodeId>>,
}

/// The kinds of askers: by the protocols they speak.
const KINDS: [Protocols; 3] = [Protocols::V4, Protocols::V5, Protocols::ALL];

fn kind(protocols: Protocols) -> u8 {
    KINDS
        .iter()
        .position(|kind| *kind == protocols)
        .unwrap_or(0) as u8
}

impl Nearest {
    fn new(network: &Network, running: &[usize]) -> Self {
        let mut by_kind: BTreeMap<u8, Vec<NodeId>> = BTreeMap::new();
        for spoken in KINDS {
            let mut ids: Vec<NodeId> = running
                .iter()
                .map(|index| &network.peers[*index])
                .filter(|peer| !peer.protocols.and(spoken).is_empty())
                .map(|peer| peer.node.id())
                .collect();
            ids.sort_by_key(|id| *id.as_bytes());
            by_kind.insert(kind(spoken), ids);
        }
        Self { by_kind }
    }

    fn to(&self, own: NodeId, spoken: Protocols) -> Option<NodeId> {
        let ids = &self.by_kind[&kind(spoken)];
        let at = ids.partition_point(|id| id.as_bytes() < own.as_bytes());
        let beside = [at.checked_sub(1), Some(at), Some(at + 1)];
        beside
            .into_iter()
            .flatten()
            .filter_map(|at| ids.get(at).copied())
            .filter(|id| *id != own)
            .min_by(|a, b| own.cmp_distance(a, b))
    }
}

impl LookupQuality {
    /// Lookups of random targets by as many random nodes, of those that speak `protocols` at least.
    pub(crate) fn measure(network: &mut Network, lookups: usize, protocols: Protocols) -> Self {
        let mut askers: Vec<usize> = network
            .running()
            .into_iter()
            .filter(|index| network.peers[*index].protocols.and(protocols) == protocols)
            .collect();
        let mut wanted = Vec::new();
        while wanted.len() < lookups && !askers.is_empty() {
            let rng = network.sim.rng();
            let asker = askers.swap_remove(rng.random_range(0..askers.len()));
            wanted.push((asker, Target::new(std::array::from_fn(|_| rng.random()))));
        }
        let lookups = wanted.len();
        let (mut nearest, mut overlap, mut possible) = (0, 0, 0);
        let (mut queries, mut most_queries, mut messages, mut hops, mut most_hops) =
            (0, 0, 0, 0, 0);
        let mut time = Duration::ZERO;
        let done = network.lookups(&wanted);
        for ((asker, target), done) in wanted.iter().zip(done) {
            let truth = network.truly_closest(target, *asker, 16);
            let found: Vec<_> = done.found.closest.iter().map(Node::id).collect();
            nearest += usize::from(found.first() == truth.first());
            overlap += truth.iter().filter(|id| found.contains(id)).count();
            possible += truth.len();
            queries += done.sent.finds;
            most_queries = most_queries.max(done.sent.finds);
            messages += done.sent.asked;
            hops += done.hops;
            most_hops = most_hops.max(done.hops);
            time += done.took;
        }
        let mean = |sum: u64| sum as f64 / lookups as f64;
        Self {
            nearest: share(nearest, lookups),
            overlap: share(overlap, possible),
            mean_queries: mean(queries),
            most_queries,
            mean_messages: mean(messages),
            mean_hops: mean(hops.into()),
            most_hops,
            mean_time: time / lookups as u32,
        }
    }
}
