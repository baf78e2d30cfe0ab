//! Dialing and shutting down, over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // tests
#![allow(clippy::disallowed_methods)] // they start tasks and measure how long limits take

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use tercet_nodedb::NodeDb;
use tercet_rlpx::p2p;
use tercet_server::{
    CommandError, DialError, DisconnectReason, DropReason, NodeAddress, Server, ServerEvent,
    StartError, Timeouts,
};
use tokio::net::TcpListener;
use tokio::sync::Notify;

#[tokio::test]
async fn a_static_peer_is_connected_again_after_a_drop() {
    let b = start(config(key(2)), vec![quiet("q")]).await;
    let a = start(config(key(1)), vec![quiet("q")]).await;
    let mut events = a.subscribe();
    a.add_peer(address(&b)).await.unwrap();
    for _ in 0..3 {
        peer_added(&mut events).await;
        until(|| b.peers().len() == 1).await;
        b.disconnect(key(1).node_id(), DisconnectReason::Requested)
            .await
            .unwrap();
        let reason = peer_dropped(&mut events).await;
        assert_eq!(reason, DropReason::Remote(DisconnectReason::Requested));
    }
    peer_added(&mut events).await;
    a.remove_peer(key(2).node_id()).await.unwrap();
    let reason = peer_dropped(&mut events).await;
    assert_eq!(reason, DropReason::Local(DisconnectReason::Requested));
    assert_eq!(
        a.remove_peer(key(2).node_id()).await,
        Err(CommandError::Unknown)
    );
}

#[tokio::test]
async fn a_static_peer_that_comes_up_late_is_found() {
    // A port nobody listens on, because its listener is gone.
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("enode://{}@{addr}", hex(&key(2).public_key().to_bytes()));
    let a = start(
        config(key(1)).static_nodes([url.parse().unwrap()]),
        vec![quiet("q")],
    )
    .await;
    let mut events = a.subscribe();
    let failed = event(&mut events, |event| match event {
        ServerEvent::DialFailed { error, .. } => Some(error),
        _ => None,
    })
    .await;
    assert_eq!(
        failed,
        DialError::Connect(std::io::ErrorKind::ConnectionRefused)
    );
    let _b = start(config(key(2)).listen(addr), vec![quiet("q")]).await;
    assert_eq!(peer_added(&mut events).await.id, key(2).node_id());
}

#[tokio::test]
async fn a_host_name_is_resolved_when_it_is_dialed() {
    let b = start(config(key(2)), vec![quiet("q")]).await;
    let port = b.local_addr().port();
    let url = format!(
        "enode://{}@localhost:{port}",
        hex(&key(2).public_key().to_bytes())
    );
    let node: NodeAddress = url.parse().unwrap();
    let a = start(config(key(1)).static_nodes([node]), vec![quiet("q")]).await;
    until(|| a.peers().len() == 1).await;
}

#[tokio::test]
async fn a_node_with_another_key_is_not_taken_for_the_one_dialed() {
    let b = start(config(key(2)), vec![quiet("q")]).await;
    let a = start(config(key(1)), vec![quiet("q")]).await;
    let mut events = a.subscribe();
    let url = format!(
        "enode://{}@{}",
        hex(&key(3).public_key().to_bytes()),
        b.local_addr()
    );
    a.add_peer(url.parse().unwrap()).await.unwrap();
    let (id, error) = event(&mut events, |event| match event {
        ServerEvent::DialFailed { id, error, .. } => Some((id, error)),
        _ => None,
    })
    .await;
    assert_eq!(id, key(3).node_id());
    // The other side cannot read what is encrypted to another key and closes.
    assert!(
        matches!(error, DialError::Io(_) | DialError::Handshake),
        "{error:?}"
    );
}

/// Both ends dial at the same moment, many times over: one connection is left,
/// the same one at both ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dialing_each_other_leaves_exactly_one_connection() {
    for round in 0..20u8 {
        let a = start(config(key(2 * round + 1)), vec![quiet("q")]).await;
        let b = start(config(key(2 * round + 2)), vec![quiet("q")]).await;
        let (to_a, to_b) = (address(&a), address(&b));
        let (first, second) = tokio::join!(a.add_peer(to_b), b.add_peer(to_a));
        first.unwrap();
        second.unwrap();
        // Settled: every connection either end accepted has come to something,
        // both see one peer, and it is the same connection.
        let settled = |server: &Server| {
            let m = server.metrics();
            m.accepted == m.peers_in + m.refused + m.setup_failed + m.refused_at_door
        };
        let same = || {
            let (of_a, of_b) = (a.peers(), b.peers());
            let ([pa], [pb]) = (&of_a[..], &of_b[..]) else {
                return false;
            };
            let joined = pa.remote_addr == b.local_addr() || pb.remote_addr == a.local_addr();
            joined && pa.direction != pb.direction && settled(&a) && settled(&b)
        };
        until(same).await;
        let mut lost = a.subscribe();
        soon(a.shutdown()).await;
        let reason = peer_dropped(&mut lost).await;
        assert!(
            matches!(reason, DropReason::Local(_)),
            "round {round}: {reason:?}"
        );
        soon(b.shutdown()).await;
    }
}

