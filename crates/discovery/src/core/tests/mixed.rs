//! Networks that speak discv5, alone or beside discv4.

use bytes::Bytes;

use super::*;
use crate::kad::Proof;
use crate::v5::Distances;

const DELAY: Duration = Duration::from_millis(10);

fn net(n: u64, protocols: impl Fn(u64) -> Protocols) -> Net {
    Net::speaking(n, DELAY, address, protocols)
}

fn everybody(net: &Net) -> bool {
    net.cores
        .iter()
        .all(|core| core.table().live_len() == net.cores.len() - 1)
}

/// Node 0 speaks both; of the others every third one protocol only.
fn every_kind(n: u64) -> Protocols {
    match n % 3 {
        0 => Protocols::ALL,
        1 => Protocols::V4,
        _ => Protocols::V5,
    }
}

fn common(a: u64, b: u64) -> bool {
    !every_kind(a).and(every_kind(b)).is_empty()
}

fn with_record(n: u64) -> Node {
    node(n).with_record(record_at(n, address(n), 1)).unwrap()
}

#[test]
fn nodes_that_speak_only_discv5_all_find_each_other() {
    let mut net = net(12, |_| Protocols::V5);
    net.run(Duration::from_secs(20), everybody)
        .expect("everybody knows everybody");
    let core = &net.cores[3];
    for node in core.snapshot().entries() {
        let standing = core.table().standing(&node.node.id()).unwrap();
        assert_eq!(standing.live, Protocols::V5);
    }
    assert_eq!(core.counters().v4, Default::default());
    assert!(core.counters().v5.received > 0);
}

#[test]
fn each_finds_all_it_has_a_protocol_in_common_with() {
    let mut net = net(15, every_kind);
    let complete = |net: &Net| {
        (0..15).all(|a| {
            let table = net.cores[a as usize].table();
            (0..15).filter(|b| a != *b && common(a, *b)).all(|b| {
                let standing = table.standing(&public(b).node_id());
                standing.is_some_and(|standing| standing.live == every_kind(a).and(every_kind(b)))
            })
        })
    };
    // A few round trips and the young table's checks; nothing waits for its turn among the proven.
    net.run(Duration::from_secs(10), complete)
        .expect("each pair has proven every protocol it has in common");
}

#[test]
fn a_lookup_without_the_targets_key_asks_over_discv5_and_finds_the_closest() {
    let mut net = net(60, |_| Protocols::ALL);
    let joined = |net: &Net| net.cores.iter().all(|core| core.refresh.has_joined());
    net.run(Duration::from_secs(60), joined)
        .expect("all refreshed");
    net.run(Duration::from_secs(30), |_| false);
    let target = Target::from(public(999).node_id());
    net.command(7, 1, Command::Lookup(target));
    net.run(Duration::from_secs(10), |net| !net.done.is_empty())
        .expect("the lookup ends");
    let Some((7, OpId(1), Ok(Reply::Found(found)))) = net.done.pop() else {
        panic!("{:?}", net.done)
    };
    let mut all: Vec<Node> = (0..60).filter(|n| *n != 7).map(node).collect();
    all.sort_by(|a, b| target.id().cmp_distance(&a.id(), &b.id()));
    let ids = |nodes: &[Node]| nodes.iter().map(Node::id).collect::<Vec<_>>();
    assert_eq!(ids(&found.closest), ids(&all[..16]));
}

#[test]
fn one_node_is_asked_over_the_protocol_the_caller_names() {
    let mut net = net(3, every_kind);
    let talk = Command::Talk {
        node: with_record(2),
        protocol: Bytes::from_static(b"echo"),
        payload: Bytes::from_static(b"hello"),
    };
    let distance = public(0).node_id().log_distance(&public(1).node_id());
    let near = FindTarget::Distances(Distances::new([0, u64::from(distance)]));
    let over = |node, protocol| Command::Ping(node, Some(protocol));
    net.command(0, 1, talk);
    net.command(0, 2, over(with_record(2), Protocol::V5));
    net.command(0, 3, over(with_record(2), Protocol::V4));
    net.command(0, 4, over(with_record(1), Protocol::V5));
    net.command(0, 5, Command::Ping(with_record(1), None));
    net.command(2, 6, Command::FindNode(with_record(0), near));
    net.command(2, 7, Command::RequestEnr(with_record(0), None));
    net.command(2, 8, over(with_record(0), Protocol::V4));
    net.run(Duration::from_secs(5), |net| net.done.len() == 8)
        .expect("all end");
    net.done.sort_by_key(|(_, op, _)| *op);
    let results: Vec<_> = net.done.into_iter().map(|(.., result)| result).collect();
    assert_eq!(results[0], Ok(Reply::Talk(Bytes::from_static(b"hello"))));
    assert!(
        matches!(&results[1], Ok(Reply::Pong(pong)) if pong.rtt == 2 * DELAY
        && pong.enr_seq == Some(1) && pong.seen_as == Some(address(0)))
    );
    assert_eq!(results[2], Err(RequestError::Timeout));
    assert_eq!(results[3], Err(RequestError::Timeout));
    // First over discv5, as there is a record; then over discv4.
    assert!(
        matches!(&results[4], Ok(Reply::Pong(_))),
        "{:?}",
        results[4]
    );
    let Ok(Reply::Nodes(nodes)) = &results[5] else {
        panic!("{:?}", results[5])
    };
    assert_eq!(nodes[0].id(), public(0).node_id());
    assert_eq!(results[6], Ok(Reply::Record(record_at(0, address(0), 1))));
    assert_eq!(results[7], Err(RequestError::Unsupported));
}

