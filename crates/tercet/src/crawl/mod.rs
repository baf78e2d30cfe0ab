//! What a crawler asks next, as a machine without I/O: it is told what was found and who answered, and says which slice of the
//! key space to search and which node to check. Asking, files and the screen are the command's.
//!
//! Every node heard of is checked once: its record is fetched from itself. Nodes are found by searching the key space slice
//! by slice (`slices`) and, when that is done, by walks to random targets until some of them in a row find nobody new. The number
//! of requests under way follows what is lost (`window`). No /24 (IPv6: /64) is asked more than [`SUBNET_QUOTA`] allows.

mod slices;
mod window;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::RngExt as _;
use tercet_discovery::Target;
use tercet_enode::{AddressClass, Node, NodeAddress, NodeId, NodeRecord};
use tercet_machine::{
    Machine, MachineRng, MonoTime, Now, Quota, RateLimiter, Subnet, TimerSet, UnixTime,
};

use self::slices::Slices;
use self::window::Window;
use crate::nodeset::{KnownNode, NodeSet};

pub(crate) use self::slices::Slice;

/// Nodes kept, the checked and the waiting: about 1 KiB each with a record (`Entry`, the record's 300 bytes and its index of
/// entries), so 100 MiB. Further ones are counted and left out.
pub(crate) const MAX_NODES: usize = 100_000;

/// Checks of one /24 (IPv6: /64): four a second, eight saved up. A host that serves a whole subnet sees no more than a busy
/// bootnode does. This machine and private networks are exempt, as everywhere.
pub(crate) const SUBNET_QUOTA: Quota = Quota::per_second(4, 8);

/// Subnets with a bucket of their own; the others share one more. About 150 bytes each.
const MAX_SUBNETS: usize = 65_536;

/// A node checked this recently is not checked again, as in geth.
const RECHECK_AFTER: Duration = Duration::from_secs(600);

/// A search asks up to three nodes at a time, so it counts as three requests.
const SEARCH_WEIGHT: usize = tercet_discovery::ALPHA;

/// Searches at a time. They share the table that they all start from.
const MAX_SEARCHES: usize = 16;

/// So many walks in a row that find nobody new end the crawl.
const QUIET_WALKS: u32 = 8;

/// When the other side of the queue is full.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// What happened.
#[derive(Debug, Clone)]
pub(crate) enum CrawlInput {
    /// A node to begin with, from an earlier crawl or the user.
    Known(KnownNode),
    /// A search ended with these nodes.
    Found { search: Search, nodes: Vec<Node> },
    /// A node handed out its record.
    Answered { record: NodeRecord, rtt: Duration },
    /// A node did not.
    Silent { id: NodeId },
    /// A question could not be put; it comes again.
    Busy(CrawlOutput),
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum CrawlOutput {
    /// Look up `target`, then say what was [`Found`](CrawlInput::Found).
    Search { search: Search, target: Target },
    /// Fetch the record of this node from itself.
    Check(Node),
    /// Everything was searched and everybody asked.
    Done,
}

/// Which search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Search {
    /// Of one slice.
    Slice(Slice),
    /// Of a random target.
    Walk,
}

/// How far a crawl has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    /// Nodes heard of.
    pub(crate) seen: usize,
    /// Of those, how many answered a check of this crawl.
    pub(crate) answered: usize,
    /// How many did not.
    pub(crate) silent: usize,
    /// How many were checked too recently.
    pub(crate) recent: usize,
    /// Searches done.
    pub(crate) searches: usize,
    /// Nodes left out because [`MAX_NODES`] were known.
    pub(crate) left_out: usize,
    /// Requests that may be under way now.
    pub(crate) window: usize,
}

#[derive(Debug)]
struct Entry {
    known: KnownNode,
    /// Whether it still is in the set; a stranger that did not answer never was.
    in_set: bool,
}

/// The crawler.
#[derive(Debug)]
pub(crate) struct Crawl {
    nodes: BTreeMap<NodeId, Entry>,
    /// To be checked, oldest first.
    waiting: VecDeque<Node>,
    /// Waiting for their subnet.
    held: BTreeMap<NodeId, Node>,
    held_until: TimerSet<NodeId>,
    slices: Slices,
    quiet_walks: u32,
    flight: Flight,
    window: Window,
    subnets: RateLimiter<Subnet>,
    progress: Progress,
    paused_until: Option<MonoTime>,
    outputs: VecDeque<CrawlOutput>,
    stage: Stage,
    rng: MachineRng,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is known to begin with.
    Idle,
    Running,
    Done,
}

