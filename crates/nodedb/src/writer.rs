//! The one thread that writes to the store, and what it shares with the handles.
//!
//! Handles join their writes to a bounded queue under a short lock and never wait for the disk. The thread takes the whole
//! queue at once; until the store has it, readers look through both.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex, RwLock};
use tercet_enode::NodeId;
use tercet_machine::Now;

use crate::limits::{MAX_CACHED_VALUE, MAX_PENDING, NODE_MAX_AGE};
use crate::pending::{Pending, PendingNode};
use crate::schedule::{Schedule, Step};
use crate::store::{NodeStore, StoreError};
use crate::touch::Touch;
use crate::write::Write;

/// Why a write was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// [`MAX_PENDING`] other node ids wait for the disk. Statistics may be dropped; anything else should be tried later.
    #[error("the node database has {MAX_PENDING} nodes waiting to be written")]
    Busy,
    /// The database was closed before.
    #[error("the node database is closed")]
    Closed,
    /// A value for the cache is longer than [`MAX_CACHED_VALUE`].
    #[error("the cache takes values of at most {MAX_CACHED_VALUE} bytes")]
    TooLarge,
}

/// Counts since the database was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterStats {
    /// Node ids waiting now.
    pub pending: usize,
    /// Writes refused because the queue was full.
    pub busy: u64,
    /// Commits the store took.
    pub commits: u64,
    /// Commits, expiry runs and syncs that failed. A failed commit is kept and repeated.
    pub failures: u64,
    /// Contacts refused because a newer record was stored.
    pub refused: u64,
    /// Rows that left a full store.
    pub evicted: u64,
    /// Contacts forgotten because they did not answer.
    pub expired: u64,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    /// Wakes the writer.
    work: Condvar,
    /// Wakes those who wait for a flush or the end.
    done: Condvar,
    /// Empty once closed, so that the folder is free although handles live on. Readers hold the lock while they read.
    store: RwLock<Option<Box<dyn NodeStore>>>,
    now: Box<dyn Fn() -> Now + Send + Sync>,
}

#[derive(Default)]
struct State {
    pending: Pending,
    /// Taken from `pending`, not yet known to be in the store.
    in_flight: Arc<Pending>,
    schedule: Schedule,
    touch: Touch,
    stats: WriterStats,
    /// How the last commit and the last sync ended, for those who flush.
    committed: Option<StoreError>,
    synced: Option<StoreError>,
    ended: bool,
}

impl Shared {
    pub(crate) fn new(
        store: impl NodeStore + 'static,
        now: impl Fn() -> Now + Send + Sync + 'static,
    ) -> Self {
        Self {
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            store: RwLock::new(Some(Box::new(store))),
            now: Box::new(now),
        }
    }

    pub(crate) fn write(&self, write: Write) -> Result<(), WriteError> {
        if matches!(&write, Write::Cache { value, .. } if value.len() > MAX_CACHED_VALUE) {
            return Err(WriteError::TooLarge);
        }
        let mut state = self.state.lock();
        if state.schedule.is_closing() {
            return Err(WriteError::Closed);
        }
        if let Write::Pong { at, .. } = &write {
            state.touch.on_pong(*at);
        }
        if state.pending.add(write, MAX_PENDING).is_err() {
            state.stats.busy += 1;
            return Err(WriteError::Busy);
        }
        let waiting = state.pending.len();
        if state.schedule.on_write(waiting, || (self.now)().mono) {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Reads from the store, then lays what still waits for the node over the answer, oldest first.
    pub(crate) fn read<T>(
        &self,
        id: &NodeId,
        from_store: impl FnOnce(&dyn NodeStore) -> Result<T, StoreError>,
        lay_over: impl Fn(&PendingNode, T) -> T,
    ) -> Result<T, StoreError> {
        let waiting = {
            let state = self.state.lock();
            [
                state.in_flight.get(id).cloned(),
                state.pending.get(id).cloned(),
            ]
        };
        let stored = self.with_store(from_store)?;
        Ok(waiting
            .iter()
            .flatten()
            .fold(stored, |value, node| lay_over(node, value)))
    }

    pub(crate) fn with_store<T>(
        &self,
        ask: impl FnOnce(&dyn NodeStore) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match &*self.store.read() {
            Some(store) => ask(store.as_ref()),
            None => Err(StoreError::Closed),
        }
    }

    pub(crate) fn stats(&self) -> WriterStats {
        let state = self.state.lock();
        WriterStats {
            pending: state.pending.len(),
            ..state.stats
        }
    }

    pub(crate) fn start_expiry(&self) {
        self.state.lock().schedule.start_expiry((self.now)().mono);
        self.work.notify_one();
    }

    /// Blocks until everything written before is in the store and synced.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        if state.schedule.is_closing() {
            return Err(StoreError::Closed);
        }
        let number = state.schedule.want_flush();
        self.work.notify_one();
        while state.schedule.flush_done() < number && !state.ended {
            self.done.wait(&mut state);
        }
        state.outcome()
    }

