//! Byte streams: order, latency, closing from either end, refusal, loss, partitions, and the bound.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a test fails by panicking

mod recorder;

use std::time::Duration;

use recorder::{Order, Sim, addr, millis, network, order};
use tercet_machine::MonoTime;
use tercet_sim::{Event, LinkProfile, MAX_IN_FLIGHT, NodeKey, StreamId};

/// Two nodes with a stream from the first to the second that stands.
fn joined(link: LinkProfile) -> (Sim, [NodeKey; 2], StreamId) {
    let (mut sim, nodes) = network(1, 2);
    sim.set_default_link(link);
    let stream = open(&mut sim, nodes[0]);
    sim.run_for(Duration::from_secs(60)).unwrap();
    (sim, [nodes[0], nodes[1]], stream)
}

fn open(sim: &mut Sim, node: NodeKey) -> StreamId {
    order(sim, node, Order::Connect(addr(1)));
    *sim.adapter(node).unwrap().opened.last().unwrap()
}

/// What a node received on streams: bytes, and whether the stream was closed.
fn heard(sim: &Sim, node: NodeKey) -> (Vec<u8>, bool) {
    let (mut all, mut closed) = (Vec::new(), false);
    for (_, event) in &sim.machine(node).unwrap().log {
        match event {
            Event::StreamData { bytes, .. } => all.extend(bytes),
            Event::StreamClosed { .. } => closed = true,
            _ => {}
        }
    }
    (all, closed)
}

#[test]
fn a_stream_opens_at_both_ends() {
    let (sim, nodes, stream) = joined(LinkProfile::default());
    let ends = nodes.map(|node| sim.machine(node).unwrap().log.clone());
    let opened = |remote, inbound| Event::StreamOpened {
        stream,
        remote,
        inbound,
    };
    assert_eq!(
        ends[1],
        [(MonoTime::from_millis(20), opened(addr(0), true))]
    );
    assert_eq!(
        ends[0],
        [(MonoTime::from_millis(40), opened(addr(1), false))]
    );
}

#[test]
fn bytes_arrive_in_order_whatever_the_link_does() {
    let rough = LinkProfile::default()
        .latency(millis(1), millis(300))
        .loss(0.2)
        .duplication(0.3)
        .reordering(0.3, millis(500));
    let (mut sim, nodes, stream) = joined(rough);
    let sent: Vec<u8> = (0..200).collect();
    for chunk in sent.chunks(3) {
        order(&mut sim, nodes[0], Order::Write(stream, chunk.to_vec()));
        order(&mut sim, nodes[1], Order::Write(stream, chunk.to_vec()));
    }
    order(&mut sim, nodes[1], Order::Close(stream));
    sim.run_for(Duration::from_secs(200)).unwrap();
    assert_eq!(
        heard(&sim, nodes[0]),
        (sent, true),
        "the close comes after the bytes before it"
    );
    assert!(!heard(&sim, nodes[1]).1, "who closes is not told");
}

#[test]
fn nothing_reaches_an_end_that_has_closed() {
    let (mut sim, nodes, stream) = joined(LinkProfile::default());
    order(&mut sim, nodes[0], Order::Close(stream));
    order(&mut sim, nodes[0], Order::Write(stream, vec![1]));
    order(&mut sim, nodes[1], Order::Write(stream, vec![2]));
    order(&mut sim, nodes[0], Order::Close(stream));
    sim.run_for(millis(100)).unwrap();
    order(&mut sim, nodes[1], Order::Write(stream, vec![3]));
    order(&mut sim, nodes[1], Order::Close(stream));
    sim.run_for(millis(100)).unwrap();
    assert_eq!(heard(&sim, nodes[0]), (vec![], false));
    assert_eq!(heard(&sim, nodes[1]), (vec![], true));
}

#[test]
fn both_ends_may_close_at_once() {
    let (mut sim, nodes, stream) = joined(LinkProfile::default());
    for node in nodes {
        order(&mut sim, node, Order::Write(stream, vec![7]));
        order(&mut sim, node, Order::Close(stream));
    }
    sim.run_for(Duration::from_secs(1)).unwrap();
    assert!(
        nodes
            .iter()
            .all(|node| heard(&sim, *node) == (vec![], false))
    );
}

#[test]
fn strangers_do_not_write_to_a_stream() {
    let (mut sim, nodes) = network(2, 3);
    let stream = open(&mut sim, nodes[0]);
    sim.run_for(millis(100)).unwrap();
    order(&mut sim, nodes[2], Order::Write(stream, vec![1]));
    order(&mut sim, nodes[2], Order::Close(stream));
    sim.run_for(millis(100)).unwrap();
    assert_eq!(heard(&sim, nodes[0]), (vec![], false));
    assert_eq!(heard(&sim, nodes[1]), (vec![], false));
}

