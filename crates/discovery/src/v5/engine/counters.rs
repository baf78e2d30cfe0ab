//! Why messages are dropped, and how often.

/// Why a discv5 message was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Drop {
    /// The source is outside the networks this node is restricted to.
    #[error("the source is outside the permitted networks")]
    Restricted,
    /// From this node's own id.
    #[error("from this node itself")]
    Own,
    /// A response nobody waits for, or a further one to a request that has had its total.
    #[error("unsolicited response")]
    Unsolicited,
    /// A response from elsewhere than where the request was sent.
    #[error("a response from another address than was asked")]
    WrongAddress,
    /// A response of another kind than the request asks for.
    #[error("a response of the wrong kind")]
    WrongKind,
}

/// Counts since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct V5Counters {
    /// Messages taken in.
    pub received: u64,
    /// Messages given out.
    pub sent: u64,
    /// Requests of this node's that got no response.
    pub timeouts: u64,
    /// Records left out of an answer: at a distance not asked for, not to be relayed, named before, without endpoint.
    pub refused_records: u64,
    /// Records over the number that is taken for a request.
    pub surplus_records: u64,
    /// [`Drop::Restricted`]
    pub dropped_restricted: u64,
    /// [`Drop::Own`]
    pub dropped_own: u64,
    /// [`Drop::Unsolicited`]
    pub dropped_unsolicited: u64,
    /// [`Drop::WrongAddress`]
    pub dropped_wrong_address: u64,
    /// [`Drop::WrongKind`]
    pub dropped_wrong_kind: u64,
}

impl V5Counters {
    pub(super) const fn count(&mut self, drop: Drop) {
        *match drop {
            Drop::Restricted => &mut self.dropped_restricted,
            Drop::Own => &mut self.dropped_own,
            Drop::Unsolicited => &mut self.dropped_unsolicited,
            Drop::WrongAddress => &mut self.dropped_wrong_address,
            Drop::WrongKind => &mut self.dropped_wrong_kind,
        } += 1;
    }
}
