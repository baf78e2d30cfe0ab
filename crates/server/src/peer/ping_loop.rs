//! The ping loop: when we ping, and which of the remote's pings we answer.

use std::time::Duration;

use tercet_machine::{MonoTime, Quota, TokenBucket};

/// Pings answered in a burst; one more is answered each second.
pub const PING_BURST: u32 = 5;

/// See the module.
#[derive(Debug)]
pub(crate) struct PingLoop {
    interval: Duration,
    next: MonoTime,
    answers: TokenBucket,
}

impl PingLoop {
    pub(crate) fn new(now: MonoTime, interval: Duration) -> Self {
        let answers = TokenBucket::new(Quota::per_second(1, PING_BURST));
        Self {
            interval,
            next: now + interval,
            answers,
        }
    }

    /// When the next ping is due.
    pub(crate) fn deadline(&self) -> MonoTime {
        self.next
    }

    /// Whether to ping now. A late call pings once, not once for each interval.
    pub(crate) fn due(&mut self, now: MonoTime) -> bool {
        let due = self.next <= now;
        if due {
            self.next = now + self.interval;
        }
        due
    }

    /// Whether a ping from the remote is answered: a flood of them would make
    /// us its echo.
    pub(crate) fn answers(&mut self, now: MonoTime) -> bool {
        self.answers.check(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pings_once_an_interval_even_when_called_late() {
        let at = MonoTime::from_millis;
        let mut pings = PingLoop::new(at(0), Duration::from_secs(15));
        assert!(!pings.due(at(14_999)));
        assert!(pings.due(at(15_000)));
        assert!(!pings.due(at(29_999)));
        assert!(pings.due(at(100_000)));
        assert!(!pings.due(at(100_001)));
    }

    proptest! {
        #[test]
        fn never_answers_more_than_burst_plus_rate(
            gaps in prop::collection::vec(0u64..3_000, 1..200),
        ) {
            let mut pings = PingLoop::new(MonoTime::ZERO, Duration::from_secs(15));
            let (mut now, mut answered) = (0, 0u64);
            for gap in gaps {
                now += gap;
                answered += u64::from(pings.answers(MonoTime::from_millis(now)));
                prop_assert!(answered <= u64::from(PING_BURST) + now / 1000);
            }
        }
    }
}