#[test]
fn who_was_asked_is_no_proof_of_being_reachable_and_a_stranger_is() {
    let mut net = net(1, |_| Protocols::ALL);
    let core = &mut net.cores[0];
    let session = |n| CoreInput::V5Session {
        from: address(n),
        id: public(n).node_id(),
        record: Some(record_at(n, address(n), 1)),
        inbound: true,
    };
    let unsolicited = |core: &mut DiscoveryCore, input| {
        core.handle(START, input);
        std::iter::from_fn(|| core.poll())
            .filter(|output| matches!(output, CoreOutput::Unsolicited { .. }))
            .count()
    };
    let op = OpId(1);
    let command = Command::Ping(node(5), Some(Protocol::V4));
    assert_eq!(unsolicited(core, CoreInput::Command { op, command }), 0);
    assert_eq!(unsolicited(core, session(5)), 0);
    assert_eq!(unsolicited(core, session(6)), 1);
}

#[test]
fn unanswered_questions_are_counted_by_protocol() {
    let mut bench = Bench::new(CoreConfig {
        protocols: Protocols::V5,
        ..config(0)
    });
    let node = with_record(1);
    bench.core.table.add(START.mono, node, Proof::Hearsay);
    bench.command(1, Command::Lookup(Target::from(public(9))));
    bench.wait(Duration::from_secs(1));
    let id = public(1).node_id();
    let of_v5 = bench.writes.iter().filter(
        |write| matches!(write, Write::FindFailuresV5 { id: of, count: 1, .. } if *of == id),
    );
    assert_eq!(of_v5.count(), 1);
    let of_v4 = |write: &&Write| matches!(write, Write::FindFailures { .. });
    assert_eq!(bench.writes.iter().filter(of_v4).count(), 0);
}

#[test]
fn several_paths_ask_more_and_find_no_less() {
    let mut found = Vec::new();
    for paths in [1, 3] {
        let mut net = net(40, |_| Protocols::V5);
        for core in &mut net.cores {
            core.config.lookup_paths = paths;
        }
        net.run(Duration::from_secs(90), |_| false);
        let before = net.cores[7].counters().v5.sent;
        net.command(7, 1, Command::Lookup(Target::from(public(999))));
        net.run(Duration::from_secs(10), |net| !net.done.is_empty());
        let Some((.., Ok(Reply::Found(all)))) = net.done.pop() else {
            panic!("{:?}", net.done)
        };
        let ids: Vec<_> = all.closest.iter().map(Node::id).collect();
        found.push((ids, net.cores[7].counters().v5.sent - before));
    }
    let [(one, few), (three, many)] = &found[..] else {
        panic!("{found:?}")
    };
    let target = public(999).node_id();
    let closer = one
        .iter()
        .zip(three)
        .filter(|(one, three)| target.cmp_distance(one, three).is_lt());
    assert_eq!(closer.count(), 0, "{one:?} {three:?}");
    assert!(many > few, "{few} {many}");
}

#[test]
fn a_lookup_asks_its_closest_over_the_other_protocol_before_it_ends() {
    // Once with a target both protocols can name, once with one that only discv5 can.
    for (target, twice) in [
        (Target::from(public(9)), true),
        (Target::from(public(9).node_id()), false),
    ] {
        let mut bench = Bench::new(CoreConfig {
            protocols: Protocols::ALL,
            ..config(0)
        });
        let node = with_record(1);
        bench.core.table.add(START.mono, node, Proof::Hearsay);
        bench.command(1, Command::Lookup(target));
        let asked = bench.said.iter().find_map(|output| match output {
            CoreOutput::V5Send {
                message: v5::Message::Request(id, v5::Request::FindNode { .. }),
                ..
            } => Some(*id),
            _ => None,
        });
        assert!(bench.sent.is_empty(), "over discv5 first");
        let nodes = v5::Response::Nodes {
            total: 1,
            records: vec![],
        };
        bench.input(CoreInput::V5Message {
            from: address(1),
            id: public(1).node_id(),
            message: v5::Message::Response(asked.expect("it was asked"), nodes),
        });
        assert_eq!(bench.sent.len(), usize::from(twice));
        assert_eq!(bench.done.is_empty(), twice);
        // Silence there neither costs the node its place in the result nor is it asked a third time. A second after the empty
        // start the table is refreshed, which asks as well.
        bench.wait(Duration::from_millis(900));
        let [(_, Ok(Reply::Found(found)))] = &bench.done[..] else {
            panic!("{:?}", bench.done)
        };
        let closest: Vec<_> = found.closest.iter().map(Node::id).collect();
        assert_eq!(closest, [public(1).node_id()]);
        let finds = |output: &&CoreOutput| {
            matches!(output, CoreOutput::V5Send { message, .. }
                if matches!(message, v5::Message::Request(_, v5::Request::FindNode { .. })))
        };
        assert_eq!(bench.said.iter().filter(finds).count(), 1);
        let failures = |write: &&Write| {
            matches!(
                write,
                Write::FindFailures { .. } | Write::FindFailuresV5 { .. }
            )
        };
        assert_eq!(bench.writes.iter().filter(failures).count(), 0);
    }
}
