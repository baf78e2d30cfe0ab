//! [`Discovery`]: what the rest of a program holds. Cheap to clone; requests go to the driver over a bounded queue, state is
//! read from what the driver publishes.
#![allow(clippy::disallowed_methods)] // starts the driver task, and waits for its end in `shutdown`

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tercet_enode::{Endpoint, Node, NodeRecord, SecretKey};
use tercet_machine::{Clock, KeyedState, MachineRng};
use tercet_nodedb::NodeDb;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::DiscoveryConfig;
use crate::core::{Command, FindTarget, Found, Reply, RequestError};
use crate::driver::{
    Background, Beside, Driver, Hand, Published, RecordChange, Request, Shared, TalkHandler,
};
use crate::engine::{PongInfo, Protocol};
use crate::error::{StartError, TalkError};
use crate::iter::RandomNodes;
use crate::kad::TableSnapshot;
use crate::local::EntryError;
use crate::metrics::DiscoveryMetrics;
use crate::pool::{Lanes, Pool};
use crate::socket::Sockets;
use crate::stack::NodeStack;
use crate::target::Target;
use crate::v5::{TalkRegistry, TalkRequest};

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
    v5: bool,
    db: NodeDb,
    cancel: CancellationToken,
    tasks: TaskTracker,
    walk_seed: [u8; 32],
    walks: Arc<AtomicU64>,
}

impl Discovery {
    /// Binds the UDP ports and starts. The first refresh begins at once.
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
        let sockets = Sockets::bind(config.listen(), config.listen_v6)?;
        let (local_addr, local_addr_v6) = (sockets.local_addr(), sockets.local_addr_v6());
        let clock = Clock::start();
        let stored_seq = db.local_seq(&key.node_id()).map_err(StartError::Database)?;
        let (v5, ntp_server) = (config.v5, config.ntp_server.clone());
        let second_reader = config.second_reader;
        let seed = rand::RngExt::random(&mut rng);
        let stack_config = config.into_stack(seed, (local_addr, local_addr_v6));
        let stack = NodeStack::new(stack_config, key, stored_seq, clock.now())
            .map_err(StartError::Record)?;
        let (request_tx, request_rx) = mpsc::channel(MAX_REQUESTS);
        let (record_tx, record_rx) = watch::channel(stack.record().clone());
        let (table_tx, table_rx) = watch::channel(Arc::new(stack.snapshot()));
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
        let shared = Arc::new(Shared::new(clock, db.clone(), stack, lanes, published));
        let mut hand = Hand::new(sockets);
        let beside = match second_reader {
            true => Beside::start(&mut hand, &shared, &cancel),
            false => None,
        };
        let driver = Driver {
            hand,
            pool,
            shared,
            beside,
            talks: TalkRegistry::new(),
            background: Background::new(rng.child("background"), ntp_server),
            db: db.clone(),
            requests: request_rx,
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
            v5,
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

    /// This node as others reach it; as long as its record names no address, as other programs of this machine do.
    #[must_use]
    pub fn local_node(&self) -> Node {
        let record = self.local_record();
        let endpoint = record.endpoint().unwrap_or_else(|| {
            let ip = match self.local_addr.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                ip => ip,
            };
            let tcp = record.tcp4().or(record.tcp6()).unwrap_or(0);
            Endpoint::new(ip, self.local_addr.port(), tcp)
        });
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

    /// What is counted, and its changes.
    #[must_use]
    pub fn metrics_watch(&self) -> watch::Receiver<DiscoveryMetrics> {
        self.metrics.clone()
    }

    /// Pings a node, over the protocol that suits it.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn ping(&self, node: Node) -> Result<PongInfo, RequestError> {
        self.ping_as(node, None).await
    }

    /// Pings a node over one protocol.
    ///
    /// # Errors
    /// See [`RequestError`]; [`RequestError::Unsupported`] if that protocol is switched off.
    pub async fn ping_over(&self, node: Node, over: Protocol) -> Result<PongInfo, RequestError> {
        self.ping_as(node, Some(over)).await
    }

