//! A whole node of ours for the live tests: a server with the eth protocol over
//! one chain, on a loopback port, without discovery.

use std::sync::Arc;

use tercet_enode::SecretKey;
use tercet_eth_peer::wire::{EthVersion, Status, WireTransaction};
use tercet_eth_peer::{
    DevAccount, DevTransfer, EthConfig, EthEvent, EthNetwork, MemoryPool, PoolConfig, TransferKind,
    UnknownState,
};
use tercet_nodedb::NodeDb;
use tercet_server::{PeerInfo, Server, ServerConfig};
use tokio::sync::broadcast;
use tokio::time::timeout;

use crate::chain::LiveChain;
use crate::child::LIMIT;
use crate::node::any_port;

/// A running node that offers eth/69 and eth/68.
#[derive(Debug)]
pub struct EthNode {
    /// Its server.
    pub server: Server,
    eth: EthNetwork,
    chain_id: u64,
    events: broadcast::Receiver<EthEvent>,
}

impl EthNode {
    /// Starts a node over `chain`, with an empty pool. It dials nobody by itself.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(key: SecretKey, chain: &LiveChain) -> Self {
        let chain_id = chain.backend.chain_id();
        let pool = MemoryPool::new(PoolConfig::new(chain_id), Arc::new(UnknownState));
        let config = EthConfig::new(key.node_id());
        let eth = EthNetwork::new(config, Arc::clone(&chain.backend), Arc::new(pool)).unwrap();
        let events = eth.subscribe();
        let config = ServerConfig::builder(key)
            .listen(any_port())
            .client_id("tercet-tests")
            .build()
            .unwrap();
        let db = NodeDb::memory().unwrap();
        let server = Server::start(config, eth.protocols(), db).await.unwrap();
        Self {
            server,
            eth,
            chain_id,
            events,
        }
    }

    /// Waits until the next peer has agreed on Status: the connection, the version
    /// and what the peer said.
    ///
    /// # Panics
    /// After [`LIMIT`].
    pub async fn agreed(&mut self) -> (PeerInfo, EthVersion, Status) {
        let agreed = async {
            let (id, version, status) = loop {
                if let EthEvent::StatusAgreed {
                    peer,
                    version,
                    status,
                } = self.events.recv().await.unwrap()
                {
                    break (peer, version, status);
                }
            };
            let mut peers = self.server.peers_watch();
            let of_peer = |peers: &Arc<[PeerInfo]>| peers.iter().any(|info| info.id == id);
            let peers = peers.wait_for(of_peer).await.unwrap();
            let info = peers.iter().find(|info| info.id == id).unwrap();
            (info.clone(), version, status)
        };
        let agreed = timeout(LIMIT, agreed).await;
        agreed.expect("a peer agrees on Status")
    }

    /// Submits a transfer of nothing from `account` to itself.
    ///
    /// # Panics
    /// When the pool does not take it.
    pub async fn transfer(&self, account: &mut DevAccount) -> WireTransaction {
        let tx = account.transfer(DevTransfer {
            chain_id: self.chain_id,
            to: account.address(),
            value: Default::default(),
            kind: TransferKind::Eip1559,
        });
        let hash = self.eth.submit(tx.clone()).await.unwrap();
        assert_eq!(hash, tx.hash());
        tx
    }

    /// Takes leave of the peers and ends.
    pub async fn shutdown(self) {
        self.server.shutdown().await;
        self.eth.shutdown().await;
    }
}
