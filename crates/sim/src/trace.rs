//! What happened, as one number: two runs of a scenario are the same if and only if (but for a chance of 2⁻⁶⁴) it is equal.

use std::fmt;
use std::hash::{Hash, Hasher};

use siphasher::sip::SipHasher13;

/// A running hash over every delivery: when, from where, to whom, what.
#[derive(Clone, Default)]
pub(crate) struct Trace(SipHasher13);

/// The hash of a run so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceHash(u64);

impl Trace {
    pub(crate) fn record<T: Hash>(&mut self, what: T) {
        what.hash(&mut self.0);
    }

    /// For packets, which bring their own way of being hashed.
    pub(crate) fn hasher(&mut self) -> &mut impl Hasher {
        &mut self.0
    }

    pub(crate) fn hash(&self) -> TraceHash {
        TraceHash(self.0.finish())
    }
}

impl fmt::Display for TraceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
