//! `NodeDb`, the handle everybody else uses: cheap to clone, never blocks on a write, reads its own writes.

#![allow(clippy::disallowed_methods)] // the driver of the database: the one place that starts its clock

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::Rng;
use tercet_enode::{Node, NodeId};
use tercet_machine::{Clock, Now};
use thiserror::Error;

use crate::cache::CacheKey;
use crate::memory::MemoryStore;
use crate::store::{NodeMeta, NodeStore, Seed, SeedQuery, StoreError, StoreStats};
use crate::write::Write;
use crate::writer::{Shared, WriteError, WriterStats};

/// The node database: a store and the one thread that writes to it.
///
/// Clones share both. Closing one closes all; dropping the last one closes too, which waits for the last commit.
#[derive(Clone)]
pub struct NodeDb {
    owner: Arc<Owner>,
}

impl NodeDb {
    /// A database that forgets everything when closed.
    ///
    /// # Errors
    /// [`OpenError::Thread`] if the system has no thread left.
    pub fn memory() -> Result<Self, OpenError> {
        let clock = Clock::start();
        Self::with_store(MemoryStore::new(), move || clock.now())
    }

    /// The database in this folder, made if it is not there, repaired or set aside if it is damaged.
    ///
    /// # Errors
    /// See [`OpenError`]; a damaged database is none of them.
    #[cfg(feature = "rocksdb")]
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<(Self, crate::OpenReport), OpenError> {
        let (store, report) = crate::RocksStore::open(path)?;
        let clock = Clock::start();
        Ok((Self::with_store(store, move || clock.now())?, report))
    }

