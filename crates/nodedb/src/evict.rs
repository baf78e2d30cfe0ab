//! Whom a full store forgets: the rows worth least, enough of them that the next scan is far away.

use std::collections::BinaryHeap;

use tercet_enode::NodeId;

use crate::limits::EVICTION_SHARE;
use crate::row::Worth;

/// Collects the least worthy rows of a scan, as many as must go to bring `rows` down to the bound less 1/16.
pub(crate) struct Eviction {
    count: usize,
    least: BinaryHeap<Worth>,
}

impl Eviction {
    /// `None` while the bound holds.
    pub(crate) fn needed(rows: usize, bound: usize) -> Option<Self> {
        if rows <= bound {
            return None;
        }
        let target = bound - bound / EVICTION_SHARE;
        Some(Self {
            count: rows - target,
            least: BinaryHeap::new(),
        })
    }

    pub(crate) fn offer(&mut self, worth: Worth) {
        if self.least.len() < self.count {
            self.least.push(worth);
        } else if self.least.peek().is_some_and(|most| worth < *most) {
            self.least.pop();
            self.least.push(worth);
        }
    }

    pub(crate) fn into_ids(self) -> impl Iterator<Item = NodeId> {
        self.least.into_iter().map(|(_, _, id)| id)
    }
}
