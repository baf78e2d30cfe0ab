use tercet_enode::{Endpoint, SecretKey};
use tercet_machine::check::{Limits, START, Step, contract};

use super::*;

fn key(seed: u16) -> SecretKey {
    let mut bytes = [7; 32];
    bytes[..2].copy_from_slice(&seed.to_be_bytes());
    SecretKey::generate(&mut MachineRng::from_seed(bytes))
}

/// A network that knows itself: every search is answered with the 16 nearest.
struct World {
    keys: BTreeMap<NodeId, SecretKey>,
    ip: fn(u16) -> [u8; 4],
    places: BTreeMap<NodeId, u16>,
    dead: fn(u16) -> bool,
}

impl World {
    fn new(count: u16, ip: fn(u16) -> [u8; 4], dead: fn(u16) -> bool) -> Self {
        let mut world = Self {
            keys: BTreeMap::new(),
            ip,
            places: BTreeMap::new(),
            dead,
        };
        for place in 0..count {
            let key = key(place);
            world.places.insert(key.node_id(), place);
            world.keys.insert(key.node_id(), key);
        }
        world
    }

    fn node(&self, id: &NodeId) -> Node {
        let endpoint = Endpoint::new((self.ip)(self.places[id]).into(), 30303, 0);
        Node::new(self.keys[id].public_key(), endpoint)
    }

    fn nearest(&self, target: NodeId) -> Vec<Node> {
        let mut ids: Vec<&NodeId> = self.keys.keys().collect();
        ids.sort_by(|a, b| target.cmp_distance(a, b));
        ids.into_iter().take(16).map(|id| self.node(id)).collect()
    }

    fn answer(&self, question: CrawlOutput) -> CrawlInput {
        match question {
            CrawlOutput::Search { search, target } => CrawlInput::Found {
                search,
                nodes: self.nearest(target.id()),
            },
            CrawlOutput::Check(node) if (self.dead)(self.places[&node.id()]) => {
                CrawlInput::Silent { id: node.id() }
            }
            CrawlOutput::Check(node) => {
                let builder = NodeRecord::builder().ip(node.endpoint().ip).udp(30303);
                CrawlInput::Answered {
                    record: builder.sign(&self.keys[&node.id()]).unwrap(),
                    rtt: Duration::from_millis(20),
                }
            }
            CrawlOutput::Done => panic!("no question"),
        }
    }

    fn first(&self) -> KnownNode {
        let id = key(0).node_id();
        KnownNode::new(NodeAddress::Enode(self.node(&id).enode_url()))
    }

    /// Crawls to the end: the time it took, and the time of every check.
    fn crawl(&self, crawl: &mut Crawl, known: Vec<KnownNode>) -> (Duration, Vec<(MonoTime, Node)>) {
        let mut now = START;
        let (mut asked, mut checks) = (VecDeque::new(), Vec::new());
        for known in known {
            crawl.handle(now, CrawlInput::Known(known));
        }
        loop {
            while let Some(output) = crawl.poll() {
                if output == CrawlOutput::Done {
                    return (now.mono - START.mono, checks);
                }
                if let CrawlOutput::Check(node) = &output {
                    checks.push((now.mono, node.clone()));
                }
                asked.push_back(output);
                assert!(asked.len() <= 256);
            }
            match asked.pop_front() {
                Some(question) => crawl.handle(now, self.answer(question)),
                None => {
                    let deadline = crawl.deadline().expect("neither asked nor waiting");
                    now = START.after(deadline - START.mono);
                    crawl.handle_timeout(now);
                }
            }
        }
    }
}

fn lan(place: u16) -> [u8; 4] {
    let [high, low] = place.to_be_bytes();
    [10, 0, high, low]
}

fn nobody(_: u16) -> bool {
    false
}

#[test]
fn everybody_is_found_and_checked_once() {
    let world = World::new(1500, lan, nobody);
    let mut crawl = Crawl::new(256, [1; 32]);
    let (_, checks) = world.crawl(&mut crawl, vec![world.first()]);
    assert_eq!((crawl.set().len(), checks.len()), (1500, 1500));
    let progress = crawl.progress();
    assert_eq!((progress.answered, progress.silent), (1500, 0));
    assert!(progress.searches < 1500, "{progress:?}");
    assert!(
        crawl
            .set()
            .iter()
            .all(|(_, node)| node.score == 1 && node.record().is_some())
    );
}

