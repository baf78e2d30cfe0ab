//! Notices a remote that does not take our data: whatever is buffered at one
//! moment must be gone one write timeout later, however much is added behind it.

use std::time::Duration;

use tercet_machine::MonoTime;

/// See the module. Positions count all bytes ever queued or written.
#[derive(Debug)]
pub(crate) struct WriteWatch {
    limit: Duration,
    queued: u64,
    written: u64,
    /// Everything up to this position must be written by the time.
    mark: Option<(u64, MonoTime)>,
}

impl WriteWatch {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            queued: 0,
            written: 0,
            mark: None,
        }
    }

    pub(crate) fn on_queued(&mut self, now: MonoTime, bytes: usize) {
        self.queued = self.queued.saturating_add(bytes as u64);
        self.set_mark(now);
    }

    pub(crate) fn on_written(&mut self, now: MonoTime, bytes: usize) {
        self.written = self.written.saturating_add(bytes as u64).min(self.queued);
        if self
            .mark
            .is_some_and(|(position, _)| position <= self.written)
        {
            self.mark = None;
        }
        self.set_mark(now);
    }

    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        self.mark.map(|(_, until)| until)
    }

    pub(crate) fn overdue(&self, now: MonoTime) -> bool {
        self.deadline().is_some_and(|until| until <= now)
    }

    fn set_mark(&mut self, now: MonoTime) {
        if self.mark.is_none() && self.written < self.queued {
            self.mark = Some((self.queued, now + self.limit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> MonoTime {
        MonoTime::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_trickle_does_not_postpone_the_end() {
        let mut watch = WriteWatch::new(Duration::from_secs(20));
        watch.on_queued(at(0), 1000);
        for second in 1..20 {
            watch.on_written(at(second), 1);
            assert!(!watch.overdue(at(second)));
        }
        assert!(watch.overdue(at(20)));
    }

    #[test]
    fn steady_progress_under_steady_load_is_fine() {
        let mut watch = WriteWatch::new(Duration::from_secs(20));
        watch.on_queued(at(0), 1000);
        for second in 1..200 {
            watch.on_queued(at(second), 100);
            watch.on_written(at(second), 100);
            assert!(!watch.overdue(at(second)), "second {second}");
        }
    }

    #[test]
    fn an_empty_buffer_has_no_deadline() {
        let mut watch = WriteWatch::new(Duration::from_secs(20));
        assert_eq!(watch.deadline(), None);
        watch.on_queued(at(0), 10);
        assert_eq!(watch.deadline(), Some(at(20)));
        watch.on_written(at(1), 10);
        assert_eq!(watch.deadline(), None);
    }
}
