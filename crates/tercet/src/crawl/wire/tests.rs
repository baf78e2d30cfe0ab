use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tercet_discovery::v4::codec::{decode, encode};
use tercet_discovery::v4::{FindNode, Message as V4Message, Ping, WireEndpoint, WireTarget};
use tercet_discovery::v5::Distances;
use tercet_discovery::{Protocols, Target};
use tercet_enode::Node;
use tercet_machine::check::{Limits, START, Step, contract};

use super::*;
use crate::crawl::{Extent, Question};

#[path = "../../../tests/responder/mod.rs"]
mod responder;

use responder::{Responder, World, key};

const OWN: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1)),
    40_000,
);
const PATIENCE: Duration = Duration::from_millis(700);
const OWN_KEY: usize = 9999;

fn addr(number: usize) -> SocketAddr {
    SocketAddr::new(
        [127, 0, 1, 1].into(),
        20_000 + u16::try_from(number).unwrap(),
    )
}

/// A machine and the nodes around it, with jobs run at once and datagrams carried in order.
struct Net {
    wire: Wire,
    nodes: BTreeMap<SocketAddr, Responder>,
    world: std::sync::Arc<World>,
    now: Now,
    told: Vec<CrawlInput>,
    /// Datagrams to and from each node.
    carried: usize,
    /// Those of them that are lost, by their place in the order.
    lost: BTreeSet<usize>,
    /// Which jobs are not done before [`Net::release`].
    slow: fn(&Job) -> bool,
    held: Vec<Job>,
}

impl Net {
    fn new(count: usize, speaks: Protocols) -> Self {
        let addrs: Vec<_> = (0..count).map(addr).collect();
        let world = World::new(&addrs);
        let nodes = (0..count).map(|number| (addr(number), Responder::new(&world, number, speaks)));
        let record = NodeRecord::builder()
            .ip(OWN.ip())
            .udp(OWN.port())
            .sign(&key(OWN_KEY))
            .unwrap();
        Self {
            wire: Wire::new(key(OWN_KEY), record, [3; 32]),
            nodes: nodes.collect(),
            world,
            now: START,
            told: Vec::new(),
            carried: 0,
            lost: BTreeSet::new(),
            slow: |_| false,
            held: Vec::new(),
        }
    }

    fn ask(&mut self, serial: u64, number: usize, ask: Ask) {
        let node = self.world.node(number).clone();
        self.input(WireInput::Ask(Question {
            serial,
            node,
            ask,
            patience: PATIENCE,
        }));
    }

    fn input(&mut self, input: WireInput) {
        self.wire.handle(self.now, input);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(output) = self.wire.poll() {
            match output {
                WireOutput::Job(job) if (self.slow)(&job) => self.held.push(*job),
                WireOutput::Job(job) => self.wire.handle(self.now, WireInput::Done(job.run())),
                WireOutput::Tell(input) => self.told.push(input),
                WireOutput::Send { to, datagram } => {
                    if !self.nodes.contains_key(&to) || self.is_lost() {
                        continue;
                    }
                    let node = self.nodes.get_mut(&to).unwrap();
                    for reply in node.take(self.now, OWN, &datagram) {
                        if !self.is_lost() {
                            let datagram = BytesMut::from(&reply[..]);
                            self.wire
                                .handle(self.now, WireInput::Datagram { from: to, datagram });
                        }
                    }
                }
            }
        }
    }

    /// Whether the next datagram is.
    fn is_lost(&mut self) -> bool {
        self.carried += 1;
        self.lost.contains(&(self.carried - 1))
    }

    /// Does the jobs that were held, the latest first.
    fn release(&mut self) {
        while let Some(job) = self.held.pop() {
            self.wire.handle(self.now, WireInput::Done(job.run()));
            self.settle();
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now.mono + time;
        while let Some(deadline) = self.wire.deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.after(deadline - self.now.mono);
            self.wire.handle_timeout(self.now);
            self.settle();
        }
        self.now = self.now.after(end - self.now.mono);
    }

    /// The one answer that was told of since.
    fn answer(&mut self) -> (u64, Option<NodeRecord>, Vec<Node>) {
        let (serial, record, named, _) = self.whole_answer();
        (serial, record, named)
    }

    fn whole_answer(&mut self) -> (u64, Option<NodeRecord>, Vec<Node>, Extent) {
        let [told] = &std::mem::take(&mut self.told)[..] else {
            panic!("not one answer");
        };
        match told.clone() {
            CrawlInput::Answered {
                serial,
                record,
                named,
                extent,
                ..
            } => (serial, record, named, extent),
            other => panic!("{other:?}"),
        }
    }
}

fn near(number: usize) -> Ask {
    let target = Target::from(key(number).public_key());
    Ask::V4 {
        target,
        record: true,
    }
}

fn everything() -> Ask {
    Ask::V5(Distances::new(0..=256))
}

