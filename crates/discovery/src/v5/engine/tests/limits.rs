//! Whom a handshake makes known, and what is bounded.

use super::*;
use crate::v5::engine::homeless::MAX_HOMELESS;
use tercet_enode::{Ip6, Udp6};

#[test]
fn a_handshake_is_heard_at_the_worth_of_its_address() {
    let mut bench = Bench::new();
    let from = address(THEM);
    let hear = |bench: &mut Bench, from, record| {
        bench
            .engine
            .handle_session(&bench.table, from, id(THEM), record, true);
        bench.reports()
    };
    let (node, proof) = (node(THEM), Proof::Contact);
    let unsolicited = Report::Unsolicited { from };
    let contact = Report::Heard {
        node: node.clone(),
        proof,
    };
    assert_eq!(
        hear(&mut bench, from, Some(record(THEM))),
        [unsolicited, contact]
    );
    // From elsewhere: only its word.
    let elsewhere = Report::Unsolicited { from };
    let moved = record_at(THEM, "30.1.1.1:4000".parse().unwrap(), 2);
    let reports = hear(&mut bench, from, Some(moved));
    assert!(matches!(
        &reports[..],
        [
            Report::Unsolicited { .. },
            Report::Heard {
                proof: Proof::Hearsay,
                ..
            }
        ]
    ));
    // What may not be relayed, has no endpoint or is another's record says nothing.
    let lan = record_at(THEM, "10.1.1.1:4000".parse().unwrap(), 2);
    let silent = NodeRecord::builder().seq(1).sign(&key(THEM)).unwrap();
    for record in [Some(lan), Some(silent), Some(record(2)), None] {
        let expected = std::slice::from_ref(&elsewhere);
        assert_eq!(hear(&mut bench, from, record), expected);
    }
    // Without a record of its own, the one the table holds counts.
    let mut bench = bench.live([THEM]);
    let heard = Report::Heard { node, proof };
    assert_eq!(hear(&mut bench, from, None), [elsewhere, heard]);
}

#[test]
fn the_second_family_of_a_record_is_an_endpoint_too() {
    // An IPv4 address in the form of an IPv6 one is an IPv4 address.
    for (ip6, from) in [
        ("2a00::1", "[2a00::1]:4006"),
        ("::ffff:20.0.0.9", "20.0.0.9:4006"),
    ] {
        let mut bench = Bench::new();
        let from: SocketAddr = from.parse().unwrap();
        let both = record(THEM).to_builder().insert(&Udp6(4006));
        let both = both.insert(&Ip6(ip6.parse().unwrap()));
        let both = if from.is_ipv4() {
            both.remove(b"ip")
        } else {
            both
        };
        let both = both.sign(&key(THEM)).unwrap();
        bench
            .engine
            .handle_session(&bench.table, from, id(THEM), Some(both), false);
        let [Report::Heard { node, proof }] = &bench.reports()[..] else {
            panic!("not heard");
        };
        assert_eq!((node.endpoint().udp_addr(), *proof), (from, Proof::Contact));
    }
}

#[test]
fn requests_are_bounded_by_node_and_in_all() {
    let mut bench = Bench::new();
    let ask = |bench: &mut Bench, n| {
        let (now, node) = (bench.now, node(n));
        bench.engine.ask(now, &node, Question::Ping, op(n))
    };
    for _ in 0..MAX_REQUESTS_PER_NODE {
        assert_eq!(ask(&mut bench, THEM), Ok(()));
    }
    assert_eq!(ask(&mut bench, THEM), Err(RequestError::Busy));
    let mut n = THEM;
    while bench.engine.requests() < MAX_REQUESTS {
        n += 1;
        for _ in 0..MAX_REQUESTS_PER_NODE {
            assert_eq!(ask(&mut bench, n), Ok(()));
        }
    }
    assert_eq!(ask(&mut bench, n + 1), Err(RequestError::Busy));
    assert_eq!(ask(&mut bench, US), Err(RequestError::Own));
    bench.pass(700);
    assert_eq!(bench.engine.requests(), 0);
    assert_eq!(bench.reports().len(), MAX_REQUESTS);
    assert_eq!(ask(&mut bench, THEM), Ok(()));
}

#[test]
fn what_does_not_fit_into_a_datagram_is_not_sent() {
    let mut bench = Bench::new();
    let talk = |len| Question::Talk {
        protocol: Bytes::from_static(b"p"),
        payload: vec![1; len].into(),
    };
    // Type 1, lists 3, request id 9, protocol 1, length of the payload 3.
    let fits = MAX_MESSAGE - 17;
    let ask = |bench: &mut Bench, len| {
        let now = bench.now;
        bench.engine.ask(now, &node(THEM), talk(len), op(1))
    };
    assert_eq!(ask(&mut bench, fits), Ok(()));
    let sent = bench.sends().remove(0).message;
    assert_eq!(sent.encoded_len(), MAX_MESSAGE);
    assert_eq!(ask(&mut bench, fits + 1), Err(RequestError::TooLong));
    assert_eq!(bench.engine.requests(), 1);
    // A response names no protocol: one byte less.
    for (len, answered) in [(fits + 1, fits + 1), (fits + 2, 0)] {
        bench.engine.handle_talk_response(TalkResponse {
            to: address(THEM),
            id: id(THEM),
            request: RequestId::new(&[7; 8]).unwrap(),
            payload: vec![1; len].into(),
        });
        let Message::Response(_, Response::Talk { payload }) = bench.sends().remove(0).message
        else {
            panic!("no answer");
        };
        assert_eq!(payload.len(), answered);
    }
}

#[test]
fn outside_the_permitted_networks_nobody_is_asked_or_heard() {
    let mut bench = Bench::with(Some(&["99.0.0.0/8".parse().unwrap()]));
    let asked = bench
        .engine
        .ask(bench.now, &node(THEM), Question::Ping, op(1));
    assert_eq!(asked, Err(RequestError::NoAddress));
    let ping = Message::Request(RequestId::default(), Request::Ping { enr_seq: 1 });
    assert_eq!(bench.hear(address(THEM), THEM, ping), Err(Drop::Restricted));
    let record = Some(record(THEM));
    bench
        .engine
        .handle_session(&bench.table, address(THEM), id(THEM), record, true);
    assert_eq!((bench.sends().len(), bench.reports().len()), (0, 0));
}

#[test]
fn nodes_without_an_endpoint_are_remembered_within_a_bound() {
    let mut bench = Bench::new();
    for n in 0..=MAX_HOMELESS as u64 {
        let n = 1000 + n;
        let record = NodeRecord::builder().seq(1).sign(&key(n)).unwrap();
        bench
            .engine
            .handle_session(&bench.table, address(n), id(n), Some(record), true);
    }
    assert_eq!(bench.engine.homeless.len(), MAX_HOMELESS);
    // The first has gone, the last is asked for what it says is newer.
    for (n, newer) in [(1000, 0), (1000 + MAX_HOMELESS as u64, 1)] {
        bench.reports();
        bench.request(n, Request::Ping { enr_seq: 2 });
        let reports = bench.reports();
        let said = reports
            .iter()
            .filter(|report| matches!(report, Report::Newer { .. }));
        assert_eq!(said.count(), newer, "{n}");
    }
}
