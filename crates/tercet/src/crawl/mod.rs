//! What a crawler asks next, as a machine without I/O: it is told who answered what, and says which node to ask which question
//! over which protocol. Packets and sessions are in `wire`; sockets, files and the screen are the driver's and the command's.
//!
//! Every node heard of is visited once over each protocol it can be asked over: discv4 by its key, discv5 if it has a record that
//! names an address. A visit fetches the record and asks whom the node knows: in its own slice of the key space (`slices`) while that
//! is not settled, and elsewhere. A node with an address of either family is asked at the other one when it is silent at the first; one
//! that was silent is asked again, a bounded number of times, when a newer record of it comes. When nobody is left to visit, the slices
//! that too few nodes have spoken for are searched, coarse ones first, each by asking the nodes nearest to it; then come walks to random
//! targets until some of them in a row find nobody new. The number of requests under way follows what is lost (`window`). No /24
//! (IPv6: /64) is asked more than [`SUBNET_QUOTA`] allows.
//!
//! Nodes are found by hearsay alone, so that whatever is taken for settled and is not hides nodes. From an answer of which something is
//! missing nothing follows ([`Extent`]); one that is full says nothing about what it has not come to; and a search whose answers were lost,
//! or that got full buckets of nearer nodes and nothing else, is made again when there is somebody nearer to ask.

mod asking;
mod driver;
mod io;
mod link;
mod nodes;
mod search;
mod slices;
pub(crate) mod store;
mod window;
pub(crate) mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tercet_discovery::{Families, Protocol, Protocols};
use tercet_enode::{Node, NodeAddress, NodeId, NodeRecord};
use tercet_machine::{Machine, MachineRng, MonoTime, Now, Quota, RateLimiter, Subnet, TimerSet};

pub(crate) use self::driver::{CrawlError, Driver, DriverConfig};
pub(crate) use self::io::{Ask, CrawlInput, CrawlOutput, Extent, Meeting, Progress, Question};
pub(crate) use self::nodes::MAX_NODES;
use self::nodes::{Nodes, Rest, State};
use self::search::{Said, Searches};
use self::window::Window;
use crate::nodeset::KnownNode;

/// Questions to one /24 (IPv6: /64): four a second, eight saved up. A host that serves a whole subnet sees no more than a busy
/// bootnode does. This machine and private networks are exempt, as everywhere.
pub(crate) const SUBNET_QUOTA: Quota = Quota::per_second(4, 8);

/// Subnets with a bucket of their own; the others share one more. About 150 bytes each.
const MAX_SUBNETS: usize = 65_536;

/// A node visited this recently is not visited again, as in geth.
const RECHECK_AFTER: Duration = Duration::from_secs(600);

/// The farthest a distance can be from the whole space and still be asked for: a nearer node would share 48 bits with the one
/// asked, which happens by chance once in 2^48 pairs.
const DEEPEST: u16 = 256 - 48;

/// What a crawl is made with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CrawlConfig {
    /// Never asked.
    pub(crate) own: NodeId,
    /// Most requests under way.
    pub(crate) parallel: usize,
    pub(crate) protocols: Protocols,
    /// The kinds of address there is a socket for.
    pub(crate) families: Families,
    pub(crate) seed: [u8; 32],
}

/// One protocol of one node.
type Visit = (NodeId, Protocol);

/// What has to wait for a subnet that was asked enough for the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    Visit(Visit),
    /// The next search.
    Search,
}

/// What is under way.
#[derive(Debug, Clone, Copy)]
struct Flight {
    visit: Visit,
    purpose: Purpose,
}

#[derive(Debug, Clone, Copy)]
enum Purpose {
    /// To see whether it is there. If its answer has all it knows, or goes farther than this, it has named everybody it knows within this
    /// log distance.
    Visit { near: u16 },
    /// For a search.
    Search {
        /// Its number.
        search: u64,
        /// The log distance of the target.
        bucket: u16,
    },
}

/// The crawler.
#[derive(Debug)]
pub(crate) struct Crawl {
    config: CrawlConfig,
    nodes: Nodes,
    /// To be visited, oldest first.
    waiting: VecDeque<Visit>,
    /// To be visited once more.
    again: VecDeque<Visit>,
    /// Waiting for their subnet.
    held: TimerSet<Held>,
    flight: BTreeMap<u64, Flight>,
    searches: Searches,
    window: Window,
    subnets: RateLimiter<Subnet>,
    progress: Progress,
    outputs: VecDeque<CrawlOutput>,
    stage: Stage,
    serial: u64,
    rng: MachineRng,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is known to begin with.
    Idle,
    Visiting,
    /// Everybody heard of at the start was visited.
    Searching,
    Done,
}

