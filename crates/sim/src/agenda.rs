//! What is going to happen: a heap ordered by time, then by the order in which things were put in.
//!
//! The heap sorts small keys; the things themselves, which are as large as a packet, stay in their slots while it does.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tercet_machine::MonoTime;

/// Things with a time. Two at one time come out in the order they were put in.
pub(crate) struct Agenda<T> {
    heap: BinaryHeap<Reverse<Key>>,
    sequence: u64,
    slots: Vec<Option<T>>,
    free: Vec<usize>,
}

/// Ordered by its fields in turn; the sequence number is never the same twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    at: MonoTime,
    sequence: u64,
    slot: usize,
}

impl<T> Agenda<T> {
    pub(crate) const fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            sequence: 0,
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, at: MonoTime, what: T) {
        let sequence = self.sequence;
        self.sequence += 1;
        let slot = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(slot) {
            Some(place) => *place = Some(what),
            None => self.slots.push(Some(what)),
        }
        self.heap.push(Reverse(Key { at, sequence, slot }));
    }

    /// When the next thing happens.
    pub(crate) fn next_at(&self) -> Option<MonoTime> {
        self.heap.peek().map(|Reverse(key)| key.at)
    }

    /// The next thing, with its time and its place in the order of those at the same time.
    pub(crate) fn pop(&mut self) -> Option<(MonoTime, u64, T)> {
        let Reverse(key) = self.heap.pop()?;
        self.free.push(key.slot);
        let what = self.slots.get_mut(key.slot)?.take()?;
        Some((key.at, key.sequence, what))
    }
}
