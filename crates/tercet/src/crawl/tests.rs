use std::collections::BTreeSet;

use tercet_discovery::Target;
use tercet_enode::{Endpoint, SecretKey};
use tercet_machine::UnixTime;
use tercet_machine::check::{Limits, START, Step, contract};

use super::io::FULL;
use super::slices::LEAF;
use super::*;

fn key(seed: u16) -> SecretKey {
    let mut bytes = [7; 32];
    bytes[..2].copy_from_slice(&seed.to_be_bytes());
    SecretKey::generate(&mut MachineRng::from_seed(bytes))
}

/// A network in which every node knows, as tables do, up to 16 nodes of each of its buckets.
struct World {
    keys: BTreeMap<NodeId, SecretKey>,
    records: BTreeMap<NodeId, NodeRecord>,
    places: BTreeMap<NodeId, u16>,
    ip: fn(u16) -> [u8; 4],
    speaks: fn(u16) -> Protocols,
}

/// What a crawl of a world did.
#[derive(Default)]
struct Log {
    took: Duration,
    asked: Vec<(MonoTime, Question)>,
    met: Vec<Meeting>,
}

impl Log {
    /// Who was visited over `protocol`, in order.
    fn visits(&self, protocol: Protocol) -> Vec<NodeId> {
        let met = self.met.iter().filter(|met| met.protocol == protocol);
        met.map(|met| met.id).collect()
    }
}

const RTT: Duration = Duration::from_millis(20);

impl World {
    fn new(count: u16, ip: fn(u16) -> [u8; 4], speaks: fn(u16) -> Protocols) -> Self {
        let mut world = Self {
            keys: BTreeMap::new(),
            records: BTreeMap::new(),
            places: BTreeMap::new(),
            ip,
            speaks,
        };
        for place in 0..count {
            let key = key(place);
            world.places.insert(key.node_id(), place);
            let record = NodeRecord::builder().ip(ip(place).into()).udp(30303);
            world
                .records
                .insert(key.node_id(), record.sign(&key).unwrap());
            world.keys.insert(key.node_id(), key);
        }
        world
    }

    fn record(&self, id: &NodeId) -> NodeRecord {
        self.records[id].clone()
    }

    fn node(&self, id: &NodeId) -> Node {
        let endpoint = Endpoint::new((self.ip)(self.places[id]).into(), 30303, 0);
        Node::new(self.keys[id].public_key(), endpoint)
    }

    /// discv4 names endpoints, discv5 records; each only nodes that speak it.
    fn named(&self, protocol: Protocol, ids: impl Iterator<Item = NodeId>) -> Vec<Node> {
        let speaking = ids.filter(|id| (self.speaks)(self.places[id]).contains(protocol));
        speaking
            .map(|id| match protocol {
                Protocol::V4 => self.node(&id),
                Protocol::V5 => Node::from_record(self.record(&id)).unwrap(),
            })
            .take(FULL)
            .collect()
    }

    fn answer(&self, question: &Question) -> CrawlInput {
        let (serial, asked) = (question.serial, question.node.id());
        let protocol = match question.ask {
            Ask::V4 { .. } => Protocol::V4,
            Ask::V5(_) => Protocol::V5,
        };
        if !(self.speaks)(self.places[&asked]).contains(protocol) {
            return CrawlInput::Silent { serial };
        }
        let others = || self.keys.keys().copied().filter(|id| *id != asked);
        let (record, named) = match &question.ask {
            Ask::V4 { target, record } => {
                let mut ids: Vec<NodeId> = others().collect();
                ids.sort_by(|a, b| target.id().cmp_distance(a, b));
                (*record, self.named(protocol, ids.into_iter()))
            }
            Ask::V5(distances) => {
                let distances = distances.as_slice();
                let ids = distances.iter().flat_map(|distance| {
                    let bucket = others().filter(|id| asked.log_distance(id) == *distance);
                    bucket.take(16)
                });
                let own = distances.contains(&0);
                let mut named = self.named(protocol, ids);
                named.truncate(FULL - usize::from(own));
                (own, named)
            }
        };
        CrawlInput::Answered {
            serial,
            record: record.then(|| self.record(&asked)),
            extent: extent(named.len() + usize::from(record)),
            named,
            rtt: RTT,
        }
    }

