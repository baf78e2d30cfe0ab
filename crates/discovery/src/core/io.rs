//! What a core is made with, what goes into it and what comes out.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use tercet_enode::{Node, NodeId, NodeRecord, PublicKey};
use tercet_nodedb::{Seed, Write};

use super::command::{Command, OpId, Reply, RequestError};
use crate::engine::Protocols;
use crate::kad::RevalidationConfig;
use crate::policy::Families;
use crate::v4::{self, PacketHash, Token, V4Counters};
use crate::v5::{self, TalkMessage, TalkResponse, V5Counters, V5Peer};

/// What a core is made with.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// First contacts, offered to the table at every refresh. Default: none.
    pub bootnodes: Vec<Node>,
    /// Networks to which all contact is restricted. Default: no restriction.
    pub netrestrict: Option<Vec<IpNet>>,
    /// Paths a lookup keeps apart, 1 to [`MAX_PATHS`](crate::kad::MAX_PATHS): no node serves two of them, so that whoever
    /// holds one of them does not steer the result. Costs as many times the questions. Default 1.
    pub lookup_paths: usize,
    /// Longest time between two refreshes; each is drawn from its upper half. Default 30 min.
    pub refresh_interval: Duration,
    /// When nodes in the table are checked.
    pub revalidation: RevalidationConfig,
    /// How long a discv4 reply is waited for. Default 500 ms.
    pub reply_timeout: Duration,
    /// How long a discv5 response is waited for, with a handshake if there is no session yet. Default 700 ms.
    pub v5_reply_timeout: Duration,
    /// Whether this node only comes to ask: over discv4 it proves its address to nobody who would answer without. Default: no.
    pub guest: bool,
    /// The protocols spoken. Default: both.
    pub protocols: Protocols,
    /// The IP families for which there is a socket. Default: both.
    pub families: Families,
    /// Seed of all the core's randomness.
    pub seed: [u8; 32],
}

impl CoreConfig {
    /// The defaults with this seed.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            bootnodes: Vec::new(),
            netrestrict: None,
            lookup_paths: 1,
            refresh_interval: Duration::from_secs(30 * 60),
            revalidation: RevalidationConfig::default(),
            reply_timeout: Duration::from_millis(500),
            v5_reply_timeout: v5::REPLY_TIMEOUT,
            guest: false,
            protocols: Protocols::ALL,
            families: Families::BOTH,
            seed,
        }
    }
}

/// What goes into a [`DiscoveryCore`](super::DiscoveryCore).
#[derive(Clone, Debug)]
pub enum CoreInput {
    /// A discv4 message arrived.
    V4Packet {
        /// The UDP source.
        from: SocketAddr,
        /// Who signed it.
        key: PublicKey,
        /// The packet's hash.
        hash: PacketHash,
        /// What it says.
        message: v4::Message,
    },
    /// The hash of the packet made from the [`CoreOutput::V4Send`] with this token.
    V4Sent {
        /// The token of the output.
        token: Token,
        /// Hash of the packet.
        hash: PacketHash,
    },
    /// A discv5 handshake was completed.
    V5Session {
        /// The session's address.
        from: SocketAddr,
        /// Its node.
        id: NodeId,
        /// The node's own record, verified, if the handshake held one.
        record: Option<NodeRecord>,
        /// The other side began it.
        inbound: bool,
    },
    /// A discv5 message arrived through a session, its records verified.
    V5Message {
        /// The UDP source.
        from: SocketAddr,
        /// Who sent it.
        id: NodeId,
        /// What it says.
        message: v5::Message,
    },
    /// Answer to a [`CoreOutput::TalkRequest`].
    TalkResponse(TalkResponse),
    /// Answer to [`CoreOutput::LoadSeeds`].
    Seeds(Vec<Seed>),
    /// This node's record has changed.
    LocalRecord(NodeRecord),
    /// Something to do for a caller.
    Command {
        /// Chosen by the caller, unique among the operations under way.
        op: OpId,
        /// What to do.
        command: Command,
    },
    /// The node is about to stop: live nodes are written out.
    Close,
}

/// What comes out of a [`DiscoveryCore`](super::DiscoveryCore).
#[derive(Clone, PartialEq, Debug)]
pub enum CoreOutput {
    /// Send a discv4 message.
    V4Send {
        /// The UDP destination.
        to: SocketAddr,
        /// What to send.
        message: v4::Message,
        /// Set if the core needs the packet's hash: see [`CoreInput::V4Sent`].
        token: Option<Token>,
    },
    /// Send a discv5 message.
    V5Send {
        /// The UDP destination.
        to: SocketAddr,
        /// Whom to. With a key for requests, which may have to begin a handshake; without for responses.
        node: V5Peer,
        /// What to send.
        message: v5::Message,
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
    /// A node whose endpoint is proven says that it sees this one at `seen_as`.
    Vote {
        /// Who says so.
        voter: IpAddr,
        /// This node's address, in his word.
        seen_as: SocketAddr,
    },
    /// Somebody to whom this node had sent nothing came to its socket and completed a round trip: the address it is known by
    /// works.
    Unsolicited {
        /// Where from.
        from: SocketAddr,
    },
    /// A discv5 message of another protocol; to be answered by [`CoreInput::TalkResponse`] in any case.
    TalkRequest(TalkMessage),
    /// Many packets looked expired, or nobody answers: the clock of this machine may be wrong. At most every ten minutes.
    Expired,
}

/// Why a datagram is not even looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The source's network sends too much.
    #[error("the source's network exceeds its rate")]
    Rate,
    /// The source is outside the networks this node is restricted to.
    #[error("the source is outside the permitted networks")]
    Restricted,
}

/// Counts since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct CoreCounters {
    /// What the discv4 engine counted.
    pub v4: V4Counters,
    /// What the discv5 engine counted.
    pub v5: V5Counters,
    /// Datagrams refused because their network exceeds its rate.
    pub refused_rate: u64,
    /// Datagrams let in beyond that rate because they prove to be answers.
    pub proven: u64,
    /// Datagrams refused because their source is outside the permitted networks.
    pub refused_restricted: u64,
    /// Newer records that nodes spoke of and did not deliver, as far as they were not asked for again yet.
    pub claims_ignored: u64,
}
