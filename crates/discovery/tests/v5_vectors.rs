//! The published discv5.1 test vectors (devp2p `discv5-wire-test-vectors.md`) and computed message encodings: read, and written
//! again byte for byte with the keys, nonces and masking ivs given.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a test fails by panicking

use bytes::BytesMut;
use serde_json::Value;
use tercet_discovery::v5::crypto::{Cipher, SessionKeys, sign_identity, verify_identity};
use tercet_discovery::v5::packet::{Draft, Handshake, Kind, Mask, WhoAreYou, parse};
use tercet_discovery::v5::{
    Distances, Message, MessageKind, Nonce, Request, RequestId, Response, WireMessage,
};
use tercet_enode::{NodeId, NodeRecord, PublicKey, SecretKey, Signature, UnverifiedRecord};

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/discv5.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    hex::decode(text.strip_prefix("0x").unwrap_or(text)).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn id(value: &Value) -> NodeId {
    NodeId::new(array(value))
}

fn secret(value: &Value) -> SecretKey {
    SecretKey::from_bytes(&array(value)).unwrap()
}

fn packet<'a>(vectors: &'a Value, name: &str) -> &'a Value {
    let packets = vectors["packets"].as_array().unwrap();
    assert_eq!(packets.len(), 4);
    let found = packets.iter().find(|packet| packet["name"] == name);
    found.unwrap()
}

fn ping(id: &[u8], enr_seq: u64) -> Message {
    Message::Request(RequestId::new(id).unwrap(), Request::Ping { enr_seq })
}

/// Unverified records compare by their bytes, so that a message can be compared with what was decoded.
fn on_the_wire(message: &Message) -> WireMessage {
    match message {
        Message::Request(id, request) => Message::Request(*id, request.clone()),
        Message::Response(id, Response::Nodes { total, records }) => {
            let records = records
                .iter()
                .map(|record| UnverifiedRecord::decode(record.raw()).unwrap())
                .collect();
            let total = *total;
            Message::Response(*id, Response::Nodes { total, records })
        }
        Message::Response(id, Response::Pong { enr_seq, recipient }) => Message::Response(
            *id,
            Response::Pong {
                enr_seq: *enr_seq,
                recipient: *recipient,
            },
        ),
        Message::Response(id, Response::Talk { payload }) => Message::Response(
            *id,
            Response::Talk {
                payload: payload.clone(),
            },
        ),
    }
}

/// Reads and writes a packet with a message; returns its plaintext.
fn round_trip(vector: &Value, read_key: &[u8; 16], dest: &NodeId) -> Vec<u8> {
    let datagram = bytes(&vector["packet"]);
    let (mask, cipher) = (Mask::new(dest), Cipher::new(read_key));
    assert!(mask.covers(&datagram));
    let mut buffer = datagram.clone();
    let packet = parse(&mask, &mut buffer).unwrap();
    let decoded = &vector["decoded"];
    assert_eq!(packet.nonce.as_bytes(), &array(&decoded["nonce"]));
    assert_eq!(packet.head, bytes(&decoded["message_ad"]));
    assert_eq!(packet.message, bytes(&decoded["message_ciphertext"]));
    let iv = array(&decoded["masking_iv"]);
    let mut draft = Draft::new(&iv, packet.nonce, &packet.kind);
    assert_eq!(draft.head(), packet.head);
    let plaintext = cipher
        .open(packet.nonce, packet.head, packet.message)
        .unwrap()
        .to_vec();
    draft.message().extend_from_slice(&plaintext);
    assert_eq!(draft.seal(&mask, &cipher), datagram);
    plaintext
}

#[test]
fn the_ordinary_packet() {
    let vectors = vectors();
    let vector = packet(&vectors, "ping_message");
    let inputs = &vector["inputs"];
    let plaintext = round_trip(
        vector,
        &array(&inputs["read-key"]),
        &id(&vectors["node_id_b"]),
    );
    let mut datagram = bytes(&vector["packet"]);
    let read = parse(&Mask::new(&id(&vectors["node_id_b"])), &mut datagram).unwrap();
    let src = id(&vectors["node_id_a"]);
    assert_eq!(read.kind, Kind::Ordinary { src });
    assert_eq!(plaintext, bytes(&vector["decoded"]["message_plaintext"]));
    let expected = ping(&bytes(&inputs["ping.req-id"]), 2);
    assert_eq!(
        WireMessage::decode(&plaintext).unwrap(),
        on_the_wire(&expected)
    );
}

#[test]
fn the_whoareyou_packet() {
    let vectors = vectors();
    let vector = packet(&vectors, "whoareyou");
    let inputs = &vector["inputs"];
    let datagram = bytes(&vector["packet"]);
    let mask = Mask::new(&id(&vectors["node_id_b"]));
    let mut buffer = datagram.clone();
    let read = parse(&mask, &mut buffer).unwrap();
    let challenge = WhoAreYou {
        id_nonce: array(&inputs["whoareyou.id-nonce"]),
        enr_seq: inputs["whoareyou.enr-seq"].as_u64().unwrap(),
    };
    assert_eq!(read.kind, Kind::WhoAreYou(challenge));
    assert_eq!(
        read.nonce.as_bytes(),
        &array(&inputs["whoareyou.request-nonce"])
    );
    assert_eq!(read.head, bytes(&inputs["whoareyou.challenge-data"]));
    let draft = Draft::new(&[0; 16], read.nonce, &read.kind);
    assert_eq!(draft.mask(&mask), datagram);
}

