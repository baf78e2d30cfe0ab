//! Whom a crawl asks again, and where: at the address of the other family, and after a newer record.

use super::super::nodes::{MAX_RENEWALS, TRIES};
use super::*;

const BOTH: usize = 2;

fn dual(seed: u16, v4: [u8; 4], v6: &str) -> NodeRecord {
    let record = NodeRecord::builder().ip(v4.into()).udp(30303);
    let record = record.ip(v6.parse().unwrap()).udp6(30306);
    record.sign(&key(seed)).unwrap()
}

fn at(seed: u16, seq: u64, port: u16) -> NodeRecord {
    let record = NodeRecord::builder().seq(seq).ip([10, 0, 0, 9].into());
    record.udp(port).sign(&key(seed)).unwrap()
}

fn start(record: NodeRecord) -> Vec<KnownNode> {
    vec![KnownNode::new(NodeAddress::Record(record))]
}

fn silent(question: &Question) -> CrawlInput {
    CrawlInput::Silent {
        serial: question.serial,
    }
}

fn answered(question: &Question, named: Vec<Node>) -> CrawlInput {
    CrawlInput::Answered {
        serial: question.serial,
        record: None,
        extent: extent(named.len()),
        named,
        rtt: RTT,
    }
}

impl Log {
    /// Where a node was asked over a protocol, in order.
    fn places(&self, id: NodeId, protocol: Protocol) -> Vec<std::net::SocketAddr> {
        let over = |ask: &Ask| match ask {
            Ask::V4 { .. } => Protocol::V4,
            Ask::V5(_) => Protocol::V5,
        };
        let asked = self.asked.iter().map(|(_, question)| question);
        asked
            .filter(|question| question.node.id() == id && over(&question.ask) == protocol)
            .map(|question| question.node.endpoint().udp_addr())
            .collect()
    }
}

#[test]
fn the_address_of_the_other_family_is_tried() {
    let record = dual(1, [20, 0, 0, 1], "2a00::1");
    let id = record.id();
    let [v4, v6] = ["20.0.0.1:30303", "[2a00::1]:30306"].map(|at| at.parse().unwrap());
    let mut crawl = crawler(8, Protocols::ALL, 1);
    let log = drive(&mut crawl, start(record.clone()), |question| {
        if question.node.endpoint().ip.is_ipv6() {
            answered(question, Vec::new())
        } else {
            silent(question)
        }
    });
    for protocol in [Protocol::V4, Protocol::V5] {
        let places = log.places(id, protocol);
        assert_eq!(places[..2], [v4, v6], "{protocol:?}");
        // Once it has answered it is asked there alone.
        assert!(places[2..].iter().all(|place| *place == v6), "{places:?}");
    }
    for met in &log.met {
        assert_eq!(met.at.map(|at| at.udp_addr()), Some(v6));
        assert!(met.rtt.is_some());
    }
    assert_eq!((log.met.len(), crawl.progress().answered), (2, 1));
    let (_, node) = crawl.node(&id).unwrap();
    assert_eq!(node.unwrap().endpoint().udp_addr(), v6);

    // Silent at both, it is asked twice at each; where there is no socket for the other, at one.
    let mut crawl = crawler(8, Protocols::V5, 1);
    let log = drive(&mut crawl, start(record.clone()), silent);
    assert_eq!(log.places(id, Protocol::V5), [v4, v6, v4, v6]);
    assert_eq!((log.met.len(), crawl.progress().silent), (1, 1));
    let mut crawl = Crawl::new(CrawlConfig {
        families: Families::of([0, 0, 0, 0].into()),
        ..crawl.config
    });
    let log = drive(&mut crawl, start(record), silent);
    assert_eq!(log.places(id, Protocol::V5), [v4, v4]);
}

#[test]
fn a_public_node_sends_nobody_into_a_private_network() {
    for inner in ["fc00::1", "::1", "ff02::1"] {
        let record = dual(1, [20, 0, 0, 1], inner);
        let id = record.id();
        let mut crawl = crawler(8, Protocols::V5, 1);
        let log = drive(&mut crawl, start(record), silent);
        let places = log.places(id, Protocol::V5);
        assert!(
            places.len() == 2 && places.iter().all(|place| place.is_ipv4()),
            "{places:?}"
        );
    }
    // Beside a private address it is as good.
    let record = dual(1, [10, 0, 0, 1], "fc00::1");
    let id = record.id();
    let log = drive(&mut crawler(8, Protocols::V5, 1), start(record), silent);
    assert_eq!(log.places(id, Protocol::V5).len(), 4);
}

