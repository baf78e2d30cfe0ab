//! What every store must do, run over each of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // a test may fail loudly

mod common;

use std::collections::BTreeSet;
use std::net::IpAddr;

use tercet_enode::{Node, NodeId, NodeRecord};
use tercet_machine::MachineRng;
use tercet_nodedb::{
    Applied, CacheKey, EVICTION_SHARE, MAX_ADDRESSES, MAX_CACHED, MAX_CACHED_BYTES,
    MAX_CACHED_VALUE, MAX_NODES, NodeDb, NodeMeta, Write, WriteError,
};

use common::*;

#[test]
fn an_empty_store_knows_nothing() {
    each_store(MAX_NODES, |store| {
        let id = bare(1, ip(1)).id();
        assert_eq!(store.node(&id).unwrap(), None);
        assert_eq!(store.meta(&id, ip(1)).unwrap(), NodeMeta::default());
        assert_eq!(store.local_seq(&id).unwrap(), None);
        let mut rng = MachineRng::from_seed([1; 32]);
        assert!(store.seeds(&query(30, T0), &mut rng).unwrap().is_empty());
        assert_eq!(store.expire(T0, DAY).unwrap(), 0);
        assert_eq!(
            (store.stats().unwrap().nodes, store.stats().unwrap().rows),
            (0, 0)
        );
    });
}

#[test]
fn contacts_come_back_as_they_were_with_and_without_a_record() {
    each_store(MAX_NODES, |store| {
        let v6: IpAddr = "2001:db8:77::1".parse().unwrap();
        let elsewhere = tercet_enode::Endpoint::new(ip(99), 1, 0);
        let nodes = [
            bare(1, ip(1)),
            bare(2, v6),
            signed(3, ip(3), 7),
            signed(4, v6, u64::MAX),
            // Reached at another place than its record says.
            signed(5, ip(5), 9).with_endpoint(elsewhere),
        ];
        let writes: Vec<Write> = nodes.iter().cloned().map(Write::Node).collect();
        store.apply(T0, &writes).unwrap();
        for node in &nodes {
            let stored = store.node(&node.id()).unwrap().unwrap();
            assert_eq!(&stored, node);
            assert_eq!(
                stored.record().map(|record| record.raw().clone()),
                node.record().map(|record| record.raw().clone())
            );
        }
        assert_eq!(store.stats().unwrap().nodes, nodes.len());
    });
}

#[test]
fn a_lower_sequence_number_is_refused_and_counted() {
    each_store(MAX_NODES, |store| {
        let newer = signed(1, ip(1), 5);
        let older = signed(1, ip(2), 4);
        let same = signed(1, ip(3), 5);
        let without = bare(1, ip(4));
        store.apply(T0, &[Write::Node(newer.clone())]).unwrap();
        for stale in [older, without] {
            let applied = store.apply(T0, &[Write::Node(stale)]).unwrap();
            assert_eq!(
                applied,
                Applied {
                    refused: 1,
                    evicted: 0
                }
            );
            assert_eq!(store.node(&newer.id()).unwrap(), Some(newer.clone()));
        }
        store.apply(T0, &[Write::Node(same.clone())]).unwrap();
        assert_eq!(store.node(&newer.id()).unwrap(), Some(same));
        assert_eq!(store.stats().unwrap().nodes, 1);
    });
}

