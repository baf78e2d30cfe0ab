//! The machine of one connection after Hello: the ping loop, the read loop and
//! the limits on both ends' patience. It sees every message but does no I/O;
//! the task in `driver.rs` owns the socket and the protocols' queues.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tercet_machine::{Machine, MonoTime, Now};
use tercet_rlpx::{Capability, DisconnectReason, SharedCapabilities};

use super::ping_loop::PingLoop;
use super::read_loop::{Overdue, ReadLoop, Route};
use super::write_watch::WriteWatch;
use crate::event::DropReason;
use crate::peers::penalty::{Rule, Score};

/// How patient a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerTimeouts {
    /// Between two pings.
    pub ping: Duration,
    /// Without any message.
    pub idle: Duration,
    /// For buffered bytes to be taken.
    pub write: Duration,
    /// For a protocol with a full inbox to take a message.
    pub inbox: Duration,
}

/// Whether the remote broke a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nobody did wrong: other network, too slow, no longer wanted.
    None,
    /// The remote broke the protocol; it costs what
    /// [`Rule::SubprotocolBreach`] costs.
    Breach,
}

/// What happened to a connection.
#[derive(Debug, Clone, PartialEq)]
pub enum PeerInput {
    /// A message was read.
    Message {
        /// Its id on the connection.
        id: u64,
        /// Its decompressed payload.
        payload: Bytes,
    },
    /// The last delivery found the protocol's inbox full; reading has stopped.
    InboxFull {
        /// Index among the shared capabilities.
        protocol: usize,
    },
    /// That delivery has been made; reading goes on.
    InboxFree,
    /// Bytes were put into the write buffer.
    Queued(usize),
    /// Bytes of the write buffer went into the socket.
    Written(usize),
    /// Somebody wants the connection to end.
    Disconnect(DisconnectReason),
    /// A protocol's run ended: with what to tell the remote and whether the
    /// remote is to blame, or plainly.
    ProtocolEnded {
        /// Index among the shared capabilities.
        protocol: usize,
        /// How.
        result: Result<(), (DisconnectReason, Fault)>,
    },
    /// The remote closed the connection.
    Closed,
    /// Reading or writing failed.
    Failed(io::ErrorKind),
    /// What was read breaks a rule below the level of messages.
    Broken(Rule),
}

/// What to do for a connection.
#[derive(Debug, Clone, PartialEq)]
pub enum PeerOutput {
    /// Send Ping.
    Ping,
    /// Send Pong.
    Pong,
    /// A ping went unanswered because there were too many.
    PingDropped,
    /// Hand a message to a protocol; report `InboxFull` if it has no room.
    Deliver {
        /// Index among the shared capabilities.
        protocol: usize,
        /// The id counted from the protocol's first.
        id: u64,
        /// The payload.
        payload: Bytes,
    },
    /// The connection is over. Nothing comes after this.
    Close(Close),
}

/// How a connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// Why.
    pub reason: DropReason,
    /// What the remote is told, when it can be.
    pub tell: Option<DisconnectReason>,
    /// The rule the remote broke.
    pub rule: Option<Rule>,
}

/// See the module.
#[derive(Debug)]
pub struct PeerCore {
    shared: SharedCapabilities,
    pings: PingLoop,
    reads: ReadLoop,
    writes: WriteWatch,
    score: Score,
    closed: bool,
    outputs: VecDeque<PeerOutput>,
}

impl PeerCore {
    /// A connection whose Hellos are exchanged.
    pub fn new(now: Now, timeouts: PeerTimeouts, shared: SharedCapabilities) -> Self {
        Self {
            shared,
            pings: PingLoop::new(now.mono, timeouts.ping),
            reads: ReadLoop::new(now.mono, timeouts.idle, timeouts.inbox),
            writes: WriteWatch::new(timeouts.write),
            score: Score::new(now.mono),
            closed: false,
            outputs: VecDeque::new(),
        }
    }

