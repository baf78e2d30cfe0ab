//! How many requests may be under way, and how long each is waited for: additive increase, multiplicative decrease.
//!
//! Most nodes a crawler hears of are gone, so a silent stranger says nothing about the way to it. A node that has answered
//! before and no longer does may have drowned in our own traffic: that halves the window, at most once in a recovery time.

use std::time::Duration;

use tercet_machine::MonoTime;

/// Requests under way at the start.
const START: f64 = 32.0;
/// The fewest, whatever is lost.
const FLOOR: f64 = 8.0;
/// Without a measurement, and at least: one loss event is counted once.
const MIN_RECOVERY: Duration = Duration::from_millis(100);

/// An answer is waited for at least this long (discv5's own timeout in go-ethereum; discv4's is 500 ms)…
const MIN_PATIENCE: Duration = Duration::from_millis(700);
/// …and at most this long…
const MAX_PATIENCE: Duration = Duration::from_secs(2);
/// …and between the two so many times as long as answers take.
const PATIENCE: u32 = 4;

/// The window. Times are smoothed as TCP does (RFC 6298): a new measurement counts one eighth.
#[derive(Debug)]
pub(crate) struct Window {
    size: f64,
    most: f64,
    smoothed: Option<Duration>,
    recovers_at: MonoTime,
}

impl Window {
    /// At most `most` requests under way (at least 1).
    pub(crate) fn new(most: usize) -> Self {
        let most = (most.max(1) as f64).min(f64::from(u32::MAX));
        Self {
            size: START.min(most),
            most,
            smoothed: None,
            recovers_at: MonoTime::ZERO,
        }
    }

    /// How many may be under way.
    pub(crate) fn size(&self) -> usize {
        self.size as usize
    }

    /// The smoothed time of an answer.
    pub(crate) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// How long to wait for an answer.
    pub(crate) fn patience(&self) -> Duration {
        let usual = self.smoothed.unwrap_or_default();
        (usual * PATIENCE).clamp(MIN_PATIENCE, MAX_PATIENCE)
    }

    /// An answer came after `rtt`: one more for each window of answers.
    pub(crate) fn on_answer(&mut self, rtt: Duration) {
        self.size = (self.size + 1.0 / self.size).min(self.most);
        self.smoothed = Some(match self.smoothed {
            None => rtt,
            Some(smoothed) => smoothed.mul_f64(7.0 / 8.0) + rtt.mul_f64(1.0 / 8.0),
        });
    }

    /// A node that had answered before did not.
    pub(crate) fn on_loss(&mut self, now: MonoTime) {
        if now < self.recovers_at {
            return;
        }
        self.size = (self.size / 2.0).max(FLOOR.min(self.most));
        let recovery = self.smoothed.unwrap_or_default() * 2;
        self.recovers_at = now + recovery.max(MIN_RECOVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_by_one_a_round_and_halves_once_a_loss() {
        let mut window = Window::new(256);
        let rtt = Duration::from_millis(50);
        for _ in 0..33 {
            window.on_answer(rtt);
        }
        assert_eq!((window.size(), window.smoothed()), (33, Some(rtt)));
        window.on_loss(MonoTime::ZERO);
        window.on_loss(MonoTime::from_millis(99));
        assert_eq!(window.size(), 16);
        window.on_loss(MonoTime::from_millis(100));
        window.on_loss(MonoTime::from_secs(1));
        assert_eq!(window.size(), FLOOR as usize);
    }

    #[test]
    fn patience_follows_the_time_of_answers() {
        let mut window = Window::new(8);
        assert_eq!(window.patience(), MIN_PATIENCE);
        for (rtt, patience) in [(100, 700), (400, 1600), (3000, 2000)] {
            for _ in 0..64 {
                window.on_answer(Duration::from_millis(rtt));
            }
            let off = window.patience().abs_diff(Duration::from_millis(patience));
            assert!(off < Duration::from_millis(5), "{:?}", window.patience());
        }
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let mut window = Window::new(2);
        for at in 0..1000 {
            window.on_answer(Duration::ZERO);
            assert!(window.size() <= 2);
            window.on_loss(MonoTime::from_secs(at));
        }
        assert_eq!(window.size(), 2);
        assert_eq!(Window::new(0).size(), 1);
    }
}
