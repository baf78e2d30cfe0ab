//! Answers to FindNode that may not be whole. A lookup goes on at the first packet that is not full, but such a packet may
//! have overtaken the full one it was sent behind; until the request's deadline the rest is still taken. No timers: what is
//! overdue is ignored and goes when something is added.

use std::collections::VecDeque;
use std::net::IpAddr;

use tercet_machine::MonoTime;

use crate::engine::Asker;
use crate::v4::bond::PeerKey;

/// Answers whose rest may still come, about 80 bytes each. Sixteen lookups with three questions in flight, each answered in a
/// fifth of its 500 ms, leave `16 × 3 × 5 = 240` behind. The oldest gives way.
pub const MAX_LATE: usize = 256;

/// The rest of one answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Late {
    pub(super) peer: PeerKey,
    pub(super) asker: Asker,
    /// Nodes that may still come, at least one.
    pub(super) room: usize,
    /// The request's own.
    pub(super) deadline: MonoTime,
}

#[derive(Debug, Default)]
pub(super) struct LateAnswers {
    entries: VecDeque<Late>,
}

impl LateAnswers {
    /// Remembers an answer that ended before all it may hold had come.
    pub(super) fn push(&mut self, now: MonoTime, late: Late) {
        if late.room == 0 || late.deadline <= now {
            return;
        }
        self.entries.retain(|entry| entry.deadline > now);
        if self.entries.len() >= MAX_LATE {
            self.entries.pop_front();
        }
        self.entries.push_back(late);
    }

    /// Whether a packet of neighbours from this address may be the rest of an answer.
    pub(super) fn expects(&self, now: MonoTime, from: IpAddr) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.peer.ip == from && entry.deadline > now)
    }

    /// Takes room for up to `count` nodes from the peer's answers, the oldest first. Returns the room taken and those who
    /// had asked.
    pub(super) fn take(
        &mut self,
        now: MonoTime,
        peer: &PeerKey,
        count: usize,
    ) -> (usize, Vec<Asker>) {
        let mut taken = 0;
        let mut askers = Vec::new();
        for entry in &mut self.entries {
            if entry.peer == *peer && entry.deadline > now {
                let part = entry.room.min(count - taken);
                entry.room -= part;
                taken += part;
                askers.push(entry.asker);
            }
        }
        self.entries.retain(|entry| entry.room > 0);
        (taken, askers)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