#[test]
fn statistics_are_kept_by_id_and_address() {
    each_store(MAX_NODES, |store| {
        let (a, b) = (bare(1, ip(1)).id(), bare(2, ip(1)).id());
        let later = T0 + HOUR;
        let writes = [
            Write::Ping {
                id: a,
                ip: ip(1),
                at: T0,
            },
            Write::Pong {
                id: a,
                ip: ip(2),
                at: later,
            },
            Write::FindFailures {
                id: b,
                ip: ip(1),
                count: 4,
            },
            // Out of order: an earlier time never replaces a later one.
            Write::Pong {
                id: a,
                ip: ip(2),
                at: T0,
            },
        ];
        store.apply(later, &writes).unwrap();
        let meta = |id: &NodeId, last| store.meta(id, ip(last)).unwrap();
        let none = NodeMeta::default();
        assert_eq!(
            meta(&a, 1),
            NodeMeta {
                last_ping: Some(T0),
                ..none
            }
        );
        assert_eq!(
            meta(&a, 2),
            NodeMeta {
                last_pong: Some(later),
                ..none
            }
        );
        assert_eq!(
            meta(&b, 1),
            NodeMeta {
                find_failures: 4,
                ..none
            }
        );
        assert_eq!(meta(&b, 2), none);
        // None of this is a contact.
        assert_eq!(store.node(&a).unwrap(), None);
        assert_eq!(store.stats().unwrap().nodes, 0);
        assert_eq!(store.stats().unwrap().rows, 2);
    });
}

#[test]
fn a_mapped_address_is_the_address_it_maps() {
    each_store(MAX_NODES, |store| {
        let id = bare(1, ip(1)).id();
        let mapped: IpAddr = "::ffff:203.0.114.1".parse().unwrap();
        store
            .apply(
                T0,
                &[Write::Pong {
                    id,
                    ip: mapped,
                    at: T0,
                }],
            )
            .unwrap();
        assert_eq!(store.meta(&id, ip(1)).unwrap().last_pong, Some(T0));
        assert_eq!(store.meta(&id, mapped).unwrap().last_pong, Some(T0));
    });
}

#[test]
fn a_time_from_the_future_is_cut_to_now() {
    each_store(MAX_NODES, |store| {
        let node = bare(1, ip(1));
        store
            .apply(
                T0,
                &[Write::Node(node.clone()), pong(&node, T0 + 1000 * DAY)],
            )
            .unwrap();
        assert_eq!(store.meta(&node.id(), ip(1)).unwrap().last_pong, Some(T0));
    });
}

#[test]
fn one_id_keeps_eight_addresses_and_the_one_of_its_contact() {
    each_store(MAX_NODES, |store| {
        let node = bare(1, ip(0));
        let id = node.id();
        store
            .apply(T0, &[ping(&node, T0), Write::Node(node)])
            .unwrap();
        for last in 1..=20 {
            let at = T0 + HOUR * u32::from(last);
            store
                .apply(
                    at,
                    &[Write::Pong {
                        id,
                        ip: ip(last),
                        at,
                    }],
                )
                .unwrap();
        }
        let known =
            (0..=20).filter(|last| store.meta(&id, ip(*last)).unwrap() != NodeMeta::default());
        let known: Vec<u8> = known.collect();
        assert_eq!(known.len(), MAX_ADDRESSES);
        assert_eq!(known, [0, 14, 15, 16, 17, 18, 19, 20]);
    });
}

#[test]
fn removing_forgets_all_but_the_local_number() {
    each_store(MAX_NODES, |store| {
        let node = signed(1, ip(1), 3);
        let id = node.id();
        let local = Write::LocalSeq { id, seq: 9 };
        store
            .apply(T0, &[Write::Node(node.clone()), pong(&node, T0), local])
            .unwrap();
        store.apply(T0, &[Write::Remove(id)]).unwrap();
        assert_eq!(store.node(&id).unwrap(), None);
        assert_eq!(store.meta(&id, ip(1)).unwrap(), NodeMeta::default());
        assert_eq!(store.local_seq(&id).unwrap(), Some(9));
        assert_eq!(store.stats().unwrap().rows, 0);
        // And a lower record is welcome again.
        let older = signed(1, ip(1), 1);
        store
            .apply(T0, &[Write::Remove(id), Write::Node(older.clone())])
            .unwrap();
        assert_eq!(store.node(&id).unwrap(), Some(older));
    });
}

#[test]
fn the_local_number_never_goes_down() {
    each_store(MAX_NODES, |store| {
        let id = bare(1, ip(1)).id();
        for (written, stored) in [(5, 5), (3, 5), (u64::MAX, u64::MAX), (0, u64::MAX)] {
            store
                .apply(T0, &[Write::LocalSeq { id, seq: written }])
                .unwrap();
            assert_eq!(store.local_seq(&id).unwrap(), Some(stored));
        }
        assert_eq!(store.local_seq(&bare(2, ip(1)).id()).unwrap(), None);
    });
}

