//! The task that owns the socket, the codec and the machine: drain the machine, arm one sleep at its deadline, wait for
//! whatever comes first. Everything that blocks or is shared (the database, callers, readers) is behind a channel.
#![allow(clippy::disallowed_methods)] // a driver: spawns the blocking read of the seeds and keeps its handle

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tercet_enode::NodeRecord;
use tercet_machine::{Clock, Machine, MachineRng};
use tercet_nodedb::{NodeDb, Seed, SeedQuery, StoreError, Write};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::core::{
    Command, CoreInput, CoreOutput, DiscoveryCore, MAX_OPS, OpId, Reply, RequestError,
};
use crate::engine::Protocol;
use crate::kad::TableSnapshot;
use crate::local::{EntryError, LocalNode};
use crate::metrics::DiscoveryMetrics;
use crate::mux::Demux;
use crate::pool::{Entered, INLINE, Job, Lanes, Pool};
use crate::socket::Sockets;
use crate::v4::MessageKind;
use crate::v4::codec::{self, DecodeError, Packet, UnverifiedPacket};

/// Datagrams read in one turn, so that timers and callers get theirs.
const MAX_READS: usize = 64;

/// What a handle asks for.
#[derive(Debug)]
pub(crate) enum Request {
    Run {
        command: Command,
        reply: oneshot::Sender<Result<Reply, RequestError>>,
    },
    SetEntry {
        key: Vec<u8>,
        rlp: Bytes,
        reply: oneshot::Sender<Result<(), EntryError>>,
    },
    SetTcpPort {
        port: u16,
        reply: oneshot::Sender<Result<(), EntryError>>,
    },
}

/// What a check came to.
type Checked = Result<Packet, DecodeError>;

impl Job for UnverifiedPacket {
    type Done = Checked;

    fn run(self) -> Checked {
        self.verify()
    }
}

/// What everybody may read at any time.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) record: watch::Sender<NodeRecord>,
    pub(crate) table: watch::Sender<Arc<TableSnapshot>>,
    pub(crate) metrics: watch::Sender<DiscoveryMetrics>,
}

pub(crate) struct Driver {
    pub(crate) sockets: Sockets,
    pub(crate) demux: Demux,
    pub(crate) pool: Pool<UnverifiedPacket>,
    /// Datagrams that wait for the check of an earlier one from the same source.
    pub(crate) lanes: Lanes<BytesMut>,
    pub(crate) core: DiscoveryCore,
    pub(crate) local: LocalNode,
    pub(crate) db: NodeDb,
    pub(crate) clock: Clock,
    pub(crate) rng: MachineRng,
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
    seeds: Option<JoinHandle<Result<Vec<Seed>, StoreError>>>,
    expiring: bool,
}

