//! discv4 packets and the machines behind them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tercet_discovery::v4::{MAX_CONTACTS, Message, codec};
use tercet_discovery::{
    ALPHA, BUCKET_SIZE, BUCKETS, Command, CoreConfig, CoreInput, CoreOutput, DiscoveryCore,
    Fallback, Lookup, MAX_PLACES, MAX_QUERIES, MAX_REPLACEMENTS, OpId, Proof, Protocol, Protocols,
    RevalidationConfig, Table, Target,
};
use tercet_enode::{Endpoint, Node, NodeId, NodeRecord, SecretKey, keccak256};
use tercet_machine::{Machine, MachineRng, MonoTime, Now, UnixTime};

use crate::input::{Script, keys};

/// Nothing one input makes a core put out may be more than this: a lookup's
/// queries, a table's checks and one answer are far fewer.
const MAX_OUTPUTS: usize = 2_000;

/// A datagram.
pub fn discv4_packet(data: &[u8]) -> bool {
    let Ok(packet) = codec::decode(data) else {
        return false;
    };
    assert!(data.len() <= codec::MAX_PACKET);
    encodes_again(&packet.message);
    true
}

/// A datagram whose hash and signature are right: type byte and fields.
pub fn discv4_message(data: &[u8]) -> bool {
    let Ok(packet) = codec::decode(&seal(data)) else {
        return false;
    };
    assert_eq!(packet.key, keys()[0].public_key());
    encodes_again(&packet.message);
    true
}

fn seal(data: &[u8]) -> Vec<u8> {
    let mut signed = keys()[0]
        .sign_recoverable(&keccak256(data))
        .as_bytes()
        .to_vec();
    signed.extend(data);
    let mut packet = keccak256(&signed).to_vec();
    packet.extend(signed);
    packet
}

fn encodes_again(message: &Message) {
    let (packet, hash) = codec::encode(&keys()[0], message);
    if packet.len() > codec::MAX_PACKET {
        // Short forms that a sender may use and we do not, such as one-byte ports
        // in a list that fills the packet.
        return;
    }
    let again = codec::decode(&packet).unwrap();
    assert_eq!((&again.message, again.hash), (message, hash));
}

fn node(script: &mut Script<'_>) -> Node {
    let key = &keys()[usize::from(script.byte())];
    // Few networks, so that the limits by network are reached.
    let ip = match script.below(4) {
        0 => IpAddr::from([127, 0, 0, script.byte()]),
        1 => IpAddr::from([203, 0, 114, script.byte()]),
        2 => IpAddr::from([
            0x20,
            1,
            2,
            0,
            0,
            0,
            0,
            script.byte() & 3,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            1,
        ]),
        _ => IpAddr::from([8, script.byte(), 8, 8]),
    };
    let endpoint = Endpoint::new(ip, 30_303, 30_303);
    if script.byte() & 1 == 0 {
        return Node::new(key.public_key(), endpoint);
    }
    let record = NodeRecord::builder()
        .seq(u64::from(script.byte()))
        .ip(ip)
        .udp(endpoint.udp)
        .sign(key);
    Node::from_record(record.unwrap()).unwrap_or_else(|| Node::new(key.public_key(), endpoint))
}

fn protocol(script: &mut Script<'_>) -> Protocol {
    [Protocol::V4, Protocol::V5][script.below(2)]
}

/// Operations on the table.
pub fn kademlia_table(data: &[u8]) -> bool {
    let local = keys()[0].node_id();
    let mut script = Script::new(data);
    let rng = MachineRng::from_seed([script.byte(); 32]);
    let mut table = Table::new(local, RevalidationConfig::default(), rng);
    let mut now = MonoTime::ZERO;
    while !script.is_empty() {
        match script.below(7) {
            choice @ 0..=3 => {
                let proof = [
                    Proof::Hearsay,
                    Proof::Contact,
                    Proof::Answer(protocol(&mut script)),
                ][choice % 3];
                let node = node(&mut script);
                if choice == 3 {
                    table.add_waiting(now, node, proof);
                } else {
                    table.add(now, node, proof);
                }
            }
            4 => {
                table.remove(now, &node(&mut script).id());
            }
            5 => {
                now = now + Duration::from_millis(u64::from(script.byte()) * 40);
                let mut checks = 0;
                while let Some(node) = table.next_check(now) {
                    checks += 1;
                    assert!(checks <= 2, "one check a list");
                    match script.below(3) {
                        0 => {
                            let fallback = Fallback {
                                protocols: [Protocols::V4, Protocols::ALL][script.below(2)],
                                endpoint: (script.below(2) == 0)
                                    .then(|| Endpoint::new([9, 9, 9, script.byte()].into(), 1, 1)),
                            };
                            table.on_check_failed(now, &node.id(), protocol(&mut script), fallback);
                        }
                        1 => table.on_check_skipped(now, &node.id()),
                        _ => drop(table.add(now, node, Proof::Answer(protocol(&mut script)))),
                    }
                }
                assert!(table.deadline().is_none_or(|at| at > now));
            }
            _ => table.fill(now),
        }
        check_table(&table, &local);
    }
    !table.is_empty()
}