impl Crawl {
    /// A crawl that begins with the first input.
    pub(crate) fn new(config: CrawlConfig) -> Self {
        let mut rng = MachineRng::from_seed(config.seed);
        Self {
            nodes: Nodes::new(config.families),
            waiting: VecDeque::new(),
            again: VecDeque::new(),
            held: TimerSet::new(),
            flight: BTreeMap::new(),
            searches: Searches::new(&mut rng),
            window: Window::new(config.parallel),
            subnets: RateLimiter::new(SUBNET_QUOTA, MAX_SUBNETS),
            progress: Progress::default(),
            outputs: VecDeque::new(),
            stage: Stage::Idle,
            serial: 0,
            rng,
            config,
        }
    }

    /// How far it has come.
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            seen: self.nodes.len(),
            waiting: self.waiting.len() + self.again.len() + self.held.len(),
            asking: self.flight.len(),
            window: self.window.size(),
            ..self.progress
        }
    }

    /// The smoothed time of a round trip.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.window.smoothed()
    }

    /// The nodes as they stand: those that have answered, in this crawl or in an earlier one and not too long ago.
    pub(crate) fn set(&self) -> impl Iterator<Item = &KnownNode> {
        let kept = self.nodes.values().filter(|entry| entry.in_set);
        kept.map(|entry| &entry.known)
    }

    /// What is known of one node, and where it is asked.
    pub(crate) fn node(&self, id: &NodeId) -> Option<(&KnownNode, Option<&Node>)> {
        let entry = self.nodes.get(id)?;
        Some((&entry.known, entry.node.as_ref()))
    }

    /// The node at each of its addresses, first where it is asked.
    pub(crate) fn places(&self, id: &NodeId) -> Vec<Node> {
        self.nodes.places(id)
    }

    fn on_known(&mut self, now: Now, known: KnownNode) {
        let id = known.address.id();
        if self.nodes.contains(&id) || !self.has_room() {
            return;
        }
        let recent = known
            .last_check
            .is_some_and(|checked| now.unix - checked < RECHECK_AFTER && checked <= now.unix);
        let answers = known.score > 0;
        self.nodes.insert(known);
        if !recent {
            self.line_up(id);
            return;
        }
        self.progress.recent += 1;
        if let Some(entry) = self.nodes.get_mut(&id) {
            entry.recent = true;
        }
        // It is not visited, but a search may ask it.
        let open = self.nodes.open(&id, self.config.protocols);
        if let Some(protocol) = open.preferred()
            && answers
        {
            self.nodes.set_answering(&id, protocol, true);
        }
    }

    /// Takes note of a node somebody named; says whether it is a new one.
    fn hear(&mut self, node: &Node) -> bool {
        let id = node.id();
        if id == self.config.own {
            return false;
        }
        let is_new = !self.nodes.contains(&id);
        if is_new {
            if !self.has_room() {
                return false;
            }
            self.nodes.insert(KnownNode::new(match node.record() {
                Some(record) => NodeAddress::Record(record.clone()),
                None => NodeAddress::Enode(node.enode_url()),
            }));
        } else {
            let is_news = match node.record() {
                Some(record) => self.nodes.learn(record.clone()),
                None => self.nodes.hear(node),
            };
            if !is_news {
                return false;
            }
        }
        self.line_up(id);
        is_new
    }

    /// Puts a node into the queue for each protocol it can now be asked over, unless it was visited lately.
    fn line_up(&mut self, id: NodeId) {
        let open = self.nodes.open(&id, self.config.protocols);
        let Some(entry) = self.nodes.get_mut(&id).filter(|entry| !entry.recent) else {
            return;
        };
        for protocol in [Protocol::V5, Protocol::V4] {
            if open.contains(protocol) {
                entry.over(protocol).state = State::Waiting;
                self.waiting.push_back((id, protocol));
            }
        }
    }

    fn on_answer(&mut self, now: Now, serial: u64, answer: Answer) {
        let Answer {
            record,
            named,
            extent,
            rtt,
        } = answer;
        let Some(Flight { visit, purpose }) = self.flight.remove(&serial) else {
            return;
        };
        self.window.on_answer(rtt);
        let found = named.iter().filter(|node| self.hear(node)).count();
        let near = match purpose {
            Purpose::Search { search, bucket } => {
                let is_there = |node: &Node| visit.0.log_distance(&node.id()) == bucket;
                let said = match extent {
                    Extent::Part => Said::Nothing,
                    Extent::Full if named.iter().all(is_there) => Said::Nearer,
                    Extent::Full | Extent::All => Said::All,
                };
                self.on_searched(visit, search, (said, found));
                return;
            }
            Purpose::Visit { near } => near,
        };
        self.nodes.set_answering(&visit.0, visit.1, true);
        if let Some(entry) = self.nodes.get_mut(&visit.0) {
            let distance = |node: &Node| visit.0.log_distance(&node.id());
            let farthest = named.iter().map(distance).max().unwrap_or(0);
            entry.over(visit.1).within = match extent {
                Extent::All => near,
                // It may have left out some as far as the farthest.
                Extent::Full if visit.1 == Protocol::V5 && farthest <= near => 0,
                Extent::Full => near.min(farthest.saturating_sub(1)),
                Extent::Part => 0,
            };
            if entry.stay(visit.1) {
                entry.in_set = true;
                if let Some(score) = entry.before.take() {
                    entry.known.score = score;
                    self.progress.silent -= 1;
                }
                entry.known.on_answer(now.unix);
                self.progress.answered += 1;
            }
        }
        self.progress.count(visit.1);
        if let Some(record) = record.filter(|record| record.id() == visit.0) {
            self.nodes.learn(record);
        }
        self.line_up(visit.0);
        self.met(visit, Some(rtt));
    }

    fn on_silent(&mut self, now: Now, serial: u64) {
        let Some(Flight { visit, purpose }) = self.flight.remove(&serial) else {
            return;
        };
        let Some(entry) = self.nodes.get_mut(&visit.0) else {
            return;
        };
        if let Purpose::Search { search, .. } = purpose {
            self.window.on_loss(now.mono);
            self.nodes.set_answering(&visit.0, visit.1, false);
            self.on_searched(visit, search, (Said::Nothing, 0));
            return;
        }
        // Most nodes a crawler hears of are gone; only who had answered says something about the way.
        if entry.known.score > 0 && !entry.answered {
            self.window.on_loss(now.mono);
        }
        match self.nodes.on_silent(&visit.0, visit.1) {
            Rest::Now => self.waiting.push_back(visit),
            Rest::Later => self.again.push_back(visit),
            Rest::Nothing => self.on_settled(now, visit),
        }
    }

    /// Everything was tried with a node over one protocol.
    fn on_settled(&mut self, now: Now, visit: Visit) {
        if let Some(entry) = self.nodes.get_mut(&visit.0)
            && entry.is_settled()
            && !entry.answered
            && entry.before.is_none()
        {
            entry.before = Some(entry.known.score);
            entry.in_set = entry.known.on_failure(now.unix);
            self.progress.silent += 1;
        }
        self.met(visit, None);
    }

    fn met(&mut self, (id, protocol): Visit, rtt: Option<Duration>) {
        let at = self
            .nodes
            .get_mut(&id)
            .and_then(|entry| entry.over(protocol).at);
        self.outputs.push_back(CrawlOutput::Met(Meeting {
            id,
            protocol,
            at,
            rtt,
        }));
    }

    fn on_searched(&mut self, (id, protocol): Visit, search: u64, (said, found): (Said, usize)) {
        if let Some(entry) = self.nodes.get_mut(&id) {
            entry.over(protocol).searched = false;
        }
        self.searches.on_said(search, protocol, said);
        if self.searches.on_end(&self.nodes, search, found) {
            self.progress.searches += 1;
        }
    }

    fn has_room(&mut self) -> bool {
        let room = self.nodes.len() < MAX_NODES;
        self.progress.left_out += usize::from(!room);
        room
    }

    /// Asks as much as may be asked now.
    fn fill(&mut self, now: MonoTime) {
        if matches!(self.stage, Stage::Idle | Stage::Done) {
            return;
        }
        while self.flight.len() < self.window.size() {
            if self.waiting.is_empty() && self.flight.is_empty() {
                // In the calm after all others: what drowned the first question may still be there a moment later.
                self.waiting.append(&mut self.again);
            }
            if let Some(visit) = self.waiting.pop_front() {
                self.visit(now, visit);
            } else if !self.search(now) {
                break;
            }
        }
        let idle = self.flight.is_empty() && self.held.is_empty() && self.waiting.is_empty();
        if idle && self.again.is_empty() {
            self.stage = Stage::Done;
            self.outputs.push_back(CrawlOutput::Done);
        }
    }
}

