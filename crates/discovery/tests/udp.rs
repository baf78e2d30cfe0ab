//! The service over real sockets on loopback. Every wait is for an event, under one generous limit.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a failure here is a failed test
#![allow(clippy::disallowed_methods)] // tests spawn tasks and ask for randomness

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use bytes::Bytes;
use tercet_discovery::{
    Discovery, DiscoveryConfig, EntryError, MAX_OPS, MAX_REQUESTS, RequestError, StartError,
    TableSnapshot,
};
use tercet_enode::{Endpoint, Node, NodeId, SecretKey};
use tercet_machine::MachineRng;
use tercet_nodedb::NodeDb;
use tokio::net::UdpSocket;

/// Far more than any of these takes; reached only by a bug.
const LIMIT: Duration = Duration::from_secs(30);

fn loopback() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)
}

fn key() -> SecretKey {
    SecretKey::generate(&mut MachineRng::from_system().unwrap())
}

fn config(bootnodes: Vec<Node>) -> DiscoveryConfig {
    DiscoveryConfig::builder()
        .listen(loopback())
        .bootnodes(bootnodes)
        .build()
        .unwrap()
}

async fn start(bootnodes: Vec<Node>) -> Discovery {
    Discovery::start(config(bootnodes), key(), NodeDb::memory().unwrap())
        .await
        .unwrap()
}

async fn until(discovery: &Discovery, done: impl FnMut(&TableSnapshot) -> bool) {
    let mut done = done;
    let mut table = discovery.table_watch();
    let waited = tokio::time::timeout(LIMIT, table.wait_for(|table| done(table))).await;
    assert!(
        waited.is_ok(),
        "table: {:#?}, counted: {:?}",
        discovery.table(),
        discovery.metrics()
    );
    waited.unwrap().unwrap();
}

async fn until_live(one: &Discovery, other: &Discovery) {
    let id = other.local_record().id();
    until(one, |table| table.get(&id).is_some_and(|entry| entry.live)).await;
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("in time")
}

#[tokio::test]
async fn two_nodes_find_each_other_and_know_their_records() {
    let a = start(vec![]).await;
    let b = start(vec![a.local_node()]).await;
    for (one, other) in [(&a, &b), (&b, &a)] {
        let record = other.local_record();
        let known = |table: &TableSnapshot| {
            table
                .get(&record.id())
                .is_some_and(|entry| entry.live && entry.node.record() == Some(&record))
        };
        until(one, known).await;
    }
    let pong = within(b.ping(a.local_node())).await.unwrap();
    assert_eq!(pong.enr_seq, Some(a.local_record().seq()));
    assert_eq!(
        pong.seen_as.map(|at| at.port()),
        Some(b.local_addr().port())
    );
    assert_eq!(
        within(a.request_enr(b.local_node())).await.unwrap(),
        b.local_record()
    );
    assert_eq!(within(a.resolve(b.local_node())).await, Ok(None));
    within(a.shutdown()).await;
    within(b.shutdown()).await;
    assert_eq!(a.ping(b.local_node()).await, Err(RequestError::Closed));
}

#[tokio::test]
async fn eight_nodes_that_know_the_first_all_find_each_other() {
    let first = start(vec![]).await;
    let mut nodes = vec![first];
    for _ in 1..8 {
        nodes.push(start(vec![nodes[0].local_node()]).await);
    }
    let ids: BTreeSet<NodeId> = nodes.iter().map(|node| node.local_record().id()).collect();
    // Whoever looks for peers keeps the network moving.
    let mut walks = tokio::task::JoinSet::new();
    for node in &nodes {
        let (mut walk, mut missing) = (node.random_nodes(), ids.clone());
        missing.remove(&node.local_record().id());
        walks.spawn(async move {
            while !missing.is_empty() {
                let node = walk.next().await.expect("discovery runs");
                missing.remove(&node.id());
            }
        });
    }
    for node in &nodes {
        until(node, |table| table.live_len() == 7).await;
    }
    while let Some(walked) = within(walks.join_next()).await {
        walked.unwrap();
    }
    let target = nodes[5].local_record().public_key();
    let found = within(nodes[2].lookup(target)).await.unwrap();
    assert_eq!(found.first().map(Node::id), Some(target.node_id()));
    for node in &nodes {
        within(node.shutdown()).await;
    }
}

