//! discv4 with go-ethereum's `p2p/discover`: bonds, records and lookups both ways.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tercet_discovery::{Discovery, FindTarget, Protocol, Protocols};
use tercet_enode::{Endpoint, Node, NodeId, NodeRecord};
use tercet_tests::peer::{Client, Peer, read_pong, read_records};
use tercet_tests::{Loopback, discovery_over, has, key, until_entry, until_live};

/// A service on this loopback with discv4 alone.
async fn ours(seed: u8, on: Loopback, bootnodes: Vec<Node>) -> Discovery {
    let protocols = Protocols::from(Protocol::V4);
    discovery_over(protocols, &on.any_port(), &key(seed), bootnodes).await
}

fn go(seed: u8, on: Loopback, bootnodes: &[NodeRecord]) -> Option<Peer> {
    Peer::start(Client::GoV4, &on.any_port(), &key(seed), bootnodes)
}

/// The node as an enode URL names it: at one address, without a record.
fn at(node: &Node, addr: SocketAddr) -> Node {
    let endpoint = Endpoint::new(addr.ip(), addr.port(), addr.port());
    Node::new(node.public_key(), endpoint)
}

fn by_url(peer: &Peer) -> Node {
    at(&peer.node(), peer.addr())
}

fn asked(go: &mut Peer, cmd: &str, node: &Node) -> Value {
    let url = node.enode_url().to_string();
    let call = json!({"cmd": cmd, "over": "v4", "node": url});
    go.call(call).unwrap()
}

/// It pings us, and our answer names where it is seen.
fn pinged(go: &mut Peer, ours: &Discovery, addr: SocketAddr) {
    let pong = asked(go, "ping", &at(&ours.local_node(), addr));
    assert_eq!(read_pong(&pong), (ours.local_record().seq(), go.addr()));
}

/// We ping it, and its answer names where we are seen.
async fn ping(ours: &Discovery, go: &Peer, addr: SocketAddr) {
    let pong = ours.ping(by_url(go)).await.unwrap();
    assert_eq!(pong.enr_seq, Some(go.record().seq()));
    assert_eq!(pong.seen_as, Some(addr));
}

/// Over discv4 a node tells only of those that have answered it over discv4.
async fn until_told(ours: &Discovery, id: NodeId) {
    let live = |protocols: Protocols| protocols.contains(Protocol::V4);
    until_entry(ours, id, |entry| live(entry.protocols)).await;
}

pub(crate) async fn it_bonds_with_us_and_reads_our_record(on: Loopback) {
    let Some(mut go) = go(20, on, &[]) else {
        return;
    };
    let ours = ours(21, on, Vec::new()).await;
    pinged(&mut go, &ours, ours.local_addr());
    let record = asked(&mut go, "record", &ours.local_node());
    assert_eq!(read_records(&record), [ours.local_record()]);
    ours.shutdown().await;
}

pub(crate) async fn we_bond_with_it_and_read_its_record(on: Loopback) {
    let Some(go) = go(22, on, &[]) else {
        return;
    };
    let ours = ours(23, on, Vec::new()).await;
    ping(&ours, &go, ours.local_addr()).await;
    assert_eq!(
        ours.request_enr(by_url(&go)).await.as_ref(),
        Ok(go.record())
    );
    // The contact known by its URL alone is resolved to the signed record.
    let resolved = ours.resolve(by_url(&go)).await.unwrap().unwrap();
    assert_eq!(resolved.record(), Some(go.record()));
    ours.shutdown().await;
}

pub(crate) async fn our_lookup_finds_through_it_whom_it_knows(on: Loopback) {
    let Some(known) = go(24, on, &[]) else {
        return;
    };
    let wanted = known.record();
    let Some(mut between) = go(25, on, std::slice::from_ref(wanted)) else {
        return;
    };
    // It tells others only of nodes that have answered it.
    between.await_live(wanted, Protocol::V4);

    let ours = ours(26, on, vec![by_url(&between)]).await;
    let near = FindTarget::Near(wanted.public_key().into());
    let told = ours.find_node(by_url(&between), near).await.unwrap();
    let told: Vec<_> = told.iter().map(|told| told.endpoint().udp_addr()).collect();
    assert!(told.contains(&known.addr()), "{told:?}");
    let found = ours.lookup(wanted.public_key()).await.unwrap();
    assert_eq!(found.first().map(Node::id), Some(known.id()));
    until_live(&ours, known.id()).await;
    ours.shutdown().await;
}

pub(crate) async fn its_lookup_finds_through_us_whom_we_know(on: Loopback) {
    if !has(&on.any_port()) {
        return;
    }
    let known = ours(27, on, Vec::new()).await;
    let between = ours(28, on, vec![known.local_node()]).await;
    until_told(&between, known.local_node().id()).await;
    let Some(mut go) = go(29, on, &[between.local_record()]) else {
        return;
    };
    let wanted = known.local_record();
    let found = go.lookup(&wanted, Protocol::V4);
    assert!(found.contains(&wanted.id()), "{found:?}");
    between.shutdown().await;
    known.shutdown().await;
}

/// Over discv4 an asker learns one address of a node, of whatever family it is. Only the one with IPv4 asks: go-ethereum with IPv6
/// alone loses a node of both families as soon as it has read in the node's record that there is an IPv4 address.
pub(crate) async fn who_has_one_family_is_told_of_the_other() {
    let (four, six) = (go(30, Loopback::V4, &[]), go(31, Loopback::V6, &[]));
    let (Some(mut four), Some(mut six)) = (four, six) else {
        return;
    };
    let ours = ours(32, Loopback::Both, Vec::new()).await;
    let addrs = [Some(ours.local_addr()), ours.local_addr_v6()];
    for (go, addr) in [&mut four, &mut six].into_iter().zip(addrs) {
        let addr = addr.unwrap();
        pinged(go, &ours, addr);
        ping(&ours, go, addr).await;
        until_told(&ours, go.id()).await;
    }
    four.await_live(&ours.local_record(), Protocol::V4);
    let found = four.lookup(six.record(), Protocol::V4);
    assert!(found.contains(&six.id()), "{found:?}");
    ours.shutdown().await;
}
