//! Single rules of the protocol, seen from one machine.

use super::*;
use crate::v4::BOND_LIFETIME;
use crate::v4::{EnrRequest, EnrResponse, FindNode, Neighbor, Neighbors};

pub(super) fn bench() -> Bench {
    Bench::new(config(0))
}

pub(super) fn find(bench: &Bench) -> Message {
    Message::FindNode(FindNode {
        target: WireTarget::from(public(77)),
        expiration: bench.expiration(),
    })
}

pub(super) fn enr_request(bench: &Bench) -> Message {
    Message::EnrRequest(EnrRequest {
        expiration: bench.expiration(),
    })
}

pub(super) fn neighbors(bench: &Bench, nodes: &[Node]) -> Message {
    Message::Neighbors(Neighbors {
        nodes: nodes.iter().map(Neighbor::from).collect(),
        expiration: bench.expiration(),
    })
}

pub(super) fn enr_response(bench: &Bench, to: SocketAddr, record: NodeRecord) -> Message {
    let request_hash = bench
        .last(to, MessageKind::EnrRequest)
        .expect("a request was sent");
    Message::EnrResponse(EnrResponse {
        request_hash,
        record,
    })
}

/// Numbers of nodes that share the farthest bucket of node 0.
pub(super) fn neighbours_in_one_bucket() -> impl Iterator<Item = u64> {
    (1..).filter(|n| public(0).node_id().log_distance(&public(*n).node_id()) == 256)
}

#[test]
fn a_ping_from_a_stranger_is_answered_and_pinged_back_at_once() {
    let mut bench = bench();
    let source = address(1);
    // The packet lies about its origin; only its TCP port is taken from it.
    let from = WireEndpoint::new([9, 9, 9, 9].into(), 9, 4000);
    let ping = Ping {
        from,
        to: WireEndpoint::default(),
        expiration: bench.expiration(),
        enr_seq: None,
    };
    bench.receive_from(1, source, Message::Ping(ping));
    let [
        (to_pong, Message::Pong(pong), _),
        (to_ping, Message::Ping(_), _),
    ] = &bench.sent[..]
    else {
        panic!("{:?}", bench.sent)
    };
    assert_eq!((*to_pong, *to_ping), (source, source));
    assert_eq!(pong.ping_hash, hash(1));
    assert_eq!(pong.to, WireEndpoint::new(source.ip(), source.port(), 4000));
    assert!(bench.core.table().is_empty(), "nobody proven yet");
    bench.answer_ping(1, source, None);
    let snapshot = bench.core.snapshot();
    let entry = snapshot.get(&public(1).node_id()).expect("taken in");
    assert!(entry.live);
    assert_eq!(
        *entry.node.endpoint(),
        Endpoint::new(source.ip(), source.port(), 4000)
    );
}

#[test]
fn requests_without_a_proof_of_that_id_and_ip_get_nothing() {
    let mut bench = bench();
    bench.receive(1, find(&bench));
    bench.receive(1, enr_request(&bench));
    assert_eq!(bench.core.counters().v4.dropped_unproven, 2);
    // A pong proves the address; a ping of theirs alone does not.
    bench.ping_from(1, address(1), None);
    bench.sent.clear();
    bench.receive(1, find(&bench));
    assert_eq!(bench.take_sent(address(1)), []);
    bench.bond(2);
    bench.sent.clear();
    // Another id from the proven address, the proven id from another address.
    bench.receive_from(3, address(2), find(&bench));
    bench.receive_from(2, address(3), find(&bench));
    assert!(bench.sent.is_empty());
    // The same id and address, whatever the port.
    let other_port = SocketAddr::new(address(2).ip(), 999);
    bench.receive_from(2, other_port, find(&bench));
    bench.receive_from(2, other_port, enr_request(&bench));
    assert_eq!(
        bench.take_sent(other_port),
        [MessageKind::Neighbors, MessageKind::EnrResponse]
    );
}

#[test]
fn a_proof_ends_after_twelve_hours() {
    let mut bench = bench();
    bench.bond(1);
    bench.now = bench.now.after(BOND_LIFETIME - Duration::from_secs(1));
    bench.sent.clear();
    bench.receive(1, find(&bench));
    assert_eq!(bench.take_sent(address(1)), [MessageKind::Neighbors]);
    bench.now = bench.now.after(Duration::from_secs(1));
    bench.receive(1, find(&bench));
    assert_eq!(bench.take_sent(address(1)), []);
    // The next ping renews it: pong, and a ping of ours.
    bench.ping_from(1, address(1), None);
    assert_eq!(
        bench.take_sent(address(1)),
        [MessageKind::Pong, MessageKind::Ping]
    );
}

