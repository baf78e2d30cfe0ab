//! Packets out of order: what overtook what must not change what is learnt.

use tercet_enode::NodeId;

use super::*;
use crate::kad::BUCKET_SIZE;
use crate::v4::{FindNode, Neighbor, Neighbors};

const PEER: u64 = 1;

/// A lookup has asked the only node known.
fn asking() -> Bench {
    let mut bench = Bench::new(config(0));
    bench.bond(PEER);
    bench.command(1, Command::Lookup(Target::from(public(77))));
    assert!(bench.last(address(PEER), MessageKind::FindNode).is_some());
    bench.sent.clear();
    bench
}

fn neighbors(bench: &mut Bench, numbers: std::ops::Range<u64>) {
    let packet = Neighbors {
        nodes: numbers.map(|n| Neighbor::from(&node(n))).collect(),
        expiration: bench.expiration(),
    };
    bench.receive(PEER, Message::Neighbors(packet));
}

fn known(bench: &Bench) -> std::collections::BTreeSet<NodeId> {
    bench
        .core
        .snapshot()
        .entries()
        .map(|entry| entry.node.id())
        .collect()
}

/// All who are pinged on the lookup's behalf, when nobody answers.
fn asked(bench: &mut Bench) -> Vec<SocketAddr> {
    bench.wait(Duration::from_secs(20));
    assert!(bench.done.iter().any(|(op, _)| *op == OpId(1)));
    let mut asked: Vec<SocketAddr> = bench
        .sent
        .iter()
        .filter(|(to, ..)| *to != address(PEER))
        .map(|(to, ..)| *to)
        .collect();
    asked.sort();
    asked.dedup();
    asked
}

#[test]
fn the_second_packet_first_loses_nothing_and_waits_for_nothing() {
    let mut bench = asking();
    neighbors(&mut bench, 22..26);
    assert_eq!(bench.sent.len(), 3, "the lookup goes on at once");
    neighbors(&mut bench, 10..22);
    assert_eq!(bench.sent.len(), 3, "and asks no more than α");
    assert_eq!(bench.core.counters().v4.dropped_unsolicited, 0);
    for n in 10..26 {
        assert!(known(&bench).contains(&public(n).node_id()), "{n}");
    }
    assert_eq!(bench.core.v4.late_len(), 0, "sixteen are all there are");
    neighbors(&mut bench, 30..31);
    assert_eq!(bench.core.counters().v4.dropped_unsolicited, 1);
}

#[test]
fn both_orders_lead_to_the_same() {
    let play = |first: std::ops::Range<u64>, second: std::ops::Range<u64>| {
        let mut bench = asking();
        neighbors(&mut bench, first);
        neighbors(&mut bench, second);
        (known(&bench), asked(&mut bench))
    };
    let in_order = play(10..22, 22..26);
    assert_eq!(in_order, play(22..26, 10..22));
    assert_eq!(in_order.0.len(), 1 + BUCKET_SIZE);
    assert!(in_order.1.len() >= BUCKET_SIZE);
}

#[test]
fn the_rest_of_an_answer_is_taken_until_the_requests_deadline() {
    for (first, rest) in [(22..26, 10..22), (10..22, 22..26)] {
        let begin = |wait| {
            let mut bench = asking();
            neighbors(&mut bench, first.clone());
            bench.wait(Duration::from_millis(wait));
            neighbors(&mut bench, rest.clone());
            bench
        };
        let in_time = begin(499);
        assert_eq!(in_time.core.counters().v4.dropped_unsolicited, 0);
        assert!(known(&in_time).contains(&public(rest.start).node_id()));
        let too_late = begin(500);
        assert_eq!(too_late.core.counters().v4.dropped_unsolicited, 1);
        assert!(!known(&too_late).contains(&public(rest.start).node_id()));
    }
}

