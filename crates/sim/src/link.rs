//! What happens to a datagram on its way: how long it takes, whether it arrives, how often.

use std::time::Duration;

use rand::{Rng, RngExt};

/// The properties of the way between two nodes, the same in both directions.
///
/// ```
/// use std::time::Duration;
/// use tercet_sim::LinkProfile;
/// let bad = LinkProfile::default()
///     .latency(Duration::from_millis(40), Duration::from_millis(120))
///     .loss(0.05)
///     .duplication(0.01)
///     .reordering(0.02, Duration::from_millis(200))
///     .mtu(1280);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkProfile {
    pub(crate) min_latency: Duration,
    pub(crate) max_latency: Duration,
    pub(crate) loss: f64,
    pub(crate) duplication: f64,
    pub(crate) reordering: f64,
    pub(crate) reordering_delay: Duration,
    pub(crate) mtu: usize,
}

impl Default for LinkProfile {
    /// 20 ms, nothing lost, duplicated or reordered, 1500 bytes.
    fn default() -> Self {
        Self {
            min_latency: Duration::from_millis(20),
            max_latency: Duration::from_millis(20),
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            reordering_delay: Duration::ZERO,
            mtu: 1500,
        }
    }
}

impl LinkProfile {
    /// How long a datagram takes. Each two nodes have a latency of their own between the two bounds, which follows from the
    /// run's seed: datagrams between them stay in order unless [`reordering`](Self::reordering) holds one up.
    #[must_use]
    pub fn latency(self, min: Duration, max: Duration) -> Self {
        Self {
            min_latency: min.min(max),
            max_latency: min.max(max),
            ..self
        }
    }

    /// The chance of a datagram to get lost, 0 to 1.
    #[must_use]
    pub const fn loss(self, chance: f64) -> Self {
        Self {
            loss: chance,
            ..self
        }
    }

    /// The chance of a datagram to arrive twice, 0 to 1.
    #[must_use]
    pub const fn duplication(self, chance: f64) -> Self {
        Self {
            duplication: chance,
            ..self
        }
    }

    /// The chance of a datagram to be held up for `delay`, so that later ones overtake it.
    #[must_use]
    pub const fn reordering(self, chance: f64, delay: Duration) -> Self {
        Self {
            reordering: chance,
            reordering_delay: delay,
            ..self
        }
    }

    /// The largest datagram, in bytes; larger ones are dropped.
    #[must_use]
    pub const fn mtu(self, bytes: usize) -> Self {
        Self { mtu: bytes, ..self }
    }

    pub(crate) fn loses(&self, rng: &mut impl Rng) -> bool {
        happens(rng, self.loss)
    }

    pub(crate) fn duplicates(&self, rng: &mut impl Rng) -> bool {
        happens(rng, self.duplication)
    }

    /// How long one datagram takes on a way that lies at `position`, 0 to 1, between the shortest and the longest.
    pub(crate) fn delay(&self, position: f64, rng: &mut impl Rng) -> Duration {
        let spread = (self.max_latency - self.min_latency).as_secs_f64();
        let delay = self.min_latency + Duration::from_secs_f64(spread * position);
        if happens(rng, self.reordering) {
            delay + self.reordering_delay
        } else {
            delay
        }
    }
}

/// Draws only for chances that are not certain, so that a profile without a property leaves the generator as it is.
fn happens(rng: &mut impl Rng, chance: f64) -> bool {
    chance > 0.0 && rng.random::<f64>() < chance
}