#[test]
fn expiry_is_compared_as_signed_seconds() {
    let mut bench = bench();
    let now = bench.now.unix.as_secs();
    for (expiration, answered) in [
        (now, true),
        (now - 1, false),
        (i64::MAX as u64, true),
        (u64::MAX, false),
    ] {
        let ping = Ping {
            from: WireEndpoint::default(),
            to: WireEndpoint::default(),
            expiration,
            enr_seq: None,
        };
        bench.receive(1, Message::Ping(ping));
        let pongs = bench
            .take_sent(address(1))
            .iter()
            .filter(|kind| **kind == MessageKind::Pong)
            .count();
        assert_eq!(pongs == 1, answered, "{expiration}");
    }
    assert_eq!(bench.core.counters().v4.dropped_expired, 2);
}

#[test]
fn a_question_goes_out_as_soon_as_the_remote_has_pinged_back() {
    let mut bench = bench();
    bench.command(1, Command::RequestEnr(node(1), None));
    assert_eq!(bench.take_sent(address(1)), [MessageKind::Ping]);
    bench.command(2, Command::RequestEnr(node(2), None));
    bench.answer_ping(2, address(2), None);
    assert_eq!(
        bench.take_sent(address(2)),
        [MessageKind::Ping],
        "its own ping is still to come"
    );
    bench.ping_from(2, address(2), None);
    assert_eq!(
        bench.take_sent(address(2)),
        [MessageKind::Pong, MessageKind::EnrRequest]
    );
    assert_eq!(bench.now, START, "no time has passed");
}

#[test]
fn a_remote_that_knows_us_already_is_asked_after_a_short_wait() {
    let mut bench = bench();
    bench.command(1, Command::RequestEnr(node(1), None));
    bench.answer_ping(1, address(1), None);
    bench.sent.clear();
    bench.wait(Duration::from_millis(249));
    assert_eq!(bench.take_sent(address(1)), []);
    bench.wait(Duration::from_millis(1));
    assert_eq!(bench.take_sent(address(1)), [MessageKind::EnrRequest]);
    let record = record_at(1, address(1), 3);
    bench.receive(
        1,
        enr_response(&bench_with_request(&bench), address(1), record.clone()),
    );
    // Its record is worth nothing without the request's hash.
    assert!(bench.done.is_empty());
}

/// A bench that only remembers one request, with a hash nobody sent.
fn bench_with_request(bench: &Bench) -> Bench {
    let mut other = Bench::new(config(0));
    let message = Message::EnrRequest(EnrRequest {
        expiration: bench.expiration(),
    });
    other.sent.push((address(1), message, hash(u64::MAX)));
    other
}

#[test]
fn a_remote_that_pinged_us_lately_is_asked_at_once() {
    let mut bench = bench();
    bench.bond(1);
    bench.sent.clear();
    bench.command(1, Command::RequestEnr(node(1), None));
    let record = record_at(1, address(1), 3);
    bench.receive(1, enr_response(&bench, address(1), record.clone()));
    let [(OpId(1), Ok(Reply::Record(got)))] = &bench.done[..] else {
        panic!("{:?}", bench.done)
    };
    assert_eq!(*got, record);
    assert_eq!(bench.take_sent(address(1)), [MessageKind::EnrRequest]);
    assert_eq!(
        bench.core.table().get(&record.id()).and_then(Node::record),
        Some(&record)
    );
}

#[test]
fn another_nodes_record_is_no_answer() {
    let mut bench = bench();
    bench.bond(1);
    bench.command(1, Command::RequestEnr(node(1), None));
    bench.receive(
        1,
        enr_response(&bench, address(1), record_at(2, address(2), 9)),
    );
    assert!(matches!(
        bench.done[..],
        [(OpId(1), Err(RequestError::WrongRecord))]
    ));
    assert!(bench.core.table().get(&public(2).node_id()).is_none());
}

#[test]
fn a_higher_sequence_number_fetches_the_record_and_a_lower_one_does_not() {
    let mut bench = bench();
    bench.bond(1);
    bench.sent.clear();
    bench.ping_from(1, address(1), Some(5));
    assert_eq!(
        bench.take_sent(address(1)),
        [MessageKind::Pong, MessageKind::EnrRequest]
    );
    let requested = hash(bench.hashes);
    let response = EnrResponse {
        request_hash: requested,
        record: record_at(1, address(1), 5),
    };
    bench.receive(1, Message::EnrResponse(response));
    assert_eq!(
        bench.core.table().get(&public(1).node_id()).map(Node::seq),
        Some(5)
    );
    for seq in [None, Some(4), Some(5)] {
        bench.ping_from(1, address(1), seq);
        assert_eq!(bench.take_sent(address(1)), [MessageKind::Pong], "{seq:?}");
    }
}

#[test]
fn a_live_node_keeps_the_endpoint_that_works_whatever_its_record_says() {
    let mut bench = bench();
    bench.bond(1);
    bench.command(1, Command::RequestEnr(node(1), None));
    bench.receive(
        1,
        enr_response(&bench, address(1), record_at(1, address(400), 5)),
    );
    let known = bench
        .core
        .table()
        .get(&public(1).node_id())
        .expect("in the table");
    assert_eq!(known.seq(), 5);
    assert_eq!(known.endpoint().udp_addr(), address(1));
}