    /// A database over any store, with any clock. Time that passes unseen by the thread (a test moving its clock) is
    /// noticed at the next write or flush.
    ///
    /// # Errors
    /// [`OpenError::Thread`] if the system has no thread left.
    pub fn with_store(
        store: impl NodeStore + 'static,
        now: impl Fn() -> Now + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared::new(store, now));
        let writer = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("tercet-nodedb".into())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::Thread { source })?;
        let thread = Mutex::new(Some(thread));
        Ok(Self {
            owner: Arc::new(Owner { shared, thread }),
        })
    }

    /// Takes a write; it is in the store half a second later at most, and read by this handle's and its clones' reads at
    /// once. Never waits for the disk.
    ///
    /// # Errors
    /// [`WriteError::Busy`] if 4,096 other nodes wait already, [`WriteError::Closed`] after a close,
    /// [`WriteError::TooLarge`] for a value the cache does not take.
    pub fn write(&self, write: Write) -> Result<(), WriteError> {
        self.shared().write(write)
    }

    /// The contact of a node. Reads from disk, and checks the stored record's signature: microseconds, not nanoseconds.
    ///
    /// # Errors
    /// The store could not be read or is closed.
    pub fn node(&self, id: &NodeId) -> Result<Option<Node>, StoreError> {
        let read = |store: &dyn NodeStore| store.node(id);
        self.shared()
            .read(id, read, |waiting, stored| waiting.node_over(stored))
    }

    /// What is known of a node at one address.
    ///
    /// # Errors
    /// The store could not be read or is closed.
    pub fn meta(&self, id: &NodeId, ip: IpAddr) -> Result<NodeMeta, StoreError> {
        let read = |store: &dyn NodeStore| store.meta(id, ip);
        self.shared()
            .read(id, read, |waiting, stored| waiting.meta_over(ip, stored))
    }

    /// The last sequence number of a local node's own record.
    ///
    /// # Errors
    /// The store could not be read or is closed.
    pub fn local_seq(&self, id: &NodeId) -> Result<Option<u64>, StoreError> {
        let read = |store: &dyn NodeStore| store.local_seq(id);
        self.shared()
            .read(id, read, |waiting, stored| waiting.local_seq_over(stored))
    }

    /// A value of the cache.
    ///
    /// # Errors
    /// The store could not be read or is closed.
    pub fn cached(&self, key: &CacheKey) -> Result<Option<Bytes>, StoreError> {
        let read = |store: &dyn NodeStore| store.cached(key);
        let id = NodeId::new(*key.as_bytes());
        self.shared()
            .read(&id, read, |waiting, stored| waiting.cached_over(stored))
    }

    /// A fair random choice of nodes to start from, see [`NodeStore::seeds`]. Sees committed writes only, and reads all
    /// statistics: milliseconds, so not for an async task's own thread.
    ///
    /// # Errors
    /// The store could not be read or is closed.
    pub fn seeds(&self, query: &SeedQuery, rng: &mut dyn Rng) -> Result<Vec<Seed>, StoreError> {
        self.shared().with_store(|store| store.seeds(query, rng))
    }

    /// How much is stored. Sees committed writes only.
    ///
    /// # Errors
    /// The store could not be read or is closed.
    pub fn stats(&self) -> Result<StoreStats, StoreError> {
        self.shared().with_store(|store| store.stats())
    }

    /// What the writer thread did so far.
    pub fn writer_stats(&self) -> WriterStats {
        self.shared().stats()
    }

    /// From now on, forget every hour what has not answered for 24 h. To be called once the network is joined.
    ///
    /// Nobody is forgotten before others have answered for a whole hour without a break: a node that was offline, whose
    /// machine has slept or whose clock was set would forget everybody it could start from.
    pub fn start_expiry(&self) {
        self.shared().start_expiry();
    }

    /// Blocks until everything written before is in the store and would survive a power failure.
    ///
    /// # Errors
    /// The store refused; what it refused is kept and tried again.
    pub fn flush_blocking(&self) -> Result<(), StoreError> {
        self.shared().flush()
    }

    /// Blocks until everything is written and the store is closed; its folder is free then. All clones are closed with it.
    ///
    /// # Errors
    /// The store refused the last writes, which are lost.
    pub fn close(&self) -> Result<(), StoreError> {
        self.owner.close()
    }

    /// [`NodeDb::flush_blocking`] without blocking the task.
    ///
    /// # Errors
    /// The store refused; what it refused is kept and tried again.
    #[cfg(feature = "tokio")]
    pub async fn flush(&self) -> Result<(), StoreError> {
        let db = self.clone();
        let flushed = tokio::task::spawn_blocking(move || db.flush_blocking()).await;
        // The only way not to be run is a runtime that is going down, and with it this task.
        flushed.unwrap_or(Err(StoreError::Closed))
    }

    /// [`NodeDb::close`] without blocking the task.
    ///
    /// # Errors
    /// The store refused the last writes, which are lost.
    #[cfg(feature = "tokio")]
    pub async fn shutdown(&self) -> Result<(), StoreError> {
        let db = self.clone();
        let closed = tokio::task::spawn_blocking(move || db.close()).await;
        closed.unwrap_or(Err(StoreError::Closed))
    }

    fn shared(&self) -> &Shared {
        &self.owner.shared
    }
}

impl std::fmt::Debug for NodeDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stats = self.writer_stats();
        f.debug_struct("NodeDb").field("writer", &stats).finish()
    }
}

/// Held by handles only, never by the thread, so that the last handle to go ends the thread.
struct Owner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Owner {
    fn close(&self) -> Result<(), StoreError> {
        let result = self.shared.close();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the node database's thread panicked");
        }
        result
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "the node database lost its last writes");
        }
    }
}

/// Why a node database could not be opened. A damaged database or one of another version is not among them: it is repaired
/// or set aside, and the node starts.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another part of this one, has it open.
    #[error("the node database {} is in use by another process", path.display())]
    Locked {
        /// The database's folder.
        path: PathBuf,
    },
    /// The folder cannot be made, read or locked.
    #[error("cannot use the folder {} for the node database", path.display())]
    Folder {
        /// The folder or file that could not be used.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A database that cannot be used could not be renamed either.
    #[error("cannot move the unusable node database {} to {}", from.display(), to.display())]
    SetAside {
        /// Where it is.
        from: PathBuf,
        /// Where it should go.
        to: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// RocksDB cannot open it for a reason that is no damage: no permission, no space, too many open files.
    #[cfg(feature = "rocksdb")]
    #[error("cannot open the node database {}", path.display())]
    Rocks {
        /// The database's folder.
        path: PathBuf,
        /// What RocksDB says.
        source: rocksdb::Error,
    },
    /// The writer thread could not be started.
    #[error("cannot start the node database's thread")]
    Thread {
        /// What the system says.
        source: io::Error,
    },
}
