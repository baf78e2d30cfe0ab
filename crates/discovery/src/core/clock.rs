//! Signs that this machine's clock is wrong: packets that look expired, and questions nobody answers, as others find ours
//! expired. Whoever keeps the time finds out; here is only the suspicion.
//!
//! Only discv4's packets expire. So silence is counted by protocol: with a clock that is behind, a node of both goes on being answered
//! over discv5.

use std::time::Duration;

use tercet_machine::MonoTime;

use crate::engine::Protocol;

/// So many in a row are a sign (geth).
pub const SUSPICIOUS: u32 = 32;

/// The suspicion is not told again before this (geth). Anybody can send expired packets, so this also bounds what he gains.
pub const SUSPICION_COOLDOWN: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct Suspicion {
    expired: u32,
    silent_v4: u32,
    silent_v5: u32,
    last: Option<MonoTime>,
}

impl Suspicion {
    pub(super) const fn on_expired(&mut self) {
        self.expired = self.expired.saturating_add(1);
    }

    pub(super) const fn on_valid(&mut self) {
        self.expired = 0;
    }

    pub(super) const fn on_silence(&mut self, over: Protocol) {
        let silent = self.silent(over);
        *silent = silent.saturating_add(1);
    }

    pub(super) const fn on_answer(&mut self, over: Protocol) {
        *self.silent(over) = 0;
    }

    /// Whether to speak up now. Counting begins anew then.
    pub(super) fn take(&mut self, now: MonoTime) -> bool {
        let counts = [self.expired, self.silent_v4, self.silent_v5];
        let suspicious = counts.into_iter().any(|count| count > SUSPICIOUS);
        let due = self
            .last
            .is_none_or(|last| now - last >= SUSPICION_COOLDOWN);
        if suspicious && due {
            *self = Self {
                last: Some(now),
                ..Self::default()
            };
        }
        suspicious && due
    }

    const fn silent(&mut self, over: Protocol) -> &mut u32 {
        match over {
            Protocol::V4 => &mut self.silent_v4,
            Protocol::V5 => &mut self.silent_v5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_behind_is_suspected_although_discv5_answers() {
        let mut suspicion = Suspicion::default();
        for _ in 0..SUSPICIOUS {
            suspicion.on_silence(Protocol::V4);
            suspicion.on_answer(Protocol::V5);
            assert!(!suspicion.take(MonoTime::ZERO));
        }
        suspicion.on_silence(Protocol::V4);
        assert!(suspicion.take(MonoTime::ZERO));
    }

    #[test]
    fn an_answer_over_the_same_protocol_ends_the_silence() {
        for protocol in [Protocol::V4, Protocol::V5] {
            let mut suspicion = Suspicion::default();
            for _ in 0..SUSPICIOUS {
                suspicion.on_silence(protocol);
            }
            suspicion.on_answer(protocol);
            suspicion.on_silence(protocol);
            assert!(!suspicion.take(MonoTime::ZERO));
        }
    }
}
