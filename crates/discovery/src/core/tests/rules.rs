//! Single rules of the protocol, seen from one machine.

use tercet_nodedb::{NodeMeta, Seed};

use super::*;
use crate::kad::{BUCKET_SIZE, Proof, RevalidationList};
use crate::v4::BOND_LIFETIME;
use crate::v4::{EnrRequest, EnrResponse, FindNode, Neighbor, Neighbors};

const HOUR: Duration = Duration::from_secs(3600);

fn bench() -> Bench {
    Bench::new(config(0))
}

fn find(bench: &Bench) -> Message {
    Message::FindNode(FindNode {
        target: WireTarget::from(public(77)),
        expiration: bench.expiration(),
    })
}

fn enr_request(bench: &Bench) -> Message {
    Message::EnrRequest(EnrRequest {
        expiration: bench.expiration(),
    })
}

fn neighbors(bench: &Bench, nodes: &[Node]) -> Message {
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
fn neighbours_in_one_bucket() -> impl Iterator<Item = u64> {
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
fn only_proven_nodes_are_relayed_at_most_sixteen_and_always_in_a_packet() {
    let mut bench = bench();
    bench.bond(1);
    bench.sent.clear();
    bench.receive(1, find(&bench));
    let sizes = |bench: &mut Bench| -> Vec<usize> {
        let sent = std::mem::take(&mut bench.sent);
        let size = |(_, message, _)| match message {
            Message::Neighbors(packet) => Some(packet.nodes.len()),
            _ => None,
        };
        sent.into_iter().filter_map(size).collect()
    };
    assert_eq!(
        sizes(&mut bench),
        [0],
        "the asker itself is not told of itself"
    );
    // Heard of, never answered.
    bench
        .core
        .table
        .add(bench.now.mono, node(100), Proof::Hearsay);
    bench.receive(1, find(&bench));
    assert_eq!(sizes(&mut bench), [0]);
    for n in 2..40 {
        bench.bond(n);
    }
    bench.sent.clear();
    bench.receive(1, find(&bench));
    assert_eq!(sizes(&mut bench), [12, 4]);
}

#[test]
fn private_nodes_are_not_relayed_to_the_internet() {
    let mut bench = bench();
    let private: SocketAddr = "192.168.1.5:30303".parse().unwrap();
    bench.bond_at(1, private);
    bench.bond(2);
    bench.bond_at(3, "192.168.1.6:30303".parse().unwrap());
    for (asker, from, told) in [
        (2, address(2), 0),
        (3, "192.168.1.6:30303".parse().unwrap(), 2),
    ] {
        bench.sent.clear();
        bench.receive_from(asker, from, find(&bench));
        let [(_, Message::Neighbors(packet), _)] = &bench.sent[..] else {
            panic!("{:?}", bench.sent)
        };
        assert_eq!(packet.nodes.len(), told);
    }
}

/// Bonds with node 1 and starts a lookup, which asks it.
fn asking(config: CoreConfig) -> Bench {
    let mut bench = Bench::new(config);
    bench.bond(1);
    bench.sent.clear();
    bench.command(1, Command::Lookup(Target::from(public(77))));
    assert_eq!(bench.take_sent(address(1)), [MessageKind::FindNode]);
    bench
}

#[test]
fn neighbours_that_may_not_be_used_are_left_out() {
    let mut config = config(0);
    config.netrestrict = Some(vec![
        "20.0.0.0/8".parse().unwrap(),
        "192.168.0.0/16".parse().unwrap(),
    ]);
    let mut bench = asking(config);
    let low_port = node_at(2, SocketAddr::new(address(2).ip(), 1024));
    let private = node_at(3, "192.168.1.5:30303".parse().unwrap());
    let restricted = node_at(4, "77.1.1.1:30303".parse().unwrap());
    let own = node_at(0, address(5));
    let good = node_at(6, SocketAddr::new(address(6).ip(), 1025));
    bench.receive(
        1,
        neighbors(&bench, &[low_port, private, restricted, own, good.clone()]),
    );
    let mut ids: Vec<_> = bench
        .core
        .snapshot()
        .entries()
        .map(|entry| entry.node.id())
        .collect();
    ids.retain(|id| *id != public(1).node_id());
    assert_eq!(ids, [good.id()]);
}

#[test]
fn an_answer_is_complete_with_a_packet_that_is_not_full_or_with_sixteen_nodes() {
    let twelve: Vec<Node> = (10..22).map(node).collect();
    let four: Vec<Node> = (22..26).map(node).collect();
    // A short packet: the lookup goes on at once.
    let mut bench = asking(config(0));
    bench.receive(1, neighbors(&bench, &four));
    assert_eq!(bench.sent.len(), 3, "α of the four are pinged");
    // A full one: a second may follow.
    let mut bench = asking(config(0));
    bench.receive(1, neighbors(&bench, &twelve));
    let in_flight = |bench: &mut Bench| bench.core.v4.find_asker(&node(1)).is_some();
    assert!(in_flight(&mut bench));
    bench.receive(1, neighbors(&bench, &four));
    assert!(!in_flight(&mut bench));
    // ... or not.
    let mut bench = asking(config(0));
    bench.receive(1, neighbors(&bench, &twelve));
    bench.wait(Duration::from_millis(100));
    assert!(!in_flight(&mut bench));
    assert_eq!(
        bench.core.counters().v4.timeouts,
        0,
        "an answer in one full packet is an answer"
    );
    // More than sixteen are not taken.
    let mut bench = asking(config(0));
    bench.receive(
        1,
        neighbors(&bench, &(100..120).map(node).collect::<Vec<_>>()),
    );
    assert_eq!(
        bench.core.table().len(),
        1 + BUCKET_SIZE.min(bench.core.table().len() - 1)
    );
    assert!(bench.core.table().get(&public(116).node_id()).is_none());
}

#[test]
fn five_unanswered_questions_in_a_row_cost_the_place_unless_the_bucket_is_small() {
    for (others, stays) in [(2, true), (3, false)] {
        let mut bench = bench();
        let numbers: Vec<u64> = neighbours_in_one_bucket().take(others + 1).collect();
        for n in &numbers {
            bench.bond(*n);
        }
        let (victim, id) = (numbers[0], public(numbers[0]).node_id());
        let target = Target::from(public(victim));
        for round in 1..=5 {
            bench.command(round, Command::Lookup(target));
            // All answer pings; the victim answers no question. The others answer with nobody.
            for _ in 0..6 {
                for (to, message, ping_hash) in std::mem::take(&mut bench.sent) {
                    let Some(n) = numbers.iter().copied().find(|n| address(*n) == to) else {
                        continue;
                    };
                    match message {
                        Message::Ping(_) => {
                            let (to, expiration) = (WireEndpoint::default(), bench.expiration());
                            bench.receive(
                                n,
                                Message::Pong(Pong {
                                    to,
                                    ping_hash,
                                    expiration,
                                    enr_seq: None,
                                }),
                            );
                        }
                        Message::FindNode(_) if n != victim => {
                            bench.receive(n, neighbors(&bench, &[]));
                        }
                        _ => {}
                    }
                }
                bench.wait(Duration::from_millis(260));
            }
        }
        let counts: Vec<u32> = bench
            .writes
            .iter()
            .filter_map(|write| match write {
                Write::FindFailures { id: of, count, .. } if *of == id => Some(*count),
                _ => None,
            })
            .collect();
        assert_eq!(counts[..5], [1, 2, 3, 4, 5]);
        assert_eq!(
            bench.core.table().get(&id).is_some(),
            stays,
            "{others} others"
        );
    }
}

#[test]
fn one_refresh_at_a_time_and_all_waiters_go_together() {
    let mut bench = bench();
    bench.bond(1);
    bench.sent.clear();
    bench.command(1, Command::Refresh);
    bench.command(2, Command::Refresh);
    bench.command(3, Command::Refresh);
    let mut targets = vec![];
    for _ in 0..4 {
        assert!(bench.done.is_empty());
        for (_, message, _) in std::mem::take(&mut bench.sent) {
            if let Message::FindNode(find) = message {
                targets.push(find.target.id());
            }
        }
        bench.receive(1, neighbors(&bench, &[]));
    }
    let ops: Vec<u64> = bench.done.iter().map(|(op, _)| op.0).collect();
    assert_eq!(ops, [1, 2, 3]);
    assert_eq!(
        (targets.len(), targets[0]),
        (4, public(0).node_id()),
        "self, then three random ones"
    );
}

/// Runs `time` with `numbers` answering; says when the table was refreshed.
fn refreshes(bench: &mut Bench, numbers: &[u64], time: Duration) -> Vec<MonoTime> {
    let step = Duration::from_millis(250);
    let (own, end) = (public(0).node_id(), bench.now.mono + time);
    let mut refreshes: Vec<MonoTime> = vec![];
    while bench.now.mono < end {
        bench.wait(step);
        let asked = bench.serve(numbers);
        // Each of the sixteen closest is asked once in one refresh.
        let is_new = refreshes
            .last()
            .is_none_or(|last| bench.now.mono - *last > Duration::from_secs(5));
        if is_new && asked.iter().any(|target| target.id() == own) {
            refreshes.push(bench.now.mono);
        }
    }
    refreshes
}

#[test]
fn the_table_is_refreshed_every_half_hour() {
    let mut bench = bench();
    let numbers: Vec<u64> = (1..=16).collect();
    for n in &numbers {
        bench.bond(*n);
    }
    let refreshes = refreshes(&mut bench, &numbers, 4 * HOUR);
    // The first one found the table empty and was repeated at once.
    for pair in refreshes[1..].windows(2) {
        let gap = pair[1] - pair[0];
        assert!(
            gap >= Duration::from_secs(15 * 60) && gap <= Duration::from_secs(30 * 60 + 5),
            "{gap:?}"
        );
    }
    assert!(refreshes.len() >= 7, "{refreshes:?}");
}

#[test]
fn while_few_are_live_the_refresh_is_repeated_after_a_growing_pause() {
    let mut bench = bench();
    let numbers: Vec<u64> = (1..=15).collect();
    for n in &numbers {
        bench.bond(*n);
    }
    let at = refreshes(&mut bench, &numbers, HOUR);
    let gaps: Vec<u64> = at
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs())
        .collect();
    for (gap, pause) in gaps.iter().zip([10, 20, 40, 80, 160, 320, 640]) {
        assert!((pause..pause + 5).contains(gap), "{gaps:?}");
    }
    assert!(gaps.len() >= 7, "{gaps:?}");

    // With a sixteenth there is no need to.
    let mut bench = Bench::new(config(0));
    for n in &numbers {
        bench.bond(*n);
    }
    bench.wait(Duration::from_secs(2));
    bench.serve(&numbers);
    bench.bond(16);
    let all: Vec<u64> = (1..=16).collect();
    let later = refreshes(&mut bench, &all, Duration::from_secs(14 * 60));
    assert!(later.len() <= 1, "{later:?}");
}

#[test]
fn a_record_that_is_spoken_of_and_never_delivered_is_asked_for_less_and_less() {
    let mut bench = bench();
    bench.bond(1);
    let mut asked = 0;
    for _ in 0..3600 {
        bench.ping_from(1, address(1), Some(9));
        bench.now = bench.now.after(Duration::from_secs(1));
        bench.core.handle_timeout(bench.now);
        bench.drain();
        if let Some(hash) = bench.last(address(1), MessageKind::Ping) {
            // It stays in the table.
            let pong = Pong {
                to: WireEndpoint::default(),
                ping_hash: hash,
                expiration: bench.expiration(),
                enr_seq: Some(9),
            };
            bench.receive(1, Message::Pong(pong));
        }
        let kinds = bench.take_sent(address(1));
        let requests = kinds
            .iter()
            .filter(|kind| **kind == MessageKind::EnrRequest);
        asked += requests.count();
    }
    // After 0, 10, 30, 70, 150, 310, 630, 1270 and 2550 seconds.
    assert_eq!(asked, 9);
    assert!(bench.core.counters().claims_ignored > 3000);
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
fn an_empty_table_is_refreshed_again_soon_and_then_less_and_less_often() {
    let mut bench = Bench::unborn(config(0));
    let mut at = vec![];
    for _ in 0..12 {
        bench.now = bench
            .now
            .after(bench.core.refresh.deadline().unwrap() - bench.now.mono);
        bench.core.handle_timeout(bench.now);
        at.push(bench.now.mono);
        bench.drain();
    }
    let gaps: Vec<u64> = at
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs())
        .collect();
    assert_eq!(gaps, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
}

#[test]
fn a_lookup_in_an_empty_table_waits_for_a_refresh() {
    let mut bench = bench();
    let mut core_config = config(0);
    core_config.bootnodes = vec![node(1)];
    let mut bootable = Bench::unborn(core_config);
    bench.command(1, Command::Lookup(Target::from(public(77))));
    assert!(
        matches!(&bench.done[..], [(OpId(1), Ok(Reply::Found(found)))] if found.closest.is_empty())
    );
    bootable.command(1, Command::Lookup(Target::from(public(77))));
    assert!(bootable.done.is_empty());
    assert_eq!(bootable.take_sent(address(1)), [MessageKind::Ping]);
    bootable.wait(Duration::from_secs(2));
    assert!(
        matches!(&bootable.done[..], [(OpId(1), Ok(Reply::Found(found)))] if found.closest.is_empty())
    );
}

#[test]
fn seeds_bring_their_bonds_with_them() {
    let mut bench = Bench::unborn(config(0));
    let at = Some(bench.now.unix - HOUR);
    let meta = NodeMeta {
        last_ping: at,
        last_pong: at,
        ..NodeMeta::default()
    };
    bench.core.handle_timeout(bench.now);
    assert!(matches!(
        bench.core.poll(),
        Some(CoreOutput::LoadSeeds { count: 30, .. })
    ));
    bench.input(CoreInput::Seeds(vec![Seed {
        node: node(1),
        meta,
    }]));
    // It knows us and we know it: the refresh asks at once, and its questions are answered.
    assert_eq!(bench.take_sent(address(1)), [MessageKind::FindNode]);
    bench.receive(1, enr_request(&bench));
    assert_eq!(bench.take_sent(address(1)), [MessageKind::EnrResponse]);
}

#[test]
fn a_database_that_does_not_answer_does_not_keep_the_node_out() {
    let mut core_config = config(0);
    core_config.bootnodes = vec![node(1)];
    let mut bench = Bench::unborn(core_config);
    bench.core.handle_timeout(bench.now);
    assert!(matches!(
        bench.core.poll(),
        Some(CoreOutput::LoadSeeds { .. })
    ));
    bench.wait(Duration::from_millis(4999));
    assert!(bench.sent.is_empty());
    bench.wait(Duration::from_millis(1));
    assert_eq!(bench.take_sent(address(1)), [MessageKind::Ping]);
}

#[test]
fn strangers_wait_until_the_node_has_found_its_own_way_in() {
    let mut core_config = config(0);
    core_config.bootnodes = vec![node(1)];
    let mut bench = Bench::unborn(core_config);
    bench.core.handle_timeout(bench.now);
    bench.drain();
    bench.bond(2);
    // Nor does its record bring it in, which is asked for as soon as it speaks of it.
    bench.ping_from(2, address(2), Some(5));
    let record = record_at(2, address(2), 5);
    bench.receive(2, enr_response(&bench, address(2), record));
    let table = bench.core.table();
    assert!(table.get(&public(2).node_id()).is_none());
    assert_eq!(table.known(&public(2).node_id()).map(Node::seq), Some(5));
    bench.wait(Duration::from_millis(100));
    bench.serve(&[1]);
    // The boot node knows us already and sends no ping of its own.
    bench.wait(Duration::from_millis(250));
    bench.serve(&[1]);
    let snapshot = bench.core.snapshot();
    assert!(bench.core.has_joined());
    assert!(
        snapshot
            .get(&public(2).node_id())
            .is_some_and(|entry| entry.live)
    );
}

#[test]
fn a_node_that_has_moved_to_another_address_is_proven_anew() {
    let mut bench = bench();
    bench.bond(1);
    bench.sent.clear();
    let elsewhere = address(200);
    bench.ping_from(1, elsewhere, None);
    assert_eq!(
        bench.take_sent(elsewhere),
        [MessageKind::Pong, MessageKind::Ping]
    );
    let endpoint = |bench: &Bench| {
        bench
            .core
            .table()
            .get(&public(1).node_id())
            .map(|node| node.endpoint().udp_addr())
    };
    assert_eq!(endpoint(&bench), Some(address(1)));
    let ping_hash = hash(bench.hashes);
    let pong = Pong {
        to: WireEndpoint::default(),
        ping_hash,
        expiration: bench.expiration(),
        enr_seq: None,
    };
    bench.receive_from(1, elsewhere, Message::Pong(pong));
    assert_eq!(endpoint(&bench), Some(elsewhere));
}

#[test]
fn nodes_are_checked_and_the_dead_go() {
    let mut bench = bench();
    bench.bond(1);
    let list = |bench: &Bench| {
        bench
            .core
            .snapshot()
            .get(&public(1).node_id())
            .map(|entry| (entry.list, entry.checks))
    };
    assert_eq!(list(&bench), Some((RevalidationList::Slow, 1)));
    bench.sent.clear();
    bench.wait(Duration::from_secs(9));
    assert!(bench.take_sent(address(1)).contains(&MessageKind::Ping));
    bench.wait(Duration::from_secs(10));
    assert_eq!(list(&bench), None, "one answer is little credit");
}

#[test]
fn settled_nodes_are_saved_every_half_minute_and_all_live_ones_at_the_end() {
    let mut bench = bench();
    let saved = |bench: &Bench| {
        bench
            .writes
            .iter()
            .filter(|write| matches!(write, Write::Node(_)))
            .count()
    };
    let run = |bench: &mut Bench, seconds: u64| {
        for _ in 0..seconds * 10 {
            bench.wait(Duration::from_millis(100));
            bench.serve(&[1, 2]);
        }
    };
    bench.bond(1);
    run(&mut bench, 2);
    assert_eq!(
        saved(&bench),
        1,
        "a node that is killed early has learnt something"
    );
    run(&mut bench, 598);
    assert_eq!(saved(&bench), 1, "once, as nothing about it has changed");
    bench.bond(2);
    run(&mut bench, 299);
    assert_eq!(saved(&bench), 1, "not five minutes old");
    run(&mut bench, 32);
    assert_eq!(saved(&bench), 2);
    bench.bond(3);
    bench.input(CoreInput::Close);
    assert_eq!(saved(&bench), 3);
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
