//! The task of one peer: it owns the connection, the peer's machine and the
//! runs of its protocols. Reading and writing happen in one future
//! ([`RlpxStream::event`]), so neither waits for the other, and no protocol is
//! ever awaited.
#![allow(clippy::disallowed_methods)] // a driver: it arms timers of a real clock

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tercet_machine::{Clock, Machine, MonoTime};
use tercet_rlpx::{
    DisconnectReason, FrameError, Interest, Payload, RlpxStream, SharedCapabilities, StreamError,
    StreamEvent, p2p,
};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Sleep, sleep_until};

use super::core::{Close, PeerCore, PeerInput, PeerOutput, PeerTimeouts};
use super::handle::Peer;
use super::io::{Delivery, Outgoing, ProtocolLink};
use crate::event::DropReason;
use crate::metrics::Counters;
use crate::peers::penalty::Rule;
use crate::protocol::{Protocol, ProtocolError};

/// How a peer's connection ended.
#[derive(Debug)]
pub(crate) struct PeerEnd {
    pub(crate) reason: DropReason,
    pub(crate) rule: Option<Rule>,
}

/// What a peer's task starts with.
pub(crate) struct PeerStart {
    pub(crate) stream: RlpxStream<TcpStream>,
    pub(crate) peer: Peer,
    pub(crate) shared: SharedCapabilities,
    /// The server's protocols; `shared` indexes into them.
    pub(crate) protocols: Arc<[Arc<dyn Protocol>]>,
    pub(crate) timeouts: PeerTimeouts,
    pub(crate) join: Duration,
    pub(crate) clock: Clock,
    pub(crate) counters: Arc<Counters>,
}

/// See the module.
pub(crate) struct PeerDriver {
    stream: RlpxStream<TcpStream>,
    core: PeerCore,
    peer: Peer,
    protocols: Protocols,
    /// A message whose protocol has no room; while it is here nothing is read.
    held: Option<Held>,
    /// Bytes in the stream's write buffer when the machine was last told.
    buffered: usize,
    join: Duration,
    clock: Clock,
    counters: Arc<Counters>,
}

struct Held {
    protocol: usize,
    id: u64,
    payload: Bytes,
}

/// One turn's event, bound plainly so that no `select!` branch can refuse it.
enum Turn {
    Stream(Result<StreamEvent, StreamError>),
    Send(usize, Outgoing),
    Ended(usize, Result<(), ProtocolError>),
    Disconnect(DisconnectReason),
    Freed,
    Timeout,
}

/// Runs a peer to its end.
pub(crate) async fn run_peer(start: PeerStart) -> PeerEnd {
    let mut driver = PeerDriver::new(start);
    let close = driver.serve().await;
    driver.finish(close).await
}

impl PeerDriver {
    fn new(start: PeerStart) -> Self {
        let mut stream = start.stream;
        let now = start.clock.now();
        let mut protocols = Protocols::new();
        for shared in start.shared.iter() {
            let Some(protocol) = start.protocols.get(shared.local_index) else {
                continue;
            };
            stream.limit_messages(shared.ids.clone(), protocol.max_message_len());
            protocols.start(protocol, shared.ids.clone(), &start.peer);
        }
        Self {
            buffered: stream.buffered(),
            stream,
            core: PeerCore::new(now, start.timeouts, start.shared),
            peer: start.peer,
            protocols,
            held: None,
            join: start.join,
            clock: start.clock,
            counters: start.counters,
        }
    }

    async fn serve(&mut self) -> Close {
        let mut sleep = std::pin::pin!(sleep_until(self.clock.instant(MonoTime::ZERO).into()));
        loop {
            if let Some(close) = self.perform() {
                return close;
            }
            self.arm(sleep.as_mut());
            match self.turn(sleep.as_mut()).await {
                Turn::Stream(Ok(StreamEvent::Message(message))) => {
                    Counters::add(&self.counters.messages_in, 1);
                    Counters::add(&self.counters.bytes_in, message.payload.len() as u64);
                    let (id, payload) = (message.id, message.payload);
                    self.input(PeerInput::Message { id, payload });
                }
                Turn::Stream(Ok(StreamEvent::Flushed)) => {}
                Turn::Stream(Err(error)) => self.input(failure(&error)),
                Turn::Send(protocol, outgoing) => self.send(protocol, &outgoing),
                Turn::Ended(protocol, result) => self.on_protocol_ended(protocol, result),
                Turn::Disconnect(reason) => self.input(PeerInput::Disconnect(reason)),
                Turn::Freed => self.retry(),
                Turn::Timeout => {
                    self.note_written();
                    self.core.handle_timeout(self.clock.now());
                }
            }
        }
    }

