//! The `Server` handle: a cheap clone whose methods are commands to the run
//! loop, or reads of what it publishes.

use std::net::SocketAddr;
use std::sync::Arc;

use tercet_discovery::{Discovery, MixHandle, Source, SourceError};
use tercet_enode::{EnodeUrl, Node, NodeAddress, NodeId, NodeRecord};
use tercet_nodedb::NodeDb;
use tercet_rlpx::DisconnectReason;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::config::ServerConfig;
use crate::driver::{Command, Order};
use crate::error::{CommandError, StartError};
use crate::event::ServerEvent;
use crate::metrics::{Counters, ServerMetrics};
use crate::peer::PeerInfo;
use crate::protocol::Protocol;
use crate::start;

/// A running server. Clones are handles of the same one; when the last is
/// dropped it shuts down by itself, though nobody can wait for that then.
#[derive(Debug, Clone)]
pub struct Server {
    pub(crate) shared: Arc<ServerShared>,
}

#[derive(Debug)]
pub(crate) struct ServerShared {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) sources: MixHandle,
    pub(crate) events: broadcast::Sender<ServerEvent>,
    pub(crate) peers: watch::Receiver<Arc<[PeerInfo]>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) cancel: CancellationToken,
    pub(crate) done: CancellationToken,
    pub(crate) discovery: Option<Discovery>,
    /// As it was at the start; with discovery, discovery has the current one.
    pub(crate) node: Node,
    pub(crate) record: NodeRecord,
    pub(crate) local_addr: SocketAddr,
}

impl Server {
    /// Starts a server in this order: the node table and discovery's UDP port
    /// (if there is discovery), then the TCP port, then the node's record is
    /// completed with the TCP port and the protocols' entries, then the run
    /// loop starts. What had been started is stopped again when a step fails.
    pub async fn start(
        config: ServerConfig,
        protocols: Vec<Arc<dyn Protocol>>,
        db: NodeDb,
    ) -> Result<Server, StartError> {
        start::start(config, protocols, db).await
    }

    /// The TCP address the server listens on, with the port the system chose if
    /// the configuration left it open.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr
    }

    /// This node as others can dial it, as far as that is known.
    pub fn local_node(&self) -> Node {
        match &self.shared.discovery {
            Some(discovery) => discovery.local_node(),
            None => self.shared.node.clone(),
        }
    }

    /// This node as an enode URL.
    pub fn enode(&self) -> EnodeUrl {
        self.local_node().enode_url()
    }

    /// This node's signed record, current.
    pub fn local_record(&self) -> NodeRecord {
        match &self.shared.discovery {
            Some(discovery) => discovery.local_record(),
            None => self.shared.record.clone(),
        }
    }

    /// Discovery, if it runs.
    pub fn discovery(&self) -> Option<&Discovery> {
        self.shared.discovery.as_ref()
    }

    /// The connected peers, oldest first.
    pub fn peers(&self) -> Arc<[PeerInfo]> {
        Arc::clone(&self.shared.peers.borrow())
    }

    /// The connected peers, whenever they change.
    pub fn peers_watch(&self) -> watch::Receiver<Arc<[PeerInfo]>> {
        self.shared.peers.clone()
    }

    /// What happens from now on. The channel holds 1024 events; a receiver that
    /// falls behind gets `Lagged(n)` and goes on with the oldest it can have.
    pub fn subscribe(&self) -> broadcast::Receiver<ServerEvent> {
        self.shared.events.subscribe()
    }

    /// What has been counted since the start.
    pub fn metrics(&self) -> ServerMetrics {
        self.shared.counters.snapshot()
    }

    /// Stays connected to a node: dials it now and whenever the connection is
    /// lost. At most 1024 such nodes.
    pub async fn add_peer(&self, address: NodeAddress) -> Result<(), CommandError> {
        self.order(Order::AddStatic(Box::new(address))).await
    }

    /// Undoes [`add_peer`](Self::add_peer) and disconnects the node.
    pub async fn remove_peer(&self, id: NodeId) -> Result<(), CommandError> {
        self.order(Order::RemoveStatic(id)).await
    }

    /// Lets a node in above every limit. At most 1024 such nodes.
    pub async fn add_trusted(&self, id: NodeId) -> Result<(), CommandError> {
        self.order(Order::AddTrusted(id)).await
    }

    /// Undoes [`add_trusted`](Self::add_trusted); a connected node stays.
    pub async fn remove_trusted(&self, id: NodeId) -> Result<(), CommandError> {
        self.order(Order::RemoveTrusted(id)).await
    }

    /// Adds a source of nodes to dial: a DNS list, a file, an RPC. The sources
    /// (discovery's walk is one, named "discovery") take turns, none can crowd out
    /// the others, and one that has ended is dropped. At most 64; a further one is
    /// left out with a warning. Sources are read only while there are slots to
    /// fill; up to 16 changes wait for that.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn add_source(&self, source: Source) -> Result<(), SourceError> {
        self.shared.sources.add(source)
    }

    /// Drops the sources with this name.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn remove_source(&self, label: &str) -> Result<(), SourceError> {
        self.shared.sources.remove(label)
    }

    /// Ends a peer's connection with a reason.
    pub async fn disconnect(
        &self,
        id: NodeId,
        reason: DisconnectReason,
    ) -> Result<(), CommandError> {
        self.order(Order::Disconnect(id, reason)).await
    }

    /// Ends the server and waits until it has ended: every peer has been told
    /// "client quitting" (or could not be within 2 s), the protocols' runs are
    /// over (or were dropped after 5 s), discovery has saved its nodes, the
    /// database is flushed. Calling it again waits for the same end.
    pub async fn shutdown(&self) {
        self.shared.cancel.cancel();
        self.shared.done.cancelled().await;
    }

    async fn order(&self, order: Order) -> Result<(), CommandError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.shared.commands.try_send(Command { order, answer });
        sent.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CommandError::Busy,
            mpsc::error::TrySendError::Closed(_) => CommandError::Closed,
        })?;
        answered.await.unwrap_or(Err(CommandError::Closed))
    }
}