    /// A node to begin with, as named on the command line.
    fn known(&self, place: u16, with_record: bool) -> KnownNode {
        let id = key(place).node_id();
        KnownNode::new(if with_record {
            NodeAddress::Record(self.record(&id))
        } else {
            NodeAddress::Enode(self.node(&id).enode_url())
        })
    }

    fn crawl(&self, crawl: &mut Crawl, known: Vec<KnownNode>) -> Log {
        drive(crawl, known, |question| self.answer(question))
    }
}

fn extent(named: usize) -> Extent {
    if named < FULL {
        Extent::All
    } else {
        Extent::Full
    }
}

/// Runs a crawl to its end in a network that answers like this.
fn drive(
    crawl: &mut Crawl,
    known: Vec<KnownNode>,
    mut answer: impl FnMut(&Question) -> CrawlInput,
) -> Log {
    let mut now = START;
    let (mut open, mut log) = (VecDeque::new(), Log::default());
    for known in known {
        crawl.handle(now, CrawlInput::Known(known));
    }
    loop {
        while let Some(output) = crawl.poll() {
            match output {
                CrawlOutput::Done => {
                    log.took = now.mono - START.mono;
                    return log;
                }
                CrawlOutput::Met(met) => log.met.push(met),
                CrawlOutput::Ask(question) => {
                    log.asked.push((now.mono, question.clone()));
                    open.push_back(question);
                    assert!(open.len() <= crawl.config.parallel);
                }
            }
        }
        match open.pop_front() {
            Some(question) => crawl.handle(now, answer(&question)),
            None => {
                let deadline = crawl.deadline().expect("neither asked nor waiting");
                now = START.after(deadline - START.mono);
                crawl.handle_timeout(now);
            }
        }
    }
}

fn crawler(parallel: usize, protocols: Protocols, seed: u8) -> Crawl {
    Crawl::new(CrawlConfig {
        own: NodeId::new([0; 32]),
        parallel,
        protocols,
        families: Families::BOTH,
        seed: [seed; 32],
    })
}

fn lan(place: u16) -> [u8; 4] {
    let [high, low] = place.to_be_bytes();
    [10, 0, high, low]
}

fn both(_: u16) -> Protocols {
    Protocols::ALL
}

#[test]
fn everybody_is_found_and_visited_once_over_each_protocol() {
    let world = World::new(300, lan, both);
    for (protocols, seed) in [Protocols::V4, Protocols::V5, Protocols::ALL]
        .into_iter()
        .flat_map(|all| [(all, 1), (all, 2)])
    {
        let mut crawl = crawler(256, protocols, seed);
        // Who is known by its key alone is asked over discv5 only once discv4 has brought its record.
        let with_record = protocols == Protocols::V5;
        let log = world.crawl(&mut crawl, vec![world.known(0, with_record)]);
        let set: crate::nodeset::NodeSet = crawl.set().cloned().collect();
        assert_eq!(set.len(), 300, "{protocols:?}");
        let whole = |(_, node): (&NodeId, &KnownNode)| node.score == 1 && node.record().is_some();
        assert!(set.iter().all(whole));
        let progress = crawl.progress();
        assert_eq!((progress.answered, progress.silent), (300, 0));
        for protocol in [Protocol::V4, Protocol::V5] {
            let visits = log.visits(protocol);
            let expected = if protocols.contains(protocol) { 300 } else { 0 };
            let each: BTreeSet<_> = visits.iter().collect();
            assert_eq!((visits.len(), each.len()), (expected, expected));
        }
        let visits = log.met.len();
        let more = log.asked.len() - visits;
        println!(
            "{protocols:?}: {visits} visits, {more} questions of {} searches",
            progress.searches
        );
        assert!(more < visits / 2, "{more} questions beside {visits} visits");
    }
}

#[test]
fn who_speaks_one_protocol_is_found_over_it() {
    // A third speaks discv4 alone, a third discv5 alone; the two are joined by those that speak both.
    let speaks = |place| match place % 3 {
        0 => Protocols::ALL,
        1 => Protocols::V4,
        _ => Protocols::V5,
    };
    let world = World::new(300, lan, speaks);
    let mut crawl = crawler(64, Protocols::ALL, 2);
    world.crawl(&mut crawl, vec![world.known(0, false)]);
    let progress = crawl.progress();
    assert_eq!((progress.answered_v4, progress.answered_v5), (200, 200));
    assert_eq!((progress.answered, crawl.set().count()), (300, 300));
    assert_eq!(progress.silent, 0);
}

