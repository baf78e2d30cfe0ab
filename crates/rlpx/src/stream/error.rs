//! Why a connection could not be set up, or ended. Each error knows what the peer should be told about it.

use std::io;

use tercet_enode::NodeId;

use crate::disconnect::{DisconnectError, DisconnectReason};
use crate::frame::{FrameError, QueueError};
use crate::handshake::AuthError;
use crate::hello::HelloDecodeError;

/// Why the RLPx handshake failed. No Disconnect can be sent then: there are no keys yet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The transport failed.
    #[error("the connection failed during the handshake: {0}")]
    Io(#[from] io::Error),
    /// The remote closed before the handshake was complete: most often it does not want us, or is no RLPx node.
    #[error("the remote closed the connection during the handshake")]
    Closed,
    /// [`SETUP_TIMEOUT`](crate::SETUP_TIMEOUT) passed.
    #[error("the handshake took longer than 5 s")]
    Timeout,
    /// The remote's packet is refused.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

/// Why the exchange of Hellos failed. Where the remote could be told, it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// The stream failed or carried something invalid.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// [`SETUP_TIMEOUT`](crate::SETUP_TIMEOUT), counted from the start of the handshake, passed.
    #[error("the set-up of the connection took longer than 5 s")]
    Timeout,
    /// The remote sent a Disconnect instead of Hello.
    #[error("the remote disconnected: {0}")]
    Disconnected(DisconnectReason),
    /// The remote sent a Disconnect that cannot be read.
    #[error(transparent)]
    Disconnect(#[from] DisconnectError),
    /// The first message is neither Hello nor Disconnect.
    #[error("message 0x{id:02x} came instead of Hello")]
    Unexpected {
        /// Id of the message.
        id: u64,
    },
    /// The remote's Hello is malformed.
    #[error(transparent)]
    Malformed(#[from] HelloDecodeError),
    /// The remote's protocol version is below 4.
    #[error("the remote speaks version {version} of the p2p protocol, 4 is the lowest supported")]
    IncompatibleVersion {
        /// The remote's version.
        version: u64,
    },
    /// The node id in the remote's Hello is not the key it shook hands with.
    #[error("the remote's Hello names the node {stated}, the handshake was with {expected}")]
    UnexpectedIdentity {
        /// The node of the handshake.
        expected: NodeId,
        /// The node in Hello.
        stated: NodeId,
    },
    /// The remote shook hands with the key our Hello names: we are connected to ourselves, or somebody runs with a copy
    /// of our key.
    #[error("the remote has our own key")]
    Itself,
    /// Our own Hello is above 2 KiB: too long a client id or too many capabilities.
    #[error("our own Hello is too large: {size} bytes, the limit is 2048")]
    OwnHelloTooLarge {
        /// Bytes of its body.
        size: usize,
    },
    /// Our own Hello could not be sealed.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl HelloError {
    /// What to tell the remote. `None` if it ended the connection itself, or could not read it.
    #[must_use]
    pub fn reason(&self) -> Option<DisconnectReason> {
        match self {
            Self::Stream(error) => error.reason(),
            Self::Timeout => Some(DisconnectReason::ReadTimeout),
            Self::Disconnected(_) | Self::Disconnect(_) => None,
            Self::Unexpected { .. } => Some(DisconnectReason::ProtocolError),
            Self::Malformed(error) => Some(error.reason()),
            Self::IncompatibleVersion { .. } => Some(DisconnectReason::IncompatibleVersion),
            Self::UnexpectedIdentity { .. } => Some(DisconnectReason::UnexpectedIdentity),
            Self::Itself => Some(DisconnectReason::ConnectedToSelf),
            Self::OwnHelloTooLarge { .. } | Self::Queue(_) => Some(DisconnectReason::Quitting),
        }
    }
}

/// Why an established connection ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The transport failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The remote closed without a Disconnect.
    #[error("the remote closed the connection")]
    Closed,
    /// What came is not valid.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl StreamError {
    /// What to tell the remote. `None` if it could not be told or could not read it.
    #[must_use]
    pub fn reason(&self) -> Option<DisconnectReason> {
        match self {
            Self::Io(_) | Self::Closed => None,
            Self::Frame(error) => error.reason(),
        }
    }
}
