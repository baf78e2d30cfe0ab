//! What becomes of a node of the table.

use super::rules::bench;
use super::*;
use crate::kad::RevalidationList;

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
