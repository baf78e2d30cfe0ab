//! What goes into the server's machine and what comes out.

use std::net::SocketAddr;

use tercet_enode::{Node, NodeId, PublicKey};
use tercet_rlpx::{Capability, DisconnectReason};

use crate::dial::{DialTask, ResolveTask};
use crate::event::{DialError, DropReason, ServerEvent};
use crate::peer::PeerInfo;
use crate::peers::penalty::Rule;

/// Names a connection from its first moment to its end. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub(super) u64);

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerInput {
    /// A TCP connection was accepted.
    Incoming {
        /// Its name, from [`ServerCore::next_conn`](super::ServerCore::next_conn).
        conn: ConnId,
        /// The remote address.
        addr: SocketAddr,
    },
    /// The encrypted handshake is over. It proves a dialed remote's key; an
    /// inbound one's is proven by its Hello.
    Authenticated {
        /// The connection.
        conn: ConnId,
        /// The key.
        key: PublicKey,
        /// The remote address.
        addr: SocketAddr,
    },
    /// Both Hellos are exchanged.
    Greeted {
        /// The connection.
        conn: ConnId,
        /// The client's name.
        client_id: String,
        /// What the remote announced.
        capabilities: Vec<Capability>,
    },
    /// The set-up failed at any stage before the peer runs.
    SetupFailed {
        /// The connection.
        conn: ConnId,
        /// Why.
        error: DialError,
    },
    /// A refused connection is closed.
    RefusalDone(ConnId),
    /// A peer's connection and all its protocols have ended.
    PeerEnded {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: DropReason,
        /// The rule it broke.
        rule: Option<Rule>,
    },
    /// Discovery found a node that the protocols do not object to.
    Candidate(Node),
    /// Discovery's answer to a resolve task.
    Resolved {
        /// The node that was asked for.
        id: NodeId,
        /// What was found, if it is newer than what was known.
        found: Option<Node>,
    },
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerOutput {
    /// Connect and shake hands; report `Authenticated` or `SetupFailed`.
    Dial(DialTask),
    /// Ask discovery; report `Resolved`.
    Resolve(ResolveTask),
    /// Shake hands with an accepted connection; report as for a dial.
    Handshake(ConnId),
    /// Close a connection that has no session; nothing is reported.
    Close(ConnId),
    /// Tell the remote and close; report `RefusalDone`.
    Reject {
        /// The connection.
        conn: ConnId,
        /// What the remote is told.
        reason: DisconnectReason,
    },
    /// Exchange Hellos; report `Greeted` or `SetupFailed`.
    Hello(ConnId),
    /// Run the protocols; report `PeerEnded`.
    Launch {
        /// The connection.
        conn: ConnId,
        /// The peer.
        info: Box<PeerInfo>,
    },
    /// End a running peer; `PeerEnded` follows.
    Disconnect {
        /// The connection.
        conn: ConnId,
        /// What the remote is told.
        reason: DisconnectReason,
    },
    /// Tell subscribers.
    Event(ServerEvent),
}