/// What a node has answered.
struct Answer {
    record: Option<NodeRecord>,
    named: Vec<Node>,
    extent: Extent,
    rtt: Duration,
}

impl Machine for Crawl {
    type Input = CrawlInput;
    type Output = CrawlOutput;

    fn handle(&mut self, now: Now, input: CrawlInput) {
        if self.stage == Stage::Idle {
            self.stage = Stage::Visiting;
        }
        match input {
            CrawlInput::Known(known) => self.on_known(now, known),
            CrawlInput::Came(node) => {
                self.hear(&node);
            }
            CrawlInput::Answered {
                serial,
                record,
                named,
                extent,
                rtt,
            } => {
                let answer = Answer {
                    record,
                    named,
                    extent,
                    rtt,
                };
                self.on_answer(now, serial, answer);
            }
            CrawlInput::Silent { serial } => self.on_silent(now, serial),
        }
        self.fill(now.mono);
    }

    fn handle_timeout(&mut self, now: Now) {
        while let Some(held) = self.held.pop_expired(now.mono) {
            if let Held::Visit(visit) = held {
                self.waiting.push_back(visit);
            }
        }
        self.fill(now.mono);
    }

    fn deadline(&self) -> Option<MonoTime> {
        match self.stage {
            Stage::Idle | Stage::Done => None,
            Stage::Visiting | Stage::Searching => self.held.deadline(),
        }
    }

    fn poll(&mut self) -> Option<CrawlOutput> {
        self.outputs.pop_front()
    }
}

#[cfg(test)]
mod tests;
