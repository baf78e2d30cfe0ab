//! What a lookup aims at, whichever protocol asks.

use tercet_enode::{NodeId, PublicKey, keccak256};

/// A place in the id space, with the 64 bytes discv4 needs to name it if they are known. A discv5 lookup needs the place
/// alone; discv4 cannot be asked for a place whose 64 bytes nobody knows, as they are hashed to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Target {
    id: NodeId,
    bytes: Option<[u8; 64]>,
}

impl Target {
    /// The target these 64 bytes hash to; they need not be a key.
    #[must_use]
    pub fn new(bytes: [u8; 64]) -> Self {
        Self {
            id: NodeId::new(keccak256(&bytes)),
            bytes: Some(bytes),
        }
    }

    /// The place a lookup approaches.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// The bytes that hash to it, if known.
    #[must_use]
    pub const fn bytes(&self) -> Option<&[u8; 64]> {
        self.bytes.as_ref()
    }
}

impl From<PublicKey> for Target {
    fn from(key: PublicKey) -> Self {
        Self {
            id: key.node_id(),
            bytes: Some(key.to_bytes()),
        }
    }
}

impl From<NodeId> for Target {
    fn from(id: NodeId) -> Self {
        Self { id, bytes: None }
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Target").field(&self.id).finish()
    }
}
