//! Byte streams: ordered, with the latency of the link. What a lossy link loses is sent again and so only comes later.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tercet_machine::MonoTime;

use crate::simulation::NodeKey;

/// Bytes one end may have under way. A machine that writes without regard for how fast its peer reads loses the stream.
pub const MAX_IN_FLIGHT: usize = 4 * 1024 * 1024;
/// How long until a lost segment is sent again.
pub(crate) const RETRANSMISSION: Duration = Duration::from_secs(1);
/// How often a segment is sent in vain until the stream is given up: 15, as in Linux.
pub(crate) const MAX_TRIES: u32 = 15;

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Opener,
    Acceptor,
}

impl Side {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Opener => Self::Acceptor,
            Self::Acceptor => Self::Opener,
        }
    }
}

/// What is under way to one end.
#[derive(Debug)]
pub(crate) enum Segment {
    Open,
    Data(Vec<u8>),
    Close,
}

/// One direction. At any time there is one event in the heap for the segment at its head, if it has one.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    queue: VecDeque<(MonoTime, Segment)>,
    in_flight: usize,
    last_arrival: MonoTime,
    /// Whether a closing is among what was sent.
    closing: bool,
    /// Vain attempts to deliver the head.
    pub(crate) tries: u32,
}

impl Pipe {
    /// Appends a segment that arrives at `arrival`, but not before those ahead of it. Returns when to deliver the head, if
    /// this one is it.
    pub(crate) fn push(&mut self, arrival: MonoTime, segment: Segment) -> Option<MonoTime> {
        let arrival = arrival.max(self.last_arrival);
        self.last_arrival = arrival;
        self.closing |= matches!(segment, Segment::Close);
        if let Segment::Data(bytes) = &segment {
            self.in_flight += bytes.len();
        }
        self.queue.push_back((arrival, segment));
        (self.queue.len() == 1).then_some(arrival)
    }

    /// Takes the head, with the time of the next one.
    pub(crate) fn pop(&mut self) -> Option<(Segment, Option<MonoTime>)> {
        let (_, segment) = self.queue.pop_front()?;
        if let Segment::Data(bytes) = &segment {
            self.in_flight -= bytes.len();
        }
        self.tries = 0;
        Some((segment, self.queue.front().map(|(arrival, _)| *arrival)))
    }

    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        self.in_flight.saturating_add(bytes) <= MAX_IN_FLIGHT
    }
}

/// A stream between two nodes.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) opener: NodeKey,
    pub(crate) acceptor: NodeKey,
    /// The opener's address as the acceptor sees it.
    pub(crate) opener_addr: SocketAddr,
    /// The address the opener connected to.
    pub(crate) acceptor_addr: SocketAddr,
    to_opener: Pipe,
    to_acceptor: Pipe,
}

impl Stream {
    pub(crate) fn new(
        (opener, opener_addr): (NodeKey, SocketAddr),
        (acceptor, acceptor_addr): (NodeKey, SocketAddr),
    ) -> Self {
        let (to_opener, to_acceptor) = (Pipe::default(), Pipe::default());
        Self {
            opener,
            acceptor,
            opener_addr,
            acceptor_addr,
            to_opener,
            to_acceptor,
        }
    }

    /// The direction that ends at `side`.
    pub(crate) fn pipe_to(&mut self, side: Side) -> &mut Pipe {
        match side {
            Side::Opener => &mut self.to_opener,
            Side::Acceptor => &mut self.to_acceptor,
        }
    }

    /// Whether the end at `side` has closed: it receives nothing more.
    pub(crate) fn closed_by_end(&self, side: Side) -> bool {
        match side {
            Side::Opener => self.to_acceptor.closing,
            Side::Acceptor => self.to_opener.closing,
        }
    }

    pub(crate) fn node(&self, side: Side) -> NodeKey {
        match side {
            Side::Opener => self.opener,
            Side::Acceptor => self.acceptor,
        }
    }

    /// Which end `node` is; a node that connected to itself is the opener.
    pub(crate) fn side_of(&self, node: NodeKey) -> Option<Side> {
        if node == self.opener {
            Some(Side::Opener)
        } else if node == self.acceptor {
            Some(Side::Acceptor)
        } else {
            None
        }
    }
}
