//! Named timers with one deadline, the shape every machine's [`deadline`](crate::Machine::deadline) is made from.

use std::collections::BTreeMap;

use crate::time::MonoTime;

/// A set of timers, at most one for each key; every operation is O(log n). Timers due at the same time fire in the order
/// they were set. Holds as many keys as its owner sets: the owner bounds them.
///
/// ```
/// use tercet_machine::{MonoTime, TimerSet};
/// let mut timers = TimerSet::new();
/// timers.set("retry", MonoTime::from_secs(2));
/// timers.set("give up", MonoTime::from_secs(9));
/// assert_eq!(timers.deadline(), Some(MonoTime::from_secs(2)));
/// assert_eq!(timers.pop_expired(MonoTime::from_secs(1)), None);
/// assert_eq!(timers.pop_expired(MonoTime::from_secs(2)), Some("retry"));
/// assert_eq!(timers.deadline(), Some(MonoTime::from_secs(9)));
/// ```
#[derive(Debug, Clone)]
pub struct TimerSet<K> {
    /// By time, then by the order of setting.
    queue: BTreeMap<(MonoTime, u64), K>,
    slots: BTreeMap<K, (MonoTime, u64)>,
    next_slot: u64,
}

impl<K: Ord + Clone> TimerSet<K> {
    /// No timers.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            queue: BTreeMap::new(),
            slots: BTreeMap::new(),
            next_slot: 0,
        }
    }

    /// Sets the timer of `key` to `at`, in place of an earlier one.
    pub fn set(&mut self, key: K, at: MonoTime) {
        // 2^64 settings do not happen: at one a nanosecond they take 584 years.
        let slot = (at, self.next_slot);
        self.next_slot = self.next_slot.wrapping_add(1);
        if let Some(old) = self.slots.insert(key.clone(), slot) {
            self.queue.remove(&old);
        }
        self.queue.insert(slot, key);
    }

    /// Takes the timer of `key` out; says whether there was one.
    pub fn cancel(&mut self, key: &K) -> bool {
        match self.slots.remove(key) {
            Some(slot) => self.queue.remove(&slot).is_some(),
            None => false,
        }
    }

    /// The time of the earliest timer.
    #[must_use]
    pub fn deadline(&self) -> Option<MonoTime> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes out the earliest timer if it is due at `now`. Call until `None`.
    pub fn pop_expired(&mut self, now: MonoTime) -> Option<K> {
        let first = self.queue.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let key = first.remove();
        self.slots.remove(&key);
        Some(key)
    }

    /// When the timer of `key` fires.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<MonoTime> {
        self.slots.get(key).map(|(at, _)| *at)
    }

    /// How many timers are set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Takes all timers out.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.slots.clear();
    }
}

impl<K: Ord + Clone> Default for TimerSet<K> {
    fn default() -> Self {
        Self::new()
    }
}
