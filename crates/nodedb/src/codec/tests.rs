use proptest::prelude::*;
use tercet_enode::SecretKey;

use super::*;

fn key() -> SecretKey {
    SecretKey::from_bytes(&[7; 32]).unwrap()
}

fn contact() -> Node {
    let record = NodeRecord::builder()
        .seq(3)
        .ip([192, 0, 2, 1].into())
        .udp(30303)
        .tcp(30304)
        .sign(&key())
        .unwrap();
    Node::from_record(record).unwrap()
}

fn time() -> impl Strategy<Value = UnixTime> {
    any::<u64>().prop_map(|millis| UnixTime::from_millis(millis / 2))
}

fn row() -> impl Strategy<Value = Row> {
    let head = (time(), any::<IpAddr>(), any::<u64>());
    let head = head.prop_map(|(stored, ip, seq)| Head { stored, ip, seq });
    let meta = (
        prop::option::of(time()),
        prop::option::of(time()),
        any::<u32>(),
        0..3_u32,
    );
    let meta = meta.prop_map(
        |(last_ping, last_pong, find_failures, find_failures_v5)| NodeMeta {
            last_ping,
            last_pong,
            find_failures,
            find_failures_v5,
        },
    );
    let address = (any::<IpAddr>(), time(), meta);
    let address = address.prop_map(|(ip, first_seen, meta)| Address {
        ip,
        first_seen,
        meta,
    });
    let addresses = prop::collection::vec(address, 0..=MAX_ADDRESSES);
    (prop::option::of(head), addresses)
        .prop_map(|(head, addresses)| Row { head, addresses })
        .prop_filter("an empty row is never stored", |row| !row.is_empty())
}

proptest! {
    #[test]
    fn rows_come_back(row in row()) {
        prop_assert_eq!(decode_row(&encode_row(&row)), Ok(row));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let id = key().node_id();
        let _ = decode_row(&bytes);
        let _ = decode_contact(&id, &bytes);
        let _ = is_contact(&id, &bytes);
        let _ = decode_number(&bytes);
    }

    #[test]
    fn no_changed_byte_panics_or_makes_another_node(at in any::<prop::sample::Index>(), byte: u8) {
        let node = contact();
        let mut bytes = encode_contact(&node);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(decoded) = decode_contact(&node.id(), &bytes) {
            prop_assert_eq!(decoded.id(), node.id());
            prop_assert_eq!(decoded.record(), node.record());
            prop_assert!(is_contact(&node.id(), &bytes).is_ok());
        }
    }
}

#[test]
fn a_row_is_refused_when_it_has_more_addresses_than_we_keep() {
    let address = |last: u8| Address {
        ip: [192, 0, 2, last].into(),
        first_seen: UnixTime::from_secs(1),
        meta: NodeMeta::default(),
    };
    let addresses = (0..=MAX_ADDRESSES as u8).map(address).collect();
    let row = Row {
        head: None,
        addresses,
    };
    assert_eq!(decode_row(&encode_row(&row)), Err(Undecodable));
    assert_eq!(decode_row(&encode_row(&Row::default())), Err(Undecodable));
}

#[test]
fn cut_and_lengthened_entries_are_refused() {
    let node = contact();
    let bytes = encode_contact(&node);
    assert_eq!(decode_contact(&node.id(), &bytes), Ok(node.clone()));
    for length in 0..bytes.len() {
        assert_eq!(
            decode_contact(&node.id(), &bytes[..length]),
            Err(Undecodable)
        );
        assert_eq!(is_contact(&node.id(), &bytes[..length]), Err(Undecodable));
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(decode_contact(&node.id(), &longer), Err(Undecodable));
    let other = SecretKey::from_bytes(&[8; 32]).unwrap().node_id();
    assert_eq!(decode_contact(&other, &bytes), Err(Undecodable));
}