#[test]
fn over_discv4_both_prove_themselves_once_and_then_it_answers() {
    let mut net = Net::new(20, Protocols::V4);
    net.ask(7, 3, near(3));
    let (serial, record, named) = net.answer();
    assert_eq!((serial, record.as_ref()), (7, net.world.node(3).record()));
    assert_eq!(named.len(), 16);
    assert!(net.nodes[&addr(3)].is_bonded(OWN));
    // Ping, Pong, Ping, Pong, ENRRequest, ENRResponse, FindNode, two Neighbors; the second question needs no proof.
    assert_eq!(net.carried, 9);
    net.ask(
        8,
        3,
        Ask::V4 {
            target: Target::new([1; 64]),
            record: false,
        },
    );
    assert_eq!(net.answer().0, 8);
    assert_eq!(net.carried, 12);
}

#[test]
fn over_discv5_one_handshake_serves_all_questions() {
    let mut net = Net::new(40, Protocols::V5);
    net.ask(1, 0, everything());
    let (_, record, named) = net.answer();
    assert_eq!(record.as_ref(), net.world.node(0).record());
    assert_eq!(named.len(), 15);
    let first = net.carried;
    net.ask(2, 0, Ask::V5(Distances::new([256])));
    let (_, record, named) = net.answer();
    let far = |node: &Node| node.id().log_distance(&key(0).node_id()) == 256;
    assert!(record.is_none() && named.len() == 16 && named.iter().all(far));
    assert!(net.carried - first < first);
    // A node that has restarted is shaken hands with again.
    net.nodes.get_mut(&addr(0)).unwrap().restart();
    net.ask(3, 0, everything());
    assert_eq!(net.answer().0, 3);
}

#[test]
fn a_challenge_is_worth_another_wait() {
    let mut net = Net::new(20, Protocols::V5);
    let node = net.world.node(0).clone();
    let (ask, patience) = (everything(), PATIENCE);
    let question = Question {
        serial: 1,
        node,
        ask,
        patience,
    };
    net.wire.handle(net.now, WireInput::Ask(question));
    // Each answer takes nearly as long as one is waited for; the handshake needs two.
    for _ in 0..3 {
        let mut replies = Vec::new();
        while let Some(output) = net.wire.poll() {
            match output {
                WireOutput::Send { to, datagram } => {
                    let node = net.nodes.get_mut(&to).unwrap();
                    replies.extend(node.take(net.now, OWN, &datagram));
                }
                WireOutput::Job(job) => net.wire.handle(net.now, WireInput::Done(job.run())),
                WireOutput::Tell(input) => net.told.push(input),
            }
        }
        net.wait(if replies.is_empty() {
            Duration::ZERO
        } else {
            Duration::from_millis(600)
        });
        for reply in replies {
            let (from, datagram) = (addr(0), BytesMut::from(&reply[..]));
            net.wire
                .handle(net.now, WireInput::Datagram { from, datagram });
        }
    }
    assert_eq!(net.answer().0, 1);
}

#[test]
fn a_record_many_name_is_checked_once() {
    let mut net = Net::new(40, Protocols::V5);
    for number in 0..40 {
        net.ask(number as u64, number, everything());
        net.answer();
    }
    let node = net.world.node(1).clone();
    net.wire.handle(
        net.now,
        WireInput::Ask(Question {
            serial: 99,
            node,
            ask: everything(),
            patience: PATIENCE,
        }),
    );
    let mut checks = 0;
    while let Some(output) = net.wire.poll() {
        match output {
            WireOutput::Send { to, datagram } => {
                for reply in net
                    .nodes
                    .get_mut(&to)
                    .unwrap()
                    .take(net.now, OWN, &datagram)
                {
                    let datagram = BytesMut::from(&reply[..]);
                    net.wire
                        .handle(net.now, WireInput::Datagram { from: to, datagram });
                }
            }
            WireOutput::Job(job) => {
                checks += usize::from(matches!(*job, Job::Records { .. }));
                net.wire.handle(net.now, WireInput::Done(job.run()));
            }
            WireOutput::Tell(input) => net.told.push(input),
        }
    }
    assert_eq!((net.answer().0, checks), (99, 0));
}

#[test]
fn who_speaks_neither_is_silent_and_nothing_remains() {
    let mut net = Net::new(3, Protocols::NONE);
    net.ask(1, 0, near(0));
    net.ask(2, 0, everything());
    net.wait(PATIENCE);
    let silent = |input: &CrawlInput| matches!(input, CrawlInput::Silent { .. });
    assert!(
        net.told.len() == 2 && net.told.iter().all(silent),
        "{:?}",
        net.told
    );
    // The session machine remembers a little longer what it sent.
    net.wait(Duration::from_secs(2));
    assert_eq!(net.wire.deadline(), None);
}

#[test]
fn a_proof_that_was_forgotten_is_given_again() {
    let mut net = Net::new(20, Protocols::V4);
    net.ask(1, 0, near(0));
    net.answer();
    net.nodes.get_mut(&addr(0)).unwrap().restart();
    net.ask(2, 0, near(0));
    assert!(net.told.is_empty());
    net.wait(PATIENCE);
    assert_eq!(net.answer().0, 2);
    assert!(net.nodes[&addr(0)].is_bonded(OWN));
}

