//! How good a network is: what its tables hold, and what its lookups find.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::RngExt;
use tercet_discovery::{BUCKET_SIZE, Target};
use tercet_enode::Node;

use crate::network::Network;

/// Over the tables of all running nodes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TableQuality {
    pub(crate) smallest: usize,
    /// The share of tables with fewer than sixteen nodes: what a datagram lost at the start costs a node until its next
    /// refresh.
    pub(crate) poor: f64,
    pub(crate) mean: f64,
    /// The least share of entries that have answered, in one table.
    pub(crate) least_live: f64,
    /// The share of all entries that are live by the table's account.
    pub(crate) live: f64,
    /// The share of entries whose node does not run any more.
    pub(crate) dead: f64,
    /// The share of nodes that have the node nearest to them in their table.
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
    pub(crate) mean_hops: f64,
    pub(crate) most_hops: u32,
    pub(crate) mean_time: Duration,
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

impl TableQuality {
    pub(crate) fn measure(network: &Network) -> Self {
        let running = network.running();
        let alive: BTreeSet<_> = running
            .iter()
            .map(|index| network.members[*index].node.id())
            .collect();
        let (mut entries, mut live, mut dead, mut poor, mut nearest_known) = (0, 0, 0, 0, 0);
        let (mut smallest, mut least_live) = (usize::MAX, 1.0f64);
        for index in &running {
            let table = network.table(*index);
            let own = network.members[*index].node.id();
            assert!(table.get(&own).is_none(), "no table holds its own node");
            assert!(
                table
                    .buckets
                    .iter()
                    .all(|bucket| bucket.entries.len() <= BUCKET_SIZE)
            );
            let nearest = alive
                .iter()
                .filter(|id| **id != own)
                .min_by(|a, b| own.cmp_distance(a, b));
            nearest_known += usize::from(nearest.is_some_and(|id| table.get(id).is_some()));
            entries += table.len();
            live += table.live_len();
            dead += table
                .entries()
                .filter(|entry| !alive.contains(&entry.node.id()))
                .count();
            poor += usize::from(table.len() < BUCKET_SIZE);
            smallest = smallest.min(table.len());
            least_live = least_live.min(share(table.live_len(), table.len()));
        }
        Self {
            smallest,
            poor: share(poor, running.len()),
            mean: share(entries, running.len()),
            least_live,
            live: share(live, entries),
            dead: share(dead, entries),
            nearest_known: share(nearest_known, running.len()),
        }
    }
}

impl LookupQuality {
    pub(crate) fn measure(network: &mut Network, lookups: usize) -> Self {
        let (mut nearest, mut overlap, mut possible) = (0, 0, 0);
        let (mut queries, mut most_queries, mut hops, mut most_hops) = (0, 0, 0, 0);
        let mut time = Duration::ZERO;
        for _ in 0..lookups {
            let running = network.running();
            let index = running[network.sim.rng().random_range(0..running.len())];
            let target = Target::new(std::array::from_fn(|_| network.sim.rng().random()));
            let done = network.lookup(index, target);
            let truth = network.truly_closest(&target, index, 16);
            let found: Vec<_> = done.found.closest.iter().map(Node::id).collect();
            nearest += usize::from(found.first() == truth.first());
            overlap += truth.iter().filter(|id| found.contains(id)).count();
            possible += truth.len();
            queries += done.queries;
            most_queries = most_queries.max(done.queries);
            hops += done.hops;
            most_hops = most_hops.max(done.hops);
            time += done.took;
        }
        Self {
            nearest: share(nearest, lookups),
            overlap: share(overlap, possible),
            mean_queries: queries as f64 / lookups as f64,
            most_queries,
            mean_hops: f64::from(hops) / lookups as f64,
            most_hops,
            mean_time: time / lookups as u32,
        }
    }
}
