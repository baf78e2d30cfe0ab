//! A node of ours with a socket for each family and one record, among clients that have one family and one that has both.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tercet_discovery::{Discovery, Protocol, Protocols};
use tercet_enode::{Node, NodeId, NodeRecord};
use tercet_tests::peer::{Client, Peer};
use tercet_tests::{Loopback, discovery_over, key, until_entry};

/// A service of both families with discv5 alone.
async fn ours(seed: u8, bootnodes: Vec<Node>) -> Discovery {
    let (protocols, listen) = (Protocols::from(Protocol::V5), Loopback::Both.any_port());
    let ours = discovery_over(protocols, &listen, &key(seed), bootnodes).await;
    let (record, port) = (ours.local_record(), Some(ours.local_addr().port()));
    let addresses = (record.ip4(), record.ip6());
    assert_eq!(
        addresses,
        (Some(Ipv4Addr::LOCALHOST), Some(Ipv6Addr::LOCALHOST))
    );
    assert_eq!((record.udp4(), record.udp6()), (port, port));
    ours
}

/// Where the service is for a node at `from`.
fn towards(ours: &Discovery, from: SocketAddr) -> Option<SocketAddr> {
    match from {
        SocketAddr::V4(_) => Some(ours.local_addr()),
        SocketAddr::V6(_) => ours.local_addr_v6(),
    }
}

async fn until_live_at(ours: &Discovery, id: NodeId, at: SocketAddr) {
    until_entry(ours, id, |entry| {
        entry.live && entry.node.endpoint().udp_addr() == at
    })
    .await;
}

/// The service and the client find each other over the client's family.
async fn meet(ours: &Discovery, peer: &mut Peer) {
    let (record, at) = (ours.local_record(), peer.addr());
    if reaches(peer, &record) {
        assert_eq!(peer.ping(&record), Ok((record.seq(), at)));
        assert_eq!(peer.find_node(&record, &[0]), Ok(vec![record.clone()]));
    }
    let pong = ours.ping_over(peer.node(), Protocol::V5).await.unwrap();
    assert_eq!(pong.seen_as, towards(ours, at));
    until_live_at(ours, peer.id(), at).await;
}

/// go-ethereum takes the IPv4 address of two that reach as far, even where it listens on IPv6 alone.
fn reaches(peer: &Peer, record: &NodeRecord) -> bool {
    let ip = record.endpoint().unwrap().ip;
    peer.client() != Client::Go || ip.is_ipv4() == peer.addr().is_ipv4()
}

pub(crate) async fn who_has_one_family_is_told_of_the_other(client: Client) {
    let start = |on: Loopback, seed| Peer::start(client, &on.any_port(), &key(seed), &[]);
    let (Some(mut four), Some(mut six)) = (start(Loopback::V4, 70), start(Loopback::V6, 71)) else {
        return;
    };
    let between = ours(72, Vec::new()).await;
    meet(&between, &mut four).await;
    meet(&between, &mut six).await;
    let begin = between.local_record();
    let records = [six.record().clone(), four.record().clone()];
    for (asks, other) in [&mut four, &mut six].into_iter().zip(records) {
        let distance = begin.id().log_distance(&other.id());
        if reaches(asks, &begin) {
            let told = asks.find_node(&begin, &[distance]).unwrap();
            assert!(told.contains(&other), "{told:?}");
        }
    }

    // Another of both families finds each through the first, and is found by each.
    let finder = ours(73, vec![between.local_node()]).await;
    let wanted = finder.local_record();
    until_entry(&between, wanted.id(), |entry| entry.live).await;
    for peer in [&mut four, &mut six] {
        let found = finder.lookup(peer.record().public_key()).await.unwrap();
        assert_eq!(found.first().map(Node::id), Some(peer.id()));
        until_live_at(&finder, peer.id(), peer.addr()).await;
        if reaches(peer, &wanted) {
            let found = peer.lookup(&wanted, Protocol::V5);
            assert!(found.contains(&wanted.id()), "{found:?}");
            peer.await_live(&wanted, Protocol::V5);
        }
    }
    finder.shutdown().await;
    between.shutdown().await;
}

/// Each chooses for itself: this client IPv6, ours IPv4. go-ethereum has one socket, and @chainsafe/discv5 with two compares
/// where a handshake comes from with the record's IPv4 address alone.
pub(crate) async fn both_may_have_both() {
    let listen = Loopback::Both.any_port();
    let Some(mut peer) = Peer::start(Client::Rust, &listen, &key(74), &[]) else {
        return;
    };
    let ours = ours(75, Vec::new()).await;
    let addrs: Vec<_> = peer.record().endpoints().map(|at| at.udp_addr()).collect();
    let record = ours.local_record();
    assert_eq!(peer.ping(&record), Ok((record.seq(), addrs[1])));
    until_live_at(&ours, peer.id(), addrs[1]).await;
    let pong = ours.ping_over(peer.node(), Protocol::V5).await.unwrap();
    assert_eq!(pong.seen_as, Some(ours.local_addr()));
    ours.shutdown().await;
}
