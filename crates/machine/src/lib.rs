//! The sans-IO contract that all protocol logic keeps, and the parts machines are made of: clocks they are told about, timers
//! with one deadline, seeded randomness, limits, and collections with bounds.
//!
//! ```
//! use std::time::Duration;
//! use tercet_machine::{Clock, MonoTime, TimerSet};
//!
//! // A driver reads the clock once a turn and arms one sleep at the machine's deadline.
//! let clock = Clock::start();
//! let mut timers = TimerSet::new();
//! timers.set("refresh", clock.now().mono + Duration::from_secs(1800));
//! let wake_at = timers.deadline().map(|deadline| clock.instant(deadline));
//! assert!(wake_at.is_some());
//! assert_eq!(timers.pop_expired(MonoTime::ZERO), None);
//! ```

pub mod check;
mod clock;
mod collections;
mod hash;
mod limit;
mod machine;
mod rng;
mod time;
mod timers;

pub use clock::Clock;
pub use collections::{BoundedLru, BoundedQueue, ExpiringMap, Full, Outputs};
pub use hash::{KeyedMap, KeyedSet, KeyedState, shrink};
pub use limit::{
    BudgetGuard, ByteBudget, Quota, RateLimiter, Subnet, SubnetLimit, SubnetQuota, TokenBucket,
};
pub use machine::Machine;
pub use rng::MachineRng;
pub use time::{MonoTime, Now, UnixTime};
pub use timers::TimerSet;

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