    async fn turn(&mut self, mut sleep: Pin<&mut Sleep>) -> Turn {
        let room = self.stream.has_room();
        let holds = self.held.is_some();
        let interest = if holds {
            Interest::Write
        } else {
            Interest::ReadWrite
        };
        let freed = Arc::clone(&self.protocols.freed);
        let (outboxes, runs) = (&mut self.protocols.outboxes, &mut self.protocols.runs);
        tokio::select! {
            event = self.stream.event(interest) => Turn::Stream(event),
            (protocol, outgoing) = outboxes.next(), if room => Turn::Send(protocol, outgoing),
            (protocol, result) = runs.next() => Turn::Ended(protocol, result),
            reason = self.peer.disconnect_wanted() => Turn::Disconnect(reason),
            () = freed.notified(), if holds => Turn::Freed,
            () = sleep.as_mut() => Turn::Timeout,
        }
    }

    /// Does what the machine wants; `Some` when that is to end.
    fn perform(&mut self) -> Option<Close> {
        self.note_written();
        while let Some(output) = self.core.poll() {
            match output {
                PeerOutput::Ping => self.queue(p2p::PING, &Payload::empty_list()),
                PeerOutput::Pong => self.queue(p2p::PONG, &Payload::empty_list()),
                PeerOutput::PingDropped => Counters::add(&self.counters.pings_dropped, 1),
                PeerOutput::Deliver {
                    protocol,
                    id,
                    payload,
                } => {
                    self.deliver(Held {
                        protocol,
                        id,
                        payload,
                    });
                }
                PeerOutput::Close(close) => return Some(close),
            }
        }
        None
    }

    fn deliver(&mut self, held: Held) {
        let Held {
            protocol,
            id,
            payload,
        } = held;
        // `Gone`: the run has ended, which the next turn reports.
        if let Delivery::Full(payload) = self.protocols.deliver(protocol, id, payload) {
            Counters::add(&self.counters.inbox_full, 1);
            self.held = Some(Held {
                protocol,
                id,
                payload,
            });
            self.input(PeerInput::InboxFull { protocol });
        }
    }

    fn retry(&mut self) {
        let Some(Held {
            protocol,
            id,
            payload,
        }) = self.held.take()
        else {
            return;
        };
        match self.protocols.deliver(protocol, id, payload) {
            Delivery::Full(payload) => {
                self.held = Some(Held {
                    protocol,
                    id,
                    payload,
                });
            }
            Delivery::Done | Delivery::Gone => self.input(PeerInput::InboxFree),
        }
    }

    fn send(&mut self, protocol: usize, outgoing: &Outgoing) {
        let Some(first) = self.protocols.first_id(protocol) else {
            return;
        };
        self.queue(first + outgoing.id, &outgoing.payload);
    }

    fn queue(&mut self, id: u64, payload: &Payload) {
        self.note_written();
        match self.stream.queue(id, payload) {
            Ok(()) => {
                Counters::add(&self.counters.messages_out, 1);
                Counters::add(&self.counters.bytes_out, payload.len() as u64);
                let bytes = self.stream.buffered().saturating_sub(self.buffered);
                self.buffered = self.stream.buffered();
                self.input(PeerInput::Queued(bytes));
            }
            Err(error) => {
                // Only a payload that grows past the frame limit when it is
                // compressed gets here: our protocol's fault, not the remote's.
                tracing::error!(peer = %self.peer.id(), id, %error, "cannot send message");
                self.input(PeerInput::Disconnect(DisconnectReason::SubprotocolError));
            }
        }
    }

    /// Tells the machine how much of the write buffer the socket has taken.
    fn note_written(&mut self) {
        let now = self.stream.buffered();
        if let Some(written) = self
            .buffered
            .checked_sub(now)
            .filter(|written| *written > 0)
        {
            self.input(PeerInput::Written(written));
        }
        self.buffered = now;
    }

    fn on_protocol_ended(&mut self, protocol: usize, result: Result<(), ProtocolError>) {
        if let Err(error) = &result {
            let cause = error.cause.as_deref().map(tracing::field::display);
            tracing::debug!(peer = %self.peer.id(), %error, cause, "protocol ended");
        }
        let result = result.map_err(|error| (error.reason, error.fault));
        self.input(PeerInput::ProtocolEnded { protocol, result });
    }

    fn input(&mut self, input: PeerInput) {
        self.core.handle(self.clock.now(), input);
    }

    /// Sets the sleep to the machine's deadline. Most turns do not move it.
    fn arm(&self, sleep: Pin<&mut Sleep>) {
        if let Some(deadline) = self.core.deadline() {
            let at = self.clock.instant(deadline).into();
            if sleep.deadline() != at {
                sleep.reset(at);
            }
        }
    }