    fn on_message(&mut self, now: MonoTime, id: u64, payload: Bytes) {
        match self.reads.route(now, id, &self.shared) {
            Route::Ignore => {}
            Route::Protocol { protocol, id } => {
                self.outputs.push_back(PeerOutput::Deliver {
                    protocol,
                    id,
                    payload,
                });
            }
            Route::Ping if self.pings.answers(now) => self.outputs.push_back(PeerOutput::Pong),
            Route::Ping => {
                self.outputs.push_back(PeerOutput::PingDropped);
                self.on_broken(now, Rule::PingFlood);
            }
            // One that cannot be decoded still says that the remote leaves.
            Route::Disconnect => match DisconnectReason::decode(&payload) {
                Ok(reason) => self.close(DropReason::Remote(reason), None, None),
                Err(_) => self.close(DropReason::Closed, None, None),
            },
            Route::Unknown => self.on_broken(now, Rule::UnknownMessage),
        }
    }

    fn on_protocol_ended(
        &mut self,
        protocol: usize,
        result: Result<(), (DisconnectReason, Fault)>,
    ) {
        let (reason, rule) = match result {
            Ok(()) => (DisconnectReason::Requested, None),
            Err((reason, Fault::None)) => (reason, None),
            Err((reason, Fault::Breach)) => (reason, Some(Rule::SubprotocolBreach)),
        };
        let dropped = match self.capability(protocol) {
            Some(capability) => DropReason::Protocol { capability, reason },
            None => DropReason::Local(reason),
        };
        self.close(dropped, Some(reason), rule);
    }

    fn on_broken(&mut self, now: MonoTime, rule: Rule) {
        let penalty = rule.penalty();
        if self.score.add(now, penalty) {
            self.close(DropReason::Violation(rule), penalty.disconnect, Some(rule));
        }
    }

    fn capability(&self, protocol: usize) -> Option<Capability> {
        self.shared.get(protocol).map(|shared| shared.capability)
    }

    fn close(&mut self, reason: DropReason, tell: Option<DisconnectReason>, rule: Option<Rule>) {
        self.closed = true;
        self.outputs
            .push_back(PeerOutput::Close(Close { reason, tell, rule }));
    }
}

impl Machine for PeerCore {
    type Input = PeerInput;
    type Output = PeerOutput;

    fn handle(&mut self, now: Now, input: PeerInput) {
        if self.closed {
            return;
        }
        let now = now.mono;
        match input {
            PeerInput::Message { id, payload } => self.on_message(now, id, payload),
            PeerInput::InboxFull { protocol } => self.reads.on_full(now, protocol),
            PeerInput::InboxFree => self.reads.on_free(now),
            PeerInput::Queued(bytes) => self.writes.on_queued(now, bytes),
            PeerInput::Written(bytes) => self.writes.on_written(now, bytes),
            PeerInput::Disconnect(reason) => {
                self.close(DropReason::Local(reason), Some(reason), None);
            }
            PeerInput::ProtocolEnded { protocol, result } => {
                self.on_protocol_ended(protocol, result);
            }
            PeerInput::Closed => self.close(DropReason::Closed, None, None),
            PeerInput::Failed(kind) => self.close(DropReason::Io(kind), None, None),
            PeerInput::Broken(rule) => self.on_broken(now, rule),
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        if self.closed {
            return;
        }
        let now = now.mono;
        match self.reads.overdue(now) {
            Some(Overdue::Remote) => {
                let tell = Some(DisconnectReason::ReadTimeout);
                return self.close(DropReason::ReadTimeout, tell, None);
            }
            Some(Overdue::Protocol(protocol)) => {
                let reason = match self.capability(protocol) {
                    Some(capability) => DropReason::InboxStalled(capability),
                    None => DropReason::Internal,
                };
                return self.close(reason, Some(DisconnectReason::SubprotocolError), None);
            }
            None => {}
        }
        if self.writes.overdue(now) {
            return self.close(DropReason::WriteTimeout, None, None);
        }
        if self.pings.due(now) {
            self.outputs.push_back(PeerOutput::Ping);
        }
    }

    fn deadline(&self) -> Option<MonoTime> {
        if self.closed {
            return None;
        }
        let first = self.pings.deadline().min(self.reads.deadline());
        Some(
            self.writes
                .deadline()
                .map_or(first, |writes| writes.min(first)),
        )
    }

    fn poll(&mut self) -> Option<PeerOutput> {
        self.outputs.pop_front()
    }
}
