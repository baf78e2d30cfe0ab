//! What a stack is made with, what goes into it, what comes out and what it counts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tercet_enode::NodeRecord;
use tercet_nodedb::{Seed, Write};

use crate::core::{Command, CoreConfig, OpId, Reply, RequestError};
use crate::v5::{DEFAULT_SESSIONS, TalkMessage, TalkResponse};
use crate::vote::MIN_VOICES;

/// What a [`NodeStack`](super::NodeStack) is made with. Addresses are by family: IPv4, IPv6.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// The core's part. `families` is set from `listen`; all randomness comes from `seed`, which must be secret and never used
    /// twice.
    pub core: CoreConfig,
    /// Where the sockets are bound; `None` for a family without one. Default: none.
    pub listen: [Option<SocketAddr>; 2],
    /// What to advertise, whatever others say. A port of 0 stands for the one listened on. Default: none.
    pub advertised: [Option<SocketAddr>; 2],
    /// The RLPx port in the record, 0 for none. Default 0.
    pub tcp_port: u16,
    /// Further entries of the record. Default: none.
    pub entries: BTreeMap<Vec<u8>, Bytes>,
    /// Networks that have to agree on an address before it is believed. Default 10.
    pub min_voices: usize,
    /// Most discv5 sessions, 1 to 1.7 KB each. Default [`DEFAULT_SESSIONS`].
    pub sessions: usize,
}

impl StackConfig {
    /// The defaults with this seed.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            core: CoreConfig::new(seed),
            listen: [None; 2],
            advertised: [None; 2],
            tcp_port: 0,
            entries: BTreeMap::new(),
            min_voices: MIN_VOICES,
            sessions: DEFAULT_SESSIONS,
        }
    }
}

/// What goes into a stack.
#[derive(Clone, Debug)]
pub enum StackInput {
    /// A datagram arrived. All of it is done inside; see [`NodeStack::open`](super::NodeStack::open) for the other way.
    Datagram {
        /// The UDP source.
        from: SocketAddr,
        /// Its bytes; read in place.
        datagram: BytesMut,
    },
    /// Something to do for a caller.
    Command {
        /// Chosen by the caller, unique among the operations under way.
        op: OpId,
        /// What to do.
        command: Command,
    },
    /// Answer to a [`StackOutput::TalkRequest`].
    TalkResponse(TalkResponse),
    /// Answer to [`StackOutput::LoadSeeds`].
    Seeds(Vec<Seed>),
    /// The node is about to stop: live nodes are written out.
    Close,
}

/// What comes out of a stack.
#[derive(Clone, PartialEq, Debug)]
pub enum StackOutput {
    /// Send a datagram.
    Datagram {
        /// The UDP destination.
        to: SocketAddr,
        /// Its bytes, at most 1280.
        datagram: Bytes,
    },
    /// Write to the database.
    Write(Write),
    /// Read seeds from the database.
    LoadSeeds {
        /// How many.
        count: usize,
        /// How long ago their last pong may be.
        max_age: Duration,
    },
    /// An operation has ended.
    Done {
        /// Which.
        op: OpId,
        /// How.
        result: Result<Reply, RequestError>,
    },
    /// This node's record has changed. Its number is in a write of its own.
    Record(NodeRecord),
    /// A discv5 message of another protocol; to be answered by [`StackInput::TalkResponse`] in any case.
    TalkRequest(TalkMessage),
    /// The clock of this machine may be wrong; see [`CoreOutput::Expired`](crate::CoreOutput::Expired).
    SuspectClock,
}

/// Counts since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct StackCounters {
    /// Datagrams that are no discv4 packets, nor discv5 packets to this node.
    pub undecodable: u64,
    /// Packets of a protocol that is switched off.
    pub not_served: u64,
    /// Records in answers whose signature was checked.
    pub records_checked: u64,
    /// Records in answers that had been checked before.
    pub records_known: u64,
    /// Records in answers that are not signed by their node.
    pub records_bad: u64,
    /// Statements of others about this node's address.
    pub votes: u64,
    /// Round trips begun by somebody to whom nothing was sent before.
    pub contacts: u64,
}
