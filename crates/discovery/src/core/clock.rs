//! Signs that this machine's clock is wrong: packets that look expired, and questions nobody answers, as others find ours
//! expired. Whoever keeps the time finds out; here is only the suspicion.

use std::time::Duration;

use tercet_machine::MonoTime;

/// So many in a row are a sign (geth).
pub const SUSPICIOUS: u32 = 32;

/// The suspicion is not told again before this (geth). Anybody can send expired packets, so this also bounds what he gains.
pub const SUSPICION_COOLDOWN: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct Suspicion {
    expired: u32,
    silent: u32,
    last: Option<MonoTime>,
}

impl Suspicion {
    pub(super) const fn on_expired(&mut self) {
        self.expired = self.expired.saturating_add(1);
    }

    pub(super) const fn on_valid(&mut self) {
        self.expired = 0;
    }

    pub(super) const fn on_silence(&mut self) {
        self.silent = self.silent.saturating_add(1);
    }

    pub(super) const fn on_answer(&mut self) {
        self.silent = 0;
    }

    /// Whether to speak up now. Counting begins anew then.
    pub(super) fn take(&mut self, now: MonoTime) -> bool {
        let suspicious = self.expired > SUSPICIOUS || self.silent > SUSPICIOUS;
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
}
