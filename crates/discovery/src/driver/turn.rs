//! The stack and what belongs to it, behind a lock: who has read datagrams takes a turn. Reading and sending are most of a packet's
//! time; they happen outside of it, on as many threads as there are readers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use tercet_machine::{Clock, Machine, MonoTime, Now};
use tercet_nodedb::{NodeDb, Write};
use tokio::sync::Notify;

use super::hand::{Hand, Which};
use super::{MAX_READS, Published, RecordChange};
use crate::local::EntryError;
use crate::metrics::DiscoveryMetrics;
use crate::pool::{Entered, Lanes};
use crate::stack::{NodeStack, StackDone, StackJob, StackOutput};

/// With as many things left to the driver the other reader waits. What one turn leads to comes on top.
pub(super) const MAX_LEFT: usize = 256;

/// What the driver shares with the thread that reads beside it.
pub(crate) struct Shared {
    clock: Clock,
    turn: Mutex<Turn>,
    published: Published,
    /// For the driver: something was left to it, or it has to wake up earlier.
    pub(super) left: Notify,
    /// For the other: what was left has been taken.
    pub(super) taken: Notify,
}

/// See the module's documentation.
pub(super) struct Turn {
    pub(super) stack: NodeStack,
    pub(super) metrics: DiscoveryMetrics,
    db: NodeDb,
    /// When the driver wakes up by itself.
    pub(super) armed: Option<MonoTime>,
    /// Datagrams that wait for the work of an earlier one from the same source.
    lanes: Lanes<BytesMut>,
    /// Work that datagrams have made, left to the driver.
    jobs: Vec<StackJob>,
    /// What else the stack has put out, left to the driver.
    rest: Vec<StackOutput>,
    /// Datagrams that wait to be sent: the driver's, the other reader's.
    queued: [usize; 2],
}

impl Shared {
    pub(crate) fn new(
        clock: Clock,
        db: NodeDb,
        stack: NodeStack,
        lanes: Lanes<BytesMut>,
        published: Published,
    ) -> Self {
        let turn = Turn {
            stack,
            metrics: DiscoveryMetrics::default(),
            db,
            armed: None,
            lanes,
            jobs: Vec::new(),
            rest: Vec::new(),
            queued: [0; 2],
        };
        Self {
            clock,
            turn: Mutex::new(turn),
            published,
            left: Notify::new(),
            taken: Notify::new(),
        }
    }

    pub(super) const fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) const fn published(&self) -> &Published {
        &self.published
    }

    /// Whoever panics in his turn ends the service. Until then the other one may have a turn with what was left, bounded as ever.
    pub(super) fn lock(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads [`MAX_READS`] datagrams or some more and does what can be done at once with them. A turn for each read: between two the
    /// other one has his. Whether it has stopped at that, so that there may be more.
    pub(super) fn read(&self, hand: &mut Hand) -> bool {
        let mut left = MAX_READS;
        while left > 0
            && let Some(mut turn) = hand.fill(|| self.lock())
        {
            while let Some((from, datagram)) = hand.take() {
                if left == 0 {
                    // One read may bring some thousand, where the system has joined those of a sender. Nobody is to overtake them, and
                    // there is no room for all their answers.
                    hand.flush();
                    left = MAX_READS;
                }
                left -= 1;
                turn.receive(&self.clock, from, datagram, hand);
            }
        }
        left == 0
    }

    /// Publishes how things stand for who reads beside the driver; whether the driver is needed.
    pub(super) fn publish(&self, hand: &mut Hand) -> bool {
        let mut turn = self.lock();
        turn.publish(&self.published, hand);
        turn.wants_driver()
    }

    /// Until there is not too much left to the driver.
    pub(super) async fn room(&self) {
        while !self.lock().has_room() {
            self.taken.notified().await;
        }
    }
}

impl Turn {
    /// Takes in a datagram.
    fn receive(&mut self, clock: &Clock, from: SocketAddr, datagram: BytesMut, hand: &mut Hand) {
        if self.stack.admit(clock.now(), from, &datagram).is_err() {
            return;
        }
        match self.lanes.enter(from, datagram) {
            Entered::Now(datagram) => {
                if let Some(job) = self.open(clock, from, datagram, hand) {
                    self.lanes.occupy(from);
                    self.jobs.push(job);
                }
            }
            Entered::Waits => {}
            Entered::Full => self.metrics.lane_full += 1,
        }
    }

