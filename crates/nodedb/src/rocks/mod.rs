//! The store on disk. Keys are in `keys.rs`, tuning in `options.rs`, everything that can go wrong with a folder in `open.rs`.
//!
//! Every row it returns was decoded from disk, so every read can meet bytes it does not understand: such an entry is
//! skipped and counted, and leaves with the next expiry. RocksDB checks a checksum on every block it reads.

mod audit;
mod keys;
mod open;
mod options;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::Rng;
use rocksdb::{Cache, DB, DBRawIterator, ReadOptions, WriteBatch, properties};
use tercet_enode::{Node, NodeId};
use tercet_machine::UnixTime;

use crate::cache::{CacheIndex, CacheKey};
use crate::codec::{
    decode_cached, decode_contact, decode_number, decode_row, encode_cached, encode_contact,
    encode_row,
};
use crate::db::OpenError;
use crate::evict::Eviction;
use crate::limits::MAX_NODES;
use crate::reservoir::Reservoir;
use crate::row::{ContactChange, Row, RowEdit};
use crate::store::{Applied, NodeMeta, NodeStore, Seed, SeedQuery, StoreError, StoreStats};
use crate::write::Write;

use self::keys::{Kind, id_of};
use self::open::FolderLock;
pub use self::open::{OpenReport, Opened, SCHEMA_VERSION, UnusableReason};

/// Changes of one scan are written in batches of this many rows, at most about 400 KiB.
const SCAN_BATCH: usize = 1024;

/// Remembers nodes in a RocksDB folder; at most [`MAX_NODES`] of them, in at most 16 MiB of memory (measured, see the README).
pub struct RocksStore {
    db: DB,
    cache: Cache,
    bound: usize,
    /// One writer at a time: every write reads the row first.
    writing: Mutex<()>,
    counts: Counts,
    /// What is in the cache, in the order it leaves.
    cached: Mutex<CacheIndex>,
    /// Held until the database above is closed (fields drop in order).
    _lock: FolderLock,
}

#[derive(Debug, Default)]
struct Counts {
    rows: AtomicUsize,
    nodes: AtomicUsize,
    skipped: AtomicU64,
}