#[test]
fn the_handshake_packets_from_the_keys_alone() {
    let vectors = vectors();
    let (key_a, key_b) = (
        secret(&vectors["node_a_key"]),
        secret(&vectors["node_b_key"]),
    );
    let (id_a, id_b) = (key_a.node_id(), key_b.node_id());
    assert_eq!(
        (id_a, id_b),
        (id(&vectors["node_id_a"]), id(&vectors["node_id_b"]))
    );
    for (name, with_record) in [("ping_handshake", false), ("ping_handshake_with_enr", true)] {
        let vector = packet(&vectors, name);
        let (inputs, decoded) = (&vector["inputs"], &vector["decoded"]);
        let challenge = array(&inputs["whoareyou.challenge-data"]);
        let ephemeral = secret(&inputs["ephemeral-key"]);
        let ephemeral_key = ephemeral.public_key().to_compressed();
        assert_eq!(ephemeral_key, array(&inputs["ephemeral-pubkey"]));

        // What A sends.
        let keys = SessionKeys::derive(&ephemeral, &key_b.public_key(), &id_a, &id_b, &challenge);
        assert_eq!(*keys.initiator, array(&inputs["read-key"]));
        assert_eq!(*keys.initiator, array(&decoded["initiator_key"]));
        assert_eq!(*keys.recipient, array(&decoded["recipient_key"]));
        let record = bytes(&decoded["record_rlp"]);
        assert_eq!(!record.is_empty(), with_record);
        let handshake = Handshake {
            src: id_a,
            signature: sign_identity(&key_a, &challenge, &ephemeral_key, &id_b),
            ephemeral: ephemeral_key,
            record: &record,
        };
        let nonce = Nonce::new(array(&inputs["nonce"]));
        let mut draft = Draft::new(&[0; 16], nonce, &Kind::Handshake(handshake));
        ping(&bytes(&inputs["ping.req-id"]), 1).encode(draft.message());
        let sealed = draft.seal(&Mask::new(&id_b), &Cipher::new(&keys.initiator));
        assert_eq!(sealed, bytes(&vector["packet"]), "{name}");

        // What B makes of it.
        let plaintext = round_trip(vector, &array(&inputs["read-key"]), &id_b);
        assert_eq!(plaintext, bytes(&decoded["message_plaintext"]));
        let mut datagram = bytes(&vector["packet"]);
        let read = parse(&Mask::new(&id_b), &mut datagram).unwrap();
        let Kind::Handshake(read) = read.kind else {
            panic!("{name}: no handshake")
        };
        assert_eq!(read, handshake);
        let ephemeral = PublicKey::from_compressed(&read.ephemeral).unwrap();
        assert_eq!(
            SessionKeys::derive(&key_b, &ephemeral, &id_a, &id_b, &challenge),
            keys
        );
        let signer = key_a.public_key();
        assert!(verify_identity(
            &signer,
            &read.signature,
            &challenge,
            &read.ephemeral,
            &id_b
        ));
        assert!(!verify_identity(
            &signer,
            &read.signature,
            &challenge,
            &read.ephemeral,
            &id_a
        ));
        if with_record {
            let record = NodeRecord::decode(read.record).unwrap();
            assert_eq!(record.to_string(), decoded["record_text"].as_str().unwrap());
            assert_eq!((record.id(), record.seq()), (id_a, 1));
        }
    }
}

#[test]
fn the_primitives() {
    let vectors = vectors();
    let ecdh = &vectors["ecdh"];
    let public = PublicKey::from_compressed(&bytes(&ecdh["public-key"])).unwrap();
    let shared = secret(&ecdh["secret-key"]).ecdh_compressed(&public);
    assert_eq!(*shared, array(&ecdh["shared-secret"]));

    let kdf = &vectors["key_derivation"];
    let keys = SessionKeys::derive(
        &secret(&kdf["ephemeral-key"]),
        &PublicKey::from_compressed(&bytes(&kdf["dest-pubkey"])).unwrap(),
        &id(&kdf["node-id-a"]),
        &id(&kdf["node-id-b"]),
        &array(&kdf["challenge-data"]),
    );
    assert_eq!(*keys.initiator, array(&kdf["initiator-key"]));
    assert_eq!(*keys.recipient, array(&kdf["recipient-key"]));

    let signing = &vectors["id_nonce_signing"];
    let key = secret(&signing["static-key"]);
    let signature = sign_identity(
        &key,
        &array(&signing["challenge-data"]),
        &array(&signing["ephemeral-pubkey"]),
        &id(&signing["node-id-B"]),
    );
    assert_eq!(
        signature,
        Signature::from_bytes(&array(&signing["id-signature"]))
    );

    let gcm = &vectors["aes_gcm"];
    let cipher = Cipher::new(&array(&gcm["encryption-key"]));
    let (nonce, head) = (Nonce::new(array(&gcm["nonce"])), bytes(&gcm["ad"]));
    let mut message = bytes(&gcm["pt"]);
    let tag = cipher.seal(nonce, &head, &mut message);
    message.extend(tag);
    assert_eq!(message, bytes(&gcm["message-ciphertext"]));
    let mut forged = message.clone();
    forged[0] ^= 1;
    let before = forged.clone();
    assert!(cipher.open(nonce, &head, &mut forged).is_err());
    assert_eq!(forged, before, "what does not match is left as it was");
    assert_eq!(
        cipher.open(nonce, &head, &mut message).unwrap(),
        bytes(&gcm["pt"])
    );
}

