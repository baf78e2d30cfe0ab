//! When the table's nodes are checked. Every node is on one of two lists: the fast one until it has
//! answered at its present endpoint, the slow one afterwards. Each list checks one node at a time, at
//! random moments, so that nobody can tell when his turn comes.
//!
//! geth gives the fast list a flat 3 s, so a table of 272 unproven nodes takes seven minutes to prove
//! and relays nobody meanwhile. Here the fast interval shrinks with the list, so that any list is
//! gone through within about [`RevalidationConfig::fast_sweep`]; at 272 nodes that is 27 pings a second for ten
//! seconds. And while hardly anybody has answered yet, it is [`RevalidationConfig::young`]: a node that has just started,
//! or a network of eight, should not wait seconds for each other. Dead nodes go at their first check, so that ends soon.
//!
//! The slow list is as slow as geth's while its nodes answer, and hurries while they die: a quiet network is left quiet, and in one
//! that loses a tenth of its nodes each minute a table should not fill with the dead.
//! Who sends the pings and what counts as an answer is the protocol's business.

use std::time::Duration;

use rand::RngExt;
use tercet_machine::{MachineRng, MonoTime};

use super::bucket::BUCKET_SIZE;

/// How much shorter than configured the gap on the slow list gets: under four pings a second with the default of 9 s, where geth
/// sends one in 4.5 s whatever happens.
const MAX_HASTE: u32 = 16;

/// Each answered check makes the gap longer by this part of it, each node that has gone halves it. It keeps still where of
/// `ln 2 / ln (1 + 1/32) + 1`, some 24, checked nodes one is gone, so that this share of a list is dead in the long run
/// however fast nodes die, as long as [`MAX_HASTE`] allows.
const CALM: u32 = 32;

/// Which of the two lists a node is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RevalidationList {
    /// Not proven at its present endpoint, or failed the last check.
    Fast,
    /// Answered the last check.
    Slow,
}

/// Intervals of the two lists. The gap between two checks of a list is uniform in `(0, interval]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RevalidationConfig {
    /// Longest gap on the fast list. Default 3 s.
    pub fast: Duration,
    /// Longest gap on the slow list. Default 9 s.
    pub slow: Duration,
    /// Time in which the whole fast list is gone through, on average, however long it is. Default 10 s.
    pub fast_sweep: Duration,
    /// Longest gap on the fast list while fewer than 16 nodes of the table have answered. Default 100 ms.
    pub young: Duration,
}

impl Default for RevalidationConfig {
    fn default() -> Self {
        Self {
            fast: Duration::from_secs(3),
            slow: Duration::from_secs(9),
            fast_sweep: Duration::from_secs(10),
            young: Duration::from_millis(100),
        }
    }
}

/// How many nodes are on each list and not being checked, and how many have answered, over either protocol and over each. Ten
/// bytes, so that those of all buckets are three cache lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Census {
    pub(super) fast: u16,
    pub(super) slow: u16,
    pub(super) live: u16,
    pub(super) live_v4: u16,
    pub(super) live_v5: u16,
}

impl Census {
    /// Nobody.
    pub(super) const NONE: Self = Self {
        fast: 0,
        slow: 0,
        live: 0,
        live_v4: 0,
        live_v5: 0,
    };

    /// Both together.
    pub(super) const fn with(self, other: Self) -> Self {
        Self {
            fast: self.fast + other.fast,
            slow: self.slow + other.slow,
            live: self.live + other.live,
            live_v4: self.live_v4 + other.live_v4,
            live_v5: self.live_v5 + other.live_v5,
        }
    }

    /// Without `part`, which is part of it.
    pub(super) const fn without(self, part: Self) -> Self {
        Self {
            fast: self.fast - part.fast,
            slow: self.slow - part.slow,
            live: self.live - part.live,
            live_v4: self.live_v4 - part.live_v4,
            live_v5: self.live_v5 - part.live_v5,
        }
    }

    /// How many may be checked of one list.
    pub(super) fn of(self, list: RevalidationList) -> usize {
        usize::from(match list {
            RevalidationList::Fast => self.fast,
            RevalidationList::Slow => self.slow,
        })
    }
}

/// The next moment of each list; `None` while it has nobody to check.
#[derive(Debug)]
pub(super) struct Schedule {
    config: RevalidationConfig,
    fast: Option<MonoTime>,
    slow: Option<MonoTime>,
    /// The longest gap on the slow list at present.
    slow_gap: Duration,
}

impl Schedule {
    pub(super) const fn new(config: RevalidationConfig) -> Self {
        Self {
            slow_gap: config.slow,
            config,
            fast: None,
            slow: None,
        }
    }

    /// A node that had answered once has gone.
    pub(super) fn on_gone(&mut self) {
        self.slow_gap = (self.slow_gap / 2).max(self.config.slow / MAX_HASTE);
    }

    /// A node of the slow list has answered its check.
    pub(super) fn on_answer(&mut self) {
        self.slow_gap = (self.slow_gap + self.slow_gap / CALM).min(self.config.slow);
    }

    pub(super) fn deadline(&self) -> Option<MonoTime> {
        self.fast.into_iter().chain(self.slow).min()
    }

    /// The list whose moment has come.
    pub(super) fn due(&self, now: MonoTime) -> Option<RevalidationList> {
        let is_due = |at: Option<MonoTime>| at.is_some_and(|at| at <= now);
        if is_due(self.fast) {
            Some(RevalidationList::Fast)
        } else if is_due(self.slow) {
            Some(RevalidationList::Slow)
        } else {
            None
        }
    }

    /// Starts a list that has become non-empty and stops one that has become empty.
    pub(super) fn sync(&mut self, now: MonoTime, census: Census, rng: &mut MachineRng) {
        for list in [RevalidationList::Fast, RevalidationList::Slow] {
            if census.of(list) == 0 {
                *self.slot(list) = None;
            } else if self.slot(list).is_none() {
                self.rearm(now, list, census, rng);
            }
        }
    }

    /// Draws the list's next moment, later than `now`.
    pub(super) fn rearm(
        &mut self,
        now: MonoTime,
        list: RevalidationList,
        census: Census,
        rng: &mut MachineRng,
    ) {
        let longest = match list {
            RevalidationList::Fast if usize::from(census.live) < BUCKET_SIZE => {
                self.config.young.min(self.config.fast)
            }
            RevalidationList::Fast => {
                let len = u32::from(census.fast.max(1));
                // The mean gap is half the longest one.
                (self.config.fast_sweep.saturating_mul(2) / len).min(self.config.fast)
            }
            RevalidationList::Slow => self.slow_gap,
        };
        let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX).max(1);
        *self.slot(list) = Some(now + Duration::from_nanos(rng.random_range(1..=nanos)));
    }

    fn slot(&mut self, list: RevalidationList) -> &mut Option<MonoTime> {
        match list {
            RevalidationList::Fast => &mut self.fast,
            RevalidationList::Slow => &mut self.slow,
        }
    }
}