#[test]
fn questions_to_the_crawler_are_answered_but_name_nobody() {
    let mut net = Net::new(1, Protocols::ALL);
    let stranger = key(50);
    let from = addr(50);
    let packet = |message| BytesMut::from(&encode(&stranger, &message).0[..]);
    let expiration = START.unix.as_secs() + 20;
    let find = || {
        V4Message::FindNode(FindNode {
            target: WireTarget::new([1; 64]),
            expiration,
        })
    };
    let ping = V4Message::Ping(Ping {
        from: WireEndpoint::default(),
        to: WireEndpoint::default(),
        expiration,
        enr_seq: None,
    });
    let mut replies = |message| {
        net.wire.handle(
            START,
            WireInput::Datagram {
                from,
                datagram: packet(message),
            },
        );
        let mut sent = Vec::new();
        while let Some(output) = net.wire.poll() {
            match output {
                WireOutput::Job(job) => net.wire.handle(START, WireInput::Done(job.run())),
                WireOutput::Send { datagram, .. } => sent.push(decode(&datagram).unwrap().message),
                WireOutput::Tell(_) => {}
            }
        }
        sent
    };
    assert!(matches!(replies(ping)[..], [V4Message::Pong(_)]));
    // Without a proof of its address nothing more is sent there.
    assert!(replies(find()).is_empty());
    let old = V4Message::FindNode(FindNode {
        target: WireTarget::new([1; 64]),
        expiration: 1,
    });
    assert!(replies(old).is_empty());
    net.input(WireInput::Datagram {
        from,
        datagram: BytesMut::from(&[0; 1300][..]),
    });
    assert_eq!(net.wire.counters().ignored, 3);
}

#[test]
fn a_flood_of_pings_leaves_room_for_the_crawl() {
    let mut net = Net::new(1, Protocols::ALL);
    let ping = V4Message::Ping(Ping {
        from: WireEndpoint::default(),
        to: WireEndpoint::default(),
        expiration: START.unix.as_secs() + 20,
        enr_seq: None,
    });
    let (packet, _) = encode(&key(50), &ping);
    for _ in 0..MAX_UNASKED_JOBS + 10 {
        let datagram = BytesMut::from(&packet[..]);
        net.wire.handle(
            START,
            WireInput::Datagram {
                from: addr(50),
                datagram,
            },
        );
    }
    let jobs = std::iter::from_fn(|| net.wire.poll()).count();
    assert_eq!((jobs, net.wire.counters().flooded), (MAX_UNASKED_JOBS, 10));
}

mod late;
mod network;

/// The machine with its jobs run inside, for the contract.
struct Inline(Wire);

#[derive(Debug, Clone)]
enum Given {
    Ask(Question),
    Datagram(SocketAddr, Vec<u8>),
}

#[derive(Debug, PartialEq)]
enum Out {
    Send(SocketAddr, Bytes),
    Told(String),
}

impl Machine for Inline {
    type Input = Given;
    type Output = Out;

    fn handle(&mut self, now: Now, input: Given) {
        let input = match input {
            Given::Ask(question) => WireInput::Ask(question),
            Given::Datagram(from, bytes) => WireInput::Datagram {
                from,
                datagram: BytesMut::from(&bytes[..]),
            },
        };
        self.0.handle(now, input);
        let mut outputs = VecDeque::new();
        while let Some(output) = self.0.poll() {
            match output {
                WireOutput::Job(job) => self.0.handle(now, WireInput::Done(job.run())),
                other => outputs.push_back(other),
            }
        }
        self.0.shared.out = outputs;
    }

    fn handle_timeout(&mut self, now: Now) {
        self.0.handle_timeout(now);
    }

    fn deadline(&self) -> Option<MonoTime> {
        self.0.deadline()
    }

    fn poll(&mut self) -> Option<Out> {
        self.0.poll().map(|output| match output {
            WireOutput::Send { to, datagram } => Out::Send(to, datagram),
            WireOutput::Tell(input) => Out::Told(format!("{input:?}")),
            WireOutput::Job(job) => Out::Told(format!("left over: {job:?}")),
        })
    }
}

#[test]
fn it_keeps_the_contract() {
    let net = Net::new(8, Protocols::ALL);
    let mut steps = Vec::new();
    for number in 0..8 {
        for (serial, ask) in [(2 * number, near(number)), (2 * number + 1, everything())] {
            let node = net.world.node(number).clone();
            let serial = serial as u64;
            steps.push(Step::Input(Given::Ask(Question {
                serial,
                node,
                ask,
                patience: PATIENCE,
            })));
        }
        steps.push(Step::Input(Given::Datagram(
            addr(number),
            vec![number as u8; 100],
        )));
        steps.push(Step::Advance(Duration::from_millis(150)));
    }
    steps.push(Step::Advance(Duration::from_secs(10)));
    let make = || {
        let record = NodeRecord::builder()
            .ip(OWN.ip())
            .udp(OWN.port())
            .sign(&key(OWN_KEY))
            .unwrap();
        Inline(Wire::new(key(OWN_KEY), record, [3; 32]))
    };
    let report = contract(make, &steps, Limits::default()).unwrap();
    assert!(report.outputs >= 32, "{report:?}");
}