#[test]
fn unsolicited_replies_prove_nothing() {
    let mut bench = bench();
    let pong = |ping_hash| {
        let to = WireEndpoint::default();
        Message::Pong(Pong {
            to,
            ping_hash,
            expiration: START.unix.as_secs() + 20,
            enr_seq: None,
        })
    };
    bench.receive(1, pong(hash(1)));
    bench.receive(1, neighbors(&bench, &[node(2)]));
    bench.ping_from(1, address(1), None);
    let right = bench
        .last(address(1), MessageKind::Ping)
        .expect("pinged back");
    bench.receive(1, pong(hash(999)));
    bench.receive_from(1, address(2), pong(right));
    bench.receive_from(3, address(1), pong(right));
    assert_eq!(bench.core.counters().v4.dropped_unsolicited, 5);
    assert!(bench.core.table().is_empty());
    bench.receive(1, pong(right));
    assert_eq!(bench.core.table().live_len(), 1);
    bench.receive(1, pong(right));
    assert_eq!(
        bench.core.counters().v4.dropped_unsolicited,
        6,
        "an answer counts once"
    );
}

#[test]
fn many_expired_packets_or_a_long_silence_cast_doubt_on_the_clock_now_and_then() {
    let doubts = |bench: &Bench| {
        let doubt = |said: &&CoreOutput| **said == CoreOutput::Expired;
        bench.said.iter().filter(doubt).count()
    };
    let mut bench = bench();
    let expired = |bench: &Bench| {
        let mut message = find(bench);
        if let Message::FindNode(find) = &mut message {
            find.expiration = 1;
        }
        message
    };
    for _ in 0..SUSPICIOUS {
        bench.receive(1, expired(&bench));
    }
    assert_eq!(doubts(&bench), 0);
    bench.bond(1);
    for _ in 0..SUSPICIOUS {
        bench.receive(1, expired(&bench));
    }
    assert_eq!(doubts(&bench), 0, "not in a row");
    for _ in 0..10 * SUSPICIOUS {
        bench.receive(1, expired(&bench));
    }
    assert_eq!(doubts(&bench), 1);
    bench.wait(SUSPICION_COOLDOWN);
    bench.receive(1, expired(&bench));
    assert_eq!(doubts(&bench), 2);

    let mut bench = Bench::new(config(0));
    for n in 0..=u64::from(SUSPICIOUS) {
        assert_eq!(doubts(&bench), 0);
        bench.command(n, Command::Ping(node(n + 1), None));
        bench.wait(Duration::from_secs(1));
    }
    assert_eq!(doubts(&bench), 1);
}

#[test]
fn a_restricted_node_talks_to_nobody_outside() {
    let mut core_config = config(0);
    core_config.netrestrict = Some(vec!["10.0.0.0/8".parse().unwrap()]);
    core_config.bootnodes = vec![node(1)];
    let mut bench = Bench::new(core_config);
    bench.ping_from(1, address(1), None);
    bench.command(1, Command::Ping(node(1), None));
    assert!(bench.sent.is_empty());
    assert!(matches!(
        bench.done[..],
        [(OpId(1), Err(RequestError::NoAddress))]
    ));
    assert_eq!(
        bench.core.admit(bench.now, address(1)),
        Err(Refused::Restricted)
    );
    bench.ping_from(2, "10.1.2.3:30303".parse().unwrap(), None);
    assert_eq!(bench.sent.len(), 2);
}

#[test]
fn nothing_is_sent_to_this_node_itself_or_to_no_address() {
    let mut bench = bench();
    bench.command(1, Command::Ping(node(0), None));
    bench.command(
        2,
        Command::Ping(node_at(1, "0.0.0.0:30303".parse().unwrap()), None),
    );
    bench.command(
        3,
        Command::RequestEnr(node_at(1, "20.1.1.1:0".parse().unwrap()), None),
    );
    bench.command(4, Command::Resolve(node(0)));
    let errors: Vec<RequestError> = bench
        .done
        .iter()
        .filter_map(|(_, result)| result.as_ref().err().copied())
        .collect();
    assert_eq!(
        errors,
        [
            RequestError::Own,
            RequestError::NoAddress,
            RequestError::NoAddress,
            RequestError::Own
        ]
    );
    bench.ping_from(0, address(1), None);
    assert!(bench.sent.is_empty());
    assert_eq!(bench.core.counters().v4.dropped_own, 1);
}

#[test]
fn a_ping_that_is_not_answered_ends_in_time() {
    let mut bench = bench();
    bench.command(1, Command::Ping(node(1), None));
    bench.command(2, Command::Ping(node(1), None));
    assert_eq!(
        bench.take_sent(address(1)),
        [MessageKind::Ping],
        "one ping for both"
    );
    bench.wait(Duration::from_millis(499));
    assert!(bench.done.is_empty());
    bench.wait(Duration::from_millis(1));
    assert!(matches!(
        bench.done[..],
        [
            (OpId(1), Err(RequestError::Timeout)),
            (OpId(2), Err(RequestError::Timeout))
        ]
    ));
    assert_eq!(bench.core.contacts(), 0);
}
