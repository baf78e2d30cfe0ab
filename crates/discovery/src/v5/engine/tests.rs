//! The engine alone: every output is looked at, a table of real records is lent to it, and records are really signed.

use std::net::{IpAddr, Ipv4Addr};

use tercet_enode::{Endpoint, SecretKey};
use tercet_machine::check::START;

use ipnet::IpNet;

use super::*;
use crate::engine::OpId;
use crate::engine::{LookupId, PongInfo, Target};
use crate::kad::{Proof, RevalidationConfig};
use crate::policy::Families;
use crate::v5::TalkMessage;

mod contract;
mod limits;

const US: u64 = 0;
const THEM: u64 = 1;

fn key(n: u64) -> SecretKey {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    SecretKey::generate(&mut MachineRng::from_seed(seed))
}

/// A global address of its own /24 for each `n`.
fn address(n: u64) -> SocketAddr {
    let [.., a, b, c] = (n + 1).to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(20 + a, b, c, 7)), 30303)
}

fn record_at(n: u64, at: SocketAddr, seq: u64) -> NodeRecord {
    let ports = (at.port(), at.port());
    let builder = NodeRecord::builder().seq(seq).ip(at.ip());
    builder.udp(ports.0).tcp(ports.1).sign(&key(n)).unwrap()
}

fn record(n: u64) -> NodeRecord {
    record_at(n, address(n), 1)
}

fn node(n: u64) -> Node {
    Node::from_record(record(n)).unwrap()
}

fn id(n: u64) -> NodeId {
    key(n).node_id()
}

fn distance(a: u64, b: u64) -> u16 {
    id(a).log_distance(&id(b))
}

const fn op(n: u64) -> Asker {
    Asker::Op(OpId(n))
}

struct Bench {
    engine: V5Engine,
    table: Table,
    now: Now,
}

impl Bench {
    fn new() -> Self {
        Self::with(None)
    }

    fn with(netrestrict: Option<&[IpNet]>) -> Self {
        let mut rng = MachineRng::from_seed([5; 32]);
        let table = Table::new(id(US), RevalidationConfig::default(), rng.child("table"));
        let policy = Policy::new(id(US), netrestrict, Families::BOTH);
        let engine = V5Engine::new(policy, REPLY_TIMEOUT, record(US), rng);
        let now = START;
        Self { engine, table, now }
    }

    fn live(mut self, nodes: impl IntoIterator<Item = u64>) -> Self {
        for n in nodes {
            self.table.add(
                self.now.mono,
                node(n),
                Proof::Answer(crate::engine::Protocol::V5),
            );
        }
        self
    }

    fn ask(&mut self, n: u64, question: Question) -> RequestId {
        self.engine
            .ask(self.now, &node(n), question, op(n))
            .unwrap();
        let sent = self.engine.poll_send().unwrap();
        assert_eq!((sent.to, sent.peer.id), (address(n), id(n)));
        assert_eq!(sent.peer.key, Some(key(n).public_key()));
        match sent.message {
            Message::Request(request, _) => request,
            Message::Response(..) => panic!("a response"),
        }
    }

    fn hear(&mut self, from: SocketAddr, n: u64, message: Message) -> Result<(), Drop> {
        self.engine
            .handle_message(self.now, &self.table, from, id(n), message)
    }

    fn answer(&mut self, n: u64, request: RequestId, response: Response) -> Result<(), Drop> {
        self.hear(address(n), n, Message::Response(request, response))
    }

    fn request(&mut self, n: u64, request: Request) {
        let message = Message::Request(RequestId::new(&[0, 7]).unwrap(), request);
        self.hear(address(n), n, message).unwrap();
    }

    fn reports(&mut self) -> Vec<Report> {
        std::iter::from_fn(|| self.engine.poll_report()).collect()
    }

    fn sends(&mut self) -> Vec<V5Send> {
        std::iter::from_fn(|| self.engine.poll_send()).collect()
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now.after(Duration::from_millis(millis));
        self.engine.handle_timeout(self.now);
    }
}

