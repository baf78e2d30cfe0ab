//! The pieces of work the dial scheduler hands out: static and dynamic dials,
//! and resolving a static node whose address is unknown or has changed.

use std::net::SocketAddr;

use tercet_enode::{Host, Node, NodeAddress, NodeId, PublicKey};

use crate::core::ConnId;

/// Why a node is dialed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DialKind {
    /// The user named it; it is dialed until it is removed.
    Static,
    /// Discovery found it.
    Dynamic,
}

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DialTarget {
    /// A known address.
    Addr(SocketAddr),
    /// A host name, resolved before each dial.
    Dns {
        /// The name.
        host: String,
        /// The TCP port.
        port: u16,
    },
}

/// One dial.
#[derive(Debug, Clone, PartialEq)]
pub struct DialTask {
    /// The connection this dial becomes.
    pub conn: ConnId,
    /// Whom.
    pub id: NodeId,
    /// The key the remote must prove, that of `id`.
    pub key: PublicKey,
    /// The contact, when more than the target is known.
    pub node: Option<Node>,
    /// Where.
    pub target: DialTarget,
    /// Why.
    pub kind: DialKind,
}

/// One question to discovery: where is this node now?
#[derive(Debug, Clone, PartialEq)]
pub struct ResolveTask {
    /// Whom to find.
    pub key: PublicKey,
    /// What is known, when an address is.
    pub known: Option<Node>,
}

impl ResolveTask {
    /// The node to find.
    pub fn id(&self) -> NodeId {
        self.key.node_id()
    }
}

/// Where an address as the user typed it leads: `None` when only the identity
/// is known, or a record without a TCP endpoint.
pub(crate) fn target_of(address: &NodeAddress) -> Option<DialTarget> {
    match address {
        NodeAddress::Enode(url) => match url.host()? {
            Host::Ip(ip) => {
                (url.tcp() != 0).then(|| DialTarget::Addr(SocketAddr::new(*ip, url.tcp())))
            }
            Host::Dns(host) => (url.tcp() != 0).then(|| DialTarget::Dns {
                host: host.clone(),
                port: url.tcp(),
            }),
        },
        NodeAddress::Record(record) => record
            .endpoint()
            .and_then(|endpoint| endpoint.tcp_addr())
            .map(DialTarget::Addr),
    }
}