#[test]
fn what_answered_lives_a_day_from_its_last_answer() {
    each_store(MAX_NODES, |store| {
        let (a, b) = (bare(1, ip(1)), signed(2, ip(2), 1));
        let writes = [
            Write::Node(a.clone()),
            Write::Node(b.clone()),
            pong(&a, T0),
            pong(&b, T0),
        ];
        store.apply(T0, &writes).unwrap();
        store.apply(T0 + HOUR, &[pong(&b, T0 + HOUR)]).unwrap();

        assert_eq!(store.expire(T0 + DAY, DAY).unwrap(), 0);
        assert_eq!(store.expire(T0 + DAY + HOUR / 3600, DAY).unwrap(), 1);
        assert_eq!(store.node(&a.id()).unwrap(), None);
        assert_eq!(store.meta(&a.id(), ip(1)).unwrap(), NodeMeta::default());
        assert_eq!(store.node(&b.id()).unwrap(), Some(b.clone()));
        assert_eq!(store.expire(T0 + DAY + 2 * HOUR, DAY).unwrap(), 1);
        assert_eq!(store.stats().unwrap().rows, 0);
    });
}

#[test]
fn what_never_answered_lives_a_day_from_when_it_was_first_stored() {
    each_store(MAX_NODES, |store| {
        let node = signed(1, ip(1), 1);
        store.apply(T0, &[Write::Node(node.clone())]).unwrap();
        // Neither a newer record nor its pings are an answer.
        let newer = signed(1, ip(1), 2);
        let later = T0 + 23 * HOUR;
        store
            .apply(later, &[Write::Node(newer), ping(&node, later)])
            .unwrap();
        assert_eq!(store.expire(T0 + DAY, DAY).unwrap(), 0);
        assert_eq!(store.expire(T0 + DAY + HOUR, DAY).unwrap(), 1);
        assert_eq!(store.node(&node.id()).unwrap(), None);
        // The ping is not a day old; a day later nothing is left.
        assert_eq!(
            store.meta(&node.id(), ip(1)).unwrap().last_ping,
            Some(later)
        );
        assert_eq!(store.expire(later + DAY + HOUR, DAY).unwrap(), 0);
        assert_eq!(store.stats().unwrap().rows, 0);
    });
}

#[test]
fn an_address_that_stopped_answering_is_forgotten_alone() {
    each_store(MAX_NODES, |store| {
        let node = bare(1, ip(1));
        let id = node.id();
        let old = Write::Pong {
            id,
            ip: ip(2),
            at: T0,
        };
        store.apply(T0, &[Write::Node(node.clone()), old]).unwrap();
        store.apply(T0 + DAY, &[pong(&node, T0 + DAY)]).unwrap();
        assert_eq!(store.expire(T0 + DAY + HOUR, DAY).unwrap(), 0);
        assert_eq!(store.meta(&id, ip(2)).unwrap(), NodeMeta::default());
        assert_eq!(store.meta(&id, ip(1)).unwrap().last_pong, Some(T0 + DAY));
        assert!(store.node(&id).unwrap().is_some());
    });
}

#[test]
fn a_clock_set_back_makes_nothing_immortal() {
    each_store(MAX_NODES, |store| {
        let node = bare(1, ip(1));
        let wrong = T0 + 10_000 * DAY;
        store
            .apply(wrong, &[Write::Node(node.clone()), pong(&node, wrong)])
            .unwrap();
        assert_eq!(store.expire(T0, DAY).unwrap(), 0);
        assert_eq!(store.meta(&node.id(), ip(1)).unwrap().last_pong, Some(T0));
        assert_eq!(store.expire(T0 + DAY + HOUR, DAY).unwrap(), 1);
    });
}