/// A crawl that knows node 1, silent at port 1000, and node 2, which names it as `named` says each time it is asked.
fn told(
    protocols: Protocols,
    score: u64,
    mut named: impl FnMut() -> Option<Node>,
    there: impl Fn(u16) -> bool,
) -> (Crawl, Log) {
    let (id, teller) = (key(1).node_id(), at(2, 1, 2000));
    let mut crawl = crawler(8, protocols, 3);
    let record = if protocols == Protocols::V4 {
        let node = Node::from_record(at(1, 1, 1000)).unwrap();
        NodeAddress::Enode(node.enode_url())
    } else {
        NodeAddress::Record(at(1, 1, 1000))
    };
    let first = KnownNode {
        score,
        ..KnownNode::new(record)
    };
    let mut silences = 0;
    let known = vec![first, KnownNode::new(NodeAddress::Record(teller))];
    let log = drive(&mut crawl, known, |question| {
        if question.node.id() == id {
            if there(question.node.endpoint().udp) {
                return answered(question, Vec::new());
            }
            silences += 1;
            return silent(question);
        }
        // It tells of node 1 only once that one was given up.
        let news = (silences >= usize::from(TRIES)).then(&mut named).flatten();
        answered(question, news.into_iter().collect())
    });
    (crawl, log)
}

#[test]
fn who_was_silent_is_asked_again_after_news_of_it() {
    let id = key(1).node_id();
    // A record elsewhere, a newer one at the same place, and over discv4 another address without a record.
    let moved = Node::from_record(at(1, 2, 1001)).unwrap();
    let stays = Node::from_record(at(1, 2, 1000)).unwrap();
    let bare = Node::new(key(1).public_key(), *moved.endpoint());
    for (protocols, news, answers) in [
        (Protocols::V5, &moved, 1001),
        (Protocols::V5, &stays, 0),
        (Protocols::V4, &bare, 1001),
    ] {
        let news = || Some(news.clone());
        let (crawl, log) = told(protocols, 8, news, |port| port == answers);
        let progress = crawl.progress();
        let (known, _) = crawl.node(&id).unwrap();
        let last = log.met.iter().rfind(|met| met.id == id).unwrap();
        if answers == 0 {
            // Asked in two goes, and in vain: it falls once.
            let asked = log.places(id, Protocol::V5).len();
            assert_eq!(asked, BOTH * usize::from(TRIES));
            assert_eq!((progress.answered, progress.silent), (1, 1));
            assert_eq!((known.score, last.rtt), (4, None));
        } else {
            // What it lost by its silence is forgotten.
            assert_eq!(
                (progress.answered, progress.silent),
                (2, 0),
                "{protocols:?}"
            );
            assert_eq!(known.score, 9);
            assert_eq!(last.at.unwrap().udp, answers);
        }
    }
    // The same record again is no news.
    let same = || Some(Node::from_record(at(1, 1, 1000)).unwrap());
    let (_, log) = told(Protocols::V5, 8, same, |_| false);
    assert_eq!(log.places(id, Protocol::V5).len(), usize::from(TRIES));
}

#[test]
fn nobody_makes_a_crawl_ask_without_end() {
    let id = key(1).node_id();
    let mut seq = 1;
    let signed = || {
        seq += 1;
        Node::from_record(at(1, seq, 1000 + seq as u16))
    };
    let (crawl, log) = told(Protocols::V5, 8, signed, |_| false);
    let most = usize::from((1 + MAX_RENEWALS) * TRIES);
    assert_eq!(log.places(id, Protocol::V5).len(), most);
    assert_eq!(crawl.progress().silent, 1);
    assert!(
        seq > 2 + u64::from(MAX_RENEWALS),
        "it was told of {seq} times"
    );
    // Addresses without a record count alike.
    let mut port = 1000;
    let unsigned = || {
        port += 1;
        let node = Node::from_record(at(1, 1, port)).unwrap();
        Some(Node::new(node.public_key(), *node.endpoint()))
    };
    let (_, log) = told(Protocols::V4, 8, unsigned, |_| false);
    assert_eq!(log.places(id, Protocol::V4).len(), most);
    assert!(port > 1003, "it was told of {port}");
}
