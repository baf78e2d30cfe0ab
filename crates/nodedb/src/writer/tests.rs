//! The writer against a store that can be held and made to fail, which a disk does not do when asked.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rand::Rng;
use tercet_enode::{Endpoint, Node, SecretKey};
use tercet_machine::{MonoTime, UnixTime};

use super::*;
use crate::limits::{COMMIT_INTERVAL, EXPIRY_CYCLE};
use crate::{Applied, MemoryStore, NodeDb, NodeMeta, Seed, SeedQuery, StoreStats};

/// A memory store whose commits can be held back or refused.
#[derive(Clone, Default)]
struct Reluctant(Arc<Inner>);

#[derive(Default)]
struct Inner {
    store: MemoryStore,
    refuse: AtomicBool,
    applied: AtomicU32,
    hold: Mutex<()>,
}

impl NodeStore for Reluctant {
    fn node(&self, id: &NodeId) -> Result<Option<Node>, StoreError> {
        self.0.store.node(id)
    }

    fn meta(&self, id: &NodeId, ip: IpAddr) -> Result<NodeMeta, StoreError> {
        self.0.store.meta(id, ip)
    }

    fn local_seq(&self, id: &NodeId) -> Result<Option<u64>, StoreError> {
        self.0.store.local_seq(id)
    }

    fn cached(&self, key: &crate::CacheKey) -> Result<Option<bytes::Bytes>, StoreError> {
        self.0.store.cached(key)
    }

    fn seeds(&self, query: &SeedQuery, rng: &mut dyn Rng) -> Result<Vec<Seed>, StoreError> {
        self.0.store.seeds(query, rng)
    }

    fn apply(&self, now: UnixTime, writes: &[Write]) -> Result<Applied, StoreError> {
        self.0.applied.fetch_add(1, Ordering::SeqCst);
        let _held = self.0.hold.lock();
        if self.0.refuse.load(Ordering::SeqCst) {
            // The one error there is without a disk.
            return Err(StoreError::Closed);
        }
        self.0.store.apply(now, writes)
    }

    fn expire(&self, now: UnixTime, max_age: Duration) -> Result<usize, StoreError> {
        self.0.store.expire(now, max_age)
    }

