//! What a person reads when a node, key or id is mistyped; and the parts of texts the vectors leave out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a test fails by panicking

use tercet_enode::{
    EnodeUrl, HexError, Host, Node, NodeAddress, NodeId, NodeRecord, PublicKey, SecretKey,
};

fn key() -> SecretKey {
    SecretKey::from_bytes(&[7; 32]).unwrap()
}

fn refused(text: &str) -> String {
    text.parse::<NodeAddress>().unwrap_err().to_string()
}

#[test]
fn enode_errors_say_what_and_where() {
    let key = key().public_key();
    let at = |location: &str| refused(&format!("enode://{key}@{location}"));
    assert_eq!(
        refused("enode:xyz"),
        "an enode URL begins with \"enode://\""
    );
    assert_eq!(
        refused("enode://12ab@1.2.3.4:5"),
        "enode URL: the public key has 4 characters, 128 hexadecimal digits are needed"
    );
    assert_eq!(
        refused(&format!("enode://12zx{}@1.2.3.4:5", &key.to_string()[4..])),
        "enode URL: 'z' at character 11 is not a hexadecimal digit of the public key"
    );
    assert_eq!(
        refused(&format!("enode://{}@1.2.3.4:5", "1".repeat(128))),
        "enode URL: the public key is not a point on the curve secp256k1"
    );
    assert_eq!(at(":5"), "enode URL: the host is missing at character 138");
    assert_eq!(
        at("1.2.3.4"),
        "enode URL: the TCP port is missing at character 145"
    );
    assert_eq!(
        at("1.2.3.4:"),
        "enode URL: the TCP port is missing at character 146"
    );
    assert_eq!(
        at("1.2.3.4:70000"),
        "enode URL: \"70000\" at character 146 is not a TCP port (0 to 65535)"
    );
    assert_eq!(
        at("1.2.3.4:+5"),
        "enode URL: \"+5\" at character 146 is not a TCP port (0 to 65535)"
    );
    assert_eq!(
        at("1.2.3.4:5?discport=x"),
        "enode URL: \"x\" at character 157 is not a UDP port (discport, 0 to 65535)"
    );
    assert_eq!(
        at("1.2.3.4:5?a=1&discport=x"),
        "enode URL: \"x\" at character 161 is not a UDP port (discport, 0 to 65535)"
    );
    let host = |host: &str| {
        format!("enode URL: {host:?} at character 138 is neither an IP address nor a DNS name")
    };
    assert_eq!(at("1.2.3.400:5"), host("1.2.3.400"));
    assert_eq!(at("[::1:5"), host("[::1:5"));
    assert_eq!(at("[fe80::1%eth0]:5"), host("[fe80::1%eth0]"));
    assert_eq!(at("a b:5"), host("a b"));
    assert_eq!(at("a..b:5"), host("a..b"));
    assert_eq!(at("[::1]x:5"), host("[::1]x:5"));
    let label = "a".repeat(64);
    assert_eq!(
        at(&format!("{label}:5")),
        host(&format!("{}…", "a".repeat(40)))
    );
    assert_eq!(
        refused("10.0.0.1:30303"),
        "a node is named by \"enode://…\" or \"enr:…\""
    );
}

#[test]
fn enode_urls_take_what_geth_takes() {
    let key = key().public_key();
    let parse = |location: &str| {
        format!("enode://{key}@{location}")
            .parse::<EnodeUrl>()
            .unwrap()
    };
    let upper = format!("enode://{}@1.2.3.4:5", key.to_string().to_uppercase());
    assert_eq!(upper.parse::<EnodeUrl>().unwrap(), parse("1.2.3.4:5"));
    assert_eq!(parse("1.2.3.4:5/"), parse("1.2.3.4:5"));
    assert_eq!(parse("1.2.3.4:5?x=y"), parse("1.2.3.4:5"));
    assert_eq!(parse("[::ffff:1.2.3.4]:5"), parse("1.2.3.4:5"));
    assert_eq!(parse("1.2.3.4:5?x=y&discport=6").udp(), 6);
    let silent = parse("1.2.3.4:5?discport=0");
    assert_eq!((silent.tcp(), silent.udp()), (5, 0));
    assert!(silent.to_string().ends_with("@1.2.3.4:5?discport=0"));
    let named = parse("node-1.example.org:30303");
    assert_eq!(named.host(), Some(&Host::Dns("node-1.example.org".into())));
    assert_eq!(named.endpoint(), None);
    assert_eq!(named.endpoint_at([1, 2, 3, 4].into()).tcp, 30303);
    assert_eq!(NodeAddress::Enode(named).to_node(), None);
}

#[test]
fn hexadecimal_errors_say_what_and_where() {
    let short = "12".parse::<NodeId>().unwrap_err();
    assert_eq!(
        short,
        HexError::Length {
            expected: 64,
            found: 2
        }
    );
    assert_eq!(
        short.to_string(),
        "2 characters where 64 hexadecimal digits are needed"
    );
    let prefixed = format!("0x{}", "1".repeat(62))
        .parse::<NodeId>()
        .unwrap_err();
    assert_eq!(
        prefixed.to_string(),
        "character 2 ('x') is not a hexadecimal digit"
    );
    let zero = "0".repeat(64).parse::<SecretKey>().unwrap_err();
    assert_eq!(
        zero.to_string(),
        "the secret key is zero or not below the order of secp256k1"
    );
    let point = "1".repeat(128).parse::<PublicKey>().unwrap_err();
    assert_eq!(
        point.to_string(),
        "the public key is not a point on the curve secp256k1"
    );
}

#[test]
fn nodes_are_made_from_either_address() {
    let key = key();
    let record = NodeRecord::builder()
        .seq(3)
        .ip([10, 0, 0, 1].into())
        .udp(7)
        .tcp(8)
        .sign(&key)
        .unwrap();
    let by_record = record.to_string().parse::<NodeAddress>().unwrap();
    let node = by_record.to_node().unwrap();
    assert_eq!(
        (node.id(), node.seq(), node.record()),
        (key.node_id(), 3, Some(&record))
    );
    let by_url = node.enode_url().to_string().parse::<NodeAddress>().unwrap();
    assert_eq!(by_url.id(), by_record.id());
    assert_eq!(by_url.public_key(), by_record.public_key());
    let bare = by_url.to_node().unwrap();
    assert_eq!((bare.endpoint(), bare.seq()), (node.endpoint(), 0));
    assert_eq!(bare.clone().with_record(record.clone()).unwrap(), node);
    assert_eq!(by_record.to_string(), record.to_string());

    let stranger = SecretKey::from_bytes(&[8; 32]).unwrap();
    let other = NodeRecord::builder().sign(&stranger).unwrap();
    let error = bare.with_record(other.clone()).unwrap_err();
    assert_eq!(
        (error.expected, error.found),
        (key.node_id(), stranger.node_id())
    );
    assert_eq!(
        Node::from_record(other),
        None,
        "a record without an address is no contact"
    );
}
