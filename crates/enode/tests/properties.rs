//! Properties: the XOR metric is a metric, records and URLs survive the way out and back, decoders take any bytes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a test fails by panicking

use std::cmp::Ordering;
use std::net::IpAddr;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use tercet_enode::{
    AddressClass, Endpoint, EnodeUrl, NodeAddress, NodeId, NodeRecord, PublicKey, RecordError,
    SecretKey, UnverifiedRecord, canonical_ip, check_relay,
};

fn id() -> impl Strategy<Value = NodeId> {
    any::<[u8; 32]>().prop_map(NodeId::new)
}

fn key() -> impl Strategy<Value = SecretKey> {
    any::<[u8; 32]>().prop_filter_map("not a secret key", |bytes| {
        SecretKey::from_bytes(&bytes).ok()
    })
}

/// Sum of two 256-bit numbers, with the carry in front.
fn sum(a: &[u8; 32], b: &[u8; 32]) -> [u8; 33] {
    let (mut out, mut carry) = ([0; 33], 0);
    for i in (0..32).rev() {
        let digit = u16::from(a[i]) + u16::from(b[i]) + carry;
        out[i + 1] = digit.to_le_bytes()[0];
        carry = digit >> 8;
    }
    out[0] = carry.to_le_bytes()[0];
    out
}

fn widened(a: &[u8; 32]) -> [u8; 33] {
    sum(a, &[0; 32])
}

