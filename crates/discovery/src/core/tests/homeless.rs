//! A node that has a session with this one and does not know yet where it is.

use super::*;
use crate::v5::{Request, RequestId, Response};

fn bench() -> Bench {
    Bench::new(CoreConfig {
        protocols: Protocols::V5,
        ..config(0)
    })
}

fn homeless(n: u64, seq: u64) -> NodeRecord {
    NodeRecord::builder().seq(seq).sign(&key(n)).unwrap()
}

fn meet(bench: &mut Bench, n: u64) {
    bench.input(CoreInput::V5Session {
        from: address(n),
        id: public(n).node_id(),
        record: Some(homeless(n, 1)),
        inbound: true,
    });
}

fn ping(bench: &mut Bench, n: u64, enr_seq: u64) {
    let id = RequestId::new(&[7]).unwrap();
    bench.input(CoreInput::V5Message {
        from: address(n),
        id: public(n).node_id(),
        message: v5::Message::Request(id, Request::Ping { enr_seq }),
    });
}

/// Questions for a record since the last call.
fn questions(bench: &mut Bench) -> Vec<(SocketAddr, RequestId)> {
    let question = |output| match output {
        CoreOutput::V5Send {
            to,
            message: v5::Message::Request(id, Request::FindNode { .. }),
            ..
        } => Some((to, id)),
        _ => None,
    };
    let said = std::mem::take(&mut bench.said);
    said.into_iter().filter_map(question).collect()
}

fn deliver(bench: &mut Bench, n: u64, request: RequestId, record: NodeRecord) {
    let nodes = Response::Nodes {
        total: 1,
        records: vec![record],
    };
    bench.input(CoreInput::V5Message {
        from: address(n),
        id: public(n).node_id(),
        message: v5::Message::Response(request, nodes),
    });
}

fn tabled(bench: &Bench, n: u64) -> Option<SocketAddr> {
    let node = bench.core.table().get(&public(n).node_id())?;
    Some(node.endpoint().udp_addr())
}

#[test]
fn its_ping_says_when_its_record_has_come_to_name_an_endpoint() {
    let mut bench = bench();
    meet(&mut bench, 1);
    ping(&mut bench, 1, 1);
    assert_eq!((tabled(&bench, 1), questions(&mut bench).len()), (None, 0));
    ping(&mut bench, 1, 2);
    let [(to, request)] = questions(&mut bench)[..] else {
        panic!("it is asked for its record")
    };
    assert_eq!(to, address(1));
    deliver(&mut bench, 1, request, record_at(1, address(1), 2));
    assert_eq!(tabled(&bench, 1), Some(address(1)));
}

#[test]
fn a_newer_record_without_an_endpoint_brings_it_nowhere() {
    let mut bench = bench();
    meet(&mut bench, 1);
    for seq in 2..5 {
        ping(&mut bench, 1, seq);
        let [(_, request)] = questions(&mut bench)[..] else {
            panic!("it is asked for its record")
        };
        deliver(&mut bench, 1, request, homeless(1, seq));
        assert_eq!(tabled(&bench, 1), None);
        ping(&mut bench, 1, seq);
        assert_eq!(questions(&mut bench), [], "that one is known");
    }
}

#[test]
fn who_speaks_of_records_and_does_not_deliver_is_asked_less_and_less() {
    let mut bench = bench();
    meet(&mut bench, 1);
    let mut asked = 0;
    for minute in 0..10 {
        for second in 0..60 {
            ping(&mut bench, 1, 2 + minute * 60 + second);
            asked += questions(&mut bench).len();
            bench.wait(Duration::from_secs(1));
            // What the empty table asks for itself.
            questions(&mut bench);
        }
    }
    // After 0, 10, 30, 70, 150, 310 seconds.
    assert_eq!(asked, 6);
}

#[test]
fn a_stranger_without_a_handshake_is_not_asked() {
    let mut bench = bench();
    ping(&mut bench, 1, 9);
    assert_eq!(questions(&mut bench), []);
}
