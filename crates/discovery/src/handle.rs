//! [`Discovery`]: what the rest of a program holds. Cheap to clone; requests go to the driver over a bounded queue, state is
//! read from what the driver publishes.
#![allow(clippy::disallowed_methods)] // starts the driver task, and waits for its end in `shutdown`

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tercet_enode::{Endpoint, Node, NodeRecord, SecretKey};
use tercet_machine::{Clock, KeyedState, MachineRng};
use tercet_nodedb::{NodeDb, Write};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::DiscoveryConfig;
use crate::core::{Command, CoreConfig, DiscoveryCore, Found, Reply, RequestError};
use crate::driver::{Driver, Published, Request};
use crate::engine::{PongInfo, Protocols};
use crate::error::StartError;
use crate::iter::RandomNodes;
use crate::kad::TableSnapshot;
use crate::local::{EntryError, LocalNode, advertised};
use crate::metrics::DiscoveryMetrics;
use crate::mux::Demux;
use crate::pool::{Lanes, Pool};
use crate::socket::Sockets;
use crate::target::Target;

/// Requests waiting for the driver; a further one is [`RequestError::Busy`].
pub const MAX_REQUESTS: usize = 64;

/// A running discovery service.
///
/// It ends with [`shutdown`](Self::shutdown), or when the last clone has been dropped.
#[derive(Clone, Debug)]
pub struct Discovery {
    requests: mpsc::Sender<Request>,
    record: watch::Receiver<NodeRecord>,
    table: watch::Receiver<Arc<TableSnapshot>>,
    metrics: watch::Receiver<DiscoveryMetrics>,
    local_addr: SocketAddr,
    local_addr_v6: Option<SocketAddr>,
    db: NodeDb,
    cancel: CancellationToken,
    tasks: TaskTracker,
    walk_seed: [u8; 32],
    walks: Arc<AtomicU64>,
}

impl Discovery {
    /// Binds the UDP port and starts. The first refresh begins at once.
    ///
    /// # Errors
    /// See [`StartError`]; a port that is taken is [`StartError::Bind`], which names the address.
    pub async fn start(
        config: DiscoveryConfig,
        key: SecretKey,
        db: NodeDb,
    ) -> Result<Self, StartError> {
        config.check()?;
        let mut rng = match config.seed {
            Some(seed) => MachineRng::from_seed(seed),
            None => MachineRng::from_system().map_err(StartError::Randomness)?,
        };
        let sockets = Sockets::bind(config.listen, config.listen_v6)?;
        let (local_addr, local_addr_v6) = (sockets.local_addr(), sockets.local_addr_v6());
        let clock = Clock::start();
        let now = clock.now();
        let udp = advertised(local_addr, config.advertised_ip);
        let stored_seq = db.local_seq(&key.node_id()).map_err(StartError::Database)?;
        let entries = config.entries.into_iter().collect();
        let local = LocalNode::new(key, udp, config.tcp_port, entries, stored_seq, now.unix)
            .map_err(StartError::Record)?;
        let record = local.record().clone();
        let saved = db.write(Write::LocalSeq {
            id: record.id(),
            seq: record.seq(),
        });
        if let Err(error) = saved {
            tracing::warn!(%error, "the record's sequence number is not saved");
        }
        let core_config = CoreConfig {
            bootnodes: config.bootnodes,
            netrestrict: config.netrestrict,
            refresh_interval: config.refresh_interval,
            reply_timeout: config.reply_timeout,
            protocols: Protocols::V4,
            ..CoreConfig::new(rand::RngExt::random(&mut rng))
        };
        let core = DiscoveryCore::new(core_config, record.clone(), now);
        let (request_tx, request_rx) = mpsc::channel(MAX_REQUESTS);
        let (record_tx, record_rx) = watch::channel(record.clone());
        let (table_tx, table_rx) = watch::channel(Arc::new(core.snapshot()));
        let (metrics_tx, metrics_rx) = watch::channel(DiscoveryMetrics::default());
        let cancel = CancellationToken::new();
        let published = Published {
            record: record_tx,
            table: table_tx,
            metrics: metrics_tx,
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = Pool::start(workers).map_err(StartError::Threads)?;
        let lanes = Lanes::new(KeyedState::new(&mut rng.child("lanes")));
        let walk_seed = rand::RngExt::random(&mut rng);
        let driver = Driver {
            sockets,
            demux: Demux::new(&record.id()),
            pool,
            lanes,
            core,
            local,
            db: db.clone(),
            clock,
            rng,
            requests: request_rx,
            published,
            cancel: cancel.clone(),
        };
        let tasks = TaskTracker::new();
        tasks.spawn(driver.run());
        tasks.close();
        Ok(Self {
            requests: request_tx,
            record: record_rx,
            table: table_rx,
            metrics: metrics_rx,
            local_addr,
            local_addr_v6,
            db,
            cancel,
            tasks,
            walk_seed,
            walks: Arc::new(AtomicU64::new(0)),
        })
    }

    /// Where the socket is bound, with the port the system chose if 0 was asked for.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where the IPv6 socket beside it is bound, if there is one.
    #[must_use]
    pub const fn local_addr_v6(&self) -> Option<SocketAddr> {
        self.local_addr_v6
    }

    /// This node's record as it stands now.
    #[must_use]
    pub fn local_record(&self) -> NodeRecord {
        self.record.borrow().clone()
    }

    /// This node's record and its changes.
    #[must_use]
    pub fn local_record_watch(&self) -> watch::Receiver<NodeRecord> {
        self.record.clone()
    }

    /// This node as others reach it.
    #[must_use]
    pub fn local_node(&self) -> Node {
        let record = self.local_record();
        let endpoint = record.endpoint().unwrap_or(Endpoint::new(
            self.local_addr.ip(),
            self.local_addr.port(),
            0,
        ));
        let node = Node::new(record.public_key(), endpoint);
        node.clone().with_record(record).unwrap_or(node)
    }

    /// The table as it stands now.
    #[must_use]
    pub fn table(&self) -> Arc<TableSnapshot> {
        Arc::clone(&self.table.borrow())
    }

    /// The table and its changes.
    #[must_use]
    pub fn table_watch(&self) -> watch::Receiver<Arc<TableSnapshot>> {
        self.table.clone()
    }

    /// What has been counted so far.
    #[must_use]
    pub fn metrics(&self) -> DiscoveryMetrics {
        *self.metrics.borrow()
    }

    /// Pings a node.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn ping(&self, node: Node) -> Result<PongInfo, RequestError> {
        match self.run(Command::Ping(node, None)).await? {
            Reply::Pong(pong) => Ok(pong),
            _ => Err(RequestError::Closed),
        }
    }