    fn stats(&self) -> Result<StoreStats, StoreError> {
        self.0.store.stats()
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A clock moved by hand.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

const T0: UnixTime = UnixTime::from_secs(1_750_000_000);

impl Hand {
    fn now(&self) -> Now {
        let passed = Duration::from_millis(self.0.load(Ordering::SeqCst));
        Now {
            mono: MonoTime::ZERO + passed,
            unix: T0 + passed,
        }
    }

    fn pass(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap();
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

fn start() -> (NodeDb, Reluctant, Hand) {
    let (store, hand) = (Reluctant::default(), Hand::default());
    let clock = hand.clone();
    let db = NodeDb::with_store(store.clone(), move || clock.now()).unwrap();
    (db, store, hand)
}

fn ip() -> IpAddr {
    [192, 0, 2, 1].into()
}

fn id(number: u32) -> NodeId {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    NodeId::new(bytes)
}

fn pong(number: u32, at: UnixTime) -> Write {
    Write::Pong {
        id: id(number),
        ip: ip(),
        at,
    }
}

fn node(number: u8) -> Node {
    let key = SecretKey::from_bytes(&[number; 32]).unwrap();
    Node::new(key.public_key(), Endpoint::new(ip(), 30303, 30303))
}

/// Waits until the writer has begun its commit number `count`.
fn until_applied(store: &Reluctant, count: u32) {
    while store.0.applied.load(Ordering::SeqCst) < count {
        std::thread::yield_now();
    }
}

#[test]
fn a_full_queue_is_busy_and_takes_what_it_knows() {
    let (db, store, _) = start();
    let held = store.0.hold.lock();
    // The first 1,024 make the writer take them, and hold it.
    let first = crate::COMMIT_EARLY as u32;
    for number in 0..first {
        db.write(pong(number, T0)).unwrap();
    }
    until_applied(&store, 1);
    let bound = first + MAX_PENDING as u32;
    for number in first..bound {
        db.write(pong(number, T0)).unwrap();
    }
    assert_eq!(db.writer_stats().pending, MAX_PENDING);
    assert_eq!(db.write(pong(bound, T0)), Err(WriteError::Busy));
    assert_eq!(db.write(Write::Node(node(9))), Err(WriteError::Busy));
    // An id that waits already costs nothing more, and neither is it refused.
    let count = 3;
    for number in first..bound {
        let failures = Write::FindFailures {
            id: id(number),
            ip: ip(),
            count,
        };
        db.write(failures).unwrap();
    }
    assert_eq!(db.writer_stats().pending, MAX_PENDING);
    assert_eq!(db.writer_stats().busy, 2);
    // All of it is read, in whichever place it is.
    assert_eq!(db.meta(&id(0), ip()).unwrap().last_pong, Some(T0));
    assert_eq!(db.meta(&id(first), ip()).unwrap().find_failures, count);
    drop(held);
    db.flush_blocking().unwrap();
    assert_eq!(db.stats().unwrap().rows, bound as usize);
    assert_eq!(db.writer_stats().pending, 0);
    db.write(pong(bound, T0)).unwrap();
}

#[test]
fn writes_about_one_node_are_one_commit() {
    let (db, store, hand) = start();
    for _ in 0..10_000 {
        db.write(pong(1, T0)).unwrap();
    }
    assert_eq!(db.writer_stats().pending, 1);
    assert_eq!(store.0.applied.load(Ordering::SeqCst), 0);
    hand.pass(COMMIT_INTERVAL);
    db.flush_blocking().unwrap();
    assert_eq!(store.0.applied.load(Ordering::SeqCst), 1);
}

#[test]
fn a_commit_comes_by_itself() {
    let store = Reluctant::default();
    let clock = tercet_machine::Clock::start();
    let db = NodeDb::with_store(store.clone(), move || clock.now()).unwrap();
    db.write(pong(1, T0)).unwrap();
    until_applied(&store, 1);
}

#[test]
fn what_the_store_refuses_is_kept_read_and_written_later() {
    let (db, store, hand) = start();
    store.0.refuse.store(true, Ordering::SeqCst);
    db.write(Write::Node(node(1))).unwrap();
    let id = node(1).id();
    assert_eq!(db.flush_blocking(), Err(StoreError::Closed));
    assert_eq!(db.node(&id).unwrap(), Some(node(1)));
    let at = hand.now().unix;
    db.write(Write::Pong { id, ip: ip(), at }).unwrap();
    assert_eq!(db.flush_blocking(), Err(StoreError::Closed));
    assert_eq!(db.writer_stats().failures, 2);
    assert_eq!(db.meta(&id, ip()).unwrap().last_pong, Some(at));

    store.0.refuse.store(false, Ordering::SeqCst);
    db.flush_blocking().unwrap();
    assert_eq!(store.node(&id).unwrap(), Some(node(1)));
    assert_eq!(store.meta(&id, ip()).unwrap().last_pong, Some(at));
}

#[test]
fn a_store_that_refuses_to_the_end_is_reported_by_close() {
    let (db, store, _) = start();
    store.0.refuse.store(true, Ordering::SeqCst);
    db.write(pong(1, T0)).unwrap();
    assert_eq!(db.close(), Err(StoreError::Closed));
}

/// Lets this much time pass in which somebody answers each minute.
fn be_in_touch(db: &NodeDb, hand: &Hand, time: Duration) {
    let minute = Duration::from_secs(60);
    for _ in 0..time.as_secs() / minute.as_secs() {
        hand.pass(minute);
        db.write(pong(1000, hand.now().unix)).unwrap();
    }
}

fn nodes(db: &NodeDb) -> usize {
    db.flush_blocking().unwrap();
    db.stats().unwrap().nodes
}

#[test]
fn expiry_runs_hourly_once_started() {
    let (db, _, hand) = start();
    db.write(Write::Node(node(1))).unwrap();
    db.flush_blocking().unwrap();
    hand.pass(30 * NODE_MAX_AGE);
    assert_eq!(nodes(&db), 1);
    db.write(pong(1000, hand.now().unix)).unwrap();
    db.start_expiry();
    assert_eq!(nodes(&db), 1);
    be_in_touch(&db, &hand, EXPIRY_CYCLE);
    assert_eq!(nodes(&db), 0);
    assert_eq!(db.writer_stats().expired, 1);
    // And again.
    db.write(Write::Node(node(2))).unwrap();
    assert_eq!(nodes(&db), 1);
    be_in_touch(&db, &hand, NODE_MAX_AGE);
    assert_eq!(nodes(&db), 1);
    be_in_touch(&db, &hand, EXPIRY_CYCLE);
    assert_eq!(nodes(&db), 0);
}

/// Offline for days, or asleep: whoever was known before has an hour to answer afterwards.
#[test]
fn nobody_is_forgotten_while_nobody_answers() {
    let (db, _, hand) = start();
    db.write(Write::Node(node(1))).unwrap();
    db.start_expiry();
    be_in_touch(&db, &hand, 2 * EXPIRY_CYCLE);
    assert_eq!(nodes(&db), 1);
    for _ in 0..50 {
        hand.pass(EXPIRY_CYCLE);
        assert_eq!(nodes(&db), 1);
    }
    be_in_touch(&db, &hand, EXPIRY_CYCLE / 2);
    assert_eq!(nodes(&db), 1);
    be_in_touch(&db, &hand, EXPIRY_CYCLE * 2);
    assert_eq!(nodes(&db), 0);
}

#[test]
fn closing_writes_everything_and_closes_all_handles() {
    let (db, store, _) = start();
    let clone = db.clone();
    db.write(Write::Node(node(1))).unwrap();
    db.close().unwrap();
    assert!(store.node(&node(1).id()).unwrap().is_some());
    assert_eq!(clone.write(pong(1, T0)), Err(WriteError::Closed));
    assert_eq!(clone.node(&node(1).id()), Err(StoreError::Closed));
    assert_eq!(clone.stats(), Err(StoreError::Closed));
    assert_eq!(clone.flush_blocking(), Err(StoreError::Closed));
    assert_eq!(clone.close(), Ok(()));
}

#[test]
fn dropping_the_last_handle_writes_everything() {
    let (db, store, _) = start();
    let clone = db.clone();
    clone.write(Write::Node(node(1))).unwrap();
    drop(db);
    clone.write(Write::Node(node(2))).unwrap();
    drop(clone);
    assert_eq!(store.stats().unwrap().nodes, 2);
    // The thread is gone and has let go of the store.
    assert_eq!(Arc::strong_count(&store.0), 1);
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn flush_and_shutdown_can_be_awaited() {
    let (db, store, _) = start();
    db.write(Write::Node(node(1))).unwrap();
    db.flush().await.unwrap();
    assert_eq!(store.stats().unwrap().nodes, 1);
    db.write(Write::Node(node(2))).unwrap();
    db.shutdown().await.unwrap();
    assert_eq!(store.stats().unwrap().nodes, 2);
    assert_eq!(db.flush().await, Err(StoreError::Closed));
}
