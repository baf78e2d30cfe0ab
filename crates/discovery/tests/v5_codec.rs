//! discv5 messages: what is refused, what is echoed, and how NODES are packed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a test fails by panicking

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, proptest};
use tercet_discovery::v5::packet::{MAX_PACKET, ORDINARY_OVERHEAD};
use tercet_discovery::v5::{
    Distances, MAX_MESSAGE, MAX_NODES, MAX_NODES_MESSAGES, Message, MessageError, Request,
    RequestId, Response, WireMessage, pack_nodes,
};
use tercet_enode::{MAX_RECORD_SIZE, NodeRecord, SecretKey};

fn decode(text: &str) -> Result<WireMessage, MessageError> {
    WireMessage::decode(&hex::decode(text).unwrap())
}

fn encode(message: &Message) -> Vec<u8> {
    let mut out = BytesMut::new();
    message.encode(&mut out);
    assert_eq!(out.len(), message.encoded_len());
    out.to_vec()
}

/// A record of `len` bytes, or of the next smaller length there is.
fn record(n: u8, len: usize) -> NodeRecord {
    let key = SecretKey::from_bytes(&[n + 1; 32]).unwrap();
    // Without padding it has some 120.
    (0..=len - 115)
        .rev()
        .filter_map(|padding| {
            let value = rlp::encode(&vec![7_u8; padding]).to_vec();
            let builder = NodeRecord::builder().seq(1).insert_raw(b"x", &value);
            builder.sign(&key).ok()
        })
        .find(|record| record.raw().len() <= len)
        .unwrap()
}

#[test]
fn request_ids_are_echoed_exactly_and_never_longer_than_eight_bytes() {
    for id in [
        &[][..],
        &[0],
        &[0x7f],
        &[0x80],
        &[0, 0, 0, 1],
        &[1, 2, 3, 4, 5, 6, 7, 8],
    ] {
        let ping: Message =
            Message::Request(RequestId::new(id).unwrap(), Request::Ping { enr_seq: 3 });
        let bytes = encode(&ping);
        let decoded = WireMessage::decode(&bytes).unwrap();
        assert_eq!(decoded.request_id().as_bytes(), id);
        assert_eq!(encode_wire(&decoded), bytes);
    }
    assert_eq!(RequestId::new(&[0; 9]), None);
    assert_eq!(
        decode("01cb8901020304050607080903"),
        Err(MessageError::RequestId)
    );
}

fn encode_wire(message: &WireMessage) -> Vec<u8> {
    let mut out = BytesMut::new();
    message.encode(&mut out);
    assert_eq!(out.len(), message.encoded_len());
    out.to_vec()
}

#[test]
fn what_is_not_canonical_is_refused() {
    use MessageError::{Address, Empty, Missing, Rlp, Surplus, Type};
    for (text, error) in [
        ("", Empty),
        ("00c0", Type(0)),
        ("07c0", Type(7)),
        ("01", Missing),
        ("01c0", Missing),
        ("01c101", Missing),
        ("0180", Rlp),
        // a byte behind the list, an item behind the last field
        ("01c2010200", Surplus),
        ("01c3010203", Surplus),
        // a leading zero, a one-byte string for a small byte, a number of nine bytes
        ("01c3018101", Rlp),
        ("01c20100", Rlp),
        ("01cb0189010000000000000000", Rlp),
        // a long length for a short list, a length with a leading zero, a list that is longer than there are bytes
        ("01f8020102", Rlp),
        ("01f900020102", Rlp),
        ("01c50102", Rlp),
        ("01ff7fffffffffffffff", Rlp),
        // a list where bytes belong, and the other way round
        ("01c2c002", Rlp),
        ("03c20180", Rlp),
        ("04c3010180", Rlp),
        // an address of five bytes, a port above 65535
        ("02c9010185010203040580", Address),
        ("02cb0101840102030483010000", Rlp),
        // a record that is no list
        ("04c40101c105", Rlp),
    ] {
        assert_eq!(decode(text), Err(error), "{text}");
    }
}

#[test]
fn a_find_node_leaves_out_what_is_no_distance() {
    let decoded = decode("03cb01c9818082010081ff0001").unwrap_err();
    assert_eq!(decoded, MessageError::Rlp, "0 is written 0x80");
    // 128, 256, 257, 255, 128 again, 0
    let Message::Request(_, Request::FindNode { distances }) =
        decode("03cf01cd818082010082010181ff818080").unwrap()
    else {
        panic!("no FINDNODE")
    };
    assert_eq!(distances.as_slice(), [128, 256, 255, 0]);
    let all = Distances::new(0..=300);
    let request = Message::Request(
        RequestId::default(),
        Request::FindNode {
            distances: all.clone(),
        },
    );
    let bytes = encode(&request);
    assert!(bytes.len() <= MAX_MESSAGE);
    let again = WireMessage::decode(&bytes).unwrap();
    assert_eq!(
        again,
        Message::Request(RequestId::default(), Request::FindNode { distances: all })
    );
}