impl RocksStore {
    /// Opens the database in this folder for [`MAX_NODES`] nodes: makes it if it is not there, repairs it or sets it aside
    /// if it is damaged, sets it aside if it is of another version. Reads it once from end to end.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: impl AsRef<Path>) -> Result<(Self, OpenReport), OpenError> {
        Self::open_with_bound(path, MAX_NODES)
    }

    /// The same for at most `bound` node ids.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_with_bound(
        path: impl AsRef<Path>,
        bound: usize,
    ) -> Result<(Self, OpenReport), OpenError> {
        open::open(path.as_ref(), bound)
    }

    fn row(&self, id: &NodeId) -> Result<Row, StoreError> {
        let Some(bytes) = self.db.get_pinned(Kind::Row.key(id))? else {
            return Ok(Row::default());
        };
        Ok(decode_row(&bytes).unwrap_or_else(|_| {
            self.skip();
            Row::default()
        }))
    }

    fn skip(&self) {
        self.counts.skipped.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls back with each row that can be decoded, in order of id; with `None` for one that cannot.
    fn scan_rows(
        &self,
        mut each: impl FnMut(&[u8], Option<(NodeId, Row)>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut rows = scan(&self.db, Kind::Row);
        while let Some((key, value)) = rows.item() {
            match (id_of(key), decode_row(value)) {
                (Ok(id), Ok(row)) => each(key, Some((id, row)))?,
                _ => {
                    self.skip();
                    each(key, None)?;
                }
            }
            rows.next();
        }
        Ok(rows.status()?)
    }

    fn put_cached(&self, batch: &mut WriteBatch, key: CacheKey, value: &[u8]) {
        let mut index = self.cached.lock();
        let written = index.next();
        for gone in index.insert(key, written, value.len()) {
            batch.delete(cache_key(&gone));
        }
        batch.put(cache_key(&key), encode_cached(written, value));
    }

    fn evict(&self) -> Result<usize, StoreError> {
        let rows = self.counts.rows.load(Ordering::Relaxed);
        let Some(mut eviction) = Eviction::needed(rows, self.bound) else {
            return Ok(0);
        };
        self.scan_rows(|_, row| {
            if let Some((id, row)) = row {
                eviction.offer(row.worth(id));
            }
            Ok(())
        })?;
        let mut change = Change::default();
        let mut evicted = 0;
        for id in eviction.into_ids() {
            let had_contact = self.row(&id)?.head.is_some();
            change.remove(&id, had_contact);
            evicted += 1;
        }
        self.commit(change)?;
        Ok(evicted)
    }

    fn commit(&self, change: Change) -> Result<(), StoreError> {
        self.db.write(change.batch)?;
        add(&self.counts.rows, change.rows);
        add(&self.counts.nodes, change.nodes);
        Ok(())
    }
}

impl NodeStore for RocksStore {
    fn node(&self, id: &NodeId) -> Result<Option<Node>, StoreError> {
        let Some(bytes) = self.db.get_pinned(Kind::Contact.key(id))? else {
            return Ok(None);
        };
        let node = decode_contact(id, &bytes);
        if node.is_err() {
            self.skip();
        }
        Ok(node.ok())
    }

    fn meta(&self, id: &NodeId, ip: IpAddr) -> Result<NodeMeta, StoreError> {
        Ok(self.row(id)?.meta(ip))
    }

    fn local_seq(&self, id: &NodeId) -> Result<Option<u64>, StoreError> {
        let Some(bytes) = self.db.get_pinned(Kind::LocalSeq.key(id))? else {
            return Ok(None);
        };
        let seq = decode_number(&bytes);
        if seq.is_err() {
            self.skip();
        }
        Ok(seq.ok())
    }

    fn cached(&self, key: &CacheKey) -> Result<Option<Bytes>, StoreError> {
        let Some(bytes) = self.db.get_pinned(cache_key(key))? else {
            return Ok(None);
        };
        match decode_cached(&bytes) {
            Ok((_, value)) => Ok(Some(Bytes::copy_from_slice(value))),
            Err(_) => {
                self.skip();
                Ok(None)
            }
        }
    }

    fn seeds(&self, query: &SeedQuery, rng: &mut dyn Rng) -> Result<Vec<Seed>, StoreError> {
        let excluded = query.excluded();
        let mut chosen = Reservoir::new(query.count);
        self.scan_rows(|_, row| {
            if let Some((id, row)) = row
                && !excluded.contains(&id)
                && let Some(meta) = row.seed_meta(query.now, query.max_age)
            {
                chosen.offer((id, meta), rng);
            }
            Ok(())
        })?;
        let mut seeds = Vec::new();
        for (id, meta) in chosen.into_shuffled(rng) {
            seeds.extend(self.node(&id)?.map(|node| Seed { node, meta }));
        }
        Ok(seeds)
    }

    fn apply(&self, now: UnixTime, writes: &[Write]) -> Result<Applied, StoreError> {
        let _writing = self.writing.lock();
        let mut change = Change::default();
        let mut local: BTreeMap<NodeId, u64> = BTreeMap::new();
        let mut edits: BTreeMap<NodeId, RowEdit> = BTreeMap::new();
        for write in writes {
            let id = write.id();
            match write {
                Write::LocalSeq { seq, .. } => {
                    let highest = local.entry(id).or_default();
                    *highest = (*highest).max(*seq);
                    continue;
                }
                Write::Cache { key, value } => {
                    self.put_cached(&mut change.batch, *key, value);
                    continue;
                }
                _ => {}
            }
            let edit = match edits.entry(id) {
                Entry::Occupied(edit) => edit.into_mut(),
                Entry::Vacant(place) => place.insert(RowEdit::new(self.row(&id)?)),
            };
            edit.apply(now, write);
        }
        for (id, seq) in local {
            let seq = seq.max(self.local_seq(&id)?.unwrap_or_default());
            change.batch.put(Kind::LocalSeq.key(&id), seq.to_be_bytes());
        }
        let mut applied = Applied::default();
        for (id, edit) in edits {
            applied.refused += edit.refused;
            change.put(&id, &edit);
        }
        let committed = self.commit(change);
        if committed.is_err() {
            // Nothing was written: the order must not say so.
            *self.cached.lock() = audit::cached_values(&self.db)?;
        }
        committed?;
        applied.evicted = self.evict()?;
        Ok(applied)
    }

    fn expire(&self, now: UnixTime, max_age: Duration) -> Result<usize, StoreError> {
        let _writing = self.writing.lock();
        let mut change = Change::default();
        let mut forgotten = 0;
        self.scan_rows(|key, row| {
            match row {
                Some((id, row)) => {
                    let mut edit = RowEdit::new(row);
                    if edit.expire(now, max_age) {
                        forgotten += usize::from(edit.lost_contact());
                        change.put(&id, &edit);
                    }
                }
                // What cannot be read cannot have answered. The row counted when it was opened or written does not
                // any more; its contact, if any, goes with it.
                None => {
                    change.batch.delete(key);
                    change.rows -= 1;
                    if let Ok(id) = id_of(key) {
                        change.batch.delete(Kind::Contact.key(&id));
                    }
                }
            }
            if change.batch.len() >= SCAN_BATCH {
                self.commit(std::mem::take(&mut change))?;
            }
            Ok(())
        })?;
        self.commit(change)?;
        Ok(forgotten)
    }

    fn stats(&self) -> Result<StoreStats, StoreError> {
        let property = |name| Ok::<_, StoreError>(self.db.property_int_value(name)?.unwrap_or(0));
        let memory_bytes = property(properties::SIZE_ALL_MEM_TABLES)?
            + property(properties::ESTIMATE_TABLE_READERS_MEM)?
            + self.cache.get_usage() as u64;
        let files = self.db.live_files()?;
        let (cached, cached_bytes) = {
            let index = self.cached.lock();
            (index.len(), index.bytes() as u64)
        };
        Ok(StoreStats {
            nodes: self.counts.nodes.load(Ordering::Relaxed),
            rows: self.counts.rows.load(Ordering::Relaxed),
            cached,
            cached_bytes,
            skipped: self.counts.skipped.load(Ordering::Relaxed),
            memory_bytes,
            table_files: files.len(),
            table_bytes: files.iter().map(|file| file.size as u64).sum(),
        })
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(self.db.flush_wal(true)?)
    }
}

impl std::fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksStore")
            .field("path", &self.db.path())
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

/// A batch and what it does to the counts.
#[derive(Default)]
struct Change {
    batch: WriteBatch,
    rows: isize,
    nodes: isize,
}

impl Change {
    fn put(&mut self, id: &NodeId, edit: &RowEdit) {
        let after = &edit.row;
        let (rows, nodes) = edit.count_changes();
        self.rows += rows;
        self.nodes += nodes;
        match after.is_empty() {
            true => self.batch.delete(Kind::Row.key(id)),
            false => self.batch.put(Kind::Row.key(id), encode_row(after)),
        }
        match &edit.contact {
            ContactChange::Keep => {}
            ContactChange::Put(node) => {
                self.batch.put(Kind::Contact.key(id), encode_contact(node));
            }
            ContactChange::Delete => self.batch.delete(Kind::Contact.key(id)),
        }
    }

    fn remove(&mut self, id: &NodeId, had_contact: bool) {
        self.rows -= 1;
        self.nodes -= isize::from(had_contact);
        self.batch.delete(Kind::Row.key(id));
        self.batch.delete(Kind::Contact.key(id));
    }
}

fn cache_key(key: &CacheKey) -> [u8; 33] {
    Kind::Cache.key(&NodeId::new(*key.as_bytes()))
}

/// Only called with the write lock held, so the two steps are one.
fn add(count: &AtomicUsize, change: isize) {
    let now = count.load(Ordering::Relaxed).saturating_add_signed(change);
    count.store(now, Ordering::Relaxed);
}

/// All entries of one kind, from the first.
fn scan(db: &DB, kind: Kind) -> DBRawIterator<'_> {
    let mut range: ReadOptions = options::scan();
    range.set_iterate_range(kind.range());
    let mut entries = db.raw_iterator_opt(range);
    entries.seek_to_first();
    entries
}
