//! What the table remembers besides its nodes: that somebody answers at all, and who has gone.

use std::collections::VecDeque;

use tercet_enode::Node;
use tercet_machine::MonoTime;

use super::Table;
use crate::kad::bucket::{BUCKET_SIZE, Proof};

/// Nodes that have gone and are remembered, about 400 bytes each: half of what a table of a middling network holds.
pub const MAX_DEPARTED: usize = 64;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct History {
    /// When some node last answered a ping: the line of this node was up.
    pub(super) answered: Option<MonoTime>,
    /// Nodes given out to be checked so far.
    pub(super) turns: u64,
    /// Those that had answered and were given up, the last one last.
    departed: VecDeque<Node>,
}

impl History {
    pub(super) fn on_gone(&mut self, node: Node) {
        self.departed.push_back(node);
        if self.departed.len() > MAX_DEPARTED {
            self.departed.pop_front();
        }
    }
}

impl Table {
    /// How many nodes [`next_check`](Self::next_check) has given so far.
    #[must_use]
    pub const fn turns(&self) -> u64 {
        self.history.turns
    }

    /// Gives those that have gone another chance where their buckets have room. If it was not they but the network between, this
    /// is how two halves that have given each other up find together again.
    pub fn recall(&mut self, now: MonoTime) {
        for node in std::mem::take(&mut self.history.departed) {
            if self.known(&node.id()).is_some() {
                continue;
            }
            if self.bucket_len(&node.id()) < BUCKET_SIZE {
                self.add(now, node.clone(), Proof::Hearsay);
            }
            self.history.departed.push_back(node);
        }
    }
}