#[test]
fn a_malformed_record_is_left_out_and_the_others_are_not() {
    let good = record(1, 150);
    let message: Message = Message::Response(
        RequestId::default(),
        Response::Nodes {
            total: 1,
            records: vec![good.clone(), good.clone()],
        },
    );
    let mut bytes = encode(&message);
    // The scheme's name, in the first of the two.
    let at = bytes.windows(2).position(|pair| pair == b"v4").unwrap();
    bytes[at] = b'x';
    let decoded = WireMessage::decode(&bytes).unwrap();
    let Message::Response(_, Response::Nodes { total: 1, records }) = decoded else {
        panic!("no NODES")
    };
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].raw(), good.raw());
}

/// Checks the rules of packing and returns how many records each message got.
fn packed(id: &[u8], records: &[NodeRecord]) -> Vec<usize> {
    let messages = pack_nodes(RequestId::new(id).unwrap(), records.iter().cloned());
    assert!((1..=MAX_NODES_MESSAGES).contains(&messages.len()));
    let mut counts = Vec::new();
    for message in &messages {
        assert!(encode(message).len() + ORDINARY_OVERHEAD <= MAX_PACKET);
        let Message::Response(echoed, Response::Nodes { total, records }) = message else {
            panic!("no NODES")
        };
        assert_eq!(echoed.as_bytes(), id);
        assert_eq!(*total, messages.len() as u64);
        counts.push(records.len());
    }
    assert!(counts.iter().sum::<usize>() <= MAX_NODES);
    counts
}

#[test]
fn nodes_fill_packets_to_the_last_byte() {
    let id = [9; 8];
    assert_eq!(packed(&id, &[]), [0]);
    let longest: Vec<_> = (0..17).map(|n| record(n, MAX_RECORD_SIZE)).collect();
    assert_eq!(packed(&id, &longest), [3; 5]);
    assert_eq!(packed(&id, &longest[..1]), [1]);
    let usual: Vec<_> = (0..20).map(|n| record(n, 130)).collect();
    assert_eq!(packed(&id, &usual), [9, 7]);
    // 1176 = 4 × 294: four fit, and with one byte more they do not.
    let mut exact: Vec<_> = (0..4).map(|n| record(n, 294)).collect();
    assert_eq!(packed(&id, &exact), [4]);
    let full = pack_nodes(RequestId::new(&id).unwrap(), exact.clone());
    assert_eq!(encode(&full[0]).len(), MAX_MESSAGE);
    exact[3] = record(3, 295);
    assert_eq!(packed(&id, &exact), [3, 1]);
    // A shorter id leaves its bytes to the records.
    assert_eq!(packed(&[1], &exact), [4]);
    // A short record fills the gap that a long one leaves.
    let mixed = [
        record(0, 300),
        record(1, 300),
        record(2, 300),
        record(3, 300),
        record(4, 130),
    ];
    assert_eq!(packed(&id, &mixed), [4, 1]);
}

fn record_lengths() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..25)
}

proptest! {
    #[test]
    fn nodes_always_fit(id in vec(any::<u8>(), 0..=8), lengths in record_lengths()) {
        let lengths = lengths.iter().map(|len| 130 + usize::from(*len) % 171);
        let records: Vec<_> = (0..).zip(lengths).map(|(n, len)| record(n, len)).collect();
        packed(&id, &records);
    }

    #[test]
    fn any_bytes_decode_or_do_not(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(message) = WireMessage::decode(&bytes) {
            let again = encode_wire(&message);
            assert_eq!(WireMessage::decode(&again).unwrap(), message);
        }
    }

    #[test]
    fn what_is_encoded_decodes(id in vec(any::<u8>(), 0..=8), number: u64, ip: std::net::IpAddr, port: u16, payload in vec(any::<u8>(), 0..300), distances in vec(0_u64..300, 0..300)) {
        let id = RequestId::new(&id).unwrap();
        let payload = bytes::Bytes::from(payload);
        let ip = tercet_enode::canonical_ip(ip);
        let messages: [WireMessage; 5] = [
            Message::Request(id, Request::Ping { enr_seq: number }),
            Message::Request(id, Request::FindNode { distances: Distances::new(distances) }),
            Message::Request(id, Request::Talk { protocol: payload.slice(..payload.len() / 2), payload: payload.clone() }),
            Message::Response(id, Response::Pong { enr_seq: number, recipient: (ip, port).into() }),
            Message::Response(id, Response::Talk { payload }),
        ];
        for message in messages {
            assert_eq!(WireMessage::decode(&encode_wire(&message)).unwrap(), message);
        }
    }
}
