//! Opening a folder whatever state it is in: new, good, of another version, damaged, in use.
//!
//! A node must start. A database that cannot be used is repaired, and if that does not help it is renamed and a new
//! one begun: nothing is ever deleted, and what happened is reported. Only what another start may cure (no space, no permission, in use) is an error.
//!
//! The folder holds `tercet.lock`, whose lock says who has it, and `db`, which is RocksDB's. RocksDB has a lock too, but
//! it could not protect the renaming.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rocksdb::{Cache, DB, ErrorKind};

use crate::db::OpenError;

use super::audit::{Audit, audit};
use super::keys::SCHEMA;
use super::options::{BLOCK_CACHE, options};
use super::{Counts, RocksStore};

/// The version of the layout this code reads and writes.
pub const SCHEMA_VERSION: u64 = 1;

const LOCK_FILE: &str = "tercet.lock";
const DATABASE: &str = "db";

/// What opening a database found and did. Displays as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenReport {
    /// What happened.
    pub opened: Opened,
    /// Contacts in it now.
    pub nodes: usize,
    /// Entries that could not be decoded, or had lost their other half, and were dropped.
    pub skipped: u64,
}

/// What opening a database did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Opened {
    /// There was none; a new one was made.
    Created,
    /// It was good.
    Existing,
    /// It was damaged, and what could be read of it was kept.
    Repaired {
        /// What was wrong.
        damage: rocksdb::Error,
    },
    /// It could not be used; it was renamed and a new one was made.
    SetAside {
        /// Where it is now.
        to: PathBuf,
        /// Why.
        reason: UnusableReason,
    },
}

/// Why a database was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnusableReason {
    /// It has another version of the layout than [`SCHEMA_VERSION`]; `None` if it does not say which.
    Schema {
        /// Its version.
        found: Option<u64>,
    },
    /// It is damaged beyond repair.
    Damaged {
        /// What was still wrong after the repair.
        damage: rocksdb::Error,
    },
}

impl fmt::Display for OpenReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.opened {
            Opened::Created => write!(f, "new node database"),
            Opened::Existing => write!(f, "node database with {} nodes", self.nodes),
            Opened::Repaired { damage } => write!(
                f,
                "node database was damaged ({damage}) and is repaired; {} nodes are left",
                self.nodes
            ),
            Opened::SetAside { to, reason } => {
                write!(
                    f,
                    "node database {reason}; it is kept as {}, and a new one begun",
                    to.display()
                )
            }
        }?;
        match self.skipped {
            0 => Ok(()),
            skipped => write!(f, "; {skipped} unreadable entries were dropped"),
        }
    }
}

impl fmt::Display for UnusableReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schema { found: Some(found) } => {
                write!(
                    f,
                    "has layout version {found}, this program uses {SCHEMA_VERSION}"
                )
            }
            Self::Schema { found: None } => write!(f, "has no layout version"),
            Self::Damaged { damage } => write!(f, "is damaged beyond repair ({damage})"),
        }
    }
}

pub(super) fn open(path: &Path, bound: usize) -> Result<(RocksStore, OpenReport), OpenError> {
    let lock = lock(path)?;
    let folder = Folder {
        data: path.join(DATABASE),
        cache: Cache::new_lru_cache(BLOCK_CACHE),
    };
    let (db, audit, opened) = folder.open()?;
    let report = OpenReport {
        opened,
        nodes: audit.nodes,
        skipped: audit.skipped,
    };
    match &report.opened {
        Opened::Created | Opened::Existing if report.skipped == 0 => {
            tracing::debug!(path = %path.display(), "{report}");
        }
        _ => tracing::warn!(path = %path.display(), "{report}"),
    }
    let store = RocksStore {
        db,
        cache: folder.cache,
        bound,
        writing: Mutex::new(()),
        counts: Counts {
            rows: audit.rows.into(),
            nodes: audit.nodes.into(),
            skipped: audit.skipped.into(),
        },
        cached: Mutex::new(audit.cache),
        _lock: lock,
    };
    Ok((store, report))
}

/// The folder is ours as long as this lives. The system gives it up when the process ends in whatever way.
#[derive(Debug)]
pub(super) struct FolderLock(File);

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Closing the file would not do: a process that another thread is starting just now has a copy of it until it
        // runs its own program, and the lock would outlive us by that long.
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "cannot unlock the node database's folder");
        }
    }
}

/// Makes the folder and takes its lock.
fn lock(path: &Path) -> Result<FolderLock, OpenError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Folder { path, source }
    };
    fs::create_dir_all(path).map_err(failed(path))?;
    let file = path.join(LOCK_FILE);
    let lock = File::create(&file).map_err(failed(&file))?;
    match lock.try_lock() {
        Ok(()) => Ok(FolderLock(lock)),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(failed(&file)(source)),
    }
}

/// The RocksDB folder, locked by us.
struct Folder {
    data: PathBuf,
    cache: Cache,
}

