//! The task that owns the sockets and the stack: drain the stack, arm one sleep at its deadline, wait for whatever comes first.
//! Everything that blocks or is shared (signatures, the database, talk handlers, callers, readers) is behind a channel.
#![allow(clippy::disallowed_methods)] // a driver: reads the clock and sleeps

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use tercet_enode::NodeRecord;
use tercet_machine::{Clock, Machine};
use tercet_nodedb::{NodeDb, SeedQuery, Write};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

mod background;
mod request;

pub(crate) use self::background::Background;
pub(crate) use self::request::{RecordChange, Request, TalkHandler};

use self::background::Finished;
use crate::core::{MAX_OPS, OpId, Reply, RequestError};
use crate::kad::TableSnapshot;
use crate::metrics::DiscoveryMetrics;
use crate::pool::{Entered, INLINE, Job, Lanes, Pool};
use crate::socket::Sockets;
use crate::stack::{NodeStack, StackDone, StackInput, StackJob, StackOutput};
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

/// What everybody may read at any time.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) record: watch::Sender<NodeRecord>,
    pub(crate) table: watch::Sender<Arc<TableSnapshot>>,
    pub(crate) metrics: watch::Sender<DiscoveryMetrics>,
}

pub(crate) struct Driver {
    pub(crate) sockets: Sockets,
    pub(crate) pool: Pool<StackJob>,
    /// Datagrams that wait for the work of an earlier one from the same source.
    pub(crate) lanes: Lanes<BytesMut>,
    pub(crate) stack: NodeStack,
    pub(crate) talks: TalkRegistry,
    pub(crate) background: Background,
    pub(crate) db: NodeDb,
    pub(crate) clock: Clock,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) published: Published,
    pub(crate) cancel: CancellationToken,
}

/// What the task keeps beside its parts.
#[derive(Default)]
struct State {
    ops: BTreeMap<OpId, oneshot::Sender<Result<Reply, RequestError>>>,
    next_op: u64,
    metrics: DiscoveryMetrics,
    expiring: bool,
}

