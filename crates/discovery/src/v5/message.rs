//! The six discv5 messages (`discv5-wire.md`, "Protocol Messages") as types. Their RLP bodies, packets and sessions are
//! beside; what a message means is the engine's business.

use std::net::SocketAddr;

use bytes::Bytes;
use tercet_enode::{NodeRecord, UnverifiedRecord};

/// Longest request id, in bytes.
pub const MAX_REQUEST_ID: usize = 8;

/// Distances in one FINDNODE: 0 to 256, each once.
pub const MAX_DISTANCES: usize = 257;

/// What a response quotes to say which request it answers: 0 to 8 bytes, echoed exactly, leading zeros included.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct RequestId {
    len: u8,
    bytes: [u8; MAX_REQUEST_ID],
}

impl RequestId {
    /// `None` if there are more than eight bytes.
    #[must_use]
    pub fn new(id: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_REQUEST_ID];
        bytes.get_mut(..id.len())?.copy_from_slice(id);
        let len = u8::try_from(id.len()).ok()?;
        Some(Self { len, bytes })
    }

    /// The bytes as they stand on the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// Log distances a FINDNODE asks for: at most [`MAX_DISTANCES`], each 0 to 256 and there once, in the order given. 0 is the
/// asked node's own record.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Distances(Vec<u16>);

impl Distances {
    /// Keeps the first of equal ones and leaves out what is no distance.
    pub fn new(distances: impl IntoIterator<Item = u64>) -> Self {
        let mut seen = [false; MAX_DISTANCES];
        let mut kept = Vec::new();
        for distance in distances {
            let place = usize::try_from(distance)
                .ok()
                .and_then(|at| seen.get_mut(at));
            if let (Some(seen), Ok(distance)) = (place, u16::try_from(distance))
                && !std::mem::replace(seen, true)
            {
                kept.push(distance);
            }
        }
        Self(kept)
    }

    /// The distances.
    #[must_use]
    pub fn as_slice(&self) -> &[u16] {
        &self.0
    }
}

/// A message. Records in it are verified ([`NodeRecord`]) or, as they come off the wire, not ([`WireMessage`]).
#[derive(Clone, PartialEq, Debug)]
pub enum Message<R = NodeRecord> {
    /// Asks for a response with the same id.
    Request(RequestId, Request),
    /// Answers the request with that id.
    Response(RequestId, Response<R>),
}

/// A message as decoded: the signatures of its records are still to be checked.
pub type WireMessage = Message<UnverifiedRecord>;

/// The kind of a message; the discriminant is the type byte on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum MessageKind {
    /// 0x01
    Ping = 1,
    /// 0x02
    Pong = 2,
    /// 0x03
    FindNode = 3,
    /// 0x04
    Nodes = 4,
    /// 0x05
    TalkRequest = 5,
    /// 0x06
    TalkResponse = 6,
}

/// What one node asks another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Are you there?
    Ping {
        /// Sequence number of the sender's record.
        enr_seq: u64,
    },
    /// Which nodes do you know at these distances from yourself?
    FindNode {
        /// Log distances.
        distances: Distances,
    },
    /// A message of another protocol.
    Talk {
        /// The protocol's name.
        protocol: Bytes,
        /// Its message.
        payload: Bytes,
    },
}

/// What it answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Response<R = NodeRecord> {
    /// To a ping.
    Pong {
        /// Sequence number of the sender's record.
        enr_seq: u64,
        /// Where the ping came from.
        recipient: SocketAddr,
    },
    /// To a FINDNODE; one of `total` such messages.
    Nodes {
        /// Messages that answer the request, at least 1.
        total: u64,
        /// At most as many as fit a datagram.
        records: Vec<R>,
    },
    /// To a TALKREQ; empty if the protocol is unknown.
    Talk {
        /// The other protocol's answer.
        payload: Bytes,
    },
}
