//! What goes into the session machine and comes out of it, as types; the machine itself is beside.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use tercet_enode::{NodeId, NodeRecord, PublicKey};

use super::message::{Message, WireMessage};

/// Whom a message is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct V5Peer {
    /// The node.
    pub id: NodeId,
    /// Its key, without which no handshake can be begun. Needed for requests; a response goes over the session its request
    /// came through.
    pub key: Option<PublicKey>,
}

/// A packet's nonce: unique under one key, and what a WHOAREYOU quotes to say which packet it is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Nonce([u8; 12]);

impl Nonce {
    /// Wraps the 12 bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }

    /// The bytes as they stand in the header.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum SessionInput {
    /// A datagram came in. It is decrypted in place.
    Datagram {
        /// The UDP source.
        from: SocketAddr,
        /// Its bytes.
        datagram: BytesMut,
    },
    /// A message is to be sent. A request without a session waits for the handshake it begins; a response without a session
    /// is dropped.
    Send {
        /// Where to.
        to: SocketAddr,
        /// Whom to.
        peer: V5Peer,
        /// What.
        message: Message,
    },
    /// The answer to [`SessionOutput::Unknown`], to be given at once.
    Challenge {
        /// As in the output.
        from: SocketAddr,
        /// As in the output.
        id: NodeId,
        /// As in the output.
        nonce: Nonce,
        /// The newest record of `id` that is known, if any: the other side is told its sequence number and sends its record
        /// only if it has a newer one.
        known: Option<NodeRecord>,
    },
    /// The local record changed.
    LocalRecord(NodeRecord),
}

/// What to do.
#[derive(Clone, PartialEq, Debug)]
pub enum SessionOutput {
    /// Send a datagram.
    Send {
        /// Where to.
        to: SocketAddr,
        /// Its bytes.
        datagram: Bytes,
    },
    /// A message came through a session. Records in it are not verified yet.
    Message {
        /// The UDP source.
        from: SocketAddr,
        /// Who sent it.
        id: NodeId,
        /// What it says.
        message: WireMessage,
    },
    /// A handshake was completed: the node `id` has shown that it holds its key and receives at `from`. Comes before the
    /// messages of the session.
    Established {
        /// The session's address.
        from: SocketAddr,
        /// The session's node.
        id: NodeId,
        /// The newest record of the node that the handshake relied on: the one it sent, or the one that was known. Verified.
        /// `None` where this node began the handshake, as the other side then sends none.
        record: Option<NodeRecord>,
        /// Whether the other side began the handshake.
        inbound: bool,
    },
    /// A packet cannot be read: say what is known of its sender with [`SessionInput::Challenge`].
    Unknown {
        /// The UDP source.
        from: SocketAddr,
        /// Who the sender says it is. Unproven.
        id: NodeId,
        /// The packet's nonce.
        nonce: Nonce,
    },
}
