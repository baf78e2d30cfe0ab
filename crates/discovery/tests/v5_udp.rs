//! discv5 and both protocols together over real sockets on loopback. Every wait is for an event, under one generous limit.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a failure here is a failed test
#![allow(clippy::disallowed_methods)] // tests ask for randomness and play a time server

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tercet_discovery::v5::{
    Distances, MAX_TALK_RESPONSE, TalkRegisterError, TalkRequest, TalkResponder,
};
use tercet_discovery::{
    Discovery, DiscoveryConfig, DiscoveryConfigBuilder, FindTarget, Protocol, RequestError,
    SUSPICIOUS, TableSnapshot, TalkError,
};
use tercet_enode::{Node, NodeId, SecretKey};
use tercet_machine::MachineRng;
use tercet_nodedb::NodeDb;
use tokio::net::UdpSocket;

/// Far more than any of these takes; reached only by a bug.
const LIMIT: Duration = Duration::from_secs(30);

const ECHO: Bytes = Bytes::from_static(b"echo");

fn key() -> SecretKey {
    SecretKey::generate(&mut MachineRng::from_system().unwrap())
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// A node that speaks discv4 or not, and discv5 or not.
fn config((v4, v5): (bool, bool), bootnodes: Vec<Node>) -> DiscoveryConfigBuilder {
    DiscoveryConfig::builder()
        .listen(loopback())
        .v4(v4)
        .v5(v5)
        .bootnodes(bootnodes)
}

async fn start_with(config: DiscoveryConfigBuilder, key: SecretKey, db: NodeDb) -> Discovery {
    Discovery::start(config.build().unwrap(), key, db)
        .await
        .unwrap()
}

async fn start(protocols: (bool, bool), bootnodes: Vec<Node>) -> Discovery {
    let config = config(protocols, bootnodes);
    start_with(config, key(), NodeDb::memory().unwrap()).await
}

const V4: (bool, bool) = (true, false);
const V5: (bool, bool) = (false, true);
const BOTH: (bool, bool) = (true, true);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("in time")
}

async fn until(discovery: &Discovery, mut done: impl FnMut(&TableSnapshot) -> bool) {
    let mut table = discovery.table_watch();
    let waited = tokio::time::timeout(LIMIT, table.wait_for(|table| done(table))).await;
    assert!(
        waited.is_ok(),
        "table: {:#?}, counted: {:#?}",
        discovery.table(),
        discovery.metrics()
    );
    waited.unwrap().unwrap();
}

fn id(discovery: &Discovery) -> NodeId {
    discovery.local_record().id()
}

fn ids(nodes: &[Node]) -> BTreeSet<NodeId> {
    nodes.iter().map(Node::id).collect()
}

async fn until_live(one: &Discovery, other: &Discovery) {
    let other = id(other);
    until(one, |table| {
        table.get(&other).is_some_and(|entry| entry.live)
    })
    .await;
}

/// Answers with what it was sent, backwards.
async fn backwards(request: TalkRequest) {
    let mut payload = request.payload.to_vec();
    payload.reverse();
    request.responder.respond(payload.into()).unwrap();
}

#[tokio::test]
async fn two_nodes_that_speak_discv5_alone_find_each_other() {
    let a = start(V5, vec![]).await;
    let b = start(V5, vec![a.local_node()]).await;
    until_live(&a, &b).await;
    until_live(&b, &a).await;
    let pong = within(b.ping_over(a.local_node(), Protocol::V5))
        .await
        .unwrap();
    assert_eq!(pong.enr_seq, Some(a.local_record().seq()));
    assert_eq!(pong.seen_as, Some(b.local_addr()));
    let record = within(a.request_enr_over(b.local_node(), Protocol::V5)).await;
    assert_eq!(record, Ok(b.local_record()));
    // Nothing of discv4 was sent or understood.
    for node in [&a, &b] {
        let metrics = node.metrics();
        assert_eq!((metrics.core.v4.sent, metrics.core.v4.received), (0, 0));
        assert!(metrics.sessions.inbound + metrics.sessions.outbound > 0);
        assert_eq!(metrics.sessions_held, 1);
    }
    within(a.shutdown()).await;
    let closed = a.talk(b.local_node(), ECHO, "hi").await;
    assert_eq!(closed, Err(RequestError::Closed));
    within(b.shutdown()).await;
}

