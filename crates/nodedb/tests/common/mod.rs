//! Nodes to store and both stores to put them in, for all integration tests of this crate.

#![allow(dead_code, unreachable_pub)] // a module of several test programs, each of which uses its part

pub mod footprint;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tercet_enode::{Endpoint, Node, NodeRecord, SecretKey};
use tercet_machine::UnixTime;
use tercet_nodedb::{NodeStore, SeedQuery, Write};

pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(24 * 3600);
pub const T0: UnixTime = UnixTime::from_secs(1_750_000_000);

/// A key made from a number: the same for the same number.
pub fn key(number: u32) -> SecretKey {
    let mut bytes = [0x5a; 32];
    bytes[28..].copy_from_slice(&number.to_be_bytes());
    SecretKey::from_bytes(&bytes).unwrap()
}

pub fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(203, 0, 114, last).into()
}

/// A node without a record.
pub fn bare(number: u32, ip: IpAddr) -> Node {
    Node::new(key(number).public_key(), Endpoint::new(ip, 30303, 30303))
}

/// A node with a signed record such as mainnet nodes have, as it is when it came from the network.
pub fn signed(number: u32, ip: IpAddr, seq: u64) -> Node {
    let record = NodeRecord::builder()
        .seq(seq)
        .ip(ip)
        .udp(30303)
        .tcp(30303)
        .eth([0xca, 0xfe, 0xba, 0xbe], 0)
        .insert_raw(b"snap", &[0xc0])
        .sign(&key(number))
        .unwrap();
    Node::from_record(NodeRecord::decode(record.raw()).unwrap()).unwrap()
}

pub fn pong(node: &Node, at: UnixTime) -> Write {
    Write::Pong {
        id: node.id(),
        ip: node.endpoint().ip,
        at,
    }
}

pub fn ping(node: &Node, at: UnixTime) -> Write {
    Write::Ping {
        id: node.id(),
        ip: node.endpoint().ip,
        at,
    }
}

pub fn query(count: usize, now: UnixTime) -> SeedQuery {
    SeedQuery {
        count,
        max_age: 5 * DAY,
        now,
        exclude: vec![],
    }
}

/// A store with the folder it lives in, if it has one.
pub struct Fixture<S> {
    pub store: S,
    _folder: Option<tempfile::TempDir>,
}

pub fn memory(bound: usize) -> Fixture<tercet_nodedb::MemoryStore> {
    Fixture {
        store: tercet_nodedb::MemoryStore::with_bound(bound),
        _folder: None,
    }
}

#[cfg(feature = "rocksdb")]
pub fn rocks(bound: usize) -> Fixture<tercet_nodedb::RocksStore> {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = tercet_nodedb::RocksStore::open_with_bound(folder.path(), bound).unwrap();
    Fixture {
        store,
        _folder: Some(folder),
    }
}

/// Runs a test over a new store of each kind.
pub fn each_store(bound: usize, test: impl Fn(&dyn NodeStore)) {
    test(&memory(bound).store);
    #[cfg(feature = "rocksdb")]
    test(&rocks(bound).store);
}
