//! The newest record of every node a crawl has met, so that a record many nodes name is verified once; and the rules by which
//! an address somebody names is believed.

use std::net::IpAddr;

use tercet_enode::{Node, NodeId, NodeRecord, UnverifiedRecord, check_relay};
use tercet_machine::{KeyedMap, KeyedState, MachineRng};

use crate::crawl::MAX_NODES;

/// UDP ports of named nodes lie above this, as in geth: the ones below belong to services a crawler should not be made to talk to.
pub(in crate::crawl) const MAX_RESERVED_PORT: u16 = 1024;

/// At most [`MAX_NODES`] of 40 bytes: the records themselves are the crawl's.
#[derive(Debug)]
pub(super) struct Records {
    own: NodeId,
    map: KeyedMap<NodeId, NodeRecord>,
}

/// What is to be done with a record somebody names.
#[derive(Debug)]
pub(super) enum Named {
    /// It is known, or an older one than is known.
    Known(NodeRecord),
    /// Its signature has to be checked.
    New(UnverifiedRecord),
}

impl Records {
    pub(super) fn new(rng: &mut MachineRng, own: NodeId) -> Self {
        Self {
            own,
            map: KeyedMap::with_hasher(KeyedState::new(rng)),
        }
    }

    pub(super) fn get(&self, id: &NodeId) -> Option<&NodeRecord> {
        self.map.get(id)
    }

    /// Compares a record with what is known of its node.
    pub(super) fn sort(&self, record: UnverifiedRecord) -> Named {
        match self.map.get(&record.id()) {
            Some(known) if known.seq() > record.seq() || known.raw() == record.raw() => {
                Named::Known(known.clone())
            }
            _ => Named::New(record),
        }
    }

    /// Takes a verified record.
    pub(super) fn insert(&mut self, record: &NodeRecord) {
        let known = self.map.get(&record.id());
        let is_newer = known.is_none_or(|known| known.seq() < record.seq());
        if is_newer && (known.is_some() || self.map.len() < MAX_NODES) {
            self.map.insert(record.id(), record.clone());
        }
    }

    /// Whether somebody at `sender` may name this node.
    pub(super) fn may_name(&self, sender: IpAddr, node: &Node) -> bool {
        let endpoint = node.endpoint();
        node.id() != self.own
            && endpoint.udp > MAX_RESERVED_PORT
            && check_relay(sender, endpoint.ip).is_ok()
    }
}
