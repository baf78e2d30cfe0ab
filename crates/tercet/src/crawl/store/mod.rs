//! The full data of all crawls in one SQLite file: who was seen when and where, over which protocol it answered, and what it said
//! of itself. Rows are handed over in batches to a thread of their own, which writes each batch as one transaction; a crawl that is
//! killed loses the last batches and nothing else. The tables are in `schema.sql`; reading them back is in `read`.
#![allow(clippy::disallowed_methods)] // a driver: it owns a file and the thread that writes it

mod read;
mod write;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use tercet_machine::UnixTime;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub(crate) use self::read::{Counts, chains, counts, known};
use self::write::Writer;
pub(crate) use self::write::{Row, Sighting, Spoken};

/// `Trct`: in the file's header, where SQLite has a place for what an application is.
const APPLICATION_ID: i32 = 0x5472_6374;

/// The schema in `schema.sql`. A file of a newer one is refused, so that nothing in it is lost.
pub(crate) const SCHEMA_VERSION: i32 = 1;

/// What every SQLite file begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Rows of one transaction, and batches on their way to the writer: at 300 bytes a row 2.5 MB.
const BATCH: usize = 512;
const MAX_BATCHES: usize = 16;

/// The file could not be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum StoreError {
    /// It cannot be opened or read.
    #[error("cannot open the database {}", path.display())]
    Open {
        path: PathBuf,
        source: rusqlite::Error,
    },
    /// It is something else.
    #[error("{} is no crawl database", path.display())]
    NotOurs { path: PathBuf },
    /// It is of a later version of this program.
    #[error("{} has schema version {found}; this program knows {SCHEMA_VERSION}", path.display())]
    Version { path: PathBuf, found: i32 },
    /// A row that does not say what it should.
    #[error("{}: {what}", path.display())]
    Row { path: PathBuf, what: String },
    /// Writing failed; what was written before is there.
    #[error("cannot write the database {}", path.display())]
    Write {
        path: PathBuf,
        source: rusqlite::Error,
    },
    /// The writer ended by a defect.
    #[error("a task of this program failed")]
    Task(#[source] tokio::task::JoinError),
}

impl StoreError {
    /// Whether the file is at fault, and not the disk or this program.
    pub(crate) fn is_bad_input(&self) -> bool {
        !matches!(self, Self::Write { .. } | Self::Task(_))
    }
}

/// A database being written to.
#[derive(Debug)]
pub(crate) struct Store {
    batch: Vec<Row>,
    batches: Option<mpsc::Sender<Vec<Row>>>,
    writer: JoinHandle<Result<(), StoreError>>,
}

/// Whether a file looks like an SQLite database, and not like a node set.
pub(crate) fn is_database(path: &Path) -> bool {
    let mut magic = [0; MAGIC.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == *MAGIC
}

impl Store {
    /// Opens or makes the file and begins a crawl in it.
    pub(crate) async fn begin(path: &Path, now: UnixTime) -> Result<Self, StoreError> {
        let path = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || {
            let connection = open(&path)?;
            Writer::begin(connection, path, now)
        });
        let writer = opened.await.map_err(StoreError::Task)??;
        let (batches, receiver) = mpsc::channel(MAX_BATCHES);
        Ok(Self {
            batch: Vec::new(),
            batches: Some(batches),
            writer: tokio::task::spawn_blocking(move || writer.run(receiver)),
        })
    }

    /// Takes a row; a full batch is on its way to the disk afterwards. Waits only while the disk is [`MAX_BATCHES`] behind.
    pub(crate) async fn add(&mut self, row: Row) -> Result<(), StoreError> {
        self.batch.push(row);
        if self.batch.len() >= BATCH {
            self.flush().await
        } else {
            Ok(())
        }
    }

    /// Sends what is there to the disk.
    pub(crate) async fn flush(&mut self) -> Result<(), StoreError> {
        let batch = std::mem::take(&mut self.batch);
        let Some(batches) = self.batches.as_ref().filter(|_| !batch.is_empty()) else {
            return Ok(());
        };
        if batches.send(batch).await.is_ok() {
            return Ok(());
        }
        self.join().await
    }

    /// Ends the crawl in the file and waits until everything is on the disk.
    pub(crate) async fn end(mut self, now: UnixTime, complete: bool) -> Result<(), StoreError> {
        self.add(Row::End { at: now, complete }).await?;
        self.flush().await?;
        self.join().await
    }

    async fn join(&mut self) -> Result<(), StoreError> {
        if self.batches.take().is_none() {
            return Ok(());
        }
        (&mut self.writer).await.map_err(StoreError::Task)?
    }
}

/// Opens the file to be written to, making it and its tables if there is none.
fn open(path: &Path) -> Result<Connection, StoreError> {
    let failed = |source| error(path, source);
    let connection = Connection::open(path).map_err(failed)?;
    if is_empty(&connection).map_err(failed)? {
        let make = format!(
            "BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};\n{}\nCOMMIT;",
            include_str!("schema.sql")
        );
        connection.execute_batch(&make).map_err(failed)?;
    }
    check(path, &connection)?;
    // A reader is not in the way, and what was committed survives this process, if not always the machine.
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;",
        )
        .map_err(failed)?;
    Ok(connection)
}

/// Opens a file that is there, to be read.
fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|source| error(path, source))?;
    check(path, &connection)?;
    Ok(connection)
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(id == 0 && tables == 0)
}

fn check(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get(0));
    let path = path.to_owned();
    let id: i32 = pragma("application_id").map_err(|source| error(&path, source))?;
    if id != APPLICATION_ID {
        return Err(StoreError::NotOurs { path });
    }
    let found: i32 = pragma("user_version").map_err(|source| error(&path, source))?;
    if found == SCHEMA_VERSION {
        Ok(())
    } else {
        Err(StoreError::Version { path, found })
    }
}

/// What went wrong with a file that was to be opened or read.
fn error(path: &Path, source: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => StoreError::NotOurs { path },
        _ => StoreError::Open { path, source },
    }
}

#[cfg(test)]
mod tests;
