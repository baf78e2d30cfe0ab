//! Which nodes an endless walk through the network hands out, and when it looks for more. No tasks and no clock: `iter` runs
//! it against a live service.
//!
//! A caller that asks for nodes as fast as it can must not turn a network of eight into a busy loop, and must not miss a
//! newcomer either. So a node is handed out once in [`REPEAT_AFTER`] (sooner if something about it is new), the pause
//! between lookups grows while they find nobody new, and every newcomer resets it.

use std::collections::VecDeque;
use std::time::Duration;

use rand::seq::SliceRandom;
use tercet_enode::{Endpoint, Node, NodeId};
use tercet_machine::{BoundedLru, KeyedState, MachineRng, MonoTime};

use crate::core::Found;
use crate::kad::TableSnapshot;

/// A node is not handed out again before this. Dialling it again sooner would be refused (peers throttle repeated
/// connections for 30 s).
pub const REPEAT_AFTER: Duration = Duration::from_secs(30);

/// Pause after a lookup that found somebody new.
pub const MIN_PAUSE: Duration = Duration::from_millis(200);

/// Longest pause after lookups that did not.
pub const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Nodes waiting to be handed out: a full table and some. Further ones are left out; they will be met again.
pub const MAX_READY: usize = 512;

/// Nodes remembered as handed out, about 150 bytes each.
pub const MAX_GIVEN: usize = 4096;

#[derive(Debug)]
struct Given {
    at: MonoTime,
    seq: u64,
    endpoint: Endpoint,
}

#[derive(Debug)]
pub(crate) struct Walk {
    ready: VecDeque<Node>,
    given: BoundedLru<NodeId, Given>,
    pause: Duration,
    next_lookup: MonoTime,
    rng: MachineRng,
}

impl Walk {
    pub(crate) fn new(mut rng: MachineRng) -> Self {
        Self {
            ready: VecDeque::new(),
            given: BoundedLru::new(MAX_GIVEN, KeyedState::new(&mut rng)),
            pause: MIN_PAUSE,
            next_lookup: MonoTime::ZERO,
            rng,
        }
    }

    /// The next node to hand out.
    pub(crate) fn pop(&mut self) -> Option<Node> {
        self.ready.pop_front()
    }

    /// When to look for more, if nothing is ready.
    pub(crate) const fn next_lookup(&self) -> MonoTime {
        self.next_lookup
    }

    /// The table has changed: its bucket heads come first, in random order, then the second ones, and so on.
    pub(crate) fn on_table(&mut self, now: MonoTime, table: &TableSnapshot) {
        let mut buckets: Vec<_> = table.buckets.iter().collect();
        buckets.shuffle(&mut self.rng);
        let depth = buckets
            .iter()
            .map(|bucket| bucket.entries.len())
            .max()
            .unwrap_or(0);
        let rows = (0..depth).flat_map(|row| {
            buckets
                .iter()
                .filter_map(move |bucket| bucket.entries.get(row))
        });
        if self.offer(now, rows.map(|entry| &entry.node)) {
            // Somebody new: he may know others.
            self.pause = MIN_PAUSE;
            self.next_lookup = self.next_lookup.min(now + MIN_PAUSE);
        }
    }

    /// A lookup has begun: the next one beside it not before a pause has passed.
    pub(crate) fn on_started(&mut self, now: MonoTime) {
        self.next_lookup = now + self.pause;
    }

    /// A lookup has ended.
    pub(crate) fn on_found(&mut self, now: MonoTime, found: &Found) {
        let mut seen: Vec<&Node> = found.seen.iter().collect();
        seen.shuffle(&mut self.rng);
        let new = self.offer(now, seen.into_iter());
        self.pause = if new {
            MIN_PAUSE
        } else {
            self.pause.saturating_mul(2).min(MAX_PAUSE)
        };
        self.next_lookup = now + self.pause;
    }