#[test]
fn expiry_never_touches_the_local_number() {
    each_store(MAX_NODES, |store| {
        let own = signed(1, ip(1), 8);
        let local = Write::LocalSeq {
            id: own.id(),
            seq: 8,
        };
        store.apply(T0, &[local, Write::Node(own.clone())]).unwrap();
        assert_eq!(store.expire(T0 + 1000 * DAY, DAY).unwrap(), 1);
        assert_eq!(store.local_seq(&own.id()).unwrap(), Some(8));
    });
}

#[test]
fn seeds_are_contacts_that_answered_lately_at_their_own_address() {
    each_store(MAX_NODES, |store| {
        let now = T0 + 10 * DAY;
        let good = signed(1, ip(1), 1);
        let stale = signed(2, ip(2), 1);
        let silent = signed(3, ip(3), 1);
        let moved = signed(4, ip(4), 1);
        let excluded = signed(5, ip(5), 1);
        let unknown = bare(6, ip(6));
        let elsewhere = Write::Pong {
            id: moved.id(),
            ip: ip(44),
            at: now,
        };
        let mut writes: Vec<Write> = [&good, &stale, &silent, &moved, &excluded]
            .map(|node| Write::Node(node.clone()))
            .into();
        writes.extend([
            pong(&good, now),
            pong(&stale, now - 6 * DAY),
            ping(&silent, now),
            elsewhere,
            pong(&excluded, now),
            pong(&unknown, now),
        ]);
        store.apply(now, &writes).unwrap();
        let mut query = query(30, now);
        query.exclude = vec![excluded.id()];
        let seeds = store
            .seeds(&query, &mut MachineRng::from_seed([2; 32]))
            .unwrap();
        assert_eq!(seeds.len(), 1);
        assert_eq!(seeds[0].node, good);
        assert_eq!(seeds[0].meta.last_pong, Some(now));
    });
}

#[test]
fn seeds_are_distinct_and_at_most_as_many_as_asked() {
    each_store(MAX_NODES, |store| {
        let nodes: Vec<_> = (0..60).map(|number| bare(number, ip(1))).collect();
        for node in &nodes {
            store
                .apply(T0, &[Write::Node(node.clone()), pong(node, T0)])
                .unwrap();
        }
        let mut rng = MachineRng::from_seed([3; 32]);
        for count in [0, 1, 30, 60, 1000] {
            let seeds = store.seeds(&query(count, T0), &mut rng).unwrap();
            let ids: BTreeSet<NodeId> = seeds.iter().map(|seed| seed.node.id()).collect();
            assert_eq!(ids.len(), seeds.len());
            assert_eq!(seeds.len(), count.min(nodes.len()));
        }
    });
}

#[test]
fn a_full_store_forgets_what_never_answered_first() {
    const BOUND: usize = 64;
    each_store(BOUND, |store| {
        let answered: Vec<_> = (0..40).map(|number| bare(number, ip(1))).collect();
        for node in &answered {
            store
                .apply(T0, &[Write::Node(node.clone()), pong(node, T0)])
                .unwrap();
        }
        let flood: Vec<_> = (1000..1500).map(|number| bare(number, ip(2))).collect();
        let mut evicted = 0;
        for (node, minute) in flood.iter().zip(1..) {
            let at = T0 + HOUR / 60 * minute;
            evicted += store.apply(at, &[ping(node, at)]).unwrap().evicted;
            assert!(store.stats().unwrap().rows <= BOUND);
        }
        // It made room for a sixteenth at a time, one more at the moment it overflows.
        assert_eq!(evicted % (BOUND / EVICTION_SHARE + 1), 0);
        assert_eq!(
            evicted + store.stats().unwrap().rows,
            answered.len() + flood.len()
        );
        for node in &answered {
            assert!(store.node(&node.id()).unwrap().is_some());
        }
        let meta = |node: &tercet_enode::Node| store.meta(&node.id(), ip(2)).unwrap();
        assert_eq!(meta(&flood[0]), NodeMeta::default());
        assert_ne!(meta(flood.last().unwrap()), NodeMeta::default());
    });
}

