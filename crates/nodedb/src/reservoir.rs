//! A fair choice of k items from a stream of unknown length.
//!
//! Seeking to a random id and taking the next entry, as others do, favours ids behind wide gaps and lets whoever
//! clusters ids choose what others start from. A reservoir looks at each fit row once and gives every one the same chance k/n.

use rand::{Rng, RngExt as _};

pub(crate) struct Reservoir<T> {
    capacity: usize,
    seen: u64,
    kept: Vec<T>,
}

impl<T> Reservoir<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            seen: 0,
            kept: Vec::new(),
        }
    }

    /// Offers the next item of the stream (Vitter's algorithm R: item number n stays with probability capacity/n, in place of a
    /// random earlier one).
    pub(crate) fn offer(&mut self, item: T, rng: &mut dyn Rng) {
        self.seen += 1;
        if self.kept.len() < self.capacity {
            self.kept.push(item);
            return;
        }
        let place = usize::try_from(rng.random_range(0..self.seen)).unwrap_or(usize::MAX);
        if let Some(kept) = self.kept.get_mut(place) {
            *kept = item;
        }
    }

    /// The choice, in random order: places in the reservoir are not random by themselves.
    pub(crate) fn into_shuffled(mut self, rng: &mut dyn Rng) -> Vec<T> {
        for last in (1..self.kept.len()).rev() {
            self.kept.swap(last, rng.random_range(0..=last));
        }
        self.kept
    }
}