    /// Queues those not handed out lately; `true` if one was never handed out before, or has changed.
    fn offer<'a>(&mut self, now: MonoTime, nodes: impl Iterator<Item = &'a Node>) -> bool {
        let mut new = false;
        for node in nodes {
            if self.ready.len() >= MAX_READY {
                break;
            }
            let (seq, endpoint) = (node.seq(), *node.endpoint());
            let known = self.given.get(&node.id());
            // Neighbours name nodes without their record, so a lower number is nothing new.
            let changed = known.is_none_or(|given| {
                seq > given.seq || (seq == given.seq && endpoint != given.endpoint)
            });
            if changed || known.is_none_or(|given| now - given.at >= REPEAT_AFTER) {
                new |= changed;
                self.given.insert(
                    node.id(),
                    Given {
                        at: now,
                        seq,
                        endpoint,
                    },
                );
                self.ready.push_back(node.clone());
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kad::{Proof, RevalidationConfig, Table};
    use tercet_enode::SecretKey;

    fn nodes(count: u16) -> Vec<Node> {
        let mut rng = MachineRng::from_seed([3; 32]);
        let node = |n: u16| {
            let key = SecretKey::generate(&mut rng).public_key();
            Node::new(
                key,
                Endpoint::new([127, 0, 0, 1].into(), 30000 + n, 30000 + n),
            )
        };
        (0..count).map(node).collect()
    }

    fn table(nodes: &[Node]) -> TableSnapshot {
        let local = NodeId::new([0; 32]);
        let mut table = Table::new(
            local,
            RevalidationConfig::default(),
            MachineRng::from_seed([4; 32]),
        );
        for node in nodes {
            table.add(MonoTime::ZERO, node.clone(), Proof::Hearsay);
        }
        table.snapshot()
    }

    fn walk() -> Walk {
        Walk::new(MachineRng::from_seed([5; 32]))
    }

    fn take(walk: &mut Walk) -> Vec<NodeId> {
        let mut ids: Vec<NodeId> = std::iter::from_fn(|| walk.pop())
            .map(|node| node.id())
            .collect();
        ids.sort();
        ids
    }

    fn ids(nodes: &[Node]) -> Vec<NodeId> {
        let mut ids: Vec<NodeId> = nodes.iter().map(Node::id).collect();
        ids.sort();
        ids
    }

    #[test]
    fn everybody_in_the_table_comes_once_and_again_after_half_a_minute() {
        let (nodes, mut walk) = (nodes(8), walk());
        let table = table(&nodes);
        walk.on_table(MonoTime::ZERO, &table);
        assert_eq!(take(&mut walk), ids(&nodes));
        walk.on_table(MonoTime::from_secs(29), &table);
        assert_eq!(take(&mut walk), []);
        walk.on_table(MonoTime::from_secs(30), &table);
        assert_eq!(take(&mut walk), ids(&nodes));
    }

    #[test]
    fn the_pause_grows_while_nobody_is_new_and_a_newcomer_resets_it() {
        let (nodes, mut walk) = (nodes(3), walk());
        let found = |count: usize| Found {
            closest: vec![],
            seen: nodes[..count].to_vec(),
        };
        let mut now = MonoTime::ZERO;
        walk.on_found(now, &found(2));
        let mut pauses = vec![];
        for _ in 0..8 {
            pauses.push((walk.next_lookup() - now).as_millis());
            now = walk.next_lookup();
            walk.on_found(now, &found(2));
        }
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        let waiting_since = now;
        walk.on_table(now, &table(&nodes));
        assert_eq!(walk.next_lookup() - waiting_since, MIN_PAUSE);
        assert!(take(&mut walk).contains(&nodes[2].id()));
    }

    #[test]
    fn a_node_that_moved_is_handed_out_at_once_but_a_missing_record_is_nothing_new() {
        let (nodes, mut walk) = (nodes(1), walk());
        let found = |node: &Node| Found {
            closest: vec![],
            seen: vec![node.clone()],
        };
        walk.on_found(MonoTime::ZERO, &found(&nodes[0]));
        assert_eq!(take(&mut walk).len(), 1);
        let moved = nodes[0]
            .clone()
            .with_endpoint(Endpoint::new([127, 0, 0, 2].into(), 1, 1));
        walk.on_found(MonoTime::ZERO, &found(&moved));
        walk.on_found(MonoTime::ZERO, &found(&moved));
        assert_eq!(take(&mut walk).len(), 1);
    }

    #[test]
    fn what_waits_and_what_is_remembered_is_bounded() {
        let (nodes, mut walk) = (nodes(5000), walk());
        let found = |seen: &[Node]| Found {
            closest: vec![],
            seen: seen.to_vec(),
        };
        walk.on_found(MonoTime::ZERO, &found(&nodes[..1000]));
        assert_eq!(walk.ready.len(), MAX_READY);
        for chunk in nodes.chunks(100) {
            walk.ready.clear();
            walk.on_found(MonoTime::ZERO, &found(chunk));
        }
        assert_eq!(walk.given.len(), MAX_GIVEN);
    }
}
