//! Between a machine and the network: what arrives becomes the machine's inputs, what it puts out becomes traffic.

use std::hash::{Hash, Hasher};
use std::net::SocketAddr;

use tercet_machine::{Machine, Now};

/// What travels in a datagram: bytes, or a message that was never encoded, where a scenario leaves the codec out.
pub trait Packet: Clone {
    /// Its size on the wire, in bytes; compared with the link's MTU.
    fn size(&self) -> usize;

    /// Puts into the hash of the run what tells this packet from others.
    fn trace<H: Hasher>(&self, hasher: &mut H);
}

impl Packet for Vec<u8> {
    fn size(&self) -> usize {
        self.len()
    }

    fn trace<H: Hasher>(&self, hasher: &mut H) {
        self.hash(hasher);
    }
}

impl<P: Packet> Packet for Box<P> {
    fn size(&self) -> usize {
        self.as_ref().size()
    }

    fn trace<H: Hasher>(&self, hasher: &mut H) {
        self.as_ref().trace(hasher);
    }
}

/// A byte stream; the same at both its ends, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) u64);

/// What the network brings to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<P> {
    /// A datagram.
    Datagram {
        /// Its source, as the receiver sees it: a NAT's public address if it came through one.
        from: SocketAddr,
        /// Its content.
        packet: P,
    },
    /// A stream stands.
    StreamOpened {
        /// Which.
        stream: StreamId,
        /// The other end.
        remote: SocketAddr,
        /// Whether the other end opened it.
        inbound: bool,
    },
    /// Bytes of a stream, in order.
    StreamData {
        /// Which.
        stream: StreamId,
        /// The next bytes.
        bytes: Vec<u8>,
    },
    /// The other end closed the stream, refused it, or cannot be reached any more. Nothing follows.
    StreamClosed {
        /// Which.
        stream: StreamId,
    },
}

/// The input and output of an adapter's machine.
pub(crate) type InputOf<A> = <<A as Adapter>::Machine as Machine>::Input;

/// One node's connection to the simulated network. It may keep what its scenario wants to know afterwards.
pub trait Adapter {
    /// The machine that runs here.
    type Machine: Machine;
    /// What its datagrams carry.
    type Packet: Packet;

    /// Turns an event into an input; `None` ignores it.
    fn deliver(
        &mut self,
        now: Now,
        event: Event<Self::Packet>,
    ) -> Option<<Self::Machine as Machine>::Input>;

    /// Does what the machine asked for.
    fn act(
        &mut self,
        now: Now,
        output: <Self::Machine as Machine>::Output,
        actions: &mut Actions<Self::Packet, <Self::Machine as Machine>::Input>,
    );
}

/// One thing a node does.
pub(crate) enum Action<P, I> {
    Send { to: SocketAddr, packet: P },
    Input(I),
    Connect { stream: StreamId, to: SocketAddr },
    Write { stream: StreamId, bytes: Vec<u8> },
    Close { stream: StreamId },
}

/// What an adapter may do for its machine; done in order, when [`Adapter::act`] returns.
pub struct Actions<P, I> {
    pub(crate) list: Vec<Action<P, I>>,
    pub(crate) next_stream: u64,
}

impl<P, I> Actions<P, I> {
    /// Sends a datagram.
    pub fn send(&mut self, to: SocketAddr, packet: P) {
        self.list.push(Action::Send { to, packet });
    }

    /// Hands an input to the node's own machine, at the same time: the result of an output, as a database's answer.
    pub fn input(&mut self, input: I) {
        self.list.push(Action::Input(input));
    }

    /// Opens a stream; [`Event::StreamOpened`] or [`Event::StreamClosed`] follows.
    pub fn connect(&mut self, to: SocketAddr) -> StreamId {
        let stream = StreamId(self.next_stream);
        self.next_stream += 1;
        self.list.push(Action::Connect { stream, to });
        stream
    }

    /// Writes to a stream. Nothing happens if it is closed; a writer with more than
    /// [`MAX_IN_FLIGHT`](crate::MAX_IN_FLIGHT) bytes under way loses the stream.
    pub fn write(&mut self, stream: StreamId, bytes: Vec<u8>) {
        self.list.push(Action::Write { stream, bytes });
    }

    /// Closes a stream. What was written before still arrives; nothing more comes from the other end.
    pub fn close(&mut self, stream: StreamId) {
        self.list.push(Action::Close { stream });
    }
}