/// A node of an earlier crawl, checked just long enough ago to be checked again.
fn earlier(world: &World, place: u16, score: u64) -> KnownNode {
    KnownNode {
        score,
        last_check: Some(UnixTime::from_secs(START.unix.as_secs() - 600)),
        ..world.known(place, true)
    }
}

#[test]
fn those_that_do_not_answer_stay_out_or_fall() {
    let speaks = |place| {
        if place % 2 == 1 {
            Protocols::NONE
        } else {
            Protocols::ALL
        }
    };
    let world = World::new(100, lan, speaks);
    let mut crawl = crawler(64, Protocols::ALL, 2);
    for (place, score) in [(0, 4), (1, 5), (3, 1)] {
        crawl.handle(START, CrawlInput::Known(earlier(&world, place, score)));
    }
    for id in world.keys.keys() {
        crawl.handle(
            START,
            CrawlInput::Came(Node::from_record(world.record(id)).unwrap()),
        );
    }
    let log = world.crawl(&mut crawl, Vec::new());
    let set: crate::nodeset::NodeSet = crawl.set().cloned().collect();
    let score = |place: u16| {
        let id = key(place).node_id();
        let found = set.iter().find(|(at, _)| **at == id);
        found.map(|(_, node)| (node.score, node.last_check))
    };
    let now = Some(START.unix);
    // One more with an answer, half without, out at nothing; and whoever never answered does not come in.
    assert_eq!(score(0), Some((5, now)));
    assert_eq!(score(1), Some((2, now)));
    assert_eq!((score(3), score(5)), (None, None));
    assert_eq!(score(2), Some((1, now)));
    assert_eq!(set.len(), 51);
    let progress = crawl.progress();
    assert_eq!((progress.answered, progress.silent), (50, 50));
    // Each of the silent was asked twice, and told of once over each protocol.
    let id = key(1).node_id();
    let asked = log
        .asked
        .iter()
        .filter(|(_, question)| question.node.id() == id);
    assert_eq!(asked.count(), 4);
    assert_eq!(
        log.met
            .iter()
            .filter(|met| met.id == id && met.rtt.is_none())
            .count(),
        2
    );
}

#[test]
fn the_silence_of_who_had_answered_narrows_the_window() {
    let world = World::new(64, lan, |_| Protocols::NONE);
    let start = Window::new(64).size();
    let mut crawl = crawler(64, Protocols::V4, 2);
    world.crawl(
        &mut crawl,
        (0..64).map(|place| world.known(place, true)).collect(),
    );
    assert_eq!(crawl.progress().window, start);
    let mut crawl = crawler(64, Protocols::V4, 2);
    world.crawl(
        &mut crawl,
        (0..64).map(|place| earlier(&world, place, 1)).collect(),
    );
    assert!(crawl.progress().window < start);
}

#[test]
fn who_was_checked_lately_is_left_alone_but_may_be_searched_from() {
    let world = World::new(40, lan, both);
    let mut crawl = crawler(64, Protocols::ALL, 3);
    let recent = KnownNode {
        score: 3,
        last_check: Some(UnixTime::from_secs(START.unix.as_secs() - 599)),
        ..world.known(0, true)
    };
    let log = world.crawl(&mut crawl, vec![recent]);
    assert!(log.met.iter().all(|met| met.id != key(0).node_id()));
    assert_eq!(
        (crawl.progress().recent, crawl.progress().answered),
        (1, 39)
    );
    assert_eq!(crawl.set().count(), 40);
}

#[test]
fn no_subnet_is_asked_more_than_its_quota() {
    let one_subnet = |place: u16| [20, 0, 0, place as u8];
    let world = World::new(48, one_subnet, both);
    let mut crawl = crawler(256, Protocols::ALL, 4);
    let log = world.crawl(&mut crawl, vec![world.known(0, true)]);
    assert_eq!(crawl.set().count(), 48);
    // Eight at once, the other 88 of the 2 × 48 visits at four a second.
    assert!(log.took >= Duration::from_secs(22), "{:?}", log.took);
    for (at, _) in &log.asked {
        let second = |other: &&(MonoTime, Question)| {
            other.0 >= *at && other.0 - *at < Duration::from_secs(1)
        };
        assert!(log.asked.iter().filter(second).count() <= 12);
    }
}

