//! What can be written to a store. Reading is in [`crate::NodeStore`]; coalescing of waiting writes is in `pending.rs`.

use std::net::IpAddr;

use bytes::Bytes;
use tercet_enode::{Node, NodeId};
use tercet_machine::UnixTime;

use crate::cache::CacheKey;

/// One change to what is remembered about a node.
///
/// Times are wall-clock times of the event. A store never keeps a time later than the `now` it is applied at, and never replaces
/// a time by an earlier one. IPv4 addresses mapped into IPv6 count as the IPv4 address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// A contact, with or without a signed record. Refused when the stored contact has a higher record sequence number.
    Node(Node),
    /// A discv4 ping came from the node at this address: it will hold a proof of our endpoint. discv5 pings prove nothing
    /// to anybody, so its engine does not write them.
    Ping {
        /// Whose ping.
        id: NodeId,
        /// The address it came from.
        ip: IpAddr,
        /// When it came.
        at: UnixTime,
    },
    /// The node answered a ping of either protocol at this address: the one proof that it lives there.
    Pong {
        /// Whose pong.
        id: NodeId,
        /// The address it came from.
        ip: IpAddr,
        /// When it came.
        at: UnixTime,
    },
    /// How many discv4 FindNode requests in a row this node has failed to answer at this address; replaces the count.
    FindFailures {
        /// Who failed.
        id: NodeId,
        /// The address it was asked at.
        ip: IpAddr,
        /// The new count.
        count: u32,
    },
    /// [`Write::FindFailures`] over discv5. Counted apart: a node may serve one protocol and be silent over the other.
    FindFailuresV5 {
        /// Who failed.
        id: NodeId,
        /// The address it was asked at.
        ip: IpAddr,
        /// The new count.
        count: u32,
    },
    /// Forget the node: its contact and all its statistics. The local sequence number stays.
    Remove(NodeId),
    /// The sequence number of the local node's own record. A lower number than the stored one is ignored: a
    /// published record must never be followed by one with a lower number.
    LocalSeq {
        /// The local node.
        id: NodeId,
        /// Its record's sequence number.
        seq: u64,
    },
    /// A value that was fetched and can be fetched again, such as an entry of a list in DNS; replaces the one under the same
    /// key. When the cache is full, the value written longest ago leaves. At most
    /// [`MAX_CACHED_VALUE`](crate::MAX_CACHED_VALUE) bytes.
    Cache {
        /// What it is about.
        key: CacheKey,
        /// The value.
        value: Bytes,
    },
}

impl Write {
    /// The node this is about; of a cached value, its key.
    pub fn id(&self) -> NodeId {
        match self {
            Self::Node(node) => node.id(),
            Self::Ping { id, .. }
            | Self::Pong { id, .. }
            | Self::FindFailures { id, .. }
            | Self::FindFailuresV5 { id, .. }
            | Self::Remove(id)
            | Self::LocalSeq { id, .. } => *id,
            Self::Cache { key, .. } => NodeId::new(*key.as_bytes()),
        }
    }
}
