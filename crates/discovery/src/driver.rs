//! The task that drives the stack: drain it, arm one sleep at its deadline, wait for whatever comes first. Everything that blocks
//! or is shared (signatures, the database, talk handlers, callers, readers) is behind a channel. The task reads and sends itself; a second
//! reader may do the same beside it, and leaves to it whatever is not a datagram to be sent.
#![allow(clippy::disallowed_methods)] // a driver: reads the clock and sleeps

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tercet_enode::NodeRecord;
use tercet_machine::{Machine, MonoTime};
use tercet_nodedb::{NodeDb, SeedQuery};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

mod background;
mod beside;
mod hand;
mod request;
mod turn;

pub(crate) use self::background::Background;
pub(crate) use self::beside::Beside;
pub(crate) use self::hand::Hand;
pub(crate) use self::request::{RecordChange, Request, TalkHandler};
pub(crate) use self::turn::Shared;

use self::background::Finished;
use crate::core::{MAX_OPS, OpId, Reply, RequestError};
use crate::kad::TableSnapshot;
use crate::metrics::DiscoveryMetrics;
use crate::pool::{INLINE, Job, Pool};
use crate::stack::{StackDone, StackInput, StackJob, StackOutput};
use crate::v5::{TalkRegistry, TalkResponse};

/// Datagrams read in one turn, so that timers and callers get theirs.
const MAX_READS: usize = 64;

impl Job for StackJob {
    type Done = StackDone;

    fn run(self) -> StackDone {
        Self::run(self)
    }
}

/// Jobs whose results are taken in one turn, so that what they lead to is sent before there is more of it than may wait.
const MAX_DONE: usize = 64;

/// Whoever wakes up so much later than he meant to has not been running, or not enough: a tenth of the shortest time an answer is
/// waited for.
const LATE: Duration = Duration::from_millis(50);

/// Rounds of [`MAX_READS`] datagrams that are read then: 1,024, as many as there can be questions.
const MAX_LATE_ROUNDS: usize = 16;

/// What everybody may read at any time.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) record: watch::Sender<NodeRecord>,
    pub(crate) table: watch::Sender<Arc<TableSnapshot>>,
    pub(crate) metrics: watch::Sender<DiscoveryMetrics>,
}

pub(crate) struct Driver {
    pub(crate) hand: Hand,
    pub(crate) pool: Pool<StackJob>,
    pub(crate) shared: Arc<Shared>,
    /// Who reads beside the driver.
    pub(crate) beside: Option<Beside>,
    pub(crate) talks: TalkRegistry,
    pub(crate) background: Background,
    pub(crate) db: NodeDb,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) cancel: CancellationToken,
}

/// What the task keeps beside its parts.
#[derive(Default)]
struct State {
    ops: BTreeMap<OpId, oneshot::Sender<Result<Reply, RequestError>>>,
    next_op: u64,
    expiring: bool,
}

/// What a turn of the loop woke up for. One at a time, on the stack: its size costs nothing.
#[allow(clippy::large_enum_variant)]
enum Event {
    Cancelled,
    Readable(io::Result<()>),
    Done(StackDone),
    Sent,
    Left,
    Request(Option<Request>),
    Talk(TalkResponse),
    Finished(Finished),
    Deadline,
}

