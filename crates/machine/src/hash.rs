//! Hash maps for keys that strangers choose: keyed, so that nobody can aim at one bucket, and seeded from the machine's own
//! generator, so that a run can be replayed (their order of iteration included).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher, Hash};

use rand::Rng;
use siphasher::sip::SipHasher13;

/// A hash map under a [`KeyedState`]; make one with `KeyedMap::with_hasher(state)`.
pub type KeyedMap<K, V> = HashMap<K, V, KeyedState>;
/// A hash set under a [`KeyedState`].
pub type KeyedSet<K> = HashSet<K, KeyedState>;

/// A map with room for as many entries as this never gives any back.
const SMALL: usize = 64;

/// Gives the memory of a burst back: call it after taking entries out. It does something when seven eighths of the room are
/// empty, and then leaves room for twice what is there, so that all removals together move fewer entries than they take out.
///
/// ```
/// use tercet_machine::{KeyedMap, KeyedState, MachineRng, shrink};
/// let mut map = KeyedMap::with_hasher(KeyedState::new(&mut MachineRng::from_seed([1; 32])));
/// map.extend((0..1000).map(|n| (n, n)));
/// for n in 0..1000 {
///     map.remove(&n);
///     shrink(&mut map);
/// }
/// assert!(map.capacity() < 100);
/// ```
pub fn shrink<K: Eq + Hash, V>(map: &mut KeyedMap<K, V>) {
    if map.capacity() > SMALL && map.len() < map.capacity() / 8 {
        map.shrink_to(map.len() * 2);
    }
}

/// The key of a SipHash-1-3. It has no `Default`: a key everybody knows is none.
///
/// ```
/// use tercet_machine::{KeyedMap, KeyedState, MachineRng};
/// let state = KeyedState::new(&mut MachineRng::from_seed([1; 32]));
/// let mut map = KeyedMap::with_hasher(state);
/// map.insert("peer", 1);
/// ```
#[derive(Clone, Copy)]
pub struct KeyedState {
    key: (u64, u64),
}

impl KeyedState {
    /// A key drawn from `rng`.
    pub fn new<R: Rng + ?Sized>(rng: &mut R) -> Self {
        Self {
            key: (rng.next_u64(), rng.next_u64()),
        }
    }
}

impl BuildHasher for KeyedState {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.key.0, self.key.1)
    }
}

impl fmt::Debug for KeyedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyedState(..)")
    }
}
