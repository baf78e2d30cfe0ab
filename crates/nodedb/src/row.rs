//! The rules of one node's row: what a write changes, what expires, who may be a seed, who leaves first when a store is full.
//!
//! Both stores keep a row for each node id and leave every decision to it; that is why they agree. The contact itself (300
//! bytes and a signature) lies beside the row, so that scans for seeds and expiry read the small part only.

use std::net::IpAddr;
use std::time::Duration;

use tercet_enode::{Endpoint, Node, NodeId, canonical_ip};
use tercet_machine::UnixTime;

use crate::limits::MAX_ADDRESSES;
use crate::store::NodeMeta;
use crate::write::Write;

/// Everything about one node id except the contact itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    /// There exactly when a contact is stored.
    pub(crate) head: Option<Head>,
    /// At most [`MAX_ADDRESSES`], each address once.
    pub(crate) addresses: Vec<Address>,
}

/// What scans need of the stored contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// When a contact was first stored under this id; updates keep it.
    pub(crate) stored: UnixTime,
    pub(crate) ip: IpAddr,
    pub(crate) seq: u64,
}

/// Statistics of the node at one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) ip: IpAddr,
    pub(crate) first_seen: UnixTime,
    pub(crate) meta: NodeMeta,
}

/// Rows that answered are worth more than rows that did not, then the more recent is. The smallest leaves a full store first.
pub(crate) type Worth = (UnixTime, UnixTime, NodeId);

impl Row {
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_none() && self.addresses.is_empty()
    }

    pub(crate) fn meta(&self, ip: IpAddr) -> NodeMeta {
        let ip = canonical_ip(ip);
        let found = self.addresses.iter().find(|address| address.ip == ip);
        found.map(|address| address.meta).unwrap_or_default()
    }

    /// The statistics at the contact's own address, if the node answered there at most `max_age` before `now`.
    pub(crate) fn seed_meta(&self, now: UnixTime, max_age: Duration) -> Option<NodeMeta> {
        let meta = self.meta(self.head?.ip);
        let pong = meta.last_pong?;
        (!is_older(pong, now, max_age)).then_some(meta)
    }

    pub(crate) fn worth(&self, id: NodeId) -> Worth {
        let seen = self
            .addresses
            .iter()
            .map(|address| address.meta.last_ping.max(Some(address.first_seen)))
            .chain(self.head.map(|head| Some(head.stored)))
            .max()
            .flatten();
        (
            self.newest_pong().unwrap_or(BEGINNING),
            seen.unwrap_or(BEGINNING),
            id,
        )
    }

    fn newest_pong(&self) -> Option<UnixTime> {
        self.addresses
            .iter()
            .filter_map(|address| address.meta.last_pong)
            .max()
    }

    /// Drops what is too old at `now`; times in the future, left by a clock that has since been set back, become `now` so
    /// that they too come of age. Returns whether anything changed.
    pub(crate) fn expire(&mut self, now: UnixTime, max_age: Duration) -> bool {
        let before = self.clone();
        self.clamp(now);
        if let Some(head) = self.head {
            let last_sign = self.newest_pong().unwrap_or(head.stored);
            if is_older(last_sign, now, max_age) {
                self.head = None;
            }
        }
        self.addresses.retain(|address| {
            let last_sign = address.meta.last_pong.unwrap_or(address.first_seen);
            !is_older(last_sign, now, max_age)
        });
        *self != before
    }

    fn clamp(&mut self, now: UnixTime) {
        if let Some(head) = &mut self.head {
            head.stored = head.stored.min(now);
        }
        for address in &mut self.addresses {
            address.first_seen = address.first_seen.min(now);
            for time in [&mut address.meta.last_ping, &mut address.meta.last_pong]
                .into_iter()
                .flatten()
            {
                *time = (*time).min(now);
            }
        }
    }

    /// The statistics of an address, new if need be.
    fn address_mut(&mut self, now: UnixTime, ip: IpAddr) -> &mut NodeMeta {
        let ip = canonical_ip(ip);
        let at = self.addresses.iter().position(|address| address.ip == ip);
        let at = at.unwrap_or_else(|| {
            if self.addresses.len() >= MAX_ADDRESSES {
                self.drop_stalest_address();
            }
            // Nearly every node has one address; growing by doubling would keep room for four.
            self.addresses.reserve_exact(1);
            self.addresses.push(Address {
                ip,
                first_seen: now,
                meta: NodeMeta::default(),
            });
            self.addresses.len() - 1
        });
        #[expect(
            clippy::indexing_slicing,
            reason = "found by position or just pushed at this place"
        )]
        &mut self.addresses[at].meta
    }

    fn drop_stalest_address(&mut self) {
        let own = self.head.map(|head| head.ip);
        let stalest = self
            .addresses
            .iter()
            .enumerate()
            .filter(|(_, address)| Some(address.ip) != own)
            .min_by_key(|(_, address)| {
                let meta = &address.meta;
                (meta.last_pong, meta.last_ping.max(Some(address.first_seen)))
            });
        if let Some((at, _)) = stalest {
            self.addresses.remove(at);
        }
    }
}

