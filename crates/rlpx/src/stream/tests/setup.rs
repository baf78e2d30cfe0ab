//! From the first byte of the handshake to the end of both Hellos.

use tokio::io::AsyncReadExt;

use super::*;
use crate::handshake::{AuthError, Responder};
use crate::hello::HelloDecodeError;

#[tokio::test]
async fn snappy_is_off_if_either_side_is_older() {
    for versions in [(4, 5), (5, 4), (4, 4)] {
        let (a, b) = authenticated(1 << 16).await;
        let hello_a = Hello {
            p2p_version: versions.0,
            ..hello(&key(1))
        };
        let hello_b = Hello {
            p2p_version: versions.1,
            ..hello(&key(2))
        };
        let (a, b) = tokio::join!(a.hello(hello_a), b.hello(hello_b));
        let (mut a, mut b) = (a.unwrap(), b.unwrap());
        assert!(!a.snappy() && !b.snappy());
        a.queue(0x10, &Payload::from(vec![0; 5000])).unwrap();
        assert!(a.buffered() > 5000);
        assert_eq!(
            tokio::join!(a.flush(), b.read()).1.unwrap().payload.len(),
            5000
        );
    }
}

#[tokio::test]
async fn a_version_above_ours_keeps_snappy() {
    let (a, b) = authenticated(1 << 16).await;
    let newer = Hello {
        p2p_version: 55,
        ..hello(&key(1))
    };
    let (a, b) = tokio::join!(a.hello(newer), b.hello(hello(&key(2))));
    assert!(a.unwrap().snappy() && b.unwrap().snappy());
}

/// The end that is refused sees the reason, over real TCP, although it is sending its Hello at that very moment.
#[tokio::test]
async fn a_peer_refused_before_hello_gets_the_reason() {
    for _ in 0..20 {
        let (dialled, accepted) = loopback().await;
        let (key_a, key_b) = (key(1), key(2));
        let refuse = async {
            let stream = accept(accepted, &key_b).await.unwrap();
            stream.reject(DisconnectReason::TooManyPeers).await.unwrap();
        };
        let dial = async {
            let stream = connect(dialled, &key_a, key(2).public_key()).await.unwrap();
            stream.hello(hello(&key(1))).await.unwrap_err()
        };
        let ((), error) = tokio::join!(refuse, dial);
        assert!(
            matches!(
                error,
                HelloError::Disconnected(DisconnectReason::TooManyPeers)
            ),
            "{error:?}"
        );
    }
}

/// What the other end reads after its own Hello, when `bad` is sent as Hello by a peer that then listens.
async fn answer_to(bad: Payload, id: u64) -> (HelloError, DisconnectReason) {
    let (a, mut b) = authenticated(1 << 16).await;
    b.link.writer.queue(id, &bad).unwrap();
    let judge = a.hello(hello(&key(1)));
    let listen = async move {
        b.link.exchange_hello().await.unwrap();
        // As a client of version 5 reads it.
        b.link.start_messages(true);
        let message = poll_fn(|cx| b.link.poll_message(cx)).await.unwrap();
        assert_eq!(message.id, p2p::DISCONNECT);
        DisconnectReason::decode(&message.payload).unwrap()
    };
    let (result, reason) = tokio::join!(judge, listen);
    (result.unwrap_err(), reason)
}

#[tokio::test]
async fn a_peer_with_a_bad_hello_gets_the_fitting_reason() {
    let other = hello(&key(3)).to_payload();
    let (error, reason) = answer_to(other, p2p::HELLO).await;
    assert!(matches!(error, HelloError::UnexpectedIdentity { .. }));
    assert_eq!(reason, DisconnectReason::UnexpectedIdentity);

    let old = Hello {
        p2p_version: 3,
        ..hello(&key(2))
    };
    let (error, reason) = answer_to(old.to_payload(), p2p::HELLO).await;
    assert!(matches!(
        error,
        HelloError::IncompatibleVersion { version: 3 }
    ));
    assert_eq!(reason, DisconnectReason::IncompatibleVersion);

    let (error, reason) = answer_to(Payload::empty_list(), p2p::HELLO).await;
    assert!(matches!(
        error,
        HelloError::Malformed(HelloDecodeError::Rlp(_))
    ));
    assert_eq!(reason, DisconnectReason::ProtocolError);

    let mut no_key = hello(&key(2)).to_payload().raw().to_vec();
    no_key.splice(no_key.len() - 64.., [0; 64]);
    let (error, reason) = answer_to(no_key.into(), p2p::HELLO).await;
    assert!(matches!(
        error,
        HelloError::Malformed(HelloDecodeError::Identity)
    ));
    assert_eq!(reason, DisconnectReason::InvalidIdentity);

    let (error, reason) = answer_to(Payload::empty_list(), p2p::PING).await;
    assert!(matches!(error, HelloError::Unexpected { id: p2p::PING }));
    assert_eq!(reason, DisconnectReason::ProtocolError);

    let (error, reason) = answer_to(Payload::from(vec![0; 4000]), p2p::HELLO).await;
    let limit = FrameError::TooLarge {
        size: 4001,
        limit: 2048,
    };
    assert!(matches!(error, HelloError::Stream(StreamError::Frame(found)) if found == limit));
    assert_eq!(reason, DisconnectReason::ProtocolError);
}

