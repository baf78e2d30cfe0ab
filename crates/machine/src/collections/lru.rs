//! A map that forgets what was not used for longest.

use std::hash::Hash;

use lru::LruCache;

use crate::hash::KeyedState;

/// A map of at most `capacity` entries; a further one pushes out the least recently used. All operations are O(1). Memory
/// grows with use, not with the bound.
///
/// ```
/// use tercet_machine::{BoundedLru, KeyedState, MachineRng};
/// let state = KeyedState::new(&mut MachineRng::from_seed([1; 32]));
/// let mut known = BoundedLru::new(2, state);
/// known.insert("a", 1);
/// known.insert("b", 2);
/// known.get(&"a");
/// assert_eq!(known.insert("c", 3), Some(("b", 2)));
/// ```
#[derive(Debug)]
pub struct BoundedLru<K: Hash + Eq, V> {
    /// Without a bound of its own, because that one would allocate all places at once.
    entries: LruCache<K, V, KeyedState>,
    capacity: usize,
}

impl<K: Hash + Eq, V> BoundedLru<K, V> {
    /// An empty map for at most `capacity` entries.
    #[must_use]
    pub fn new(capacity: usize, state: KeyedState) -> Self {
        Self {
            entries: LruCache::unbounded_with_hasher(state),
            capacity,
        }
    }

    /// Sets `key` and makes it the most recently used. Returns what had to go: the key's former value, or the least
    /// recently used entry if the map was full (with capacity 0, the entry itself).
    pub fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        // `push` returns the replaced pair of the same key.
        let replaced = self.entries.push(key, value);
        if self.entries.len() > self.capacity {
            self.entries.pop_lru()
        } else {
            replaced
        }
    }

    /// The value of `key`, which becomes the most recently used.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    /// As [`get`](Self::get), to change the value.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    /// The value of `key`, without counting as use.
    #[must_use]
    pub fn peek(&self, key: &K) -> Option<&V> {
        self.entries.peek(key)
    }

    /// Whether `key` is there, without counting as use.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.entries.contains(key)
    }

    /// Takes `key` out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.pop(key)
    }

    /// The least recently used entry, without counting as use.
    #[must_use]
    pub fn oldest(&self) -> Option<(&K, &V)> {
        self.entries.peek_lru()
    }

    /// Takes out the least recently used entry.
    pub fn pop_oldest(&mut self) -> Option<(K, V)> {
        self.entries.pop_lru()
    }

    /// The entries, most recently used first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &V)> {
        self.entries.iter()
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bound.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }
}
