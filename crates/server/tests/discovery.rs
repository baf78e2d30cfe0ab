//! Servers that find each other by discovery, over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // tests
#![allow(clippy::disallowed_methods)] // they start tasks and measure how long limits take

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::*;
use tercet_discovery::DiscoveryConfig;
use tercet_nodedb::NodeDb;
use tercet_server::{
    Capability, Node, NodeRecord, Peer, Protocol, ProtocolFuture, ProtocolIo, Server, ServerConfig,
    Source, SourceError, StartError, Trust,
};

/// A protocol of one network: its record entry holds the network's number, and
/// only nodes of the same network, or without an entry at all, are candidates.
struct Network(u8);

impl Protocol for Network {
    fn capability(&self) -> Capability {
        capability("net")
    }

    fn length(&self) -> u64 {
        1
    }

    fn record_entries(&self) -> Vec<(Vec<u8>, Bytes)> {
        vec![(b"net".to_vec(), Bytes::from(vec![self.0]))]
    }

    fn accepts_candidate(&self, record: &NodeRecord) -> bool {
        record.get_raw(b"net") == Some(&[self.0])
    }

    fn run(self: Arc<Self>, _: Peer, mut io: ProtocolIo) -> ProtocolFuture {
        Box::pin(async move {
            while io.recv().await.is_some() {}
            Ok(())
        })
    }
}

async fn node(n: u8, network: u8, bootnodes: Vec<Node>) -> Server {
    let discovery = DiscoveryConfig::builder()
        .listen(loopback())
        .bootnodes(bootnodes);
    let config = config(key(n)).discovery(discovery.build().unwrap());
    start(config, vec![Arc::new(Network(network))]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_know_one_find_all_of_their_network_and_nobody_else() {
    let first = node(1, 1, Vec::new()).await;
    let boot = vec![first.local_node()];
    let mut servers = vec![first];
    for (n, network) in [(2, 1), (3, 1), (4, 2), (5, 2)] {
        servers.push(node(n, network, boot.clone()).await);
    }
    // 1, 2 and 3 form one network; 4 and 5 the other, though they only knew 1.
    let peers = |index: usize| {
        let mut ids: Vec<_> = servers[index].peers().iter().map(|peer| peer.id).collect();
        ids.sort();
        ids
    };
    let ids = |numbers: &[u8]| {
        let mut ids: Vec<_> = numbers.iter().map(|n| key(*n).node_id()).collect();
        ids.sort();
        ids
    };
    until(|| {
        peers(0) == ids(&[2, 3])
            && peers(1) == ids(&[1, 3])
            && peers(2) == ids(&[1, 2])
            && peers(3) == ids(&[5])
            && peers(4) == ids(&[4])
    })
    .await;
    for server in &servers {
        soon(server.shutdown()).await;
    }
}

#[tokio::test]
async fn the_record_tells_the_tcp_port_and_the_protocols() {
    let server = node(1, 7, Vec::new()).await;
    let record = server.local_record();
    assert_eq!(record.tcp4(), Some(server.local_addr().port()));
    assert_eq!(record.get_raw(b"net"), Some(&[7][..]));
    assert_eq!(server.enode().tcp(), server.local_addr().port());
    assert_eq!(
        server.enode().udp(),
        server.discovery().unwrap().local_addr().port()
    );
    soon(server.shutdown()).await;

    let alone = start(config(key(2)), vec![Arc::new(Network(7))]).await;
    let record = alone.local_record();
    assert_eq!(record.tcp4(), Some(alone.local_addr().port()));
    assert_eq!(record.get_raw(b"net"), Some(&[7][..]));
    assert_eq!(record.udp4(), None);
}

#[tokio::test]
async fn a_taken_port_is_named_and_leaves_nothing_running() {
    let server = node(1, 1, Vec::new()).await;
    let (tcp, udp) = (
        server.local_addr(),
        server.discovery().unwrap().local_addr(),
    );
    let attempt = |listen, discover| {
        let discovery = DiscoveryConfig::builder().listen(discover).build().unwrap();
        let config = ServerConfig::builder(key(2))
            .listen(listen)
            .discovery(discovery);
        Server::start(
            config.build().unwrap(),
            vec![quiet("q")],
            NodeDb::memory().unwrap(),
        )
    };
    let error = attempt(loopback(), udp).await.unwrap_err();
    assert!(matches!(error, StartError::Discovery(_)), "{error}");
    assert!(error.to_string().contains(&udp.to_string()), "{error}");

    // TCP comes second: discovery had started and is stopped again.
    let free = std::net::UdpSocket::bind(loopback())
        .unwrap()
        .local_addr()
        .unwrap();
    let error = attempt(tcp, free).await.unwrap_err();
    assert!(
        matches!(error, StartError::TcpInUse(addr) if addr == tcp),
        "{error}"
    );
    std::net::UdpSocket::bind(free).unwrap();
}

#[tokio::test]
async fn nodes_come_from_added_sources_too_and_a_remote_one_names_nobody_behind_the_firewall() {
    let alone = |n| start(config(key(n)), vec![Arc::new(Network(7))]);
    let (server, hidden, named) = (alone(1).await, alone(2).await, alone(3).await);
    let list = |label, trust, of: &Server| Source::list(label, trust, vec![of.local_node()]);
    server
        .add_source(list("dns", Trust::Remote, &hidden))
        .unwrap();
    server.add_source(list("file", Trust::Own, &named)).unwrap();
    until(|| server.peers().len() == 1).await;
    assert_eq!(server.peers()[0].id, key(3).node_id());
    // Its turn came first.
    assert_eq!(server.metrics().dials, 1);

    server.remove_source("dns").unwrap();
    for server in [&server, &hidden, &named] {
        soon(server.shutdown()).await;
    }
    let late = list("late", Trust::Own, &named);
    assert_eq!(server.add_source(late), Err(SourceError::Closed));
}
