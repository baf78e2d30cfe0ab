//! What strangers can make this node hold, at its bounds: the table, sessions, challenges, waiting requests. Counted by the
//! allocator, so that the figures are exact and the same everywhere; the system's own share (8 to 16 bytes for each piece with
//! glibc) comes on top.
//!
//! One test, alone in its program, because all allocations of the process are counted. Run it with `--nocapture` to see the
//! figures.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a test fails by panicking

use std::alloc::System;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tercet_discovery::v5::packet::{Draft, Kind, Mask};
use tercet_discovery::v5::{
    CHALLENGE_LIFETIME, DEFAULT_SESSIONS, Distances, MAX_CHALLENGES, MAX_MESSAGE, MAX_QUEUED,
    MAX_REQUESTS, Message, Nonce, REQUEST_LIFETIME, Request, RequestId, SessionInput,
    SessionOutput, Sessions, SessionsConfig, V5Peer,
};
use tercet_discovery::{
    BUCKET_SIZE, BUCKETS, Command, CoreConfig, CoreInput, CoreOutput, DiscoveryCore, FindTarget,
    MAX_REPLACEMENTS, NodeStack, OpId, Proof, Protocol, Protocols, RevalidationConfig, StackConfig,
    StackInput, StackOutput, Table, v4,
};
use tercet_enode::{Node, NodeId, NodeRecord, SecretKey};
use tercet_machine::{Machine, MachineRng, MonoTime, Now, UnixTime};

#[global_allocator]
static ALLOCATED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const START: Now = Now {
    mono: MonoTime::ZERO,
    unix: UnixTime::from_secs(1_700_000_000),
};

