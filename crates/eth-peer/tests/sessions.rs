//! Sessions between two nodes in one process, over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // tests

mod common;

use alloy_eips::BlockHashOrNumber;
use common::*;
use tercet_enode::NodeRecord;
use tercet_eth_peer::wire::EthVersion;
use tercet_eth_peer::{
    ChainBackend, DevChainConfig, EthEvent, RequestError, TransferKind, TxPool, verify_body,
    verify_receipts,
};
use tercet_server::{DisconnectReason, DropReason};

/// Starts two nodes that must not get along, and returns the reason told.
async fn parting(one: NodeConfig, two: NodeConfig) -> DisconnectReason {
    let mut one = Node::start_with(1, one).await;
    let mut two = Node::start_with(2, two).await;
    one.dial(&two.server).await;
    let (first, second) = (one.dropped().await, two.dropped().await);
    assert_eq!(told(&first), told(&second), "{first}; {second}");
    let is_local = |reason: &DropReason| !matches!(reason, DropReason::Remote(_));
    assert!(
        is_local(&first) || is_local(&second),
        "nobody disconnected: {first}; {second}"
    );
    assert!(one.eth.peers().is_empty() && two.eth.peers().is_empty());
    let reason = told(&first);
    one.stop().await;
    two.stop().await;
    reason
}

#[tokio::test]
async fn another_network_id_parts() {
    let other = NodeConfig {
        network_id: Some(99),
        ..NodeConfig::default()
    };
    let reason = parting(NodeConfig::default(), other).await;
    assert_eq!(reason, DisconnectReason::SubprotocolError);
}

#[tokio::test]
async fn another_genesis_parts() {
    let chain = DevChainConfig {
        accounts: 3,
        ..DevChainConfig::default()
    };
    let other = NodeConfig {
        chain,
        ..NodeConfig::default()
    };
    let reason = parting(NodeConfig::default(), other).await;
    assert_eq!(reason, DisconnectReason::SubprotocolError);
}

#[tokio::test]
async fn both_versions_agree_and_the_higher_one_wins() {
    for (offered, expected) in [
        (vec![EthVersion::Eth68], EthVersion::Eth68),
        (
            vec![EthVersion::Eth69, EthVersion::Eth68],
            EthVersion::Eth69,
        ),
    ] {
        let mut one = Node::start(1).await;
        let config = NodeConfig {
            versions: offered,
            ..NodeConfig::default()
        };
        let mut two = Node::start_with(2, config).await;
        one.dial(&two.server).await;
        assert_eq!(one.agreed().await, expected);
        assert_eq!(two.agreed().await, expected);
        let peers = one.eth.peers();
        assert_eq!(peers.len(), 1);
        assert_eq!(peers[0].id(), key(2).node_id());
        assert_eq!(peers[0].status().head_hash(), two.chain.head().hash);
        let range = (expected == EthVersion::Eth69).then(|| two.chain.range());
        assert_eq!(peers[0].range(), range);
        one.stop().await;
        two.stop().await;
    }
}

#[tokio::test]
async fn headers_bodies_and_receipts_are_served_in_both_versions() {
    for version in EthVersion::ALL {
        let mut one = Node::start(1).await;
        let config = NodeConfig {
            versions: vec![version],
            ..NodeConfig::default()
        };
        let mut two = Node::start_with(2, config).await;
        one.connect(&mut two).await;
        let peer = one.eth.peers()[0].clone();

        let headers = soon(peer.headers(BlockHashOrNumber::Number(1), 100, 0, false))
            .await
            .unwrap();
        assert_eq!(headers.len(), 8);
        let head = headers.last().unwrap();
        assert_eq!(head.hash_slow(), two.chain.head().hash);

        let hashes: Vec<_> = headers.iter().map(|header| header.hash_slow()).collect();
        let bodies = soon(peer.bodies(hashes.clone())).await.unwrap();
        assert_eq!(bodies.len(), 8);
        for (header, body) in headers.iter().zip(&bodies) {
            verify_body(header, body).unwrap();
        }

        let blocks: Vec<_> = hashes.iter().map(|hash| (*hash, 4)).collect();
        let receipts = soon(peer.receipts(&blocks)).await.unwrap();
        assert_eq!(receipts.len(), 8);
        for (header, receipts) in headers.iter().zip(&receipts) {
            verify_receipts(header, receipts).unwrap();
        }

        // What is not there gets an empty answer.
        let none = soon(peer.headers(BlockHashOrNumber::Number(1000), 5, 0, false))
            .await
            .unwrap();
        assert!(none.is_empty());
        assert!(two.eth.stats().served >= 4);

        two.stop().await;
        one.dropped().await;
        let late = soon(peer.headers(BlockHashOrNumber::Number(1), 1, 0, false)).await;
        assert_eq!(late, Err(RequestError::Closed));
        one.stop().await;
    }
}

