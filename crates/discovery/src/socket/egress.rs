//! The thread of a socket that sends bursts, while the driver reads and answers what comes next, and that waits for a system which
//! takes nothing more. Waking it takes longer than sending a few datagrams; those the driver sends itself.
//!
//! What is sent to one receiver leaves in the order in which it was handed over. There are two lanes, each receiver has his in one
//! of them, and one thread at a time sends from a lane; nothing is sent beside them while anything is under way. When the driver
//! is far ahead it takes over a lane that nobody sends from: otherwise it would read what it cannot answer, and a core would wait.
#![allow(clippy::disallowed_methods)] // a driver's part: it starts a thread, and joins it when it is dropped

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::Notify;

use super::queue::Queue;
use crate::metrics::DiscoveryMetrics;

/// What datagrams are sent on.
pub(super) trait Wire: Send + Sync + 'static {
    /// Sends from the front of `queue` without waiting; how many the system took, at least one.
    fn send(&self, queue: &Queue) -> io::Result<usize>;

    /// Waits a moment for it to take more; whether it does.
    fn wait(&self) -> bool;
}

/// What came of an attempt to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Sent {
    datagrams: u64,
    bytes: u64,
    refused: u64,
}

impl Sent {
    pub(super) fn count(self, metrics: &mut DiscoveryMetrics) {
        metrics.datagrams_out += self.datagrams;
        metrics.bytes_out += self.bytes;
        metrics.socket_errors += self.refused;
    }

    fn add(&mut self, other: Self) {
        self.datagrams += other.datagrams;
        self.bytes += other.bytes;
        self.refused += other.refused;
    }
}