/// What a turn of the loop woke up for. One at a time, on the stack: its size costs nothing.
#[allow(clippy::large_enum_variant)]
enum Event {
    Cancelled,
    Readable(io::Result<()>),
    Checked(SocketAddr, Checked),
    Writable(io::Result<()>),
    Request(Option<Request>),
    Seeds(Vec<Seed>),
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
            let deadline = self.core.deadline().map(|at| self.clock.instant(at).into());
            let event = tokio::select! {
                biased;
                () = self.cancel.cancelled() => Event::Cancelled,
                () = sleep_until(deadline) => Event::Deadline,
                request = self.requests.recv() => Event::Request(request),
                seeds = loaded(&mut state.seeds) => Event::Seeds(seeds),
                ready = self.sockets.writable(), if self.sockets.queued() > 0 => Event::Writable(ready),
                (from, checked) = self.pool.done() => Event::Checked(from, checked),
                ready = self.sockets.readable() => Event::Readable(ready),
            };
            match event {
                Event::Cancelled | Event::Request(None) => break,
                Event::Deadline => self.core.handle_timeout(self.clock.now()),
                Event::Request(Some(request)) => self.on_request(&mut state, request),
                Event::Seeds(seeds) => {
                    state.seeds = None;
                    self.core.handle(self.clock.now(), CoreInput::Seeds(seeds));
                }
                Event::Writable(ready) => match ready {
                    Ok(()) => {} // every turn begins with it
                    Err(error) => on_socket_error(&mut state, &error),
                },
                Event::Checked(from, checked) => {
                    let mut done = Some((from, checked));
                    while let Some((from, checked)) = done {
                        if let Some(packet) = self.complete(&mut state, from, checked) {
                            self.hand_out(&mut state, from, packet);
                        }
                        done = self.pool.try_done();
                    }
                }
                Event::Readable(ready) => match ready {
                    Ok(()) => self.receive(&mut state),
                    Err(error) => on_socket_error(&mut state, &error),
                },
            }
        }
        self.core.handle(self.clock.now(), CoreInput::Close);
        self.drain(&mut state);
        self.sockets.flush(&mut state.metrics);
        self.publish(&mut state);
    }

    /// Takes what has arrived, from the cheapest check to the dearest. A few signatures are checked at once; a burst of them
    /// goes to the pool.
    fn receive(&mut self, state: &mut State) {
        let mut packets = Vec::new();
        for _ in 0..MAX_READS {
            let Some((from, datagram)) = self.sockets.try_receive(&mut state.metrics) else {
                break;
            };
            if self.core.admit(self.clock.now(), from.ip()).is_err() {
                continue;
            }
            if self.demux.protocol(&datagram) == Protocol::V5 {
                state.metrics.not_served += 1;
                continue;
            }
            match self.lanes.enter(from, datagram) {
                Entered::Now(datagram) => {
                    if let Some(packet) = self.open(state, from, &datagram) {
                        self.lanes.occupy(from);
                        packets.push((from, packet));
                    }
                }
                Entered::Waits => {}
                Entered::Full => state.metrics.lane_full += 1,
            }
        }
        let inline = packets.len() <= INLINE && self.pool.under_way() == 0;
        for (from, packet) in packets {
            let mut next = Some(packet);
            while let Some(packet) = next {
                if !inline {
                    self.hand_out(state, from, packet);
                    break;
                }
                next = self.complete(state, from, packet.run());
            }
        }
    }

    /// The packet in a datagram whose signature is worth a check.
    fn open(
        &mut self,
        state: &mut State,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Option<UnverifiedPacket> {
        match UnverifiedPacket::parse(datagram) {
            Ok(packet) => self
                .core
                .screen(self.clock.now(), from.ip(), &packet)
                .is_ok()
                .then_some(packet),
            Err(error) => {
                undecodable(state, from, &error);
                None
            }
        }
    }

    /// Takes a packet that has been checked, and says which of its sender's is to be checked next.
    fn complete(
        &mut self,
        state: &mut State,
        from: SocketAddr,
        checked: Checked,
    ) -> Option<UnverifiedPacket> {
        match checked {
            Ok(packet) => {
                let input = CoreInput::V4Packet {
                    from,
                    key: packet.key,
                    hash: packet.hash,
                    message: packet.message,
                };
                self.core.handle(self.clock.now(), input);
                self.drain(state);
            }
            Err(error) => undecodable(state, from, &error),
        }
        self.next_of(state, from)
    }

    fn next_of(&mut self, state: &mut State, from: SocketAddr) -> Option<UnverifiedPacket> {
        while let Some(datagram) = self.lanes.next(from) {
            if let Some(packet) = self.open(state, from, &datagram) {
                return Some(packet);
            }
        }
        None
    }

    /// Gives a packet to the pool. If that is full, it is dropped, and those of its sender that wait are offered in its place.
    fn hand_out(&mut self, state: &mut State, from: SocketAddr, packet: UnverifiedPacket) {
        let mut next = Some(packet);
        while let Some(packet) = next {
            let asked = packet.answers().is_some() || packet.kind() == MessageKind::Neighbors;
            if self.pool.submit(from, packet, asked) {
                return;
            }
            state.metrics.pool_full += 1;
            next = self.next_of(state, from);
        }
    }

    fn drain(&mut self, state: &mut State) {
        while let Some(output) = self.core.poll() {
            match output {
                CoreOutput::V4Send { to, message, token } => {
                    let (datagram, hash) = codec::encode(self.local.key(), &message);
                    if let Some(token) = token {
                        self.core
                            .handle(self.clock.now(), CoreInput::V4Sent { token, hash });
                    }
                    self.sockets.send(to, datagram, &mut state.metrics);
                }
                // discv4 alone is switched on, and nothing heeds votes yet.
                CoreOutput::V5Send { .. }
                | CoreOutput::TalkRequest { .. }
                | CoreOutput::Vote { .. }
                | CoreOutput::Unsolicited { .. }
                | CoreOutput::Expired => {}
                CoreOutput::Write(write) => self.write(state, write),
                CoreOutput::LoadSeeds { count, max_age } => {
                    let mut exclude: Vec<_> = self
                        .core
                        .snapshot()
                        .entries()
                        .map(|entry| entry.node.id())
                        .collect();
                    exclude.push(self.local.record().id());
                    let query = SeedQuery {
                        count,
                        max_age,
                        now: self.clock.now().unix,
                        exclude,
                    };
                    let (db, mut rng) = (self.db.clone(), self.rng.child("seeds"));
                    state.seeds = Some(tokio::task::spawn_blocking(move || {
                        db.seeds(&query, &mut rng)
                    }));
                }
                CoreOutput::Done { op, result } => {
                    if let Some(reply) = state.ops.remove(&op) {
                        // A caller that has gone away does not want it any more.
                        drop(reply.send(result));
                    }
                }
            }
        }
    }

    fn write(&self, state: &mut State, write: Write) {
        if let Err(error) = self.db.write(write) {
            state.metrics.database_busy += 1;
            tracing::debug!(%error, "not written to the node database");
        }
    }

    fn on_request(&mut self, state: &mut State, request: Request) {
        match request {
            Request::Run { command, reply } => {
                if state.ops.len() >= MAX_OPS {
                    drop(reply.send(Err(RequestError::Busy)));
                    return;
                }
                let op = OpId(state.next_op);
                state.next_op += 1;
                state.ops.insert(op, reply);
                self.core
                    .handle(self.clock.now(), CoreInput::Command { op, command });
            }
            Request::SetEntry { key, rlp, reply } => {
                let changed = self.local.set_entry(key, rlp);
                drop(reply.send(self.on_record_change(state, changed)));
            }
            Request::SetTcpPort { port, reply } => {
                let changed = self.local.set_tcp_port(port);
                drop(reply.send(self.on_record_change(state, changed)));
            }
        }
    }

    fn on_record_change(
        &mut self,
        state: &mut State,
        changed: Result<bool, EntryError>,
    ) -> Result<(), EntryError> {
        if changed? {
            let record = self.local.record().clone();
            self.write(
                state,
                Write::LocalSeq {
                    id: record.id(),
                    seq: record.seq(),
                },
            );
            self.core
                .handle(self.clock.now(), CoreInput::LocalRecord(record.clone()));
            self.published.record.send_replace(record);
        }
        Ok(())
    }

    fn publish(&mut self, state: &mut State) {
        let version = self.core.table().version();
        if self.published.table.borrow().version != version {
            self.published
                .table
                .send_replace(Arc::new(self.core.snapshot()));
        }
        state.metrics.core = self.core.counters();
        state.metrics.out_queued = self.sockets.queued();
        state.metrics.checks_under_way = self.pool.under_way();
        state.metrics.lanes_waiting = self.lanes.waiting();
        self.published.metrics.send_replace(state.metrics);
        if !state.expiring && self.core.has_joined() {
            state.expiring = true;
            self.db.start_expiry();
        }
    }
}

fn undecodable(state: &mut State, from: SocketAddr, error: &DecodeError) {
    state.metrics.undecodable += 1;
    tracing::trace!(%from, %error, "datagram dropped");
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

/// The seeds once they have been read. A database that cannot be read gives none: the node still has its boot nodes.
async fn loaded(seeds: &mut Option<JoinHandle<Result<Vec<Seed>, StoreError>>>) -> Vec<Seed> {
    let Some(task) = seeds else {
        return std::future::pending().await;
    };
    match task.await {
        Ok(Ok(seeds)) => seeds,
        Ok(Err(error)) => {
            tracing::warn!(%error, "no seeds from the node database");
            Vec::new()
        }
        Err(error) => {
            tracing::warn!(%error, "the read of the seeds was cut off");
            Vec::new()
        }
    }
}
