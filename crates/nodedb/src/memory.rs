//! The store without a disk: for light clients, tests and simulations.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use rand::Rng;
use tercet_enode::{Node, NodeId};
use tercet_machine::UnixTime;

use crate::cache::{CacheIndex, CacheKey};
use crate::evict::Eviction;
use crate::limits::MAX_NODES;
use crate::reservoir::Reservoir;
use crate::row::{Address, ContactChange, Row, RowEdit};
use crate::store::{Applied, NodeMeta, NodeStore, Seed, SeedQuery, StoreError, StoreStats};
use crate::write::Write;

/// Remembers nodes until it is dropped; at most [`MAX_NODES`] of them.
#[derive(Debug)]
pub struct MemoryStore {
    bound: usize,
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Ordered by id, as on disk: equal random numbers choose equal seeds from both stores, and no hash can be attacked.
    rows: BTreeMap<NodeId, Entry>,
    /// Written by the local program only, an entry for each key it ever ran with.
    local: BTreeMap<NodeId, u64>,
    cache: BTreeMap<CacheKey, Bytes>,
    cache_index: CacheIndex,
}

#[derive(Debug, Default)]
struct Entry {
    row: Row,
    /// There exactly when `row.head` is.
    contact: Option<Node>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store for [`MAX_NODES`] nodes.
    pub fn new() -> Self {
        Self::with_bound(MAX_NODES)
    }

    /// An empty store for at most `bound` node ids.
    pub fn with_bound(bound: usize) -> Self {
        Self {
            bound,
            inner: RwLock::default(),
        }
    }
}

impl NodeStore for MemoryStore {
    fn node(&self, id: &NodeId) -> Result<Option<Node>, StoreError> {
        let inner = self.inner.read();
        Ok(inner.rows.get(id).and_then(|entry| entry.contact.clone()))
    }

    fn meta(&self, id: &NodeId, ip: IpAddr) -> Result<NodeMeta, StoreError> {
        let inner = self.inner.read();
        let entry = inner.rows.get(id);
        Ok(entry.map(|entry| entry.row.meta(ip)).unwrap_or_default())
    }

    fn local_seq(&self, id: &NodeId) -> Result<Option<u64>, StoreError> {
        Ok(self.inner.read().local.get(id).copied())
    }

    fn cached(&self, key: &CacheKey) -> Result<Option<Bytes>, StoreError> {
        Ok(self.inner.read().cache.get(key).cloned())
    }

    fn seeds(&self, query: &SeedQuery, rng: &mut dyn Rng) -> Result<Vec<Seed>, StoreError> {
        let inner = self.inner.read();
        let excluded = query.excluded();
        let mut chosen = Reservoir::new(query.count);
        for (id, entry) in &inner.rows {
            if excluded.contains(id) {
                continue;
            }
            if let Some(meta) = entry.row.seed_meta(query.now, query.max_age) {
                chosen.offer((entry, meta), rng);
            }
        }
        let seed = |(entry, meta): (&Entry, NodeMeta)| {
            let node = entry.contact.clone()?;
            Some(Seed { node, meta })
        };
        let chosen = chosen.into_shuffled(rng);
        Ok(chosen.into_iter().filter_map(seed).collect())
    }

    fn apply(&self, now: UnixTime, writes: &[Write]) -> Result<Applied, StoreError> {
        let mut inner = self.inner.write();
        let mut applied = Applied::default();
        for write in writes {
            match write {
                Write::LocalSeq { id, seq } => {
                    let stored = inner.local.entry(*id).or_default();
                    *stored = (*stored).max(*seq);
                }
                Write::Cache { key, value } => inner.cache(*key, value),
                _ => applied.refused += inner.edit(now, write),
            }
        }
        if let Some(mut eviction) = Eviction::needed(inner.rows.len(), self.bound) {
            for (id, entry) in &inner.rows {
                eviction.offer(entry.row.worth(*id));
            }
            for id in eviction.into_ids() {
                inner.rows.remove(&id);
                applied.evicted += 1;
            }
        }
        Ok(applied)
    }

    fn expire(&self, now: UnixTime, max_age: Duration) -> Result<usize, StoreError> {
        let mut inner = self.inner.write();
        let mut forgotten = 0;
        inner.rows.retain(|_, entry| {
            let mut edit = RowEdit::new(std::mem::take(&mut entry.row));
            edit.expire(now, max_age);
            forgotten += usize::from(edit.lost_contact());
            entry.settle(edit);
            !entry.row.is_empty()
        });
        Ok(forgotten)
    }

    fn stats(&self) -> Result<StoreStats, StoreError> {
        let inner = self.inner.read();
        let contacts = inner.rows.values().filter(|entry| entry.contact.is_some());
        Ok(StoreStats {
            nodes: contacts.count(),
            rows: inner.rows.len(),
            cached: inner.cache_index.len(),
            cached_bytes: inner.cache_index.bytes() as u64,
            memory_bytes: inner.rows.values().map(Entry::memory_bytes).sum(),
            ..StoreStats::default()
        })
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Inner {
    fn cache(&mut self, key: CacheKey, value: &Bytes) {
        let written = self.cache_index.next();
        for gone in self.cache_index.insert(key, written, value.len()) {
            self.cache.remove(&gone);
        }
        self.cache.insert(key, value.clone());
    }

    /// Applies a write about a row; returns 1 when it was refused.
    fn edit(&mut self, now: UnixTime, write: &Write) -> usize {
        let id = write.id();
        let entry = self.rows.entry(id).or_default();
        let mut edit = RowEdit::new(std::mem::take(&mut entry.row));
        edit.apply(now, write);
        let refused = edit.refused;
        entry.settle(edit);
        if entry.row.is_empty() {
            self.rows.remove(&id);
        }
        refused
    }
}

impl Entry {
    fn settle(&mut self, edit: RowEdit) {
        self.row = edit.row;
        match edit.contact {
            ContactChange::Keep => {}
            ContactChange::Put(node) => self.contact = Some(node),
            ContactChange::Delete => self.contact = None,
        }
    }

    /// Within a quarter of what the process grows by, which a test measures.
    fn memory_bytes(&self) -> u64 {
        // A B-tree filled in random order is two thirds full.
        let place = size_of::<(NodeId, Self)>() * 3 / 2;
        let addresses = self.row.addresses.capacity() * size_of::<Address>();
        let record = self.contact.as_ref().and_then(Node::record);
        let record = record.map_or(0, |record| {
            RECORD_BYTES + record.raw().len() + record.iter().len() * PAIR_BYTES
        });
        (place + addresses + record) as u64
    }
}

/// A decoded record without its raw bytes and its index: key, id, ranges, and the headers of three heap blocks.
const RECORD_BYTES: usize = 280;
/// A decoded record keeps where each key and each value begins and ends.
const PAIR_BYTES: usize = 4 * size_of::<usize>();