proptest! {
    #[test]
    fn xor_is_a_metric(a in id(), b in id(), c in id()) {
        prop_assert_eq!(a.distance(&b), b.distance(&a));
        prop_assert_eq!(a.distance(&b) == a.distance(&a), a == b);
        prop_assert_eq!(a.log_distance(&a), 0);
        let through = sum(a.distance(&b).as_bytes(), b.distance(&c).as_bytes());
        prop_assert!(widened(a.distance(&c).as_bytes()) <= through, "triangle inequality");
        prop_assert_eq!(a.log_distance(&b), a.distance(&b).log());
        // Unidirectional: for a given distance there is one id.
        prop_assert_eq!(a.distance(&b) == a.distance(&c), b == c);
    }

    #[test]
    fn ordering_by_distance_agrees_with_the_log(target in id(), a in id(), b in id()) {
        let order = target.cmp_distance(&a, &b);
        prop_assert_eq!(order, target.cmp_distance(&b, &a).reverse());
        if target.log_distance(&a) < target.log_distance(&b) {
            prop_assert_eq!(order, Ordering::Less);
        }
    }

    #[test]
    fn log_distance_is_the_highest_differing_bit(a in id(), bit in 0usize..256, noise: [u8; 32]) {
        let mut other = *a.as_bytes();
        for (i, byte) in other.iter_mut().enumerate() {
            // Bits below `bit` are noise, the bit itself differs, those above are equal.
            for k in 0..8 {
                let index = 255 - (i * 8 + k);
                let mask = 0x80u8 >> k;
                if index == bit || (index < bit && noise[i] & mask != 0) {
                    *byte ^= mask;
                }
            }
        }
        prop_assert_eq!(usize::from(a.log_distance(&NodeId::new(other))), bit + 1);
    }

    #[test]
    fn records_round_trip(
        key in key(),
        seq: u64,
        ip: IpAddr,
        udp: u16,
        entries in btree_map(vec(any::<u8>(), 0..12), vec(any::<u8>(), 0..24), 0..6),
    ) {
        let mut builder = NodeRecord::builder().seq(seq).ip(ip).udp(udp);
        for (name, value) in &entries {
            builder = builder.insert_raw(name, &rlp::encode(value));
        }
        match builder.sign(&key) {
            Ok(record) => {
                prop_assert_eq!(record.id(), key.node_id());
                prop_assert_eq!(record.public_key(), key.public_key());
                prop_assert_eq!(record.seq(), seq);
                prop_assert_eq!(&NodeRecord::decode(record.raw()).unwrap(), &record);
                prop_assert_eq!(&record.to_string().parse::<NodeRecord>().unwrap(), &record);
                prop_assert_eq!(&record.to_builder().sign(&key).unwrap(), &record);
                for (name, value) in &entries {
                    if !matches!(&name[..], b"id" | b"secp256k1" | b"ip" | b"ip6" | b"udp") {
                        prop_assert_eq!(record.get_raw(name), Some(&rlp::encode(value)[..]));
                    }
                }
            }
            Err(error) => {
                let too_large = matches!(error, RecordError::TooLarge { .. });
                prop_assert!(too_large);
            }
        }
    }

    #[test]
    fn a_changed_byte_is_noticed(key in key(), at in 0usize..100, flip in 1u8..) {
        let record = NodeRecord::builder().seq(9).ip([10, 0, 0, 1].into()).udp(1).sign(&key).unwrap();
        let mut bytes = record.raw().to_vec();
        let at = at % bytes.len();
        bytes[at] ^= flip;
        prop_assert!(NodeRecord::decode(&bytes).is_err());
    }

    #[test]
    fn decoders_take_any_bytes(bytes in vec(any::<u8>(), 0..400)) {
        let _ = UnverifiedRecord::decode(&bytes);
        let _ = PublicKey::from_slice(&bytes);
        let _ = PublicKey::from_compressed(&bytes);
        let _ = String::from_utf8_lossy(&bytes).parse::<NodeAddress>();
    }

    #[test]
    fn record_like_bytes_are_taken_too(items in vec(vec(any::<u8>(), 0..40), 0..8), cut in 0usize..8) {
        let list = rlp::encode_list::<Vec<u8>, _>(&items).to_vec();
        let _ = UnverifiedRecord::decode(&list);
        let _ = UnverifiedRecord::decode(&list[..list.len().saturating_sub(cut)]);
    }

    #[test]
    fn texts_never_panic(tail in "\\PC{0,160}") {
        for prefix in ["", "enr:", "enode://"] {
            let _ = format!("{prefix}{tail}").parse::<NodeAddress>();
        }
        let key = SecretKey::from_bytes(&[1; 32]).unwrap().public_key();
        let _ = format!("enode://{key}@{tail}").parse::<EnodeUrl>();
    }

    #[test]
    fn urls_round_trip(key in key(), ip: IpAddr, udp: u16, tcp: u16) {
        let url = EnodeUrl::new(key.public_key(), &Endpoint::new(ip, udp, tcp));
        let again: EnodeUrl = url.to_string().parse().unwrap();
        prop_assert_eq!(&again, &url);
        prop_assert_eq!(again.endpoint(), Some(Endpoint::new(ip, udp, tcp)));
        prop_assert_eq!(again.id(), key.node_id());
    }

    #[test]
    fn keys_round_trip(key in key()) {
        let public = key.public_key();
        prop_assert_eq!(PublicKey::from_bytes(&public.to_bytes()).unwrap(), public);
        prop_assert_eq!(PublicKey::from_compressed(&public.to_compressed()).unwrap(), public);
        prop_assert_eq!(public.to_string().parse::<PublicKey>().unwrap(), public);
        prop_assert_eq!(SecretKey::from_bytes(&key.to_bytes()).unwrap().node_id(), key.node_id());
    }

    #[test]
    fn shared_secrets_are_shared(a in key(), b in key()) {
        prop_assert_eq!(a.ecdh_x(&b.public_key()), b.ecdh_x(&a.public_key()));
    }

    #[test]
    fn signatures_verify_and_recover(key in key(), other in key(), digest: [u8; 32]) {
        let public = key.public_key();
        prop_assert_eq!(public.verify(&digest, &key.sign(&digest)), Ok(()));
        prop_assert_eq!(PublicKey::recover(&digest, &key.sign_recoverable(&digest)), Ok(public));
        if other.node_id() != key.node_id() {
            prop_assert!(other.public_key().verify(&digest, &key.sign(&digest)).is_err());
        }
    }

    #[test]
    fn mapped_addresses_are_the_addresses_inside(ip: std::net::Ipv4Addr, sender: IpAddr, port: u16) {
        let mapped = IpAddr::V6(ip.to_ipv6_mapped());
        prop_assert_eq!(canonical_ip(mapped), IpAddr::V4(ip));
        prop_assert_eq!(AddressClass::of(mapped), AddressClass::of(ip.into()));
        prop_assert_eq!(Endpoint::new(mapped, port, port), Endpoint::new(ip.into(), port, port));
        prop_assert_eq!(check_relay(sender, mapped), check_relay(sender, ip.into()));
        prop_assert_eq!(check_relay(mapped, sender), check_relay(ip.into(), sender));
    }
}