    /// Ends the protocols and the connection. A reason is sent and flushed within
    /// rlpx's 2 s; the runs are joined at the same time, within the join limit.
    async fn finish(mut self, close: Close) -> PeerEnd {
        self.held = None;
        self.protocols.close();
        if let DropReason::Protocol { .. } = close.reason {
            // What a protocol sent before it ended may be why it ended: the
            // remote sees its last words first.
            while self.stream.has_room()
                && let Some((protocol, outgoing)) = self.protocols.outboxes.take()
            {
                self.send(protocol, &outgoing);
            }
        }
        let peer = self.peer.id();
        let stream = self.stream;
        let goodbye = async move {
            if let Some(reason) = close.tell
                && let Err(error) = stream.disconnect(reason).await
            {
                tracing::debug!(%peer, %error, "the remote could not be told {reason}");
            }
        };
        tokio::join!(goodbye, self.protocols.runs.join(self.join));
        PeerEnd {
            reason: close.reason,
            rule: close.rule,
        }
    }
}

/// The protocols of one connection, in the order of the shared capabilities.
struct Protocols {
    links: Vec<Link>,
    outboxes: Outboxes,
    runs: Runs,
    freed: Arc<Notify>,
}

struct Link {
    queues: ProtocolLink,
    first_id: u64,
}

impl Protocols {
    fn new() -> Self {
        let runs = Runs {
            set: JoinSet::new(),
            ids: Vec::new(),
        };
        let outboxes = Outboxes {
            queues: Vec::new(),
            turn: 0,
        };
        Self {
            links: Vec::new(),
            outboxes,
            runs,
            freed: Arc::new(Notify::new()),
        }
    }

    fn start(&mut self, protocol: &Arc<dyn Protocol>, ids: std::ops::Range<u64>, peer: &Peer) {
        let (queues, outbox, io) = ProtocolLink::open(ids.end - ids.start, &self.freed);
        let run = Arc::clone(protocol).run(peer.clone(), io);
        let id = self.runs.set.spawn(run).id();
        self.runs.ids.push(id);
        self.outboxes.queues.push(outbox);
        self.links.push(Link {
            queues,
            first_id: ids.start,
        });
    }

    fn deliver(&self, protocol: usize, id: u64, payload: Bytes) -> Delivery {
        match self.links.get(protocol) {
            Some(link) => link.queues.deliver(id, payload),
            None => Delivery::Gone,
        }
    }

    fn first_id(&self, protocol: usize) -> Option<u64> {
        self.links.get(protocol).map(|link| link.first_id)
    }

    fn close(&mut self) {
        self.links.iter_mut().for_each(|link| link.queues.close());
        self.outboxes
            .queues
            .iter_mut()
            .for_each(tokio::sync::mpsc::Receiver::close);
    }
}

/// The protocols' outboxes, emptied in turn so that a talkative protocol cannot
/// keep another from sending.
struct Outboxes {
    queues: Vec<tokio::sync::mpsc::Receiver<Outgoing>>,
    turn: usize,
}

impl Outboxes {
    /// The next message to send. Waits for ever when all protocols have ended.
    async fn next(&mut self) -> (usize, Outgoing) {
        poll_fn(|cx| {
            let count = self.queues.len();
            for offset in 0..count {
                let protocol = (self.turn + offset) % count;
                let Some(queue) = self.queues.get_mut(protocol) else {
                    continue;
                };
                if let Poll::Ready(Some(outgoing)) = queue.poll_recv(cx) {
                    self.turn = protocol + 1;
                    return Poll::Ready((protocol, outgoing));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// A message that is already there.
    fn take(&mut self) -> Option<(usize, Outgoing)> {
        let mut queues = self.queues.iter_mut().enumerate();
        queues.find_map(|(protocol, queue)| Some((protocol, queue.try_recv().ok()?)))
    }
}

/// The running protocols.
struct Runs {
    set: JoinSet<Result<(), ProtocolError>>,
    ids: Vec<Id>,
}

impl Runs {
    /// The next run to end. Waits for ever when all have.
    async fn next(&mut self) -> (usize, Result<(), ProtocolError>) {
        match self.set.join_next_with_id().await {
            Some(Ok((id, result))) => (self.index(id), result),
            Some(Err(error)) => (self.index(error.id()), Err(defect(&error))),
            None => std::future::pending().await,
        }
    }

    fn index(&self, id: Id) -> usize {
        self.ids
            .iter()
            .position(|known| *known == id)
            .unwrap_or(usize::MAX)
    }

    /// Waits for all runs to end; those that have not within the limit are dropped.
    async fn join(mut self, limit: Duration) {
        let all = async { while self.set.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!(
                left = self.set.len(),
                "protocol runs did not end and are dropped"
            );
            self.set.shutdown().await;
        }
    }
}

/// A run that panicked ends only its own peer.
fn defect(error: &JoinError) -> ProtocolError {
    tracing::error!(%error, "a protocol's run failed");
    ProtocolError::new(DisconnectReason::SubprotocolError)
}

/// What a failed stream means.
fn failure(error: &StreamError) -> PeerInput {
    match error {
        StreamError::Io(error) => PeerInput::Failed(error.kind()),
        StreamError::Frame(FrameError::Tag(_)) => PeerInput::Broken(Rule::InvalidFrame),
        StreamError::Frame(_) => PeerInput::Broken(Rule::InvalidMessage),
        _ => PeerInput::Closed,
    }
}
