//! What is going to happen: a heap ordered by time, then by the order in which things were put in.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use tercet_machine::MonoTime;

/// Things with a time. Two at one time come out in the order they were put in.
pub(crate) struct Agenda<T> {
    heap: BinaryHeap<Reverse<Item<T>>>,
    sequence: u64,
}

struct Item<T> {
    at: MonoTime,
    sequence: u64,
    what: T,
}

impl<T> Agenda<T> {
    pub(crate) const fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            sequence: 0,
        }
    }

    pub(crate) fn push(&mut self, at: MonoTime, what: T) {
        let sequence = self.sequence;
        self.sequence += 1;
        self.heap.push(Reverse(Item { at, sequence, what }));
    }

    /// When the next thing happens.
    pub(crate) fn next_at(&self) -> Option<MonoTime> {
        self.heap.peek().map(|Reverse(item)| item.at)
    }

    pub(crate) fn pop(&mut self) -> Option<(MonoTime, T)> {
        self.heap.pop().map(|Reverse(item)| (item.at, item.what))
    }
}

impl<T> Item<T> {
    const fn place(&self) -> (MonoTime, u64) {
        (self.at, self.sequence)
    }
}

impl<T> PartialEq for Item<T> {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl<T> Eq for Item<T> {}

impl<T> PartialOrd for Item<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Item<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}
