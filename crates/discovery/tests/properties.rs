//! Properties: messages survive the way out and back, decoders take any bytes, the table keeps its bounds under any sequence of
//! operations, lookups end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a test fails by panicking

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tercet_discovery::v4::codec::{MAX_PACKET, decode, encode};
use tercet_discovery::v4::{
    EnrRequest, EnrResponse, FindNode, MAX_NEIGHBORS_PER_PACKET, Message, Neighbor, Neighbors,
    PacketHash, Ping, Pong, WireEndpoint, WireTarget,
};
use tercet_discovery::{
    ALPHA, BUCKET_LIMITS, BUCKET_SIZE, BUCKETS, CheckFailed, Fallback, Lookup, MAX_CANDIDATES,
    MAX_QUERIES, MAX_REPLACEMENTS, Proof, Protocol, Protocols, RevalidationConfig, Standing,
    TABLE_LIMITS, Table, TableSnapshot,
};
use tercet_enode::{AddressClass, Endpoint, Node, NodeId, NodeRecord, PublicKey, SecretKey};
use tercet_machine::{MachineRng, MonoTime, Subnet};

/// Keys to choose from: making them is what takes time.
static KEYS: LazyLock<Vec<SecretKey>> = LazyLock::new(|| {
    let mut rng = MachineRng::from_seed([7; 32]);
    (0..1200).map(|_| SecretKey::generate(&mut rng)).collect()
});

fn public(n: usize) -> PublicKey {
    KEYS[n % KEYS.len()].public_key()
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| IpAddr::V4(Ipv4Addr::from(ip))),
        any::<[u8; 16]>().prop_map(|ip| tercet_enode::canonical_ip(IpAddr::V6(Ipv6Addr::from(ip)))),
    ]
}

fn wire() -> impl Strategy<Value = WireEndpoint> {
    (ip(), any::<u16>(), any::<u16>()).prop_map(|(ip, udp, tcp)| WireEndpoint::new(ip, udp, tcp))
}

fn packet_hash() -> impl Strategy<Value = PacketHash> {
    any::<[u8; 32]>().prop_map(PacketHash::new)
}

fn neighbor() -> impl Strategy<Value = Neighbor> {
    (any::<usize>(), ip(), any::<u16>(), any::<u16>()).prop_map(|(key, ip, udp, tcp)| Neighbor {
        key: public(key),
        endpoint: Endpoint::new(ip, udp, tcp),
    })
}

fn message() -> impl Strategy<Value = Message> {
    let seq = || proptest::option::of(any::<u64>());
    prop_oneof![
        (wire(), wire(), any::<u64>(), seq()).prop_map(|(from, to, expiration, enr_seq)| {
            Message::Ping(Ping {
                from,
                to,
                expiration,
                enr_seq,
            })
        }),
        (wire(), packet_hash(), any::<u64>(), seq()).prop_map(
            |(to, ping_hash, expiration, enr_seq)| {
                Message::Pong(Pong {
                    to,
                    ping_hash,
                    expiration,
                    enr_seq,
                })
            }
        ),
        (vec(any::<u8>(), 64), any::<u64>()).prop_map(|(target, expiration)| {
            Message::FindNode(FindNode {
                target: WireTarget::new(target.try_into().unwrap()),
                expiration,
            })
        }),
        (vec(neighbor(), 0..=MAX_NEIGHBORS_PER_PACKET), any::<u64>())
            .prop_map(|(nodes, expiration)| Message::Neighbors(Neighbors { nodes, expiration })),
        any::<u64>().prop_map(|expiration| Message::EnrRequest(EnrRequest { expiration })),
        (packet_hash(), any::<u64>(), any::<u16>(), any::<usize>()).prop_map(
            |(request_hash, seq, udp, key)| {
                let record = NodeRecord::builder()
                    .seq(seq)
                    .ip([10, 0, 0, 1].into())
                    .udp(udp);
                let record = record.sign(&KEYS[key % KEYS.len()]).unwrap();
                Message::EnrResponse(EnrResponse {
                    request_hash,
                    record,
                })
            }
        ),
    ]
}

