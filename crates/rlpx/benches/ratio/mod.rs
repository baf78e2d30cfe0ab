//! Compares our code with the physical limit of its work on a machine that does other things as well: the two are
//! measured in turn, a few hundred times, and their lower quartiles compared. A slow phase of the machine then hits both
//! or neither, and being interrupted, which only ever adds time, counts for neither.

use std::time::{Duration, Instant};

/// Times of many alternating measurements.
pub(crate) struct Ratio {
    ours: Vec<Duration>,
    limit: Vec<Duration>,
}

impl Ratio {
    /// Measures `ours` and `limit` `rounds` times in turn. Each has its input made just before, which is not timed.
    pub(crate) fn measure<A, B>(
        rounds: usize,
        mut prepare_ours: impl FnMut() -> A,
        mut ours: impl FnMut(A),
        mut prepare_limit: impl FnMut() -> B,
        mut limit: impl FnMut(B),
    ) -> Self {
        let mut ratio = Self {
            ours: Vec::new(),
            limit: Vec::new(),
        };
        for round in 0..rounds + rounds / 10 {
            let ours = timed(prepare_ours(), &mut ours);
            let limit = timed(prepare_limit(), &mut limit);
            // The first tenth warms caches and clocks up.
            if round >= rounds / 10 {
                ratio.ours.push(ours);
                ratio.limit.push(limit);
            }
        }
        ratio.ours.sort();
        ratio.limit.sort();
        ratio
    }

    /// Lower quartiles of ours and of the limit.
    pub(crate) fn times(&self) -> (Duration, Duration) {
        (
            self.ours[self.ours.len() / 4],
            self.limit[self.limit.len() / 4],
        )
    }

    /// Time of the limit as a part of ours: 1.0 is as fast as possible.
    pub(crate) fn speed(&self) -> f64 {
        let (ours, limit) = self.times();
        limit.as_secs_f64() / ours.as_secs_f64()
    }
}

fn timed<I>(input: I, run: &mut impl FnMut(I)) -> Duration {
    let start = Instant::now();
    run(input);
    start.elapsed()
}