fn check_table(table: &Table, local: &NodeId) {
    let snapshot = table.snapshot();
    assert!(snapshot.buckets.len() <= BUCKETS);
    let mut ids: Vec<_> = Vec::new();
    for bucket in &snapshot.buckets {
        assert!(bucket.entries.len() <= BUCKET_SIZE);
        assert!(bucket.replacements.len() <= MAX_REPLACEMENTS);
        ids.extend(bucket.entries.iter().map(|entry| entry.node.id()));
        ids.extend(bucket.replacements.iter().map(Node::id));
    }
    assert!(!ids.contains(local), "never itself");
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "no node twice");
    let closest = table.closest(local, BUCKET_SIZE, |_, _| true);
    assert!(closest.is_sorted_by(|a, b| local.cmp_distance(&a.id(), &b.id()).is_lt()));
    assert_eq!(closest.len(), table.len().min(BUCKET_SIZE));
}

/// A lookup among nodes that answer anything, or nothing.
pub fn lookup(data: &[u8]) -> bool {
    let mut script = Script::new(data);
    let local = keys()[0].node_id();
    let target = NodeId::new(keccak256(&[script.byte()]));
    let start: Vec<_> = (0..script.below(20)).map(|_| node(&mut script)).collect();
    let mut lookup = Lookup::new(local, target, start);
    let mut asked: Vec<(NodeId, SocketAddr)> = Vec::new();
    let mut answered: Vec<NodeId> = Vec::new();
    let mut flying: Vec<NodeId> = Vec::new();
    while !lookup.is_done() {
        while let Some(node) = lookup.next_query() {
            let id = node.id();
            assert_ne!(id, local);
            assert!(!flying.contains(&id), "nobody is asked twice at a time");
            assert!(!answered.contains(&id), "nobody is asked who answered");
            let place = SocketAddr::new(node.endpoint().ip, node.endpoint().udp);
            assert!(!asked.contains(&(id, place)), "nor twice at one place");
            asked.push((id, place));
            let places = asked.iter().filter(|(other, _)| *other == id);
            assert!(places.count() <= MAX_PLACES);
            flying.push(id);
        }
        assert_eq!(lookup.in_flight(), flying.len());
        assert!(!flying.is_empty() && flying.len() <= ALPHA);
        let id = flying.swap_remove(script.below(flying.len()));
        if script.byte() & 3 == 0 {
            lookup.on_failure(&id);
        } else {
            let heard: Vec<_> = (0..script.below(17)).map(|_| node(&mut script)).collect();
            // From somebody in particular or not.
            match heard.len() % 2 {
                0 => lookup.learn(heard),
                _ => lookup.learn_from(&id, heard),
            }
            lookup.on_answer(&id);
            answered.push(id);
        }
    }
    assert!(asked.len() <= MAX_QUERIES);
    let closest: Vec<_> = lookup.closest().map(Node::id).collect();
    assert!(closest.len() <= BUCKET_SIZE);
    assert!(closest.iter().all(|id| answered.contains(id)));
    assert!(closest.is_sorted_by(|a, b| target.cmp_distance(a, b).is_lt()));
    !closest.is_empty()
}

