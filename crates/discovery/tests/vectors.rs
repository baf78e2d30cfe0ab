//! Published discv4 packets: EIP-8 (unknown versions, surplus fields, trailing bytes), go-ethereum, reth, and EIP-868.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a test fails by panicking

use serde_json::Value;
use tercet_discovery::v4::codec::{DecodeError, UnverifiedPacket, decode, encode};
use tercet_discovery::v4::{Message, MessageKind, WireEndpoint};
use tercet_enode::SecretKey;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/discv4.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn endpoint(value: &Value) -> WireEndpoint {
    let port = |name: &str| u16::try_from(value[name].as_u64().unwrap()).unwrap();
    WireEndpoint::new(
        value["ip"].as_str().unwrap().parse().unwrap(),
        port("udp"),
        port("tcp"),
    )
}

#[test]
fn every_packet_decodes_to_what_it_says() {
    let vectors = vectors();
    let packets = vectors["packets"].as_array().unwrap();
    assert_eq!(packets.len(), 11);
    for vector in packets {
        let name = vector["name"].as_str().unwrap();
        let datagram = bytes(&vector["packet"]);
        let packet = decode(&datagram).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            packet.message.kind() as u64,
            vector["type"].as_u64().unwrap(),
            "{name}"
        );
        assert_eq!(packet.hash.as_bytes()[..], datagram[..32], "{name}");
        let signer = vector.get("node_id").unwrap_or(&vectors["node_pubkey"]);
        assert_eq!(packet.key.to_bytes()[..], bytes(signer), "{name}");
        let decoded = &vector["decoded"];
        if decoded.is_object() {
            assert_eq!(
                packet.message.expiration(),
                decoded["expiration"].as_u64(),
                "{name}"
            );
        }
        match (&packet.message, name) {
            (Message::Ping(ping), _) if decoded.is_object() => {
                assert_eq!(
                    (ping.from, ping.to),
                    (endpoint(&decoded["from"]), endpoint(&decoded["to"])),
                    "{name}"
                );
                // A list where the sequence number belongs counts as none (EIP-8 against EIP-868).
                assert_eq!(
                    ping.enr_seq,
                    decoded["element_at_enr_seq_position"].as_u64(),
                    "{name}"
                );
            }
            (Message::Ping(ping), "reth_ping_empty_from_ip") => {
                assert_eq!(ping.from, WireEndpoint::default());
                assert_eq!(
                    ping.to,
                    WireEndpoint::new([10, 0x48, 0x0e, 0x8f].into(), 0x765f, 0)
                );
                assert_eq!(ping.enr_seq, Some(0x0191_0683_3efe));
            }
            (Message::Ping(ping), "eip868_ping_enrseq1") => assert_eq!(ping.enr_seq, Some(1)),
            (Message::Pong(pong), "pong") => {
                assert_eq!(pong.to, endpoint(&decoded["to"]));
                assert_eq!(pong.ping_hash.as_bytes()[..], bytes(&decoded["ping_hash"]));
                assert_eq!(pong.enr_seq, None);
            }
            (Message::Pong(pong), "eip868_pong_enrseq1") => assert_eq!(pong.enr_seq, Some(1)),
            (Message::FindNode(find), _) => {
                assert_eq!(find.target.as_bytes()[..], bytes(&decoded["target"]));
                assert_eq!(
                    find.target.id().as_bytes()[..],
                    bytes(&vectors["node_id_hash"])
                );
            }
            (Message::Neighbors(neighbors), _) => {
                let expected = decoded["nodes"].as_array().unwrap();
                assert_eq!(neighbors.nodes.len(), expected.len());
                for (node, expected) in neighbors.nodes.iter().zip(expected) {
                    assert_eq!(node.key.to_bytes()[..], bytes(&expected["id"]));
                    let WireEndpoint { ip, udp, tcp } = endpoint(expected);
                    assert_eq!(
                        (Some(node.endpoint.ip), node.endpoint.udp, node.endpoint.tcp),
                        (ip, udp, tcp)
                    );
                }
            }
            (Message::EnrRequest(request), _) => assert_eq!(request.expiration, 0x43b9_a355),
            (Message::EnrResponse(response), _) => {
                let request = packets
                    .iter()
                    .find(|vector| vector["name"] == "enr_request")
                    .unwrap();
                assert_eq!(
                    response.request_hash.as_bytes()[..],
                    bytes(&request["hash"])
                );
                assert_eq!(response.record.public_key(), packet.key);
            }
            (message, name) => panic!("{name} is unexpectedly {message:?}"),
        }
    }
}

/// Those without surplus fields come out of our encoder byte by byte: signatures are deterministic.
#[test]
fn packets_without_surplus_are_encoded_as_published() {
    let vectors = vectors();
    let key: SecretKey = vectors["private_key"].as_str().unwrap().parse().unwrap();
    let mut encoded = 0;
    for vector in vectors["packets"].as_array().unwrap() {
        let name = vector["name"].as_str().unwrap();
        if [
            "eip868_ping_enrseq1",
            "eip868_pong_enrseq1",
            "enr_request",
            "enr_response",
        ]
        .contains(&name)
        {
            let datagram = bytes(&vector["packet"]);
            // The published ping states a TCP port for the receiver, which our endpoint type carries too.
            let (again, hash) = encode(&key, &decode(&datagram).unwrap().message);
            assert_eq!(hex::encode(&again), hex::encode(&datagram), "{name}");
            assert_eq!(hash.as_bytes()[..], bytes(&vector["hash"]), "{name}");
            encoded += 1;
        }
    }
    assert_eq!(encoded, 4);
}

#[test]
fn a_changed_byte_anywhere_is_noticed_before_the_key_is_recovered() {
    let vectors = vectors();
    for vector in vectors["packets"].as_array().unwrap() {
        let datagram = bytes(&vector["packet"]);
        for at in 0..datagram.len() {
            let mut changed = datagram.clone();
            changed[at] ^= 1;
            assert_eq!(
                UnverifiedPacket::parse(&changed).unwrap_err(),
                DecodeError::Hash
            );
        }
        for len in 0..datagram.len() {
            assert!(UnverifiedPacket::parse(&datagram[..len]).is_err());
        }
    }
}

#[test]
fn sizes_are_checked_first() {
    assert_eq!(decode(&[0; 97]), Err(DecodeError::TooShort { len: 97 }));
    assert_eq!(decode(&[0; 98]), Err(DecodeError::Hash));
    assert_eq!(decode(&[0; 1280]), Err(DecodeError::Hash));
    assert_eq!(decode(&[0; 1281]), Err(DecodeError::TooLong { len: 1281 }));
}

#[test]
fn types_beyond_the_six_are_named() {
    let vectors = vectors();
    let mut datagram = bytes(&vectors["packets"][0]["packet"]);
    for kind in [0, 7, 0xff] {
        datagram[97] = kind;
        let hash = tercet_enode::keccak256(&datagram[32..]);
        datagram[..32].copy_from_slice(&hash);
        assert_eq!(decode(&datagram), Err(DecodeError::Type(kind)));
    }
    datagram[97] = MessageKind::FindNode as u8;
    let hash = tercet_enode::keccak256(&datagram[32..]);
    datagram[..32].copy_from_slice(&hash);
    assert!(matches!(
        decode(&datagram),
        Err(DecodeError::Body {
            kind: MessageKind::FindNode,
            ..
        })
    ));
}
