//! A map whose entries end by themselves.

use std::collections::BTreeMap;
use std::hash::Hash;

use crate::hash::{KeyedMap, KeyedState, shrink};
use crate::time::MonoTime;

/// A map of at most `capacity` entries, each with a time of its own at which it ends. When it is full, the entry that would
/// end first makes room. Lookups are O(1), changes O(log n). The memory of a burst is given back when its entries are gone.
///
/// An entry whose time has come is no longer found, but stays until [`pop_expired`](Self::pop_expired) hands it out or an
/// insertion needs its place: whoever waits for the end of entries gets every one.
///
/// ```
/// use tercet_machine::{ExpiringMap, KeyedState, MachineRng, MonoTime};
/// let state = KeyedState::new(&mut MachineRng::from_seed([1; 32]));
/// let mut pending = ExpiringMap::new(100, state);
/// let (now, later) = (MonoTime::ZERO, MonoTime::from_millis(500));
/// pending.insert("ping", 1, later);
/// assert_eq!(pending.get(now, &"ping"), Some(&1));
/// assert_eq!(pending.get(later, &"ping"), None);
/// assert_eq!(pending.pop_expired(later), Some(("ping", 1)));
/// ```
#[derive(Debug, Clone)]
pub struct ExpiringMap<K, V> {
    entries: KeyedMap<K, Entry<V>>,
    /// By end, then by the order of insertion.
    order: BTreeMap<(MonoTime, u64), K>,
    capacity: usize,
    next_slot: u64,
}

#[derive(Debug, Clone)]
struct Entry<V> {
    value: V,
    slot: (MonoTime, u64),
}

impl<K: Hash + Eq + Clone, V> ExpiringMap<K, V> {
    /// An empty map for at most `capacity` entries.
    #[must_use]
    pub fn new(capacity: usize, state: KeyedState) -> Self {
        Self {
            entries: KeyedMap::with_hasher(state),
            order: BTreeMap::new(),
            capacity,
            next_slot: 0,
        }
    }

    /// Sets `key` until `ends`. Returns what had to go: the key's former value, or the entry that would have ended first if
    /// the map was full (with capacity 0, the entry itself).
    pub fn insert(&mut self, key: K, value: V, ends: MonoTime) -> Option<(K, V)> {
        if self.capacity == 0 {
            return Some((key, value));
        }
        let gone = match self.remove(&key) {
            Some(former) => Some((key.clone(), former)),
            None if self.entries.len() >= self.capacity => self.pop_first(),
            None => None,
        };
        let slot = (ends, self.next_slot);
        self.next_slot = self.next_slot.wrapping_add(1);
        self.order.insert(slot, key.clone());
        self.entries.insert(key, Entry { value, slot });
        gone
    }

    /// The value of `key`, if it has not ended at `now`.
    #[must_use]
    pub fn get(&self, now: MonoTime, key: &K) -> Option<&V> {
        self.entries
            .get(key)
            .filter(|entry| entry.slot.0 > now)
            .map(|entry| &entry.value)
    }

    /// As [`get`](Self::get), to change the value; its end stays.
    pub fn get_mut(&mut self, now: MonoTime, key: &K) -> Option<&mut V> {
        self.entries
            .get_mut(key)
            .filter(|entry| entry.slot.0 > now)
            .map(|entry| &mut entry.value)
    }

    /// Takes `key` out, ended or not.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.remove(key)?;
        self.order.remove(&entry.slot);
        shrink(&mut self.entries);
        Some(entry.value)
    }

    /// When the next entry ends.
    #[must_use]
    pub fn deadline(&self) -> Option<MonoTime> {
        self.order.first_key_value().map(|((ends, _), _)| *ends)
    }

    /// Takes out the first entry that has ended at `now`. Call until `None`.
    pub fn pop_expired(&mut self, now: MonoTime) -> Option<(K, V)> {
        if self.deadline()? > now {
            return None;
        }
        self.pop_first()
    }

    /// All entries, ended or not, in the order of the map.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.value))
    }

    /// How many entries are held, ended ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bound.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    fn pop_first(&mut self) -> Option<(K, V)> {
        let (_, key) = self.order.pop_first()?;
        let entry = self.entries.remove(&key)?;
        shrink(&mut self.entries);
        Some((key, entry.value))
    }
}
