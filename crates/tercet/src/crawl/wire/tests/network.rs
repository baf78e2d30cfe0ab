//! Whole crawls in virtual time: the crawl and its packets among nodes that answer, over links that delay and lose, on a machine that
//! does its jobs in any order and late.

use std::collections::BTreeMap;

use rand::RngExt as _;
use tercet_discovery::Families;
use tercet_enode::NodeAddress;
use tercet_machine::MonoTime;

use super::*;
use crate::crawl::{Crawl, CrawlConfig, CrawlOutput, Progress};
use crate::nodeset::KnownNode;

/// What happens next.
enum Event {
    ToNode(SocketAddr, Bytes),
    ToCrawler(SocketAddr, Bytes),
    Done(Box<Job>),
}

/// How well the machine and its links do.
#[derive(Clone, Copy)]
struct Weather {
    /// Most time a datagram takes.
    way: Duration,
    /// Most time a job takes.
    job: Duration,
    /// Datagrams of a thousand that are lost.
    lost: u32,
}

struct Simulation {
    crawl: Crawl,
    wire: Wire,
    nodes: BTreeMap<SocketAddr, Responder>,
    events: BTreeMap<(MonoTime, u64), Event>,
    number: u64,
    now: Now,
    weather: Weather,
    rng: MachineRng,
    done: bool,
}

impl Simulation {
    fn new(count: usize, protocols: Protocols, weather: Weather, seed: u8) -> Self {
        let addrs: Vec<_> = (0..count).map(addr).collect();
        let world = World::new(&addrs);
        let speaks = Protocols::ALL;
        let nodes = (0..count).map(|n| (addr(n), Responder::new(&world, n, speaks)));
        let own = NodeRecord::builder().ip(OWN.ip()).udp(OWN.port());
        let mut crawl = Crawl::new(CrawlConfig {
            own: key(OWN_KEY).node_id(),
            parallel: 64,
            protocols,
            families: Families::BOTH,
            seed: [seed; 32],
        });
        let first = world.node(0).record().unwrap().clone();
        let known = KnownNode::new(NodeAddress::Record(first));
        crawl.handle(START, CrawlInput::Known(known));
        Self {
            crawl,
            wire: Wire::new(key(OWN_KEY), own.sign(&key(OWN_KEY)).unwrap(), [seed; 32]),
            nodes: nodes.collect(),
            events: BTreeMap::new(),
            number: 0,
            now: START,
            weather,
            rng: MachineRng::from_seed([seed; 32]),
            done: false,
        }
    }

    /// Some time from now, not later than that.
    fn within(&mut self, most: Duration, event: Event) {
        let after = most.mul_f64(self.rng.random());
        self.number += 1;
        self.events
            .insert((self.now.mono + after, self.number), event);
    }

    fn carry(&mut self, event: Event) {
        let Weather { way, lost, .. } = self.weather;
        if self.rng.random_range(0..1000) >= lost {
            self.within(way, event);
        }
    }

    fn pump(&mut self) {
        loop {
            if let Some(output) = self.wire.poll() {
                match output {
                    WireOutput::Send { to, datagram } => self.carry(Event::ToNode(to, datagram)),
                    WireOutput::Job(job) => self.within(self.weather.job, Event::Done(job)),
                    WireOutput::Tell(input) => self.crawl.handle(self.now, input),
                }
            } else if let Some(output) = self.crawl.poll() {
                match output {
                    CrawlOutput::Ask(question) => {
                        self.wire.handle(self.now, WireInput::Ask(question));
                    }
                    CrawlOutput::Met(_) => {}
                    CrawlOutput::Done => self.done = true,
                }
            } else {
                return;
            }
        }
    }

    /// Crawls to the end.
    fn run(mut self) -> Progress {
        self.pump();
        while !self.done {
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let deadlines = [event, self.wire.deadline(), self.crawl.deadline()];
            let next = deadlines.into_iter().flatten().min().expect("it hangs");
            self.now = self.now.after(next.max(self.now.mono) - self.now.mono);
            if event.is_some_and(|at| at <= self.now.mono) {
                let (_, event) = self.events.pop_first().unwrap();
                self.on(event);
            } else {
                self.wire.handle_timeout(self.now);
                self.crawl.handle_timeout(self.now);
            }
            self.pump();
        }
        self.crawl.progress()
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::ToNode(to, datagram) => {
                let node = self.nodes.get_mut(&to).unwrap();
                for reply in node.take(self.now, OWN, &datagram) {
                    self.carry(Event::ToCrawler(to, reply));
                }
            }
            Event::ToCrawler(from, datagram) => {
                let datagram = BytesMut::from(&datagram[..]);
                let input = WireInput::Datagram { from, datagram };
                self.wire.handle(self.now, input);
            }
            Event::Done(job) => self.wire.handle(self.now, WireInput::Done(job.run())),
        }
    }
}

#[test]
fn everybody_is_found_however_the_packets_come() {
    const NODES: usize = 300;
    let millis = Duration::from_millis;
    let busy = Weather {
        way: millis(1),
        job: millis(40),
        lost: 0,
    };
    let swamped = Weather {
        job: millis(300),
        ..busy
    };
    let lossy = Weather {
        way: millis(100),
        job: millis(1),
        lost: 20,
    };
    for (name, weather) in [("busy", busy), ("swamped", swamped), ("lossy", lossy)] {
        for protocols in [Protocols::V4, Protocols::V5, Protocols::ALL] {
            for seed in 1..=3 {
                let progress = Simulation::new(NODES, protocols, weather, seed).run();
                let name = format!("{name} {protocols:?} {seed}");
                assert_eq!(progress.seen, NODES, "{name}");
                // Of whom both Pongs are lost one can only say that he is silent.
                let most = if weather.lost > 0 { NODES / 100 } else { 0 };
                assert!(progress.silent <= most, "{name}: {}", progress.silent);
                assert_eq!(progress.answered + progress.silent, NODES, "{name}");
            }
        }
    }
}
