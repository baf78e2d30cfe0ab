mod setup;

use std::io;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tercet_enode::SecretKey;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::capability::Capability;
use crate::frame::{FrameError, WRITE_BUFFER};

fn key(seed: u64) -> SecretKey {
    SecretKey::generate(&mut StdRng::seed_from_u64(seed))
}

fn hello(key: &SecretKey) -> Hello {
    Hello::new(
        "test/1",
        vec![Capability::new("echo", 1).unwrap()],
        key.public_key(),
    )
}

/// Both ends after the handshake, over a pipe of `capacity` bytes in each direction.
async fn authenticated(
    capacity: usize,
) -> (Authenticated<DuplexStream>, Authenticated<DuplexStream>) {
    let (a, b) = duplex(capacity);
    let (key_a, key_b) = (key(1), key(2));
    let (a, b) = tokio::join!(connect(a, &key_a, key_b.public_key()), accept(b, &key_b));
    (a.unwrap(), b.unwrap())
}

async fn established(capacity: usize) -> (RlpxStream<DuplexStream>, RlpxStream<DuplexStream>) {
    let (a, b) = authenticated(capacity).await;
    let (a, b) = tokio::join!(a.hello(hello(&key(1))), b.hello(hello(&key(2))));
    (a.unwrap(), b.unwrap())
}

async fn loopback() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap());
    let (dialled, accepted) = tokio::join!(dialled, listener.accept());
    (dialled.unwrap(), accepted.unwrap().0)
}

#[tokio::test]
async fn both_ends_know_each_other_and_exchange_messages() {
    // A pipe much smaller than any packet: neither side may wait for the other to read.
    let (mut a, mut b) = established(64).await;
    assert_eq!(a.remote_key(), key(2).public_key());
    assert_eq!(b.remote_key(), key(1).public_key());
    assert_eq!(*a.remote_hello(), hello(&key(2)));
    assert!(a.snappy() && b.snappy());

    a.queue(0x10, &Payload::from(vec![7; 100_000])).unwrap();
    b.queue(0x11, &Payload::from(vec![8; 100_000])).unwrap();
    let (at_a, at_b) = tokio::join!(a.read(), b.read());
    assert_eq!(
        at_a.unwrap(),
        Message {
            id: 0x11,
            payload: vec![8; 100_000].into()
        }
    );
    assert_eq!(
        at_b.unwrap(),
        Message {
            id: 0x10,
            payload: vec![7; 100_000].into()
        }
    );
}

#[tokio::test]
async fn over_tcp_in_both_directions_at_once() {
    let (dialled, accepted) = loopback().await;
    let (key_a, key_b) = (key(1), key(2));
    let echo = async {
        let stream = accept(accepted, &key_b).await.unwrap();
        assert_eq!(stream.remote_key(), key(1).public_key());
        let mut stream = stream.hello(hello(&key(2))).await.unwrap();
        loop {
            let message = match stream.read().await {
                Ok(message) => message,
                Err(StreamError::Closed) => break,
                Err(error) => panic!("{error}"),
            };
            if message.id == p2p::DISCONNECT {
                return DisconnectReason::decode(&message.payload).unwrap();
            }
            while !stream.has_room() {
                stream.flush().await.unwrap();
            }
            stream.queue(message.id, &message.payload.into()).unwrap();
        }
        panic!("closed without a Disconnect");
    };
    let dial = async {
        let stream = connect(dialled, &key_a, key(2).public_key()).await.unwrap();
        let mut stream = stream.hello(hello(&key(1))).await.unwrap();
        let mut rng = StdRng::seed_from_u64(7);
        let payloads: Vec<Bytes> = (0..100)
            .map(|_| {
                let mut payload = vec![0; rng.random_range(0..50_000)];
                rng.fill(&mut payload[..]);
                payload.into()
            })
            .collect();
        let (mut sent, mut received) = (0, 0);
        while received < payloads.len() {
            while sent < payloads.len() && stream.has_room() {
                stream
                    .queue(0x10 + sent as u64, &payloads[sent].clone().into())
                    .unwrap();
                sent += 1;
            }
            if let StreamEvent::Message(message) = stream.event(Interest::ReadWrite).await.unwrap()
            {
                let expected = Message {
                    id: 0x10 + received as u64,
                    payload: payloads[received].clone(),
                };
                assert_eq!(message, expected);
                received += 1;
            }
        }
        stream.disconnect(DisconnectReason::Quitting).await.unwrap();
    };
    let (reason, ()) = tokio::join!(echo, dial);
    assert_eq!(reason, DisconnectReason::Quitting);
}

/// Each poll of `event` is thrown away at once, as in a `select!` whose other branches are busy.
#[tokio::test]
async fn a_dropped_event_loses_nothing() {
    let (mut a, mut b) = established(50).await;
    let payloads: Vec<_> = (0..20u8)
        .map(|i| Payload::from(vec![i; 300 + usize::from(i)]))
        .collect();
    for (index, payload) in payloads.iter().enumerate() {
        a.queue(index as u64 + 0x10, payload).unwrap();
    }
    let mut received = Vec::new();
    while received.len() < payloads.len() {
        for stream in [&mut a, &mut b] {
            let once = tokio::select! {
                biased;
                event = stream.event(Interest::ReadWrite) => Some(event.unwrap()),
                () = std::future::ready(()) => None,
            };
            if let Some(StreamEvent::Message(message)) = once {
                received.push(message);
            }
        }
        tokio::task::yield_now().await;
    }
    for (index, message) in received.iter().enumerate() {
        assert_eq!(message.id, index as u64 + 0x10);
        assert_eq!(message.payload, *payloads[index].raw());
    }
}

