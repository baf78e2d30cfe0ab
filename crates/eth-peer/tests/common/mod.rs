//! What the tests over real sockets share: nodes on loopback that run the eth
//! protocol over a made-up chain, and peers that speak it by hand.
#![allow(dead_code, unreachable_pub)] // each test binary uses its own part
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tercet_enode::SecretKey;
use tercet_eth_peer::wire::{EthVersion, MessageId};
use tercet_eth_peer::{
    ChainBackend, DevAccount, DevChain, DevChainConfig, DevTransfer, EthConfig, EthEvent,
    EthNetwork, MemoryChain, MemoryPool, PoolConfig, TransferKind, TxPool, local_status,
};

use tercet_server::{
    Capability, DisconnectReason, DropReason, NodeAddress, NodeDb, Payload, Peer, Protocol,
    ProtocolFuture, ProtocolIo, Server, ServerConfig, ServerEvent,
};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// Far more than anything here takes; a test that needs it has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32]).unwrap()
}

/// A node with the eth protocol.
pub struct Node {
    pub server: Server,
    pub eth: EthNetwork,
    pub chain: Arc<MemoryChain>,
    pub pool: Arc<MemoryPool>,
    pub accounts: Vec<DevAccount>,
    pub events: Receiver<EthEvent>,
    pub server_events: Receiver<ServerEvent>,
}

/// What a node should be like.
pub struct NodeConfig {
    pub chain: DevChainConfig,
    pub network_id: Option<u64>,
    pub versions: Vec<EthVersion>,
}

impl Default for NodeConfig {
    fn default() -> Self {
        NodeConfig {
            chain: DevChainConfig::default(),
            network_id: None,
            versions: EthVersion::ALL.to_vec(),
        }
    }
}

impl Node {
    pub async fn start(number: u8) -> Node {
        Self::start_with(number, NodeConfig::default()).await
    }

    pub async fn start_with(number: u8, config: NodeConfig) -> Node {
        let chain_id = config.chain.chain_id;
        let (chain, state, accounts) = DevChain::build(&config.chain).unwrap().into_parts();
        let chain = Arc::new(chain);
        let pool = Arc::new(MemoryPool::new(PoolConfig::new(chain_id), Arc::new(state)));
        let backend = Arc::clone(&chain) as Arc<dyn ChainBackend>;
        let eth_config = EthConfig {
            network_id: config.network_id,
            seed: Some([number; 32]),
            ..EthConfig::new(key(number).node_id())
        };
        let eth = EthNetwork::new(eth_config, backend, Arc::clone(&pool) as _).unwrap();
        let offered: Vec<u32> = config
            .versions
            .iter()
            .map(|version| version.number())
            .collect();
        let mut protocols = eth.protocols();
        protocols.retain(|protocol| offered.contains(&protocol.capability().version));
        let server = start_server(number, protocols).await;
        let (events, server_events) = (eth.subscribe(), server.subscribe());
        Node {
            server,
            eth,
            chain,
            pool,
            accounts,
            events,
            server_events,
        }
    }

    /// Dials another node.
    pub async fn dial(&self, other: &Server) {
        self.server
            .add_peer(NodeAddress::Enode(other.enode()))
            .await
            .unwrap();
    }

    /// Dials another node and waits until both agreed on Status.
    pub async fn connect(&mut self, other: &mut Node) {
        self.dial(&other.server).await;
        self.agreed().await;
        other.agreed().await;
    }

    /// Waits until the next peer agreed on Status.
    pub async fn agreed(&mut self) -> EthVersion {
        self.event(|event| match event {
            EthEvent::StatusAgreed { version, .. } => Some(version),
            _ => None,
        })
        .await
    }

    /// Waits for an event.
    pub async fn event<T>(&mut self, pick: impl FnMut(EthEvent) -> Option<T>) -> T {
        wait(&mut self.events, pick).await
    }

    /// Waits until a peer is dropped.
    pub async fn dropped(&mut self) -> DropReason {
        dropped(&mut self.server_events).await
    }