#[tokio::test]
async fn a_protocol_that_is_switched_off_is_neither_asked_nor_answered() {
    let (four, five) = (start(V4, vec![]).await, start(V5, vec![]).await);
    let over = |node: &Discovery, to: &Discovery, protocol| {
        let (node, to) = (node.clone(), to.local_node());
        async move { within(node.ping_over(to, protocol)).await.map(|_| ()) }
    };
    let unsupported = Err(RequestError::Unsupported);
    assert_eq!(over(&four, &five, Protocol::V5).await, unsupported);
    assert_eq!(over(&five, &four, Protocol::V4).await, unsupported);
    let talk = within(four.talk(five.local_node(), ECHO, "hi")).await;
    assert_eq!(talk, Err(RequestError::Unsupported));
    let registered = four.register_talk(ECHO, backwards).await;
    assert_eq!(registered, Err(TalkError::Unsupported));
    let timeout = Err(RequestError::Timeout);
    assert_eq!(over(&four, &five, Protocol::V4).await, timeout);
    assert_eq!(over(&five, &four, Protocol::V5).await, timeout);
    assert!(four.metrics().stack.not_served > 0 && five.metrics().stack.not_served > 0);
}

#[tokio::test]
async fn a_node_names_those_at_the_distances_asked_for() {
    let first = start(V5, vec![]).await;
    let mut others = Vec::new();
    for _ in 0..4 {
        let other = start(V5, vec![first.local_node()]).await;
        until_live(&first, &other).await;
        others.push(other);
    }
    let (asking, known) = others.split_first().unwrap();
    let all = FindTarget::Distances(Distances::new(1..=256));
    let found = within(asking.find_node(first.local_node(), all))
        .await
        .unwrap();
    let expected: BTreeSet<NodeId> = known.iter().map(id).collect();
    assert_eq!(ids(&found), expected);
    let distance = id(&first).log_distance(&id(&known[0]));
    let one = FindTarget::Distances(Distances::new([u64::from(distance)]));
    let found = within(asking.find_node(first.local_node(), one))
        .await
        .unwrap();
    let expected: BTreeSet<NodeId> = known
        .iter()
        .map(id)
        .filter(|id| id.log_distance(&first.local_record().id()) == distance)
        .collect();
    assert_eq!(ids(&found), expected);
}

#[tokio::test]
async fn a_lookup_over_discv5_finds_a_node_by_its_id() {
    let first = start(V5, vec![]).await;
    let mut nodes = vec![first];
    for _ in 1..6 {
        nodes.push(start(V5, vec![nodes[0].local_node()]).await);
    }
    for node in &nodes[1..] {
        until_live(&nodes[0], node).await;
    }
    let target = id(&nodes[3]);
    let found = within(nodes[5].lookup(target)).await.unwrap();
    assert_eq!(found.first().map(Node::id), Some(target));
    assert_eq!(nodes[5].metrics().core.v4.sent, 0);
}

#[tokio::test]
async fn messages_of_other_protocols_are_answered_by_their_handlers() {
    let a = start(V5, vec![]).await;
    let b = start(BOTH, vec![]).await;
    for node in [&a, &b] {
        node.register_talk(ECHO, backwards).await.unwrap();
        let ignore = |_: TalkRequest| async {};
        node.register_talk("ignored", ignore).await.unwrap();
    }
    let taken = a.register_talk(ECHO, backwards).await;
    assert_eq!(taken, Err(TalkError::Refused(TalkRegisterError::Taken)));
    for (from, to) in [(&a, &b), (&b, &a)] {
        let talk = |protocol: &'static str, payload: &'static str| {
            within(from.talk(to.local_node(), protocol, payload))
        };
        assert_eq!(talk("echo", "abc").await.unwrap(), "cba");
        assert_eq!(talk("echo", "").await.unwrap(), "");
        assert_eq!(talk("ignored", "abc").await.unwrap(), "");
        assert_eq!(talk("unknown", "abc").await.unwrap(), "");
    }
    assert_eq!((a.metrics().talk.handled, a.metrics().talk.unknown), (3, 1));
    assert_eq!(b.unregister_talk(ECHO).await, Ok(true));
    assert_eq!(b.unregister_talk(ECHO).await, Ok(false));
    assert_eq!(
        within(a.talk(b.local_node(), ECHO, "abc")).await.unwrap(),
        ""
    );
}

#[tokio::test]
async fn the_longest_message_and_the_longest_answer_arrive() {
    let (a, b) = (start(V5, vec![]).await, start(V5, vec![]).await);
    let longest = |request: TalkRequest| async move {
        let answer = vec![7; MAX_TALK_RESPONSE];
        request.responder.respond(answer.into()).unwrap();
    };
    b.register_talk("", longest).await.unwrap();
    // Among names without a byte the message has as much room as the answer, but for the name's own length.
    let fits = vec![9; MAX_TALK_RESPONSE - 1];
    let answer = within(a.talk(b.local_node(), "", fits)).await.unwrap();
    assert_eq!(answer.len(), MAX_TALK_RESPONSE);
    let too_long = vec![9; MAX_TALK_RESPONSE + 1];
    let refused = within(a.talk(b.local_node(), "", too_long)).await;
    assert_eq!(refused, Err(RequestError::TooLong));
}

