//! A node that may speak both protocols and has answered over one of them.

use super::rules::enr_response;
use super::*;
use crate::kad::{BUCKET_SIZE, Proof};

fn bench() -> Bench {
    Bench::new(CoreConfig {
        protocols: Protocols::ALL,
        ..config(0)
    })
}

fn id(n: u64) -> NodeId {
    public(n).node_id()
}

fn live(bench: &Bench, n: u64) -> Option<Protocols> {
    Some(bench.core.table().standing(&id(n))?.live)
}

/// The pings sent over discv5 since the last call.
fn pings(bench: &mut Bench) -> Vec<(SocketAddr, v5::RequestId)> {
    let ping = |output| match output {
        CoreOutput::V5Send {
            to,
            message: v5::Message::Request(id, v5::Request::Ping { .. }),
            ..
        } => Some((to, id)),
        _ => None,
    };
    std::mem::take(&mut bench.said)
        .into_iter()
        .filter_map(ping)
        .collect()
}

fn pong(bench: &mut Bench, n: u64, request: v5::RequestId) {
    let answer = v5::Response::Pong {
        enr_seq: 1,
        recipient: address(0),
    };
    bench.input(CoreInput::V5Message {
        from: address(n),
        id: id(n),
        message: v5::Message::Response(request, answer),
    });
}

fn deliver(bench: &mut Bench, n: u64, record: NodeRecord) {
    let response = enr_response(bench, address(n), record);
    bench.receive(n, response);
}

/// Node 1 has answered over discv4, and its record is asked for.
fn bonded() -> Bench {
    let mut bench = bench();
    bench.bond(1);
    bench.ping_from(1, address(1), Some(1));
    assert_eq!(live(&bench, 1), Some(Protocols::V4));
    assert_eq!(pings(&mut bench), [], "nothing says that it speaks discv5");
    bench
}

#[test]
fn it_is_proven_over_the_second_as_soon_as_its_record_shows_it() {
    let mut bench = bonded();
    deliver(&mut bench, 1, record_at(1, address(1), 1));
    let [(to, request)] = pings(&mut bench)[..] else {
        panic!("one ping")
    };
    assert_eq!(to, address(1));
    // Whatever it says meanwhile, it is not asked twice.
    for tcp in [4000, 4001] {
        let ping = Ping {
            from: WireEndpoint::new(address(1).ip(), address(1).port(), tcp),
            to: WireEndpoint::default(),
            expiration: bench.expiration(),
            enr_seq: Some(1),
        };
        bench.receive(1, Message::Ping(ping));
    }
    assert_eq!(pings(&mut bench), []);
    pong(&mut bench, 1, request);
    assert_eq!(live(&bench, 1), Some(Protocols::ALL));
    assert_eq!(pings(&mut bench), []);
}

#[test]
fn it_is_proven_over_discv4_behind_its_first_answer_over_discv5() {
    let mut bench = bench();
    let known = node(1)
        .with_record(record_at(1, address(1), 1))
        .expect("its own");
    bench.command(1, Command::Ping(known, Some(Protocol::V5)));
    let [(_, request)] = pings(&mut bench)[..] else {
        panic!("one ping")
    };
    assert_eq!(bench.take_sent(address(1)), []);
    pong(&mut bench, 1, request);
    assert_eq!(live(&bench, 1), Some(Protocols::V5));
    assert!(bench.last(address(1), MessageKind::Ping).is_some());
    bench.answer_ping(1, address(1), None);
    assert_eq!(live(&bench, 1), Some(Protocols::ALL));
}

