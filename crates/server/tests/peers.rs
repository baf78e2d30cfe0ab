//! Peers over real sockets: a protocol's life, isolation between protocols, the
//! base protocol, the ends of a connection.
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

use bytes::Bytes;
use common::*;
use tercet_rlpx::p2p;
use tercet_server::{
    DisconnectReason, DropReason, Fault, INBOX_MESSAGES, Payload, ProtocolError, Rule, SendError,
    ServerEvent, Timeouts,
};
use tokio::sync::{Notify, mpsc};

/// First message id of the only, or alphabetically first, capability.
const FIRST: u64 = 0x10;

#[tokio::test]
async fn two_servers_run_a_protocol_of_their_own() {
    let (heard, mut hears) = mpsc::channel(1);
    let asks = protocol("echo", 8, move |peer, mut io| {
        let heard = heard.clone();
        async move {
            assert!(!peer.inbound());
            io.sender().send(7, payload(b"hello")).await.unwrap();
            let message = io.recv().await.unwrap();
            heard
                .send((message.id, message.payload.bytes().clone()))
                .await
                .unwrap();
            while io.recv().await.is_some() {}
            Ok(())
        }
    });
    let b = start(config(key(2)).client_id("bee"), vec![echo("echo")]).await;
    let a = start(config(key(1)).static_nodes([address(&b)]), vec![asks]).await;
    let (id, bytes) = soon(hears.recv()).await.unwrap();
    assert_eq!((id, &bytes[..]), (7, &b"hello"[..]));

    let peers = a.peers();
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0].id, b.local_node().id());
    assert_eq!(peers[0].client_id, "bee");
    assert_eq!(peers[0].protocols, [capability("echo")]);
    assert!(peers[0].static_node && !peers[0].inbound());
    assert_eq!(a.metrics().peers_out, 1);

    let mut dropped = b.subscribe();
    soon(a.shutdown()).await;
    let reason = peer_dropped(&mut dropped).await;
    assert_eq!(reason, DropReason::Remote(DisconnectReason::Quitting));
    soon(b.shutdown()).await;
}

#[tokio::test]
async fn a_protocol_that_never_reads_stalls_neither_pings_nor_another_protocol() {
    let server = start(config(key(1)), vec![deaf("busy"), echo("echo")]).await;
    let mut peer = greet(&server, &key(9), &["busy", "echo"]).await;
    // As many messages as the busy protocol's inbox holds.
    for _ in 0..INBOX_MESSAGES {
        peer.queue(FIRST, &payload(b"\xc0")).unwrap();
        if !peer.has_room() {
            soon(peer.flush()).await.unwrap();
        }
    }
    peer.queue(p2p::PING, &Payload::empty_list()).unwrap();
    assert_eq!(soon(peer.read()).await.unwrap().id, p2p::PONG);
    peer.queue(FIRST + 8 + 3, &payload(b"still here")).unwrap();
    let answer = soon(peer.read()).await.unwrap();
    assert_eq!(
        (answer.id, &answer.payload[..]),
        (FIRST + 8 + 3, &b"still here"[..])
    );
    assert_eq!(server.metrics().inbox_full, 0);
    drop(peer);
}

#[tokio::test]
async fn a_full_inbox_stops_reading_while_our_pings_go_out_and_then_disconnects() {
    let timeouts = Timeouts {
        ping: Duration::from_millis(100),
        inbox: Duration::from_millis(500),
        join: Duration::from_millis(50),
        ..quick()
    };
    let server = start(config(key(1)).timeouts(timeouts), vec![deaf("busy")]).await;
    let mut events = server.subscribe();
    let mut peer = greet(&server, &key(9), &["busy"]).await;
    for _ in 0..=INBOX_MESSAGES {
        peer.queue(FIRST, &payload(b"\xc0")).unwrap();
        if !peer.has_room() {
            soon(peer.flush()).await.unwrap();
        }
    }
    let mut pings = 0;
    loop {
        let message = soon(peer.read()).await.unwrap();
        match message.id {
            p2p::PING => pings += 1,
            p2p::DISCONNECT => {
                let reason = DisconnectReason::decode(&message.payload).unwrap();
                assert_eq!(reason, DisconnectReason::SubprotocolError);
                break;
            }
            other => panic!("message {other}"),
        }
    }
    assert!(pings >= 2, "{pings} pings while the inbox was full");
    drop(peer);
    assert_eq!(
        peer_dropped(&mut events).await,
        DropReason::InboxStalled(capability("busy"))
    );
    assert_eq!(server.metrics().inbox_full, 1);
}

#[tokio::test]
async fn reading_goes_on_when_a_slow_protocol_catches_up() {
    let go = Arc::new(Notify::new());
    let (count, mut counted) = mpsc::channel(1);
    let waits = Arc::clone(&go);
    let slow = protocol("slow", 8, move |_, mut io| {
        let (go, count) = (Arc::clone(&waits), count.clone());
        async move {
            go.notified().await;
            for _ in 0..2 * INBOX_MESSAGES {
                io.recv().await.unwrap();
            }
            count.send(()).await.unwrap();
            while io.recv().await.is_some() {}
            Ok(())
        }
    });
    let server = start(config(key(1)), vec![slow]).await;
    let mut peer = greet(&server, &key(9), &["slow"]).await;
    for _ in 0..2 * INBOX_MESSAGES {
        peer.queue(FIRST, &payload(b"\xc0")).unwrap();
        soon(peer.flush()).await.unwrap();
    }
    until(|| server.metrics().inbox_full >= 1).await;
    go.notify_one();
    soon(counted.recv()).await.unwrap();
}

