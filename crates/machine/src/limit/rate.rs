//! Token buckets, alone and one for each key.
//!
//! A bucket is kept as one time, the "theoretical arrival time" of GCRA: the moment at which it will be full again.
//! Each token taken moves it `every` further; a token is there as long as it is less than `burst · every` ahead.
//!
//! ```text
//!            now                  full again
//!   ──────────┼───────┼───────┼───────┼────────────────────▶ time
//!             └ taken ┴ taken ┴ taken ┘       └ burst · every after now: nothing left
//! ```
//!
//! A full bucket and a forgotten one are the same, so keys are dropped as they refill, and memory follows the number of
//! keys that were active in the last `burst · every`.

use std::time::Duration;

use crate::time::MonoTime;
use crate::timers::TimerSet;

/// How much is allowed: one token `every` so often, and up to `burst` saved up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    every: Duration,
    burst: u32,
}

impl Quota {
    /// One token each `every`, at most `burst` at once (0 counts as 1: a limiter that lets nothing pass is no limiter).
    #[must_use]
    pub const fn every(every: Duration, burst: u32) -> Self {
        Self {
            every,
            burst: if burst == 0 { 1 } else { burst },
        }
    }

    /// `count` tokens a second (0 counts as 1), at most `burst` at once.
    #[must_use]
    pub const fn per_second(count: u32, burst: u32) -> Self {
        Self::over(Duration::from_secs(1), count, burst)
    }

    /// `count` tokens a minute (0 counts as 1), at most `burst` at once.
    #[must_use]
    pub const fn per_minute(count: u32, burst: u32) -> Self {
        Self::over(Duration::from_secs(60), count, burst)
    }

    const fn over(period: Duration, count: u32, burst: u32) -> Self {
        let count = if count == 0 { 1 } else { count as u64 };
        // Rounded up, so that the rate is never exceeded. The period is at most a minute: it fits.
        let nanos = (period.as_nanos() as u64).div_ceil(count);
        Self::every(Duration::from_nanos(nanos), burst)
    }

    /// The most that may pass at once.
    #[must_use]
    pub const fn burst(&self) -> u32 {
        self.burst
    }

    /// The time one token takes to come back.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        self.every
    }

    /// Takes `count` tokens from the bucket that is full again at `full_at`; the new time, or `None` if they are not there.
    fn take(&self, now: MonoTime, full_at: MonoTime, count: u32) -> Option<MonoTime> {
        let after = full_at.max(now) + self.every.saturating_mul(count);
        (after - now <= self.every.saturating_mul(self.burst)).then_some(after)
    }
}

/// One token bucket: in any span of time it lets at most `burst + span / every` pass.
///
/// ```
/// use tercet_machine::{MonoTime, Quota, TokenBucket};
/// let mut pings = TokenBucket::new(Quota::per_second(1, 2));
/// let now = MonoTime::ZERO;
/// assert!(pings.check(now) && pings.check(now) && !pings.check(now));
/// assert!(pings.check(MonoTime::from_secs(1)));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct TokenBucket {
    quota: Quota,
    full_at: MonoTime,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub const fn new(quota: Quota) -> Self {
        Self {
            quota,
            full_at: MonoTime::ZERO,
        }
    }

    /// Takes a token; `false` if there is none.
    pub fn check(&mut self, now: MonoTime) -> bool {
        self.check_n(now, 1)
    }

    /// Takes `count` tokens, all or none.
    pub fn check_n(&mut self, now: MonoTime, count: u32) -> bool {
        match self.quota.take(now, self.full_at, count) {
            Some(full_at) => {
                self.full_at = full_at;
                true
            }
            None => false,
        }
    }
}

/// A token bucket for each key, for at most `capacity` keys at a time.
///
/// When all places are taken by keys that are not yet full again, further keys share one more bucket of the same quota: a
/// flood from many sources cannot push out the sources we know, nor use more memory, nor pass more than one source more
/// could. A key that later gets a place starts with what the shared bucket holds, so that no key ever passes more than
/// `burst + rate × time`.
///
/// ```
/// use tercet_machine::{MonoTime, Quota, RateLimiter};
/// let mut limiter = RateLimiter::new(Quota::per_minute(60, 2), 1000);
/// let now = MonoTime::ZERO;
/// assert!(limiter.check(now, &"10.0.0.1") && limiter.check(now, &"10.0.0.1"));
/// assert!(!limiter.check(now, &"10.0.0.1"));
/// assert!(limiter.check(now, &"10.0.0.2"));
/// ```
#[derive(Debug, Clone)]
pub struct RateLimiter<K> {
    quota: Quota,
    capacity: usize,
    /// When each key's bucket is full again.
    full_at: TimerSet<K>,
    shared: TokenBucket,
}

impl<K: Ord + Clone> RateLimiter<K> {
    /// A limiter that remembers at most `capacity` keys, about 100 bytes and two copies of the key each.
    #[must_use]
    pub const fn new(quota: Quota, capacity: usize) -> Self {
        Self {
            quota,
            capacity,
            full_at: TimerSet::new(),
            shared: TokenBucket::new(quota),
        }
    }

    /// Takes a token of `key`; `false` if there is none.
    pub fn check(&mut self, now: MonoTime, key: &K) -> bool {
        self.check_n(now, key, 1)
    }

    /// Takes `count` tokens of `key`, all or none. O(log n).
    pub fn check_n(&mut self, now: MonoTime, key: &K, count: u32) -> bool {
        // Two out for at most one in: the set shrinks back after a burst of keys.
        for _ in 0..2 {
            self.full_at.pop_expired(now);
        }
        let known = self.full_at.get(key);
        if known.is_none() && self.full_at.len() >= self.capacity {
            return self.shared.check_n(now, count);
        }
        match self
            .quota
            .take(now, known.unwrap_or(self.shared.full_at), count)
        {
            Some(full_at) => {
                self.full_at.set(key.clone(), full_at);
                true
            }
            None => false,
        }
    }

    /// How many keys have a bucket of their own.
    #[must_use]
    pub fn len(&self) -> usize {
        self.full_at.len()
    }

    /// Whether no key has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.full_at.is_empty()
    }
}
