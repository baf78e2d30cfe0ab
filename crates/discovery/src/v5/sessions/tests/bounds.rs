//! Every bound, reached; the contract; and what a machine at its bounds weighs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tercet_machine::check::{Limits, Step, contract};

use super::*;
use crate::v5::session::KeySet;

/// A packet nobody can read, from a node that need not exist.
fn stranger(to: &NodeId, n: u64) -> BytesMut {
    let mut id = [0xee; 32];
    id[..8].copy_from_slice(&n.to_be_bytes());
    let src = NodeId::new(id);
    let nonce = Nonce::new([1; 12]);
    let mut draft = Draft::new(&[7; 16], nonce, &Kind::Ordinary { src });
    draft.message().extend_from_slice(&[1; 32]);
    BytesMut::from(&draft.mask(&Mask::new(to))[..])
}

/// Hands a datagram in and answers what it is asked; says whether a challenge was sent.
fn arrive(machine: &mut Sessions, now: Now, ip: IpAddr, n: u64) -> bool {
    let from = SocketAddr::new(ip, 30_303);
    let datagram = stranger(&machine.key.node_id(), n);
    machine.handle(now, SessionInput::Datagram { from, datagram });
    let mut challenged = false;
    while let Some(output) = machine.poll() {
        match output {
            SessionOutput::Unknown { from, id, nonce } => {
                let known = None;
                let input = SessionInput::Challenge {
                    from,
                    id,
                    nonce,
                    known,
                };
                machine.handle(now, input);
            }
            output => challenged |= matches!(output, SessionOutput::Send { .. }),
        }
    }
    challenged
}

#[test]
fn a_subnet_has_a_bounded_number_of_challenges_unless_it_is_the_lan() {
    let quota = MAX_SUBNET_CHALLENGES;
    let v6 = |wide: u16, host: u16| -> IpAddr {
        Ipv6Addr::new(0x2a00, 1, 2, wide, 0, 0, 0, host).into()
    };
    let v4 = |host: u16| -> IpAddr { Ipv4Addr::new(20, 1, 1, host as u8).into() };
    let lan = |host: u16| -> IpAddr { Ipv4Addr::new(127, 0, 0, host as u8).into() };
    type Address = Box<dyn Fn(u16) -> IpAddr>;
    let cases: [(u32, Address); 4] = [
        (quota.v4, Box::new(v4)),
        (quota.v6, Box::new(move |n| v6(1, n))),
        (quota.v6_wide, Box::new(move |n| v6(n, 1))),
        (200, Box::new(lan)),
    ];
    for (limit, ip) in cases {
        let mut machine = machine(0);
        let sent = (0..200).filter(|n| arrive(&mut machine, START, ip(*n), u64::from(*n)));
        assert_eq!(sent.count(), limit as usize);
        let refused = machine.counters().dropped(SessionDrop::SubnetFull);
        assert_eq!(refused, u64::from(200 - limit));
        // The next second begins anew, and nothing is left of the last.
        let later = START.after(CHALLENGE_LIFETIME);
        assert!(arrive(&mut machine, later, ip(1), 1000));
        assert_eq!(machine.challenges(), 1);
        machine.handle_timeout(later.after(CHALLENGE_LIFETIME));
        assert!(machine.challenges.is_clean());
        assert_eq!(machine.deadline(), None);
    }
}

#[test]
fn a_flood_of_challenges_loses_the_oldest() {
    let mut machine = machine(0);
    let ip = |n: usize| Ipv4Addr::from(0x1400_0001 + ((n as u32) << 8)).into();
    for n in 0..MAX_CHALLENGES + 10 {
        assert!(arrive(&mut machine, START, ip(n), n as u64));
        assert!(machine.challenges() <= MAX_CHALLENGES);
    }
    assert_eq!(machine.challenges(), MAX_CHALLENGES);
    assert_eq!(machine.counters().dropped(SessionDrop::Evicted), 10);
    let repeated = machine.counters().repeated;
    arrive(&mut machine, START, ip(10), 10);
    assert_eq!(machine.counters().repeated, repeated + 1, "still there");
    arrive(&mut machine, START, ip(9), 9);
    assert_eq!(machine.counters().repeated, repeated + 1, "gone");
    machine.handle_timeout(START.after(CHALLENGE_LIFETIME));
    assert!(machine.challenges.is_clean());
}

