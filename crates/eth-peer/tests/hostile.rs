//! Peers that do not keep to the rules, over real sockets: each is told to go,
//! and the node goes on with others.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // tests

mod common;

use alloy_primitives::B256;
use common::*;
use std::sync::Arc;
use tercet_eth_peer::wire::{
    Announcement, EthVersion, GetBlockHeaders, HashRequest, MessageId, RawReply, Status,
    WireTransaction, encode_announcements, encode_transactions,
};
use tercet_eth_peer::{ChainBackend, EthEvent, TransferKind, TxPool, local_status};
use tercet_server::DisconnectReason;
use tokio::sync::mpsc;

/// A peer that exchanges Status and then sends these; returns what it is told.
async fn told_after(messages: Vec<(u64, Vec<u8>)>) -> DisconnectReason {
    let mut node = Node::start(1).await;
    let chain = Arc::clone(&node.chain);
    let hostile = by_hand(2, move |mut io| {
        let (chain, messages) = (Arc::clone(&chain), messages.clone());
        async move {
            exchange_status(&mut io, &*chain).await;
            for (id, payload) in messages {
                let _ = io.sender().send(id, payload.into()).await;
            }
            until_closed(&mut io).await;
        }
    })
    .await;
    let mut events = hostile.subscribe();
    node.dial(&hostile).await;
    node.agreed().await;
    let reason = told(&dropped(&mut events).await);
    assert_eq!(told(&node.dropped().await), reason);
    assert!(node.eth.peers().is_empty());

    // An honest one is still welcome.
    let mut honest = Node::start(3).await;
    honest.connect(&mut node).await;
    honest.stop().await;
    node.stop().await;
    hostile.shutdown().await;
    reason
}

#[tokio::test]
async fn block_gossip_ends_the_session() {
    for id in [0x01, 0x07] {
        let reason = told_after(vec![(id, vec![0xc0])]).await;
        assert_eq!(reason, DisconnectReason::SubprotocolError);
    }
}

#[tokio::test]
async fn a_second_status_ends_the_session() {
    let reason = told_after(vec![(0, vec![0xc0])]).await;
    assert_eq!(reason, DisconnectReason::SubprotocolError);
}

#[tokio::test]
async fn an_answer_nobody_asked_for_ends_the_session() {
    let answer = RawReply::encode::<Vec<u8>>(1, &[]);
    let reason = told_after(vec![(MessageId::BlockHeaders.id(), answer)]).await;
    assert_eq!(reason, DisconnectReason::SubprotocolError);
}

#[tokio::test]
async fn a_lie_about_a_transaction_ends_the_session() {
    let mut other = Node::start(9).await;
    let tx = other.transfer(0, TransferKind::Legacy);
    let lie = Announcement {
        kind: 2,
        ..tx.announcement()
    };
    let reason = told_after(vec![
        (
            MessageId::NewPooledTransactionHashes.id(),
            encode_announcements([lie].iter()),
        ),
        (
            MessageId::Transactions.id(),
            encode_transactions([tx.item()].into_iter()),
        ),
    ])
    .await;
    assert_eq!(reason, DisconnectReason::UselessPeer);
    other.stop().await;
}

#[tokio::test]
async fn a_message_before_status_ends_the_session() {
    let mut node = Node::start(1).await;
    let hostile = by_hand(2, |mut io| async move {
        send(&io, MessageId::Transactions, vec![0xc0]).await;
        until_closed(&mut io).await;
    })
    .await;
    let mut events = hostile.subscribe();
    node.dial(&hostile).await;
    assert_eq!(
        told(&dropped(&mut events).await),
        DisconnectReason::SubprotocolError
    );
    assert_eq!(
        told(&node.dropped().await),
        DisconnectReason::SubprotocolError
    );
    node.stop().await;
    hostile.shutdown().await;
}

/// A peer that sends `payloads` and hands on what comes back.
async fn answers(
    node: &mut Node,
    wanted: MessageId,
    payloads: Vec<(MessageId, Vec<u8>)>,
) -> (tercet_server::Server, mpsc::Receiver<bytes::Bytes>) {
    let chain = Arc::clone(&node.chain);
    let (found, results) = mpsc::channel(64);
    let asking = by_hand(2, move |mut io| {
        let (chain, payloads, found) = (Arc::clone(&chain), payloads.clone(), found.clone());
        async move {
            exchange_status(&mut io, &*chain).await;
            for (message, payload) in payloads {
                send(&io, message, payload).await;
            }
            while let Some(answer) = expect(&mut io, wanted).await {
                found.send(answer).await.unwrap();
            }
        }
    })
    .await;
    node.dial(&asking).await;
    node.agreed().await;
    (asking, results)
}