fn pong(enr_seq: u64) -> Response {
    let recipient = address(US);
    Response::Pong { enr_seq, recipient }
}

fn nodes(total: u64, named: impl IntoIterator<Item = NodeRecord>) -> Response {
    let records = named.into_iter().collect();
    Response::Nodes { total, records }
}

fn at(distances: impl IntoIterator<Item = u16>) -> Question {
    Question::Distances(Distances::new(distances.into_iter().map(u64::from)))
}

fn named(reports: &[Report]) -> (Vec<NodeId>, bool) {
    let mut ids = Vec::new();
    let mut ended = false;
    for report in reports {
        if let Report::Nodes { nodes, last, .. } = report {
            assert!(!ended);
            ids.extend(nodes.iter().map(Node::id));
            ended = *last;
        }
    }
    (ids, ended)
}

#[test]
fn a_pong_is_reported_votes_and_names_a_newer_record() {
    let mut bench = Bench::new();
    let request = bench.ask(THEM, Question::Ping);
    assert_eq!(request.as_bytes().len(), 8);
    bench.pass(30);
    bench.answer(THEM, request, pong(9)).unwrap();
    let reports = bench.reports();
    let (id, ip, at) = (id(THEM), address(THEM).ip(), bench.now.unix);
    let info = PongInfo {
        rtt: Duration::from_millis(30),
        enr_seq: Some(9),
        seen_as: Some(address(US)),
    };
    let (node, asker, seen_as) = (node(THEM), op(THEM), address(US));
    let expected = [
        Report::Write(Write::Pong { id, ip, at }),
        Report::Vote { voter: ip, seen_as },
        Report::Alive(node.clone()),
        Report::Pong {
            asker,
            node: node.clone(),
            info,
        },
        Report::Newer { node, seq: 9 },
    ];
    assert_eq!(reports, expected);
    assert_eq!(bench.engine.requests(), 0);
    assert_eq!(bench.answer(THEM, request, pong(9)), Err(Drop::Unsolicited));
}

#[test]
fn only_the_address_asked_and_the_kind_asked_for_answer() {
    let mut bench = Bench::new();
    let request = bench.ask(THEM, Question::Ping);
    let mut elsewhere = address(THEM);
    elsewhere.set_port(30304);
    let from_there = Message::Response(request, pong(1));
    let verdict = bench.hear(elsewhere, THEM, from_there.clone());
    assert_eq!(verdict, Err(Drop::WrongAddress));
    assert_eq!(
        bench.hear(address(THEM), 2, from_there),
        Err(Drop::Unsolicited)
    );
    let kind = bench.answer(THEM, request, nodes(1, []));
    assert_eq!(kind, Err(Drop::WrongKind));
    let other = RequestId::new(&[1]).unwrap();
    assert_eq!(bench.answer(THEM, other, pong(1)), Err(Drop::Unsolicited));
    assert_eq!(
        bench.hear(address(THEM), US, Message::Response(request, pong(1))),
        Err(Drop::Own)
    );
    assert_eq!(bench.reports(), []);
    let counters = bench.engine.counters();
    assert_eq!(
        (
            counters.dropped_wrong_address,
            counters.dropped_wrong_kind,
            counters.dropped_unsolicited,
            counters.dropped_own
        ),
        (1, 1, 2, 1)
    );
    // None of that has ended the request.
    assert_eq!(bench.answer(THEM, request, pong(1)), Ok(()));
}

#[test]
fn screening_drops_what_handling_would() {
    let mut bench = Bench::new();
    let request = bench.ask(THEM, Question::Record);
    let message = |request| {
        let (total, records) = (1, Vec::new());
        WireMessage::Response(request, Response::Nodes { total, records })
    };
    let other = RequestId::default();
    let mut screen = |n, request| bench.engine.screen(address(n), id(THEM), &message(request));
    assert_eq!(screen(THEM, request), Ok(()));
    assert_eq!(screen(THEM, other), Err(Drop::Unsolicited));
    assert_eq!(screen(2, request), Err(Drop::WrongAddress));
}