#[tokio::test]
async fn an_answer_may_take_its_time_while_others_are_served() {
    let config = config(V5, vec![]).v5_reply_timeout(Duration::from_secs(10));
    let a = start_with(config, key(), NodeDb::memory().unwrap()).await;
    let b = start(V5, vec![]).await;
    let (hold, mut held) = tokio::sync::mpsc::channel::<TalkResponder>(1);
    let keep = move |request: TalkRequest| {
        let hold = hold.clone();
        async move { hold.send(request.responder).await.unwrap() }
    };
    b.register_talk("slow", keep).await.unwrap();
    b.register_talk(ECHO, backwards).await.unwrap();
    let asking = a.clone();
    let to = b.local_node();
    let slow = tokio::spawn(async move { asking.talk(to, "slow", "x").await });
    let responder = within(held.recv()).await.unwrap();
    for _ in 0..10 {
        let quick = within(a.talk(b.local_node(), ECHO, "ab")).await.unwrap();
        assert_eq!(quick, "ba");
    }
    responder.respond(Bytes::from_static(b"at last")).unwrap();
    assert_eq!(within(slow).await.unwrap().unwrap(), "at last");
}

#[tokio::test]
async fn a_node_of_both_protocols_knows_those_of_either() {
    let hub = start(BOTH, vec![]).await;
    let four = start(V4, vec![hub.local_node()]).await;
    let five = start(V5, vec![hub.local_node()]).await;
    let both = start(BOTH, vec![hub.local_node()]).await;
    for node in [&four, &five, &both] {
        until_live(&hub, node).await;
        until_live(node, &hub).await;
    }
    // By way of the hub, each over what they share: those of one protocol ask over it, the other is asked. The hub tells of
    // it over discv4 once it has answered over discv4.
    within(both.ping_over(hub.local_node(), Protocol::V4))
        .await
        .unwrap();
    for one in [&four, &five] {
        within(async {
            while !one.table().get(&id(&both)).is_some_and(|entry| entry.live) {
                one.refresh().await.unwrap();
            }
        })
        .await;
        until_live(&both, one).await;
    }
    for (one, other) in [(&four, &five), (&five, &four)] {
        within(one.refresh()).await.unwrap();
        assert!(one.table().get(&id(other)).is_none_or(|entry| !entry.live));
    }
}

#[tokio::test]
async fn a_changed_record_reaches_others_over_discv5() {
    let a = start(V5, vec![]).await;
    let b = start(V5, vec![a.local_node()]).await;
    until_live(&a, &b).await;
    let mut published = b.local_record_watch();
    published.mark_unchanged();
    let seq = b.local_record().seq();
    let snap = Bytes::from_static(&[0xc0]);
    assert_eq!(b.set_entry(b"snap", snap.clone()).await, Ok(true));
    assert!(published.has_changed().unwrap());
    assert_eq!(b.set_entry(b"snap", snap).await, Ok(false));
    assert_eq!(b.set_tcp_port(30303).await, Ok(true));
    assert_eq!(b.local_record().seq(), seq + 2);
    // Its next ping says so.
    within(b.ping(a.local_node())).await.unwrap();
    let known = |seq| {
        let id = id(&b);
        move |table: &TableSnapshot| table.get(&id).is_some_and(|entry| entry.node.seq() == seq)
    };
    until(&a, known(seq + 2)).await;
    let record = a.table().get(&id(&b)).unwrap().node.record().cloned();
    assert_eq!(record, Some(b.local_record()));
    assert!(record.unwrap().snap());
    assert_eq!(b.remove_entry(b"snap").await, Ok(true));
    assert_eq!(b.remove_entry(b"snap").await, Ok(false));
    assert!(!b.local_record().snap());
    assert_eq!(b.local_record().seq(), seq + 3);
}

#[tokio::test]
async fn a_restarted_discv5_node_keeps_its_number_and_finds_its_way_back() {
    let b = start(V5, vec![]).await;
    let (key, db) = (key(), NodeDb::memory().unwrap());
    let boot = vec![b.local_node()];
    let a = start_with(config(V5, boot), key.clone(), db.clone()).await;
    until_live(&a, &b).await;
    for n in 1..=3 {
        a.set_tcp_port(n).await.unwrap();
    }
    let seq = a.local_record().seq();
    within(a.shutdown()).await;
    assert_eq!(db.local_seq(&key.node_id()).unwrap(), Some(seq));

    let again = start_with(config(V5, vec![]), key, db).await;
    assert!(again.local_record().seq() > seq);
    until_live(&again, &b).await;
    within(again.shutdown()).await;
    within(b.shutdown()).await;
}