#[test]
fn requests_wait_in_bounded_number() {
    let mut machine = machine(0);
    let send = |machine: &mut Sessions, to: SocketAddr, key: &SecretKey, id| {
        let (peer, message) = (peer(key), ping(id));
        machine.handle(START, SessionInput::Send { to, peer, message });
    };
    let full = |machine: &Sessions| machine.counters().dropped(SessionDrop::QueueFull);
    let key = secret(1);
    for id in 0..20 {
        send(&mut machine, addr(1), &key, id);
    }
    assert_eq!(machine.queued(), MAX_NODE_QUEUED);
    assert_eq!(full(&machine), 20 - MAX_NODE_QUEUED as u64);
    for n in 0..MAX_QUEUED as u16 {
        let to = SocketAddr::new([20, 1, 1, 1].into(), 1024 + n);
        send(&mut machine, to, &key, 1);
    }
    assert_eq!(machine.queued(), MAX_QUEUED);
    assert_eq!(full(&machine), 20);
    while machine.poll().is_some() {}
    machine.handle_timeout(START.after(REQUEST_LIFETIME));
    assert_eq!((machine.queued(), machine.deadline()), (0, None));
    let expired = machine.counters().dropped(SessionDrop::Expired);
    assert_eq!(expired, MAX_QUEUED as u64);
    assert!(machine.outboxes.is_clean());
}

#[test]
fn requests_over_a_session_are_remembered_in_bounded_number_and_all_sent() {
    let mut wire = Wire::new(2);
    wire.request(0, 1, ping(0));
    wire.run();
    for id in 1..=100 {
        wire.request(0, 1, ping(id));
    }
    assert_eq!(wire.flying.len(), 100);
    assert_eq!(wire.nodes[0].machine.queued(), MAX_NODE_QUEUED);
    wire.flying.clear();
    wire.wait(REQUEST_LIFETIME);
    assert_eq!(wire.nodes[0].machine.queued(), 0);
    assert!(wire.nodes[0].machine.outboxes.is_clean());
}

#[test]
fn sessions_are_bounded_and_the_least_used_goes() {
    let mut wire = Wire::new(4);
    let config = SessionsConfig {
        sessions: 2,
        ..SessionsConfig::new([0; 32])
    };
    wire.nodes[0].machine = Sessions::new(config, secret(0), record(&secret(0), 1));
    for to in [1, 2, 1, 3] {
        wire.request(0, to, ping(to as u64));
        wire.run();
    }
    assert_eq!(wire.nodes[0].machine.len(), 2);
    let before = wire.sent;
    wire.request(0, 1, ping(9));
    wire.run();
    assert_eq!(wire.sent - before, 2, "the one used again is still there");
    wire.request(0, 2, ping(9));
    wire.run();
    assert_eq!(wire.sent - before, 6, "the other shakes hands again");
}

#[test]
fn the_machine_keeps_its_contract() {
    // What a real peer sends, recorded, and then played to fresh machines.
    let mut wire = Wire::new(2);
    let mut steps = Vec::new();
    for id in 0..4 {
        wire.request(1, 0, ping(id));
        while let Some(datagram) = wire.flying.pop_front() {
            if datagram.to == 0 {
                let (from, datagram) = (addr(1), BytesMut::from(&datagram.bytes[..]));
                steps.push(Step::Input(SessionInput::Datagram { from, datagram }));
                let challenge = SessionInput::Challenge {
                    from,
                    id: secret(1).node_id(),
                    nonce: Nonce::new([id as u8; 12]),
                    known: None,
                };
                steps.push(Step::Input(challenge));
            }
            wire.deliver(&datagram);
        }
        let (to, peer, message) = (addr(2), peer(&secret(2)), ping(id));
        steps.push(Step::Input(SessionInput::Send { to, peer, message }));
        steps.push(Step::Advance(Duration::from_millis(400)));
    }
    let newer = record(&secret(0), 5);
    steps.push(Step::Input(SessionInput::LocalRecord(newer)));
    steps.push(Step::Advance(Duration::from_secs(5)));
    let report = contract(|| machine(0), &steps, Limits::default()).unwrap();
    assert!(report.outputs >= 8, "{report:?}");
    assert!(report.most_queued <= 32);
}

/// Sizes for the documentation; `--nocapture` shows them.
#[test]
fn what_everything_weighs() {
    use crate::v5::session::Session;
    let session = size_of::<Session>();
    let keys = size_of::<KeySet>();
    let challenge = size_of::<challenges::Challenge>() + size_of::<PeerKey>();
    let pending = size_of::<outbox::Pending>();
    println!(
        "session {session} B (keys {keys}, a second set at most), session key {}, challenge {challenge} B, request {pending} B + its bytes",
        size_of::<PeerKey>()
    );
    assert!(session < 4096 && keys < 2048 && challenge < 256 && pending < 128);
}