#[tokio::test]
async fn a_transaction_reaches_the_other_side_once() {
    let mut one = Node::start(1).await;
    let mut two = Node::start(2).await;
    one.connect(&mut two).await;
    let mut hashes = Vec::new();
    for account in 0..10 {
        for kind in [TransferKind::Legacy, TransferKind::Eip1559] {
            let tx = one.transfer(account, kind);
            hashes.push(one.eth.submit(tx).await.unwrap());
        }
    }
    let mut left = hashes.len();
    let from = key(1).node_id();
    while left > 0 {
        two.event(|event| match event {
            EthEvent::TransactionAdded { from: Some(id), .. } if id == from => Some(()),
            EthEvent::TransactionRefused { reason, .. } => panic!("{reason}"),
            _ => None,
        })
        .await;
        left -= 1;
    }
    assert!(hashes.iter().all(|hash| two.pool.contains(hash)));

    // Then one the other way; when it has come, an echo would have come too,
    // because messages of a session keep their order.
    let mut account = one.accounts[12].clone();
    let tx = account.transfer(tercet_eth_peer::DevTransfer {
        chain_id: 1337,
        to: account.address(),
        value: alloy_primitives::U256::ONE,
        kind: TransferKind::Legacy,
    });
    let hash = two.eth.submit(tx).await.unwrap();
    let added = one
        .event(|event| match event {
            EthEvent::TransactionAdded {
                hash,
                from: Some(_),
            } => Some(hash),
            _ => None,
        })
        .await;
    assert_eq!(added, hash);
    assert_eq!(one.eth.stats().txs_seen, 1);
    assert_eq!(one.eth.stats().announced, 0);
    assert_eq!(two.eth.stats().txs_seen, 20);
    assert_eq!(two.eth.stats().duplicates, 0);
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_newcomer_is_told_of_the_pool_and_fetches_it() {
    let mut one = Node::start(1).await;
    let mut hashes = Vec::new();
    for account in 0..16 {
        for _ in 0..20 {
            let tx = one.transfer(account, TransferKind::Eip1559);
            hashes.push(one.eth.submit(tx).await.unwrap());
        }
    }
    let mut two = Node::start(2).await;
    one.connect(&mut two).await;
    for _ in 0..hashes.len() {
        two.event(|event| match event {
            EthEvent::TransactionAdded { .. } => Some(()),
            EthEvent::TransactionRefused { reason, .. } => panic!("{reason}"),
            _ => None,
        })
        .await;
    }
    assert!(hashes.iter().all(|hash| two.pool.contains(hash)));
    // Two requests of at most 256.
    assert_eq!(one.eth.stats().served, 2);
    assert_eq!(two.eth.stats().announced, 320);
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_chain_that_moves_back_is_told_of() {
    let mut one = Node::start(1).await;
    let mut two = Node::start(2).await;
    one.connect(&mut two).await;
    assert_eq!(two.eth.peers()[0].range().unwrap().latest, 8);
    one.chain.rewind(5);
    one.eth.chain_changed().await;
    let range = two
        .event(|event| match event {
            EthEvent::RangeUpdated { range, .. } => Some(range),
            _ => None,
        })
        .await;
    assert_eq!(range, one.chain.range());
    assert_eq!(two.eth.peers()[0].range(), Some(range));
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn transactions_cross_a_line_of_nodes() {
    let mut nodes = Vec::new();
    for number in 1..=5 {
        nodes.push(Node::start(number).await);
    }
    for index in 1..nodes.len() {
        let (left, right) = nodes.split_at_mut(index);
        left[index - 1].connect(&mut right[0]).await;
    }
    let mut hashes = Vec::new();
    for account in 0..10 {
        let tx = nodes[0].transfer(account, TransferKind::Eip1559);
        hashes.push(nodes[0].eth.submit(tx).await.unwrap());
    }
    let last = &mut nodes[4];
    for _ in 0..hashes.len() {
        last.event(|event| match event {
            EthEvent::TransactionAdded { .. } => Some(()),
            _ => None,
        })
        .await;
    }
    for node in &nodes {
        assert!(hashes.iter().all(|hash| node.pool.contains(hash)));
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test]
async fn records_tell_the_chain_and_candidates_are_judged_by_it() {
    let node = Node::start(1).await;
    let ours = node.chain.fork_id();
    let entry = node
        .server
        .local_record()
        .eth()
        .expect("no eth entry in the record");
    assert_eq!((entry.fork_hash, entry.fork_next), (ours.hash.0, ours.next));

    let protocol = node.eth.protocols().remove(0);
    let record = |hash: Option<[u8; 4]>| {
        let builder = NodeRecord::builder().seq(1);
        let builder = match hash {
            Some(hash) => builder.eth(hash, 0),
            None => builder,
        };
        builder.sign(&key(2)).unwrap()
    };
    assert!(protocol.accepts_candidate(&record(Some(ours.hash.0))));
    assert!(!protocol.accepts_candidate(&record(Some([1, 2, 3, 4]))));
    // Without an entry nothing speaks for it.
    assert!(!protocol.accepts_candidate(&record(None)));
    node.stop().await;
}