/// Bytes that are held now.
fn held() -> usize {
    let stats = ALLOCATED.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Prints what has been added since `before` for `count` things and checks each against its bound, in bytes.
fn weigh(what: &str, before: usize, count: usize, bound: usize) {
    let bytes = held().saturating_sub(before);
    let each = bytes / count;
    println!(
        "{what:<44} {count:>6} x {each:>5} B = {:>7.1} KiB",
        bytes as f64 / 1024.0
    );
    assert!(
        each <= bound,
        "{what}: {each} bytes each, said to be {bound} at most"
    );
}

fn key(n: u32) -> SecretKey {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    SecretKey::from_bytes(&bytes).unwrap()
}

/// A /24 of its own for each, in networks no limit exempts.
fn addr(n: u32) -> SocketAddr {
    let [_, a, b, c] = n.to_be_bytes();
    SocketAddr::new(Ipv4Addr::new(20 + a, b, c, 7).into(), 30_303)
}

/// As large as a record may be, 300 bytes.
fn record(key: &SecretKey, ip: IpAddr) -> NodeRecord {
    let build = |filler: usize| {
        NodeRecord::builder()
            .seq(1)
            .ip(ip)
            .udp(30_303)
            .tcp(30_303)
            .insert_raw(b"zz", &rlp::encode(&vec![0x99_u8; filler]))
            .sign(key)
    };
    // Nearly there, so that all length headers have their final size.
    let room = 300 - build(130).unwrap().raw().len();
    let record = build(130 + room).unwrap();
    assert_eq!(record.raw().len(), 300);
    record
}

fn machine(n: u32) -> Sessions {
    let (key, mut seed) = (key(n), [9; 32]);
    seed[..4].copy_from_slice(&n.to_be_bytes());
    let record = record(&key, addr(n).ip());
    Sessions::new(SessionsConfig::new(seed), key, record)
}

fn ping() -> Message {
    let id = RequestId::new(&[1; 8]).unwrap();
    Message::Request(id, Request::Ping { enr_seq: 1 })
}

/// Gives a machine a datagram, answers what it asks, and takes what it sends.
fn deliver(
    machine: &mut Sessions,
    now: Now,
    from: SocketAddr,
    datagram: &[u8],
    known: Option<&NodeRecord>,
) -> Option<Bytes> {
    let datagram = BytesMut::from(datagram);
    machine.handle(now, SessionInput::Datagram { from, datagram });
    let mut sent = None;
    while let Some(output) = machine.poll() {
        match output {
            SessionOutput::Unknown { from, id, nonce } => {
                let known = known.cloned();
                machine.handle(
                    now,
                    SessionInput::Challenge {
                        from,
                        id,
                        nonce,
                        known,
                    },
                );
            }
            SessionOutput::Send { datagram, .. } => sent = Some(datagram),
            SessionOutput::Message { .. } | SessionOutput::Established { .. } => {}
        }
    }
    sent
}

/// A handshake that stranger `n` begins.
fn shake_hands(machine: &mut Sessions, local: &SecretKey, now: Now, n: u32) {
    let mut stranger = self::machine(n);
    let to = SocketAddr::new([10, 0, 0, 1].into(), 30_303);
    let peer = V5Peer {
        id: local.node_id(),
        key: Some(local.public_key()),
    };
    stranger.handle(
        now,
        SessionInput::Send {
            to,
            peer,
            message: ping(),
        },
    );
    let Some(SessionOutput::Send {
        datagram: random, ..
    }) = stranger.poll()
    else {
        panic!("nothing sent");
    };
    let whoareyou = deliver(machine, now, addr(n), &random, None).unwrap();
    let handshake = deliver(&mut stranger, now, to, &whoareyou, None).unwrap();
    deliver(machine, now, addr(n), &handshake, None);
}

fn sessions() {
    let (local, mut machine) = (key(0), machine(0));
    let before = held();
    let count = DEFAULT_SESSIONS as u32;
    for n in 1..=count {
        shake_hands(&mut machine, &local, START, n);
    }
    assert_eq!(machine.len(), DEFAULT_SESSIONS);
    weigh("sessions", before, DEFAULT_SESSIONS, SESSION);
    for n in 1..=count {
        shake_hands(&mut machine, &local, START.after(CHALLENGE_LIFETIME), n);
    }
    assert_eq!(machine.counters().inbound, 2 * u64::from(count));
    weigh(
        "sessions, each with its former keys",
        before,
        DEFAULT_SESSIONS,
        SESSION + KEYS,
    );
    // Others in place of these.
    for n in count + 1..=count + 200 {
        shake_hands(&mut machine, &local, START.after(CHALLENGE_LIFETIME), n);
    }
    assert_eq!(machine.len(), DEFAULT_SESSIONS);
    weigh(
        "the same after 200 more handshakes",
        before,
        DEFAULT_SESSIONS,
        SESSION + KEYS,
    );
}

/// A packet nobody can read.
fn unreadable(to: &NodeId, n: u32) -> Bytes {
    let mut id = [0xee; 32];
    id[..4].copy_from_slice(&n.to_be_bytes());
    let (src, nonce) = (NodeId::new(id), Nonce::new([1; 12]));
    let mut draft = Draft::new(&[7; 16], nonce, &Kind::Ordinary { src });
    draft.message().extend_from_slice(&[1; 32]);
    draft.mask(&Mask::new(to))
}

fn challenges() {
    let (local, mut machine) = (key(0), machine(0));
    let id = local.node_id();
    let before = held();
    for n in 0..2 * MAX_CHALLENGES as u32 {
        deliver(&mut machine, START, addr(n), &unreadable(&id, n), None).unwrap();
    }
    assert_eq!(machine.challenges(), MAX_CHALLENGES);
    weigh(
        "challenges, after twice as many packets",
        before,
        MAX_CHALLENGES,
        CHALLENGE,
    );
    machine.handle_timeout(START.after(CHALLENGE_LIFETIME));
    assert_eq!(machine.challenges(), 0);
    weigh(
        "what is left of that a second later",
        before,
        MAX_CHALLENGES,
        GONE,
    );
}

fn requests() {
    let mut machine = machine(0);
    let before = held();
    // type, list header, id, protocol, payload header
    let payload = Bytes::from(vec![7; MAX_MESSAGE - (1 + 3 + 1 + 1 + 3)]);
    let id = RequestId::new(&[1]).unwrap();
    let protocol = Bytes::from_static(b"p");
    let message = Message::Request(id, Request::Talk { protocol, payload });
    let key = key(1);
    let peer = V5Peer {
        id: key.node_id(),
        key: Some(key.public_key()),
    };
    for n in 0..MAX_QUEUED as u32 {
        let (to, message) = (addr(n), message.clone());
        machine.handle(START, SessionInput::Send { to, peer, message });
        while machine.poll().is_some() {}
    }
    drop(message);
    assert_eq!(machine.queued(), MAX_QUEUED);
    weigh(
        "requests that wait, of the longest",
        before,
        MAX_QUEUED,
        WAITING,
    );
    machine.handle_timeout(START.after(REQUEST_LIFETIME));
    while machine.poll().is_some() {}
    assert_eq!(machine.queued(), 0);
    weigh(
        "what is left of that a second later",
        before,
        MAX_QUEUED,
        GONE,
    );
}

/// Buckets far from the node are filled; the nearest ones, of which each is half as likely as the one before, take keys nobody
/// has the time to make.
fn table() {
    let local = key(0).node_id();
    let mut table = Table::new(
        local,
        RevalidationConfig::default(),
        MachineRng::from_seed([1; 32]),
    );
    let before = held();
    let mut ids = BTreeMap::<u16, usize>::new();
    for n in 1..30_000 {
        let key = key(n);
        let seen = ids.entry(local.log_distance(&key.node_id())).or_default();
        *seen += 1;
        // So many of one bucket fill it; signatures take time.
        if *seen <= 4 * (BUCKET_SIZE + MAX_REPLACEMENTS) {
            let node = Node::from_record(record(&key, addr(n * 37).ip())).unwrap();
            table.add(MonoTime::ZERO, node, Proof::Answer(Protocol::V5));
        }
    }
    let snapshot = table.snapshot();
    let full = snapshot.buckets.iter().filter(|bucket| {
        bucket.entries.len() == BUCKET_SIZE && bucket.replacements.len() == MAX_REPLACEMENTS
    });
    let full = full.count();
    let nodes: usize = snapshot
        .buckets
        .iter()
        .map(|bucket| bucket.entries.len() + bucket.replacements.len())
        .sum();
    drop((snapshot, ids));
    assert!(full >= BUCKETS / 3, "{full} buckets");
    weigh(
        "nodes in the table, records of 300 bytes",
        before,
        nodes,
        NODE,
    );
    let most = BUCKETS * (BUCKET_SIZE + MAX_REPLACEMENTS);
    println!(
        "{:<44} {most:>6} x {NODE:>5} B = {:>7.1} KiB",
        "a table full to the last place, at most",
        (most * NODE) as f64 / 1024.0
    );
}

/// What this node itself asks over discv5 while nobody answers, with the records of whom it asks, and the ids gathered of the
/// longest possible answer.
fn questions() {
    let distances = Distances::new(0..=256);
    let table = FindTarget::Distances(distances);
    let ping: fn(Node, &FindTarget) -> Command = |node, _| Command::Ping(node, Some(Protocol::V5));
    let find: fn(Node, &FindTarget) -> Command =
        |node, table| Command::FindNode(node, table.clone());
    for (what, command, bound) in [
        ("pings over discv5 under way", ping, PING),
        ("questions for whole tables under way", find, QUESTION),
    ] {
        let local = record(&key(0), addr(0).ip());
        let mut config = CoreConfig::new([4; 32]);
        config.protocols = Protocols::V5;
        let mut core = DiscoveryCore::new(config, local, START);
        core.handle_timeout(START);
        core.handle(START, CoreInput::Seeds(Vec::new()));
        while core.poll().is_some() {}
        let before = held();
        for n in 1..=MAX_REQUESTS as u32 {
            let node = Node::from_record(record(&key(n), addr(n).ip())).unwrap();
            let (op, command) = (OpId(u64::from(n)), command(node, &table));
            core.handle(START, CoreInput::Command { op, command });
            let mut sent = 0;
            while let Some(output) = core.poll() {
                sent += usize::from(matches!(output, CoreOutput::V5Send { .. }));
            }
            assert_eq!(sent, 1, "{n}");
        }
        weigh(what, before, MAX_REQUESTS, bound);
    }
    let before = held();
    let ids: BTreeSet<NodeId> = (0..256).map(|n| key(n + 1).node_id()).collect();
    weigh("ids gathered of one long answer", before, 1, GATHERED);
    drop(ids);
}

/// Takes what a stack puts out; the datagram to `to` among it.
fn drain(stack: &mut NodeStack, to: SocketAddr) -> Option<Bytes> {
    let mut sent = None;
    while let Some(output) = stack.poll() {
        match output {
            StackOutput::Datagram {
                to: other,
                datagram,
            } if other == to => sent = sent.or(Some(datagram)),
            _ => {}
        }
    }
    sent
}

fn arrive(stack: &mut NodeStack, now: Now, from: SocketAddr, datagram: &[u8]) -> Option<Bytes> {
    let datagram = BytesMut::from(datagram);
    stack.handle(now, StackInput::Datagram { from, datagram });
    drain(stack, from)
}

/// The whole of a node's discovery under floods of every kind, one after the other, each from more networks than anything is kept
/// of.
fn whole_node() {
    let local = key(0);
    let listen = SocketAddr::new([20, 0, 0, 1].into(), 30_303);
    let mut config = StackConfig::new([3; 32]);
    config.listen = [Some(listen), None];
    let before = held();
    let mut now = START;
    let mut stack = NodeStack::new(config, local.clone(), None, now).unwrap();
    let mut most = 0;
    let mut show = |what: &str, count: u32| {
        let bytes = held() - before;
        most = most.max(bytes);
        println!(
            "a node after {count:>6} {what:<30} {:>10.1} KiB",
            bytes as f64 / 1024.0
        );
    };
    show("packets", 0);

    let unread = 100_000;
    for n in 0..unread {
        now = now.after(Duration::from_micros(10));
        arrive(&mut stack, now, addr(n), &unreadable(&local.node_id(), n));
    }
    assert_eq!(stack.sessions().challenges(), MAX_CHALLENGES);
    show("packets nobody can read", unread);

    let pings = 20_000;
    for n in 0..pings {
        now = now.after(Duration::from_micros(100));
        let ping = v4::Message::Ping(v4::Ping {
            from: v4::WireEndpoint::default(),
            to: v4::WireEndpoint::default(),
            expiration: now.unix.as_secs() + 20,
            enr_seq: None,
        });
        let (ping, _) = v4::codec::encode(&key(n % 5000), &ping);
        arrive(&mut stack, now, addr(n), &ping);
        stack.handle_timeout(now);
        drain(&mut stack, addr(n));
    }
    show("discv4 pings", pings);

    // Until the limits of networks have forgotten the flood.
    now = now.after(Duration::from_secs(10));
    stack.handle_timeout(now);
    drain(&mut stack, listen);
    let handshakes = 2 * DEFAULT_SESSIONS as u32;
    let node = V5Peer {
        id: local.node_id(),
        key: Some(local.public_key()),
    };
    for n in 1..=handshakes {
        now = now.after(Duration::from_millis(1));
        let (mut stranger, from) = (machine(n), addr(n));
        let (to, peer, message) = (listen, node, ping());
        stranger.handle(now, SessionInput::Send { to, peer, message });
        let Some(SessionOutput::Send { datagram, .. }) = stranger.poll() else {
            panic!("nothing sent");
        };
        let whoareyou = arrive(&mut stack, now, from, &datagram).unwrap();
        let handshake = deliver(&mut stranger, now, listen, &whoareyou, None).unwrap();
        arrive(&mut stack, now, from, &handshake).unwrap();
        stack.handle_timeout(now);
        drain(&mut stack, from);
    }
    assert_eq!(stack.sessions().len(), DEFAULT_SESSIONS);
    show("discv5 handshakes", handshakes);

    for _ in 0..60 {
        now = now.after(Duration::from_secs(1));
        stack.handle_timeout(now);
        drain(&mut stack, listen);
    }
    show("quiet seconds", 60);
    assert!(most <= WHOLE, "{most} bytes, said to be {WHOLE} at most");
}

/// Bytes each, at most; `docs/performance.md` has what was measured.
const SESSION: usize = 1280;
const KEYS: usize = 768;
const CHALLENGE: usize = 640;
const WAITING: usize = 2304;
const NODE: usize = 1024;
/// What an entry that is gone may still take.
const GONE: usize = 16;
const PING: usize = 2560;
const QUESTION: usize = 3584;
const GATHERED: usize = 10 << 10;
/// All of a node's discovery.
const WHOLE: usize = 8 << 20;

#[test]
fn what_strangers_can_fill_is_as_small_as_it_is_said_to_be() {
    // Tables of the curve and the like are made once.
    drop(machine(1));
    sessions();
    challenges();
    requests();
    table();
    questions();
    whole_node();
}
