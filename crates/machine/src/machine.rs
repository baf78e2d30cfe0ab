//! The one contract all protocol logic keeps.

use crate::time::{MonoTime, Now};

/// A state machine that does no I/O: it is told the time and what happened, and says what to do and when to be woken.
///
/// The owner calls [`poll`](Self::poll) until `None` after every other call, arms one timer at
/// [`deadline`](Self::deadline) and calls [`handle_timeout`](Self::handle_timeout) when it fires. `now` never goes back on the
/// monotonic clock. An implementation reads no clock, no operating system randomness, no environment, and nothing whose
/// order depends on a `RandomState`; so the same seed and inputs give the same outputs.
/// [`check::contract`](crate::check::contract) holds an implementation to this.
///
/// ```
/// use std::time::Duration;
/// use tercet_machine::{Machine, MonoTime, Now};
///
/// /// Says "tick" every second after the first input.
/// #[derive(Default)]
/// struct Metronome { next: Option<MonoTime>, ticks: u32 }
///
/// impl Machine for Metronome {
///     type Input = ();
///     type Output = &'static str;
///     fn handle(&mut self, now: Now, (): ()) {
///         self.next = Some(now.mono + Duration::from_secs(1));
///     }
///     fn handle_timeout(&mut self, now: Now) {
///         while let Some(next) = self.next.filter(|next| *next <= now.mono) {
///             self.ticks += 1;
///             self.next = Some(next + Duration::from_secs(1));
///         }
///     }
///     fn deadline(&self) -> Option<MonoTime> {
///         self.next
///     }
///     fn poll(&mut self) -> Option<&'static str> {
///         self.ticks = self.ticks.checked_sub(1)?;
///         Some("tick")
///     }
/// }
///
/// use tercet_machine::check::{Limits, Step, contract};
/// let steps = [Step::Input(()), Step::Advance(Duration::from_secs(5))];
/// let report = contract(Metronome::default, &steps, Limits::default())?;
/// assert_eq!(report.outputs, 5);
/// # Ok::<(), tercet_machine::check::Violation>(())
/// ```
pub trait Machine {
    /// Bytes, commands, results of earlier outputs.
    type Input;
    /// What the owner is to do.
    type Output;

    /// Takes one input.
    fn handle(&mut self, now: Now, input: Self::Input);

    /// Does everything that is due at `now`; afterwards the deadline is later than `now`, or `None`. Calling it when
    /// nothing is due changes nothing.
    fn handle_timeout(&mut self, now: Now);

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    fn deadline(&self) -> Option<MonoTime>;

    /// The next thing to do, in order.
    fn poll(&mut self) -> Option<Self::Output>;
}