/// A conversation with the discv4 machine: packets of any content in any order,
/// true and false replies, time that passes.
pub fn discv4_session(data: &[u8]) -> bool {
    let own = &keys()[0];
    let record = NodeRecord::builder()
        .ip([127, 0, 0, 1].into())
        .udp(30_303)
        .sign(own);
    let mut now = Now {
        mono: MonoTime::ZERO,
        unix: UnixTime::from_secs(1_700_000_000),
    };
    let mut core = DiscoveryCore::new(CoreConfig::new([3; 32]), record.unwrap(), now);
    let mut script = Script::new(data);
    let mut sent: Vec<(SocketAddr, Message, codec::Packet)> = Vec::new();
    let mut operations = 0;
    while !script.is_empty() {
        match script.below(8) {
            0..=3 => {
                let len = 1 + script.below(160);
                arrive(&mut core, now, &mut script, len);
            }
            // A true answer: the last message sent comes back as its reply would.
            4 | 5 => {
                if let Some((to, message, packet)) = sent.pop() {
                    reply(&mut core, now, to, &message, &packet, &mut script);
                }
            }
            6 => {
                now = now.after(Duration::from_millis(u64::from(script.byte()) * 20));
                core.handle_timeout(now);
                assert!(core.deadline().is_none_or(|at| at > now.mono));
            }
            _ => {
                operations += 1;
                let command = match script.below(4) {
                    0 => Command::Ping(node(&mut script), None),
                    1 => Command::RequestEnr(node(&mut script), None),
                    2 => Command::Lookup(Target::new([script.byte(); 64])),
                    _ => Command::Resolve(node(&mut script)),
                };
                let op = OpId(operations);
                core.handle(now, CoreInput::Command { op, command });
            }
        }
        drain(&mut core, now, own, &mut sent);
        assert!(core.contacts() <= MAX_CONTACTS);
        assert!(core.table().len() <= BUCKETS * BUCKET_SIZE);
    }
    !core.table().is_empty()
}

fn source(script: &mut Script<'_>) -> (&'static SecretKey, SocketAddr) {
    let who = script.below(4);
    let ip = IpAddr::from([127, 0, 0, u8::try_from(1 + who).unwrap()]);
    (&keys()[who], SocketAddr::new(ip, 30_303))
}

fn arrive(core: &mut DiscoveryCore, now: Now, script: &mut Script<'_>, len: usize) {
    let (key, from) = source(script);
    let Ok(packet) = codec::decode(&seal(script.take(len))) else {
        return;
    };
    let (key, hash, message) = (key.public_key(), packet.hash, packet.message);
    core.handle(
        now,
        CoreInput::V4Packet {
            from,
            key,
            hash,
            message,
        },
    );
}

fn reply(
    core: &mut DiscoveryCore,
    now: Now,
    from: SocketAddr,
    message: &Message,
    packet: &codec::Packet,
    script: &mut Script<'_>,
) {
    let key = keys()[script.below(256)].public_key();
    let expiration = now.unix.as_secs() + 20;
    let answer = match message {
        Message::Ping(ping) => Message::Pong(tercet_discovery::v4::Pong {
            to: ping.to,
            ping_hash: packet.hash,
            expiration,
            enr_seq: Some(u64::from(script.byte())),
        }),
        Message::FindNode(_) => {
            let nodes: Vec<_> = (0..script.below(13))
                .map(|_| (&node(script)).into())
                .collect();
            Message::Neighbors(tercet_discovery::v4::Neighbors { nodes, expiration })
        }
        other => other.clone(),
    };
    let hash = packet.hash;
    core.handle(
        now,
        CoreInput::V4Packet {
            from,
            key,
            hash,
            message: answer,
        },
    );
}

fn drain(
    core: &mut DiscoveryCore,
    now: Now,
    own: &SecretKey,
    sent: &mut Vec<(SocketAddr, Message, codec::Packet)>,
) {
    let mut outputs = 0;
    while let Some(output) = core.poll() {
        outputs += 1;
        assert!(outputs <= MAX_OUTPUTS);
        match output {
            CoreOutput::V4Send { to, message, token } => {
                let (bytes, hash) = codec::encode(own, &message);
                assert!(bytes.len() <= codec::MAX_PACKET);
                if let Some(token) = token {
                    core.handle(now, CoreInput::V4Sent { token, hash });
                }
                let key = own.public_key();
                let packet = codec::Packet {
                    key,
                    hash,
                    message: message.clone(),
                };
                sent.push((to, message, packet));
                sent.truncate(64);
            }
            CoreOutput::LoadSeeds { .. } => core.handle(now, CoreInput::Seeds(Vec::new())),
            _ => {}
        }
    }
}