#[test]
fn no_more_than_sixteen_of_one_answer_however_it_comes() {
    let mut bench = asking();
    neighbors(&mut bench, 10..14);
    neighbors(&mut bench, 14..20);
    neighbors(&mut bench, 20..30);
    assert!(known(&bench).contains(&public(25).node_id()));
    assert!(!known(&bench).contains(&public(26).node_id()));
    // Empty packets take a place each.
    let mut bench = asking();
    for _ in 0..=BUCKET_SIZE {
        neighbors(&mut bench, 0..0);
    }
    assert_eq!(bench.core.counters().v4.dropped_unsolicited, 0);
    neighbors(&mut bench, 0..0);
    assert_eq!(bench.core.counters().v4.dropped_unsolicited, 1);
}

/// Plays a lookup among twenty known nodes in which everybody asked answers, the first two with the twenty, the last
/// with `last`.
fn among_twenty(last: &[u64]) -> Bench {
    let mut bench = Bench::new(config(0));
    for n in 1..=20 {
        bench.bond(n);
    }
    bench.sent.clear();
    bench.command(1, Command::Lookup(Target::from(public(77))));
    let mut open = vec![];
    for answered in 1..=BUCKET_SIZE {
        open.extend(std::mem::take(&mut bench.sent));
        let (to, message, _) = open.remove(0);
        assert_eq!(message.kind(), MessageKind::FindNode);
        let n = (1..=20).find(|n| address(*n) == to).expect("one of them");
        let numbers = match answered {
            1 => (1..=16).collect(),
            2 => (5..=20).collect(),
            BUCKET_SIZE => last.to_vec(),
            _ => vec![],
        };
        assert!(bench.done.is_empty());
        let nodes = numbers.iter().map(|n| Neighbor::from(&node(*n))).collect();
        let expiration = bench.expiration();
        bench.receive(n, Message::Neighbors(Neighbors { nodes, expiration }));
    }
    assert!(open.is_empty() && bench.sent.is_empty());
    bench
}

#[test]
fn only_a_lookup_that_ends_with_what_looks_overtaken_waits_a_moment() {
    for whole in [&[][..], &[1, 2, 3, 4, 5]] {
        assert_eq!(among_twenty(whole).done.len(), 1, "{whole:?}");
    }
    let mut bench = among_twenty(&[1, 2]);
    bench.wait(Duration::from_millis(99));
    assert!(bench.done.is_empty());
    bench.wait(Duration::from_millis(1));
    assert_eq!(bench.done.len(), 1);
}

#[test]
fn a_question_that_overtakes_the_pong_before_it_is_answered_after_it() {
    let mut bench = Bench::new(config(0));
    bench.ping_from(PEER, address(PEER), None);
    let question = |bench: &Bench| {
        Message::FindNode(FindNode {
            target: WireTarget::from(public(77)),
            expiration: bench.expiration(),
        })
    };
    let pinged = bench.sent.clone();
    bench.sent.clear();
    bench.receive(PEER, question(&bench));
    assert!(bench.sent.is_empty(), "nothing without a proof");
    // One waits; a second is dropped.
    bench.receive(PEER, question(&bench));
    assert_eq!(bench.core.counters().v4.dropped_unproven, 1);
    bench.sent = pinged;
    bench.answer_ping(PEER, address(PEER), None);
    let answers = bench.take_sent(address(PEER));
    assert_eq!(
        answers
            .iter()
            .filter(|kind| **kind == MessageKind::Neighbors)
            .count(),
        1
    );

    // A pong that never comes: the question goes with the ping.
    let mut bench = Bench::new(config(0));
    bench.ping_from(PEER, address(PEER), None);
    bench.sent.clear();
    bench.receive(PEER, question(&bench));
    bench.wait(Duration::from_secs(1));
    assert!(bench.sent.is_empty());
    assert_eq!(bench.core.counters().v4.dropped_unproven, 1);
    assert_eq!(bench.core.contacts(), 0);
}
