//! Transactions the pool refused lately, so that the same one is not fetched
//! from every peer that announces it.

use crate::limits::{MAX_REFUSED_TRANSACTIONS, REFUSED_MEMORY};
use alloy_primitives::B256;
use std::collections::HashSet;
use tercet_machine::{KeyedSet, KeyedState, MonoTime};

/// Two generations of hashes. The older is forgotten when the newer is
/// [`REFUSED_MEMORY`] old or half the bound is reached.
#[derive(Debug)]
pub(super) struct RefusedTransactions {
    newer: KeyedSet<B256>,
    older: KeyedSet<B256>,
    turn: MonoTime,
}

impl RefusedTransactions {
    pub(super) fn new(state: KeyedState) -> Self {
        RefusedTransactions {
            newer: HashSet::with_hasher(state),
            older: HashSet::with_hasher(state),
            turn: MonoTime::ZERO,
        }
    }

    pub(super) fn insert(&mut self, now: MonoTime, hash: B256) {
        self.turn(now);
        if self.newer.len() >= MAX_REFUSED_TRANSACTIONS / 2 {
            let empty = self.empty();
            self.older = std::mem::replace(&mut self.newer, empty);
        }
        self.newer.insert(hash);
    }

    pub(super) fn contains(&mut self, now: MonoTime, hash: &B256) -> bool {
        self.turn(now);
        self.newer.contains(hash) || self.older.contains(hash)
    }

    /// Ages the generations, by two if both are due.
    fn turn(&mut self, now: MonoTime) {
        let age = now - self.turn;
        if age < REFUSED_MEMORY {
            return;
        }
        let (empty, forgotten) = (self.empty(), self.empty());
        let newer = std::mem::replace(&mut self.newer, empty);
        self.older = if age < 2 * REFUSED_MEMORY {
            newer
        } else {
            forgotten
        };
        self.turn = now;
    }

    fn empty(&self) -> KeyedSet<B256> {
        HashSet::with_hasher(*self.newer.hasher())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::U256;
    use std::time::Duration;
    use tercet_machine::MachineRng;

    fn refused() -> RefusedTransactions {
        RefusedTransactions::new(KeyedState::new(&mut MachineRng::from_seed([7; 32])))
    }

    #[test]
    fn remembers_for_five_minutes_and_forgets_within_ten() {
        let mut refused = refused();
        let start = MonoTime::from_secs(1_000);
        let hash = B256::repeat_byte(1);
        refused.insert(start, hash);
        assert!(refused.contains(start + (REFUSED_MEMORY - Duration::from_secs(1)), &hash));
        assert!(!refused.contains(start + 2 * REFUSED_MEMORY, &hash));
    }

    #[test]
    fn never_holds_more_than_the_bound() {
        let mut refused = refused();
        for n in 0..3 * MAX_REFUSED_TRANSACTIONS {
            refused.insert(MonoTime::ZERO, B256::from(U256::from(n)));
            let held = refused.newer.len() + refused.older.len();
            assert!(held <= MAX_REFUSED_TRANSACTIONS);
        }
    }
}