#[tokio::test]
async fn our_own_hello_has_a_limit_too() {
    let (a, b) = authenticated(1 << 16).await;
    let long = Hello {
        client_id: "x".repeat(2048),
        ..hello(&key(1))
    };
    let (a, b) = tokio::join!(a.hello(long), b.hello(hello(&key(2))));
    assert!(matches!(a, Err(HelloError::OwnHelloTooLarge { .. })));
    assert!(matches!(
        b,
        Err(HelloError::Disconnected(DisconnectReason::Quitting))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_silent_caller_and_a_silent_listener_have_5_seconds() {
    let (io, _silent) = duplex(4096);
    let start = Instant::now();
    assert!(matches!(
        accept(io, &key(2)).await,
        Err(HandshakeError::Timeout)
    ));
    assert_eq!(start.elapsed(), SETUP_TIMEOUT);

    let (io, _silent) = duplex(4096);
    let start = Instant::now();
    let result = connect(io, &key(1), key(2).public_key()).await;
    assert!(matches!(result, Err(HandshakeError::Timeout)));
    assert_eq!(start.elapsed(), SETUP_TIMEOUT);
}

/// Time used up in the handshake is not given back for Hello, and a peer that trickles gains nothing.
#[tokio::test(start_paused = true)]
async fn handshake_and_hello_share_one_deadline() {
    let (io, mut remote) = duplex(1 << 16);
    let (key_a, key_b) = (key(1), key(2));
    let mut rng = StdRng::seed_from_u64(3);
    let initiator = crate::Initiator::new(&key_a, key_b.public_key(), &mut rng).unwrap();
    let start = Instant::now();
    let trickle = async {
        for byte in initiator.auth() {
            tokio::time::sleep(Duration::from_millis(9)).await;
            if remote.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let local = async {
        let stream = accept(io, &key_b).await.unwrap();
        assert!(start.elapsed() > Duration::from_secs(3));
        stream.hello(hello(&key_b)).await
    };
    let result = tokio::select! { result = local => result, () = trickle => unreachable!() };
    assert!(matches!(result, Err(HelloError::Timeout)));
    assert_eq!(start.elapsed(), SETUP_TIMEOUT);
    assert_eq!(
        HelloError::Timeout.reason(),
        Some(DisconnectReason::ReadTimeout)
    );
}

#[tokio::test]
async fn garbage_and_oversized_packets_end_the_handshake_at_once() {
    for (bytes, expected) in [
        (vec![0xff; 2], AuthError::Size { declared: 0xffff }),
        (vec![0x08, 0x01], AuthError::Size { declared: 0x0801 }),
        (vec![0x00, 0x70], AuthError::Size { declared: 0x70 }),
    ] {
        let (io, mut remote) = duplex(4096);
        remote.write_all(&bytes).await.unwrap();
        let error = accept(io, &key(2)).await.unwrap_err();
        assert!(
            matches!(&error, HandshakeError::Auth(found) if *found == expected),
            "{error}"
        );
    }
    let (io, mut remote) = duplex(4096);
    remote
        .write_all(&[&[0x01, 0x00], &[4; 256][..]].concat())
        .await
        .unwrap();
    assert!(matches!(
        accept(io, &key(2)).await,
        Err(HandshakeError::Auth(AuthError::Ecies(_)))
    ));
}

/// A peer may send its first frames with its ack: nothing of them is lost or read as a part of the packet.
#[tokio::test]
async fn frames_that_come_with_the_ack_are_kept() {
    let (io, mut remote) = duplex(1 << 16);
    let (key_a, key_b) = (key(1), key(2));
    let respond = async {
        let mut received = vec![0; 4096];
        let length = remote.read(&mut received).await.unwrap();
        let responder = Responder::open(&key_b, &received[..length]).unwrap();
        let (session, mut wire) = responder.accept(&mut StdRng::seed_from_u64(1));
        let mut writer = FrameWriter::new(session.egress);
        writer
            .queue(p2p::HELLO, &hello(&key_b).to_payload())
            .unwrap();
        writer.enable_snappy();
        writer.queue(0x10, &Payload::from(vec![3; 3000])).unwrap();
        wire.extend_from_slice(writer.pending());
        remote.write_all(&wire).await.unwrap();
        remote
    };
    let dial = async {
        let stream = connect(io, &key_a, key_b.public_key()).await.unwrap();
        stream.hello(hello(&key_a)).await.unwrap()
    };
    let (_remote, mut stream) = tokio::join!(respond, dial);
    assert_eq!(stream.read().await.unwrap().payload, vec![3; 3000]);
}

/// Our Hello names the key the remote shook hands with, as it does when the remote is ourselves.
#[tokio::test]
async fn a_remote_with_our_own_key_hears_that_it_is_ourselves() {
    let (a, b) = authenticated(1 << 16).await;
    let (ours, theirs) = tokio::join!(a.hello(hello(&key(2))), b.hello(hello(&key(2))));
    assert!(matches!(ours.unwrap_err(), HelloError::Itself));
    assert!(matches!(
        theirs.unwrap_err(),
        HelloError::Disconnected(DisconnectReason::ConnectedToSelf)
    ));
}

#[tokio::test]
async fn dialling_oneself_and_dialling_the_wrong_node_fail() {
    let (io, _remote) = duplex(4096);
    let own = connect(io, &key(1), key(1).public_key()).await.unwrap_err();
    assert!(matches!(own, HandshakeError::Auth(AuthError::OwnKey)));

    // We expect node 3 where node 2 listens: it cannot open our auth, and closes.
    let (a, b) = duplex(4096);
    let (key_a, key_b) = (key(1), key(2));
    let (a, b) = tokio::join!(connect(a, &key_a, key(3).public_key()), accept(b, &key_b));
    assert!(matches!(b, Err(HandshakeError::Auth(AuthError::Ecies(_)))));
    assert!(matches!(a, Err(HandshakeError::Closed)));
}
