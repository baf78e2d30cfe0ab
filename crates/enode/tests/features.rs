//! The optional features: the `enr` crate's records, and text forms through serde.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a test fails by panicking

#[cfg(any(feature = "enr", feature = "serde"))]
use tercet_enode::{NodeRecord, SecretKey};

#[cfg(any(feature = "enr", feature = "serde"))]
fn record() -> NodeRecord {
    let key = SecretKey::from_bytes(&[7; 32]).unwrap();
    NodeRecord::builder()
        .seq(12)
        .ip([10, 1, 2, 3].into())
        .udp(30303)
        .tcp(30304)
        .eth([1, 2, 3, 4], 99)
        .insert_raw(b"unknown", &[0xc3, 1, 2, 3])
        .sign(&key)
        .unwrap()
}

#[cfg(feature = "enr")]
#[test]
fn the_enr_crate_reads_our_records_and_we_read_its() {
    use enr::Enr;
    type Theirs = Enr<enr::secp256k1::SecretKey>;

    let ours = record();
    let theirs = Theirs::try_from(&ours).unwrap();
    assert_eq!(theirs.seq(), 12);
    assert_eq!(theirs.ip4(), ours.ip4());
    assert_eq!(theirs.udp4(), Some(30303));
    assert_eq!(theirs.tcp4(), Some(30304));
    assert_eq!(theirs.node_id().raw(), *ours.id().as_bytes());
    assert_eq!(theirs.get_raw_rlp("unknown"), Some(&[0xc3, 1, 2, 3][..]));
    assert_eq!(NodeRecord::try_from(&theirs).unwrap(), ours);

    let key = enr::secp256k1::SecretKey::from_secret_bytes([9; 32]).unwrap();
    let made = Theirs::builder()
        .ip4([192, 168, 3, 4].into())
        .udp4(9000)
        .build(&key)
        .unwrap();
    let read = NodeRecord::try_from(&made).unwrap();
    assert_eq!(read.ip4(), made.ip4());
    assert_eq!(read.udp4(), Some(9000));
    assert_eq!(read.to_string(), made.to_base64());
    assert_eq!(Theirs::try_from(&read).unwrap(), made);
}

#[cfg(feature = "serde")]
#[test]
fn everything_with_a_text_form_is_that_text_in_serde() {
    use serde::{Serialize, de::DeserializeOwned};
    use std::fmt::{Debug, Display};
    use tercet_enode::{Endpoint, EnodeUrl, NodeAddress};

    fn round_trip<T: Serialize + DeserializeOwned + Display + PartialEq + Debug>(value: &T) {
        let json = serde_json::to_value(value).unwrap();
        assert_eq!(json, serde_json::Value::String(value.to_string()));
        assert_eq!(&serde_json::from_value::<T>(json).unwrap(), value);
    }

    let record = record();
    let url = EnodeUrl::new(
        record.public_key(),
        &Endpoint::new([1, 2, 3, 4].into(), 5, 6),
    );
    round_trip(&record.id());
    round_trip(&record.public_key());
    round_trip(&url);
    round_trip(&NodeAddress::Enode(url.clone()));
    round_trip(&NodeAddress::Record(record.clone()));
    round_trip(&record);

    let error = serde_json::from_str::<EnodeUrl>("\"enode://12\"").unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("enode URL: the public key has 2 characters")
    );
}
