//! Writes on their way to the store: joined by node id, bounded, and readable while they wait.
//!
//! However often a node pings within one commit interval, it costs one row write. Reading through this queue matters
//! because callers count ("failures so far plus one") and would otherwise count from a stale number.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use tercet_enode::{Node, NodeId, canonical_ip};
use tercet_machine::UnixTime;

use crate::cache::CacheKey;
use crate::limits::MAX_ADDRESSES;
use crate::store::NodeMeta;
use crate::write::Write;

/// Waiting writes by node id; ordered, so that a commit writes keys in order.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    nodes: BTreeMap<NodeId, PendingNode>,
}

/// There is no room for another node id.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// What waits for one node. Applying it has the effect of applying its writes one by one, as long as they name at most
/// [`MAX_ADDRESSES`] addresses; of more than that the first touched is left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct PendingNode {
    /// Comes before everything below; what was written before it is gone.
    removed: bool,
    node: Option<Node>,
    addresses: Vec<PendingAddress>,
    local_seq: Option<u64>,
    /// A value of the cache has a key of its own, which is no node's.
    cached: Option<(CacheKey, Bytes)>,
}

#[derive(Clone, Copy, Debug)]
struct PendingAddress {
    ip: IpAddr,
    last_ping: Option<UnixTime>,
    last_pong: Option<UnixTime>,
    find_failures: Option<u32>,
    find_failures_v5: Option<u32>,
}

impl Pending {
    /// Joins a write to what waits for its node; a new node id needs room under `bound`.
    pub(crate) fn add(&mut self, write: Write, bound: usize) -> Result<(), Full> {
        let id = write.id();
        if self.nodes.len() >= bound && !self.nodes.contains_key(&id) {
            return Err(Full);
        }
        self.nodes.entry(id).or_default().add(write);
        Ok(())
    }

    pub(crate) fn get(&self, id: &NodeId) -> Option<&PendingNode> {
        self.nodes.get(id)
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The same effect as plain writes, in an order a store can apply.
    pub(crate) fn to_writes(&self) -> Vec<Write> {
        let mut writes = Vec::with_capacity(self.nodes.len());
        for (id, node) in &self.nodes {
            node.push_writes(*id, &mut writes);
        }
        writes
    }
}

impl PendingNode {
    fn add(&mut self, write: Write) {
        match write {
            Write::Node(node) => {
                if self.node.as_ref().is_none_or(|old| old.seq() <= node.seq()) {
                    self.node = Some(node);
                }
            }
            Write::Ping { ip, at, .. } => {
                let address = self.address_mut(ip);
                address.last_ping = address.last_ping.max(Some(at));
            }
            Write::Pong { ip, at, .. } => {
                let address = self.address_mut(ip);
                address.last_pong = address.last_pong.max(Some(at));
            }
            Write::FindFailures { ip, count, .. } => {
                self.address_mut(ip).find_failures = Some(count);
            }
            Write::FindFailuresV5 { ip, count, .. } => {
                self.address_mut(ip).find_failures_v5 = Some(count);
            }
            Write::Remove(_) => {
                let local_seq = self.local_seq;
                *self = Self {
                    removed: true,
                    local_seq,
                    ..Self::default()
                };
            }
            Write::LocalSeq { seq, .. } => self.local_seq = self.local_seq.max(Some(seq)),
            Write::Cache { key, value } => self.cached = Some((key, value)),
        }
    }

    fn address_mut(&mut self, ip: IpAddr) -> &mut PendingAddress {
        let ip = canonical_ip(ip);
        let at = self.addresses.iter().position(|address| address.ip == ip);
        let at = at.unwrap_or_else(|| {
            if self.addresses.len() >= MAX_ADDRESSES {
                self.addresses.remove(0);
            }
            self.addresses.push(PendingAddress {
                ip,
                last_ping: None,
                last_pong: None,
                find_failures: None,
                find_failures_v5: None,
            });
            self.addresses.len() - 1
        });
        #[expect(
            clippy::indexing_slicing,
            reason = "found by position or just pushed at this place"
        )]
        &mut self.addresses[at]
    }

    fn push_writes(&self, id: NodeId, writes: &mut Vec<Write>) {
        if self.removed {
            writes.push(Write::Remove(id));
        }
        writes.extend(self.node.clone().map(Write::Node));
        for &PendingAddress {
            ip,
            last_ping,
            last_pong,
            find_failures,
            find_failures_v5,
        } in &self.addresses
        {
            writes.extend(last_ping.map(|at| Write::Ping { id, ip, at }));
            writes.extend(last_pong.map(|at| Write::Pong { id, ip, at }));
            writes.extend(find_failures.map(|count| Write::FindFailures { id, ip, count }));
            let v5 = find_failures_v5.map(|count| Write::FindFailuresV5 { id, ip, count });
            writes.extend(v5);
        }
        writes.extend(self.local_seq.map(|seq| Write::LocalSeq { id, seq }));
        let cached = self.cached.clone();
        writes.extend(cached.map(|(key, value)| Write::Cache { key, value }));
    }

    /// The contact as it will be once this is applied over `stored`.
    pub(crate) fn node_over(&self, stored: Option<Node>) -> Option<Node> {
        let stored = stored.filter(|_| !self.removed);
        match (stored, &self.node) {
            (Some(stored), Some(new)) if new.seq() < stored.seq() => Some(stored),
            (stored, new) => new.clone().or(stored),
        }
    }

    /// The statistics as they will be once this is applied over `stored`.
    pub(crate) fn meta_over(&self, ip: IpAddr, stored: NodeMeta) -> NodeMeta {
        let ip = canonical_ip(ip);
        let mut meta = if self.removed {
            NodeMeta::default()
        } else {
            stored
        };
        if let Some(new) = self.addresses.iter().find(|address| address.ip == ip) {
            meta.last_ping = meta.last_ping.max(new.last_ping);
            meta.last_pong = meta.last_pong.max(new.last_pong);
            meta.find_failures = new.find_failures.unwrap_or(meta.find_failures);
            meta.find_failures_v5 = new.find_failures_v5.unwrap_or(meta.find_failures_v5);
        }
        meta
    }

    /// The local number as it will be once this is applied over `stored`.
    pub(crate) fn local_seq_over(&self, stored: Option<u64>) -> Option<u64> {
        stored.max(self.local_seq)
    }

    /// The cached value as it will be once this is applied over `stored`.
    pub(crate) fn cached_over(&self, stored: Option<Bytes>) -> Option<Bytes> {
        let waiting = self.cached.as_ref();
        waiting.map(|(_, value)| value.clone()).or(stored)
    }
}
