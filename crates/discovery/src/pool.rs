//! Signature checks of bursts on other threads, and the order of each sender's packets kept: while a check of his is under
//! way, what he sends next waits behind it. One or two checks at a time run where they are, as waking a thread takes about as
//! long as a check.
#![allow(clippy::disallowed_methods)] // a driver's part: it starts threads, and joins them when it is dropped

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tercet_machine::{KeyedMap, KeyedState};
use tokio::sync::mpsc;

/// Checks under way, on threads or waiting for one: at 30 µs each, 30 ms of work for one core. Further ones are dropped.
pub(crate) const MAX_JOBS: usize = 1024;

/// Of these, checks of packets nobody here has asked for. The rest is kept for answers, so that a flood does not keep a
/// lookup from ending.
const MAX_UNASKED: usize = MAX_JOBS / 4 * 3;

/// As many checks as this run inline.
pub(crate) const INLINE: usize = 2;

/// Packets of one sender that wait behind his check: all that one turn of the driver reads.
pub(crate) const MAX_WAITING_EACH: usize = 64;

/// Packets that wait behind checks of their senders, `1024 × 1280 = 1.3 MB` at most.
pub(crate) const MAX_WAITING: usize = 1024;

/// Work for a thread.
pub(crate) trait Job: Send + 'static {
    /// What comes of it.
    type Done: Send + 'static;

    fn run(self) -> Self::Done;
}

/// The threads and what waits for them.
pub(crate) struct Pool<J: Job> {
    shared: Arc<Shared<J>>,
    done: mpsc::Receiver<(SocketAddr, J::Done)>,
    under_way: usize,
    threads: Vec<JoinHandle<()>>,
}

struct Shared<J> {
    queue: Mutex<Queue<J>>,
    ready: Condvar,
}

struct Queue<J> {
    jobs: VecDeque<(SocketAddr, J)>,
    closed: bool,
}

impl<J> Shared<J> {
    /// A thread that panicked left whole items: the queue is as good as before.
    fn lock(&self) -> MutexGuard<'_, Queue<J>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job; `None` when the pool is closed.
    fn next(&self) -> Option<(SocketAddr, J)> {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            queue = self
                .ready
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<J: Job> Pool<J> {
    /// Starts `threads` threads.
    pub(crate) fn start(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                jobs: VecDeque::new(),
                closed: false,
            }),
            ready: Condvar::new(),
        });
        // Room for every job under way: a thread never waits for the driver.
        let (sender, done) = mpsc::channel(MAX_JOBS);
        let mut pool = Self {
            shared,
            done,
            under_way: 0,
            threads: Vec::new(),
        };
        for _ in 0..threads {
            let (shared, sender) = (Arc::clone(&pool.shared), sender.clone());
            let work = move || {
                while let Some((from, job)) = shared.next() {
                    if sender.blocking_send((from, job.run())).is_err() {
                        return;
                    }
                }
            };
            let thread = std::thread::Builder::new().name("discovery-verify".to_owned());
            pool.threads.push(thread.spawn(work)?);
        }
        Ok(pool)
    }

    /// Checks under way.
    pub(crate) const fn under_way(&self) -> usize {
        self.under_way
    }

    /// Whether [`submit`](Self::submit) would take a job.
    pub(crate) const fn has_room(&self, asked: bool) -> bool {
        let room = if asked { MAX_JOBS } else { MAX_UNASKED };
        self.under_way < room
    }

    /// Hands out a job; `false` if there is no room for it.
    pub(crate) fn submit(&mut self, from: SocketAddr, job: J, asked: bool) -> bool {
        if !self.has_room(asked) {
            return false;
        }
        self.under_way += 1;
        self.shared.lock().jobs.push_back((from, job));
        self.shared.ready.notify_one();
        true
    }

    /// The next job that is done; pending while none is under way.
    pub(crate) async fn done(&mut self) -> (SocketAddr, J::Done) {
        match self.done.recv().await {
            Some(done) => {
                self.under_way = self.under_way.saturating_sub(1);
                done
            }
            None => std::future::pending().await,
        }
    }

    /// As [`done`](Self::done), if there is one already.
    pub(crate) fn try_done(&mut self) -> Option<(SocketAddr, J::Done)> {
        let done = self.done.try_recv().ok()?;
        self.under_way = self.under_way.saturating_sub(1);
        Some(done)
    }
}

impl<J: Job> Drop for Pool<J> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.ready.notify_all();
        // So that no thread waits to hand over what nobody takes.
        self.done.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::warn!("a thread of the pool panicked");
            }
        }
    }
}

/// Who has a check under way, and what waits behind it.
#[derive(Debug)]
pub(crate) struct Lanes<T> {
    busy: KeyedMap<SocketAddr, VecDeque<T>>,
    waiting: usize,
}

/// What to do with something a sender sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entered<T> {
    /// Nothing of his is under way: now.
    Now(T),
    /// It waits.
    Waits,
    /// There is no room to wait.
    Full,
}

impl<T> Lanes<T> {
    pub(crate) fn new(state: KeyedState) -> Self {
        Self {
            busy: KeyedMap::with_hasher(state),
            waiting: 0,
        }
    }

    /// Things that wait.
    pub(crate) const fn waiting(&self) -> usize {
        self.waiting
    }

    pub(crate) fn enter(&mut self, from: SocketAddr, item: T) -> Entered<T> {
        let Some(lane) = self.busy.get_mut(&from) else {
            return Entered::Now(item);
        };
        if lane.len() >= MAX_WAITING_EACH || self.waiting >= MAX_WAITING {
            return Entered::Full;
        }
        lane.push_back(item);
        self.waiting += 1;
        Entered::Waits
    }

    /// A check of this sender's begins.
    pub(crate) fn occupy(&mut self, from: SocketAddr) {
        self.busy.entry(from).or_default();
    }

    /// It is over: the next of his that waited. The lane stays his until there is none.
    pub(crate) fn next(&mut self, from: SocketAddr) -> Option<T> {
        match self.busy.get_mut(&from)?.pop_front() {
            Some(item) => {
                self.waiting -= 1;
                Some(item)
            }
            None => {
                self.busy.remove(&from);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
