//! When the table is refreshed, and what a node that has just started goes by.

use tercet_nodedb::{NodeMeta, Seed};

use super::rules::{bench, enr_request, enr_response, neighbors};
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

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
    let few = refreshes(&mut bench, &numbers, Duration::from_secs(5));
    assert_eq!(few.len(), 1);
    bench.bond(16);
    let all: Vec<u64> = (1..=16).collect();
    let later = refreshes(&mut bench, &all, Duration::from_secs(14 * 60));
    assert_eq!(later, []);
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