/// What a turn of the loop woke up for. One at a time, on the stack: its size costs nothing.
#[allow(clippy::large_enum_variant)]
enum Event {
    Cancelled,
    Readable(io::Result<()>),
    Done(StackDone),
    Sent,
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
            self.drain(&mut state);
            self.sockets.flush(&mut state.metrics);
            self.publish(&mut state);
            let deadline = self
                .stack
                .deadline()
                .map(|at| self.clock.instant(at).into());
            let event = tokio::select! {
                biased;
                () = self.cancel.cancelled() => Event::Cancelled,
                () = sleep_until(deadline) => Event::Deadline,
                request = self.requests.recv() => Event::Request(request),
                finished = self.background.finished() => Event::Finished(finished),
                () = self.sockets.sent() => Event::Sent,
                (_, done) = self.pool.done() => Event::Done(done),
                response = self.talks.next_response() => Event::Talk(response),
                ready = self.sockets.readable() => Event::Readable(ready),
            };
            match event {
                Event::Cancelled | Event::Request(None) => break,
                Event::Deadline => self.stack.handle_timeout(self.clock.now()),
                Event::Request(Some(request)) => self.on_request(&mut state, request),
                Event::Finished(finished) => self.on_finished(&mut state, finished),
                Event::Sent => {} // every turn begins with counting it
                Event::Done(done) => {
                    let (mut next, mut left) = (Some(done), MAX_DONE);
                    while let Some(one) = next {
                        if let Some(job) = self.complete(&mut state, one) {
                            self.hand_out(&mut state, job);
                        }
                        left -= 1;
                        next = match left {
                            0 => None,
                            _ => self.pool.try_done().map(|(_, done)| done),
                        };
                    }
                }
                Event::Talk(response) => self.respond(response),
                Event::Readable(ready) => match ready {
                    Ok(()) => self.receive(&mut state),
                    Err(error) => on_socket_error(&mut state, &error),
                },
            }
        }
        self.stack.handle(self.clock.now(), StackInput::Close);
        self.drain(&mut state);
        self.sockets.close(&mut state.metrics);
        self.publish(&mut state);
    }

    /// Takes what has arrived. A little curve work is done at once; a burst of it goes to the pool.
    fn receive(&mut self, state: &mut State) {
        let mut jobs = Vec::new();
        for _ in 0..MAX_READS {
            let Some((from, datagram)) = self.sockets.try_receive(&mut state.metrics) else {
                break;
            };
            let admitted = self.stack.admit(self.clock.now(), from, &datagram);
            if admitted.is_err() {
                continue;
            }
            match self.lanes.enter(from, datagram) {
                Entered::Now(datagram) => {
                    if let Some(job) = self.open(state, from, datagram) {
                        self.lanes.occupy(from);
                        jobs.push(job);
                    }
                }
                Entered::Waits => {}
                Entered::Full => state.metrics.lane_full += 1,
            }
        }
        let inline = jobs.len() <= INLINE && self.pool.under_way() == 0;
        for job in jobs {
            let mut next = Some(job);
            while let Some(job) = next {
                if !inline {
                    self.hand_out(state, job);
                    break;
                }
                next = self.complete(state, job.run());
            }
        }
    }

    /// The work a datagram makes.
    fn open(
        &mut self,
        state: &mut State,
        from: SocketAddr,
        datagram: BytesMut,
    ) -> Option<StackJob> {
        self.stack.open(self.clock.now(), from, datagram);
        self.drain(state);
        self.stack.poll_job()
    }

    /// Takes what a job came to, and says what is to be done next for its sender.
    fn complete(&mut self, state: &mut State, done: StackDone) -> Option<StackJob> {
        let from = done.from();
        self.stack.complete(self.clock.now(), done);
        self.drain(state);
        let more = self.stack.poll_job();
        more.or_else(|| self.next_of(state, from))
    }

    fn next_of(&mut self, state: &mut State, from: SocketAddr) -> Option<StackJob> {
        while let Some(datagram) = self.lanes.next(from) {
            if let Some(job) = self.open(state, from, datagram) {
                return Some(job);
            }
        }
        None
    }

    /// Gives a job to the pool. If that is full, it is dropped, and what waits of its sender's is offered in its place.
    fn hand_out(&mut self, state: &mut State, job: StackJob) {
        let mut next = Some(job);
        while let Some(job) = next {
            let (from, asked) = (job.from(), job.is_asked());
            if job.is_last() && !self.pool.has_room(asked) {
                next = self.complete(state, job.run());
                continue;
            }
            if self.pool.submit(from, job, asked) {
                return;
            }
            state.metrics.pool_full += 1;
            next = self.next_of(state, from);
        }
    }

    fn drain(&mut self, state: &mut State) {
        while let Some(output) = self.stack.poll() {
            match output {
                StackOutput::Datagram { to, datagram } => {
                    self.sockets.send(to, datagram, &mut state.metrics);
                }
                StackOutput::Write(write) => self.write(state, write),
                StackOutput::LoadSeeds { count, max_age } => {
                    let mut exclude: Vec<_> = self
                        .stack
                        .snapshot()
                        .entries()
                        .map(|entry| entry.node.id())
                        .collect();
                    exclude.push(self.stack.record().id());
                    let query = SeedQuery {
                        count,
                        max_age,
                        now: self.clock.now().unix,
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
                StackOutput::Record(record) => drop(self.published.record.send_replace(record)),
                StackOutput::TalkRequest(message) => {
                    if let Some(response) = self.talks.dispatch(message) {
                        self.respond(response);
                    }
                }
                StackOutput::SuspectClock => self.background.suspect_clock(self.clock.now().mono),
            }
        }
    }

    fn respond(&mut self, response: TalkResponse) {
        let input = StackInput::TalkResponse(response);
        self.stack.handle(self.clock.now(), input);
    }

    fn write(&self, state: &mut State, write: Write) {
        if let Err(error) = self.db.write(write) {
            state.metrics.database_busy += 1;
            tracing::debug!(%error, "not written to the node database");
        }
    }

    fn on_finished(&mut self, state: &mut State, finished: Finished) {
        match finished {
            Finished::Seeds(seeds) => {
                self.stack
                    .handle(self.clock.now(), StackInput::Seeds(seeds));
            }
            Finished::Clock(drift) => {
                state.metrics.clock_checks += 1;
                if let Some(drift) = drift {
                    state.metrics.clock_drift_millis = Some(drift.millis);
                }
            }
        }
    }

    fn on_request(&mut self, state: &mut State, request: Request) {
        let now = self.clock.now();
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
                self.stack.handle(now, StackInput::Command { op, command });
            }
            Request::Change { change, reply } => {
                let changed = match change {
                    RecordChange::Set { key, rlp } => self.stack.set_entry(now, key, rlp),
                    RecordChange::Remove { key } => self.stack.remove_entry(now, &key),
                    RecordChange::TcpPort(port) => self.stack.set_tcp_port(now, port),
                    RecordChange::Advertised(address) => self.stack.set_advertised(now, address),
                    RecordChange::Advertised6(address) => self.stack.set_advertised6(now, address),
                };
                // What is published is seen by whoever has its reply.
                self.drain(state);
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

    fn publish(&mut self, state: &mut State) {
        let earlier = Arc::clone(&self.published.table.borrow());
        let table = self.stack.table();
        if earlier.version != table.version() {
            let copy = Arc::new(table.snapshot_after(&earlier));
            self.published.table.send_replace(copy);
        }
        let metrics = &mut state.metrics;
        metrics.core = self.stack.core().counters();
        metrics.stack = self.stack.counters();
        metrics.sessions = self.stack.session_counters();
        metrics.sessions_held = self.stack.sessions().len();
        metrics.talk = self.talks.counters();
        metrics.out_queued = self.sockets.queued();
        metrics.checks_under_way = self.pool.under_way();
        metrics.lanes_waiting = self.lanes.waiting();
        self.published.metrics.send_replace(*metrics);
        if !state.expiring && self.stack.core().has_joined() {
            state.expiring = true;
            self.db.start_expiry();
        }
    }
}

fn on_socket_error(state: &mut State, error: &io::Error) {
    state.metrics.socket_errors += 1;
    tracing::debug!(%error, "the UDP socket failed once");
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
