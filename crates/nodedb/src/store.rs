//! The `NodeStore` trait: what a place to remember nodes must do, and the plain data that goes in and out of it.
//!
//! Two stores implement it, [`crate::MemoryStore`] and `RocksStore`, and one test suite and one model check hold them to equal answers. Stores are
//! synchronous and know no clock; the writer thread, the clock and the coalescing of writes belong to [`crate::NodeDb`].

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use tercet_enode::{Node, NodeId};
use tercet_machine::UnixTime;
use thiserror::Error;

use crate::cache::CacheKey;
use crate::write::Write;

/// A place that remembers nodes.
pub trait NodeStore: Send + Sync {
    /// The stored contact of a node.
    ///
    /// # Errors
    /// The store could not be read. An entry that is there but cannot be decoded is `None` and counted.
    fn node(&self, id: &NodeId) -> Result<Option<Node>, StoreError>;

    /// What is known of a node at one address; all empty when nothing is.
    ///
    /// # Errors
    /// The store could not be read.
    fn meta(&self, id: &NodeId, ip: IpAddr) -> Result<NodeMeta, StoreError>;

    /// The last stored sequence number of a local node's own record.
    ///
    /// # Errors
    /// The store could not be read.
    fn local_seq(&self, id: &NodeId) -> Result<Option<u64>, StoreError>;

    /// A value of the cache, as it was written last.
    ///
    /// # Errors
    /// The store could not be read.
    fn cached(&self, key: &CacheKey) -> Result<Option<Bytes>, StoreError>;

    /// A uniformly random choice of nodes to start from: each node that is fit (see [`SeedQuery`]) is as likely as any other,
    /// wherever its id lies. The order is random too. Reads every row of statistics once.
    ///
    /// # Errors
    /// The store could not be read.
    fn seeds(&self, query: &SeedQuery, rng: &mut dyn Rng) -> Result<Vec<Seed>, StoreError>;

    /// Applies writes in order, all or none.
    ///
    /// # Errors
    /// The store could not be read or written; nothing was changed.
    fn apply(&self, now: UnixTime, writes: &[Write]) -> Result<Applied, StoreError>;

    /// Forgets what has not answered for longer than `max_age`: statistics by address, and contacts. What never answered
    /// counts from when it was first stored. Returns how many contacts were forgotten. Local sequence numbers stay.
    ///
    /// # Errors
    /// The store could not be read or written. Part of the work may be done; the rest follows at the next run.
    fn expire(&self, now: UnixTime, max_age: Duration) -> Result<usize, StoreError>;

    /// How much is stored and what it costs.
    ///
    /// # Errors
    /// The store could not be asked.
    fn stats(&self) -> Result<StoreStats, StoreError>;

    /// Makes everything applied so far survive a power failure.
    ///
    /// # Errors
    /// The disk refused.
    fn flush(&self) -> Result<(), StoreError>;
}

/// What is known of a node at one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeMeta {
    /// When it last pinged us from there over discv4.
    pub last_ping: Option<UnixTime>,
    /// When it last answered our ping from there, over either protocol.
    pub last_pong: Option<UnixTime>,
    /// discv4 FindNode requests it failed to answer in a row.
    pub find_failures: u32,
    /// The same over discv5.
    pub find_failures_v5: u32,
}

/// Which nodes may be seeds: those with a stored contact whose own address answered within `max_age`.
#[derive(Clone, Debug)]
pub struct SeedQuery {
    /// At most this many.
    pub count: usize,
    /// Only nodes whose last pong is at most this old.
    pub max_age: Duration,
    /// What "old" is measured from.
    pub now: UnixTime,
    /// Never these (the local node, nodes already in the table).
    pub exclude: Vec<NodeId>,
}

impl SeedQuery {
    /// The excluded ids, ready to be asked for once a row.
    pub(crate) fn excluded(&self) -> BTreeSet<NodeId> {
        self.exclude.iter().copied().collect()
    }
}

/// A node to start from.
#[derive(Clone, Debug)]
pub struct Seed {
    /// The contact.
    pub node: Node,
    /// What is known of it at its own address.
    pub meta: NodeMeta,
}

/// What [`NodeStore::apply`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Contacts refused because a newer record is stored.
    pub refused: usize,
    /// Rows that left because the store was full.
    pub evicted: usize,
}

/// How much a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Stored contacts.
    pub nodes: usize,
    /// Node ids with a contact or statistics; at most the store's bound.
    pub rows: usize,
    /// Values in the cache, at most [`MAX_CACHED`](crate::MAX_CACHED).
    pub cached: usize,
    /// Bytes of their keys and values, at most [`MAX_CACHED_BYTES`](crate::MAX_CACHED_BYTES).
    pub cached_bytes: u64,
    /// Entries found undecodable, at opening and since.
    pub skipped: u64,
    /// Bytes of memory: the entries themselves for the memory store (measured, see the README), write buffers, cache
    /// and open tables for the disk store.
    pub memory_bytes: u64,
    /// Table files on disk; 0 for the memory store.
    pub table_files: usize,
    /// Bytes in those files.
    pub table_bytes: u64,
}

/// Why a store did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database was closed before.
    #[error("the node database is closed")]
    Closed,
    /// RocksDB failed; at the next start a damaged database is repaired or set aside.
    #[cfg(feature = "rocksdb")]
    #[error("the node database failed: {0}")]
    Rocks(#[from] rocksdb::Error),
}
