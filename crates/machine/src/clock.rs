//! The operating system's clocks, for drivers. The only module of the workspace's cores and drivers that reads them, so that
//! everything else can be run in virtual time.
#![allow(clippy::disallowed_methods)] // this is the module the rule points to

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::time::{MonoTime, Now, UnixTime};

/// A driver's source of [`Now`]. Copies share the same start, so their times can be compared.
///
/// ```
/// use tercet_machine::Clock;
/// let clock = Clock::start();
/// let earlier = clock.now();
/// assert!(clock.now().mono >= earlier.mono);
/// assert!(clock.instant(earlier.mono) <= clock.instant(clock.now().mono));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

/// The farthest an [`Instant`] is asked for: a timer set to [`MonoTime::MAX`] means "never", and ten years are that.
const FAR: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

impl Clock {
    /// Starts the monotonic clock at [`MonoTime::ZERO`].
    #[must_use]
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Both clocks. Civil time is read afresh, so that it follows corrections by the user or NTP; a clock set before 1970
    /// reads as 1970.
    #[must_use]
    pub fn now(&self) -> Now {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Now {
            mono: MonoTime::ZERO + self.start.elapsed(),
            unix: UnixTime::EPOCH + unix,
        }
    }

    /// The instant at which the monotonic clock shows `at`, for arming a sleep; at most ten years after the start.
    #[must_use]
    pub fn instant(&self, at: MonoTime) -> Instant {
        let after = (at - MonoTime::ZERO).min(FAR);
        self.start.checked_add(after).unwrap_or(self.start)
    }
}
