//! What the driver does after it has stood still.

use std::net::{Ipv4Addr, SocketAddr};

use tercet_enode::{Endpoint, Node, SecretKey};
use tercet_machine::{Clock, KeyedState, MachineRng};
use tokio::net::UdpSocket;

use super::*;
use crate::config::DiscoveryConfig;
use crate::core::Command;
use crate::engine::Protocol;
use crate::pool::Lanes;
use crate::socket::Sockets;
use crate::stack::NodeStack;
use crate::v4::{Message, Pong, WireEndpoint, codec};

/// A driver whose questions are over as soon as they are asked: as if it had not run since.
fn driver(rng: &mut MachineRng) -> Driver {
    let clock = Clock::start();
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let config = DiscoveryConfig::builder().listen(listen).build().unwrap();
    let sockets = Sockets::bind(listen, None).unwrap();
    let mut config = config.into_stack([2; 32], (sockets.local_addr(), None));
    config.core.reply_timeout = Duration::ZERO;
    let key = SecretKey::generate(rng);
    let stack = NodeStack::new(config, key, None, clock.now()).unwrap();
    let published = Published {
        record: watch::channel(stack.record().clone()).0,
        table: watch::channel(Arc::new(stack.snapshot())).0,
        metrics: watch::channel(DiscoveryMetrics::default()).0,
    };
    let lanes = Lanes::new(KeyedState::new(rng));
    let db = NodeDb::memory().unwrap();
    Driver {
        hand: Hand::new(sockets),
        pool: Pool::start(1).unwrap(),
        shared: Arc::new(Shared::new(clock, db.clone(), stack, lanes, published)),
        beside: None,
        talks: TalkRegistry::new(),
        background: Background::new(rng.child("background"), None),
        db,
        requests: mpsc::channel(1).1,
        cancel: CancellationToken::new(),
    }
}

/// More of them than the driver checks by itself otherwise.
#[tokio::test]
async fn answers_that_have_come_go_before_their_timeouts() {
    let rng = &mut MachineRng::from_seed([1; 32]);
    let (mut driver, mut state) = (driver(rng), State::default());
    let mut replies = Vec::new();
    let mut peers = Vec::new();
    for _ in 0..2 * INLINE {
        let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (key, at) = (SecretKey::generate(rng), peer.local_addr().unwrap());
        let node = Node::new(key.public_key(), Endpoint::new(at.ip(), at.port(), 0));
        let command = Command::Ping(node, Some(Protocol::V4));
        let (reply, replied) = oneshot::channel();
        driver.on_request(&mut state, Request::Run { command, reply });
        replies.push(replied);
        peers.push((peer, key));
    }
    driver.settle(&mut state);
    driver.hand.flush();
    for (peer, key) in &peers {
        let mut buffer = [0; 1280];
        let (len, from): (_, SocketAddr) = peer.recv_from(&mut buffer).await.unwrap();
        let pong = Message::Pong(Pong {
            to: WireEndpoint::new(from.ip(), from.port(), 0),
            ping_hash: codec::decode(&buffer[..len]).unwrap().hash,
            expiration: driver.shared.clock().now().unix.as_secs() + 10,
            enr_seq: None,
        });
        let (pong, _) = codec::encode(key, &pong);
        peer.send_to(&pong, from).await.unwrap();
    }
    driver.hand.readable().await.unwrap();
    driver.on_deadline(&mut state, LATE);
    driver.settle(&mut state);
    for mut replied in replies {
        let reply = replied.try_recv().unwrap();
        assert!(matches!(reply, Ok(Reply::Pong(_))), "{reply:?}");
    }
}
