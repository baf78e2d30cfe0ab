//! Which question a node is asked: on its visit, or for a search. When it is its turn is decided above.

use rand::RngExt as _;
use tercet_discovery::v5::Distances;
use tercet_discovery::{Protocol, Target};
use tercet_enode::{AddressClass, Node};
use tercet_machine::{MonoTime, Subnet};

use super::nodes::{COVER, State};
use super::slices::Slice;
use super::{
    Ask, Crawl, CrawlOutput, DEEPEST, Flight, Held, Purpose, Question, SUBNET_QUOTA, Stage, Visit,
};

/// What became of a question of a search.
enum Put {
    Asked,
    /// Its subnet was asked enough for the moment.
    NotNow,
    /// It cannot be asked over this protocol any more.
    Nowhere,
}

impl Crawl {
    pub(super) fn visit(&mut self, now: MonoTime, visit: Visit) {
        let (id, protocol) = visit;
        let Some(node) = self.nodes.place(&id, protocol) else {
            // Its newest record says no more where it is.
            if let Some(entry) = self.nodes.get_mut(&id) {
                entry.over(protocol).state = State::Unasked;
            }
            return;
        };
        if !self.may_ask(now, &node) {
            self.held
                .set(Held::Visit(visit), now + SUBNET_QUOTA.interval());
            return;
        }
        if let Some(entry) = self.nodes.get_mut(&id) {
            let over = entry.over(protocol);
            over.state = State::Asking;
            over.at = Some(*node.endpoint());
        }
        let slice = Slice::around(&id, |slice| self.nodes.count(slice));
        let settled = self.nodes.is_covered(slice, protocol);
        let (ask, near) = match protocol {
            Protocol::V5 => {
                let near = if settled { 0 } else { slice.reach() };
                (Ask::V5(self.distances(near)), near)
            }
            Protocol::V4 if settled => {
                let target = self.searches.target(Slice::ALL, &mut self.rng);
                (
                    Ask::V4 {
                        target,
                        record: true,
                    },
                    0,
                )
            }
            Protocol::V4 => {
                let target = Target::from(node.public_key());
                (
                    Ask::V4 {
                        target,
                        record: true,
                    },
                    256,
                )
            }
        };
        self.ask(
            node,
            ask,
            Flight {
                visit,
                purpose: Purpose::Visit { near },
            },
        );
    }

    /// The node's own record, everything within `near`, and farther buckets beginning with a random one: nodes answer in this
    /// order as far as an answer goes.
    pub(super) fn distances(&mut self, near: u16) -> Distances {
        let within = (DEEPEST..=near).rev();
        let mut beyond: Vec<u16> = (near.max(DEEPEST - 1) + 1..=256).rev().collect();
        if !beyond.is_empty() {
            let first = self.rng.random_range(0..beyond.len().min(self.depth()));
            beyond.rotate_left(first);
        }
        let all = std::iter::once(0).chain(within).chain(beyond);
        Distances::new(all.map(u64::from))
    }

    /// How many of the farthest buckets of a node have somebody in them, by what is known.
    fn depth(&self) -> usize {
        (usize::BITS - self.nodes.len().leading_zeros()) as usize + 1
    }

    /// Puts a question of a search, if the node's subnet may be asked.
    fn put(
        &mut self,
        now: MonoTime,
        search: u64,
        visit: Visit,
        target: Target,
        slice: Slice,
    ) -> Put {
        let (id, protocol) = visit;
        let Some(node) = self.nodes.place(&id, protocol) else {
            return Put::Nowhere;
        };
        if !self.may_ask(now, &node) {
            return Put::NotNow;
        }
        if let Some(entry) = self.nodes.get_mut(&id) {
            entry.over(protocol).searched = true;
        }
        let bucket = id.log_distance(&target.id());
        let ask = match protocol {
            Protocol::V4 => Ask::V4 {
                target,
                record: false,
            },
            // From inside the slice it is all that is near, from outside the one bucket that it is in.
            Protocol::V5 if slice.ids().contains(&id) => {
                let near = (DEEPEST..=slice.reach()).rev();
                Ask::V5(Distances::new(near.map(u64::from)))
            }
            Protocol::V5 => Ask::V5(Distances::new([u64::from(bucket)])),
        };
        self.ask(
            node,
            ask,
            Flight {
                visit,
                purpose: Purpose::Search { search, bucket },
            },
        );
        Put::Asked
    }

    fn ask(&mut self, node: Node, ask: Ask, flight: Flight) {
        let serial = self.serial;
        self.serial += 1;
        self.flight.insert(serial, flight);
        let patience = self.window.patience();
        self.outputs.push_back(CrawlOutput::Ask(Question {
            serial,
            node,
            ask,
            patience,
        }));
    }

    /// Begins the next search; `false` if there is none to begin now.
    pub(super) fn search(&mut self, now: MonoTime) -> bool {
        if self.stage == Stage::Visiting {
            if !self.flight.is_empty() || !self.held.is_empty() {
                return false;
            }
            self.stage = Stage::Searching;
        }
        if self.held.get(&Held::Search).is_some() {
            return false;
        }
        let quiet = self.flight.is_empty() && self.held.is_empty();
        let Some(plan) =
            self.searches
                .next(&self.nodes, self.config.protocols, quiet, &mut self.rng)
        else {
            return false;
        };
        let (mut any, mut busy, mut limited) = (false, false, false);
        for protocol in [Protocol::V5, Protocol::V4] {
            if !plan.protocols.contains(protocol) {
                continue;
            }
            let (around, nearest) = self.nodes.nearest(plan.around, &plan.target.id(), protocol);
            busy |= nearest.is_empty() && self.nodes.is_any_answering(protocol);
            let mut asked = 0;
            for id in nearest {
                if asked == COVER {
                    break;
                }
                let (slice, visit) = (plan.around, (id, protocol));
                match self.put(now, plan.search, visit, plan.target, slice) {
                    Put::Asked => asked += 1,
                    Put::NotNow => limited = true,
                    Put::Nowhere => {}
                }
            }
            any |= asked > 0;
            self.searches
                .on_asked(plan.search, (protocol, around), asked);
        }
        if !any && (busy || limited) {
            // Others ask all who could be asked, or their subnets have to rest.
            self.searches.put_off(plan.search);
            if !busy {
                self.held.set(Held::Search, now + SUBNET_QUOTA.interval());
            }
            return false;
        }
        if self.searches.on_begun(&self.nodes, plan.search) {
            self.progress.searches += 1;
        }
        true
    }

    fn may_ask(&mut self, now: MonoTime, node: &Node) -> bool {
        let ip = node.endpoint().ip;
        AddressClass::of(ip).is_lan() || self.subnets.check(now, &Subnet::of(ip))
    }
}