#[test]
fn where_the_second_is_silent_it_is_asked_once_for_each_record() {
    let mut bench = bonded();
    deliver(&mut bench, 1, record_at(1, address(1), 1));
    assert_eq!(pings(&mut bench).len(), 1);
    bench.wait(Duration::from_secs(1));
    let standing = bench.core.table().standing(&id(1)).expect("it stays");
    assert_eq!(standing.silent, Protocols::V5);
    assert_eq!(standing.live, Protocols::V4, "and loses nothing by it");
    pings(&mut bench);
    // It answers over discv4 as often as it likes.
    for op in 1..=3 {
        bench.command(op, Command::Ping(node(1), Some(Protocol::V4)));
        bench.answer_ping(1, address(1), Some(1));
    }
    assert_eq!(pings(&mut bench), []);
    // With a new record it may have learnt it.
    bench.ping_from(1, address(1), Some(2));
    deliver(&mut bench, 1, record_at(1, address(1), 2));
    assert_eq!(pings(&mut bench).len(), 1);
}

#[test]
fn where_it_was_silent_once_it_is_tried_again_now_and_then() {
    let mut bench = bonded();
    deliver(&mut bench, 1, record_at(1, address(1), 1));
    pings(&mut bench);
    let (mut again, mut checks) = (0, 0);
    // Ten minutes.
    for _ in 0..3000 {
        bench.wait(Duration::from_millis(200));
        again += pings(&mut bench).len();
        checks += bench
            .sent
            .iter()
            .filter(|(to, ..)| *to == address(1))
            .count();
        bench.serve(&[1]);
        bench.sent.clear();
    }
    assert_eq!(live(&bench, 1), Some(Protocols::V4));
    assert!(again >= 10, "{again} of {checks}");
    assert!(again * 3 <= checks, "{again} of {checks}");
}

/// So many others have answered over discv5, and node 1 over discv4; its record has just shown that it may speak both.
fn among(others: usize) -> Bench {
    let mut bench = bench();
    let distance = |n| id(0).log_distance(&id(n));
    // None of them in its bucket.
    let all = (100..).filter(|n| distance(*n) != distance(1));
    for n in all.take(others) {
        let known = node(n).with_record(record_at(n, address(n), 1)).unwrap();
        bench
            .core
            .table
            .add(START.mono, known, Proof::Answer(Protocol::V5));
    }
    bench.bond(1);
    bench.ping_from(1, address(1), Some(1));
    deliver(&mut bench, 1, record_at(1, address(1), 1));
    bench
}

#[test]
fn where_many_are_proven_it_waits_for_the_fast_list() {
    let mut bench = among(4 * BUCKET_SIZE);
    let live = bench.core.table().live_over(Protocol::V5);
    assert!(live >= BUCKET_SIZE, "{live}");
    assert_eq!(pings(&mut bench), [], "not at once");
    bench.wait(Duration::from_secs(3));
    let asked = pings(&mut bench);
    assert!(asked.iter().any(|(to, _)| *to == address(1)), "{asked:?}");
}

#[test]
fn where_few_are_proven_it_does_not_wait() {
    let mut bench = among(BUCKET_SIZE - 1);
    assert_eq!(bench.core.table().live_over(Protocol::V5), BUCKET_SIZE - 1);
    let asked = pings(&mut bench);
    assert!(asked.iter().any(|(to, _)| *to == address(1)), "{asked:?}");
}

#[test]
fn where_it_owes_an_answer_over_one_it_is_checked_over_the_other() {
    for owed in [Protocol::V4, Protocol::V5] {
        let mut bench = bench();
        let known = node(1).with_record(record_at(1, address(1), 1)).unwrap();
        for protocol in [Protocol::V4, Protocol::V5] {
            let proof = Proof::Answer(protocol);
            bench.core.table.add(START.mono, known.clone(), proof);
        }
        bench.core.table.on_find_failed(START.mono, &id(1), owed);
        bench.core.check(bench.now, &known);
        bench.core.settle(bench.now);
        bench.drain();
        let over_v4 = bench.last(address(1), MessageKind::Ping).is_some();
        let over_v5 = !pings(&mut bench).is_empty();
        let expected = (owed == Protocol::V5, owed == Protocol::V4);
        assert_eq!((over_v4, over_v5), expected, "{owed:?}");
    }
}
