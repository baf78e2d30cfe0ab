//! Address classes, and which addresses may be passed on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a test fails by panicking

use std::net::IpAddr;

use tercet_enode::AddressClass::{
    Cgnat, Global, Lan, Loopback, Multicast, SpecialUse, Unspecified,
};
use tercet_enode::{AddressClass, Endpoint, Node, NodeRecord, RelayError, SecretKey, check_relay};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn every_network_has_its_class_up_to_its_edges() {
    let cases = [
        ("0.0.0.0", Unspecified),
        ("0.0.0.1", SpecialUse),
        ("0.255.255.255", SpecialUse),
        ("1.0.0.0", Global),
        ("9.255.255.255", Global),
        ("10.0.0.0", Lan),
        ("10.255.255.255", Lan),
        ("11.0.0.0", Global),
        ("100.63.255.255", Global),
        ("100.64.0.0", Cgnat),
        ("100.127.255.255", Cgnat),
        ("100.128.0.0", Global),
        ("127.0.0.1", Loopback),
        ("127.255.255.255", Loopback),
        ("128.0.0.0", Global),
        ("169.254.0.1", Lan),
        ("172.15.255.255", Global),
        ("172.16.0.0", Lan),
        ("172.31.255.255", Lan),
        ("172.32.0.0", Global),
        ("192.0.0.0", SpecialUse),
        ("192.0.0.7", SpecialUse),
        ("192.0.0.8", Global),
        ("192.0.0.9", SpecialUse),
        ("192.0.0.10", Global),
        ("192.0.0.170", SpecialUse),
        ("192.0.0.171", SpecialUse),
        ("192.0.0.172", Global),
        ("192.0.2.1", SpecialUse),
        ("192.31.196.1", SpecialUse),
        ("192.52.193.1", SpecialUse),
        ("192.88.99.1", SpecialUse),
        ("192.168.0.1", Lan),
        ("192.175.48.1", SpecialUse),
        ("198.17.255.255", Global),
        ("198.18.0.0", SpecialUse),
        ("198.19.255.255", SpecialUse),
        ("198.20.0.0", Global),
        ("198.51.100.1", SpecialUse),
        ("203.0.113.1", SpecialUse),
        ("224.0.0.1", Multicast),
        ("239.255.255.255", Multicast),
        ("240.0.0.1", Global),
        ("255.255.255.254", Global),
        ("255.255.255.255", SpecialUse),
        ("::", Unspecified),
        ("::1", Loopback),
        ("::2", Global),
        ("::ffff:10.0.0.1", Lan),
        ("::ffff:100.64.0.1", Cgnat),
        ("::ffff:127.0.0.1", Loopback),
        ("::ffff:8.8.8.8", Global),
        ("64:ff9b::808:808", Global),
        ("64:ff9b:1::a00:1", SpecialUse),
        ("64:ff9b:2::1", Global),
        ("100::1", SpecialUse),
        ("100:0:0:1::", Global),
        ("2001::1", SpecialUse),
        ("2001:1::1", SpecialUse),
        ("2001:1::2", Global),
        ("2001:2::1", SpecialUse),
        ("2001:3::1", SpecialUse),
        ("2001:4:112::1", SpecialUse),
        ("2001:4:113::1", Global),
        ("2001:5::1", SpecialUse),
        ("2001:10::1", SpecialUse),
        ("2001:1f:ffff::1", SpecialUse),
        ("2001:20::1", SpecialUse),
        ("2001:30::1", Global),
        ("2001:db8::1", SpecialUse),
        ("2001:4860::8888", Global),
        ("2002::1", SpecialUse),
        ("2003::1", Global),
        ("3fff:fff:ffff::1", SpecialUse),
        ("3fff:1000::1", Global),
        ("5f00::1", SpecialUse),
        ("5f01::1", Global),
        ("fc00::1", Lan),
        ("fdff::1", Lan),
        ("fe80::1", Lan),
        ("febf::1", Lan),
        ("fec0::1", Global),
        ("ff02::1", Multicast),
    ];
    for (address, class) in cases {
        assert_eq!(AddressClass::of(ip(address)), class, "{address}");
        assert_eq!(class.is_lan(), matches!(class, Lan | Loopback));
    }
}

