//! What one reader leaves to the driver.

use std::net::Ipv4Addr;
use std::task::{Context, Poll, Waker};

use tercet_enode::SecretKey;
use tercet_machine::{KeyedState, MachineRng};
use tokio::sync::watch;

use super::*;
use crate::config::DiscoveryConfig;
use crate::socket::Sockets;
use crate::v4::{Message, Ping, WireEndpoint, codec};

/// A service's state, and the driver's hand.
fn service() -> (Shared, Hand) {
    let mut rng = MachineRng::from_seed([1; 32]);
    let clock = Clock::start();
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let config = DiscoveryConfig::builder().listen(listen).build().unwrap();
    let sockets = Sockets::bind(listen, None).unwrap();
    let config = config.into_stack([2; 32], (sockets.local_addr(), None));
    let key = SecretKey::generate(&mut rng);
    let stack = NodeStack::new(config, key, None, clock.now()).unwrap();
    let published = Published {
        record: watch::channel(stack.record().clone()).0,
        table: watch::channel(Arc::new(stack.snapshot())).0,
        metrics: watch::channel(DiscoveryMetrics::default()).0,
    };
    let lanes = Lanes::new(KeyedState::new(&mut rng));
    let db = NodeDb::memory().unwrap();
    let shared = Shared::new(clock, db, stack, lanes, published);
    (shared, Hand::new(sockets))
}

/// A discv4 ping makes work: its signature is to be checked.
fn ping(shared: &Shared, rng: &mut MachineRng) -> BytesMut {
    let ping = Message::Ping(Ping {
        from: WireEndpoint::default(),
        to: WireEndpoint::default(),
        expiration: shared.clock().now().unix.as_secs() + 10,
        enr_seq: None,
    });
    let (datagram, _) = codec::encode(&SecretKey::generate(rng), &ping);
    BytesMut::from(&datagram[..])
}

fn is_ready(room: impl Future<Output = ()>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    matches!(std::pin::pin!(room).poll(&mut context), Poll::Ready(()))
}

#[tokio::test]
async fn a_reader_waits_while_too_much_is_left_to_the_driver() {
    let (shared, mut hand) = service();
    let mut rng = MachineRng::from_seed([3; 32]);
    let mut port = 1000;
    while is_ready(shared.room()) {
        port += 1;
        let from = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let datagram = ping(&shared, &mut rng);
        let mut turn = shared.lock();
        turn.receive(shared.clock(), from, datagram, &mut hand);
        assert!(turn.left() <= MAX_LEFT);
    }
    let mut turn = shared.lock();
    assert_eq!(turn.left(), MAX_LEFT);
    let (jobs, rest) = (turn.take_jobs(), turn.take_rest());
    assert!(jobs.len() + rest.len() == MAX_LEFT && jobs.len() > MAX_LEFT / 2);
    drop(turn);
    assert!(is_ready(shared.room()));
}

/// A new record's number is kept before anybody can be sent the record.
#[tokio::test]
async fn what_the_database_is_to_know_waits_for_nobody() {
    let (shared, mut hand) = service();
    let mut turn = shared.lock();
    turn.drain(&mut hand);
    let record = turn.stack.record();
    let stored = turn.db.local_seq(&record.id()).unwrap();
    assert_eq!(stored, Some(record.seq()));
}

#[tokio::test]
async fn the_driver_is_woken_for_what_it_does_not_know_of() {
    let (shared, mut hand) = service();
    let wants = || shared.lock().wants_driver();
    assert!(wants(), "it does not know when it is due");
    let mut turn = shared.lock();
    turn.drain(&mut hand);
    turn.take_rest();
    turn.armed = turn.stack.deadline();
    drop(turn);
    assert!(!wants());
    let late = MonoTime::ZERO + std::time::Duration::from_secs(1 << 30);
    let armed = shared.lock().armed.replace(late);
    assert!(wants(), "it is due before it wakes up");
    shared.lock().armed = armed;
    let from = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1000);
    let datagram = ping(&shared, &mut MachineRng::from_seed([3; 32]));
    shared
        .lock()
        .receive(shared.clock(), from, datagram, &mut hand);
    assert!(wants(), "there is work");
}