#[test]
fn a_nodes_slice_comes_first_and_far_buckets_in_turn() {
    let mut crawl = crawler(1, Protocols::V5, 5);
    let near = crawl.distances(250);
    assert_eq!(near.as_slice()[..3], [0, 250, 249]);
    assert_eq!(near.as_slice().len(), usize::from(256 - DEEPEST) + 2);
    // With a slice that is settled only the far ones are of use, and not always the farthest first.
    for n in 0..=u8::MAX {
        let mut id = [n; 32];
        id[31] = 1;
        crawl
            .nodes
            .insert_at(NodeId::new(id), World::new(1, lan, both).known(0, true));
    }
    let firsts: BTreeSet<u16> = (0..100).map(|_| crawl.distances(0).as_slice()[1]).collect();
    assert!(
        firsts.len() > 4 && firsts.iter().all(|first| *first > 240),
        "{firsts:?}"
    );
}

#[test]
fn a_record_moves_a_node_that_has_not_answered() {
    let world = World::new(1, lan, both);
    let id = key(0).node_id();
    let mut nodes = Nodes::new(Families {
        v4: true,
        v6: false,
    });
    nodes.insert(world.known(0, false));
    let elsewhere = |seq: u64, port| {
        let record = NodeRecord::builder().seq(seq).ip([10, 0, 0, 9].into());
        record.udp(port).sign(&key(0)).unwrap()
    };
    let port = |nodes: &Nodes| {
        nodes
            .get(&id)
            .unwrap()
            .node
            .as_ref()
            .unwrap()
            .endpoint()
            .udp
    };
    nodes.learn(elsewhere(5, 1005));
    assert_eq!(port(&nodes), 1005);
    nodes.learn(elsewhere(4, 1004));
    assert_eq!(port(&nodes), 1005);
    // Where it answers it stays.
    nodes.get_mut(&id).unwrap().answered = true;
    nodes.learn(elsewhere(6, 1006));
    assert_eq!(port(&nodes), 1005);
    assert_eq!(nodes.get(&id).unwrap().known.record().unwrap().seq(), 6);
    // An address of a kind nothing can be sent to is none.
    let v6 = NodeRecord::builder()
        .ip("fc00::1".parse().unwrap())
        .udp6(1)
        .sign(&key(1))
        .unwrap();
    let v6_id = v6.id();
    nodes.insert(KnownNode::new(NodeAddress::Record(v6)));
    assert!(nodes.open(&v6_id, Protocols::ALL).is_empty());
}

mod again;
mod settled;

#[test]
fn memory_is_bounded() {
    let mut crawl = crawler(1, Protocols::ALL, 6);
    let node = World::new(1, lan, both).known(0, false);
    for n in 0..MAX_NODES {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        crawl.nodes.insert_at(NodeId::new(id), node.clone());
    }
    crawl.handle(START, CrawlInput::Known(node));
    let progress = crawl.progress();
    assert_eq!((progress.seen, progress.left_out), (MAX_NODES, 1));
    assert!(size_of::<(NodeId, nodes::Entry)>() + 2 * size_of::<Visit>() <= 640);
    const { assert!(LEAF < FULL) };
}

#[test]
fn it_keeps_the_contract() {
    let world = World::new(64, |place| [20, 0, 0, place as u8], both);
    let mut steps = vec![Step::Input(CrawlInput::Known(world.known(0, true)))];
    for (serial, id) in world.places.keys().enumerate() {
        let serial = serial as u64;
        let input = if serial % 3 == 2 {
            CrawlInput::Silent { serial }
        } else {
            let target = Target::new([serial as u8; 64]);
            world.answer(&Question {
                serial,
                node: world.node(id),
                ask: Ask::V4 {
                    target,
                    record: true,
                },
                patience: RTT,
            })
        };
        steps.push(Step::Input(input));
        steps.push(Step::Advance(Duration::from_millis(300)));
    }
    steps.push(Step::Advance(Duration::from_secs(60)));
    let report = contract(
        || crawler(256, Protocols::ALL, 8),
        &steps,
        Limits::default(),
    )
    .unwrap();
    assert!(report.outputs > 64, "{report:?}");
}
