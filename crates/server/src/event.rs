//! What the server tells its subscribers, with every reason as a type.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tercet_enode::NodeId;
use tercet_rlpx::{Capability, DisconnectReason};

use crate::peer::PeerInfo;
use crate::peers::penalty::Rule;

/// A change of the server's state. Subscribers get them through a channel of
/// 1024; one that falls behind is told how many it missed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ServerEvent {
    /// A peer passed every check and its protocols run.
    PeerAdded {
        /// The peer.
        info: Arc<PeerInfo>,
    },
    /// A peer that had been added is gone.
    PeerDropped {
        /// The peer.
        id: NodeId,
        /// Why.
        reason: DropReason,
        /// How long it had been connected.
        age: Duration,
    },
    /// An attempt to reach a node did not make it to a peer.
    DialFailed {
        /// The node.
        id: NodeId,
        /// Why.
        error: DialError,
        /// How long the node is now left alone.
        retry_after: Duration,
    },
    /// An inbound connection was turned away or did not finish its set-up.
    InboundRefused {
        /// Where it came from.
        addr: SocketAddr,
        /// Who it was or, before its Hello, claimed to be.
        id: Option<NodeId>,
        /// Why.
        reason: RefuseReason,
    },
    /// A node is not let in and not dialed for a while.
    Banned {
        /// The node.
        id: NodeId,
        /// What it did.
        rule: Rule,
        /// For how long.
        duration: Duration,
    },
}

/// Why a peer's connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DropReason {
    /// We disconnected, for the reason given to the remote.
    #[error("we disconnected: {0}")]
    Local(DisconnectReason),
    /// The remote sent Disconnect.
    #[error("the remote disconnected: {0}")]
    Remote(DisconnectReason),
    /// A protocol ended the connection.
    #[error("{capability} ended the connection: {reason}")]
    Protocol {
        /// The protocol.
        capability: Capability,
        /// What the remote was told.
        reason: DisconnectReason,
    },
    /// The remote broke a rule of the base protocol.
    #[error("the remote broke a rule: {0}")]
    Violation(Rule),
    /// The remote closed the connection without a Disconnect.
    #[error("the remote closed the connection")]
    Closed,
    /// The socket failed.
    #[error("connection failed: {0}")]
    Io(io::ErrorKind),
    /// Nothing was read for the idle timeout (30 s by default).
    #[error("nothing was received in time")]
    ReadTimeout,
    /// Bytes waited longer than the write timeout (20 s by default).
    #[error("the remote did not take our data in time")]
    WriteTimeout,
    /// A protocol's inbox stayed full past the limit (10 s by default).
    #[error("{0} did not take its messages in time")]
    InboxStalled(Capability),
    /// The connection's task stopped by a defect, not by the remote.
    #[error("internal failure")]
    Internal,
}

/// Why a dial did not end in a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The TCP connection could not be made.
    #[error("cannot connect: {0}")]
    Connect(io::ErrorKind),
    /// The TCP connection was not there within the dial timeout (15 s by default).
    #[error("no TCP connection in time")]
    ConnectTimeout,
    /// The host name has no address, or the resolver did not answer in time.
    #[error("the host name could not be resolved")]
    Dns,
    /// The host name's addresses are outside the allowed networks.
    #[error("the host name's address is outside the allowed networks")]
    NotAllowed,
    /// Handshake and Hello did not finish within the set-up limit (5 s by default).
    #[error("the handshake was not finished in time")]
    SetupTimeout,
    /// The encrypted handshake failed: a wrong key, or not a devp2p node.
    #[error("the encrypted handshake failed")]
    Handshake,
    /// The remote's Hello could not be used.
    #[error("the remote's Hello is not valid")]
    Hello,
    /// The remote's Hello names another key than the handshake proved.
    #[error("the remote's Hello names another node")]
    UnexpectedIdentity,
    /// The remote's Hello names no valid key.
    #[error("the remote's Hello names no valid key")]
    InvalidIdentity,
    /// The connection broke during the set-up.
    #[error("the connection broke during the set-up: {0}")]
    Io(io::ErrorKind),
    /// The remote refused us with a Disconnect.
    #[error("the remote refused: {0}")]
    Refused(DisconnectReason),
    /// We refused the remote after the handshake.
    #[error("we refused: {0}")]
    Rejected(RefuseReason),
    /// The dial's task stopped by a defect.
    #[error("internal failure")]
    Internal,
}