impl Driver {
    /// Runs until cancelled or until nobody holds a handle any more; then writes the live nodes to the database.
    pub(crate) async fn run(mut self) {
        let mut state = State::default();
        loop {
            self.settle(&mut state);
            self.hand.flush();
            let armed = self.publish(&mut state);
            let deadline = armed.map(|at| self.shared.clock().instant(at).into());
            let event = tokio::select! {
                biased;
                () = self.cancel.cancelled() => Event::Cancelled,
                () = sleep_until(deadline) => Event::Deadline,
                request = self.requests.recv() => Event::Request(request),
                finished = self.background.finished() => Event::Finished(finished),
                () = self.hand.sent() => Event::Sent,
                (_, done) = self.pool.done() => Event::Done(done),
                response = self.talks.next_response() => Event::Talk(response),
                () = self.shared.left.notified() => Event::Left,
                ready = self.hand.readable() => Event::Readable(ready),
            };
            match event {
                Event::Cancelled | Event::Request(None) => break,
                Event::Deadline => {
                    let now = self.shared.clock().now().mono;
                    let late = armed.map_or(Duration::ZERO, |armed| now - armed);
                    self.on_deadline(&mut state, late);
                }
                Event::Request(Some(request)) => self.on_request(&mut state, request),
                Event::Finished(finished) => self.on_finished(finished),
                Event::Sent => {} // every turn begins with counting it
                Event::Done(done) => {
                    let (mut next, mut left) = (Some(done), MAX_DONE);
                    while let Some(one) = next {
                        if let Some(job) = self.complete(one) {
                            self.hand_out(job);
                        }
                        left -= 1;
                        next = match left {
                            0 => None,
                            _ => self.pool.try_done().map(|(_, done)| done),
                        };
                    }
                }
                Event::Talk(response) => self.respond(response),
                Event::Left => self.work(),
                Event::Readable(ready) => match ready {
                    Ok(()) => {
                        let _ = self.shared.read(&mut self.hand);
                        self.work();
                    }
                    Err(error) => self.hand.failed(&error),
                },
            }
        }
        self.beside = None;
        self.input(StackInput::Close);
        self.settle(&mut state);
        self.hand.close();
        self.publish(&mut state);
    }

    /// Does what is due.
    fn on_deadline(&mut self, state: &mut State, late: Duration) {
        if late >= LATE {
            self.catch_up(state);
        }
        let mut turn = self.shared.lock();
        let now = self.shared.clock().now();
        turn.stack.handle_timeout(now);
    }

    /// Takes in what has arrived, before anything is given up: this process or its machine has stood still, and answers wait behind the
    /// timeouts of their questions. Signatures are checked here, as what comes from the pool comes after those.
    fn catch_up(&mut self, state: &mut State) {
        while let Some((_, done)) = self.pool.try_done() {
            if let Some(job) = self.complete(done) {
                self.hand_out(job);
            }
        }
        for _ in 0..MAX_LATE_ROUNDS {
            let more = self.shared.read(&mut self.hand);
            let jobs = self.shared.lock().take_jobs();
            for job in jobs {
                let mut next = Some(job);
                while let Some(job) = next {
                    next = self.complete(job.run());
                }
            }
            self.settle(state);
            self.hand.flush();
            if !more {
                return;
            }
        }
    }

    /// Begins the work that datagrams have made. A little curve work is done at once; a burst of it goes to the pool.
    fn work(&mut self) {
        let jobs = self.shared.lock().take_jobs();
        if jobs.is_empty() {
            return;
        }
        self.shared.taken.notify_one();
        let inline = jobs.len() <= INLINE && self.pool.under_way() == 0;
        for job in jobs {
            let mut next = Some(job);
            while let Some(job) = next {
                if !inline {
                    self.hand_out(job);
                    break;
                }
                next = self.complete(job.run());
            }
        }
    }

    /// Takes what a job came to, and says what is to be done next for its sender.
    fn complete(&mut self, done: StackDone) -> Option<StackJob> {
        let clock = self.shared.clock();
        self.shared.lock().complete(clock, done, &mut self.hand)
    }

    /// Gives a job to the pool. If that is full, it is dropped, and what waits of its sender's is offered in its place.
    fn hand_out(&mut self, job: StackJob) {
        let mut next = Some(job);
        while let Some(job) = next {
            let (from, asked) = (job.from(), job.is_asked());
            if job.is_last() && !self.pool.has_room(asked) {
                next = self.complete(job.run());
                continue;
            }
            if self.pool.submit(from, job, asked) {
                return;
            }
            let mut turn = self.shared.lock();
            turn.metrics.pool_full += 1;
            next = turn.next_of(self.shared.clock(), from, &mut self.hand);
        }
    }

