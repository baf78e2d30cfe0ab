//! The table as others see it: a copy that does not change under the reader's hands. Each change makes one anew, and most change one
//! bucket: the others are shared with the copy before.

use std::sync::Arc;

use tercet_enode::{Node, NodeId};
use tercet_machine::MonoTime;

use super::bucket::{Bucket, Entry};
use super::revalidate::RevalidationList;
use crate::engine::Protocols;

/// A node in a [`TableSnapshot`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EntrySnapshot {
    /// The node with its newest known record.
    pub node: Node,
    /// It has answered a ping at this endpoint, over one protocol at least.
    pub live: bool,
    /// The protocols over which it has.
    pub protocols: Protocols,
    /// Its credit of answered checks; a missed one divides it by three, and at 0 the node goes.
    pub checks: u32,
    /// When it came into the bucket, on the machine's clock.
    pub added: MonoTime,
    /// The revalidation list it is on.
    pub list: RevalidationList,
}

/// A bucket in a [`TableSnapshot`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct BucketSnapshot {
    /// At most 16, the one last heard of first.
    pub entries: Vec<EntrySnapshot>,
    /// At most 10 nodes waiting for a place, the newest first.
    pub replacements: Vec<Node>,
    /// How often the bucket had changed.
    pub(super) changes: u64,
}

impl BucketSnapshot {
    pub(super) fn of(bucket: &Bucket, changes: u64) -> Self {
        let waiting = bucket.replacements();
        Self {
            entries: bucket.entries().map(EntrySnapshot::of).collect(),
            replacements: waiting.map(|entry| entry.node.clone()).collect(),
            changes,
        }
    }
}

impl EntrySnapshot {
    fn of(entry: &Entry) -> Self {
        Self {
            node: entry.node.clone(),
            live: entry.is_live(),
            protocols: entry.live,
            checks: entry.checks,
            added: entry.added,
            list: entry.list,
        }
    }
}

/// The whole table at one moment.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TableSnapshot {
    /// 17 buckets (none before the first publication), the nearest distances first.
    pub buckets: Vec<Arc<BucketSnapshot>>,
    /// Grows with every change of the table.
    pub version: u64,
}

impl TableSnapshot {
    /// Every node in a bucket, replacements left out.
    pub fn entries(&self) -> impl Iterator<Item = &EntrySnapshot> {
        self.buckets.iter().flat_map(|bucket| &bucket.entries)
    }

    /// The entry of the node with this id.
    #[must_use]
    pub fn get(&self, id: &NodeId) -> Option<&EntrySnapshot> {
        self.entries().find(|entry| entry.node.id() == *id)
    }

    /// Nodes in the buckets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.entries.len()).sum()
    }

    /// Whether no bucket holds a node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nodes that have answered a ping.
    #[must_use]
    pub fn live_len(&self) -> usize {
        self.entries().filter(|entry| entry.live).count()
    }
}
