//! The check that every machine's tests run: does it keep the contract of [`Machine`]?
//!
//! One script of inputs and waits is played four times, on fresh machines from the same seed: twice on time (the outputs must
//! be equal), once with a timeout before every step that nothing asked for (still equal), and once by a driver that wakes
//! late. In all of them, deadlines must move on and queues must stay within the limits.

use std::fmt::Debug;
use std::time::Duration;

use crate::machine::Machine;
use crate::time::{MonoTime, Now, UnixTime};

/// One step of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<I> {
    /// Hand an input to the machine.
    Input(I),
    /// Let time pass; deadlines on the way are met.
    Advance(Duration),
}

/// What the machine may not exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Outputs queued after one call. Default 4096.
    pub queued: usize,
    /// Timeouts within one [`Step::Advance`]: more than this is a deadline that does not get away. Default 100,000.
    pub timeouts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queued: 4096,
            timeouts: 100_000,
        }
    }
}

/// What a script made the machine do when played on time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Report {
    /// All outputs.
    pub outputs: usize,
    /// All calls of `handle_timeout`.
    pub timeouts: usize,
    /// The most outputs queued after one call.
    pub most_queued: usize,
}

/// How a machine broke the contract. `step` is the index in the script, its length meaning the check after the last.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Two machines from the same seed with the same inputs differ.
    #[error("step {step}: the same seed and inputs gave other outputs the second time")]
    NotReproducible {
        /// Where.
        step: usize,
    },
    /// A timeout that nothing asked for changed what the machine does.
    #[error("step {step}: a spurious timeout changed the outputs or the deadline")]
    SpuriousTimeout {
        /// Where.
        step: usize,
    },
    /// After `handle_timeout(now)` the deadline was not later than `now`: a driver would spin.
    #[error("step {step}: the deadline {deadline:?} is not after the timeout at {now:?}")]
    StaleDeadline {
        /// Where.
        step: usize,
        /// The time of the timeout.
        now: MonoTime,
        /// The deadline afterwards.
        deadline: MonoTime,
    },
    /// Too many outputs in the queue after one call.
    #[error("step {step}: more than {limit} outputs queued by one call")]
    QueueTooLong {
        /// Where.
        step: usize,
        /// The limit given.
        limit: usize,
    },
    /// Too many timeouts within one wait.
    #[error("step {step}: more than {limit} timeouts within one wait")]
    TooManyTimeouts {
        /// Where.
        step: usize,
        /// The limit given.
        limit: usize,
    },
}

/// Civil time at the start of every script: 2023-11-14, far from zero so that subtractions show.
pub const START: Now = Now {
    mono: MonoTime::ZERO,
    unix: UnixTime::from_secs(1_700_000_000),
};

/// Plays `steps` on machines that `make` builds from one seed.
///
/// # Errors
/// The first breach of the contract.
pub fn contract<M>(
    make: impl Fn() -> M,
    steps: &[Step<M::Input>],
    limits: Limits,
) -> Result<Report, Violation>
where
    M: Machine,
    M::Input: Clone,
    M::Output: PartialEq + Debug,
{
    let first = play(make(), steps, limits, Style::OnTime)?;
    let second = play(make(), steps, limits, Style::OnTime)?;
    if let Some(step) = first.difference(&second) {
        return Err(Violation::NotReproducible { step });
    }
    let spurious = play(make(), steps, limits, Style::Spurious)?;
    if let Some(step) = first.difference(&spurious) {
        return Err(Violation::SpuriousTimeout { step });
    }
    play(make(), steps, limits, Style::Late)?;
    Ok(first.report)
}

/// How the driver wakes the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// At every deadline.
    OnTime,
    /// At every deadline, and once before each step for no reason.
    Spurious,
    /// Only at the end of each wait.
    Late,
}

/// What one play showed after each step: outputs and deadline.
struct Played<O> {
    after: Vec<(Vec<O>, Option<MonoTime>)>,
    report: Report,
}

