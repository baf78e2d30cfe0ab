//! Two nodes in one process, over TCP on loopback; a transaction submitted at
//! one reaches the other.
#![allow(clippy::indexing_slicing)] // an example

use std::sync::Arc;
use tercet_eth_peer::{
    DevChain, DevChainConfig, DevTransfer, EthConfig, EthEvent, EthNetwork, MemoryPool, PoolConfig,
    TransferKind,
};
use tercet_server::{NodeAddress, NodeDb, SecretKey, Server, ServerConfig};

type Error = Box<dyn std::error::Error>;

async fn node(number: u8, config: &DevChainConfig) -> Result<(Server, EthNetwork), Error> {
    let key = SecretKey::from_bytes(&[number; 32])?;
    let (chain, state, _) = DevChain::build(config)?.into_parts();
    let pool = MemoryPool::new(PoolConfig::new(config.chain_id), Arc::new(state));
    let eth = EthNetwork::new(
        EthConfig::new(key.node_id()),
        Arc::new(chain),
        Arc::new(pool),
    )?;
    let config = ServerConfig::builder(key)
        .listen("127.0.0.1:0".parse()?)
        .build()?;
    let server = Server::start(config, eth.protocols(), NodeDb::memory()?).await?;
    Ok((server, eth))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let config = DevChainConfig::default();
    let (one, eth_one) = node(1, &config).await?;
    let (two, eth_two) = node(2, &config).await?;
    let mut events = eth_two.subscribe();
    one.add_peer(NodeAddress::Enode(two.enode())).await?;

    let mut account = DevChain::build(&config)?.accounts()[0].clone();
    let (chain_id, to) = (config.chain_id, account.address());
    let value = alloy_primitives::U256::from(1);
    let kind = TransferKind::Eip1559;
    let hash = eth_one
        .submit(account.transfer(DevTransfer {
            chain_id,
            to,
            value,
            kind,
        }))
        .await?;
    loop {
        match events.recv().await? {
            EthEvent::TransactionAdded { hash: added, .. } if added == hash => break,
            other => println!("{other:?}"),
        }
    }
    println!("{hash} arrived");
    two.shutdown().await;
    one.shutdown().await;
    Ok(())
}