    /// The work a datagram makes.
    fn open(
        &mut self,
        clock: &Clock,
        from: SocketAddr,
        datagram: BytesMut,
        hand: &mut Hand,
    ) -> Option<StackJob> {
        self.stack.open(clock.now(), from, datagram);
        self.drain(hand);
        self.stack.poll_job()
    }

    /// Takes what a job came to, and says what is to be done next for its sender.
    pub(super) fn complete(
        &mut self,
        clock: &Clock,
        done: StackDone,
        hand: &mut Hand,
    ) -> Option<StackJob> {
        let from = done.from();
        self.stack.complete(clock.now(), done);
        self.drain(hand);
        let more = self.stack.poll_job();
        more.or_else(|| self.next_of(clock, from, hand))
    }

    /// A job of this sender's was dropped: the next of his.
    pub(super) fn next_of(
        &mut self,
        clock: &Clock,
        from: SocketAddr,
        hand: &mut Hand,
    ) -> Option<StackJob> {
        while let Some(datagram) = self.lanes.next(from) {
            if let Some(job) = self.open(clock, from, datagram, hand) {
                return Some(job);
            }
        }
        None
    }

    /// Queues what the stack wants sent, and hands the database what it is to write: the number of a new record has to be there before
    /// the record is sent. What else it puts out is left to the driver.
    pub(super) fn drain(&mut self, hand: &mut Hand) {
        while let Some(output) = self.stack.poll() {
            match output {
                StackOutput::Datagram { to, datagram } => hand.send(to, datagram),
                StackOutput::Write(write) => self.write(write),
                other => self.rest.push(other),
            }
        }
    }

    pub(super) fn write(&mut self, write: Write) {
        if let Err(error) = self.db.write(write) {
            self.metrics.database_busy += 1;
            tracing::debug!(%error, "not written to the node database");
        }
    }

    /// What was left to the driver, but for work.
    pub(super) fn take_rest(&mut self) -> Vec<StackOutput> {
        std::mem::take(&mut self.rest)
    }

    /// The work that was left to it.
    pub(super) fn take_jobs(&mut self) -> Vec<StackJob> {
        std::mem::take(&mut self.jobs)
    }

    /// Changes this node's record; whether it is another one now.
    pub(super) fn change(&mut self, now: Now, change: RecordChange) -> Result<bool, EntryError> {
        let stack = &mut self.stack;
        match change {
            RecordChange::Set { key, rlp } => stack.set_entry(now, key, rlp),
            RecordChange::Remove { key } => stack.remove_entry(now, &key),
            RecordChange::TcpPort(port) => stack.set_tcp_port(now, port),
            RecordChange::Advertised(address) => stack.set_advertised(now, address),
            RecordChange::Advertised6(address) => stack.set_advertised6(now, address),
        }
    }

    /// Whether there is something the driver does not know of.
    fn wants_driver(&self) -> bool {
        let earlier = match (self.stack.deadline(), self.armed) {
            (Some(deadline), Some(armed)) => deadline < armed,
            (deadline, None) => deadline.is_some(),
            (None, _) => false,
        };
        earlier || self.left() > 0
    }

    fn has_room(&self) -> bool {
        self.left() < MAX_LEFT
    }

    fn left(&self) -> usize {
        self.jobs.len() + self.rest.len()
    }

    /// Publishes how things stand, with what was counted at the hand's sockets since the last time.
    pub(super) fn publish(&mut self, published: &Published, hand: &mut Hand) {
        let earlier = Arc::clone(&published.table.borrow());
        let table = self.stack.table();
        if earlier.version != table.version() {
            let copy = Arc::new(table.snapshot_after(&earlier));
            published.table.send_replace(copy);
        }
        let [driver, beside] = &mut self.queued;
        *match hand.which() {
            Which::Driver => driver,
            Which::Beside => beside,
        } = hand.queued();
        let metrics = &mut self.metrics;
        metrics.add_sockets(&hand.take_counted());
        metrics.core = self.stack.core().counters();
        metrics.stack = self.stack.counters();
        metrics.sessions = self.stack.session_counters();
        metrics.sessions_held = self.stack.sessions().len();
        metrics.out_queued = self.queued.iter().sum();
        metrics.lanes_waiting = self.lanes.waiting();
        published.metrics.send_replace(*metrics);
    }
}

#[cfg(test)]
mod tests;