#[tokio::test]
async fn a_port_mapping_says_where_the_node_is() {
    let node = start(vec![]).await;
    let bound = node.local_record();
    let mut records = node.local_record_watch();
    let mapped = "30.0.0.1:4000".parse().unwrap();
    assert_eq!(within(node.set_advertised(Some(mapped))).await, Ok(true));
    let record = records.borrow_and_update().clone();
    assert_eq!(
        (record.ip4(), record.udp4()),
        (Some(*mapped.ip()), Some(4000))
    );
    assert!(record.seq() > bound.seq());
    assert_eq!(within(node.set_advertised(Some(mapped))).await, Ok(false));
    // Only the address is known: the port is the one listened on.
    let of_host = "30.0.0.1:0".parse().unwrap();
    assert_eq!(within(node.set_advertised(Some(of_host))).await, Ok(true));
    assert_eq!(node.local_record().udp4(), Some(node.local_addr().port()));
    // The mapping is gone.
    assert_eq!(within(node.set_advertised(None)).await, Ok(true));
    assert_eq!(node.local_record().endpoint(), bound.endpoint());
    assert_eq!(within(node.set_advertised(None)).await, Ok(false));
    within(node.shutdown()).await;
    assert_eq!(node.set_advertised(None).await, Err(EntryError::Closed));
}

#[tokio::test]
async fn what_nobody_can_reach_is_not_advertised() {
    let node = start(vec![]).await;
    let before = node.local_record();
    for nobody in ["0.0.0.0:1", "224.0.0.1:1"] {
        let address: SocketAddrV4 = nobody.parse().unwrap();
        let refused = Err(EntryError::AdvertisedIp((*address.ip()).into()));
        assert_eq!(within(node.set_advertised(Some(address))).await, refused);
    }
    let mapped: SocketAddrV6 = "[::ffff:30.0.0.1]:1".parse().unwrap();
    let refused = Err(EntryError::AdvertisedIp((*mapped.ip()).into()));
    assert_eq!(within(node.set_advertised6(Some(mapped))).await, refused);
    let six: SocketAddrV6 = "[2a00::1]:1".parse().unwrap();
    let refused = Err(EntryError::AdvertisedFamily((*six.ip()).into()));
    assert_eq!(within(node.set_advertised6(Some(six))).await, refused);
    assert_eq!(node.local_record(), before);
    within(node.shutdown()).await;
}

#[tokio::test]
async fn a_walk_ends_with_the_service() {
    let node = start(vec![]).await;
    let mut walk = node.random_nodes();
    let walking = tokio::spawn(async move { walk.next().await });
    within(node.shutdown()).await;
    assert_eq!(within(walking).await.unwrap(), None);
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = UdpSocket::bind(loopback()).await.unwrap();
    let addr = taken.local_addr().unwrap();
    let config = DiscoveryConfig::builder().listen(addr).build().unwrap();
    let error = Discovery::start(config, key(), NodeDb::memory().unwrap())
        .await
        .unwrap_err();
    assert!(matches!(&error, StartError::Bind { addr: named, .. } if *named == addr));
    let text = error.to_string();
    assert!(
        text.contains(&addr.to_string()) && text.contains("in use"),
        "{text}"
    );
}