proptest! {
    #[test]
    fn messages_survive_the_way_out_and_back(message in message(), key in any::<usize>(), junk in vec(any::<u8>(), 0..20)) {
        let key = &KEYS[key % KEYS.len()];
        let (datagram, hash) = encode(key, &message);
        prop_assert!(datagram.len() <= MAX_PACKET);
        let packet = decode(&datagram).unwrap();
        prop_assert_eq!(&packet.message, &message);
        prop_assert_eq!((packet.key, packet.hash), (key.public_key(), hash));
        // Bytes behind the packet are covered by hash and signature, so they cannot be added on the way.
        let mut longer = datagram.to_vec();
        longer.extend_from_slice(&junk);
        prop_assert_eq!(decode(&longer).is_ok(), junk.is_empty());
    }

    #[test]
    fn any_body_behind_a_right_hash_is_decoded_or_refused(kind in 0u8..8, body in vec(any::<u8>(), 0..400), nested in any::<bool>()) {
        let mut signed = vec![0; 65];
        signed.push(kind);
        if nested {
            // A list header of the right length lets the decoder come farther.
            let mut stream = rlp::RlpStream::new_list(1);
            stream.append(&body);
            signed.extend_from_slice(&stream.out());
        } else {
            signed.extend_from_slice(&body);
        }
        let mut datagram = tercet_enode::keccak256(&signed).to_vec();
        datagram.extend_from_slice(&signed);
        let _decoded_or_refused = decode(&datagram);
    }

    #[test]
    fn neighbours_are_spread_over_packets_that_fit(count in 0usize..40) {
        let nodes: Vec<Neighbor> =
            (0..count).map(|n| Neighbor { key: public(n), endpoint: Endpoint::new(Ipv6Addr::LOCALHOST.into(), 60000, 60000) }).collect();
        let packets: Vec<Neighbors> = Neighbors::split(&nodes, u64::from(u32::MAX)).collect();
        prop_assert!(!packets.is_empty());
        for packet in &packets {
            prop_assert!(encode(&KEYS[0], &Message::Neighbors(packet.clone())).0.len() <= MAX_PACKET);
        }
        prop_assert_eq!(packets.into_iter().flat_map(|packet| packet.nodes).collect::<Vec<_>>(), nodes);
    }
}

/// Something that happens to a table.
#[derive(Clone, Debug)]
enum Op {
    Add(usize, u8, Proof),
    AddWaiting(usize, u8),
    Fill,
    Remove(usize),
    CheckFailed(usize, Protocol, bool),
    CheckSkipped(usize),
    Wait(u16),
    Save,
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::V4), Just(Protocol::V5)]
}