/// Takes from the front of `queue` what an attempt has sent, or what the system has refused: that is lost, as any datagram may
/// be. `None` if the system takes nothing now.
pub(super) fn settle(queue: &mut Queue, attempt: io::Result<usize>) -> Option<Sent> {
    match attempt {
        Ok(count) => {
            let (datagrams, bytes) = queue.take_out(count);
            Some(Sent {
                datagrams: datagrams as u64,
                bytes: bytes as u64,
                refused: 0,
            })
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        // It is about the first: an error behind it shows when that one is the first.
        Err(error) => {
            let to = queue.iter().next().map(|(to, _)| to);
            tracing::debug!(?to, %error, "datagram not sent");
            queue.take_out(1);
            Some(Sent {
                refused: 1,
                ..Sent::default()
            })
        }
    }
}

/// The thread and what it has to send.
#[derive(Debug)]
pub(super) struct Egress {
    shared: Arc<Shared>,
    /// What [`help`](Self::help) works on; empty but for its capacity.
    batch: Queue,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// For the thread: there is something to send, or nothing will come any more.
    ready: Condvar,
    /// For the driver: all has been sent.
    done: Notify,
}

#[derive(Debug, Default)]
struct State {
    lanes: [Lane; 2],
    /// Not yet told to the driver.
    sent: Sent,
    closed: bool,
}

#[derive(Debug, Default)]
struct Lane {
    queue: Queue,
    /// What somebody has taken out of the queue and not yet sent.
    taken: usize,
}

impl State {
    fn under_way(&self) -> usize {
        let each = self.lanes.iter().map(|lane| lane.queue.len() + lane.taken);
        each.sum()
    }

    /// A lane of which there is something to send and from which nobody sends, the longer one first.
    fn free(&self) -> Option<Which> {
        let [first, second] = self.lanes.each_ref().map(|lane| match lane.taken {
            0 => lane.queue.len(),
            _ => 0,
        });
        match first.max(second) {
            0 => None,
            _ => Some(Which(second > first)),
        }
    }

    const fn lane(&mut self, Which(second): Which) -> &mut Lane {
        let [a, b] = &mut self.lanes;
        if second { b } else { a }
    }
}

/// One of two lanes.
#[derive(Clone, Copy)]
struct Which(bool);

impl Which {
    /// The receiver's. Whoever chooses his address so that his lane is the longer one makes this thread do more than the driver, or
    /// less.
    fn of(to: SocketAddr) -> Self {
        let ip = match to.ip() {
            IpAddr::V4(ip) => ip.to_bits().into(),
            IpAddr::V6(ip) => ip.to_bits(),
        };
        Self((ip ^ u128::from(to.port())).count_ones() % 2 == 1)
    }
}

impl Shared {
    /// A thread that panicked left whole items: the state is as good as before.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves all of a free lane into `batch`, which has to be empty.
    fn take(state: &mut State, batch: &mut Queue) -> Option<Which> {
        let which = state.free()?;
        let lane = state.lane(which);
        batch.append(&mut lane.queue);
        lane.taken = batch.len();
        Some(which)
    }

    /// As [`take`](Self::take), as soon as there is a free lane. `None` when nothing will come any more.
    fn wait(&self, batch: &mut Queue) -> Option<Which> {
        let mut state = self.lock();
        loop {
            match Self::take(&mut state, batch) {
                None if state.closed => return None,
                None => {
                    state = self
                        .ready
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                which => return which,
            }
        }
    }

    fn report(&self, which: Which, sent: Sent, left: usize) {
        let mut state = self.lock();
        state.sent.add(sent);
        state.lane(which).taken = left;
        let done = state.under_way() == 0;
        drop(state);
        if done {
            self.done.notify_one();
        }
    }

    /// What the thread does.
    fn work(&self, wire: &impl Wire) {
        let mut batch = Queue::default();
        while let Some(which) = self.wait(&mut batch) {
            while !batch.is_empty() {
                let attempt = wire.send(&batch);
                match settle(&mut batch, attempt) {
                    Some(sent) => self.report(which, sent, batch.len()),
                    // Nobody waits for ever for a system that takes nothing.
                    None if !wire.wait() && self.lock().closed => return,
                    None => {}
                }
            }
        }
    }

    /// Sends a free lane, as far as the system takes it.
    fn help(&self, wire: &impl Wire, batch: &mut Queue) {
        let Some(which) = Self::take(&mut self.lock(), batch) else {
            return;
        };
        let mut all = Sent::default();
        while !batch.is_empty() {
            let attempt = wire.send(batch);
            match settle(batch, attempt) {
                Some(sent) => all.add(sent),
                None => break,
            }
        }
        if !batch.is_empty() {
            // In front of what has come since.
            let mut state = self.lock();
            let queue = &mut state.lane(which).queue;
            batch.append(queue);
            std::mem::swap(batch, queue);
        }
        self.report(which, all, 0);
        self.ready.notify_one();
    }
}

impl Egress {
    /// Starts a thread that sends on `wire`.
    pub(super) fn start(wire: Arc<impl Wire>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("discovery-send".to_owned());
        let of_thread = Arc::clone(&shared);
        Ok(Self {
            shared,
            batch: Queue::default(),
            thread: Some(thread.spawn(move || of_thread.work(&*wire))?),
        })
    }

    /// Counts what has been sent since the last call; how many datagrams are still under way.
    pub(super) fn collect(&self, metrics: &mut DiscoveryMetrics) -> usize {
        let mut state = self.shared.lock();
        std::mem::take(&mut state.sent).count(metrics);
        state.under_way()
    }

    /// Hands over all of `queue`.
    pub(super) fn submit(&self, queue: &mut Queue) {
        let mut state = self.shared.lock();
        for (to, datagram) in queue.iter() {
            state.lane(Which::of(to)).queue.push(to, datagram);
        }
        drop(state);
        queue.take_out(usize::MAX);
        self.shared.ready.notify_one();
    }

    /// Sends a part of what is under way on the caller's thread, if that is possible.
    pub(super) fn help(&mut self, wire: &impl Wire) {
        self.shared.help(wire, &mut self.batch);
    }

    /// Until all that was handed over has been sent. May end once too early where nobody waited the last time.
    pub(super) async fn done(&self) {
        self.shared.done.notified().await;
    }

    /// Sends what is under way, and ends.
    pub(super) fn close(&mut self) {
        self.shared.lock().closed = true;
        self.shared.ready.notify_one();
        let ended = self.thread.take().map(JoinHandle::join);
        if ended.is_some_and(|ended| ended.is_err()) {
            tracing::warn!("the thread that sends bursts panicked");
        }
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
