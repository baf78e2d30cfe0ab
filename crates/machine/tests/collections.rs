//! Collections: each behaves as a naive one beside it, and none grows past its bound.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a test fails by panicking

use std::collections::{BTreeMap, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;
use rand::{Rng, RngExt};
use tercet_machine::{
    BoundedLru, BoundedQueue, ExpiringMap, Full, KeyedMap, KeyedState, MachineRng, MonoTime,
    TimerSet,
};

fn state() -> KeyedState {
    KeyedState::new(&mut MachineRng::from_seed([3; 32]))
}

fn at(nanos: u64) -> MonoTime {
    MonoTime::from_nanos(nanos)
}

proptest! {
    #[test]
    fn timers_fire_in_order_and_once(steps in vec((0u8..12, 0u64..100, 0u8..4), 0..150)) {
        let mut timers = TimerSet::new();
        // Key to (time, order of setting).
        let mut naive: BTreeMap<u8, (u64, usize)> = BTreeMap::new();
        for (order, (key, time, action)) in steps.into_iter().enumerate() {
            match action {
                0 | 1 => {
                    timers.set(key, at(time));
                    naive.insert(key, (time, order));
                }
                2 => prop_assert_eq!(timers.cancel(&key), naive.remove(&key).is_some()),
                _ => {
                    while let Some(fired) = timers.pop_expired(at(time)) {
                        let due = naive.iter().min_by_key(|(_, slot)| **slot).map(|(key, _)| *key);
                        prop_assert_eq!(Some(fired), due);
                        prop_assert!(naive.remove(&fired).unwrap().0 <= time);
                    }
                    prop_assert!(naive.values().all(|(due, _)| *due > time));
                }
            }
            prop_assert_eq!(timers.deadline(), naive.values().map(|(time, _)| at(*time)).min());
            prop_assert_eq!(timers.get(&key), naive.get(&key).map(|(time, _)| at(*time)));
            prop_assert_eq!(timers.len(), naive.len());
        }
        timers.clear();
        prop_assert!(timers.is_empty() && timers.deadline().is_none());
    }

    #[test]
    fn entries_of_an_expiring_map_end_on_time(
        capacity in 0usize..6, steps in vec((0u8..10, 0u64..50, 0u8..4), 0..150)
    ) {
        let mut map = ExpiringMap::new(capacity, state());
        let mut naive: BTreeMap<u8, (u64, usize)> = BTreeMap::new();
        let mut now = 0;
        for (order, (key, time, action)) in steps.into_iter().enumerate() {
            match action {
                0 | 1 => {
                    let gone = map.insert(key, order, at(now + time));
                    let expected = if capacity == 0 {
                        Some((key, order))
                    } else if let Some((_, old)) = naive.insert(key, (now + time, order)) {
                        Some((key, old))
                    } else if naive.len() > capacity {
                        let first =
                            naive.iter().filter(|(k, _)| **k != key).min_by_key(|(_, slot)| **slot);
                        let (first, (_, value)) = first.map(|(k, slot)| (*k, *slot)).unwrap();
                        naive.remove(&first);
                        Some((first, value))
                    } else {
                        None
                    };
                    prop_assert_eq!(gone, expected);
                }
                2 => prop_assert_eq!(map.remove(&key), naive.remove(&key).map(|(_, value)| value)),
                _ => {
                    now += time;
                    while let Some((key, value)) = map.pop_expired(at(now)) {
                        let due = naive.iter().min_by_key(|(_, slot)| **slot).unwrap();
                        prop_assert_eq!((*due.0, due.1.1), (key, value));
                        naive.remove(&key);
                    }
                    prop_assert!(naive.values().all(|(ends, _)| *ends > now));
                }
            }
            let found = naive.get(&key).filter(|(ends, _)| *ends > now).map(|(_, value)| value);
            prop_assert_eq!(map.get(at(now), &key), found);
            prop_assert_eq!(map.get_mut(at(now), &key).map(|value| &*value), found);
            prop_assert_eq!(map.len(), naive.len());
            prop_assert!(map.len() <= map.capacity());
            prop_assert_eq!(map.iter().len(), map.len());
            prop_assert_eq!(map.deadline(), naive.values().map(|(ends, _)| at(*ends)).min());
        }
    }

    #[test]
    fn an_lru_forgets_what_was_not_used_for_longest(
        capacity in 0usize..6, steps in vec((0u8..10, 0u8..4), 0..150)
    ) {
        let mut lru = BoundedLru::new(capacity, state());
        let mut naive: VecDeque<(u8, usize)> = VecDeque::new();
        for (value, (key, action)) in steps.into_iter().enumerate() {
            let place = naive.iter().position(|(other, _)| *other == key);
            match action {
                0 | 1 => {
                    let old = place.and_then(|place| naive.remove(place));
                    naive.push_back((key, value));
                    let expected = if naive.len() > capacity { naive.pop_front() } else { old };
                    prop_assert_eq!(lru.insert(key, value), expected);
                }
                2 => {
                    let used = place.and_then(|place| naive.remove(place));
                    prop_assert_eq!(lru.get(&key), used.as_ref().map(|(_, value)| value));
                    naive.extend(used);
                }
                _ => {
                    prop_assert_eq!(lru.peek(&key).copied(), place.map(|place| naive[place].1));
                    prop_assert_eq!(lru.contains(&key), place.is_some());
                    let removed = place.and_then(|place| naive.remove(place));
                    prop_assert_eq!(lru.remove(&key), removed.map(|(_, value)| value));
                }
            }
            prop_assert_eq!(lru.len(), naive.len());
            prop_assert!(lru.len() <= lru.capacity());
            let order: Vec<_> = lru.iter().map(|(key, value)| (*key, *value)).collect();
            prop_assert_eq!(order, naive.iter().rev().copied().collect::<Vec<_>>());
        }
        while let Some(oldest) = lru.pop_oldest() {
            prop_assert_eq!(Some(oldest), naive.pop_front());
        }
        prop_assert!(naive.is_empty());
    }

    #[test]
    fn a_queue_keeps_order_and_bound(capacity in 0usize..6, steps in vec(0u8..3, 0..100)) {
        let mut queue = BoundedQueue::new(capacity);
        let mut naive = VecDeque::new();
        for (item, action) in steps.into_iter().enumerate() {
            match action {
                0 => {
                    let full = naive.len() >= capacity;
                    prop_assert_eq!(queue.push(item), if full { Err(Full(item)) } else { Ok(()) });
                    if !full {
                        naive.push_back(item);
                    }
                }
                1 => {
                    naive.push_back(item);
                    let expected = if naive.len() > capacity { naive.pop_front() } else { None };
                    prop_assert_eq!(queue.push_evicting(item), expected);
                }
                _ => prop_assert_eq!(queue.pop(), naive.pop_front()),
            }
            prop_assert_eq!(queue.peek(), naive.front());
            prop_assert!(queue.iter().eq(naive.iter()));
            prop_assert_eq!((queue.len(), queue.is_empty()), (naive.len(), naive.is_empty()));
            prop_assert_eq!(queue.is_full(), naive.len() >= queue.capacity());
        }
    }
}

#[test]
fn generators_repeat_and_children_are_apart() {
    let draw = |rng: &mut MachineRng| -> [u64; 4] { std::array::from_fn(|_| rng.next_u64()) };
    let root = || MachineRng::from_seed([9; 32]);
    assert_eq!(draw(&mut root()), draw(&mut root()));
    assert_eq!(draw(&mut root().child("a")), draw(&mut root().child("a")));
    assert_ne!(draw(&mut root().child("a")), draw(&mut root().child("b")));
    assert_ne!(draw(&mut root().child("a")), draw(&mut root()));
    let mut parent = root();
    let (first, second) = (draw(&mut parent.child("a")), draw(&mut parent.child("a")));
    assert_ne!(first, second, "two children of one name differ");
    assert_ne!(draw(&mut MachineRng::from_seed([8; 32])), draw(&mut root()));
    assert!(!format!("{:?}", root()).contains('9'));
}

#[test]
fn the_system_seeds_differently_each_time() {
    let mut a = MachineRng::from_system().unwrap();
    let mut b = MachineRng::from_system().unwrap();
    assert_ne!(a.random::<u128>(), b.random::<u128>());
}

#[test]
fn keyed_maps_iterate_alike_for_one_key_and_differently_for_another() {
    let order = |seed: u8| -> Vec<u32> {
        let state = KeyedState::new(&mut MachineRng::from_seed([seed; 32]));
        let mut map = KeyedMap::with_hasher(state);
        map.extend((0..200u32).map(|key| (key, ())));
        map.into_keys().collect()
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
}
