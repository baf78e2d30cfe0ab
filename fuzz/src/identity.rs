//! Records and enode URLs.

use tercet_enode::{MAX_RECORD_SIZE, NodeAddress, NodeRecord, UnverifiedRecord};

/// A node record as it stands in packets and in the database.
pub fn enr(data: &[u8]) {
    let Ok(record) = UnverifiedRecord::decode(data) else {
        return;
    };
    assert!(record.raw().len() <= MAX_RECORD_SIZE);
    assert_eq!(record.raw()[..], *data, "the raw bytes are kept");
    let (id, seq) = (record.id(), record.seq());
    let Ok(record) = record.verify() else {
        return;
    };
    assert_eq!((record.id(), record.seq()), (id, seq));
    assert_eq!(record.public_key().node_id(), id);
    let text = record.to_string();
    assert_eq!(text.parse::<NodeRecord>().as_ref(), Ok(&record));
    let keys: Vec<_> = record.iter().map(|(key, _)| key).collect();
    assert!(keys.is_sorted_by(|a, b| a < b), "ascending and unique");
    // Whatever the entries hold, looking at them is harmless.
    let endpoint = record.endpoint();
    assert!(endpoint.is_none_or(|endpoint| !endpoint.ip.is_unspecified()));
    let _ = (record.eth(), record.snap(), record.quic_endpoint());
}

/// What a user types for a node: an enode URL or a record's text.
pub fn enode_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(address) = text.parse::<NodeAddress>() else {
        return;
    };
    let again = match &address {
        NodeAddress::Enode(url) => url.to_string(),
        NodeAddress::Record(record) => record.to_string(),
    };
    assert_eq!(again.parse::<NodeAddress>().as_ref(), Ok(&address));
    if let Some(node) = address.to_node() {
        assert_eq!(node.id(), address.id());
    }
}
