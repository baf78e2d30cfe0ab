//! The published vectors for records, enode URLs and the XOR metric: values from EIP-778, go-ethereum's tests, and some computed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a test fails by panicking

use std::net::IpAddr;

use serde_json::Value;
use tercet_enode::{
    EnodeUrl, Entry, EthEntry, Host, MAX_RECORD_SIZE, NodeId, NodeRecord, ParseEnodeError,
    ParseRecordError, PublicKey, Quic, Quic6, RecordBuilder, RecordError, RecoverableSignature,
    SecretKey, SnapEntry, UnverifiedRecord,
};

fn vectors(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn enr() -> Value {
    vectors(include_str!("vectors/enr.json"))
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(text(value)).unwrap()
}

#[test]
fn records_decode_verify_and_print() {
    for case in list(&enr()["records"]) {
        let rlp = bytes(&case["rlp"]);
        let record = NodeRecord::decode(&rlp).unwrap();
        assert_eq!(record.raw()[..], rlp[..]);
        assert_eq!(record.to_string(), text(&case["text"]));
        assert_eq!(text(&case["text"]).parse::<NodeRecord>().unwrap(), record);
        let unverified = UnverifiedRecord::decode(&rlp).unwrap();
        assert_eq!(
            (unverified.id(), unverified.seq()),
            (record.id(), record.seq())
        );
        assert_eq!(unverified.raw()[..], rlp[..]);
        if let Some(seq) = case["seq"].as_u64() {
            assert_eq!(record.seq(), seq);
            assert_eq!(record.id().to_string(), text(&case["node_id"]));
            assert_eq!(record.public_key().node_id(), record.id());
        }
    }
}

#[test]
fn records_are_remade_byte_for_byte() {
    let mut remade = 0;
    for case in list(&enr()["records"]) {
        let Some(key) = case["private_key"].as_str() else {
            continue;
        };
        let key: SecretKey = key.parse().unwrap();
        let record: NodeRecord = text(&case["text"]).parse().unwrap();
        assert_eq!(
            record.to_builder().sign(&key).unwrap(),
            record,
            "{}",
            case["name"]
        );
        remade += 1;
    }
    assert_eq!(remade, 3);
}

#[test]
fn the_eip_778_record_is_built_from_its_fields() {
    let case = &enr()["records"][0];
    let key: SecretKey = text(&case["private_key"]).parse().unwrap();
    let record = NodeRecord::builder()
        .seq(1)
        .ip([127, 0, 0, 1].into())
        .udp(30303)
        .sign(&key)
        .unwrap();
    assert_eq!(record.to_string(), text(&case["text"]));
    assert_eq!(
        record.public_key().to_compressed()[..],
        bytes(&case["fields"]["secp256k1"])[..]
    );
    assert_eq!(record.get_raw(b"id"), Some(&[0x82, b'v', b'4'][..]));
}

#[test]
fn the_dual_stack_record_has_all_its_entries() {
    let enr = enr();
    let case = &enr["records"][2];
    let key: SecretKey = text(&case["private_key"]).parse().unwrap();
    let record: NodeRecord = text(&case["text"]).parse().unwrap();
    assert_eq!(record.ip4(), Some([1, 2, 3, 4].into()));
    assert_eq!(
        record.ip6(),
        Some("2001:db8:3c4d:15::abcd:ef12".parse().unwrap())
    );
    assert_eq!((record.udp4(), record.udp6()), (Some(30303), Some(30304)));
    assert_eq!((record.tcp4(), record.tcp6()), (Some(30303), Some(30304)));
    assert_eq!(
        record.eth(),
        Some(EthEntry {
            fork_hash: [0x07, 0xc9, 0x46, 0x2e],
            fork_next: 0
        })
    );
    assert!(record.snap());
    let keys: Vec<_> = record
        .iter()
        .map(|(key, _)| String::from_utf8_lossy(key).into_owned())
        .collect();
    let all = [
        "eth",
        "id",
        "ip",
        "ip6",
        "secp256k1",
        "snap",
        "tcp",
        "tcp6",
        "udp",
        "udp6",
    ];
    assert_eq!(keys, all);

    let built = NodeRecord::builder()
        .seq(7)
        .ip([1, 2, 3, 4].into())
        .ip("2001:db8:3c4d:15::abcd:ef12".parse().unwrap())
        .udp(30303)
        .tcp(30303)
        .udp6(30304)
        .tcp6(30304)
        .eth([0x07, 0xc9, 0x46, 0x2e], 0)
        .snap()
        .sign(&key)
        .unwrap();
    assert_eq!(built, record);
}

#[test]
fn typed_entries_have_the_published_bytes() {
    let entry = &enr()["eth_entry"];
    let raw = bytes(&entry["example_value_rlp"]);
    let decoded = EthEntry::decode(&raw).unwrap();
    assert_eq!(
        decoded,
        EthEntry {
            fork_hash: [0x07, 0xc9, 0x46, 0x2e],
            fork_next: 0
        }
    );
    assert_eq!(decoded.encode(), raw);
    assert_eq!(SnapEntry.encode(), bytes(&entry["snap_value_rlp"]));
}

#[test]
fn the_size_limit_holds_on_both_sides() {
    let enr = enr();
    let largest = &enr["records"][3];
    assert_eq!(bytes(&largest["rlp"]).len(), MAX_RECORD_SIZE);
    let oversize = bytes(&enr["invalid"][0]["rlp"]);
    assert_eq!(
        NodeRecord::decode(&oversize).unwrap_err(),
        RecordError::TooLarge { size: 301 }
    );

    // The same content again, one byte longer: signing refuses what decoding would.
    let key: SecretKey = text(&enr["records"][0]["private_key"]).parse().unwrap();
    let filled = |length: usize| {
        let value = rlp::encode(&vec![0xaa; length]).to_vec();
        NodeRecord::builder()
            .seq(1)
            .insert_raw(b"x", &value)
            .sign(&key)
    };
    let length = usize::try_from(largest["x_value_len"].as_u64().unwrap()).unwrap();
    assert_eq!(filled(length).unwrap().raw().len(), MAX_RECORD_SIZE);
    assert_eq!(
        filled(length + 1).unwrap_err(),
        RecordError::TooLarge { size: 301 }
    );
}

#[test]
fn invalid_records_are_refused_for_their_own_reason() {
    let enr = enr();
    let refused = |name: &str| -> String {
        let case = list(&enr["invalid"])
            .iter()
            .find(|case| case["name"] == name)
            .unwrap();
        match case["rlp"].as_str() {
            Some(rlp) => NodeRecord::decode(&hex::decode(rlp).unwrap())
                .unwrap_err()
                .to_string(),
            None => text(&case["text"])
                .parse::<NodeRecord>()
                .unwrap_err()
                .to_string(),
        }
    };
    let mut expected = vec![
        (
            "oversize_301",
            "the record has 301 bytes, at most 300 are allowed",
        ),
        (
            "unsorted_keys",
            "the record's key \"id\" at byte 77 is out of order (keys must ascend)",
        ),
        (
            "duplicate_key",
            "the record's key \"id\" occurs again at byte 75",
        ),
        (
            "bad_signature",
            "the record's signature does not match its content and key",
        ),
        (
            "signature_65_bytes",
            "the record's signature has 65 bytes, 64 are needed",
        ),
        (
            "trailing_bytes",
            "1 bytes follow the record's list, from byte 134",
        ),
        ("text_0", "the record is empty"),
        (
            "text_1",
            "the node record's base64 text is cut off or damaged at its end",
        ),
        (
            "text_2",
            "the record's signature has 6 bytes, 64 are needed",
        ),
    ];
    for (name, message) in &expected {
        assert_eq!(refused(name), *message, "{name}");
    }
    expected.retain(|(name, _)| {
        list(&enr["invalid"])
            .iter()
            .any(|case| case["name"] == *name)
    });
    assert_eq!(
        expected.len(),
        list(&enr["invalid"]).len(),
        "every vector has an expectation"
    );
}

#[test]
fn a_high_s_is_refused_by_verification_and_accepted_by_recovery() {
    let rlp = bytes(&enr()["high_s"]["rlp"]);
    assert_eq!(
        NodeRecord::decode(&rlp).unwrap_err(),
        RecordError::BadSignature
    );

    let unverified = UnverifiedRecord::decode(&rlp).unwrap();
    // The content behind the signature: the list header f884, the signature b840 with 64 bytes, then [seq, …] to the end.
    let content = bytes(&enr()["records"][0]["signed_content_rlp"]);
    let digest = tercet_enode::keccak256(&content);
    assert_eq!(digest[..], bytes(&enr()["records"][0]["content_hash"])[..]);
    let recovered: Vec<_> = (0..2)
        .filter_map(|v| {
            let mut signature = [v; 65];
            signature[..64].copy_from_slice(&rlp[4..68]);
            let signature = RecoverableSignature::from_bytes(&signature).unwrap();
            PublicKey::recover(&digest, &signature).ok()
        })
        .map(|key| key.node_id())
        .collect();
    assert!(recovered.contains(&unverified.id()));
}

#[test]
fn structure_is_judged_before_content() {
    for case in list(&enr()["structural"]) {
        let error = UnverifiedRecord::decode(&bytes(&case["rlp"])).unwrap_err();
        let matches = match text(&case["result"]) {
            "incomplete list" => matches!(error, RecordError::Incomplete),
            "incomplete pair" => matches!(error, RecordError::KeyWithoutValue { .. }),
            // Sound structure: what is missing is an identity.
            result if result.starts_with("decodes structurally") => {
                matches!(error, RecordError::NoScheme)
            }
            other => panic!("unknown expectation {other}"),
        };
        assert!(matches, "{case}: {error:?}");
    }
}

#[test]
fn base64_is_url_safe_and_unpadded() {
    let good = text(&enr()["records"][0]["text"]).to_owned();
    let with = |at: usize, c: char| {
        let mut text: Vec<char> = good.chars().collect();
        text[at] = c;
        text.into_iter()
            .collect::<String>()
            .parse::<NodeRecord>()
            .unwrap_err()
    };
    for c in ['+', '/', '=', ' ', '\n', 'é'] {
        assert_eq!(
            with(40, c),
            ParseRecordError::Character { at: 40, found: c }
        );
    }
    let padded = format!("{good}==");
    let at = good.len();
    assert_eq!(
        padded.parse::<NodeRecord>(),
        Err(ParseRecordError::Character { at, found: '=' })
    );
    let long = format!("{good}{}", "A".repeat(MAX_RECORD_SIZE));
    assert_eq!(
        long.parse::<NodeRecord>(),
        Err(ParseRecordError::TooLong { found: long.len() })
    );
    assert_eq!(
        good[4..].parse::<NodeRecord>(),
        Err(ParseRecordError::MissingPrefix)
    );
    let cut = |count| {
        good[..good.len() - count]
            .parse::<NodeRecord>()
            .unwrap_err()
    };
    assert_eq!(cut(1), ParseRecordError::Truncated);
    assert_eq!(
        cut(3),
        ParseRecordError::Record(RecordError::CutOff { at: 0 })
    );
}

/// `ip=… udp=…` as a record.
fn record_of(fields: &str) -> NodeRecord {
    let key: SecretKey = text(&enr()["records"][0]["private_key"]).parse().unwrap();
    let mut builder: RecordBuilder = NodeRecord::builder();
    for field in fields.split_whitespace() {
        let (name, value) = field.split_once('=').unwrap();
        let port = || value.parse::<u16>().unwrap();
        builder = match name {
            "ip" | "ip6" => builder.ip(value.parse().unwrap()),
            "udp" => builder.udp(port()),
            "udp6" => builder.udp6(port()),
            "quic" => builder.insert(&Quic(port())),
            "quic6" => builder.insert(&Quic6(port())),
            other => panic!("unknown field {other}"),
        };
    }
    builder.sign(&key).unwrap()
}

#[test]
fn endpoints_are_chosen_as_geth_does() {
    for case in list(&enr()["endpoint_selection_geth"]) {
        let record = record_of(text(&case["record"]));
        let endpoint = record.endpoint();
        let quic = record.quic_endpoint();
        match text(&case["want"]) {
            "no ip; ports 0" => {
                assert_eq!((endpoint, record.udp4(), record.tcp4()), (None, None, None));
            }
            // A port alone is readable, but no endpoint.
            "udp 9000" => assert_eq!((endpoint, record.udp4()), (None, Some(9000))),
            "no quic endpoint" => assert!(endpoint.is_some() && quic.is_none(), "{case}"),
            "quic 9001" => assert_eq!(quic.unwrap().port(), 9001),
            want => {
                let mut words = want.split_whitespace();
                let ip: IpAddr = words.next().unwrap().parse().unwrap();
                let endpoint = endpoint.unwrap();
                assert_eq!(endpoint.ip, ip, "{case}");
                if words.next() == Some("udp") {
                    assert_eq!(endpoint.udp, words.next().unwrap().parse::<u16>().unwrap());
                }
            }
        }
    }
}

#[test]
fn enode_urls_parse_as_in_geth() {
    let vectors = vectors(include_str!("vectors/enode_url.json"));
    for case in list(&vectors["cases"]) {
        let input = text(&case["input"]);
        let parsed = input.parse::<EnodeUrl>();
        if case["valid"] == false {
            let error = parsed.unwrap_err();
            let matches = match text(&case["geth_error"]) {
                "invalid port" => matches!(error, ParseEnodeError::Port { .. }),
                "invalid discport in query" => {
                    matches!(error, ParseEnodeError::DiscoveryPort { .. })
                }
                "errMissingPrefix.Error()" => matches!(error, ParseEnodeError::MissingPrefix),
                key if key.starts_with("invalid public key") => {
                    matches!(error, ParseEnodeError::KeyLength { found: 8 })
                }
                other => panic!("unknown expectation {other}"),
            };
            assert!(matches, "{input}: {error:?}");
            continue;
        }
        let url = parsed.unwrap();
        assert_eq!(url.id().to_string(), text(&case["node_id"]));
        assert_eq!(u64::from(url.tcp()), case["tcp"].as_u64().unwrap());
        assert_eq!(u64::from(url.udp()), case["udp"].as_u64().unwrap());
        let host = match url.host() {
            None => String::new(),
            Some(Host::Ip(ip)) => ip.to_string(),
            Some(Host::Dns(name)) => name.clone(),
        };
        assert_eq!(host, text(&case["host"]));
        assert_eq!(url.to_string(), input, "the vectors are in canonical form");
    }
    assert_eq!(list(&vectors["cases"]).len(), 15);
}

#[test]
fn log_distances() {
    let vectors = vectors(include_str!("vectors/kademlia.json"));
    for case in list(&vectors["log_distance"]) {
        let a: NodeId = text(&case["a"]).parse().unwrap();
        let b: NodeId = text(&case["b"]).parse().unwrap();
        assert_eq!(
            u64::from(a.log_distance(&b)),
            case["log_distance"].as_u64().unwrap()
        );
    }
}