    pub fn transfer(
        &mut self,
        account: usize,
        kind: TransferKind,
    ) -> tercet_eth_peer::wire::WireTransaction {
        let chain_id = self.chain.chain_id();
        let transfer = DevTransfer {
            chain_id,
            to: alloy_primitives::Address::repeat_byte(7),
            value: alloy_primitives::U256::ONE,
            kind,
        };
        self.accounts[account].transfer(transfer)
    }

    pub async fn stop(self) {
        self.server.shutdown().await;
        self.eth.shutdown().await;
    }
}

pub async fn start_server(number: u8, protocols: Vec<Arc<dyn Protocol>>) -> Server {
    let config = ServerConfig::builder(key(number))
        .listen("127.0.0.1:0".parse().unwrap())
        .build()
        .unwrap();
    Server::start(config, protocols, NodeDb::memory().unwrap())
        .await
        .unwrap()
}

pub async fn dropped(events: &mut Receiver<ServerEvent>) -> DropReason {
    wait(events, |event| match event {
        ServerEvent::PeerDropped { reason, .. } => Some(reason),
        _ => None,
    })
    .await
}

pub async fn wait<E: Clone, T>(
    events: &mut Receiver<E>,
    mut pick: impl FnMut(E) -> Option<T>,
) -> T {
    soon(async {
        loop {
            match events.recv().await {
                Ok(event) => {
                    if let Some(found) = pick(event) {
                        return found;
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => panic!("no more events"),
            }
        }
    })
    .await
}

pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("nothing happened")
}

/// The reason told, whichever side tells it.
pub fn told(reason: &DropReason) -> DisconnectReason {
    match reason {
        DropReason::Local(reason) | DropReason::Remote(reason) => *reason,
        DropReason::Protocol { reason, .. } => *reason,
        other => panic!("{other}"),
    }
}

type Script = dyn Fn(Peer, ProtocolIo) -> ProtocolFuture + Send + Sync;

/// eth by hand: what it says is in a script.
pub struct ByHand {
    version: EthVersion,
    script: Box<Script>,
}

impl Protocol for ByHand {
    fn capability(&self) -> Capability {
        Capability::new("eth", self.version.number()).unwrap()
    }

    fn length(&self) -> u64 {
        self.version.length()
    }

    fn run(self: Arc<Self>, peer: Peer, io: ProtocolIo) -> ProtocolFuture {
        (self.script)(peer, io)
    }
}

/// A server whose eth/69 says what `script` says.
pub async fn by_hand<F>(
    number: u8,
    script: impl Fn(ProtocolIo) -> F + Send + Sync + 'static,
) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    let script = move |_, io| -> ProtocolFuture {
        let talk = script(io);
        Box::pin(async move {
            talk.await;
            Ok(())
        })
    };
    let protocol = ByHand {
        version: EthVersion::Eth69,
        script: Box::new(script),
    };
    start_server(number, vec![Arc::new(protocol)]).await
}

/// Sends the Status of `chain` and reads the other side's.
pub async fn exchange_status(io: &mut ProtocolIo, chain: &dyn ChainBackend) {
    let status = local_status(EthVersion::Eth69, chain.network_id(), chain);
    send(io, MessageId::Status, status.encode()).await;
    let message = io.recv().await.unwrap();
    assert_eq!(message.id, MessageId::Status.id());
}

pub async fn send(io: &ProtocolIo, message: MessageId, payload: Vec<u8>) {
    // The other side may have had enough already.
    let _ = io.sender().send(message.id(), Payload::from(payload)).await;
}

/// Reads until a message of this kind comes; `None` when the session ends.
pub async fn expect(io: &mut ProtocolIo, wanted: MessageId) -> Option<Bytes> {
    while let Some(message) = io.recv().await {
        if message.id == wanted.id() {
            return Some(message.payload.bytes().clone());
        }
    }
    None
}

/// Reads until the session ends.
pub async fn until_closed(io: &mut ProtocolIo) {
    while io.recv().await.is_some() {}
}

/// Whether the pool has it; for conditions that events announce.
pub fn has(node: &Node, hash: alloy_primitives::B256) -> bool {
    node.pool.contains(&hash)
}