#[tokio::test]
async fn requests_past_all_measure_get_measured_answers() {
    let mut node = Node::start(1).await;
    let huge = GetBlockHeaders {
        request_id: 5,
        start: 2.into(),
        limit: u64::MAX,
        skip: u64::MAX,
        reverse: false,
    };
    let (asking, mut results) = answers(
        &mut node,
        MessageId::BlockHeaders,
        vec![(MessageId::GetBlockHeaders, huge.encode())],
    )
    .await;
    let answer = soon(results.recv()).await.unwrap();
    let reply = RawReply::decode(&answer, 10).unwrap();
    assert_eq!((reply.request_id, reply.items.len()), (5, 1));
    node.stop().await;
    asking.shutdown().await;

    // A hundred thousand unknown hashes, and then one more request.
    let mut node = Node::start(1).await;
    let many = HashRequest {
        request_id: 6,
        hashes: vec![B256::ZERO; 100_000],
    }
    .encode();
    let known = node.chain.canonical_hash(3).unwrap();
    let one = HashRequest {
        request_id: 7,
        hashes: vec![known],
    }
    .encode();
    let payloads = vec![
        (MessageId::GetBlockBodies, many),
        (MessageId::GetBlockBodies, one),
    ];
    let (asking, mut results) = answers(&mut node, MessageId::BlockBodies, payloads).await;
    let first = RawReply::decode(&soon(results.recv()).await.unwrap(), 10).unwrap();
    assert_eq!((first.request_id, first.items.len()), (6, 0));
    let second = RawReply::decode(&soon(results.recv()).await.unwrap(), 10).unwrap();
    assert_eq!((second.request_id, second.items.len()), (7, 1));
    node.stop().await;
    asking.shutdown().await;
}

#[tokio::test]
async fn a_peer_that_announces_and_does_not_answer_does_not_stop_the_transaction() {
    let mut node = Node::start(1).await;
    let mut source = Node::start(3).await;
    let tx: WireTransaction = source.transfer(0, TransferKind::Eip1559);
    let hash = tx.hash();
    let chain = Arc::clone(&node.chain);
    let entry = tx.announcement();
    let (asked, mut was_asked) = mpsc::channel(4);
    let silent = by_hand(2, move |mut io| {
        let (chain, asked) = (Arc::clone(&chain), asked.clone());
        async move {
            exchange_status(&mut io, &*chain).await;
            let announcement = encode_announcements([entry].iter());
            send(&io, MessageId::NewPooledTransactionHashes, announcement).await;
            if expect(&mut io, MessageId::GetPooledTransactions)
                .await
                .is_some()
            {
                asked.send(()).await.unwrap();
            }
            until_closed(&mut io).await;
        }
    })
    .await;
    node.dial(&silent).await;
    node.agreed().await;
    soon(was_asked.recv()).await.unwrap();
    // Now an honest peer has it, too.
    source.eth.submit(tx).await.unwrap();
    source.connect(&mut node).await;
    let added = node
        .event(|event| match event {
            EthEvent::TransactionAdded { hash, .. } => Some(hash),
            _ => None,
        })
        .await;
    assert_eq!(added, hash);
    assert!(node.pool.contains(&hash));
    node.stop().await;
    source.stop().await;
    silent.shutdown().await;
}

#[tokio::test]
async fn another_fork_id_parts() {
    let mut node = Node::start(1).await;
    let chain = Arc::clone(&node.chain);
    let other = by_hand(2, move |mut io| {
        let chain = Arc::clone(&chain);
        async move {
            let Status::Eth69(mut status) =
                local_status(EthVersion::Eth69, chain.network_id(), &*chain)
            else {
                panic!("eth/69 has its own Status")
            };
            status.fork_id.hash.0[0] ^= 1;
            let status = Status::Eth69(status).encode();
            send(&io, MessageId::Status, status).await;
            until_closed(&mut io).await;
        }
    })
    .await;
    let mut events = other.subscribe();
    node.dial(&other).await;
    assert_eq!(
        told(&dropped(&mut events).await),
        DisconnectReason::SubprotocolError
    );
    assert_eq!(
        told(&node.dropped().await),
        DisconnectReason::SubprotocolError
    );
    assert!(node.eth.peers().is_empty());
    node.stop().await;
    other.shutdown().await;
}