#[test]
fn refused_and_unreachable_connections_end_at_the_opener() {
    let (mut sim, nodes) = network(3, 2);
    sim.adapter_mut(nodes[1]).unwrap().refuses = true;
    order(&mut sim, nodes[0], Order::Connect(addr(1)));
    order(&mut sim, nodes[0], Order::Connect(addr(9)));
    order(&mut sim, nodes[0], Order::Connect(addr(0)));
    sim.partition(&[nodes[1]]);
    order(&mut sim, nodes[0], Order::Connect(addr(1)));
    sim.heal();
    sim.run_for(millis(100)).unwrap();
    let log = &sim.machine(nodes[0]).unwrap().log;
    assert_eq!(log.len(), 4);
    for (at, event) in log {
        assert_eq!(*at, MonoTime::from_millis(40), "after one round trip");
        assert!(matches!(event, Event::StreamClosed { .. }));
    }
    assert!(sim.machine(nodes[1]).unwrap().log.is_empty());
}

#[test]
fn what_was_written_before_the_answer_follows_the_opening() {
    let (mut sim, nodes) = network(4, 2);
    let stream = open(&mut sim, nodes[0]);
    order(&mut sim, nodes[0], Order::Write(stream, vec![1, 2]));
    sim.run_for(millis(30)).unwrap();
    let log = &sim.machine(nodes[1]).unwrap().log;
    assert!(matches!(log[0].1, Event::StreamOpened { .. }));
    assert_eq!(
        log[1].1,
        Event::StreamData {
            stream,
            bytes: vec![1, 2]
        }
    );
}

#[test]
fn a_killed_node_leaves_closed_streams() {
    let (mut sim, nodes, stream) = joined(LinkProfile::default());
    order(&mut sim, nodes[0], Order::Write(stream, vec![1]));
    order(&mut sim, nodes[1], Order::Write(stream, vec![2]));
    sim.remove_node(nodes[1]);
    sim.run_for(millis(100)).unwrap();
    assert_eq!(heard(&sim, nodes[0]), (vec![2], true));
}

#[test]
fn a_short_partition_delays_and_a_long_one_ends_a_stream() {
    let (mut sim, nodes, stream) = joined(LinkProfile::default());
    sim.partition(&[nodes[1]]);
    for byte in 1..4 {
        order(&mut sim, nodes[0], Order::Write(stream, vec![byte]));
    }
    sim.run_for(Duration::from_secs(5)).unwrap();
    assert_eq!(heard(&sim, nodes[1]), (vec![], false));
    sim.heal();
    sim.run_for(Duration::from_secs(2)).unwrap();
    assert_eq!(heard(&sim, nodes[1]), (vec![1, 2, 3], false));

    sim.partition(&[nodes[1]]);
    order(&mut sim, nodes[0], Order::Write(stream, vec![4]));
    sim.run_for(Duration::from_secs(20)).unwrap();
    assert_eq!(heard(&sim, nodes[0]), (vec![], true));
    assert_eq!(heard(&sim, nodes[1]), (vec![1, 2, 3], true));
}

#[test]
fn a_writer_without_regard_loses_the_stream() {
    let (mut sim, nodes, stream) = joined(LinkProfile::default());
    order(
        &mut sim,
        nodes[0],
        Order::Write(stream, vec![0; MAX_IN_FLIGHT]),
    );
    sim.run_for(millis(100)).unwrap();
    assert_eq!(heard(&sim, nodes[1]).0.len(), MAX_IN_FLIGHT);
    order(
        &mut sim,
        nodes[0],
        Order::Write(stream, vec![0; MAX_IN_FLIGHT]),
    );
    order(&mut sim, nodes[0], Order::Write(stream, vec![0]));
    sim.run_for(millis(100)).unwrap();
    assert!(heard(&sim, nodes[0]).1 && heard(&sim, nodes[1]).1);
}

#[test]
fn streams_are_part_of_the_trace() {
    let hash = |byte: u8| {
        let (mut sim, nodes, stream) = joined(LinkProfile::default());
        order(&mut sim, nodes[0], Order::Write(stream, vec![byte]));
        sim.run_for(millis(100)).unwrap();
        (sim.trace_hash(), sim.counts().segments)
    };
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1).0, hash(2).0);
    assert_eq!(hash(1).1, 3, "two openings and the byte");
}
