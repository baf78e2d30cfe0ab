//! The whole discovery service with each client: every request in both directions, sessions lost by either side, records that
//! change.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;
use tercet_discovery::v5::{Distances, TalkRequest};
use tercet_discovery::{Discovery, FindTarget, Protocol, Protocols};
use tercet_enode::{NodeId, NodeRecord};
use tercet_tests::peer::{Client, Peer};
use tercet_tests::{Loopback, discovery_over, key, until_entry};

/// A service with discv5 alone.
async fn ours(seed: u8, listen: &[SocketAddr]) -> Discovery {
    let protocols = Protocols::from(Protocol::V5);
    discovery_over(protocols, listen, &key(seed), Vec::new()).await
}

/// The service pings the client.
pub(crate) async fn ping(ours: &Discovery, peer: &Peer) {
    let pong = ours.ping_over(peer.node(), Protocol::V5).await.unwrap();
    assert_eq!(pong.enr_seq, Some(peer.record().seq()));
    assert_eq!(pong.seen_as, Some(ours.local_addr()));
}

/// The client pings the service.
pub(crate) fn pinged(peer: &mut Peer, ours: &Discovery) {
    let record = ours.local_record();
    assert_eq!(peer.ping(&record), Ok((record.seq(), peer.addr())));
}

async fn until_live(ours: &Discovery, id: NodeId) {
    let live = |protocols: Protocols| protocols.contains(Protocol::V5);
    until_entry(ours, id, |entry| live(entry.protocols)).await;
}

/// Five more nodes that both sides know as live.
async fn neighbours(ours: &Discovery, peer: &mut Peer, on: Loopback) -> Vec<Discovery> {
    let mut neighbours = Vec::new();
    for seed in 60..65 {
        let neighbour = self::ours(seed, &on.any_port()).await;
        // Each hears of the newcomer from its handshake.
        ping(&neighbour, peer).await;
        let pong = neighbour.ping_over(ours.local_node(), Protocol::V5).await;
        assert_eq!(pong.unwrap().enr_seq, Some(ours.local_record().seq()));
        peer.await_live(&neighbour.local_record(), Protocol::V5);
        until_live(ours, neighbour.local_record().id()).await;
        neighbours.push(neighbour);
    }
    neighbours
}

fn distances(from: NodeId, nodes: &[Discovery]) -> BTreeSet<u16> {
    let distance = |node: &Discovery| from.log_distance(&node.local_record().id());
    nodes.iter().map(distance).collect()
}

/// All that is told is as its owner signed it, and nobody is left out.
fn assert_told(told: &[NodeRecord], wanted: &[Discovery]) {
    for node in wanted {
        assert!(told.contains(&node.local_record()), "{told:?}");
    }
}

pub(crate) async fn every_request_in_both_directions(client: Client, on: Loopback) {
    let Some(mut peer) = Peer::start(client, &on.any_port(), &key(50), &[]) else {
        return;
    };
    let ours = ours(51, &on.any_port()).await;
    ping(&ours, &peer).await;
    pinged(&mut peer, &ours);

    let (theirs, record) = (peer.node(), ours.local_record());
    let own = ours.request_enr_over(theirs.clone(), Protocol::V5).await;
    assert_eq!(own.as_ref(), Ok(peer.record()));
    assert_eq!(peer.find_node(&record, &[0]), Ok(vec![record.clone()]));

    let neighbours = neighbours(&ours, &mut peer, on).await;
    let asked = distances(peer.id(), &neighbours);
    let target = FindTarget::Distances(Distances::new(asked.iter().map(|&one| u64::from(one))));
    let told = ours.find_node(theirs.clone(), target).await.unwrap();
    let told: Vec<_> = told
        .iter()
        .map(|node| node.record().unwrap().clone())
        .collect();
    assert_told(&told, &neighbours);
    // One distance at a time: one client reads no more than the first message of an answer.
    let mut told = Vec::new();
    for distance in distances(record.id(), &neighbours) {
        told.extend(peer.find_node(&record, &[distance]).unwrap());
    }
    assert_told(&told, &neighbours);

    talk(&ours, &mut peer).await;
    for node in neighbours {
        node.shutdown().await;
    }
    ours.shutdown().await;
}

/// Answers as the clients do: with who asked, and what.
async fn answer(request: TalkRequest) {
    let answer = [request.id.as_bytes(), &request.payload[..]].concat();
    request.responder.respond(answer.into()).unwrap();
}

async fn talk(ours: &Discovery, peer: &mut Peer) {
    ours.register_talk("tercet", answer).await.unwrap();
    let (theirs, record) = (peer.node(), ours.local_record());
    for payload in [b"how are you".as_slice(), b"", &[9; 1000]] {
        let sent = Bytes::copy_from_slice(payload);
        let answer = ours.talk(theirs.clone(), "tercet", sent).await.unwrap();
        assert_eq!(answer, [record.id().as_bytes(), payload].concat());
        let answer = peer.talk(&record, "tercet", payload).unwrap();
        assert_eq!(answer, [peer.id().as_bytes(), payload].concat());
    }
    let unknown = ours.talk(theirs, "none", "?").await;
    assert_eq!(unknown, Ok(Bytes::new()));
    assert_eq!(peer.talk(&record, "none", b"?"), Ok(Vec::new()));
}

pub(crate) async fn a_session_lost_by_either_is_made_again(client: Client, on: Loopback) {
    let Some(mut peer) = Peer::start(client, &on.any_port(), &key(52), &[]) else {
        return;
    };
    let mut ours = self::ours(53, &on.any_port()).await;
    ping(&ours, &peer).await;
    // That a client asks that has forgotten the session is in `sessions`, where nobody checks it meanwhile. Here one of them (JS)
    // lost its own ping about once in fifty runs on a busy machine.
    peer.restart();
    ping(&ours, &peer).await;
    let other = self::ours(56, &on.any_port()).await;
    // The one that asks next is once the one that forgot and once the other.
    for we_ask in [true, false] {
        // A late answer to a check would be taken for a request by who has just forgotten the session: the challenge to it
        // stands for a second, and is no use to the request that comes after. What was asked before another node asks is
        // answered before that one is.
        let listen = ours.local_addr();
        ours.shutdown().await;
        ping(&other, &peer).await;
        ours = self::ours(53, &[listen]).await;
        if we_ask {
            ping(&ours, &peer).await;
        } else {
            pinged(&mut peer, &ours);
        }
    }
    other.shutdown().await;
    ours.shutdown().await;
}

pub(crate) async fn a_changed_record_is_noticed(client: Client, on: Loopback) {
    let Some(mut peer) = Peer::start(client, &on.any_port(), &key(54), &[]) else {
        return;
    };
    let ours = ours(55, &on.any_port()).await;
    ping(&ours, &peer).await;
    peer.await_live(&ours.local_record(), Protocol::V5);
    pinged(&mut peer, &ours);
    until_live(&ours, peer.id()).await;

    assert_eq!(
        ours.set_entry(b"tercet", Bytes::from_static(&[7])).await,
        Ok(true)
    );
    ping(&ours, &peer).await;
    peer.await_live(&ours.local_record(), Protocol::V5);

    let newer = peer.set("tercet", b"a string");
    pinged(&mut peer, &ours);
    until_entry(&ours, peer.id(), |entry| {
        entry.node.record() == Some(&newer)
    })
    .await;
    ours.shutdown().await;
}
