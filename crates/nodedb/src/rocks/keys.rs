//! The key space: one letter for the kind, then the node id. Rows lie together, so scans never read contacts.

use std::ops::Range;

use tercet_enode::NodeId;

use crate::codec::Undecodable;

/// Where the version of this layout is stored, as 8 big-endian bytes.
pub(super) const SCHEMA: &[u8] = b"version";

/// What a key leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A value of the cache: its place in the order of writing, 8 big-endian bytes, then the value.
    Cache = b'c',
    /// The local node's sequence number, 8 big-endian bytes.
    LocalSeq = b'l',
    /// A contact.
    Contact = b'n',
    /// A row of statistics.
    Row = b's',
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Cache, Self::LocalSeq, Self::Contact, Self::Row];

    pub(super) fn of(key: &[u8]) -> Option<Self> {
        let first = key.first()?;
        Self::ALL.into_iter().find(|kind| *kind as u8 == *first)
    }

    /// All keys of this kind.
    pub(super) fn range(self) -> Range<Vec<u8>> {
        vec![self as u8]..vec![self as u8 + 1]
    }

    pub(super) fn key(self, id: &NodeId) -> [u8; 33] {
        let mut key = [self as u8; 33];
        let (_, tail) = key.split_at_mut(1);
        tail.copy_from_slice(id.as_bytes());
        key
    }
}

/// The id in a key of any kind.
pub(super) fn id_of(key: &[u8]) -> Result<NodeId, Undecodable> {
    let (_, id) = key.split_first().ok_or(Undecodable)?;
    Ok(NodeId::new(id.try_into()?))
}