#[test]
fn silence_ends_a_question() {
    let mut bench = Bench::new();
    let target = Target::from(key(3).public_key());
    bench.ask(THEM, Question::Find(target));
    bench.pass(699);
    assert_eq!(bench.reports(), []);
    bench.pass(1);
    let failed = Report::Failed {
        asker: op(THEM),
        node: node(THEM),
        error: RequestError::Timeout,
    };
    assert_eq!(bench.reports(), [failed]);
    assert_eq!(bench.engine.counters().timeouts, 1);
}

#[test]
fn nodes_are_gathered_to_their_total_and_what_does_not_count_is_left_out() {
    let mut bench = Bench::new();
    let far: Vec<u64> = (2..200).filter(|n| distance(THEM, *n) == 256).collect();
    let near = (2..200).find(|n| distance(THEM, *n) == 254).unwrap();
    let request = bench.ask(THEM, at([256, 0]));
    let lan = record_at(far[0], "10.0.0.1:30303".parse().unwrap(), 1);
    let low_port = record_at(far[1], "30.0.0.1:53".parse().unwrap(), 1);
    let silent = NodeRecord::builder().seq(1).sign(&key(far[2])).unwrap();
    let first = [
        lan,
        low_port,
        silent,
        record(near),
        record(THEM),
        record(far[3]),
    ];
    bench.answer(THEM, request, nodes(3, first)).unwrap();
    // A later message cannot raise the total.
    let second = [record(far[3]), record(far[4])];
    bench.answer(THEM, request, nodes(9, second)).unwrap();
    assert_eq!(bench.engine.requests(), 1);
    bench
        .answer(THEM, request, nodes(3, [record(far[5])]))
        .unwrap();
    let expected = vec![id(THEM), id(far[3]), id(far[4]), id(far[5])];
    assert_eq!(named(&bench.reports()), (expected, true));
    assert_eq!(bench.engine.counters().refused_records, 5);
    let more = bench.answer(THEM, request, nodes(3, [record(far[6])]));
    assert_eq!(more, Err(Drop::Unsolicited));
}

#[test]
fn we_are_never_named_to_ourselves() {
    let mut bench = Bench::new();
    let request = bench.ask(THEM, at([distance(US, THEM)]));
    bench.answer(THEM, request, nodes(1, [record(US)])).unwrap();
    assert_eq!(named(&bench.reports()), (vec![], true));
}

#[test]
fn part_of_an_answer_is_an_answer() {
    let mut bench = Bench::new();
    let request = bench.ask(THEM, at([0]));
    bench.pass(600);
    bench
        .answer(THEM, request, nodes(2, [record(THEM)]))
        .unwrap();
    bench.pass(699);
    assert_eq!(named(&bench.reports()), (vec![id(THEM)], false));
    bench.pass(1);
    assert_eq!(named(&bench.reports()), (vec![], true));
    assert_eq!(bench.engine.counters().timeouts, 0);
}

#[test]
fn a_dripping_answer_ends() {
    let mut bench = Bench::new();
    let request = bench.ask(THEM, at([0]));
    let mut waited = 0;
    while bench.engine.requests() > 0 {
        bench.answer(THEM, request, nodes(50, [])).unwrap();
        bench.pass(300);
        waited += 300;
    }
    assert_eq!(waited, 2100);
}

