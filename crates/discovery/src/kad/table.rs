//! The Kademlia table: up to 17 × 16 nodes sorted by distance to this one, and up to ten waiting behind each bucket. The
//! protocol machine reports what it hears; the table never sends anything. Who comes in, moves up and goes is said in
//! `admission`, how checks are scheduled and what they lead to in `checks`.

mod admission;
mod checks;
mod history;

use std::cmp::Ordering;
use std::sync::Arc;

use tercet_enode::{Endpoint, Node, NodeId};
use tercet_machine::{MachineRng, MonoTime};

use self::history::History;
pub use self::history::MAX_DEPARTED;
use super::bucket::{BUCKET_SIZE, Bucket, Entry};
use super::revalidate::{RevalidationConfig, Schedule};
use super::snapshot::{BucketSnapshot, TableSnapshot};
use super::stock::Stock;
use crate::engine::{Protocol, Protocols};

/// Buckets: `256 / 15`, as in geth. Sixteen hold one log distance each, 241 to 256; the first holds everything
/// nearer, which in any real network is nobody.
pub const BUCKETS: usize = 17;

/// Log distances up to this one share the first bucket: `256 - 16`.
const NEAREST: u16 = 240;

/// What [`Table::add`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Added {
    /// New in a bucket.
    Inserted,
    /// Was there, and something about it is new.
    Updated,
    /// Was there already.
    Known,
    /// Its bucket is full; it waits among the replacements.
    Waiting,
    /// Not taken.
    Refused(Refusal),
}

/// Why a node is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It is this node.
    Own,
    /// Its network has its share of the bucket or the table.
    Subnet,
}

/// What is known of how a node of the table answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// The protocols over which it has answered at its present endpoint.
    pub live: Protocols,
    /// Those over which it was asked there and never answered.
    pub silent: Protocols,
    /// Its credit of answered checks.
    pub checks: u32,
    /// The protocols over which it owes an answer since its last one.
    pub missed: Protocols,
    /// A check is under way.
    pub checking: bool,
}

/// What else can be tried with a node that did not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fallback {
    /// Every protocol it may be asked over.
    pub protocols: Protocols,
    /// Its record's address in the other family.
    pub endpoint: Option<Endpoint>,
}

/// What became of a node that did not answer a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckFailed {
    /// It keeps its place, if with less credit.
    Kept,
    /// It has not been tried in every way: check it at once again, over a protocol not known to be silent.
    Retry,
    /// It has lost its place.
    Gone,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Table {
    local: NodeId,
    buckets: Vec<Bucket>,
    /// Of all buckets, as they are.
    stock: Stock,
    schedule: Schedule,
    history: History,
    version: u64,
    rng: MachineRng,
}

impl Table {
    /// An empty table around `local`.
    #[must_use]
    pub fn new(local: NodeId, revalidation: RevalidationConfig, rng: MachineRng) -> Self {
        let buckets = std::iter::repeat_with(Bucket::default)
            .take(BUCKETS)
            .collect();
        Self {
            local,
            buckets,
            stock: Stock::new(),
            schedule: Schedule::new(revalidation),
            history: History::default(),
            version: 0,
            rng,
        }
    }