/// A protocol over which a node never answered costs it nothing over which it does.
fn check_standing(
    table: &Table,
    id: &NodeId,
    protocol: Protocol,
    before: Option<Standing>,
    failed: CheckFailed,
) {
    let after = table.standing(id);
    let Some(before) = before else {
        assert_eq!((failed, after), (CheckFailed::Gone, None));
        return;
    };
    assert_eq!(failed == CheckFailed::Gone, after.is_none());
    let others = before.live.without(protocol);
    if !others.is_empty() {
        let after = after.expect("alive over another protocol");
        assert!(others.but(after.live).is_empty());
        if !before.live.contains(protocol) {
            assert_eq!((after.live, after.checks), (before.live, before.checks));
            assert!(after.silent.contains(protocol));
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    let proof = prop_oneof![
        Just(Proof::Hearsay),
        Just(Proof::Contact),
        Just(Proof::Answer(Protocol::V4)),
        Just(Proof::Answer(Protocol::V5))
    ];
    let node = || 0usize..1200;
    prop_oneof![
        20 => (node(), any::<u8>(), proof).prop_map(|(node, place, proof)| Op::Add(node, place, proof)),
        3 => (node(), any::<u8>()).prop_map(|(node, place)| Op::AddWaiting(node, place)),
        1 => Just(Op::Fill),
        3 => node().prop_map(Op::Remove),
        4 => (node(), protocol(), any::<bool>()).prop_map(|(node, protocol, all)| Op::CheckFailed(node, protocol, all)),
        1 => node().prop_map(Op::CheckSkipped),
        2 => any::<u16>().prop_map(Op::Wait),
        1 => Just(Op::Save),
    ]
}

/// Few networks, so that limits are met; LAN and both families among them.
fn place(node: usize, place: u8) -> Node {
    let host = node.to_be_bytes();
    let (a, b) = (host[6], host[7]);
    let ip: IpAddr = match place % 8 {
        0 => [10, 1, a, b].into(),
        1 => [20, 1, place, b].into(),
        2 => [
            0x2a00,
            0,
            place.into(),
            u16::from(b) % 3,
            0,
            0,
            0,
            u16::from(a),
        ]
        .into(),
        _ => [30 + place % 60, a, b, 1].into(),
    };
    Node::new(public(node), Endpoint::new(ip, 30303, 30303))
}

fn check_bounds(local: &NodeId, table: &TableSnapshot) {
    assert_eq!(table.buckets.len(), BUCKETS);
    let mut ids = BTreeSet::new();
    let mut in_table = BTreeMap::<Subnet, usize>::new();
    for (at, bucket) in table.buckets.iter().enumerate() {
        assert!(
            bucket.entries.len() <= BUCKET_SIZE && bucket.replacements.len() <= MAX_REPLACEMENTS
        );
        let mut in_bucket = BTreeMap::<Subnet, usize>::new();
        for node in bucket
            .entries
            .iter()
            .map(|entry| &entry.node)
            .chain(&bucket.replacements)
        {
            let distance = usize::from(local.log_distance(&node.id()));
            assert!(distance > 0, "holds itself");
            assert_eq!(at, distance.saturating_sub(240), "in the wrong bucket");
            assert!(ids.insert(node.id()), "holds a node twice");
            let ip = node.endpoint().ip;
            if !AddressClass::of(ip).is_lan() {
                for net in BTreeSet::from([Subnet::of(ip), Subnet::wide(ip)]) {
                    *in_bucket.entry(net).or_default() += 1;
                    *in_table.entry(net).or_default() += 1;
                }
            }
        }
        assert_within(&in_bucket, BUCKET_LIMITS);
    }
    assert_within(&in_table, TABLE_LIMITS);
}

fn assert_within(counts: &BTreeMap<Subnet, usize>, limits: tercet_discovery::SubnetLimits) {
    for (net, count) in counts {
        let limit = match net {
            Subnet::V4(_) => limits.v4,
            Subnet::V6(_) => limits.v6_narrow,
            Subnet::V6Wide(_) => limits.v6_wide,
        };
        assert!(*count <= limit, "{count} nodes in {net}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_table_keeps_its_bounds_whatever_happens(ops in vec(op(), 1..600)) {
        // The table's own node is one of those offered.
        let local = public(0).node_id();
        let mut table = Table::new(local, RevalidationConfig::default(), MachineRng::from_seed([1; 32]));
        let mut now = MonoTime::ZERO;
        let mut copied = table.snapshot();
        for op in ops {
            let before = table.version();
            match op {
                Op::Add(n, at, proof) => { table.add(now, place(n, at), proof); }
                Op::AddWaiting(n, at) => { table.add_waiting(now, place(n, at), Proof::Answer(Protocol::V4)); }
                Op::Fill => table.fill(now),
                Op::Remove(n) => { table.remove(now, &public(n).node_id()); }
                Op::CheckFailed(n, protocol, all) => {
                    let other = Endpoint::new([0x2a00, 0, 0, n as u16 % 3, 0, 0, 0, 9].into(), 30303, 0);
                    let fallback = Fallback {
                        protocols: if all { Protocols::ALL } else { protocol.into() },
                        endpoint: all.then_some(other),
                    };
                    let before = table.standing(&public(n).node_id());
                    let failed = table.on_check_failed(now, &public(n).node_id(), protocol, fallback);
                    check_standing(&table, &public(n).node_id(), protocol, before, failed);
                }
                Op::CheckSkipped(n) => table.on_check_skipped(now, &public(n).node_id()),
                Op::Wait(millis) => {
                    now = now + Duration::from_millis(millis.into());
                    while let Some(node) = table.next_check(now) {
                        prop_assert_eq!(table.get(&node.id()), Some(&node));
                    }
                    prop_assert!(table.deadline().is_none_or(|at| at > now));
                }
                Op::Save => { table.take_settled(now, Duration::from_secs(60)); }
            }
            prop_assert!(table.version() >= before);
            copied = table.snapshot_after(&copied);
        }
        let snapshot = table.snapshot();
        prop_assert_eq!(format!("{copied:?}"), format!("{snapshot:?}"));
        check_bounds(&local, &snapshot);
        prop_assert_eq!((snapshot.len(), snapshot.live_len()), (table.len(), table.live_len()));
        let target = NodeId::new([9; 32]);
        let closest = table.closest(&target, BUCKET_SIZE, |_, _| true);
        let mut all: Vec<Node> = snapshot.entries().map(|entry| entry.node.clone()).collect();
        all.sort_by(|a, b| target.cmp_distance(&a.id(), &b.id()));
        all.truncate(BUCKET_SIZE);
        prop_assert_eq!(closest, all.iter().collect::<Vec<_>>());
    }

    #[test]
    fn lookups_end_ask_nobody_twice_and_keep_three_in_flight(
        start in vec(0usize..1200, 0..20),
        // How each query ends, and after how many others: 0 fails, else that many nodes are named.
        ends in vec((0usize..20, any::<usize>()), 1..60),
        target in any::<[u8; 32]>(),
    ) {
        let local = public(0).node_id();
        let node = |n: usize| place(n, 3);
        let mut lookup = Lookup::new(local, NodeId::new(target), start.iter().map(|n| node(*n)));
        let (mut asked, mut flying, mut turn) = (BTreeSet::new(), Vec::new(), 0);
        while !lookup.is_done() {
            while let Some(node) = lookup.next_query() {
                prop_assert!(asked.insert(node.id()), "asked twice");
                prop_assert_ne!(node.id(), local);
                flying.push(node.id());
            }
            prop_assert!(lookup.in_flight() <= ALPHA);
            prop_assert_eq!(lookup.in_flight(), flying.len());
            prop_assert!(!flying.is_empty(), "not done and nothing to wait for");
            let (named, salt) = ends[turn % ends.len()];
            turn += 1;
            let id = flying.remove(salt % flying.len());
            if named == 0 {
                lookup.on_failure(&id);
            } else {
                lookup.learn((0..named).map(|n| node(salt.wrapping_add(n * turn) % 1200)));
                lookup.on_answer(&id);
            }
            prop_assert!(lookup.seen().count() <= MAX_CANDIDATES);
        }
        prop_assert!(asked.len() <= MAX_QUERIES);
        let closest: Vec<NodeId> = lookup.closest().map(Node::id).collect();
        prop_assert!(closest.len() <= BUCKET_SIZE);
        prop_assert!(closest.windows(2).all(|pair| NodeId::new(target).cmp_distance(&pair[0], &pair[1]).is_lt()));
    }
}

#[test]
fn a_network_that_invents_ever_closer_nodes_is_asked_a_bounded_number_of_questions() {
    let target = NodeId::new([0; 32]);
    let mut order: Vec<Node> = (0..KEYS.len()).map(|n| place(n, 3)).collect();
    order.sort_by(|a, b| target.cmp_distance(&b.id(), &a.id()));
    let mut rest = order.into_iter();
    let mut lookup = Lookup::new(NodeId::new([1; 32]), target, rest.by_ref().take(1));
    let mut asked = 0;
    while !lookup.is_done() {
        let node = lookup.next_query().expect("one closer than all before");
        asked += 1;
        lookup.learn(rest.by_ref().take(1));
        lookup.on_answer(&node.id());
    }
    assert_eq!(asked, MAX_QUERIES);
}

#[test]
fn bounds_are_reached() {
    let local = public(0).node_id();
    let mut table = Table::new(
        local,
        RevalidationConfig::default(),
        MachineRng::from_seed([1; 32]),
    );
    for n in 1..KEYS.len() {
        // Loopback: no limit by network stands in the way.
        table.add(
            MonoTime::ZERO,
            Node::new(
                public(n),
                Endpoint::new(Ipv4Addr::LOCALHOST.into(), 30303, 0),
            ),
            Proof::Answer(Protocol::V4),
        );
    }
    let snapshot = table.snapshot();
    let far = &snapshot.buckets[BUCKETS - 1];
    assert_eq!(
        (far.entries.len(), far.replacements.len()),
        (BUCKET_SIZE, MAX_REPLACEMENTS)
    );
    let seen: Vec<Node> = (0..KEYS.len()).map(|n| place(n, 3)).collect();
    let mut lookup = Lookup::new(NodeId::new([1; 32]), NodeId::new([0; 32]), seen);
    assert_eq!(lookup.seen().count(), MAX_CANDIDATES);
    let in_flight = std::iter::from_fn(|| lookup.next_query()).count();
    assert_eq!(in_flight, ALPHA);
}