#[tokio::test]
async fn bytes_held_by_a_protocol_count_until_they_are_dropped() {
    let (given, mut taken) = mpsc::channel(8);
    let hoards = protocol("hoard", 8, move |_, mut io| {
        let given = given.clone();
        async move {
            while let Some(message) = io.recv().await {
                given.send(message.payload).await.unwrap();
            }
            Ok(())
        }
    });
    let server = start(config(key(1)), vec![hoards]).await;
    let mut peer = greet(&server, &key(9), &["hoard"]).await;
    // Three times 6 MiB: two fit into the budget of 16 MiB.
    let large = Payload::new(Bytes::from(vec![7; 6 << 20]));
    let sending = tokio::spawn(async move {
        for _ in 0..3 {
            peer.queue(FIRST, &large).unwrap();
            peer.flush().await.unwrap();
        }
        peer
    });
    let first = soon(taken.recv()).await.unwrap();
    let second = soon(taken.recv()).await.unwrap();
    let _peer = soon(sending).await.unwrap();
    until(|| server.metrics().inbox_full >= 1).await;
    assert!(taken.try_recv().is_err());
    assert_eq!(second.len(), 6 << 20);
    drop(first);
    assert_eq!(soon(taken.recv()).await.unwrap().len(), 6 << 20);
}

#[tokio::test]
async fn a_ping_flood_is_answered_in_part_and_then_ends_in_a_ban() {
    let server = start(config(key(1)), vec![quiet("q")]).await;
    let mut events = server.subscribe();
    let mut peer = greet(&server, &key(9), &["q"]).await;
    for _ in 0..120 {
        peer.queue(p2p::PING, &Payload::empty_list()).unwrap();
    }
    let mut pongs = 0;
    let reason = loop {
        let message = soon(peer.read()).await.unwrap();
        match message.id {
            p2p::PONG => pongs += 1,
            p2p::DISCONNECT => break DisconnectReason::decode(&message.payload).unwrap(),
            other => panic!("message {other}"),
        }
    };
    assert_eq!(reason, DisconnectReason::ProtocolError);
    assert!((5..=20).contains(&pongs), "{pongs} pongs");
    drop(peer);
    let rule = event(&mut events, |event| match event {
        ServerEvent::Banned { rule, .. } => Some(rule),
        _ => None,
    })
    .await;
    assert_eq!(rule, Rule::PingFlood);
    // Banned: told "useless peer" before Hello.
    let again = shake_hands(&server, &key(9)).await;
    let refused = again.hello(hello(&key(9), &["q"])).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the remote disconnected: useless peer (0x03)"
    );
}

#[tokio::test]
async fn an_unknown_message_id_is_a_breach() {
    let server = start(config(key(1)), vec![quiet("q")]).await;
    let mut events = server.subscribe();
    let mut peer = greet(&server, &key(9), &["q"]).await;
    peer.queue(FIRST + 8, &payload(b"\xc0")).unwrap();
    let message = soon(peer.read()).await.unwrap();
    assert_eq!(message.id, p2p::DISCONNECT);
    drop(peer);
    let reason = peer_dropped(&mut events).await;
    assert_eq!(reason, DropReason::Violation(Rule::UnknownMessage));
}

#[tokio::test]
async fn a_protocol_s_last_words_come_before_its_disconnect() {
    let parting = protocol("bye", 8, |_, io| async move {
        io.sender().send(1, payload(b"status")).await.unwrap();
        Err(ProtocolError::new(DisconnectReason::UselessPeer))
    });
    let server = start(config(key(1)), vec![parting]).await;
    let mut events = server.subscribe();
    let mut peer = greet(&server, &key(9), &["bye"]).await;
    let status = soon(peer.read()).await.unwrap();
    assert_eq!(
        (status.id, &status.payload[..]),
        (FIRST + 1, &b"status"[..])
    );
    let goodbye = soon(peer.read()).await.unwrap();
    assert_eq!(goodbye.id, p2p::DISCONNECT);
    assert_eq!(
        DisconnectReason::decode(&goodbye.payload),
        Ok(DisconnectReason::UselessPeer)
    );
    drop(peer);
    let reason = peer_dropped(&mut events).await;
    let (capability, reason_told) = (capability("bye"), DisconnectReason::UselessPeer);
    assert_eq!(
        reason,
        DropReason::Protocol {
            capability,
            reason: reason_told
        }
    );
}