impl<O: PartialEq> Played<O> {
    fn difference(&self, other: &Self) -> Option<usize> {
        self.after
            .iter()
            .zip(&other.after)
            .position(|(ours, theirs)| ours != theirs)
    }
}

fn play<M>(
    machine: M,
    steps: &[Step<M::Input>],
    limits: Limits,
    style: Style,
) -> Result<Played<M::Output>, Violation>
where
    M: Machine,
    M::Input: Clone,
    M::Output: PartialEq + Debug,
{
    let mut player = Player {
        machine,
        limits,
        now: START,
        step: 0,
        outputs: Vec::new(),
        report: Report::default(),
    };
    player.drain()?;
    let mut after = Vec::with_capacity(steps.len());
    for (step, action) in steps.iter().enumerate() {
        player.step = step;
        if style == Style::Spurious {
            player.spurious_timeout()?;
        }
        match action {
            Step::Input(input) => {
                player.machine.handle(player.now, input.clone());
                player.drain()?;
            }
            Step::Advance(duration) => player.advance(*duration, style)?,
        }
        after.push((
            std::mem::take(&mut player.outputs),
            player.machine.deadline(),
        ));
    }
    Ok(Played {
        after,
        report: player.report,
    })
}

struct Player<M: Machine> {
    machine: M,
    limits: Limits,
    now: Now,
    step: usize,
    outputs: Vec<M::Output>,
    report: Report,
}

impl<M: Machine> Player<M> {
    fn drain(&mut self) -> Result<(), Violation> {
        let mut queued = 0;
        while let Some(output) = self.machine.poll() {
            queued += 1;
            if queued > self.limits.queued {
                let limit = self.limits.queued;
                return Err(Violation::QueueTooLong {
                    step: self.step,
                    limit,
                });
            }
            self.outputs.push(output);
        }
        self.report.outputs += queued;
        self.report.most_queued = self.report.most_queued.max(queued);
        Ok(())
    }

    fn timeout(&mut self) -> Result<(), Violation> {
        self.machine.handle_timeout(self.now);
        self.report.timeouts += 1;
        self.drain()?;
        match self
            .machine
            .deadline()
            .filter(|deadline| *deadline <= self.now.mono)
        {
            Some(deadline) => Err(Violation::StaleDeadline {
                step: self.step,
                now: self.now.mono,
                deadline,
            }),
            None => Ok(()),
        }
    }

    fn spurious_timeout(&mut self) -> Result<(), Violation> {
        let deadline = self.machine.deadline();
        // An input may leave something due at once; meeting it is no spurious call.
        if deadline.is_some_and(|deadline| deadline <= self.now.mono) {
            return Ok(());
        }
        let before = self.outputs.len();
        self.timeout()?;
        self.report.timeouts -= 1;
        if self.outputs.len() != before || self.machine.deadline() != deadline {
            return Err(Violation::SpuriousTimeout { step: self.step });
        }
        Ok(())
    }

    fn advance(&mut self, duration: Duration, style: Style) -> Result<(), Violation> {
        let end = START.after((self.now.mono + duration) - START.mono);
        let mut timeouts = 0;
        while style != Style::Late
            && let Some(deadline) = self.machine.deadline().filter(|at| *at <= end.mono)
        {
            timeouts += 1;
            if timeouts > self.limits.timeouts {
                let limit = self.limits.timeouts;
                return Err(Violation::TooManyTimeouts {
                    step: self.step,
                    limit,
                });
            }
            // From the start, as adding up small steps would lose what is below a millisecond.
            self.now = START.after(deadline - START.mono);
            self.timeout()?;
        }
        self.now = end;
        if self
            .machine
            .deadline()
            .is_some_and(|deadline| deadline <= end.mono)
        {
            self.timeout()?;
        }
        Ok(())
    }
}