    /// Does what the stack has left to the driver.
    fn settle(&mut self, state: &mut State) {
        loop {
            let rest = {
                let mut turn = self.shared.lock();
                turn.drain(&mut self.hand);
                turn.take_rest()
            };
            if rest.is_empty() {
                return;
            }
            self.shared.taken.notify_one();
            for output in rest {
                self.act(state, output);
            }
        }
    }

    fn act(&mut self, state: &mut State, output: StackOutput) {
        match output {
            StackOutput::Datagram { to, datagram } => self.hand.send(to, datagram),
            StackOutput::Write(write) => self.shared.lock().write(write),
            StackOutput::LoadSeeds { count, max_age } => {
                let turn = self.shared.lock();
                let mut exclude: Vec<_> = turn
                    .stack
                    .snapshot()
                    .entries()
                    .map(|entry| entry.node.id())
                    .collect();
                exclude.push(turn.stack.record().id());
                drop(turn);
                let query = SeedQuery {
                    count,
                    max_age,
                    now: self.shared.clock().now().unix,
                    exclude,
                };
                self.background.load_seeds(&self.db, query);
            }
            StackOutput::Done { op, result } => {
                if let Some(reply) = state.ops.remove(&op) {
                    // A caller that has gone away does not want it any more.
                    drop(reply.send(result));
                }
            }
            StackOutput::Record(record) => {
                drop(self.shared.published().record.send_replace(record));
            }
            StackOutput::TalkRequest(message) => {
                if let Some(response) = self.talks.dispatch(message) {
                    self.respond(response);
                }
            }
            StackOutput::SuspectClock => self
                .background
                .suspect_clock(self.shared.clock().now().mono),
        }
    }

    fn respond(&mut self, response: TalkResponse) {
        self.input(StackInput::TalkResponse(response));
    }

    /// The time is that of the turn: another reader may have had his since an earlier one, and time goes on only.
    fn input(&self, input: StackInput) {
        let mut turn = self.shared.lock();
        let now = self.shared.clock().now();
        turn.stack.handle(now, input);
    }

    fn on_finished(&mut self, finished: Finished) {
        match finished {
            Finished::Seeds(seeds) => self.input(StackInput::Seeds(seeds)),
            Finished::Clock(drift) => {
                let mut turn = self.shared.lock();
                turn.metrics.clock_checks += 1;
                if let Some(drift) = drift {
                    turn.metrics.clock_drift_millis = Some(drift.millis);
                }
            }
        }
    }

    fn on_request(&mut self, state: &mut State, request: Request) {
        // A reply that cannot be sent is one nobody waits for any more.
        match request {
            Request::Run { command, reply } => {
                if state.ops.len() >= MAX_OPS {
                    let _gone = reply.send(Err(RequestError::Busy));
                    return;
                }
                let op = OpId(state.next_op);
                state.next_op += 1;
                state.ops.insert(op, reply);
                self.input(StackInput::Command { op, command });
            }
            Request::Change { change, reply } => {
                let changed = {
                    let mut turn = self.shared.lock();
                    let now = self.shared.clock().now();
                    turn.change(now, change)
                };
                // What is published is seen by whoever has its reply.
                self.settle(state);
                let _gone = reply.send(changed);
            }
            Request::Register {
                protocol,
                handler,
                reply,
            } => {
                let registered = self.talks.register(protocol, handler.0);
                let _gone = reply.send(registered.map_err(Into::into));
            }
            Request::Unregister { protocol, reply } => {
                let _gone = reply.send(self.talks.unregister(&protocol));
            }
        }
    }

    /// Publishes how things stand; when to wake up.
    fn publish(&mut self, state: &mut State) -> Option<MonoTime> {
        let mut turn = self.shared.lock();
        turn.metrics.talk = self.talks.counters();
        turn.metrics.checks_under_way = self.pool.under_way();
        turn.publish(self.shared.published(), &mut self.hand);
        if !state.expiring && turn.stack.core().has_joined() {
            state.expiring = true;
            self.db.start_expiry();
        }
        turn.armed = turn.stack.deadline();
        turn.armed
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
