//! What the table's rules ask about all its nodes again and again: how many are on each list, and how many share a network.
//! Taken anew from a bucket whenever something about it has changed, so that nobody reads 442 nodes for each one that a
//! stranger names.

use std::net::IpAddr;

use tercet_machine::Subnet;

use super::bucket::{BUCKET_SIZE, Bucket, MAX_REPLACEMENTS};
use super::filter::{BUCKET_LIMITS, TABLE_LIMITS};
use super::revalidate::{Census, RevalidationList};
use super::table::BUCKETS;

/// Nodes of one bucket, those waiting included.
const ROW: usize = BUCKET_SIZE + MAX_REPLACEMENTS;

/// Fewer nodes than this with one [`print`] are within every limit of a bucket.
const FEW_IN_BUCKET: usize = BUCKET_LIMITS.least();

/// Fewer than this are within every limit of the table.
const FEW_IN_TABLE: usize = TABLE_LIMITS.least();

/// Stands for a place without a node.
const VACANT: u32 = 1 << 30;

/// See the module's documentation. 2 KiB.
#[derive(Debug)]
pub(super) struct Stock {
    censuses: [Census; BUCKETS],
    total: Census,
    /// The [`print`] of each node's network.
    prints: [[u32; ROW]; BUCKETS],
    /// How often each bucket was looked at.
    changes: [u64; BUCKETS],
}

impl Stock {
    /// That of an empty table.
    pub(super) const fn new() -> Self {
        Self {
            censuses: [Census::NONE; BUCKETS],
            total: Census::NONE,
            prints: [[VACANT; ROW]; BUCKETS],
            changes: [0; BUCKETS],
        }
    }

    /// Looks at a bucket that has changed.
    pub(super) fn take(&mut self, at: usize, bucket: &Bucket) {
        let (Some(census), Some(prints)) = (self.censuses.get_mut(at), self.prints.get_mut(at))
        else {
            return;
        };
        if let Some(changes) = self.changes.get_mut(at) {
            *changes += 1;
        }
        let before = std::mem::replace(census, take_census(bucket));
        self.total = self.total.with(*census).without(before);
        let present = bucket.entries.iter().chain(&bucket.replacements);
        let present = present.map(|entry| print(entry.node.endpoint().ip));
        for (place, print) in prints
            .iter_mut()
            .zip(present.chain(std::iter::repeat(VACANT)))
        {
            *place = print;
        }
    }

    /// Over all buckets.
    pub(super) const fn census(&self) -> Census {
        self.total
    }

    /// Grows with every change of a bucket.
    pub(super) fn changes(&self, at: usize) -> u64 {
        self.changes.get(at).copied().unwrap_or_default()
    }

    /// Whether so few nodes of this bucket and of the table may lie in the network of `ip` that no limit is met. `false` says
    /// nothing: different networks can have the same print.
    pub(super) fn is_roomy(&self, at: usize, ip: IpAddr) -> bool {
        let wanted = print(ip);
        let count = |row: &[u32; ROW]| row.iter().filter(|print| **print == wanted).count();
        self.prints
            .get(at)
            .is_some_and(|row| count(row) < FEW_IN_BUCKET)
            && self.prints.iter().map(count).sum::<usize>() < FEW_IN_TABLE
    }
}

fn take_census(bucket: &Bucket) -> Census {
    let mut census = Census::NONE;
    for entry in &bucket.entries {
        census.live += usize::from(entry.is_live());
        match entry.list {
            _ if entry.checking => {}
            RevalidationList::Fast => census.fast += 1,
            RevalidationList::Slow => census.slow += 1,
        }
    }
    census
}

/// A number that addresses of one /24 or /48 share, and hardly any others.
fn print(ip: IpAddr) -> u32 {
    match Subnet::wide(ip) {
        Subnet::V4([a, b, c]) => u32::from_be_bytes([0, a, b, c]),
        Subnet::V6Wide([a, b, c, d, e, f]) | Subnet::V6([a, b, c, d, e, f, ..]) => {
            u32::from_be_bytes([a, b, c, d]) ^ u32::from_be_bytes([0, 0, e, f]) | 1 << 31
        }
    }
}
