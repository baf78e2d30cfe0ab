//! Nodes that have a session with this one and no endpoint to be tabled with: what their records said. One of them that comes
//! to know where it is says so only by a higher number in its pings.

use tercet_enode::{NodeId, NodeRecord, PublicKey};
use tercet_machine::{BoundedLru, KeyedState, MachineRng};

/// Such nodes that are remembered, about 200 bytes each; the one not heard of for longest goes. A handshake each makes room here
/// costly enough: whoever is pushed out is noticed at his next one.
pub(super) const MAX_HOMELESS: usize = 512;

/// What is known of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) key: PublicKey,
    /// Of the newest record that was seen.
    pub(super) seq: u64,
}

#[derive(Debug)]
pub(super) struct Homeless(BoundedLru<NodeId, Known>);

impl Homeless {
    pub(super) fn new(rng: &mut MachineRng) -> Self {
        Self(BoundedLru::new(MAX_HOMELESS, KeyedState::new(rng)))
    }

    /// A record of a node came that names no address to reach it at.
    pub(super) fn on_homeless(&mut self, record: &NodeRecord) {
        let (key, seq) = (record.public_key(), record.seq());
        self.0.insert(record.id(), Known { key, seq });
    }

    /// One came that does.
    pub(super) fn on_settled(&mut self, id: &NodeId) {
        self.0.remove(id);
    }

    pub(super) fn get(&mut self, id: &NodeId) -> Option<Known> {
        self.0.get(id).copied()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