#[test]
fn a_lookup_takes_six_messages_and_sixteen_records() {
    let mut bench = Bench::new();
    let question = Question::Find(Target::from(key(999).public_key()));
    let request = bench.ask(THEM, question.clone());
    for _ in 0..6 {
        bench.answer(THEM, request, nodes(1000, [])).unwrap();
    }
    let late = bench.answer(THEM, request, nodes(1000, []));
    assert_eq!(late, Err(Drop::Unsolicited));
    bench.reports();
    let request = bench.ask(THEM, question);
    let many = (2..30).map(record);
    bench.answer(THEM, request, nodes(2, many)).unwrap();
    assert!(named(&bench.reports()).1);
    assert_eq!(bench.engine.counters().surplus_records, 12);
}

#[test]
fn a_question_with_distances_takes_up_to_its_bound() {
    let mut bench = Bench::new();
    let request = bench.ask(THEM, at(0..=256));
    for _ in 0..MAX_GATHERED_PACKETS {
        assert_eq!(bench.engine.requests(), 1);
        bench.answer(THEM, request, nodes(u64::MAX, [])).unwrap();
    }
    assert_eq!(bench.engine.requests(), 0);
}

#[test]
fn distances_of_a_lookup_are_geths() {
    let of = |d| lookup_distances(d).as_slice().to_vec();
    assert_eq!(of(255), [255, 256, 254]);
    assert_eq!(of(256), [256, 255, 254]);
    assert_eq!(of(100), [100, 101, 99]);
    assert_eq!(of(1), [1, 2, 3]);
    assert_eq!(of(0), [1, 2, 3]);
}

#[test]
fn a_record_is_exactly_the_nodes_own() {
    let mut bench = Bench::new();
    let cases = [
        vec![],
        vec![record(2)],
        vec![record(THEM), record(2)],
        vec![record(THEM), record(THEM)],
    ];
    for wrong in cases {
        let request = bench.ask(THEM, Question::Record);
        bench.answer(THEM, request, nodes(1, wrong)).unwrap();
        let reports = bench.reports();
        let error = RequestError::WrongRecord;
        assert!(matches!(&reports[..], [Report::Failed { error: e, .. }] if *e == error));
    }
    let moved = record_at(THEM, "30.1.1.1:4000".parse().unwrap(), 2);
    let lan = record_at(THEM, "192.168.1.1:4000".parse().unwrap(), 3);
    for (new, ip) in [(moved, [30, 1, 1, 1].into()), (lan, address(THEM).ip())] {
        let request = bench.ask(THEM, Question::Record);
        bench
            .answer(THEM, request, nodes(1, [new.clone()]))
            .unwrap();
        let [Report::Record { node, record, .. }] = &bench.reports()[..] else {
            panic!("no record");
        };
        assert_eq!(
            (record, node.seq(), node.endpoint().ip),
            (&new, new.seq(), ip)
        );
    }
}

#[test]
fn talk_goes_both_ways() {
    let mut bench = Bench::new();
    let (protocol, payload) = (Bytes::from_static(b"p"), Bytes::from_static(b"hi"));
    let question = Question::Talk {
        protocol: protocol.clone(),
        payload: payload.clone(),
    };
    let request = bench.ask(THEM, question);
    let talk = Response::Talk {
        payload: payload.clone(),
    };
    bench.answer(THEM, request, talk.clone()).unwrap();
    let asker = op(THEM);
    let heard = Report::Talk {
        asker,
        payload: payload.clone(),
    };
    assert_eq!(bench.reports(), [heard]);

    let ask = Request::Talk {
        protocol: protocol.clone(),
        payload: payload.clone(),
    };
    bench.request(THEM, ask);
    let request = RequestId::new(&[0, 7]).unwrap();
    let (from, id) = (address(THEM), id(THEM));
    let asked = TalkMessage {
        from,
        id,
        request,
        protocol,
        payload: payload.clone(),
    };
    let answer = asked.answer(payload);
    assert_eq!(bench.reports(), [Report::TalkRequest(asked)]);
    bench.engine.handle_talk_response(answer);
    let message = Message::Response(request, talk);
    let peer = V5Peer { id, key: None };
    let to = from;
    assert_eq!(bench.sends(), [V5Send { to, peer, message }]);
}