/// Answers a question on each core, over a socket whose datagrams arrive there.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_node_with_two_readers_answers_on_every_core() {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    use tercet_discovery::v4::codec;
    use tercet_discovery::v4::{Message, Ping, WireEndpoint};
    use tercet_machine::Clock;

    const PINGS: u64 = 20;

    let config = DiscoveryConfig::builder().listen(loopback());
    let config = config.second_reader(true).build().unwrap();
    let node = Discovery::start(config, key(), NodeDb::memory().unwrap());
    let node = node.await.unwrap();
    let addr = node.local_addr();
    let set = sched_getaffinity(None).unwrap();
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|core| set.is_set(*core))
        .collect();
    for core in &cores {
        let core = *core;
        let ask = move || {
            let mut own = CpuSet::new();
            own.set(core);
            sched_setaffinity(None, &own).unwrap();
            let socket = std::net::UdpSocket::bind(loopback()).unwrap();
            socket.set_read_timeout(Some(LIMIT)).unwrap();
            let key = key();
            for n in 0..PINGS {
                let ping = Message::Ping(Ping {
                    from: WireEndpoint::default(),
                    to: WireEndpoint::default(),
                    expiration: Clock::start().now().unix.as_secs() + 20 + n,
                    enr_seq: None,
                });
                let (datagram, hash) = codec::encode(&key, &ping);
                socket.send_to(&datagram, addr).unwrap();
                let mut buffer = [0; 1280];
                loop {
                    let len = socket.recv(&mut buffer).unwrap();
                    // The node's own pings come between.
                    if let Message::Pong(pong) = codec::decode(&buffer[..len]).unwrap().message {
                        assert_eq!(pong.ping_hash, hash);
                        break;
                    }
                }
            }
        };
        // Not on a thread that others use afterwards.
        let ask = std::thread::spawn(ask);
        let asked = tokio::task::spawn_blocking(move || ask.join());
        within(asked).await.unwrap().unwrap();
    }
    let other = start(vec![node.local_node()]).await;
    until_live(&other, &node).await;
    let metrics = node.metrics();
    assert!(metrics.datagrams_in > PINGS * cores.len() as u64);
    assert!(metrics.datagrams_out > PINGS * cores.len() as u64);
    // Both sockets are gone afterwards.
    within(node.shutdown()).await;
    UdpSocket::bind(addr).await.unwrap();
}

#[tokio::test]
async fn a_restarted_node_finds_its_way_back_through_seeds() {
    let b = start(vec![]).await;
    let (key, db) = (key(), NodeDb::memory().unwrap());
    let a = Discovery::start(config(vec![b.local_node()]), key.clone(), db.clone())
        .await
        .unwrap();
    let id = b.local_record().id();
    until(&a, |table| table.get(&id).is_some_and(|entry| entry.live)).await;
    let seq = a.local_record().seq();
    within(a.shutdown()).await;

    let again = Discovery::start(config(vec![]), key, db).await.unwrap();
    assert!(again.local_record().seq() > seq);
    until(&again, |table| {
        table.get(&id).is_some_and(|entry| entry.live)
    })
    .await;
    within(again.shutdown()).await;
    within(b.shutdown()).await;
}

#[tokio::test]
async fn a_changed_record_reaches_others() {
    let a = start(vec![]).await;
    let b = start(vec![a.local_node()]).await;
    let id = b.local_record().id();
    let seq = b.local_record().seq();
    b.set_tcp_port(30303).await.unwrap();
    b.set_entry(b"snap", Bytes::from_static(&[0xc0]))
        .await
        .unwrap();
    b.set_entry(b"snap", Bytes::from_static(&[0xc0]))
        .await
        .unwrap();
    assert_eq!(
        b.local_record().seq(),
        seq + 2,
        "the same value again is no change"
    );
    assert!(matches!(
        b.set_entry(b"ip", Bytes::from_static(&[0x80])).await,
        Err(EntryError::Reserved)
    ));
    assert!(matches!(
        b.set_entry(b"x", Bytes::from_static(&[0xc1])).await,
        Err(EntryError::Record(_))
    ));
    assert_eq!(b.local_node().endpoint().tcp, 30303);
    // Revalidation asks within seconds; a ping of theirs says it at once.
    within(b.ping(a.local_node())).await.unwrap();
    until(&a, |table| {
        table
            .get(&id)
            .is_some_and(|entry| entry.node.seq() == seq + 2)
    })
    .await;
    let known = a.table().get(&id).unwrap().node.clone();
    assert!(known.record().unwrap().snap());
    assert_eq!(known.endpoint().tcp, 30303);
}

#[tokio::test]
async fn a_full_request_queue_is_busy() {
    // One thread, so the driver does not run before all have been asked.
    let node = start(vec![]).await;
    let silent = UdpSocket::bind(loopback()).await.unwrap();
    let addr = silent.local_addr().unwrap();
    let target = Node::new(key().public_key(), Endpoint::new(addr.ip(), addr.port(), 0));
    let asked = (0..MAX_REQUESTS + 1).map(|_| node.ping(target.clone()));
    let results = within(futures::future::join_all(asked)).await;
    let count = |error| {
        results
            .iter()
            .filter(|result| **result == Err(error))
            .count()
    };
    // One too many for the queue; of the rest eight share one ping and the machine refuses the others.
    assert_eq!(results.last(), Some(&Err(RequestError::Busy)));
    assert_eq!(
        count(RequestError::Timeout),
        tercet_discovery::v4::MAX_WAITERS
    );
    assert_eq!(
        count(RequestError::Busy),
        MAX_REQUESTS + 1 - tercet_discovery::v4::MAX_WAITERS
    );
}

