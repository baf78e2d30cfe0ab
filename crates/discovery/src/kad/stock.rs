//! What the table's rules ask about all its nodes again and again: how many are on each list, how many have answered, and how many
//! share a network. It is kept up with every change, so that nobody reads 442 nodes for each one that a stranger names, nor all
//! buckets to choose a node for a check.

use std::net::IpAddr;

use super::bucket::Bucket;
use super::filter::{BUCKET_LIMITS, TABLE_LIMITS};
use super::revalidate::{Census, RevalidationList};
use super::row::{Print, ROW, Row};
use super::table::BUCKETS;

/// Fewer nodes than this with one [`Print`] are within every limit of a bucket.
const FEW_IN_BUCKET: usize = BUCKET_LIMITS.least();

/// Fewer than this are within every limit of the table.
const FEW_IN_TABLE: usize = TABLE_LIMITS.least();

/// Counters of prints. At 442 nodes of different networks hardly any of them counts five.
const COUNTERS: usize = 512;

/// See the module's documentation. 1.3 KiB.
#[derive(Debug)]
pub(super) struct Stock {
    total: Census,
    /// What `total` is made of.
    censuses: [Census; BUCKETS],
    /// How many nodes there are, those waiting included, by their [`Print`]; different ones may share a counter.
    networks: [u16; COUNTERS],
    /// How often each bucket was looked at.
    changes: [u64; BUCKETS],
}

impl Stock {
    /// That of an empty table.
    pub(super) const fn new() -> Self {
        Self {
            total: Census::NONE,
            censuses: [Census::NONE; BUCKETS],
            networks: [0; COUNTERS],
            changes: [0; BUCKETS],
        }
    }

    /// Looks at a bucket that has changed; `before` it had these prints.
    pub(super) fn take(&mut self, at: usize, row: &Row, before: &[Print; ROW]) {
        self.count_up(at, row.census());
        if row.prints() != before {
            for print in before {
                self.count(*print, |counter| counter.saturating_sub(1));
            }
            for print in row.prints() {
                self.count(*print, |counter| counter.saturating_add(1));
            }
        }
    }

    /// The same where only what is at `place` has changed; `before` it had this print.
    pub(super) fn take_place(&mut self, at: usize, row: &Row, place: usize, before: Print) {
        self.count_up(at, row.census());
        let print = row.print(place);
        if print != before {
            self.count(before, |counter| counter.saturating_sub(1));
            self.count(print, |counter| counter.saturating_add(1));
        }
    }

    /// Over all buckets.
    pub(super) const fn census(&self) -> Census {
        self.total
    }

    /// The bucket of the node with this number among those of all buckets that can be chosen for a check of `list`, and its number
    /// among those of the bucket.
    pub(super) fn bucket_of(
        &self,
        list: RevalidationList,
        mut number: usize,
    ) -> Option<(usize, usize)> {
        for (at, census) in self.censuses.iter().enumerate() {
            let here = census.of(list);
            if number < here {
                return Some((at, number));
            }
            number -= here;
        }
        None
    }

    /// Grows with every change of a bucket, but for the order of its nodes.
    pub(super) fn changes(&self, at: usize) -> u64 {
        self.changes.get(at).copied().unwrap_or_default()
    }

    /// Whether so few nodes of this bucket and of the table may lie in the network of `ip` that no limit is met. `false` says
    /// nothing: different networks can be counted as one.
    pub(super) fn is_roomy(&self, bucket: &Bucket, ip: IpAddr) -> bool {
        let wanted = Print::of(ip);
        let here = bucket
            .row()
            .prints()
            .iter()
            .filter(|print| **print == wanted);
        let all = self.networks.get(counter(wanted)).copied().unwrap_or(0);
        here.count() < FEW_IN_BUCKET && usize::from(all) < FEW_IN_TABLE
    }

    /// What it says is what the entries say.
    #[cfg(test)]
    pub(super) fn check(&self, buckets: &[Bucket]) {
        let (mut total, mut networks) = (Census::NONE, [0; COUNTERS]);
        for (bucket, census) in buckets.iter().zip(self.censuses) {
            bucket.check();
            assert_eq!(census, bucket.row().census());
            total = total.with(census);
            for entry in bucket.entries().chain(bucket.replacements()) {
                networks[counter(Print::of(entry.node.endpoint().ip))] += 1;
            }
        }
        assert_eq!(self.total, total);
        assert_eq!(self.networks, networks);
    }

    fn count_up(&mut self, at: usize, census: Census) {
        if let (Some(changes), Some(known)) = (self.changes.get_mut(at), self.censuses.get_mut(at))
        {
            *changes += 1;
            self.total = self.total.with(census).without(*known);
            *known = census;
        }
    }

    fn count(&mut self, print: Print, change: impl Fn(u16) -> u16) {
        if print != Print::VACANT
            && let Some(counter) = self.networks.get_mut(counter(print))
        {
            *counter = change(*counter);
        }
    }
}

/// The counter of a print: neighbouring networks have different ones.
const fn counter(Print(print): Print) -> usize {
    (print as usize ^ (print >> 9) as usize ^ (print >> 18) as usize) % COUNTERS
}