#[test]
fn a_store_full_of_answers_keeps_the_latest() {
    const BOUND: usize = 64;
    each_store(BOUND, |store| {
        for number in 0..=64 {
            let node = bare(number, ip(1));
            let at = T0 + HOUR * number;
            store
                .apply(at, &[Write::Node(node.clone()), pong(&node, at)])
                .unwrap();
        }
        let gone =
            (0..=64).filter(|number| store.node(&bare(*number, ip(1)).id()).unwrap().is_none());
        assert_eq!(gone.collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        let stats = store.stats().unwrap();
        assert_eq!((stats.nodes, stats.rows), (60, 60));
    });
}

fn cached(number: u32, bytes: usize) -> Write {
    Write::Cache {
        key: cache_key(number),
        value: vec![number.to_be_bytes()[3]; bytes].into(),
    }
}

fn cache_key(number: u32) -> CacheKey {
    let mut key = [0; 32];
    // High bytes first would make the order of writing that of the keys.
    key[..4].copy_from_slice(&number.reverse_bits().to_be_bytes());
    CacheKey::new(key)
}

#[test]
fn the_cache_keeps_the_last_value_and_has_nothing_to_do_with_nodes() {
    each_store(MAX_NODES, |store| {
        assert_eq!(store.cached(&cache_key(1)).unwrap(), None);
        let id = NodeId::new(*cache_key(1).as_bytes());
        store
            .apply(T0, &[cached(1, 5), cached(1, 7), cached(2, 0)])
            .unwrap();
        store.apply(T0, &[Write::Remove(id)]).unwrap();
        store.expire(T0 + 100 * DAY, DAY).unwrap();
        assert_eq!(store.cached(&cache_key(1)).unwrap().unwrap(), vec![1; 7]);
        assert_eq!(store.cached(&cache_key(2)).unwrap().unwrap(), vec![]);
        let stats = store.stats().unwrap();
        assert_eq!((stats.cached, stats.cached_bytes, stats.rows), (2, 71, 0));
    });
}

#[test]
fn a_full_cache_forgets_what_was_written_longest_ago() {
    let full = u32::try_from(MAX_CACHED).unwrap();
    each_store(MAX_NODES, |store| {
        let writes: Vec<Write> = (0..full).map(|number| cached(number, 1)).collect();
        store.apply(T0, &writes).unwrap();
        // Written again: now the youngest.
        store.apply(T0, &[cached(0, 1)]).unwrap();
        store.apply(T0, &[cached(full, 1)]).unwrap();
        assert_eq!(store.stats().unwrap().cached, MAX_CACHED);
        let there = |number| store.cached(&cache_key(number)).unwrap().is_some();
        assert!(there(0) && !there(1) && there(2) && there(full));
    });
}

#[test]
fn the_cache_is_bounded_in_bytes_too() {
    each_store(MAX_NODES, |store| {
        let value = MAX_CACHED_VALUE;
        let fit = MAX_CACHED_BYTES / (value + 32);
        let writes: Vec<Write> = (0..=u32::try_from(fit).unwrap())
            .map(|number| cached(number, value))
            .collect();
        store.apply(T0, &writes).unwrap();
        let stats = store.stats().unwrap();
        assert_eq!(stats.cached, fit);
        assert!(stats.cached_bytes <= MAX_CACHED_BYTES as u64);
        assert!(store.cached(&cache_key(0)).unwrap().is_none());
        assert!(store.cached(&cache_key(1)).unwrap().is_some());
    });
}

#[test]
fn waiting_values_are_read_and_large_ones_refused() {
    let db = NodeDb::memory().unwrap();
    db.write(cached(1, 3)).unwrap();
    assert_eq!(db.cached(&cache_key(1)).unwrap().unwrap(), vec![1; 3]);
    assert_eq!(
        db.write(cached(2, MAX_CACHED_VALUE + 1)),
        Err(WriteError::TooLarge)
    );
    db.flush_blocking().unwrap();
    assert_eq!(db.cached(&cache_key(1)).unwrap().unwrap(), vec![1; 3]);
}

#[cfg(feature = "rocksdb")]
#[test]
fn cached_values_and_their_order_survive_a_restart_of_a_folder_from_before_there_were_any() {
    use tercet_nodedb::NodeStore as _;
    let folder = tempfile::tempdir().unwrap();
    let open = || tercet_nodedb::RocksStore::open(folder.path()).unwrap();
    let node = bare(1, ip(1));
    // The layout without cached values has the same version.
    open().0.apply(T0, &[Write::Node(node.clone())]).unwrap();
    let (store, report) = open();
    assert_eq!(report.opened, tercet_nodedb::Opened::Existing);
    store.apply(T0, &[cached(1, 4), cached(2, 4)]).unwrap();
    store.apply(T0, &[cached(1, 5)]).unwrap();
    drop(store);
    let (store, report) = open();
    assert_eq!((report.skipped, report.nodes), (0, 1));
    assert_eq!(store.node(&node.id()).unwrap(), Some(node));
    assert_eq!(store.stats().unwrap().cached_bytes, 4 + 5 + 64);
    let full = u32::try_from(MAX_CACHED).unwrap();
    let writes: Vec<Write> = (10..10 + full - 1)
        .map(|number| cached(number, 1))
        .collect();
    store.apply(T0, &writes).unwrap();
    assert!(store.cached(&cache_key(2)).unwrap().is_none());
    assert_eq!(store.cached(&cache_key(1)).unwrap().unwrap(), vec![1; 5]);
}

/// A node that never spoke discv4 and has IPv6 alone, and one with both families that answered over its second: seeds, ages and
/// failures are theirs as anybody's.
#[test]
fn nodes_that_speak_discv5_alone_are_seeds_and_come_of_age() {
    each_store(MAX_NODES, |store| {
        let (v4, v6) = (ip(7), "2a00:77::1".parse::<IpAddr>().unwrap());
        let single = signed(1, v6, 3);
        let both = NodeRecord::builder()
            .seq(4)
            .ip(v4)
            .udp(30303)
            .ip(v6)
            .udp6(30304)
            .sign(&key(2))
            .unwrap();
        let both = Node::from_record(both).unwrap();
        assert_eq!(both.endpoint().ip, v4);
        let other = both.endpoints().nth(1).unwrap();
        // A table holds a node where it answers; that is what it writes.
        let answering = both.clone().with_endpoint(other);
        let writes = [
            Write::Node(single.clone()),
            pong(&single, T0),
            Write::Node(answering.clone()),
            pong(&answering, T0),
            Write::FindFailuresV5 {
                id: both.id(),
                ip: v6,
                count: 3,
            },
        ];
        store.apply(T0, &writes).unwrap();
        let mut rng = MachineRng::from_seed([1; 32]);
        let mut seeds = store.seeds(&query(30, T0), &mut rng).unwrap();
        seeds.sort_by_key(|seed| seed.node.seq());
        let nodes: Vec<_> = seeds.iter().map(|seed| seed.node.clone()).collect();
        assert_eq!(nodes, [single.clone(), answering.clone()]);
        // Silence over one protocol says nothing of the other.
        let meta = store.meta(&both.id(), v6).unwrap();
        assert_eq!((meta.find_failures, meta.find_failures_v5), (0, 3));
        assert_eq!(store.meta(&both.id(), v4).unwrap(), NodeMeta::default());
        // Both addresses of a dual-stack node have an age of their own, and the contact the younger.
        let later = T0 + 20 * HOUR;
        store.apply(later, &[pong(&both, later)]).unwrap();
        assert_eq!(store.expire(T0 + DAY + HOUR, DAY).unwrap(), 1);
        assert_eq!(store.node(&single.id()).unwrap(), None);
        assert_eq!(store.node(&both.id()).unwrap(), Some(answering.clone()));
        assert_eq!(store.meta(&both.id(), v6).unwrap(), NodeMeta::default());
        assert_eq!(store.meta(&both.id(), v4).unwrap().last_pong, Some(later));
        assert_eq!(store.expire(later + DAY + HOUR, DAY).unwrap(), 1);
        assert_eq!(store.stats().unwrap().rows, 0);
    });
}
