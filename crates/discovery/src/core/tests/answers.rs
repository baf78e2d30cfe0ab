//! What is answered to others, and what is made of others' answers.

use super::rules::{bench, find, neighbors, neighbours_in_one_bucket};
use super::*;
use crate::kad::{BUCKET_SIZE, Proof};

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
