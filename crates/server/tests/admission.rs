//! Who gets in, over real sockets: every refused peer is told why.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // tests
#![allow(clippy::disallowed_methods)] // they start tasks and measure how long limits take

mod common;

use std::time::{Duration, Instant};

use common::*;
use tercet_rlpx::{Hello, HelloError};
use tercet_server::{
    CommandError, DialError, DisconnectReason, DropReason, Limits, NodeId, RefuseReason, Server,
    ServerEvent,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::broadcast;

/// What a stranger is told instead of, or after, Hello.
async fn told(server: &Server, n: u8, names: &[&str]) -> DisconnectReason {
    let stream = shake_hands(server, &key(n)).await;
    let error = match soon(stream.hello(hello(&key(n), names))).await {
        Err(error) => error,
        Ok(mut stream) => {
            let message = soon(stream.read()).await.unwrap();
            return DisconnectReason::decode(&message.payload).unwrap();
        }
    };
    match error {
        HelloError::Disconnected(reason) => reason,
        other => panic!("{other}"),
    }
}

async fn refusal(events: &mut broadcast::Receiver<ServerEvent>) -> (Option<NodeId>, RefuseReason) {
    event(events, |event| match event {
        ServerEvent::InboundRefused { id, reason, .. } => Some((id, reason)),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn too_many_peers_is_told_before_hello() {
    // One slot in all; it is for a dialed peer, so none for inbound ones.
    let server = start(config(key(1)).max_peers(1), vec![quiet("q")]).await;
    let mut events = server.subscribe();
    assert_eq!(
        told(&server, 9, &["q"]).await,
        DisconnectReason::TooManyPeers
    );
    let (id, reason) = refusal(&mut events).await;
    assert_eq!(
        (id, reason),
        (Some(key(9).node_id()), RefuseReason::TooManyPeers)
    );

    // Two: one of them inbound.
    let server = start(config(key(2)).max_peers(2), vec![quiet("q")]).await;
    let mut events = server.subscribe();
    let first = greet(&server, &key(8), &["q"]).await;
    peer_added(&mut events).await;
    assert_eq!(
        told(&server, 9, &["q"]).await,
        DisconnectReason::TooManyPeers
    );
    drop(first);
    peer_dropped(&mut events).await;
    let _second = greet(&server, &key(9), &["q"]).await;
    assert_eq!(peer_added(&mut events).await.id, key(9).node_id());
}

#[tokio::test]
async fn trusted_peers_bypass_every_limit() {
    let trusted = [key(7).node_id()];
    let config = config(key(1)).max_peers(0).trusted_nodes(trusted);
    let server = start(config, vec![quiet("q")]).await;
    let mut events = server.subscribe();
    let _seven = greet(&server, &key(7), &["q"]).await;
    assert!(peer_added(&mut events).await.trusted);
    assert_eq!(
        told(&server, 8, &["q"]).await,
        DisconnectReason::TooManyPeers
    );
    server.add_trusted(key(8).node_id()).await.unwrap();
    let _eight = greet(&server, &key(8), &["q"]).await;
    assert_eq!(peer_added(&mut events).await.id, key(8).node_id());
    server.remove_trusted(key(8).node_id()).await.unwrap();
    assert!(!server.peers()[1].trusted, "it stays, as any other peer");
    assert_eq!(
        server.remove_trusted(key(8).node_id()).await,
        Err(CommandError::Unknown)
    );
    assert_eq!(
        server.add_trusted(key(1).node_id()).await,
        Err(CommandError::Itself)
    );
}

#[tokio::test]
async fn a_second_connection_is_already_connected() {
    let server = start(config(key(1)), vec![quiet("q")]).await;
    let mut events = server.subscribe();
    let _first = greet(&server, &key(9), &["q"]).await;
    peer_added(&mut events).await;
    assert_eq!(
        told(&server, 9, &["q"]).await,
        DisconnectReason::AlreadyConnected
    );
    assert_eq!(server.peers().len(), 1);
}

#[tokio::test]
async fn without_a_shared_capability_a_peer_is_useless() {
    let server = start(config(key(1)), vec![quiet("q")]).await;
    assert_eq!(
        told(&server, 9, &["other"]).await,
        DisconnectReason::UselessPeer
    );
}

#[tokio::test]
async fn a_hello_with_another_identity_is_told_and_banned() {
    let server = start(config(key(1)), vec![quiet("q")]).await;
    let mut events = server.subscribe();
    let stream = shake_hands(&server, &key(9)).await;
    let lie = Hello::new("liar", vec![capability("q")], key(8).public_key());
    // The server may have sent its own Hello before it saw ours.
    let reason = match soon(stream.hello(lie)).await {
        Err(HelloError::Disconnected(reason)) => reason,
        Ok(mut stream) => {
            let message = soon(stream.read()).await.unwrap();
            DisconnectReason::decode(&message.payload).unwrap()
        }
        Err(other) => panic!("{other}"),
    };
    assert_eq!(reason, DisconnectReason::UnexpectedIdentity);
    let (id, reason) = refusal(&mut events).await;
    assert_eq!(
        (id, reason),
        (Some(key(9).node_id()), RefuseReason::UnexpectedIdentity)
    );
    assert_eq!(
        told(&server, 9, &["q"]).await,
        DisconnectReason::UselessPeer
    );
}

#[tokio::test]
async fn addresses_outside_the_allowed_networks_are_closed_before_any_byte() {
    let config = config(key(1)).netrestrict(["10.0.0.0/8".parse().unwrap()]);
    let server = start(config, vec![quiet("q")]).await;
    let mut events = server.subscribe();
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let read = soon(stream.read(&mut [0; 1])).await;
    assert!(read.is_err() || read.is_ok_and(|read| read == 0));
    assert_eq!(refusal(&mut events).await, (None, RefuseReason::NotAllowed));
    // Nor are they dialed.
    let other = start(common::config(key(2)), vec![quiet("q")]).await;
    let added = server.add_peer(address(&other)).await;
    assert_eq!(added, Err(CommandError::NotAllowed));
}

#[tokio::test]
async fn loopback_is_not_throttled() {
    let server = start(config(key(1)), vec![quiet("q")]).await;
    let mut events = server.subscribe();
    for _ in 0..20 {
        let stream = greet(&server, &key(9), &["q"]).await;
        peer_added(&mut events).await;
        drop(stream);
        peer_dropped(&mut events).await;
    }
    assert_eq!(server.metrics().refused_at_door, 0);
}

#[tokio::test]
async fn a_slow_handshake_is_cut_after_five_seconds() {
    let server = start(config(key(1)), vec![quiet("q")]).await;
    let mut events = server.subscribe();
    // One that says nothing at all, and one that shakes hands but says no Hello.
    let began = Instant::now();
    let mut silent = TcpStream::connect(server.local_addr()).await.unwrap();
    let half = shake_hands(&server, &key(9)).await;
    let read = soon(silent.read(&mut [0; 1])).await;
    assert!(read.is_err() || read.is_ok_and(|read| read == 0));
    let mut reasons = [refusal(&mut events).await.1, refusal(&mut events).await.1];
    reasons.sort_by_key(|reason| format!("{reason:?}"));
    assert_eq!(reasons, [RefuseReason::SetupTimeout; 2]);
    let took = began.elapsed();
    assert!(
        (Duration::from_secs(4)..Duration::from_secs(9)).contains(&took),
        "{took:?}"
    );
    drop(half);
}

#[tokio::test]
async fn stalled_sources_do_not_block_those_who_wait() {
    let limits = Limits {
        max_pending: 4,
        ..Limits::default()
    };
    let server = start(config(key(1)).limits(limits), vec![quiet("q")]).await;
    let mut events = server.subscribe();
    let mut stalled = Vec::new();
    for _ in 0..4 {
        stalled.push(TcpStream::connect(server.local_addr()).await.unwrap());
    }
    let began = Instant::now();
    let _honest = greet(&server, &key(9), &["q"]).await;
    assert_eq!(peer_added(&mut events).await.id, key(9).node_id());
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "before the handshakes time out"
    );
    assert_eq!(server.metrics().refused_at_door, 1);
}

#[tokio::test]
async fn a_dialer_that_is_refused_knows_why_and_backs_off() {
    let full = start(config(key(1)).max_peers(0), vec![quiet("q")]).await;
    let server = start(config(key(2)), vec![quiet("q")]).await;
    let mut events = server.subscribe();
    server.add_peer(address(&full)).await.unwrap();
    let mut waits = Vec::new();
    for _ in 0..3 {
        let (error, wait) = event(&mut events, |event| match event {
            ServerEvent::DialFailed {
                error, retry_after, ..
            } => Some((error, retry_after)),
            _ => None,
        })
        .await;
        assert_eq!(error, DialError::Refused(DisconnectReason::TooManyPeers));
        waits.push(wait);
    }
    // Loopback: a seventh of the interval of 70 ms; eight of those for "too many
    // peers", and no more than that for a static node.
    assert_eq!(waits, [Duration::from_millis(80); 3]);
}

#[tokio::test]
async fn a_peer_that_is_disconnected_hears_the_reason() {
    let server = start(config(key(1)), vec![quiet("q")]).await;
    let mut events = server.subscribe();
    let mut peer = greet(&server, &key(9), &["q"]).await;
    peer_added(&mut events).await;
    let id = key(9).node_id();
    server
        .disconnect(id, DisconnectReason::UselessPeer)
        .await
        .unwrap();
    let message = soon(peer.read()).await.unwrap();
    assert_eq!(
        DisconnectReason::decode(&message.payload),
        Ok(DisconnectReason::UselessPeer)
    );
    drop(peer);
    let reason = peer_dropped(&mut events).await;
    assert_eq!(reason, DropReason::Local(DisconnectReason::UselessPeer));
    let again = server.disconnect(id, DisconnectReason::Requested).await;
    assert_eq!(again, Err(CommandError::Unknown));
}