/// What has to happen to the stored contact after some writes.
#[derive(Clone, Debug)]
pub(crate) enum ContactChange {
    Keep,
    Put(Node),
    Delete,
}

/// A row being changed, by the writes of one commit or by age.
#[derive(Debug)]
pub(crate) struct RowEdit {
    pub(crate) row: Row,
    pub(crate) contact: ContactChange,
    /// Contacts refused for their lower sequence number.
    pub(crate) refused: usize,
    had_contact: bool,
    /// Only the disk store keeps a count beside its rows.
    #[cfg(feature = "rocksdb")]
    had_row: bool,
}

impl RowEdit {
    /// Starts from the stored row, empty if there is none.
    pub(crate) fn new(row: Row) -> Self {
        Self {
            had_contact: row.head.is_some(),
            #[cfg(feature = "rocksdb")]
            had_row: !row.is_empty(),
            row,
            contact: ContactChange::Keep,
            refused: 0,
        }
    }

    /// Drops what is too old, see [`Row::expire`]. Returns whether anything changed.
    pub(crate) fn expire(&mut self, now: UnixTime, max_age: Duration) -> bool {
        let changed = self.row.expire(now, max_age);
        if self.lost_contact() {
            self.contact = ContactChange::Delete;
        }
        changed
    }

    /// How this changes the number of rows and of contacts.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn count_changes(&self) -> (isize, isize) {
        let rows = isize::from(!self.row.is_empty()) - isize::from(self.had_row);
        let contacts = isize::from(self.row.head.is_some()) - isize::from(self.had_contact);
        (rows, contacts)
    }

    pub(crate) fn lost_contact(&self) -> bool {
        self.had_contact && self.row.head.is_none()
    }

    pub(crate) fn apply(&mut self, now: UnixTime, write: &Write) {
        match write {
            Write::Node(node) => self.put(now, node),
            Write::Ping { ip, at, .. } => {
                let meta = self.row.address_mut(now, *ip);
                meta.last_ping = meta.last_ping.max(Some((*at).min(now)));
            }
            Write::Pong { ip, at, .. } => {
                let meta = self.row.address_mut(now, *ip);
                meta.last_pong = meta.last_pong.max(Some((*at).min(now)));
            }
            Write::FindFailures { ip, count, .. } => {
                self.row.address_mut(now, *ip).find_failures = *count;
            }
            Write::FindFailuresV5 { ip, count, .. } => {
                self.row.address_mut(now, *ip).find_failures_v5 = *count;
            }
            Write::Remove(_) => {
                self.row = Row::default();
                self.contact = ContactChange::Delete;
            }
            // Not about this row: stores keep local numbers and cached values apart, where expiry never looks.
            Write::LocalSeq { .. } | Write::Cache { .. } => {}
        }
    }

    fn put(&mut self, now: UnixTime, node: &Node) {
        if self.row.head.is_some_and(|stored| node.seq() < stored.seq) {
            self.refused += 1;
            return;
        }
        let Endpoint { ip, udp, tcp } = *node.endpoint();
        let endpoint = Endpoint::new(ip, udp, tcp);
        self.row.head = Some(Head {
            stored: self.row.head.map_or(now, |head| head.stored),
            ip: endpoint.ip,
            seq: node.seq(),
        });
        self.contact = ContactChange::Put(node.clone().with_endpoint(endpoint));
    }
}

const BEGINNING: UnixTime = UnixTime::from_millis(0);

/// Strictly older than `max_age`; a time after `now` is not old.
fn is_older(time: UnixTime, now: UnixTime, max_age: Duration) -> bool {
    let age = now.as_millis().saturating_sub(time.as_millis());
    u128::from(age) > max_age.as_millis()
}
