//! The work of a datagram that costs more than looking at it: key recovery, handshakes, signatures of records and of replies. A
//! job owns all it needs and runs on any thread.

use std::net::SocketAddr;

use bytes::Bytes;
use tercet_enode::{NodeId, NodeRecord, RecordError, SecretKey};

use super::records::Seen;
use crate::v4::codec::{self, DecodeError, Packet, UnverifiedPacket};
use crate::v4::{Message, MessageKind};
use crate::v5::{HandshakeJob, HandshakeResult, RequestId};

/// Work between [`NodeStack::open`](super::NodeStack::open) and [`NodeStack::complete`](super::NodeStack::complete). One that
/// is lost costs its datagram and nothing else.
#[derive(Debug)]
pub struct StackJob {
    pub(super) from: SocketAddr,
    pub(super) work: Work,
}

/// What a [`StackJob`] came to.
#[derive(Debug)]
pub struct StackDone {
    pub(super) from: SocketAddr,
    pub(super) result: WorkResult,
}

#[derive(Debug)]
pub(super) enum Work {
    /// A key recovery.
    V4(Box<UnverifiedPacket>),
    /// What a discv4 packet is answered with, to be signed: nearly as much work as the key recovery.
    Replies(SecretKey, Vec<(SocketAddr, Message)>),
    /// Either side's curve work of a handshake.
    Handshake(Box<HandshakeJob>),
    /// Records somebody named in answer to a question.
    Records(Answer<Vec<Seen>>),
}

#[derive(Debug)]
pub(super) enum WorkResult {
    V4(Box<Result<Packet, DecodeError>>),
    Replies(Vec<(SocketAddr, Bytes)>),
    Handshake(Box<HandshakeResult>),
    Records(Answer<Vec<Result<NodeRecord, RecordError>>>),
}

/// A NODES message and what is in it.
#[derive(Debug)]
pub(super) struct Answer<R> {
    pub(super) id: NodeId,
    pub(super) request: RequestId,
    pub(super) total: u64,
    pub(super) records: R,
}

impl StackJob {
    /// Whose datagram it is. His later ones should wait until this one is complete.
    #[must_use]
    pub const fn from(&self) -> SocketAddr {
        self.from
    }

    /// Whether the datagram is an answer to something this node has asked. Where there is not room for all, these go first.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        match &self.work {
            Work::V4(packet) => {
                packet.answers().is_some() || packet.kind() == MessageKind::Neighbors
            }
            Work::Replies(..) => false,
            Work::Handshake(job) => job.is_answer(),
            Work::Records(_) => true,
        }
    }

    /// Whether most of the datagram's work has been done before. Where there is no room, this is better done at once than dropped.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        matches!(self.work, Work::Replies(..))
    }

    /// Does the work.
    #[must_use]
    pub fn run(self) -> StackDone {
        let result = match self.work {
            Work::V4(packet) => WorkResult::V4(Box::new(packet.verify())),
            Work::Replies(key, replies) => {
                let signed = replies
                    .into_iter()
                    .map(|(to, message)| (to, codec::encode(&key, &message).0));
                WorkResult::Replies(signed.collect())
            }
            Work::Handshake(job) => WorkResult::Handshake(Box::new(job.run())),
            Work::Records(Answer {
                id,
                request,
                total,
                records,
            }) => WorkResult::Records(Answer {
                id,
                request,
                total,
                records: records.into_iter().map(Seen::verify).collect(),
            }),
        };
        StackDone {
            from: self.from,
            result,
        }
    }
}

impl StackDone {
    /// Whose datagram it was.
    #[must_use]
    pub const fn from(&self) -> SocketAddr {
        self.from
    }
}
