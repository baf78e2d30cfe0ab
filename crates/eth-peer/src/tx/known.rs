//! The transactions one peer is known to have: those it sent or announced, and
//! those we sent or announced to it. A keyed 64-bit fingerprint stands for each
//! hash, so a full set takes 2 MiB less than one of whole hashes; nobody without
//! the key can make two hashes collide, and by chance one in 10^14 does.

use crate::limits::MAX_KNOWN_TRANSACTIONS;
use alloy_primitives::B256;
use std::hash::BuildHasher;
use tercet_machine::{BoundedLru, KeyedState};

#[derive(Debug)]
pub(crate) struct KnownTransactions {
    fingerprints: BoundedLru<u64, ()>,
    state: KeyedState,
}

impl KnownTransactions {
    pub(crate) fn new(state: KeyedState) -> Self {
        KnownTransactions {
            fingerprints: BoundedLru::new(MAX_KNOWN_TRANSACTIONS, state),
            state,
        }
    }

    pub(crate) fn contains(&self, hash: &B256) -> bool {
        self.fingerprints.contains(&self.state.hash_one(hash))
    }

    /// Marks the transaction, forgetting the one not touched for longest when
    /// full.
    pub(crate) fn insert(&mut self, hash: &B256) {
        self.fingerprints.insert(self.state.hash_one(hash), ());
    }

    /// Takes a mark back: the peer was never told after all.
    pub(crate) fn remove(&mut self, hash: &B256) {
        self.fingerprints.remove(&self.state.hash_one(hash));
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.fingerprints.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::U256;
    use tercet_machine::MachineRng;

    #[test]
    fn never_more_than_the_bound_and_the_newest_stay() {
        let state = KeyedState::new(&mut MachineRng::from_seed([7; 32]));
        let mut known = KnownTransactions::new(state);
        let hash = |n: usize| B256::from(U256::from(n));
        for n in 0..MAX_KNOWN_TRANSACTIONS + 100 {
            known.insert(&hash(n));
        }
        assert_eq!(known.len(), MAX_KNOWN_TRANSACTIONS);
        assert!(!known.contains(&hash(99)));
        assert!(known.contains(&hash(100)));
        known.remove(&hash(100));
        assert!(!known.contains(&hash(100)));
    }
}