/// Why a connection was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum RefuseReason {
    /// The address is outside the allowed networks. Closed before any byte.
    #[error("address outside the allowed networks")]
    NotAllowed,
    /// The subnet connected less than the throttle time ago. Closed before any byte.
    #[error("too many connections from the subnet")]
    Throttled,
    /// The subnet has too many unfinished handshakes. Closed before any byte.
    #[error("too many unfinished handshakes from the subnet")]
    PendingPerSubnet,
    /// The oldest unfinished handshake made room for a new connection.
    #[error("the handshake stalled while others waited")]
    Stalled,
    /// The identity is banned. Told: useless peer.
    #[error("banned")]
    Banned,
    /// All slots, or all inbound slots, are taken.
    #[error("too many peers")]
    TooManyPeers,
    /// The node is already a peer.
    #[error("already connected")]
    AlreadyConnected,
    /// It is ourselves.
    #[error("connected to self")]
    Itself,
    /// No capability in common.
    #[error("no shared capability")]
    UselessPeer,
    /// Hello names another key than the handshake proved.
    #[error("unexpected identity")]
    UnexpectedIdentity,
    /// Hello holds no valid key.
    #[error("invalid identity")]
    InvalidIdentity,
    /// Hello could not be decoded, or something else came in its place.
    #[error("invalid Hello")]
    InvalidHello,
    /// The encrypted handshake failed. Closed: there is no key to answer under.
    #[error("the encrypted handshake failed")]
    Handshake,
    /// Handshake and Hello did not finish within the set-up limit.
    #[error("the handshake was not finished in time")]
    SetupTimeout,
    /// The remote disconnected during the set-up.
    #[error("the remote left during the set-up")]
    RemoteLeft,
    /// The server is shutting down.
    #[error("shutting down")]
    ShuttingDown,
}

impl RefuseReason {
    /// What an inbound set-up that failed counts as.
    pub(crate) fn of_failed_setup(error: &DialError) -> Self {
        match error {
            DialError::SetupTimeout | DialError::ConnectTimeout => Self::SetupTimeout,
            DialError::Handshake => Self::Handshake,
            DialError::Hello => Self::InvalidHello,
            DialError::UnexpectedIdentity => Self::UnexpectedIdentity,
            DialError::InvalidIdentity => Self::InvalidIdentity,
            DialError::Rejected(reason) => *reason,
            DialError::NotAllowed => Self::NotAllowed,
            DialError::Refused(_)
            | DialError::Io(_)
            | DialError::Connect(_)
            | DialError::Dns
            | DialError::Internal => Self::RemoteLeft,
        }
    }

    /// What the remote is told; `None` when there is nothing to tell it with
    /// (no session yet) or nobody to tell.
    pub fn disconnect_reason(self) -> Option<DisconnectReason> {
        Some(match self {
            Self::TooManyPeers => DisconnectReason::TooManyPeers,
            Self::AlreadyConnected => DisconnectReason::AlreadyConnected,
            Self::Itself => DisconnectReason::ConnectedToSelf,
            Self::UselessPeer | Self::Banned => DisconnectReason::UselessPeer,
            Self::UnexpectedIdentity => DisconnectReason::UnexpectedIdentity,
            Self::InvalidIdentity => DisconnectReason::InvalidIdentity,
            Self::InvalidHello => DisconnectReason::ProtocolError,
            Self::ShuttingDown => DisconnectReason::Quitting,
            Self::SetupTimeout => DisconnectReason::ReadTimeout,
            Self::NotAllowed
            | Self::Throttled
            | Self::PendingPerSubnet
            | Self::Stalled
            | Self::Handshake
            | Self::RemoteLeft => return None,
        })
    }
}