    /// Nodes in the buckets, at most `17 × 16 = 272`.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets.iter().map(Bucket::len).sum()
    }

    /// Whether no bucket holds a node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.iter().all(|bucket| bucket.len() == 0)
    }

    /// Nodes that have answered a ping at their endpoint.
    #[must_use]
    pub fn live_len(&self) -> usize {
        self.stock.census().live.into()
    }

    /// Those that have answered one over `protocol`.
    #[must_use]
    pub fn live_over(&self, protocol: Protocol) -> usize {
        let census = self.stock.census();
        usize::from(match protocol {
            Protocol::V4 => census.live_v4,
            Protocol::V5 => census.live_v5,
        })
    }

    /// Grows with every change a [`snapshot`](Self::snapshot) shows, except mere reordering.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The node with this id, if a bucket holds it.
    #[must_use]
    pub fn get(&self, id: &NodeId) -> Option<&Node> {
        self.bucket(id)?.get(id).map(|entry| &entry.node)
    }

    /// Nodes in the bucket `id` belongs to.
    #[must_use]
    pub fn bucket_len(&self, id: &NodeId) -> usize {
        self.bucket(id).map_or(0, Bucket::len)
    }

    /// What is known of this node in a bucket or, if there is none, waiting for a place.
    #[must_use]
    pub fn known(&self, id: &NodeId) -> Option<&Node> {
        let bucket = self.bucket(id)?;
        let entry = bucket.get(id).or_else(|| bucket.replacement(id))?;
        Some(&entry.node)
    }

    /// How the node with this id answers, if a bucket holds it.
    #[must_use]
    pub fn standing(&self, id: &NodeId) -> Option<Standing> {
        let entry = self.bucket(id)?.get(id)?;
        Some(Standing {
            live: entry.live,
            silent: entry.silent,
            checks: entry.checks,
            missed: entry.missed.map_or(Protocols::NONE, |missed| missed.over),
            checking: entry.checking,
        })
    }

    /// Nodes at exactly these log distances from this one that are live over discv5 and have a record, with their distance;
    /// in no order that means anything. The first bucket holds many distances: only those asked for are given.
    pub fn at_distances<'a>(
        &'a self,
        distances: &'a [u16],
    ) -> impl Iterator<Item = (u16, &'a Node)> {
        let wanted = |at: usize| {
            distances.iter().any(|distance| {
                *distance > 0 && usize::from(distance.saturating_sub(NEAREST)) == at
            })
        };
        self.buckets
            .iter()
            .enumerate()
            .filter(move |(at, _)| wanted(*at))
            .flat_map(|(_, bucket)| {
                let live = bucket.row().marks();
                let live = live.filter(|(_, mark)| mark.live.contains(Protocol::V5));
                live.filter_map(|(at, _)| bucket.entry(at))
            })
            .filter(|entry| entry.node.record().is_some())
            .map(|entry| (self.local.log_distance(&entry.node.id()), &entry.node))
            .filter(|(distance, _)| distances.contains(distance))
    }

    /// The `n` nodes closest to `target`, closest first, of those that `keep`, given the node and the protocols over which it
    /// has answered a ping, lets through.
    #[must_use]
    pub fn closest(
        &self,
        target: &NodeId,
        n: usize,
        keep: impl Fn(&Node, Protocols) -> bool,
    ) -> Vec<&Node> {
        let mut closest = Vec::with_capacity(n);
        let mut by_distance: Vec<(u64, usize)> = Vec::with_capacity(BUCKET_SIZE);
        for bucket in self.nearest_first(target) {
            // Everybody in this bucket is farther off than all in those before.
            by_distance.clear();
            by_distance.extend(bucket.row().distances(target));
            let id = |at: usize| bucket.entry(at).map(|entry| entry.node.id());
            by_distance.sort_unstable_by(|(a, at), (b, other)| {
                a.cmp(b).then_with(|| match (id(*at), id(*other)) {
                    (Some(one), Some(two)) => target.cmp_distance(&one, &two),
                    _ => Ordering::Equal,
                })
            });
            let entries = by_distance.iter().filter_map(|(_, at)| bucket.entry(*at));
            let kept = entries.filter(|entry| keep(&entry.node, entry.live));
            closest.extend(kept.take(n - closest.len()).map(|entry| &entry.node));
            if closest.len() >= n {
                break;
            }
        }
        closest
    }

    /// A copy for readers.
    #[must_use]
    pub fn snapshot(&self) -> TableSnapshot {
        self.snapshot_after(&TableSnapshot::default())
    }

    /// The same where there is `earlier`, a copy of this table: what has not changed since is shared with that.
    #[must_use]
    pub fn snapshot_after(&self, earlier: &TableSnapshot) -> TableSnapshot {
        let copy = |(at, bucket): (usize, &Bucket)| {
            let changes = self.stock.changes(at);
            match earlier.buckets.get(at) {
                Some(same) if same.changes == changes => Arc::clone(same),
                _ => Arc::new(BucketSnapshot::of(bucket, changes)),
            }
        };
        TableSnapshot {
            buckets: self.buckets.iter().enumerate().map(copy).collect(),
            version: self.version,
        }
    }

    /// The bucket of `id`; `None` for this node itself.
    fn place(&self, id: &NodeId) -> Option<usize> {
        let distance = self.local.log_distance(id);
        (distance > 0).then(|| usize::from(distance.saturating_sub(NEAREST)))
    }

    fn bucket(&self, id: &NodeId) -> Option<&Bucket> {
        self.buckets.get(self.place(id)?)
    }

    /// Changes a bucket, and takes stock of it.
    fn edit_at<T>(&mut self, at: usize, change: impl FnOnce(&mut Bucket) -> T) -> Option<T> {
        let bucket = self.buckets.get_mut(at)?;
        let before = *bucket.row().prints();
        let result = change(bucket);
        self.stock.take(at, bucket.row(), &before);
        #[cfg(test)]
        self.stock.check(&self.buckets);
        Some(result)
    }

    /// Changes a node of a bucket. What there is to take stock of is in its place.
    fn edit_place<T>(
        &mut self,
        at: usize,
        place: usize,
        change: impl FnOnce(&mut Entry) -> T,
    ) -> Option<T> {
        let bucket = self.buckets.get_mut(at)?;
        let before = bucket.row().print(place);
        let result = bucket.edit_at(place, change)?;
        self.stock.take_place(at, bucket.row(), place, before);
        #[cfg(test)]
        self.stock.check(&self.buckets);
        Some(result)
    }

    /// Changes the bucket of `id`. `None` for this node itself.
    fn edit<T>(&mut self, id: &NodeId, change: impl FnOnce(&mut Bucket) -> T) -> Option<T> {
        self.edit_at(self.place(id)?, change)
    }

    /// Changes the node with this id, if a bucket holds it.
    fn edit_node<T>(&mut self, id: &NodeId, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let at = self.place(id)?;
        let place = self.buckets.get(at)?.find(id)?;
        self.edit_place(at, place, change)
    }

    /// Moves a node to the head of its bucket, which changes nothing that stock is taken of.
    fn move_up(&mut self, id: &NodeId) {
        if let Some(at) = self.place(id)
            && let Some(bucket) = self.buckets.get_mut(at)
        {
            bucket.move_up(id);
        }
    }

    fn changed(&mut self, now: MonoTime) {
        self.version += 1;
        self.sync(now);
    }

    fn sync(&mut self, now: MonoTime) {
        self.schedule.sync(now, self.stock.census(), &mut self.rng);
    }

    /// The buckets in the order of their distance to `target`: whoever is in one is nearer to it than all in those after it.
    ///
    /// `x = local ⊕ target` says it. A node of the bucket of a log distance differs from this node in that bit first. Where the
    /// bit is set in `x` the node is nearer to the target than this one, the more so the higher the bit; where it is not,
    /// farther, the less so the lower the bit. The first bucket agrees with this node in all of them.
    fn nearest_first(&self, target: &NodeId) -> impl Iterator<Item = &Bucket> {
        let top = |id: &NodeId| {
            id.as_bytes()
                .first_chunk()
                .map_or(0, |top| u16::from_be_bytes(*top))
        };
        let x = top(&self.local) ^ top(target);
        let is_set = move |at: &usize| x >> (at - 1) & 1 == 1;
        let nearer = (1..BUCKETS).rev().filter(is_set);
        let farther = (1..BUCKETS).filter(move |at| !is_set(at));
        nearer
            .chain(std::iter::once(0))
            .chain(farther)
            .filter_map(|at| self.buckets.get(at))
    }
}