    /// Blocks until everything is in the store, synced, and the store is closed. Later calls return the same.
    pub(crate) fn close(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        state.schedule.close();
        self.work.notify_one();
        while !state.ended {
            self.done.wait(&mut state);
        }
        state.outcome()
    }

    /// The writer thread's body.
    pub(crate) fn run(&self) {
        let _end = End(self);
        loop {
            let mut state = self.state.lock();
            let step = state.schedule.next((self.now)().mono);
            match step {
                Step::Wait(None) => self.work.wait(&mut state),
                Step::Wait(Some(time)) => {
                    // Woken or timed out, the schedule says what comes next.
                    let _ = self.work.wait_for(&mut state, time);
                }
                Step::Commit => {
                    drop(state);
                    self.commit();
                }
                Step::Expire => {
                    drop(state);
                    self.expire();
                }
                Step::Flush(number) => {
                    drop(state);
                    self.sync();
                    self.state.lock().schedule.on_flushed(number);
                    self.done.notify_all();
                }
                Step::Close => {
                    drop(state);
                    self.sync();
                    return;
                }
            }
        }
    }

    fn commit(&self) {
        let batch = {
            let mut state = self.state.lock();
            state.schedule.on_commit_start();
            if state.in_flight.is_empty() {
                state.in_flight = Arc::new(std::mem::take(&mut state.pending));
            }
            Arc::clone(&state.in_flight)
        };
        let now = (self.now)();
        let result = self.with_store(|store| store.apply(now.unix, &batch.to_writes()));
        let mut state = self.state.lock();
        state.schedule.on_commit_end(now.mono, result.is_ok());
        match result {
            Ok(applied) => {
                state.in_flight = Arc::default();
                state.committed = None;
                state.stats.commits += 1;
                state.stats.refused += applied.refused as u64;
                state.stats.evicted += applied.evicted as u64;
            }
            Err(error) => {
                if state.committed.is_none() {
                    tracing::warn!(%error, nodes = batch.len(), "cannot write to the node database; kept and tried again");
                }
                state.committed = Some(error);
                state.stats.failures += 1;
            }
        }
    }

    fn expire(&self) {
        let now = (self.now)();
        {
            let mut state = self.state.lock();
            if !state.touch.is_long(now.unix) {
                state.schedule.on_expired(now.mono);
                return;
            }
        }
        let result = self.with_store(|store| store.expire(now.unix, NODE_MAX_AGE));
        let mut state = self.state.lock();
        state.schedule.on_expired(now.mono);
        match result {
            Ok(expired) => state.stats.expired += expired as u64,
            Err(error) => {
                tracing::warn!(%error, "cannot expire nodes from the node database; tried again in an hour");
                state.stats.failures += 1;
            }
        }
    }

    fn sync(&self) {
        let result = self.with_store(|store| store.flush());
        let mut state = self.state.lock();
        if result.is_err() {
            state.stats.failures += 1;
        }
        state.synced = result.err();
    }
}

impl State {
    fn outcome(&self) -> Result<(), StoreError> {
        let error = self.committed.as_ref().or(self.synced.as_ref());
        error.map_or(Ok(()), |error| Err(error.clone()))
    }
}

/// Closes the store when the thread ends in whatever way, so that nobody waits for a writer that is gone.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let store = self.0.store.write().take();
        drop(store);
        let mut state = self.0.state.lock();
        state.schedule.close();
        state.ended = true;
        self.0.done.notify_all();
    }
}

#[cfg(test)]
mod tests;
