//! One node of a devnet: real sockets, its own key and its own RocksDB in a temporary folder, and the observer that turns
//! what happens to it into facts.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use tempfile::TempDir;
use tercet_discovery::{DiscoveryConfig, TableSnapshot};
use tercet_enode::{Node, NodeId};
use tercet_eth_peer::{
    ChainBackend, EthConfig, EthNetwork, MemoryPool, PoolConfig, StateView, TxPool as _,
};
use tercet_machine::{Clock, MonoTime};
use tercet_nodedb::NodeDb;
use tercet_server::{Server, ServerConfig};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::facts::NodeFacts;
use crate::cmd;
use crate::error::CliError;

/// Loopback, a port the system chooses.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What all members share.
pub(super) struct Shared {
    pub(super) chain: Arc<dyn ChainBackend>,
    pub(super) state: Arc<dyn StateView>,
    pub(super) max_peers: usize,
    pub(super) clock: Clock,
    pub(super) started: MonoTime,
    /// The transactions to inject.
    pub(super) txs: Arc<[B256]>,
}

impl Shared {
    /// Time since the devnet's start.
    pub(super) fn elapsed(&self) -> Duration {
        self.clock.now().mono - self.started
    }
}

/// A running node.
pub(super) struct Member {
    pub(super) server: Server,
    pub(super) eth: EthNetwork,
    pub(super) facts: watch::Receiver<NodeFacts>,
    db: NodeDb,
    stop: CancellationToken,
    observer: JoinHandle<()>,
    /// Deleted when dropped, which must come after the database is closed.
    folder: TempDir,
}

impl Member {
    /// Starts a node that knows `boot`, or nobody.
    pub(super) async fn start(shared: &Arc<Shared>, boot: Option<Node>) -> Result<Self, CliError> {
        let folder = tempfile::Builder::new()
            .prefix("tercet-devnet-")
            .tempdir()
            .map_err(CliError::TempDir)?;
        let path = folder.path().join("nodes");
        let (db, _report) = tokio::task::spawn_blocking(move || NodeDb::open(path))
            .await
            .map_err(CliError::Task)?
            .map_err(CliError::Database)?;
        let pool = Arc::new(MemoryPool::new(
            PoolConfig::new(shared.chain.chain_id()),
            Arc::clone(&shared.state),
        ));
        let key = cmd::new_key();
        let eth = EthNetwork::new(
            EthConfig::new(key.node_id()),
            Arc::clone(&shared.chain),
            Arc::clone(&pool) as _,
        )
        .map_err(CliError::Eth)?;
        let discovery = DiscoveryConfig::builder()
            .listen(LISTEN)
            .bootnodes(boot.into_iter().collect())
            .build()
            .map_err(CliError::DiscoveryConfig)?;
        let config = ServerConfig::builder(key)
            .listen(LISTEN)
            .discovery(discovery)
            .client_id(cmd::client_id(Some("devnet")))
            .max_peers(shared.max_peers)
            .build()
            .map_err(CliError::ServerConfig)?;
        let server = Server::start(config, eth.protocols(), db.clone())
            .await
            .map_err(CliError::Server)?;
        let (publish, facts) = watch::channel(NodeFacts::default());
        let stop = CancellationToken::new();
        let observer = Observer {
            missing: shared.txs.to_vec(),
            pool_len: 0,
            shared: Arc::clone(shared),
            server: server.clone(),
            eth: eth.clone(),
            pool,
            publish,
        };
        let observer = tokio::spawn(observer.run(stop.clone()));
        Ok(Self {
            server,
            eth,
            facts,
            db,
            stop,
            observer,
            folder,
        })
    }

    pub(super) fn id(&self) -> NodeId {
        self.server.local_node().id()
    }

    /// Stops everything and removes the node's folder.
    pub(super) async fn shutdown(self) -> Result<(), CliError> {
        self.stop.cancel();
        self.observer.await.map_err(CliError::Task)?;
        self.server.shutdown().await;
        self.eth.shutdown().await;
        self.db.shutdown().await.map_err(CliError::Store)?;
        self.folder.close().map_err(CliError::TempDir)
    }
}

/// Looks at one node whenever something happened to it. Events only wake it; what it reports are snapshots, so an event
/// missed under load costs nothing.
struct Observer {
    shared: Arc<Shared>,
    /// Injected transactions that its pool did not hold at the last look.
    missing: Vec<B256>,
    /// Length of the pool at the last look: only a change is worth asking for each transaction.
    pool_len: usize,
    server: Server,
    eth: EthNetwork,
    pool: Arc<MemoryPool>,
    publish: watch::Sender<NodeFacts>,
}

impl Observer {
    async fn run(mut self, stop: CancellationToken) {
        let Some(mut table) = self
            .server
            .discovery()
            .map(|discovery| discovery.table_watch())
        else {
            return;
        };
        let mut peers = self.server.peers_watch();
        let mut agreed = self.eth.peers_watch();
        let mut events = self.eth.subscribe();
        loop {
            let snapshot = Arc::clone(&table.borrow_and_update());
            peers.mark_unchanged();
            agreed.mark_unchanged();
            self.look(&snapshot);
            let alive = tokio::select! {
                () = stop.cancelled() => false,
                changed = table.changed() => changed.is_ok(),
                changed = peers.changed() => changed.is_ok(),
                changed = agreed.changed() => changed.is_ok(),
                event = events.recv() => !matches!(event, Err(RecvError::Closed)),
            };
            if !alive {
                return;
            }
            // One look serves all events that are there by now.
            while !matches!(
                events.try_recv(),
                Err(TryRecvError::Empty | TryRecvError::Closed)
            ) {}
        }
    }

    fn look(&mut self, table: &TableSnapshot) {
        let now = self.shared.elapsed();
        let peers = self.server.peers();
        let agreed = self.eth.peers().iter().map(|peer| peer.id()).collect();
        let inbound = peers.iter().filter(|peer| peer.inbound()).count();
        let pool_len = self.pool.len();
        if pool_len != self.pool_len {
            self.pool_len = pool_len;
            self.missing.retain(|hash| !self.pool.contains(hash));
        }
        let txs = self.shared.txs.len() - self.missing.len();
        let duplicates = self.eth.stats().duplicates;
        self.publish.send_modify(|facts| {
            if peers.len() > facts.peers_in + facts.peers_out {
                facts.first_peer.get_or_insert(now);
                facts.last_peer = Some(now);
            }
            if txs > facts.txs {
                facts.last_tx = Some(now);
            }
            facts.table = table.len();
            facts.peers_in = inbound;
            facts.peers_out = peers.len() - inbound;
            facts.agreed = agreed;
            facts.txs = txs;
            facts.duplicates = duplicates;
        });
    }
}