#[tokio::test]
async fn loopback_sources_are_not_throttled() {
    let a = start(vec![]).await;
    let b = start(vec![]).await;
    for _ in 0..2 * tercet_discovery::SOURCE_BURST {
        within(b.ping(a.local_node())).await.unwrap();
    }
    assert_eq!(a.metrics().core.refused_rate, 0);
}

#[tokio::test]
async fn junk_is_counted_and_harmless() {
    let a = start(vec![]).await;
    let b = start(vec![]).await;
    let stranger = UdpSocket::bind(loopback()).await.unwrap();
    for len in [0, 1, 97, 98, 1280, 1281, 2000] {
        stranger
            .send_to(&vec![0xa5; len], a.local_addr())
            .await
            .unwrap();
    }
    // Datagrams on loopback keep their order, so after this pong all have been read.
    within(b.ping(a.local_node())).await.unwrap();
    assert!(a.metrics().stack.undecodable >= 7, "{:?}", a.metrics());
}

#[tokio::test]
async fn operations_under_way_are_bounded() {
    let silent = UdpSocket::bind(loopback()).await.unwrap();
    let addr = silent.local_addr().unwrap();
    let config = DiscoveryConfig::builder()
        .listen(loopback())
        .reply_timeout(Duration::from_secs(10))
        .build()
        .unwrap();
    let node = Discovery::start(config, key(), NodeDb::memory().unwrap())
        .await
        .unwrap();
    let mut pings = tokio::task::JoinSet::new();
    let mut target = key().public_key();
    for n in 0..=MAX_OPS {
        if n % tercet_discovery::v4::MAX_WAITERS == 0 {
            target = key().public_key();
        }
        let (asking, target) = (
            node.clone(),
            Node::new(target, Endpoint::new(addr.ip(), addr.port(), 0)),
        );
        pings.spawn(async move { asking.ping(target).await });
        if n % 32 == 31 {
            // The tasks ask, and the driver has taken their requests once it has taken this later one: the request queue
            // is never what is full.
            tokio::task::yield_now().await;
            within(node.set_tcp_port(n as u16)).await.unwrap();
        }
    }
    // All others wait for an answer that never comes.
    let first = within(pings.join_next()).await.unwrap().unwrap();
    assert_eq!(first, Err(RequestError::Busy));
    assert!(pings.try_join_next().is_none());
}

#[tokio::test]
async fn every_ping_of_a_burst_is_answered() {
    use tercet_discovery::v4::codec;
    use tercet_discovery::v4::{Message, Ping, WireEndpoint};
    use tercet_machine::Clock;

    const SENDERS: usize = 20;
    const PINGS: usize = 8;

    let node = start(vec![]).await;
    let mut expected = Vec::new();
    // Many at once, so that their signatures are checked on other threads; several of each, so that some have to wait.
    for _ in 0..SENDERS {
        let (socket, key) = (UdpSocket::bind(loopback()).await.unwrap(), key());
        let mut hashes = Vec::new();
        for n in 0..PINGS {
            let ping = Message::Ping(Ping {
                from: WireEndpoint::default(),
                to: WireEndpoint::default(),
                expiration: Clock::start().now().unix.as_secs() + 20 + n as u64,
                enr_seq: None,
            });
            let (datagram, hash) = codec::encode(&key, &ping);
            socket.send_to(&datagram, node.local_addr()).await.unwrap();
            hashes.push(hash);
        }
        expected.push((socket, hashes));
    }
    for (socket, mut hashes) in expected {
        hashes.reverse();
        let mut buffer = [0; 1280];
        while let Some(hash) = hashes.last() {
            let (len, _) = within(socket.recv_from(&mut buffer)).await.unwrap();
            // The node's own pings come between.
            if let Message::Pong(pong) = codec::decode(&buffer[..len]).unwrap().message {
                assert_eq!(pong.ping_hash, *hash, "in the order of the pings");
                hashes.pop();
            }
        }
    }
    assert_eq!(node.metrics().lane_full, 0);
}