#[tokio::test]
async fn shutdown_tells_every_peer_joins_every_run_and_frees_the_port() {
    let ended = Arc::new(Notify::new());
    let ends = Arc::clone(&ended);
    let run = protocol("q", 8, move |_, mut io| {
        let ended = Arc::clone(&ends);
        async move {
            while io.recv().await.is_some() {}
            ended.notify_one();
            Ok(())
        }
    });
    let server = start(config(key(1)), vec![run]).await;
    let addr = server.local_addr();
    let mut peer = greet(&server, &key(9), &["q"]).await;
    until(|| server.peers().len() == 1).await;
    let half = shake_hands(&server, &key(8)).await;
    let stopping = {
        let server = server.clone();
        tokio::spawn(async move { server.shutdown().await })
    };
    let message = soon(peer.read()).await.unwrap();
    assert_eq!(message.id, p2p::DISCONNECT);
    assert_eq!(
        DisconnectReason::decode(&message.payload),
        Ok(DisconnectReason::Quitting)
    );
    drop((peer, half));
    soon(stopping).await.unwrap();
    soon(ended.notified()).await;
    assert_eq!(server.peers().len(), 0);
    assert_eq!(
        server.add_peer(address(&server)).await,
        Err(CommandError::Closed)
    );
    TcpListener::bind(addr).await.unwrap();
    // A second call finds it done.
    soon(server.shutdown()).await;
}

#[tokio::test]
async fn shutdown_is_bounded_when_nobody_plays_along() {
    let timeouts = Timeouts {
        join: Duration::from_millis(200),
        ..quick()
    };
    let server = start(config(key(1)).timeouts(timeouts), vec![deaf("deaf")]).await;
    // The remote neither reads nor closes.
    let peer = greet(&server, &key(9), &["deaf"]).await;
    until(|| server.peers().len() == 1).await;
    let began = std::time::Instant::now();
    soon(server.shutdown()).await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    drop(peer);
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_server() {
    let server = start(config(key(1)), vec![quiet("q")]).await;
    let mut peer = greet(&server, &key(9), &["q"]).await;
    drop(server);
    let message = soon(peer.read()).await.unwrap();
    assert_eq!(
        DisconnectReason::decode(&message.payload),
        Ok(DisconnectReason::Quitting)
    );
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let server = start(config(key(1)), vec![quiet("q")]).await;
    let addr = server.local_addr();
    let config = config(key(2)).listen(addr).build().unwrap();
    let error = Server::start(config, vec![quiet("q")], NodeDb::memory().unwrap()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, StartError::TcpInUse(taken) if taken == addr));
    let expected = format!(
        "TCP address {addr} is already in use: stop the program that listens there or choose another port"
    );
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn the_same_capability_twice_is_refused_at_the_start() {
    let config = config(key(1)).build().unwrap();
    let protocols = vec![quiet("q"), quiet("q")];
    let error = Server::start(config, protocols, NodeDb::memory().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "two protocols announce q/1");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_full_command_queue_is_busy_and_a_slow_subscriber_is_told() {
    let server = start(config(key(1)), vec![quiet("q")]).await;
    let mut slow = server.subscribe();
    // On this one thread the run loop cannot take commands before the test waits.
    let waiting: Vec<_> = (0..100u8)
        .map(|_| {
            let server = server.clone();
            async move { server.remove_trusted(key(9).node_id()).await }
        })
        .collect();
    let answers = futures::future::join_all(waiting).await;
    let busy = answers
        .iter()
        .filter(|answer| **answer == Err(CommandError::Busy))
        .count();
    let unknown = answers
        .iter()
        .filter(|answer| **answer == Err(CommandError::Unknown))
        .count();
    assert_eq!((unknown, busy), (64, 36));

    // More events than are kept: each connection refused is one.
    server.add_trusted(key(7).node_id()).await.unwrap();
    let refused = |events: u64| server.metrics().setup_failed >= events;
    for n in 0..1030u64 {
        let mut stream = tokio::net::TcpStream::connect(server.local_addr())
            .await
            .unwrap();
        // An auth packet announced as longer than any may be.
        tokio::io::AsyncWriteExt::write_all(&mut stream, &[0xff; 2])
            .await
            .unwrap();
        until(|| refused(n + 1)).await;
    }
    let lagged = slow.recv().await.unwrap_err();
    assert_eq!(lagged, tokio::sync::broadcast::error::RecvError::Lagged(6));
}

#[tokio::test]
async fn what_a_host_name_leads_to_must_be_allowed_too() {
    let url = format!(
        "enode://{}@localhost:30303",
        hex(&key(2).public_key().to_bytes())
    );
    let config = config(key(1)).netrestrict(["10.0.0.0/8".parse().unwrap()]);
    let server = start(config, vec![quiet("q")]).await;
    let mut events = server.subscribe();
    server.add_peer(url.parse().unwrap()).await.unwrap();
    let error = event(&mut events, |event| match event {
        ServerEvent::DialFailed { error, .. } => Some(error),
        _ => None,
    })
    .await;
    assert_eq!(error, DialError::NotAllowed);
}
