//! The requests one peer owes us answers for.

use crate::limits::{MAX_EXPIRED_REQUESTS, MAX_OUTSTANDING_REQUESTS, REQUEST_TIMEOUT};
use crate::wire::{DecodeError, MessageId};
use std::collections::{BTreeMap, VecDeque};
use tercet_machine::{MonoTime, TimerSet};

/// Why a request to a peer has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The peer owes too many answers already.
    #[error("the peer owes {MAX_OUTSTANDING_REQUESTS} answers")]
    Busy,
    /// No answer came in time.
    #[error("no answer within {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout,
    /// The session ended.
    #[error("the session has ended")]
    Closed,
    /// The answer's items cannot be read.
    #[error("unreadable answer: {0}")]
    Decode(#[from] DecodeError),
}

/// What an answer belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Settled<T> {
    /// To this request, of at most so many items.
    Open { token: T, max_items: usize },
    /// To one that was given up on.
    Late,
    /// To none of this kind: the peer breaks the rules.
    Unknown,
}

struct Open<T> {
    reply: MessageId,
    max_items: usize,
    token: T,
}

/// Requests under way, and the ids of those given up on lately.
pub(super) struct RequestTracker<T> {
    open: BTreeMap<u64, Open<T>>,
    timers: TimerSet<u64>,
    expired: VecDeque<(u64, MessageId)>,
    next_id: u64,
}

impl<T> RequestTracker<T> {
    pub(super) fn new() -> Self {
        RequestTracker {
            open: BTreeMap::new(),
            timers: TimerSet::new(),
            expired: VecDeque::new(),
            next_id: 1,
        }
    }

    /// The id for a new request; the token back if there are too many.
    pub(super) fn open(
        &mut self,
        now: MonoTime,
        reply: MessageId,
        max_items: usize,
        token: T,
    ) -> Result<u64, T> {
        if self.open.len() >= MAX_OUTSTANDING_REQUESTS {
            return Err(token);
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.open.insert(
            id,
            Open {
                reply,
                max_items,
                token,
            },
        );
        self.timers.set(id, now + REQUEST_TIMEOUT);
        Ok(id)
    }

    /// Finds what an answer belongs to.
    pub(super) fn settle(&mut self, id: u64, reply: MessageId) -> Settled<T> {
        if self.open.get(&id).is_some_and(|open| open.reply == reply) {
            self.timers.cancel(&id);
            if let Some(Open {
                token, max_items, ..
            }) = self.open.remove(&id)
            {
                return Settled::Open { token, max_items };
            }
        }
        match self.expired.iter().position(|late| *late == (id, reply)) {
            Some(index) => {
                self.expired.remove(index);
                Settled::Late
            }
            None => Settled::Unknown,
        }
    }

    /// Gives up on the next request that is due.
    pub(super) fn pop_expired(&mut self, now: MonoTime) -> Option<T> {
        let id = self.timers.pop_expired(now)?;
        let open = self.open.remove(&id)?;
        if self.expired.len() >= MAX_EXPIRED_REQUESTS {
            self.expired.pop_front();
        }
        self.expired.push_back((id, open.reply));
        Some(open.token)
    }

    pub(super) fn deadline(&self) -> Option<MonoTime> {
        self.timers.deadline()
    }
}