    /// Fetches a node's record from the node itself.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn request_enr(&self, node: Node) -> Result<NodeRecord, RequestError> {
        match self.run(Command::RequestEnr(node, None)).await? {
            Reply::Record(record) => Ok(record),
            _ => Err(RequestError::Closed),
        }
    }

    /// Finds the nodes closest to `target`: at most 16, closest first, all of which have answered.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn lookup(&self, target: impl Into<Target>) -> Result<Vec<Node>, RequestError> {
        match self.run(Command::Lookup(target.into())).await? {
            Reply::Found(found) => Ok(found.closest),
            _ => Err(RequestError::Closed),
        }
    }

    /// Looks for something newer about a node than what is given: a higher sequence number or another endpoint. `None` if
    /// there is nothing newer.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn resolve(&self, node: Node) -> Result<Option<Node>, RequestError> {
        match self.run(Command::Resolve(node)).await? {
            Reply::Resolved(node) => Ok(node),
            _ => Err(RequestError::Closed),
        }
    }

    /// Refreshes the table, or waits for the refresh under way.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn refresh(&self) -> Result<(), RequestError> {
        self.run(Command::Refresh).await.map(|_| ())
    }

    /// Sets an entry of this node's record; `rlp` is one RLP item. The record is signed and published anew.
    ///
    /// # Errors
    /// See [`EntryError`].
    pub async fn set_entry(&self, key: &[u8], rlp: Bytes) -> Result<(), EntryError> {
        let (reply, result) = oneshot::channel();
        self.request(Request::SetEntry {
            key: key.to_vec(),
            rlp,
            reply,
        })
        .map_err(entry_error)?;
        result.await.unwrap_or(Err(EntryError::Closed))
    }

    /// Sets the RLPx port in this node's record, 0 for none.
    ///
    /// # Errors
    /// See [`EntryError`].
    pub async fn set_tcp_port(&self, port: u16) -> Result<(), EntryError> {
        let (reply, result) = oneshot::channel();
        self.request(Request::SetTcpPort { port, reply })
            .map_err(entry_error)?;
        result.await.unwrap_or(Err(EntryError::Closed))
    }

    /// An endless walk through the network, for whoever looks for peers.
    #[must_use]
    pub fn random_nodes(&self) -> RandomNodes {
        let walk = self.walks.fetch_add(1, Ordering::Relaxed);
        let mut rng = MachineRng::from_seed(self.walk_seed);
        RandomNodes::new(self.clone(), rng.child(&walk.to_string()))
    }

    /// Stops: the port is free, live nodes are in the database and the database is flushed when it returns. Requests under
    /// way end with [`RequestError::Closed`].
    pub async fn shutdown(&self) {
        self.cancel.cancel();
        self.tasks.wait().await;
        if let Err(error) = self.db.flush().await {
            tracing::warn!(%error, "the node database was not flushed");
        }
    }

    /// A lookup of a random target.
    pub(crate) async fn find_random(&self) -> Result<Found, RequestError> {
        match self.run(Command::LookupRandom).await? {
            Reply::Found(found) => Ok(found),
            _ => Err(RequestError::Closed),
        }
    }

    /// Ends when the driver has.
    pub(crate) async fn closed(&self) {
        self.requests.closed().await;
    }

    async fn run(&self, command: Command) -> Result<Reply, RequestError> {
        let (reply, result) = oneshot::channel();
        self.request(Request::Run { command, reply })?;
        result.await.unwrap_or(Err(RequestError::Closed))
    }

    fn request(&self, request: Request) -> Result<(), RequestError> {
        self.requests
            .try_send(request)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => RequestError::Busy,
                mpsc::error::TrySendError::Closed(_) => RequestError::Closed,
            })
    }
}

fn entry_error(error: RequestError) -> EntryError {
    match error {
        RequestError::Busy => EntryError::Busy,
        _ => EntryError::Closed,
    }
}
