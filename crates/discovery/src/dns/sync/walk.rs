//! A pass through one of a list's two trees: which entries are to be fetched, in random order, each once.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt as _;
use tercet_machine::{KeyedSet, KeyedState, MachineRng, MonoTime};

use crate::dns::label::EntryHash;

/// Branches below the root that are followed. With 13 children each, as published, 5 hold 370,000 nodes.
const MAX_DEPTH: u8 = 16;
/// How often an entry is asked for before it is left out of this pass.
const TRIES: u8 = 3;
/// Wait before an entry is asked for again; doubled with each try.
const RETRY: Duration = Duration::from_secs(5);

/// An entry to fetch.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) hash: EntryHash,
    depth: u8,
    tries: u8,
    pass: u32,
}

#[derive(Debug)]
pub(super) struct Walk {
    open: Vec<Step>,
    later: BTreeMap<(MonoTime, u64), Step>,
    /// Everything that was ever open in this pass. A branch that is named by many others, or names one child many times,
    /// costs one visit: without it, 48 children of 16 levels would be 48^16.
    seen: KeyedSet<EntryHash>,
    bound: usize,
    next_retry: u64,
    /// Grows with each beginning: what was asked for before it does not belong to what is walked now.
    pass: u32,
}

impl Walk {
    /// A pass over nothing that will meet at most `bound` entries, about 200 bytes each.
    pub(super) fn new(bound: usize, rng: &mut MachineRng) -> Self {
        Self {
            open: Vec::new(),
            later: BTreeMap::new(),
            seen: KeyedSet::with_hasher(KeyedState::new(rng)),
            bound,
            next_retry: 0,
            pass: 0,
        }
    }

    /// Begins again, at `root`.
    pub(super) fn restart(&mut self, root: EntryHash) {
        self.open = Vec::new();
        self.later.clear();
        self.seen.clear();
        self.pass = self.pass.wrapping_add(1);
        self.add(root, 0);
    }

    /// Whether `step` is of the present pass.
    pub(super) const fn is_current(&self, step: &Step) -> bool {
        step.pass == self.pass
    }

    /// A random entry that may be fetched now.
    pub(super) fn take(&mut self, now: MonoTime, rng: &mut MachineRng) -> Option<Step> {
        while let Some(entry) = self
            .later
            .first_entry()
            .filter(|entry| entry.key().0 <= now)
        {
            self.open.push(entry.remove());
        }
        if self.open.is_empty() {
            return None;
        }
        let at = rng.random_range(0..self.open.len());
        Some(self.open.swap_remove(at))
    }

    /// The branch at `step` has these children; how many were left out because of the bounds.
    pub(super) fn branch(&mut self, step: &Step, children: Vec<EntryHash>) -> usize {
        let (depth, count) = (step.depth.saturating_add(1), children.len());
        if depth > MAX_DEPTH {
            return count;
        }
        let taken = |walk: &mut Self, child| usize::from(!walk.add(child, depth));
        children.into_iter().map(|child| taken(self, child)).sum()
    }

    /// `step` could not be fetched; `false` if it is left out from now on.
    pub(super) fn failed(&mut self, now: MonoTime, mut step: Step) -> bool {
        step.tries += 1;
        if step.tries >= TRIES {
            return false;
        }
        let wait = RETRY.saturating_mul(1 << step.tries);
        self.next_retry = self.next_retry.wrapping_add(1);
        self.later.insert((now + wait, self.next_retry), step);
        true
    }

    /// Nothing is left to fetch.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.later.is_empty()
    }

    /// When there is something to fetch.
    pub(super) fn next(&self) -> Option<MonoTime> {
        if !self.open.is_empty() {
            return Some(MonoTime::ZERO);
        }
        self.later.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn met(&self) -> usize {
        self.seen.len()
    }

    fn add(&mut self, hash: EntryHash, depth: u8) -> bool {
        if self.seen.contains(&hash) {
            return true;
        }
        if self.seen.len() >= self.bound {
            return false;
        }
        self.seen.insert(hash.clone());
        self.open.push(Step {
            hash,
            depth,
            tries: 0,
            pass: self.pass,
        });
        true
    }
}