#[tokio::test]
async fn a_protocol_that_panics_ends_only_its_own_peer() {
    let panics = protocol("oops", 8, |_, mut io| async move {
        let message = io.recv().await.unwrap();
        assert_ne!(message.id, 1, "as the test wants");
        while io.recv().await.is_some() {}
        Ok(())
    });
    let server = start(config(key(1)), vec![panics]).await;
    let mut events = server.subscribe();
    let mut stays = greet(&server, &key(8), &["oops"]).await;
    stays.queue(FIRST, &payload(b"\xc0")).unwrap();
    soon(stays.flush()).await.unwrap();
    let mut goes = greet(&server, &key(9), &["oops"]).await;
    goes.queue(FIRST + 1, &payload(b"\xc0")).unwrap();
    assert_eq!(soon(goes.read()).await.unwrap().id, p2p::DISCONNECT);
    drop(goes);
    peer_dropped(&mut events).await;
    assert_eq!(server.peers().len(), 1);
    assert_eq!(server.peers()[0].id, key(8).node_id());
    drop(stays);
}

#[tokio::test]
async fn a_silent_peer_is_dropped_and_told() {
    let timeouts = Timeouts {
        ping: Duration::from_millis(100),
        idle: Duration::from_millis(300),
        ..quick()
    };
    let server = start(config(key(1)).timeouts(timeouts), vec![quiet("q")]).await;
    let mut events = server.subscribe();
    let mut peer = greet(&server, &key(9), &["q"]).await;
    let mut pings = 0;
    let reason = loop {
        let message = soon(peer.read()).await.unwrap();
        match message.id {
            p2p::PING => pings += 1,
            _ => break DisconnectReason::decode(&message.payload).unwrap(),
        }
    };
    assert_eq!(reason, DisconnectReason::ReadTimeout);
    assert!(pings >= 1);
    drop(peer);
    assert_eq!(peer_dropped(&mut events).await, DropReason::ReadTimeout);
}

#[tokio::test]
async fn a_remote_that_does_not_read_is_dropped() {
    let floods = protocol("flood", 8, |_, io| async move {
        let large = Payload::new(Bytes::from(vec![9; 1 << 20]));
        while io.sender().send(0, large.clone()).await.is_ok() {}
        Ok(())
    });
    let timeouts = Timeouts {
        write: Duration::from_millis(300),
        ..quick()
    };
    let server = start(config(key(1)).timeouts(timeouts), vec![floods]).await;
    let mut events = server.subscribe();
    let peer = greet(&server, &key(9), &["flood"]).await;
    assert_eq!(peer_dropped(&mut events).await, DropReason::WriteTimeout);
    drop(peer);
}

#[tokio::test]
async fn the_outbox_is_bounded_and_wakes_its_senders_at_the_end() {
    let (done, mut finished) = mpsc::channel(1);
    let fills = protocol("fill", 2, move |_, io| {
        let done = done.clone();
        async move {
            let sender = io.sender().clone();
            let unknown = sender.send(2, payload(b"")).await;
            // The remote does not read: the socket's buffers fill, then the outbox.
            let block = Payload::new(Bytes::from(vec![5; 4 << 20]));
            let mut full = 0;
            while full < 1000 {
                match sender.try_send(0, block.clone()) {
                    Ok(()) => full = 0,
                    Err(error) => {
                        assert_eq!(error, SendError::Full);
                        full += 1;
                    }
                }
                tokio::task::yield_now().await;
            }
            let end = sender
                .send(0, Payload::new(Bytes::from(vec![5; 16_000_000])))
                .await;
            done.send((unknown, end, sender.is_closed())).await.unwrap();
            Ok(())
        }
    });
    let timeouts = Timeouts {
        write: Duration::from_millis(500),
        ..quick()
    };
    let server = start(config(key(1)).timeouts(timeouts), vec![fills]).await;
    let mut events = server.subscribe();
    let peer = greet(&server, &key(9), &["fill"]).await;
    assert_eq!(peer_dropped(&mut events).await, DropReason::WriteTimeout);
    let (unknown, end, closed) = soon(finished.recv()).await.unwrap();
    assert_eq!(unknown, Err(SendError::UnknownMessage));
    assert_eq!(end, Err(SendError::Closed));
    assert!(closed);
    drop(peer);
}

#[tokio::test]
async fn a_breach_found_by_a_protocol_bans() {
    let strict = protocol("strict", 8, |_, mut io| async move {
        io.recv().await;
        let error = ProtocolError::breach(DisconnectReason::SubprotocolError);
        assert_eq!(error.fault, Fault::Breach);
        Err(error.with_cause(std::io::Error::other("bad block")))
    });
    let server = start(config(key(1)), vec![strict]).await;
    let mut events = server.subscribe();
    let mut peer = greet(&server, &key(9), &["strict"]).await;
    peer.queue(FIRST, &payload(b"\xc0")).unwrap();
    assert_eq!(soon(peer.read()).await.unwrap().id, p2p::DISCONNECT);
    drop(peer);
    let (id, rule) = event(&mut events, |event| match event {
        ServerEvent::Banned { id, rule, .. } => Some((id, rule)),
        _ => None,
    })
    .await;
    assert_eq!((id, rule), (key(9).node_id(), Rule::SubprotocolBreach));
}
