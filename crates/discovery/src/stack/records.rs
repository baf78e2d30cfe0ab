//! Records that come in the answers of others, and which of them have been checked before. A lookup hears of the same nodes
//! again and again; a signature that was right is right for ever, so each costs its check once.

use tercet_enode::{NodeId, NodeRecord, RecordError, UnverifiedRecord};
use tercet_machine::{BoundedLru, KeyedState, MachineRng};

/// Records kept, one of each node, at most about 700 bytes each with its index: 1.4 MB. Several lookups' worth of nodes.
pub(super) const MAX_RECORDS: usize = 2048;

/// A record on its way through the check.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    Before(NodeRecord),
    New(UnverifiedRecord),
}

impl Seen {
    /// Checks what has not been checked yet: some 30 µs.
    pub(super) fn verify(self) -> Result<NodeRecord, RecordError> {
        match self {
            Self::Before(record) => Ok(record),
            Self::New(record) => record.verify(),
        }
    }
}

/// The last verified record of each of some nodes. Only what was verified gets in, so whoever wants to push out others' records
/// signs as many of his own, and gains that ours are checked anew.
#[derive(Debug)]
pub(super) struct RecordCache(BoundedLru<NodeId, NodeRecord>);

impl RecordCache {
    pub(super) fn new(rng: &mut MachineRng) -> Self {
        Self(BoundedLru::new(MAX_RECORDS, KeyedState::new(rng)))
    }

    /// The record, verified if the very same bytes were verified before.
    pub(super) fn look_up(&mut self, record: UnverifiedRecord) -> Seen {
        match self.0.get(&record.id()) {
            Some(known) if known.raw() == record.raw() => Seen::Before(known.clone()),
            _ => Seen::New(record),
        }
    }

    /// Keeps a record unless a newer one of the node is there.
    pub(super) fn insert(&mut self, record: &NodeRecord) {
        let id = record.id();
        if self
            .0
            .peek(&id)
            .is_none_or(|known| known.seq() <= record.seq())
        {
            self.0.insert(id, record.clone());
        }
    }

    /// The newest record of a node that is known here.
    pub(super) fn get(&self, id: &NodeId) -> Option<&NodeRecord> {
        self.0.peek(id)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
