//! Hash maps for keys that strangers choose: keyed, so that nobody can aim at one bucket, and seeded from the machine's own
//! generator, so that a run can be replayed (their order of iteration included).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::BuildHasher;

use rand::Rng;
use siphasher::sip::SipHasher13;

/// A hash map under a [`KeyedState`]; make one with `KeyedMap::with_hasher(state)`.
pub type KeyedMap<K, V> = HashMap<K, V, KeyedState>;
/// A hash set under a [`KeyedState`].
pub type KeyedSet<K> = HashSet<K, KeyedState>;

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
