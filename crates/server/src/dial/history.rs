//! What is remembered of nodes that were dialed: when they may be dialed again
//! and how often in a row they failed.

use std::time::Duration;

use tercet_enode::NodeId;
use tercet_machine::{ExpiringMap, KeyedState, MonoTime};

use super::backoff::Backoff;

/// Nodes remembered at most: 4096 × about 150 bytes = 0.6 MiB. When it is full
/// the one that would be forgotten first makes room.
const CAPACITY: usize = 4096;
/// A node refused for good is remembered for a day.
const NEVER: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Clone, Copy)]
struct Entry {
    not_before: MonoTime,
    /// In a row.
    failures: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct History {
    entries: ExpiringMap<NodeId, Entry>,
}

impl History {
    pub(crate) fn new(hasher: KeyedState) -> Self {
        Self {
            entries: ExpiringMap::new(CAPACITY, hasher),
        }
    }

    /// A dial begins: the node is not dialed again for an interval.
    pub(crate) fn on_started(&mut self, now: MonoTime, id: NodeId, interval: Duration) {
        let failures = self.failures(now, &id);
        self.put(
            id,
            Entry {
                not_before: now + interval,
                failures,
            },
            interval,
        );
    }

    /// A dial or connection ended; returns when the node may be dialed again.
    pub(crate) fn on_failed(
        &mut self,
        now: MonoTime,
        id: NodeId,
        class: Backoff,
        interval: Duration,
        longest: Duration,
    ) -> MonoTime {
        let failures = match class {
            Backoff::None => self.failures(now, &id),
            _ => self.failures(now, &id).saturating_add(1),
        };
        let delay = class
            .delay(failures, interval)
            .unwrap_or(NEVER)
            .min(longest);
        let not_before = self.not_before(now, &id).unwrap_or(now).max(now + delay);
        self.put(
            id,
            Entry {
                not_before,
                failures,
            },
            interval,
        );
        not_before
    }

    /// The node has shown that it can be kept: its failures no longer count.
    pub(crate) fn on_stable(&mut self, now: MonoTime, id: &NodeId) {
        if let Some(entry) = self.entries.get_mut(now, id) {
            entry.failures = 0;
        }
    }

    /// The node is somewhere else now: what failed was the old place.
    pub(crate) fn on_moved(&mut self, id: &NodeId) {
        self.entries.remove(id);
    }

    /// When a node may be dialed again, if not now.
    pub(crate) fn not_before(&self, now: MonoTime, id: &NodeId) -> Option<MonoTime> {
        self.entries
            .get(now, id)
            .map(|entry| entry.not_before)
            .filter(|at| *at > now)
    }

    fn failures(&self, now: MonoTime, id: &NodeId) -> u32 {
        self.entries.get(now, id).map_or(0, |entry| entry.failures)
    }

    fn put(&mut self, id: NodeId, entry: Entry, interval: Duration) {
        // As long again as the longest delay: a node that fails each time it
        // may be dialed must not start over.
        let forgotten = entry.not_before + interval.saturating_mul(Backoff::MAX_INTERVALS);
        self.entries.insert(id, entry, forgotten);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tercet_machine::MachineRng;

    const INTERVAL: Duration = Duration::from_secs(35);

    fn history() -> History {
        History::new(KeyedState::new(&mut MachineRng::from_seed([7; 32])))
    }

    fn id(n: u32) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        NodeId::new(bytes)
    }

    #[test]
    fn a_node_that_fails_whenever_it_is_dialed_waits_longer_each_time() {
        let mut history = history();
        let mut now = MonoTime::ZERO;
        let mut waits = Vec::new();
        for _ in 0..10 {
            history.on_started(now, id(1), INTERVAL);
            let until = history.on_failed(now, id(1), Backoff::Short, INTERVAL, Duration::MAX);
            waits.push((until - now).as_secs());
            now = until;
            assert_eq!(history.not_before(now, &id(1)), None);
        }
        assert_eq!(waits, [35, 70, 140, 280, 560, 1120, 2240, 3500, 3500, 3500]);
    }

    #[test]
    fn a_stable_connection_starts_the_count_over() {
        let mut history = history();
        let zero = MonoTime::ZERO;
        for _ in 0..5 {
            history.on_failed(zero, id(1), Backoff::Short, INTERVAL, Duration::MAX);
        }
        let later = MonoTime::from_secs(3000);
        history.on_stable(later, &id(1));
        let until = history.on_failed(later, id(1), Backoff::Short, INTERVAL, Duration::MAX);
        assert_eq!(until, later + INTERVAL);
    }

    #[test]
    fn the_bound_is_reached_and_held() {
        let mut history = history();
        for n in 0..2 * CAPACITY as u32 {
            history.on_started(MonoTime::ZERO, id(n), INTERVAL);
        }
        assert_eq!(history.entries.len(), CAPACITY);
        let newest = id(2 * CAPACITY as u32 - 1);
        assert!(history.not_before(MonoTime::ZERO, &newest).is_some());
    }
}
