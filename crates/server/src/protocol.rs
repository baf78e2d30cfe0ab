//! What a sub-protocol must be to run over a connection. The server knows no
//! concrete protocol: everything above Hello comes in through [`Protocol`].

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tercet_enode::NodeRecord;
use tercet_rlpx::{Capability, DisconnectReason};

use crate::peer::{Fault, Peer, ProtocolIo};

/// The running half of a [`Protocol`] for one peer.
pub type ProtocolFuture = Pin<Box<dyn Future<Output = Result<(), ProtocolError>> + Send + 'static>>;

/// A sub-protocol: one name, one version, a fixed number of message ids.
///
/// Two versions of one protocol are two values; a connection runs the highest
/// version both ends have. The server calls [`run`](Protocol::run) once for
/// each peer that shares the capability, and never has two runs of one
/// capability alive for the same peer at the same time: when a connection
/// replaces another, the old run has ended before the new one starts.
pub trait Protocol: Send + Sync + 'static {
    /// Name and version, as announced in Hello.
    fn capability(&self) -> Capability;

    /// How many message ids the protocol occupies. Both ends must use the same
    /// number, since it is not transmitted.
    fn length(&self) -> u64;

    /// The largest payload the protocol accepts, in bytes after decompression.
    /// A larger one is a breach that is found before memory is taken for it.
    /// Default: 2^24 - 1, the largest there can be.
    fn max_message_len(&self) -> usize {
        (1 << 24) - 1
    }

    /// Entries of the node's record that tell others about this protocol: key
    /// and RLP-encoded value. Read once, when the server starts.
    fn record_entries(&self) -> Vec<(Vec<u8>, Bytes)> {
        Vec::new()
    }

    /// Whether a node found by discovery is worth dialing, judged by its record.
    /// A node is dialed when at least one protocol accepts it. Nodes without a
    /// record are not judged.
    fn accepts_candidate(&self, record: &NodeRecord) -> bool {
        let _ = record;
        true
    }

    /// Talks to one peer until either side is done.
    ///
    /// Returning ends the whole connection: `Ok` disconnects with
    /// [`DisconnectReason::Requested`], an error with its own reason. When the
    /// connection ends for another cause, [`ProtocolIo::recv`] yields `None`; a
    /// run that is still there 5 s later is dropped.
    fn run(self: Arc<Self>, peer: Peer, io: ProtocolIo) -> ProtocolFuture;
}

/// Why a protocol ends its peer's connection.
#[derive(Debug, Clone)]
pub struct ProtocolError {
    /// What the remote is told.
    pub reason: DisconnectReason,
    /// Whether the remote is to blame.
    pub fault: Fault,
    /// What exactly happened, for the log.
    pub cause: Option<Arc<dyn Error + Send + Sync>>,
}

impl ProtocolError {
    /// An end that is nobody's fault.
    pub fn new(reason: DisconnectReason) -> Self {
        Self {
            reason,
            fault: Fault::None,
            cause: None,
        }
    }

    /// The remote broke the protocol.
    pub fn breach(reason: DisconnectReason) -> Self {
        Self {
            reason,
            fault: Fault::Breach,
            cause: None,
        }
    }

    /// The same with the cause attached.
    pub fn with_cause(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Arc::new(cause));
        self
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Fault::None => write!(f, "the protocol ended the connection: {}", self.reason),
            Fault::Breach => write!(f, "the remote broke the protocol: {}", self.reason),
        }
    }
}

impl Error for ProtocolError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn Error + 'static))
    }
}
