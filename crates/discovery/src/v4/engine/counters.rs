//! Why packets are dropped, and how often.

/// Why a packet was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Drop {
    /// The source is outside the networks this node is restricted to.
    #[error("the source is outside the permitted networks")]
    Restricted,
    /// Its time is over.
    #[error("expired")]
    Expired,
    /// A reply nobody waits for.
    #[error("unsolicited reply")]
    Unsolicited,
    /// A request from somebody who has not proven his address.
    #[error("no endpoint proof")]
    Unproven,
    /// Signed by this node's own key.
    #[error("from this node itself")]
    Own,
    /// Every place for an exchange is taken.
    #[error("too many exchanges")]
    Full,
}

/// Counts since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[allow(missing_docs)] // the names of `Drop`'s variants
pub struct V4Counters {
    /// Messages taken in.
    pub received: u64,
    /// Messages given out.
    pub sent: u64,
    /// Requests of ours that got no reply.
    pub timeouts: u64,
    pub dropped_restricted: u64,
    pub dropped_expired: u64,
    pub dropped_unsolicited: u64,
    pub dropped_unproven: u64,
    pub dropped_own: u64,
    pub dropped_full: u64,
}

impl V4Counters {
    pub(super) fn count(&mut self, drop: Drop) {
        *match drop {
            Drop::Restricted => &mut self.dropped_restricted,
            Drop::Expired => &mut self.dropped_expired,
            Drop::Unsolicited => &mut self.dropped_unsolicited,
            Drop::Unproven => &mut self.dropped_unproven,
            Drop::Own => &mut self.dropped_own,
            Drop::Full => &mut self.dropped_full,
        } += 1;
    }
}
