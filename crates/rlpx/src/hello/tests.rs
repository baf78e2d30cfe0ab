use super::*;
use crate::vectors::{bytes, public, vectors};
use proptest::prelude::*;

#[test]
fn the_hello_of_eip_8_with_version_55_and_extra_elements_decodes() {
    let v = &vectors()["rlpx"]["hello_eip8"];
    let hello = Hello::decode(&bytes(&v["payload_rlp"])).unwrap();
    let expected = &v["decoded"];
    assert_eq!(hello.p2p_version, expected["p2p_version"].as_u64().unwrap());
    assert_eq!(hello.client_id, expected["client_id"].as_str().unwrap());
    assert_eq!(hello.listen_port, 9999);
    assert_eq!(hello.public_key, public(&expected["node_id"]));
    let names: Vec<_> = hello.capabilities.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["eth/61", "mork/22"]);
}

#[test]
fn hello_vectors_round_trip_byte_by_byte() {
    let v = &vectors()["rlpx"]["frames_computed"];
    for name in ["hello_A_rlp", "hello_B_rlp"] {
        let body = bytes(&v[name]);
        let hello = Hello::decode(&body).unwrap();
        assert_eq!(hello.to_payload().raw()[..], body);
    }
}

fn hello() -> Hello {
    let v = &vectors()["rlpx"]["frames_computed"];
    Hello::decode(&bytes(&v["hello_A_rlp"])).unwrap()
}

/// `hello()` with element `index` of its list replaced.
fn with_element(index: usize, raw: &[u8]) -> Vec<u8> {
    let payload = hello().to_payload();
    let mut stream = rlp::RlpStream::new_list(5);
    for (at, item) in Items::open(payload.raw()).unwrap().enumerate() {
        stream.append_raw(
            if at == index {
                raw
            } else {
                item.unwrap().as_raw()
            },
            1,
        );
    }
    stream.out().into()
}

#[test]
fn a_missing_or_impossible_node_id_is_an_invalid_identity() {
    for node_id in [
        &[0x80][..],
        &[&[0xb8, 0x40], &[0; 64][..]].concat(),
        &[&[0xb8, 0x3f], &[1; 63][..]].concat(),
    ] {
        let error = Hello::decode(&with_element(4, node_id)).unwrap_err();
        assert_eq!(error, HelloDecodeError::Identity);
        assert_eq!(error.reason(), DisconnectReason::InvalidIdentity);
    }
}

#[test]
fn what_does_not_matter_is_not_checked() {
    // A listen port of 70000, and entries that are no possible capability: a name of 9 bytes, version 2^32.
    let port = [0x83, 0x01, 0x11, 0x70];
    assert_eq!(
        Hello::decode(&with_element(3, &port)).unwrap().listen_port,
        0
    );
    let mut list = rlp::RlpStream::new_list(3);
    list.begin_list(2).append(&"tooooolong").append(&1u8);
    list.begin_list(2).append(&"eth").append(&(1u64 << 32));
    list.begin_list(3)
        .append(&"eth")
        .append(&69u8)
        .append(&"extra");
    let hello = Hello::decode(&with_element(2, &list.out())).unwrap();
    assert_eq!(hello.capabilities, [Capability::new("eth", 69).unwrap()]);
}

#[test]
fn malformed_hellos_are_a_breach() {
    for body in [
        vec![],
        vec![0x80],
        vec![0xc0],
        with_element(0, &[0x82, 0x00, 0x05]), // a leading zero in the version
        with_element(1, &[0xc0]),
        with_element(2, &[0x80]),
        with_element(2, &[0xc1, 0x05]),
        with_element(2, &[0xc1, 0xc0]),
        with_element(2, &[0xc2, 0xc1, 0x83]),
    ] {
        let error = Hello::decode(&body).unwrap_err();
        assert!(
            matches!(error, HelloDecodeError::Rlp(_)),
            "{body:02x?}: {error}"
        );
        assert_eq!(error.reason(), DisconnectReason::ProtocolError);
    }
}

#[test]
fn a_client_id_cannot_command_a_terminal() {
    let id = b"\x1b[2Jnode\xff\n";
    let raw = [&[0x80 + id.len() as u8][..], id].concat();
    let hello = Hello::decode(&with_element(1, &raw)).unwrap();
    assert_eq!(hello.client_id, "\u{fffd}[2Jnode\u{fffd}\u{fffd}");
}

proptest! {
    #[test]
    fn decoding_is_total(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Hello::decode(&body);
    }

    #[test]
    fn a_damaged_hello_decodes_or_is_refused(index in 0usize..97, byte: u8) {
        let mut body = hello().to_payload().raw().to_vec();
        body[index] = byte;
        let _ = Hello::decode(&body);
    }

    #[test]
    fn hellos_round_trip(
        p2p_version: u64,
        client_id in "[ -~]{0,40}",
        names in prop::collection::vec(("[a-z]{1,8}", any::<u32>()), 0..20),
        listen_port: u16,
    ) {
        let capabilities = names.iter().map(|(name, version)| Capability::new(name, *version).unwrap()).collect();
        let sent = Hello { p2p_version, client_id, capabilities, listen_port, public_key: hello().public_key };
        prop_assert_eq!(Hello::decode(sent.to_payload().raw()), Ok(sent));
    }
}