#[test]
fn the_messages() {
    let vectors = vectors();
    let id = RequestId::new(&[0, 0, 0, 1]).unwrap();
    let record: NodeRecord = "enr:-IS4QHCYrYZbAKWCBRlAy5zzaDZXJBGkcnh4MHcBFZntXNFrdvJjX04jRzjzCBOonrkTfj499SZuOh8R33Ls8RRcy5wBgmlkgnY0gmlwhH8AAAGJc2VjcDI1NmsxoQPKY0yuDUmstAHYpMa2_oxVtw0RW_QAdpzBQA8yWM0xOIN1ZHCCdl8".parse().unwrap();
    let nodes = |records: &[&NodeRecord]| {
        let records = records.iter().map(|record| (*record).clone()).collect();
        Message::Response(id, Response::Nodes { total: 1, records })
    };
    let pong = |recipient: &str| {
        let recipient = recipient.parse().unwrap();
        Message::Response(
            id,
            Response::Pong {
                enr_seq: 1,
                recipient,
            },
        )
    };
    let talk = |payload: &'static [u8]| {
        Message::Response(
            id,
            Response::Talk {
                payload: payload.into(),
            },
        )
    };
    let expected = [
        ("PING", MessageKind::Ping, ping(&[0, 0, 0, 1], 2)),
        ("PONG_ipv4", MessageKind::Pong, pong("127.0.0.1:5000")),
        ("PONG_ipv6", MessageKind::Pong, pong("[::1]:5000")),
        (
            "FINDNODE_0_255_256",
            MessageKind::FindNode,
            Message::Request(
                id,
                Request::FindNode {
                    distances: Distances::new([0, 255, 256]),
                },
            ),
        ),
        ("NODES_empty", MessageKind::Nodes, nodes(&[])),
        ("NODES_one", MessageKind::Nodes, nodes(&[&record])),
        (
            "TALKREQ",
            MessageKind::TalkRequest,
            Message::Request(
                id,
                Request::Talk {
                    protocol: "test".into(),
                    payload: "hello".into(),
                },
            ),
        ),
        ("TALKRESP_empty", MessageKind::TalkResponse, talk(b"")),
        ("TALKRESP", MessageKind::TalkResponse, talk(b"world")),
    ];
    let items = vectors["messages_computed"]["items"].as_array().unwrap();
    assert_eq!(items.len(), expected.len());
    for (item, (name, kind, message)) in items.iter().zip(expected) {
        assert_eq!(item["name"], name);
        let plaintext = bytes(&item["plaintext"]);
        let decoded = WireMessage::decode(&plaintext).unwrap();
        assert_eq!((decoded.kind(), decoded.request_id()), (kind, id));
        assert_eq!(decoded, on_the_wire(&message), "{name}");
        let (mut ours, mut again) = (BytesMut::new(), BytesMut::new());
        message.encode(&mut ours);
        decoded.encode(&mut again);
        assert_eq!(ours, plaintext, "{name}");
        assert_eq!(again, plaintext, "{name}");
        assert_eq!(message.encoded_len(), plaintext.len(), "{name}");
    }
}

#[test]
fn a_packet_with_nodes() {
    let vectors = vectors();
    let vector = &vectors["ordinary_packet_nodes_computed"];
    let datagram = bytes(&vector["packet"]);
    let (mask, cipher) = (
        Mask::new(&id(&vector["dest_id"])),
        Cipher::new(&array(&vector["read_key"])),
    );
    let nonce = Nonce::new(array(&vector["nonce"]));
    let src = id(&vector["src_id"]);
    let mut draft = Draft::new(
        &array(&vector["masking_iv"]),
        nonce,
        &Kind::Ordinary { src },
    );
    let message = WireMessage::decode(&bytes(&vector["message_plaintext"])).unwrap();
    message.encode(draft.message());
    assert_eq!(draft.seal(&mask, &cipher), datagram);
    let mut buffer = datagram;
    let read = parse(&mask, &mut buffer).unwrap();
    assert_eq!((read.nonce, read.kind), (nonce, Kind::Ordinary { src }));
    let plaintext = cipher.open(read.nonce, read.head, read.message).unwrap();
    assert_eq!(WireMessage::decode(plaintext).unwrap(), message);
}
