//! Records and enode URLs.

use tercet_enode::{MAX_RECORD_SIZE, NodeAddress, NodeRecord, UnverifiedRecord};

use crate::input::{Script, keys};

/// A node record as it stands in packets and in the database.
pub fn enr(data: &[u8]) -> bool {
    let Ok(record) = UnverifiedRecord::decode(data) else {
        return false;
    };
    assert!(record.raw().len() <= MAX_RECORD_SIZE);
    assert_eq!(record.raw()[..], *data, "the raw bytes are kept");
    let (id, seq) = (record.id(), record.seq());
    let Ok(record) = record.verify() else {
        return false;
    };
    assert_eq!((record.id(), record.seq()), (id, seq));
    look_into(&record);
    true
}

/// A correctly signed record with any entries: what lies behind the signature check.
pub fn enr_entries(data: &[u8]) -> bool {
    const KEYS: [&[u8]; 12] = [
        b"ip", b"ip6", b"udp", b"udp6", b"tcp", b"tcp6", b"eth", b"snap", b"quic", b"quic6", b"id",
        b"other",
    ];
    let mut script = Script::new(data);
    let mut builder = NodeRecord::builder();
    while !script.is_empty() {
        let key = KEYS[script.below(KEYS.len())];
        let len = script.below(64);
        builder = builder.insert_raw(key, script.take(len));
    }
    let Ok(record) = builder.sign(&keys()[0]) else {
        return false;
    };
    assert_eq!(NodeRecord::decode(record.raw()).as_ref(), Ok(&record));
    look_into(&record);
    true
}

fn look_into(record: &NodeRecord) {
    assert_eq!(record.public_key().node_id(), record.id());
    let text = record.to_string();
    assert_eq!(text.parse::<NodeRecord>().as_ref(), Ok(record));
    let keys: Vec<_> = record.iter().map(|(key, _)| key).collect();
    assert!(keys.is_sorted_by(|a, b| a < b), "ascending and unique");
    for key in keys {
        assert!(record.get_raw(key).is_some());
    }
    // Whatever the entries hold, looking at them is harmless.
    let endpoint = record.endpoint();
    assert!(endpoint.is_none_or(|endpoint| !endpoint.ip.is_multicast()));
    let _ = (record.eth(), record.snap(), record.quic_endpoint());
    let ports = (record.udp4(), record.udp6(), record.tcp4(), record.tcp6());
    let _ = (record.ip4(), record.ip6(), ports);
}

/// What a user types for a node: an enode URL or a record's text.
pub fn enode_url(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    let Ok(address) = text.parse::<NodeAddress>() else {
        return false;
    };
    let again = match &address {
        NodeAddress::Enode(url) => url.to_string(),
        NodeAddress::Record(record) => record.to_string(),
    };
    assert_eq!(again.parse::<NodeAddress>().as_ref(), Ok(&address));
    if let Some(node) = address.to_node() {
        assert_eq!(node.id(), address.id());
    }
    true
}