    /// Fetches a node's record from the node itself, over the protocol that suits it.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn request_enr(&self, node: Node) -> Result<NodeRecord, RequestError> {
        self.request_enr_as(node, None).await
    }

    /// Fetches a node's record from the node itself over one protocol.
    ///
    /// # Errors
    /// See [`RequestError`]; [`RequestError::Unsupported`] if that protocol is switched off.
    pub async fn request_enr_over(
        &self,
        node: Node,
        over: Protocol,
    ) -> Result<NodeRecord, RequestError> {
        self.request_enr_as(node, Some(over)).await
    }

    /// Asks one node once for others: over discv4 for those it knows closest to a target, over discv5 for those it knows at
    /// certain distances from itself. Only nodes it may name, none twice, in no order.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn find_node(
        &self,
        node: Node,
        target: FindTarget,
    ) -> Result<Vec<Node>, RequestError> {
        match self.run(Command::FindNode(node, target)).await? {
            Reply::Nodes(nodes) => Ok(nodes),
            _ => Err(RequestError::Closed),
        }
    }

    /// Sends a node a message of another protocol over discv5 and returns its answer, which is empty if the node does not know
    /// the protocol. Name and message together have to fit into a datagram, about 1170 bytes.
    ///
    /// # Errors
    /// See [`RequestError`]; [`RequestError::TooLong`] for a message that does not fit.
    pub async fn talk(
        &self,
        node: Node,
        protocol: impl Into<Bytes>,
        payload: impl Into<Bytes>,
    ) -> Result<Bytes, RequestError> {
        let command = Command::Talk {
            node,
            protocol: protocol.into(),
            payload: payload.into(),
        };
        match self.run(command).await? {
            Reply::Talk(answer) => Ok(answer),
            _ => Err(RequestError::Closed),
        }
    }

    /// Lets `handler` answer the messages of another protocol. It runs as a task of its own for each message; one that ends
    /// without an answer has given an empty one. At most [`MAX_TALKS`](crate::v5::MAX_TALKS) are at work at a time.
    ///
    /// # Errors
    /// See [`TalkError`].
    pub async fn register_talk<F, W>(
        &self,
        protocol: impl Into<Bytes>,
        handler: F,
    ) -> Result<(), TalkError>
    where
        F: Fn(TalkRequest) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        if !self.v5 {
            return Err(TalkError::Unsupported);
        }
        let (reply, result) = oneshot::channel();
        self.request(Request::Register {
            protocol: protocol.into(),
            handler: TalkHandler(Box::new(move |request| Box::pin(handler(request)))),
            reply,
        })
        .map_err(talk_error)?;
        result.await.unwrap_or(Err(TalkError::Closed))
    }

    /// Takes a protocol's handler away; messages it works on are answered all the same. `true` if there was one.
    ///
    /// # Errors
    /// [`RequestError::Busy`] or [`RequestError::Closed`].
    pub async fn unregister_talk(&self, protocol: impl Into<Bytes>) -> Result<bool, RequestError> {
        let (reply, result) = oneshot::channel();
        let protocol = protocol.into();
        self.request(Request::Unregister { protocol, reply })?;
        result.await.map_err(|_| RequestError::Closed)
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

    /// Sets an entry of this node's record; `rlp` is one RLP item. The record is signed and published anew. `true` if that
    /// changed it.
    ///
    /// # Errors
    /// See [`EntryError`].
    pub async fn set_entry(&self, key: &[u8], rlp: Bytes) -> Result<bool, EntryError> {
        let key = key.to_vec();
        self.change(RecordChange::Set { key, rlp }).await
    }

    /// Takes an entry out of this node's record. `true` if that changed it.
    ///
    /// # Errors
    /// See [`EntryError`].
    pub async fn remove_entry(&self, key: &[u8]) -> Result<bool, EntryError> {
        let key = key.to_vec();
        self.change(RecordChange::Remove { key }).await
    }

    /// Sets the RLPx port in this node's record, 0 for none. `true` if that changed it.
    ///
    /// # Errors
    /// See [`EntryError`].
    pub async fn set_tcp_port(&self, port: u16) -> Result<bool, EntryError> {
        self.change(RecordChange::TcpPort(port)).await
    }

    /// Sets the IPv4 address and port others reach this node at, as a port mapping tells it; a port of 0 stands for the one listened
    /// on. It stands whatever others say. `None` takes it back: the record names the address others see once it is found
    /// reachable, or else the one listened on if that is not "any". `true` if that changed the record.
    ///
    /// # Errors
    /// See [`EntryError`]: the address has to be one of a single host, and there has to be an IPv4 socket.
    pub async fn set_advertised(&self, address: Option<SocketAddrV4>) -> Result<bool, EntryError> {
        self.change(RecordChange::Advertised(address)).await
    }

    /// The same for IPv6. An IPv4 address in the form of an IPv6 one belongs to [`set_advertised`](Self::set_advertised).
    ///
    /// # Errors
    /// See [`EntryError`].
    pub async fn set_advertised6(&self, address: Option<SocketAddrV6>) -> Result<bool, EntryError> {
        self.change(RecordChange::Advertised6(address)).await
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

    async fn ping_as(&self, node: Node, over: Option<Protocol>) -> Result<PongInfo, RequestError> {
        match self.run(Command::Ping(node, over)).await? {
            Reply::Pong(pong) => Ok(pong),
            _ => Err(RequestError::Closed),
        }
    }

    async fn request_enr_as(
        &self,
        node: Node,
        over: Option<Protocol>,
    ) -> Result<NodeRecord, RequestError> {
        match self.run(Command::RequestEnr(node, over)).await? {
            Reply::Record(record) => Ok(record),
            _ => Err(RequestError::Closed),
        }
    }

    async fn change(&self, change: RecordChange) -> Result<bool, EntryError> {
        let (reply, result) = oneshot::channel();
        self.request(Request::Change { change, reply })
            .map_err(entry_error)?;
        result.await.unwrap_or(Err(EntryError::Closed))
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

fn talk_error(error: RequestError) -> TalkError {
    match error {
        RequestError::Busy => TalkError::Busy,
        _ => TalkError::Closed,
    }
}
