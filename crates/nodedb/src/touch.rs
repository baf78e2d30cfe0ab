//! Whether this node has been in touch with others for long enough to forget those that did not answer. While its line is down,
//! or its machine asleep, nobody answers, and whoever it has not heard from may be as well as ever.

use std::time::Duration;

use tercet_machine::UnixTime;

use crate::limits::EXPIRY_CYCLE;

/// Answers that are farther apart are not one stretch of time. A table of a single node hears from it every few seconds.
const BREAK: Duration = Duration::from_secs(10 * 60);

/// The time in which answers came without a break. It is civil time, as that of the rows is: it goes on while the machine sleeps,
/// and when the clock is set, all ages change at once.
#[derive(Debug, Default)]
pub(crate) struct Touch(Option<Stretch>);

#[derive(Clone, Copy, Debug)]
struct Stretch {
    since: UnixTime,
    last: UnixTime,
}

impl Touch {
    /// Somebody has answered.
    pub(crate) fn on_pong(&mut self, at: UnixTime) {
        let since = self.stretch(at).map_or(at, |stretch| stretch.since);
        self.0 = Some(Stretch { since, last: at });
    }

    /// Whether everybody has had a whole cycle to answer.
    pub(crate) fn is_long(&self, now: UnixTime) -> bool {
        self.stretch(now)
            .is_some_and(|stretch| now - stretch.since >= EXPIRY_CYCLE)
    }

    fn stretch(&self, now: UnixTime) -> Option<Stretch> {
        // One of the two is zero, whichever way the clock went.
        self.0
            .filter(|stretch| (now - stretch.last) + (stretch.last - now) <= BREAK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: UnixTime = UnixTime::from_secs(1_750_000_000);
    const STEP: Duration = Duration::from_secs(60);

    /// Answers each minute up to `end`.
    fn answers(touch: &mut Touch, mut at: UnixTime, end: UnixTime) {
        while at <= end {
            touch.on_pong(at);
            at = at + STEP;
        }
    }

    #[test]
    fn it_is_long_after_an_hour_of_answers_and_no_longer_once_they_stop() {
        let mut touch = Touch::default();
        assert!(!touch.is_long(START));
        let hour = START + EXPIRY_CYCLE;
        answers(&mut touch, START, hour);
        assert!(!touch.is_long(hour - STEP));
        assert!(touch.is_long(hour));
        assert!(touch.is_long(hour + BREAK));
        assert!(!touch.is_long(hour + BREAK + STEP));
    }

    #[test]
    fn whichever_way_the_clock_is_set_the_hour_begins_anew() {
        let day = 24 * EXPIRY_CYCLE;
        for set_to in [START + 3 * day, START - day] {
            let mut touch = Touch::default();
            answers(&mut touch, START, START + EXPIRY_CYCLE);
            assert!(!touch.is_long(set_to));
            let hour = set_to + EXPIRY_CYCLE;
            answers(&mut touch, set_to, hour - STEP);
            assert!(!touch.is_long(hour - STEP), "{set_to:?}");
            assert!(touch.is_long(hour), "{set_to:?}");
        }
    }

    /// A clock is put right by moments all the time, and two readers' answers need not be told in their order.
    #[test]
    fn a_moment_back_is_no_break() {
        let mut touch = Touch::default();
        let hour = START + EXPIRY_CYCLE;
        answers(&mut touch, START, hour);
        touch.on_pong(hour - STEP);
        assert!(touch.is_long(hour));
    }
}
