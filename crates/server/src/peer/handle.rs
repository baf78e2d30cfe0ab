//! The handle a protocol holds of its peer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tercet_enode::{Node, NodeId};
use tercet_rlpx::{Capability, DisconnectReason};
use tokio::sync::Notify;

use crate::peer::PeerInfo;

/// A connected peer: cheap to clone, usable from any task. It stays valid after
/// the connection has ended; disconnecting then does nothing.
#[derive(Debug, Clone)]
pub struct Peer {
    shared: Arc<PeerShared>,
}

#[derive(Debug)]
struct PeerShared {
    info: PeerInfo,
    trusted: AtomicBool,
    static_node: AtomicBool,
    // The first reason wins, so any number of callers needs one slot.
    wanted: OnceLock<DisconnectReason>,
    wake: Notify,
}

impl Peer {
    pub(crate) fn new(info: PeerInfo) -> Self {
        let trusted = AtomicBool::new(info.trusted);
        let static_node = AtomicBool::new(info.static_node);
        let (wanted, wake) = (OnceLock::new(), Notify::new());
        Self {
            shared: Arc::new(PeerShared {
                info,
                trusted,
                static_node,
                wanted,
                wake,
            }),
        }
    }

    /// The identity, proven by the handshake.
    pub fn id(&self) -> NodeId {
        self.shared.info.id
    }

    /// The contact; see [`PeerInfo::node`] for inbound peers.
    pub fn node(&self) -> &Node {
        &self.shared.info.node
    }

    /// The other end of the TCP connection.
    pub fn remote_addr(&self) -> SocketAddr {
        self.shared.info.remote_addr
    }

    /// True when the remote dialed us.
    pub fn inbound(&self) -> bool {
        self.shared.info.inbound()
    }

    /// Whether the peer is in the trusted set now.
    pub fn trusted(&self) -> bool {
        self.shared.trusted.load(Ordering::Relaxed)
    }

    /// Whether the peer is in the static set now.
    pub fn static_node(&self) -> bool {
        self.shared.static_node.load(Ordering::Relaxed)
    }

    /// The client's name from its Hello.
    pub fn client_id(&self) -> &str {
        &self.shared.info.client_id
    }

    /// Everything the remote announced.
    pub fn capabilities(&self) -> &[Capability] {
        &self.shared.info.capabilities
    }

    /// Asks for the connection to end. The first reason given is the one the
    /// remote is told; later calls change nothing.
    pub fn disconnect(&self, reason: DisconnectReason) {
        if self.shared.wanted.set(reason).is_ok() {
            self.shared.wake.notify_one();
        }
    }

    /// All of it as plain data.
    pub fn info(&self) -> PeerInfo {
        let mut info = self.shared.info.clone();
        info.trusted = self.trusted();
        info.static_node = self.static_node();
        info
    }

    pub(crate) fn set_trusted(&self, trusted: bool) {
        self.shared.trusted.store(trusted, Ordering::Relaxed);
    }

    pub(crate) fn set_static(&self, static_node: bool) {
        self.shared
            .static_node
            .store(static_node, Ordering::Relaxed);
    }

    /// Waits until somebody asks for the end. Only the peer's own task waits.
    pub(crate) async fn disconnect_wanted(&self) -> DisconnectReason {
        loop {
            if let Some(reason) = self.shared.wanted.get() {
                return *reason;
            }
            self.shared.wake.notified().await;
        }
    }
}