#[test]
fn those_that_do_not_answer_stay_out_or_fall() {
    let world = World::new(100, lan, |place| place % 2 == 1);
    let mut crawl = Crawl::new(64, [2; 32]);
    let id = |place: u16| key(place).node_id();
    let with_score = |place, score| KnownNode {
        score,
        last_check: Some(UnixTime::from_secs(START.unix.as_secs() - 600)),
        ..KnownNode::new(NodeAddress::Enode(world.node(&id(place)).enode_url()))
    };
    let known = vec![with_score(0, 4), with_score(1, 4), with_score(3, 1)];
    world.crawl(&mut crawl, known);
    let set = crawl.set();
    let score = |place| {
        set.iter()
            .find(|(at, _)| **at == id(place))
            .map(|(_, node)| node.score)
    };
    assert_eq!(
        (score(0), score(1), score(3), score(5)),
        (Some(5), Some(2), None, None)
    );
    assert_eq!(set.len(), 51);
    // What an earlier crawl knew was lost on the way: the window has shrunk.
    assert_eq!(crawl.progress().silent, 50);
}

#[test]
fn who_was_checked_lately_is_left_alone() {
    let world = World::new(2, lan, nobody);
    let mut crawl = Crawl::new(64, [3; 32]);
    let recent = KnownNode {
        score: 3,
        last_check: Some(UnixTime::from_secs(START.unix.as_secs() - 599)),
        ..world.first()
    };
    let (_, checks) = world.crawl(&mut crawl, vec![recent]);
    assert_eq!(checks.len(), 1);
    assert_eq!((crawl.progress().recent, crawl.set().len()), (1, 2));
}

#[test]
fn no_subnet_is_asked_more_than_its_quota() {
    let one_subnet = |place: u16| [20, 0, 0, place as u8];
    let world = World::new(48, one_subnet, nobody);
    let mut crawl = Crawl::new(256, [4; 32]);
    let (took, checks) = world.crawl(&mut crawl, vec![world.first()]);
    assert_eq!(crawl.set().len(), 48);
    // Eight at once, the other forty at four a second.
    assert!(
        took >= Duration::from_secs(10) && took < Duration::from_secs(11),
        "{took:?}"
    );
    for (at, _) in &checks {
        let second =
            |other: &&(MonoTime, Node)| other.0 >= *at && other.0 - *at < Duration::from_secs(1);
        assert!(checks.iter().filter(second).count() <= 12);
    }
}

#[test]
fn what_could_not_be_asked_is_asked_again() {
    let world = World::new(1, lan, nobody);
    let mut crawl = Crawl::new(64, [5; 32]);
    crawl.handle(START, CrawlInput::Known(world.first()));
    let asked: Vec<_> = std::iter::from_fn(|| crawl.poll()).collect();
    for question in asked.clone() {
        crawl.handle(START, CrawlInput::Busy(question));
    }
    assert_eq!(crawl.poll(), None);
    let later = START.after(BUSY_PAUSE);
    assert_eq!(crawl.deadline(), Some(later.mono));
    crawl.handle_timeout(later);
    let again: Vec<_> = std::iter::from_fn(|| crawl.poll()).collect();
    assert_eq!(again.len(), asked.len());
}

#[test]
fn memory_is_bounded() {
    let mut crawl = Crawl::new(1, [6; 32]);
    let node = World::new(1, lan, nobody).first();
    for n in 0..MAX_NODES {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        let known = node.clone();
        crawl.nodes.insert(
            NodeId::new(id),
            Entry {
                known,
                in_set: false,
            },
        );
    }
    crawl.handle(START, CrawlInput::Known(node));
    assert_eq!(
        (crawl.progress().seen, crawl.progress().left_out),
        (MAX_NODES, 1)
    );
    assert!(size_of::<(NodeId, Entry)>() + size_of::<Node>() <= 640);
}

#[test]
fn it_keeps_the_contract() {
    let world = World::new(64, |place| [20, 0, 0, place as u8], |place| place % 3 == 0);
    let search = Search::Walk;
    let mut steps = vec![Step::Input(CrawlInput::Known(world.first()))];
    for id in world.places.keys() {
        let nodes = world.nearest(*id);
        steps.push(Step::Input(CrawlInput::Found { search, nodes }));
        steps.push(Step::Input(
            world.answer(CrawlOutput::Check(world.node(id))),
        ));
        steps.push(Step::Advance(Duration::from_millis(40)));
        steps.push(Step::Input(CrawlInput::Busy(CrawlOutput::Check(
            world.node(id),
        ))));
    }
    steps.push(Step::Advance(Duration::from_secs(60)));
    let report = contract(|| Crawl::new(256, [8; 32]), &steps, Limits::default()).unwrap();
    assert!(report.outputs > 64, "{report:?}");
}