#[tokio::test]
async fn without_interest_in_reading_writing_goes_on() {
    let (mut a, mut b) = established(1 << 20).await;
    b.queue(0x10, &Payload::empty_list()).unwrap();
    b.flush().await.unwrap();
    a.queue(0x11, &Payload::empty_list()).unwrap();
    assert_eq!(
        a.event(Interest::Write).await.unwrap(),
        StreamEvent::Flushed
    );
    assert_eq!(b.read().await.unwrap().id, 0x11);
    let nothing = tokio::select! {
        biased;
        event = a.event(Interest::Write) => Some(event),
        () = std::future::ready(()) => None,
    };
    assert!(nothing.is_none(), "{nothing:?}");
    assert_eq!(a.read().await.unwrap().id, 0x10, "it was kept");
}

#[tokio::test]
async fn a_full_write_buffer_is_reported_and_drains() {
    let (mut a, mut b) = established(4096).await;
    let mut bytes = vec![0; 9999];
    StdRng::seed_from_u64(5).fill(&mut bytes[..]);
    let payload = Payload::from(bytes);
    let mut queued = 0;
    while a.has_room() {
        a.queue(0x10, &payload).unwrap();
        queued += 1;
    }
    assert_eq!(a.queue(0x10, &payload), Err(QueueError::Full));
    assert!(a.buffered() >= WRITE_BUFFER);
    let (flushed, ()) = tokio::join!(a.flush(), async {
        for _ in 0..queued {
            assert_eq!(b.read().await.unwrap().payload, *payload.raw());
        }
    });
    flushed.unwrap();
    assert!(a.has_room() && a.buffered() == 0);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_close_is_left_after_2_seconds() {
    let (a, mut b) = established(1 << 16).await;
    let start = Instant::now();
    a.disconnect(DisconnectReason::Requested).await.unwrap();
    assert_eq!(start.elapsed(), DISCONNECT_TIMEOUT);
    let message = b.read().await.unwrap();
    assert_eq!(
        DisconnectReason::decode(&message.payload),
        Ok(DisconnectReason::Requested)
    );

    // And one that does not even read.
    let (mut a, _b) = established(64).await;
    a.queue(0x10, &Payload::from(vec![1; 50_000])).unwrap();
    let start = Instant::now();
    let late = a.disconnect(DisconnectReason::Requested).await.unwrap_err();
    assert_eq!(late.kind(), io::ErrorKind::TimedOut);
    assert_eq!(start.elapsed(), DISCONNECT_TIMEOUT);
}

#[tokio::test]
async fn a_disconnect_goes_through_a_full_write_buffer() {
    let (mut a, mut b) = established(1 << 20).await;
    while a.has_room() {
        a.queue(0x10, &Payload::from(vec![1; 2000])).unwrap();
    }
    let last_words = async {
        loop {
            let message = b.read().await.unwrap();
            if message.id == p2p::DISCONNECT {
                drop(b);
                return DisconnectReason::decode(&message.payload).unwrap();
            }
        }
    };
    let (sent, reason) = tokio::join!(a.disconnect(DisconnectReason::SubprotocolError), last_words);
    sent.unwrap();
    assert_eq!(reason, DisconnectReason::SubprotocolError);
}

/// Both ends have much to send and pipes are full: the one that leaves reads so that the other can.
#[tokio::test]
async fn a_disconnect_reaches_a_peer_that_is_busy_sending() {
    let (mut a, mut b) = established(64).await;
    a.queue(0x10, &Payload::from(vec![1; 50_000])).unwrap();
    let mut noise = vec![0; 50_000];
    StdRng::seed_from_u64(5).fill(&mut noise[..]);
    b.queue(0x10, &Payload::from(noise)).unwrap();
    let busy = async {
        b.flush().await.unwrap();
        assert_eq!(b.read().await.unwrap().id, 0x10);
        let last = b.read().await.unwrap();
        drop(b);
        DisconnectReason::decode(&last.payload).unwrap()
    };
    let (sent, reason) = tokio::join!(a.disconnect(DisconnectReason::Quitting), busy);
    sent.unwrap();
    assert_eq!(reason, DisconnectReason::Quitting);
}

#[tokio::test]
async fn closing_is_told_from_breaking() {
    let (io, remote) = duplex(4096);
    drop(remote);
    assert!(matches!(
        accept(io, &key(2)).await,
        Err(HandshakeError::Closed)
    ));

    let (mut a, b) = established(4096).await;
    drop(b);
    assert!(matches!(a.read().await, Err(StreamError::Closed)));

    let (a, mut b) = established(4096).await;
    let mut raw = a.link.io;
    raw.write_all(&[0; 32]).await.unwrap();
    let error = b.read().await.unwrap_err();
    assert!(matches!(error, StreamError::Frame(FrameError::Tag(_))));
    assert_eq!(
        error.reason(),
        None,
        "who cannot be authenticated is told nothing"
    );
}

#[test]
fn time_limits_are_those_of_the_documentation() {
    assert_eq!(SETUP_TIMEOUT, Duration::from_secs(5));
    assert_eq!(DISCONNECT_TIMEOUT, Duration::from_secs(2));
    assert_eq!(WRITE_BUFFER, 65_536);
}