/// Why one try to open did not give a database.
enum Failure {
    Unusable(UnusableReason),
    Fatal(OpenError),
}

impl Folder {
    fn open(&self) -> Result<(DB, Audit, Opened), OpenError> {
        if self.is_new()? {
            let (db, audit) = self.create()?;
            return Ok((db, audit, Opened::Created));
        }
        let reason = match self.try_open(false) {
            Ok((db, audit)) => return Ok((db, audit, Opened::Existing)),
            Err(Failure::Fatal(error)) => return Err(error),
            Err(Failure::Unusable(UnusableReason::Damaged { damage })) => {
                tracing::warn!(path = %self.data.display(), %damage, "the node database is damaged; repairing it");
                match self.repair() {
                    Ok((db, audit)) => return Ok((db, audit, Opened::Repaired { damage })),
                    Err(Failure::Fatal(error)) => return Err(error),
                    Err(Failure::Unusable(reason)) => reason,
                }
            }
            Err(Failure::Unusable(reason)) => reason,
        };
        let to = self.set_aside(&reason)?;
        let (db, audit) = self.create()?;
        Ok((db, audit, Opened::SetAside { to, reason }))
    }

    /// Nothing is there, or an empty folder. A folder that lacks just the file RocksDB looks for first is not new: RocksDB would
    /// begin a new database in it and delete the tables it does not know.
    fn is_new(&self) -> Result<bool, OpenError> {
        match fs::read_dir(&self.data) {
            Ok(mut entries) => Ok(entries.next().is_none()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(source) => Err(OpenError::Folder {
                path: self.data.clone(),
                source,
            }),
        }
    }

    fn create(&self) -> Result<(DB, Audit), OpenError> {
        let fatal = |source| self.fatal(source);
        let db = DB::open(&options(&self.cache, true), &self.data).map_err(fatal)?;
        db.put(SCHEMA, SCHEMA_VERSION.to_be_bytes())
            .map_err(fatal)?;
        db.flush_wal(true).map_err(fatal)?;
        Ok((db, Audit::default()))
    }

    /// Opens and reads everything. After a repair a missing version is forgiven: it may have been in what was lost.
    fn try_open(&self, repaired: bool) -> Result<(DB, Audit), Failure> {
        let classify = |error| self.classify(error);
        let db = DB::open(&options(&self.cache, false), &self.data).map_err(classify)?;
        let stored = db.get(SCHEMA).map_err(classify)?;
        let is_empty = stored.is_none() && {
            let mut entries = db.raw_iterator();
            entries.seek_to_first();
            entries.status().map_err(classify)?;
            !entries.valid()
        };
        let found = stored.and_then(|bytes| Some(u64::from_be_bytes(bytes.try_into().ok()?)));
        match found {
            Some(SCHEMA_VERSION) => {}
            // A process was killed between making the database and writing its version.
            None if is_empty || repaired => {
                db.put(SCHEMA, SCHEMA_VERSION.to_be_bytes())
                    .map_err(classify)?;
            }
            found => return Err(Failure::Unusable(UnusableReason::Schema { found })),
        }
        let audit = audit(&db).map_err(classify)?;
        Ok((db, audit))
    }

    /// RocksDB's own repair: reads what it can from tables and log, and keeps files it cannot read in a folder `lost`.
    fn repair(&self) -> Result<(DB, Audit), Failure> {
        DB::repair(&options(&self.cache, false), &self.data)
            .map_err(|error| self.classify(error))?;
        self.try_open(true)
    }

    /// Whether an error is damage, which repair may cure, or the system refusing, which it would make worse.
    fn classify(&self, error: rocksdb::Error) -> Failure {
        // A missing table or manifest is reported as the system's error for it (ENOENT), whose text is all there is.
        let is_file_missing = error.as_ref().contains("No such file or directory");
        match error.kind() {
            ErrorKind::IOError if !is_file_missing => Failure::Fatal(self.fatal(error)),
            _ => Failure::Unusable(UnusableReason::Damaged { damage: error }),
        }
    }

    fn fatal(&self, source: rocksdb::Error) -> OpenError {
        OpenError::Rocks {
            path: self.data.clone(),
            source,
        }
    }

    /// Renames the database within its folder, to a name that is free and says why.
    fn set_aside(&self, reason: &UnusableReason) -> Result<PathBuf, OpenError> {
        let why = match reason {
            UnusableReason::Schema { found: Some(found) } => format!("version-{found}"),
            UnusableReason::Schema { found: None } => "unknown-version".into(),
            UnusableReason::Damaged { .. } => "damaged".into(),
        };
        let to = (1_u32..)
            .map(|number| {
                self.data
                    .with_file_name(format!("{DATABASE}.{why}.{number}"))
            })
            .find(|name| fs::symlink_metadata(name).is_err())
            .unwrap_or_else(|| self.data.with_file_name(why));
        fs::rename(&self.data, &to).map_err(|source| OpenError::SetAside {
            from: self.data.clone(),
            to: to.clone(),
            source,
        })?;
        Ok(to)
    }
}