/// What is under way.
#[derive(Debug, Default)]
struct Flight {
    searches: usize,
    checks: usize,
}

impl Crawl {
    /// A crawl with at most `parallel` requests under way; it begins with the first input.
    pub(crate) fn new(parallel: usize, seed: [u8; 32]) -> Self {
        let mut rng = MachineRng::from_seed(seed);
        Self {
            nodes: BTreeMap::new(),
            waiting: VecDeque::new(),
            held: BTreeMap::new(),
            held_until: TimerSet::new(),
            slices: Slices::new(&mut rng),
            quiet_walks: 0,
            flight: Flight::default(),
            window: Window::new(parallel),
            subnets: RateLimiter::new(SUBNET_QUOTA, MAX_SUBNETS),
            progress: Progress::default(),
            paused_until: None,
            outputs: VecDeque::new(),
            stage: Stage::Idle,
            rng,
        }
    }

    /// How far it has come.
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            seen: self.nodes.len(),
            window: self.window.size(),
            ..self.progress
        }
    }

    /// The smoothed time of an answer.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.window.smoothed()
    }

    /// The nodes as they stand: those that have answered, in this crawl or in an earlier one and not too long ago.
    pub(crate) fn set(&self) -> NodeSet {
        let kept = self.nodes.values().filter(|entry| entry.in_set);
        kept.map(|entry| entry.known.clone()).collect()
    }

    fn on_known(&mut self, now: Now, known: KnownNode) {
        let id = known.address.id();
        if self.nodes.contains_key(&id) || !self.has_room() {
            return;
        }
        let recent = known
            .last_check
            .is_some_and(|checked| now.unix - checked < RECHECK_AFTER && checked <= now.unix);
        match known.address.to_node() {
            _ if recent => self.progress.recent += 1,
            // Without an endpoint it cannot be asked; the search may find it elsewhere.
            None => {}
            Some(node) => self.waiting.push_back(node),
        }
        let in_set = known.score > 0;
        self.nodes.insert(id, Entry { known, in_set });
    }

    fn on_found(&mut self, search: Search, found: &[Node]) {
        self.flight.searches = self.flight.searches.saturating_sub(1);
        self.progress.searches += 1;
        let before = self.nodes.len();
        for node in found {
            if !self.nodes.contains_key(&node.id()) && self.has_room() {
                let address = match node.record() {
                    Some(record) => NodeAddress::Record(record.clone()),
                    None => NodeAddress::Enode(node.enode_url()),
                };
                let known = KnownNode::new(address);
                let in_set = false;
                self.nodes.insert(node.id(), Entry { known, in_set });
                self.waiting.push_back(node.clone());
            }
        }
        match search {
            Search::Slice(slice) => {
                let ids: Vec<NodeId> = found.iter().map(Node::id).collect();
                self.slices.on_found(slice, ids.iter());
            }
            Search::Walk if self.nodes.len() > before => self.quiet_walks = 0,
            Search::Walk => self.quiet_walks += 1,
        }
    }

    fn on_answered(&mut self, now: UnixTime, record: NodeRecord, rtt: Duration) {
        self.flight.checks = self.flight.checks.saturating_sub(1);
        self.window.on_answer(rtt);
        self.progress.answered += 1;
        if let Some(entry) = self.nodes.get_mut(&record.id()) {
            let older = entry.known.record().map_or(0, NodeRecord::seq);
            if record.seq() >= older {
                entry.known.address = NodeAddress::Record(record);
            }
            entry.known.on_answer(now);
            entry.in_set = true;
        }
    }

    fn on_silent(&mut self, now: Now, id: NodeId) {
        self.flight.checks = self.flight.checks.saturating_sub(1);
        self.progress.silent += 1;
        if let Some(entry) = self.nodes.get_mut(&id) {
            if entry.known.score > 0 {
                self.window.on_loss(now.mono);
            }
            entry.in_set = entry.known.on_failure(now.unix);
        }
    }

    fn on_busy(&mut self, now: MonoTime, question: CrawlOutput) {
        match question {
            CrawlOutput::Check(node) => {
                self.flight.checks = self.flight.checks.saturating_sub(1);
                self.waiting.push_front(node);
            }
            CrawlOutput::Search { search, .. } => {
                self.flight.searches = self.flight.searches.saturating_sub(1);
                if let Search::Slice(slice) = search {
                    self.slices.put_back(slice);
                }
            }
            CrawlOutput::Done => {}
        }
        self.paused_until = Some(now + BUSY_PAUSE);
    }

    fn has_room(&mut self) -> bool {
        let room = self.nodes.len() < MAX_NODES;
        self.progress.left_out += usize::from(!room);
        room
    }

    /// Asks as much as may be asked now.
    fn fill(&mut self, now: MonoTime) {
        if self.stage != Stage::Running || self.paused_until.is_some_and(|until| until > now) {
            return;
        }
        self.paused_until = None;
        // Half of the window at most, or finding nodes would leave no room for checking them.
        while self.room() >= SEARCH_WEIGHT
            && self.flight.searches < MAX_SEARCHES
            && self.flight.searches * SEARCH_WEIGHT * 2 <= self.window.size()
        {
            let Some(output) = self.next_search() else {
                break;
            };
            self.flight.searches += 1;
            self.outputs.push_back(output);
        }
        while self.room() > 0
            && let Some(node) = self.waiting.pop_front()
        {
            if self.may_ask(now, &node) {
                self.flight.checks += 1;
                self.outputs.push_back(CrawlOutput::Check(node));
            } else {
                self.held_until
                    .set(node.id(), now + SUBNET_QUOTA.interval());
                self.held.insert(node.id(), node);
            }
        }
        let idle = self.flight.searches == 0 && self.flight.checks == 0;
        if idle && self.held.is_empty() && self.waiting.is_empty() {
            self.stage = Stage::Done;
            self.outputs.push_back(CrawlOutput::Done);
        }
    }

    fn room(&self) -> usize {
        let under_way = self.flight.checks + self.flight.searches * SEARCH_WEIGHT;
        // A window smaller than a search still lets one through at a time.
        let window = self.window.size().max(SEARCH_WEIGHT);
        window.saturating_sub(under_way)
    }

    fn next_search(&mut self) -> Option<CrawlOutput> {
        if let Some(slice) = self.slices.next() {
            let target = self.slices.target(slice, &mut self.rng);
            let search = Search::Slice(slice);
            return Some(CrawlOutput::Search { search, target });
        }
        // Walks go one after the other, so that each is judged by what those before it had left.
        if self.flight.searches > 0 || self.quiet_walks >= QUIET_WALKS {
            return None;
        }
        let mut bytes = [0; 64];
        self.rng.fill(&mut bytes[..]);
        Some(CrawlOutput::Search {
            search: Search::Walk,
            target: Target::new(bytes),
        })
    }

    fn may_ask(&mut self, now: MonoTime, node: &Node) -> bool {
        let ip = node.endpoint().ip;
        AddressClass::of(ip).is_lan() || self.subnets.check(now, &Subnet::of(ip))
    }
}

impl Machine for Crawl {
    type Input = CrawlInput;
    type Output = CrawlOutput;

    fn handle(&mut self, now: Now, input: CrawlInput) {
        if self.stage == Stage::Idle {
            self.stage = Stage::Running;
        }
        match input {
            CrawlInput::Known(known) => self.on_known(now, known),
            CrawlInput::Found { search, nodes } => self.on_found(search, &nodes),
            CrawlInput::Answered { record, rtt } => self.on_answered(now.unix, record, rtt),
            CrawlInput::Silent { id } => self.on_silent(now, id),
            CrawlInput::Busy(question) => self.on_busy(now.mono, question),
        }
        self.fill(now.mono);
    }

    fn handle_timeout(&mut self, now: Now) {
        while let Some(id) = self.held_until.pop_expired(now.mono) {
            self.waiting.extend(self.held.remove(&id));
        }
        self.fill(now.mono);
    }

    fn deadline(&self) -> Option<MonoTime> {
        if self.stage != Stage::Running {
            return None;
        }
        let held = self.held_until.deadline();
        held.into_iter().chain(self.paused_until).min()
    }

    fn poll(&mut self) -> Option<CrawlOutput> {
        self.outputs.pop_front()
    }
}

#[cfg(test)]
mod tests;
