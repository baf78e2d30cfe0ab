//! The read loop: where each message goes by its id, and how long the remote or
//! a protocol may keep it waiting.

use std::time::Duration;

use tercet_machine::MonoTime;
use tercet_rlpx::{FIRST_OFFSET, SharedCapabilities, p2p};

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Disconnect,
    Ping,
    /// Nothing to do: a Pong, a second Hello, or an unassigned base id.
    Ignore,
    /// A protocol's message, with its relative id.
    Protocol {
        protocol: usize,
        id: u64,
    },
    /// An id outside every range: a breach.
    Unknown,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ReadLoop {
    idle: Duration,
    inbox: Duration,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Reading; the connection is idle at the given time.
    Reading { until: MonoTime },
    /// A protocol's inbox is full and nothing is read, so silence says nothing
    /// about the remote; the protocol has until the given time.
    Full { protocol: usize, until: MonoTime },
}

/// Which wait has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overdue {
    Remote,
    Protocol(usize),
}

impl ReadLoop {
    pub(crate) fn new(now: MonoTime, idle: Duration, inbox: Duration) -> Self {
        Self {
            idle,
            inbox,
            state: State::Reading { until: now + idle },
        }
    }

    /// A message arrived: where does it go?
    pub(crate) fn route(&mut self, now: MonoTime, id: u64, shared: &SharedCapabilities) -> Route {
        if let State::Reading { until } = &mut self.state {
            *until = now + self.idle;
        }
        match id {
            p2p::DISCONNECT => Route::Disconnect,
            p2p::PING => Route::Ping,
            id if id < FIRST_OFFSET => Route::Ignore,
            id => match shared.locate(id) {
                Some((protocol, id)) => Route::Protocol { protocol, id },
                None => Route::Unknown,
            },
        }
    }

    /// A protocol could not take its message; reading stops.
    pub(crate) fn on_full(&mut self, now: MonoTime, protocol: usize) {
        if let State::Reading { .. } = self.state {
            self.state = State::Full {
                protocol,
                until: now + self.inbox,
            };
        }
    }

    /// The message was taken after all; reading goes on.
    pub(crate) fn on_free(&mut self, now: MonoTime) {
        self.state = State::Reading {
            until: now + self.idle,
        };
    }

    pub(crate) fn deadline(&self) -> MonoTime {
        match self.state {
            State::Reading { until } | State::Full { until, .. } => until,
        }
    }

    /// Who has kept the other waiting too long, if anyone.
    pub(crate) fn overdue(&self, now: MonoTime) -> Option<Overdue> {
        match self.state {
            State::Reading { until } if until <= now => Some(Overdue::Remote),
            State::Full { protocol, until } if until <= now => Some(Overdue::Protocol(protocol)),
            State::Reading { .. } | State::Full { .. } => None,
        }
    }
}
