//! Newer records that nodes say they have. One is asked for at once; a node that does not deliver is asked again only after
//! a pause that doubles each time, whatever it says meanwhile.

use std::time::Duration;

use tercet_enode::NodeId;
use tercet_machine::{BoundedLru, KeyedState, MachineRng, MonoTime};

/// Nodes of the table whose claim is remembered, about 120 bytes each, and as many that have a discv5 session and no endpoint.
pub const MAX_CLAIMS: usize = 512;

/// First pause.
const PAUSE: Duration = Duration::from_secs(10);

/// Longest pause: `10 s × 2^9` is over an hour.
const MAX_DOUBLINGS: u32 = 9;

#[derive(Clone, Copy, Debug)]
struct Claim {
    asked: u32,
    not_before: MonoTime,
}

#[derive(Debug)]
pub(super) struct Claims(BoundedLru<NodeId, Claim>);

impl Claims {
    pub(super) fn new(rng: &mut MachineRng) -> Self {
        Self(BoundedLru::new(MAX_CLAIMS, KeyedState::new(rng)))
    }

    /// Whether to ask the node for its record now.
    pub(super) fn ask(&mut self, now: MonoTime, id: NodeId) -> bool {
        let asked = match self.0.get(&id) {
            Some(claim) if now < claim.not_before => return false,
            Some(claim) => claim.asked,
            None => 0,
        };
        let pause = PAUSE.saturating_mul(2_u32.saturating_pow(asked.min(MAX_DOUBLINGS)));
        let claim = Claim {
            asked: asked.saturating_add(1),
            not_before: now + pause,
        };
        self.0.insert(id, claim);
        true
    }

    /// It has delivered a record that is newer than the one known.
    pub(super) fn on_delivered(&mut self, id: &NodeId) {
        self.0.remove(id);
    }
}
