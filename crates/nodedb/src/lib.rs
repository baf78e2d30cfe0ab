//! What a node remembers of others between two runs and while it runs: contacts, pings, pongs, failures, and from them
//! the seeds it starts from next time.
//!
//! [`NodeStore`] says what a store does; [`MemoryStore`] and, with feature `rocksdb`, `RocksStore` do it. [`NodeDb`] puts one
//! writer thread before a store, joins writes by node, expires what stopped answering, and is what discovery and server hold.
//! What a contact is and how its record is signed belongs to `tercet-enode`; whom to ask and when, to discovery.
//!
//! 100,000 nodes take 12 MiB of memory and 37 MiB of disk in 14 files with RocksDB, and 1.1 KB of memory each without; the
//! README has the figures and the command that measures them.
//!
//! ```
//! use tercet_enode::{Endpoint, Node, SecretKey};
//! use tercet_machine::{MachineRng, UnixTime};
//! use tercet_nodedb::{NodeDb, SeedQuery, Write};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut rng = MachineRng::from_seed([7; 32]);
//! let key = SecretKey::generate(&mut rng).public_key();
//! let node = Node::new(key, Endpoint::new([192, 0, 2, 1].into(), 30303, 30303));
//! let (id, ip) = (node.id(), node.endpoint().ip);
//!
//! let db = NodeDb::memory()?;
//! let now = UnixTime::from_secs(1_700_000_000);
//! db.write(Write::Node(node))?;
//! db.write(Write::Pong { id, ip, at: now })?;
//! assert_eq!(db.meta(&id, ip)?.last_pong, Some(now));
//!
//! db.flush_blocking()?; // seeds are chosen from what is committed
//! let query = SeedQuery { count: 30, max_age: Duration::from_secs(5 * 86_400), now, exclude: vec![] };
//! assert_eq!(db.seeds(&query, &mut rng)?.len(), 1);
//! db.close()?;
//! # Ok(())
//! # }
//! ```

mod cache;
#[cfg_attr(not(feature = "rocksdb"), allow(dead_code))]
// without a disk, for the fuzz targets alone
mod codec;
mod db;
mod evict;
mod limits;
mod memory;
mod pending;
mod reservoir;
#[cfg(feature = "rocksdb")]
mod rocks;
mod row;
mod schedule;
mod store;
mod touch;
mod write;
mod writer;

pub use cache::CacheKey;
#[doc(hidden)]
pub use codec::{contact_again, row_again};
pub use db::{NodeDb, OpenError};
pub use limits::{
    COMMIT_EARLY, COMMIT_INTERVAL, EVICTION_SHARE, EXPIRY_CYCLE, MAX_ADDRESSES, MAX_CACHED,
    MAX_CACHED_BYTES, MAX_CACHED_VALUE, MAX_NODES, MAX_PENDING, NODE_MAX_AGE, RETRY_INTERVAL,
};
pub use memory::MemoryStore;
#[cfg(feature = "rocksdb")]
pub use rocks::{OpenReport, Opened, RocksStore, SCHEMA_VERSION, UnusableReason};
pub use store::{Applied, NodeMeta, NodeStore, Seed, SeedQuery, StoreError, StoreStats};
pub use write::Write;
pub use writer::{WriteError, WriterStats};

#[cfg(all(doctest, feature = "rocksdb"))]
#[doc = include_str!("../README.md")]
struct Readme;
