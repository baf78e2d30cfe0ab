//! When the writer thread has to do what: a machine without a thread or a clock of its own, so that its rules are
//! tested in virtual time.

use std::time::Duration;

use tercet_machine::MonoTime;

use crate::limits::{COMMIT_EARLY, COMMIT_INTERVAL, EXPIRY_CYCLE, RETRY_INTERVAL};

/// The writer's next step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Hand the waiting writes, or those a failed commit left, to the store.
    Commit,
    /// Forget what has not answered.
    Expire,
    /// Everything due is done: sync the store and answer those who wait for this flush number.
    Flush(u64),
    /// The same, then end.
    Close,
    /// Nothing for that long; `None` is until woken.
    Wait(Option<Duration>),
}

#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// Node ids waiting.
    waiting: usize,
    /// When the oldest waiting write must be committed; set exactly while something waits.
    commit_at: Option<MonoTime>,
    /// When a commit that failed is tried again; set exactly while its writes are kept.
    retry_at: Option<MonoTime>,
    /// `None` until expiry is started.
    expire_at: Option<MonoTime>,
    flush_wanted: u64,
    flush_done: u64,
    /// Commits that those who flush or close still wait for. Counted when they ask: what others write afterwards
    /// does not hold them up, and neither does a store that keeps failing.
    owed: u8,
    closing: bool,
}

impl Schedule {
    /// A write joined; `waiting` ids wait now. Returns whether the writer must be woken to look again.
    pub(crate) fn on_write(&mut self, waiting: usize, now: impl FnOnce() -> MonoTime) -> bool {
        let early = self.waiting < COMMIT_EARLY && waiting >= COMMIT_EARLY;
        self.waiting = waiting;
        let first = self.commit_at.is_none();
        if first {
            self.commit_at = Some(now() + COMMIT_INTERVAL);
        }
        first || early
    }

    /// Expiry runs from now on; starting it twice changes nothing.
    pub(crate) fn start_expiry(&mut self, now: MonoTime) {
        self.expire_at.get_or_insert(now + EXPIRY_CYCLE);
    }

    /// Asks for a flush; it is done when [`Schedule::flush_done`] reaches the returned number.
    pub(crate) fn want_flush(&mut self) -> u64 {
        self.owe();
        self.flush_wanted += 1;
        self.flush_wanted
    }

    pub(crate) fn flush_done(&self) -> u64 {
        self.flush_done
    }

    pub(crate) fn close(&mut self) {
        if !self.closing {
            self.owe();
            self.closing = true;
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }

    fn owe(&mut self) {
        self.owed = u8::from(self.retry_at.is_some()) + u8::from(self.commit_at.is_some());
    }

    /// A commit begins, of what waits or, after a failure, of what was kept.
    pub(crate) fn on_commit_start(&mut self) {
        self.owed = self.owed.saturating_sub(1);
        if self.retry_at.is_none() {
            self.commit_at = None;
            self.waiting = 0;
        }
    }

    /// The commit ended; after a failure its writes are kept for another try.
    pub(crate) fn on_commit_end(&mut self, now: MonoTime, ok: bool) {
        self.retry_at = (!ok).then(|| now + RETRY_INTERVAL);
        if !ok {
            self.owed = 0;
        }
    }

    /// An expiry run ended, well or not, or was left out; the next comes a cycle later.
    pub(crate) fn on_expired(&mut self, now: MonoTime) {
        self.expire_at = Some(now + EXPIRY_CYCLE);
    }

    pub(crate) fn on_flushed(&mut self, number: u64) {
        self.flush_done = number;
    }

    /// What to do now. Each step but the wait is followed by its `on_` call, which makes the next step another one.
    pub(crate) fn next(&self, now: MonoTime) -> Step {
        if self.is_commit_due(now) {
            return Step::Commit;
        }
        if !self.closing && self.expire_at.is_some_and(|at| at <= now) {
            return Step::Expire;
        }
        if self.flush_wanted > self.flush_done {
            return Step::Flush(self.flush_wanted);
        }
        if self.closing {
            return Step::Close;
        }
        let commit_at = self.retry_at.or(self.commit_at);
        let deadline = [commit_at, self.expire_at].into_iter().flatten().min();
        Step::Wait(deadline.map(|at| at - now))
    }

    fn is_commit_due(&self, now: MonoTime) -> bool {
        if self.owed > 0 {
            return true;
        }
        let full = self.waiting >= COMMIT_EARLY;
        match self.retry_at {
            _ if self.closing => false,
            Some(at) => at <= now,
            None => full || self.commit_at.is_some_and(|at| at <= now),
        }
    }
}

#[cfg(test)]
mod tests;
