//! This node's own record: its endpoint, its entries, and a sequence number that never goes back.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use tercet_enode::{NodeRecord, RecordError, SecretKey};
use tercet_machine::UnixTime;

/// Keys that belong to the node itself and are not set as entries.
const RESERVED: [&[u8]; 8] = [
    b"id",
    b"secp256k1",
    b"ip",
    b"ip6",
    b"tcp",
    b"tcp6",
    b"udp",
    b"udp6",
];

/// Why an entry is not taken. The record stays as it was.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// The key is the node's identity or endpoint.
    #[error("the key belongs to the node itself")]
    Reserved,
    /// The record would not be one: longer than 300 bytes, or the value is not one RLP item.
    #[error("the record cannot hold the entry")]
    Record(#[source] RecordError),
    /// Too many requests are under way; try again later.
    #[error("too many requests are under way")]
    Busy,
    /// Discovery has been shut down.
    #[error("discovery has been shut down")]
    Closed,
}

/// Owns the key and signs the record anew with every change.
#[derive(Debug)]
pub(crate) struct LocalNode {
    key: SecretKey,
    udp: SocketAddr,
    tcp: u16,
    entries: BTreeMap<Vec<u8>, Bytes>,
    record: NodeRecord,
}

impl LocalNode {
    /// A node that was last published with `stored_seq`. The first number is the time in milliseconds, so that a
    /// node that has lost its database, or the last moments of it, still moves forward.
    pub(crate) fn new(
        key: SecretKey,
        udp: SocketAddr,
        tcp: u16,
        entries: BTreeMap<Vec<u8>, Bytes>,
        stored_seq: Option<u64>,
        now: UnixTime,
    ) -> Result<Self, EntryError> {
        if entries.keys().any(|key| is_reserved(key)) {
            return Err(EntryError::Reserved);
        }
        let seq = stored_seq
            .map_or(0, |seq| seq.saturating_add(1))
            .max(now.as_millis());
        let record = sign(&key, seq, udp, tcp, &entries)?;
        Ok(Self {
            key,
            udp,
            tcp,
            entries,
            record,
        })
    }

    pub(crate) const fn key(&self) -> &SecretKey {
        &self.key
    }

    pub(crate) const fn record(&self) -> &NodeRecord {
        &self.record
    }

    /// Sets an entry; `true` if that changed the record.
    pub(crate) fn set_entry(&mut self, key: Vec<u8>, rlp: Bytes) -> Result<bool, EntryError> {
        if is_reserved(&key) {
            return Err(EntryError::Reserved);
        }
        if self.entries.get(&key) == Some(&rlp) {
            return Ok(false);
        }
        let mut entries = self.entries.clone();
        entries.insert(key, rlp);
        self.record = sign(&self.key, self.next_seq(), self.udp, self.tcp, &entries)?;
        self.entries = entries;
        Ok(true)
    }

    /// Sets the RLPx port; `true` if that changed the record.
    pub(crate) fn set_tcp_port(&mut self, port: u16) -> Result<bool, EntryError> {
        if self.tcp == port {
            return Ok(false);
        }
        self.record = sign(&self.key, self.next_seq(), self.udp, port, &self.entries)?;
        self.tcp = port;
        Ok(true)
    }

    fn next_seq(&self) -> u64 {
        self.record.seq().saturating_add(1)
    }
}

/// The address to publish: the one given, else the one listened on, else loopback, as geth does before it knows better.
pub(crate) fn advertised(listening: SocketAddr, given: Option<IpAddr>) -> SocketAddr {
    let ip = match (given, listening.ip()) {
        (Some(ip), _) => ip,
        (None, IpAddr::V4(ip)) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        (None, IpAddr::V6(ip)) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        (None, ip) => ip,
    };
    SocketAddr::new(ip, listening.port())
}

fn is_reserved(key: &[u8]) -> bool {
    RESERVED.contains(&key)
}

fn sign(
    key: &SecretKey,
    seq: u64,
    udp: SocketAddr,
    tcp: u16,
    entries: &BTreeMap<Vec<u8>, Bytes>,
) -> Result<NodeRecord, EntryError> {
    let mut builder = NodeRecord::builder().seq(seq).ip(udp.ip()).udp(udp.port());
    if tcp != 0 {
        builder = builder.tcp(tcp);
    }
    for (key, value) in entries {
        builder = builder.insert_raw(key, value);
    }
    builder.sign(key).map_err(EntryError::Record)
}

#[cfg(test)]
mod tests {
    use tercet_machine::MachineRng;

    use super::*;

    const NOW: UnixTime = UnixTime::from_millis(1_700_000_000_000);

    fn local(stored: Option<u64>) -> LocalNode {
        let key = SecretKey::generate(&mut MachineRng::from_seed([7; 32]));
        LocalNode::new(
            key,
            "10.0.0.1:30303".parse().unwrap(),
            0,
            BTreeMap::new(),
            stored,
            NOW,
        )
        .unwrap()
    }

    #[test]
    fn the_sequence_number_starts_at_the_time_and_never_goes_back() {
        assert_eq!(local(None).record().seq(), NOW.as_millis());
        // The clock may have been ahead, or the last numbers may not have been stored.
        assert_eq!(
            local(Some(NOW.as_millis() + 5)).record().seq(),
            NOW.as_millis() + 6
        );
        assert_eq!(local(Some(1)).record().seq(), NOW.as_millis());
    }

    #[test]
    fn an_entry_that_does_not_fit_changes_nothing() {
        let mut local = local(None);
        let before = local.record().clone();
        let long = rlp::encode(&[0xaa_u8; 250].as_slice()).freeze();
        assert!(matches!(
            local.set_entry(b"long".to_vec(), long),
            Err(EntryError::Record(_))
        ));
        for key in RESERVED {
            let refused = local.set_entry(key.to_vec(), Bytes::from_static(&[0x80]));
            assert_eq!(refused, Err(EntryError::Reserved));
        }
        assert_eq!(*local.record(), before);
        assert_eq!(local.set_tcp_port(30303), Ok(true));
        assert_eq!(local.set_tcp_port(30303), Ok(false));
        assert_eq!(
            (local.record().seq(), local.record().tcp4()),
            (before.seq() + 1, Some(30303))
        );
    }

    #[test]
    fn the_published_address_is_the_given_one_then_the_one_listened_on_then_loopback() {
        let cases = [
            ("0.0.0.0:7", Some("20.0.0.1"), "20.0.0.1:7"),
            ("10.0.0.1:7", None, "10.0.0.1:7"),
            ("127.0.0.1:7", None, "127.0.0.1:7"),
            ("0.0.0.0:7", None, "127.0.0.1:7"),
            ("[::]:7", None, "[::1]:7"),
        ];
        for (listening, given, published) in cases {
            let given = given.map(|ip: &str| ip.parse().unwrap());
            assert_eq!(
                advertised(listening.parse().unwrap(), given),
                published.parse().unwrap()
            );
        }
    }
}