/// `false`, said aloud, where this machine has no IPv6; there it must not pass for a success where all tests have to run.
async fn has_ipv6() -> bool {
    let bound = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).await;
    if let Err(error) = &bound {
        assert!(std::env::var_os("CI").is_none(), "no IPv6: {error}");
        println!("skipped: this machine has no IPv6 ({error})");
    }
    bound.is_ok()
}

#[tokio::test]
async fn a_node_with_two_sockets_is_reached_over_both() {
    if !has_ipv6().await {
        return;
    }
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    for protocols in [V4, V5, BOTH] {
        let dual = config(protocols, vec![]).listen_v6(six);
        let dual = start_with(dual, key(), NodeDb::memory().unwrap()).await;
        let record = dual.local_record();
        assert_eq!(record.ip4(), Some(Ipv4Addr::LOCALHOST));
        assert_eq!(record.ip6(), Some(Ipv6Addr::LOCALHOST));
        let boot = || vec![dual.local_node()];
        let over4 = start(protocols, boot()).await;
        // What it knows of the other's address is IPv4; it takes the other one from the record.
        let over6 = config(protocols, boot()).listen(six);
        let over6 = start_with(over6, key(), NodeDb::memory().unwrap()).await;
        assert!(over6.local_record().ip4().is_none());
        for node in [&over4, &over6] {
            let node_id = id(node);
            let family = node.local_addr().is_ipv6();
            until(&dual, |table| {
                table
                    .get(&node_id)
                    .is_some_and(|entry| entry.live && entry.node.endpoint().ip.is_ipv6() == family)
            })
            .await;
        }
        // What is typed by hand may name an address that cannot be reached beside one that can.
        within(over6.ping(dual.local_node())).await.unwrap();
        let pong = within(dual.ping(over6.local_node())).await.unwrap();
        assert_eq!(pong.seen_as, dual.local_addr_v6());
    }
}

#[tokio::test]
async fn ipv4_in_the_form_of_ipv6_is_listened_on_as_ipv4() {
    let mapped = "[::ffff:127.0.0.1]:0".parse().unwrap();
    let node = config(BOTH, vec![]).listen(mapped);
    let node = start_with(node, key(), NodeDb::memory().unwrap()).await;
    assert_eq!(node.local_addr().ip(), Ipv4Addr::LOCALHOST);
    assert_eq!(node.local_record().ip4(), Some(Ipv4Addr::LOCALHOST));
    let other = start(BOTH, vec![node.local_node()]).await;
    until_live(&other, &node).await;
}

/// A time server that is an hour ahead. Ends when it is dropped.
async fn time_server() -> (SocketAddr, tokio::task::JoinSet<()>) {
    /// SNTP counts from 1900.
    const TO_1900: u64 = 2_208_988_800;
    const HOUR: u64 = 3600;
    let socket = UdpSocket::bind(loopback()).await.unwrap();
    let address = socket.local_addr().unwrap();
    let mut task = tokio::task::JoinSet::new();
    task.spawn(async move {
        let mut request = [0; 48];
        loop {
            let (_, from) = socket.recv_from(&mut request).await.unwrap();
            let now = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap();
            let time = ((now.as_secs() + TO_1900 + HOUR) << 32).to_be_bytes();
            // No leap second, version 4, server; stratum 2.
            let mut reply = [0_u8; 48];
            (reply[0], reply[1]) = (0b00_100_100, 2);
            reply[24..32].copy_from_slice(&request[40..48]);
            reply[32..40].copy_from_slice(&time);
            reply[40..48].copy_from_slice(&time);
            socket.send_to(&reply, from).await.unwrap();
        }
    });
    (address, task)
}

#[tokio::test]
async fn many_expired_packets_have_the_clock_checked() {
    use tercet_discovery::v4::codec;
    use tercet_discovery::v4::{Message, Ping, WireEndpoint};

    let (server, _running) = time_server().await;
    let config = config(BOTH, vec![]).ntp_server(server.to_string());
    let node = start_with(config, key(), NodeDb::memory().unwrap()).await;
    let stranger = UdpSocket::bind(loopback()).await.unwrap();
    for _ in 0..=SUSPICIOUS {
        let ping = Message::Ping(Ping {
            from: WireEndpoint::default(),
            to: WireEndpoint::default(),
            expiration: 1,
            enr_seq: None,
        });
        let (datagram, _) = codec::encode(&key(), &ping);
        stranger
            .send_to(&datagram, node.local_addr())
            .await
            .unwrap();
    }
    let mut metrics = node.metrics_watch();
    let checked = metrics.wait_for(|metrics| metrics.clock_checks == 1);
    let drift = within(checked).await.unwrap().clock_drift_millis.unwrap();
    // Within minutes, however slow this machine is.
    let minutes = drift / 60_000;
    assert!((55..=65).contains(&minutes), "{drift} ms");
}
