//! Any sequence of operations gives the same answers from both stores, and joining writes in the queue changes nothing.

#![cfg(feature = "rocksdb")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // a test may fail loudly

mod common;

use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;
use tercet_enode::{Node, NodeId};
use tercet_machine::{MachineRng, MonoTime, Now, UnixTime};
use tercet_nodedb::{MemoryStore, NodeDb, NodeMeta, NodeStore, Write};

use common::*;

const IDS: u32 = 24;
const IPS: u8 = 10;
const SEQS: u64 = 3;
/// Fewer rows than ids, so that sequences overflow it.
const BOUND: usize = 16;

/// Records are made once: a sequence must not cost a signature for each write.
static NODES: LazyLock<Vec<Vec<Node>>> = LazyLock::new(|| {
    let of = |number| {
        let bare = bare(number, ip((number % u32::from(IPS)) as u8));
        let signed = (1..=SEQS).map(|seq| signed(number, ip(seq as u8), seq));
        std::iter::once(bare).chain(signed).collect()
    };
    (0..IDS).map(of).collect()
});

#[derive(Clone, Debug)]
enum Op {
    Apply(Vec<Write>),
    Pass(Duration),
    Expire,
    Seeds(usize),
}

fn write(ips: u8) -> impl Strategy<Value = Write> {
    let id = || (0..IDS).prop_map(|number| NODES[number as usize][0].id());
    let ip = move || (0..ips).prop_map(ip);
    let time = || (0..200_u64).prop_map(|hours| T0 + Duration::from_secs(hours * 3600));
    prop_oneof![
        4 => (0..IDS as usize, 0..=SEQS as usize).prop_map(|(node, seq)| Write::Node(NODES[node][seq].clone())),
        2 => (id(), ip(), time()).prop_map(|(id, ip, at)| Write::Ping { id, ip, at }),
        4 => (id(), ip(), time()).prop_map(|(id, ip, at)| Write::Pong { id, ip, at }),
        2 => (id(), ip(), any::<u32>()).prop_map(|(id, ip, count)| Write::FindFailures { id, ip, count }),
        1 => (id(), ip(), any::<u32>()).prop_map(|(id, ip, count)| Write::FindFailuresV5 { id, ip, count }),
        1 => id().prop_map(Write::Remove),
        1 => (id(), any::<u64>()).prop_map(|(id, seq)| Write::LocalSeq { id, seq }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => prop::collection::vec(write(IPS), 1..20).prop_map(Op::Apply),
        2 => (0..30_u64).prop_map(|hours| Op::Pass(Duration::from_secs(hours * 3600))),
        1 => Just(Op::Expire),
        1 => (0..40_usize).prop_map(Op::Seeds),
    ]
}

/// Everything a store can be asked about the model's ids.
#[derive(Debug, PartialEq)]
struct Picture {
    nodes: Vec<Option<Node>>,
    metas: Vec<NodeMeta>,
    locals: Vec<Option<u64>>,
}

fn ids() -> impl Iterator<Item = NodeId> {
    NODES.iter().map(|node| node[0].id())
}

fn picture(store: &dyn NodeStore) -> Picture {
    Picture {
        nodes: ids().map(|id| store.node(&id).unwrap()).collect(),
        metas: ids()
            .flat_map(|id| (0..IPS).map(move |last| (id, ip(last))))
            .map(|(id, ip)| store.meta(&id, ip).unwrap())
            .collect(),
        locals: ids().map(|id| store.local_seq(&id).unwrap()).collect(),
    }
}

fn picture_through(db: &NodeDb) -> Picture {
    Picture {
        nodes: ids().map(|id| db.node(&id).unwrap()).collect(),
        metas: ids()
            .flat_map(|id| (0..IPS).map(move |last| (id, ip(last))))
            .map(|(id, ip)| db.meta(&id, ip).unwrap())
            .collect(),
        locals: ids().map(|id| db.local_seq(&id).unwrap()).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_stores_agree(ops in prop::collection::vec(op(), 1..40)) {
        let (memory, rocks) = (memory(BOUND).store, rocks(BOUND));
        let mut now: UnixTime = T0;
        for (step, op) in ops.into_iter().enumerate() {
            match op {
                Op::Apply(writes) => {
                    prop_assert_eq!(memory.apply(now, &writes), rocks.store.apply(now, &writes));
                }
                Op::Pass(time) => now = now + time,
                Op::Expire => prop_assert_eq!(memory.expire(now, DAY), rocks.store.expire(now, DAY)),
                Op::Seeds(count) => {
                    let choose = |store: &dyn NodeStore| {
                        let mut rng = MachineRng::from_seed([step as u8; 32]);
                        let seeds = store.seeds(&query(count, now), &mut rng).unwrap();
                        let seeds = seeds.into_iter().map(|seed| (seed.node, seed.meta));
                        seeds.collect::<Vec<_>>()
                    };
                    prop_assert_eq!(choose(&memory), choose(&rocks.store));
                }
            }
            let (ours, theirs) = (memory.stats().unwrap(), rocks.store.stats().unwrap());
            prop_assert_eq!((ours.nodes, ours.rows), (theirs.nodes, theirs.rows));
            prop_assert!(ours.rows <= BOUND);
            prop_assert_eq!(theirs.skipped, 0);
        }
        prop_assert_eq!(picture(&memory), picture(&rocks.store));
    }

    /// Through the queue, before and after it is committed, everything reads as if each write had been applied at once.
    #[test]
    fn the_queue_changes_no_answer(
        batches in prop::collection::vec(prop::collection::vec(write(8), 1..30), 1..4),
    ) {
        let now = Now { mono: MonoTime::ZERO, unix: T0 + 200 * HOUR };
        let direct = MemoryStore::new();
        let db = NodeDb::with_store(MemoryStore::new(), move || now).unwrap();
        for batch in batches {
            for write in batch {
                direct.apply(now.unix, std::slice::from_ref(&write)).unwrap();
                db.write(write).unwrap();
            }
            prop_assert_eq!(picture(&direct), picture_through(&db));
            db.flush_blocking().unwrap();
            prop_assert_eq!(picture(&direct), picture_through(&db));
        }
    }
}
