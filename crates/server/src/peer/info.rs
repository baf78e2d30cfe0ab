//! What is known about a connected peer, as plain data for snapshots and events.

use std::net::SocketAddr;

use tercet_enode::{Node, NodeId};
use tercet_machine::UnixTime;
use tercet_rlpx::Capability;

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The remote dialed us.
    Inbound,
    /// We dialed the remote.
    Outbound,
}

/// A connected peer at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerInfo {
    /// The peer's identity, proven by the handshake.
    pub id: NodeId,
    /// The contact. For an inbound peer it has the source address and TCP port
    /// 0, because the port it listens on is not known from a connection.
    pub node: Node,
    /// The other end of the TCP connection.
    pub remote_addr: SocketAddr,
    /// Who dialed.
    pub direction: Direction,
    /// In the trusted set: not counted against the limits when admitted.
    pub trusted: bool,
    /// In the static set: redialed whenever the connection is lost.
    pub static_node: bool,
    /// The client's name from its Hello, at most 256 bytes of it.
    pub client_id: String,
    /// Everything the remote announced, at most 64 entries of it.
    pub capabilities: Vec<Capability>,
    /// The capabilities that run on this connection.
    pub protocols: Vec<Capability>,
    /// When the connection was admitted.
    pub connected_at: UnixTime,
}

impl PeerInfo {
    /// True when the remote dialed us.
    pub fn inbound(&self) -> bool {
        self.direction == Direction::Inbound
    }
}