#[test]
fn a_ping_is_answered_with_its_source_and_its_id() {
    let mut bench = Bench::new().live([THEM]);
    bench.request(THEM, Request::Ping { enr_seq: 5 });
    let sent = bench.sends();
    let response = Response::Pong {
        enr_seq: 1,
        recipient: address(THEM),
    };
    let request = RequestId::new(&[0, 7]).unwrap();
    assert_eq!(sent[0].message, Message::Response(request, response));
    let (node, seq) = (node(THEM), 5);
    let expected = [
        Report::Heard {
            node: node.clone(),
            proof: Proof::Contact,
        },
        Report::Newer { node, seq },
    ];
    assert_eq!(bench.reports(), expected);
    // A stranger is answered and leaves no trace.
    bench.request(2, Request::Ping { enr_seq: 5 });
    assert_eq!((bench.sends().len(), bench.reports().len()), (1, 0));
}

fn named_to(bench: &mut Bench, n: u64, distances: impl IntoIterator<Item = u64>) -> Vec<NodeId> {
    let distances = Distances::new(distances);
    bench.request(n, Request::FindNode { distances });
    let sent = bench.sends();
    let count = u64::try_from(sent.len()).unwrap();
    assert!((1..=5).contains(&count));
    let mut ids = Vec::new();
    for send in sent {
        assert_eq!((send.to, send.peer.key), (address(n), None));
        let Message::Response(_, Response::Nodes { total, records }) = send.message else {
            panic!("not nodes");
        };
        assert_eq!(total, count);
        let bytes: usize = records.iter().map(|record| record.raw().len()).sum();
        assert!(bytes <= 1280 - 87 - 17);
        ids.extend(records.iter().map(NodeRecord::id));
    }
    ids
}

#[test]
fn find_node_names_live_nodes_at_the_distances_asked() {
    let mut bench = Bench::new().live(1..120);
    let heard = (120..140).find(|n| distance(US, *n) == 253).unwrap();
    bench.table.add(bench.now.mono, node(heard), Proof::Hearsay);
    assert_eq!(named_to(&mut bench, THEM, [0]), [id(US)]);
    assert_eq!(named_to(&mut bench, THEM, []), []);
    assert_eq!(named_to(&mut bench, THEM, [17]), []);
    let all = named_to(&mut bench, THEM, 0..=256);
    assert_eq!((all.len(), all[0]), (16, id(US)));
    assert!(!all.contains(&id(THEM)));
    let near = named_to(&mut bench, THEM, [253]);
    assert!(!near.is_empty() && !near.contains(&id(heard)));
    assert!(near.iter().all(|near| id(US).log_distance(near) == 253));
    // A full bucket leaves the others their turn.
    let mixed = named_to(&mut bench, THEM, [256, 253]);
    let of_near = mixed.iter().filter(|near| id(US).log_distance(near) == 253);
    assert_eq!(of_near.count(), near.len().min(8));
}

#[test]
fn what_the_requester_could_not_use_is_not_named() {
    let mut bench = Bench::new();
    let lan: SocketAddr = "10.1.1.1:30303".parse().unwrap();
    let there = Node::from_record(record_at(2, lan, 1)).unwrap();
    bench.table.add(
        bench.now.mono,
        there,
        Proof::Answer(crate::engine::Protocol::V5),
    );
    // Alive elsewhere than its record says, and alive without a record.
    let moved = node(3).with_endpoint(Endpoint::new([40, 1, 1, 1].into(), 9000, 0));
    bench.table.add(
        bench.now.mono,
        moved,
        Proof::Answer(crate::engine::Protocol::V5),
    );
    let plain = Node::new(key(4).public_key(), *node(4).endpoint());
    bench.table.add(
        bench.now.mono,
        plain,
        Proof::Answer(crate::engine::Protocol::V5),
    );
    assert_eq!(named_to(&mut bench, THEM, 1..=256), []);
}