#[test]
fn addresses_are_relayed_only_where_they_lead_somewhere() {
    let (here, lan, carrier, far) = ("127.0.0.1", "192.168.1.1", "100.64.0.9", "8.8.8.8");
    let all = [here, lan, carrier, far];
    let allowed = |addr: &str, from: &[&str], otherwise: RelayError| {
        for sender in all {
            let expected = if from.contains(&sender) {
                Ok(())
            } else {
                Err(otherwise)
            };
            assert_eq!(
                check_relay(ip(sender), ip(addr)),
                expected,
                "{addr} from {sender}"
            );
        }
    };
    allowed("0.0.0.0", &[], RelayError::Unspecified);
    allowed("::", &[], RelayError::Unspecified);
    allowed("224.0.0.1", &[], RelayError::Multicast);
    allowed("ff02::1", &[], RelayError::Multicast);
    allowed("255.255.255.255", &[], RelayError::SpecialUse);
    allowed("192.0.2.1", &[], RelayError::SpecialUse);
    allowed("2001:db8::1", &[], RelayError::SpecialUse);
    allowed("127.0.2.19", &[here], RelayError::Loopback);
    allowed("::1", &[here], RelayError::Loopback);
    allowed("192.168.0.1", &[here, lan], RelayError::Lan);
    allowed("fe80::1", &[here, lan], RelayError::Lan);
    allowed("100.100.0.1", &[here, lan, carrier], RelayError::Cgnat);
    allowed("23.55.1.242", &all, RelayError::Unspecified);
    allowed("2a00::1", &all, RelayError::Unspecified);
}

#[test]
fn endpoints_know_their_socket_addresses() {
    let endpoint = Endpoint::new(ip("::ffff:10.1.2.3"), 30301, 30303);
    assert_eq!(endpoint.udp_addr(), "10.1.2.3:30301".parse().unwrap());
    assert_eq!(endpoint.tcp_addr(), Some("10.1.2.3:30303".parse().unwrap()));
    assert_eq!(Endpoint::new(ip("::1"), 30301, 0).tcp_addr(), None);
    assert_eq!(
        format!("{endpoint:?}"),
        "Endpoint(10.1.2.3, udp 30301, tcp 30303)"
    );
}

/// A record with these addresses, UDP port 1 and TCP port 2, and over IPv6 UDP port 3 and no TCP port of its own.
fn record(addresses: &[&str]) -> NodeRecord {
    let key: SecretKey = "b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291"
        .parse()
        .unwrap();
    let mut builder = NodeRecord::builder().udp(1).tcp(2).udp6(3);
    for address in addresses {
        // Not through `ip`, which would take a mapped address for the IPv4 one.
        builder = match address.parse().unwrap() {
            IpAddr::V4(ip) => builder.insert(&tercet_enode::Ip4(ip)),
            IpAddr::V6(ip) => builder.insert(&tercet_enode::Ip6(ip)),
        };
    }
    builder.sign(&key).unwrap()
}

#[test]
fn a_record_of_both_families_has_two_endpoints_the_better_first() {
    let v4 = |text: &str| Endpoint::new(ip(text), 1, 2);
    let v6 = |text: &str| Endpoint::new(ip(text), 3, 2);
    let cases: [(&[&str], Vec<Endpoint>); 8] = [
        (&[], vec![]),
        (&["1.2.3.4"], vec![v4("1.2.3.4")]),
        (&["2a00::1"], vec![v6("2a00::1")]),
        (&["1.2.3.4", "2a00::1"], vec![v4("1.2.3.4"), v6("2a00::1")]),
        (
            &["10.0.0.1", "2a00::1"],
            vec![v6("2a00::1"), v4("10.0.0.1")],
        ),
        (&["1.2.3.4", "::"], vec![v4("1.2.3.4")]),
        (&["224.0.0.1", "::1"], vec![v6("::1")]),
        // Both are IPv4, and it cannot be told which holds: the better one.
        (&["10.0.0.1", "::ffff:1.2.3.4"], vec![v6("1.2.3.4")]),
    ];
    for (addresses, endpoints) in cases {
        let record = record(addresses);
        assert_eq!(record.endpoints().collect::<Vec<_>>(), endpoints);
        assert_eq!(record.endpoint(), endpoints.first().copied());
    }
}

#[test]
fn a_node_is_tried_where_it_was_seen_then_at_its_records_other_family() {
    let both = record(&["1.2.3.4", "2a00::1"]);
    let seen = Endpoint::new(ip("5.6.7.8"), 9, 9);
    let node = Node::new(both.public_key(), seen);
    assert_eq!(node.endpoints().collect::<Vec<_>>(), [seen]);
    let node = node.with_record(both).unwrap();
    let other = Endpoint::new(ip("2a00::1"), 3, 2);
    assert_eq!(node.endpoints().collect::<Vec<_>>(), [seen, other]);
    let node = node.with_endpoint(other);
    let first = Endpoint::new(ip("1.2.3.4"), 1, 2);
    assert_eq!(node.endpoints().collect::<Vec<_>>(), [other, first]);
}
