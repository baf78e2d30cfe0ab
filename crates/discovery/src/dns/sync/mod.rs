//! Reading lists of nodes, as a machine: it says which names to look up, is told the answers, and hands out nodes while
//! somebody wants some.
//!
//! A list is trusted as far as its signature goes, and the DNS servers between not at all: a root must be signed by the
//! list's key and never go back to a lower number (the last one is kept in the node database), an entry must hash to its
//! name. A signed list may still be hostile to those who follow it, so what it can make a client do is bounded: lists,
//! links, entries, depth, queries a second. Its nodes may not lead into the private network the client is in.

mod io;
mod list;
mod walk;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use rand::seq::IndexedRandom as _;
use tercet_enode::{AddressClass, NodeRecord, keccak256};
use tercet_machine::{Machine, MachineRng, MonoTime, Now, Quota, TokenBucket};
use tercet_nodedb::{CacheKey, Write};

use self::list::{Ended, List};
use self::walk::Step;
use super::label::EntryHash;
use super::root::{ROOT_PREFIX, TreeRoot};
use super::tree::{MAX_TEXT, TreeEntry};
use super::url::TreeUrl;

pub use self::io::{
    AskId, LookupError, SyncConfig, SyncCounters, SyncError, SyncInput, SyncOutput,
};
pub use self::list::{MAX_LEAF_FAILURES, MAX_ROOT_WAIT, REPEAT_AFTER, ROOT_INTERVAL, Subtree};

/// Lists followed at a time, linked ones included. Further links wait until one goes.
pub const MAX_LISTS: usize = 16;
/// Links taken from one list.
pub const MAX_LINKS: usize = 64;
/// Entries met in one pass through the nodes of a list, 16,384: the rest is left out. At about 200 bytes each and
/// [`MAX_LISTS`] lists, hostile lists cost 50 MiB at most.
pub const MAX_ENTRIES: usize = 1 << 14;
/// Entries fetched at a time.
pub const MAX_ASKS: usize = 8;
/// How long an answer is waited for, as geth.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Real queries: 3 a second, 10 at once, as geth. What the cache answers is no query.
const QUERIES: Quota = Quota::per_second(3, 10);
/// Roots under one name whose signatures are checked, each in some 60 µs; EIP-1459 has one. Any number of other records may be
/// there: a domain that is used otherwise has many. A DNS answer of 64 KiB bounds them.
const MAX_ROOTS: usize = 16;

#[derive(Debug)]
enum Job {
    Root,
    Entry(Subtree, Step),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Loading,
    Waiting,
    Asked { until: MonoTime },
}

#[derive(Debug)]
struct Ask {
    list: TreeUrl,
    job: Job,
    stage: Stage,
}

/// See the module.
#[derive(Debug)]
pub struct DnsSync {
    config: SyncConfig,
    lists: BTreeMap<TreeUrl, List>,
    asks: BTreeMap<AskId, Ask>,
    next_ask: u64,
    wanted: u64,
    bucket: TokenBucket,
    /// Not before this is the bucket looked at again.
    next_query: MonoTime,
    outputs: VecDeque<SyncOutput>,
    counters: SyncCounters,
    rng: MachineRng,
}

impl DnsSync {
    /// Follows nothing yet.
    #[must_use]
    pub fn new(config: SyncConfig, rng: MachineRng) -> Self {
        Self {
            config,
            lists: BTreeMap::new(),
            asks: BTreeMap::new(),
            next_ask: 0,
            wanted: 0,
            bucket: TokenBucket::new(QUERIES),
            next_query: MonoTime::ZERO,
            outputs: VecDeque::new(),
            counters: SyncCounters::default(),
            rng,
        }
    }

    /// The counts.
    #[must_use]
    pub const fn counters(&self) -> SyncCounters {
        self.counters
    }

    /// The lists followed now, linked ones included.
    pub fn lists(&self) -> impl ExactSizeIterator<Item = &TreeUrl> {
        self.lists.keys()
    }

    fn busy(&self, list: &TreeUrl) -> bool {
        let entry = |ask: &Ask| ask.list == *list && matches!(ask.job, Job::Entry(..));
        self.asks.values().any(entry)
    }

    fn asks_root(&self, list: &TreeUrl) -> bool {
        let root = |ask: &Ask| ask.list == *list && matches!(ask.job, Job::Root);
        self.asks.values().any(root)
    }

    fn start(&mut self, list: TreeUrl, job: Job) {
        let id = AskId(self.next_ask);
        self.next_ask += 1;
        let recalled = self.lists.get(&list).is_none_or(|list| list.recalled);
        let key = match &job {
            Job::Root => (!recalled).then(|| root_key(&list)),
            Job::Entry(_, step) => Some(entry_key(&step.hash)),
        };
        let stage = match key {
            Some(key) => {
                self.outputs.push_back(SyncOutput::Load(id, key));
                Stage::Loading
            }
            None => Stage::Waiting,
        };
        self.asks.insert(id, Ask { list, job, stage });
    }

    /// Begins what there is to do, as far as somebody wants it and there is room.
    fn pump(&mut self, now: MonoTime) {
        while self.wanted > 0 && self.asks.len() < MAX_ASKS {
            let Some((list, job)) = self.choose(now) else {
                break;
            };
            self.start(list, job);
        }
        if now < self.next_query {
            return;
        }
        let waiting = |ask: &Ask| ask.stage == Stage::Waiting;
        while let Some((id, ask)) = self.asks.iter_mut().find(|(_, ask)| waiting(ask)) {
            if !self.bucket.check(now) {
                self.next_query = now + QUERIES.interval();
                return;
            }
            ask.stage = Stage::Asked {
                until: now + self.config.timeout,
            };
            let domain = ask.list.domain();
            let name = match &ask.job {
                Job::Root => format!("{domain}."),
                Job::Entry(_, step) => format!("{}.{domain}.", step.hash),
            };
            self.counters.queries += 1;
            self.outputs.push_back(SyncOutput::Query(*id, name));
        }
    }

    fn choose(&mut self, now: MonoTime) -> Option<(TreeUrl, Job)> {
        let due = |(url, list): &(&TreeUrl, &List)| {
            (list.next_root <= now && !self.asks_root(url))
                || list.next().is_some_and(|at| at <= now)
        };
        let due: Vec<TreeUrl> = self
            .lists
            .iter()
            .filter(due)
            .map(|(url, _)| url.clone())
            .collect();
        // Drawn only where there is a choice: a wake-up for nothing must not shift what comes later.
        let url = due.choose(&mut self.rng)?.clone();
        let asks_root = self.asks_root(&url);
        let list = self.lists.get_mut(&url)?;
        if list.next_root <= now && !asks_root {
            return Some((url, Job::Root));
        }
        let (subtree, step) = list.take(now, &mut self.rng)?;
        Some((url, Job::Entry(subtree, step)))
    }

    fn on_loaded(&mut self, now: MonoTime, id: AskId, value: Option<Bytes>) {
        let Some(ask) = self
            .asks
            .get_mut(&id)
            .filter(|ask| ask.stage == Stage::Loading)
        else {
            return;
        };
        ask.stage = Stage::Waiting;
        let text = value.as_ref().and_then(text);
        match &ask.job {
            Job::Root => {
                let Some(list) = self.lists.get_mut(&ask.list) else {
                    return;
                };
                list.recalled = true;
                // Signed once and not too old to be refused then: good enough to begin with while its successor is asked for.
                if let Some(root) = text.and_then(|text| signed_root(text, &ask.list)) {
                    list.accept(root);
                }
            }
            Job::Entry(_, step) => {
                if let Some(text) = text.filter(|text| step.hash.matches(text)) {
                    self.counters.cached += 1;
                    let text = text.to_owned();
                    self.finish(now, id, Ok(text));
                }
            }
        }
    }

    fn on_answer(&mut self, now: MonoTime, id: AskId, answer: Result<Vec<Bytes>, LookupError>) {
        let Some(ask) = self.asks.get(&id) else {
            return;
        };
        if !matches!(ask.stage, Stage::Asked { .. }) {
            return;
        }
        let texts = answer.map_err(SyncError::from);
        match &ask.job {
            Job::Root => {
                let url = ask.list.clone();
                self.asks.remove(&id);
                let root = texts.and_then(|texts| {
                    let texts = texts.iter().filter_map(text);
                    let roots = texts.filter(|text| text.starts_with(ROOT_PREFIX));
                    let roots = roots.take(MAX_ROOTS);
                    let roots = roots.filter_map(|text| signed_root(text, &url));
                    roots.max_by_key(TreeRoot::seq).ok_or(SyncError::NoRoot)
                });
                self.on_root(now, url, root);
            }
            Job::Entry(_, step) => {
                let found = texts.and_then(|texts| {
                    let mut texts = texts.iter().filter_map(text);
                    let found = texts.find(|text| step.hash.matches(text));
                    found.map(str::to_owned).ok_or(SyncError::WrongHash)
                });
                if let Ok(text) = &found {
                    let (key, value) = (entry_key(&step.hash), Bytes::from(text.clone()));
                    let write = Write::Cache { key, value };
                    self.outputs.push_back(SyncOutput::Store(write));
                }
                self.finish(now, id, found);
            }
        }
    }

    fn on_root(&mut self, now: MonoTime, url: TreeUrl, root: Result<TreeRoot, SyncError>) {
        let Some(list) = self.lists.get_mut(&url) else {
            return;
        };
        let accepted = root.and_then(|root| {
            let (found, seen) = (root.seq(), list.seq.unwrap_or_default());
            if list.accept(root) {
                Ok(())
            } else {
                Err(SyncError::Stale { found, seen })
            }
        });
        match accepted {
            Ok(()) => list.on_root(now),
            Err(_) => list.on_root_failed(now),
        }
        if let Some(root) = &list.root {
            // Written anew each time, refused or not: the cache forgets what was written longest ago, and this number
            // must outlive any flood of entries. Between two looks at a root at most 5,410 are written.
            let (key, value) = (root_key(&url), Bytes::from(root.to_string()));
            let write = Write::Cache { key, value };
            self.outputs.push_back(SyncOutput::Store(write));
            if accepted.is_ok() {
                let root = root.clone();
                self.outputs.push_back(SyncOutput::Root(url.clone(), root));
            }
        }
        if let Err(error) = accepted {
            self.refuse(url, None, error);
        }
    }

    /// An entry was fetched, or was not.
    fn finish(&mut self, now: MonoTime, id: AskId, text: Result<String, SyncError>) {
        let Some(Ask { list: url, job, .. }) = self.asks.remove(&id) else {
            return;
        };
        let Job::Entry(subtree, step) = job else {
            return;
        };
        let Some(list) = self.lists.get_mut(&url) else {
            return;
        };
        if !list.walk(subtree).is_current(&step) {
            // Another root has come meanwhile: this entry is of the list as it was.
            return self.settle(now, url);
        }
        let hash = step.hash.clone();
        let read = match text {
            Ok(text) => text.parse().map_err(SyncError::from),
            Err(error) => {
                // Another try may find it; content that was signed and is wrong stays wrong.
                list.on_failed(now, subtree, step.clone());
                Err(error)
            }
        };
        let taken = read.and_then(|entry| take(&self.config, list, subtree, &step, entry));
        match taken {
            Ok(Taken::Branch) => {}
            Ok(Taken::Node(record)) => {
                self.wanted = self.wanted.saturating_sub(1);
                self.counters.nodes += 1;
                self.outputs.push_back(SyncOutput::Node(record));
            }
            Ok(Taken::Link(to)) => self.outputs.push_back(SyncOutput::Link(url.clone(), to)),
            Err(error) => {
                if !matches!(error, SyncError::Address | SyncError::TooMany(_)) {
                    list.on_leaf_failed(now);
                }
                self.refuse(url.clone(), Some(hash), error);
            }
        }
        self.settle(now, url);
    }

    fn settle(&mut self, now: MonoTime, url: TreeUrl) {
        let busy = self.busy(&url);
        let ended = self.lists.get_mut(&url).map(|list| list.settle(now, busy));
        match ended {
            Some(Ended::Links) if self.config.follow_links => self.relink(),
            Some(Ended::Nodes { entries }) => {
                self.outputs.push_back(SyncOutput::Complete(url, entries));
            }
            _ => {}
        }
    }

    fn refuse(&mut self, url: TreeUrl, entry: Option<EntryHash>, error: SyncError) {
        self.counters.refused += 1;
        self.outputs
            .push_back(SyncOutput::Refused(url, entry, error));
    }

    /// Follows what the named lists lead to, and nothing else: lists that only link to each other go.
    fn relink(&mut self) {
        let named = self.lists.iter().filter(|(_, list)| list.named);
        let mut open: Vec<TreeUrl> = named.map(|(url, _)| url.clone()).collect();
        let mut reached: BTreeSet<TreeUrl> = open.iter().cloned().collect();
        while let Some(url) = open.pop() {
            for link in self.lists.get(&url).iter().flat_map(|list| &list.linked) {
                if reached.insert(link.clone()) {
                    open.push(link.clone());
                }
            }
        }
        self.lists.retain(|url, _| reached.contains(url));
        self.asks.retain(|_, ask| reached.contains(&ask.list));
        for url in reached {
            if self.lists.len() >= MAX_LISTS {
                break;
            }
            let (max, rng) = (self.config.max_entries, &mut self.rng);
            self.lists
                .entry(url)
                .or_insert_with(|| List::new(false, max, rng));
        }
    }
}

impl Machine for DnsSync {
    type Input = SyncInput;
    type Output = SyncOutput;

    fn handle(&mut self, now: Now, input: SyncInput) {
        let now = now.mono;
        match input {
            SyncInput::Follow(url) => {
                if self.lists.len() < MAX_LISTS || self.lists.contains_key(&url) {
                    let (max, rng) = (self.config.max_entries, &mut self.rng);
                    let list = self
                        .lists
                        .entry(url)
                        .or_insert_with(|| List::new(true, max, rng));
                    list.named = true;
                }
            }
            SyncInput::Leave(url) => {
                if let Some(list) = self.lists.get_mut(&url) {
                    list.named = false;
                }
                self.relink();
            }
            SyncInput::Want(more) => self.wanted = self.wanted.saturating_add(more),
            SyncInput::Loaded(id, value) => self.on_loaded(now, id, value),
            SyncInput::Answer(id, answer) => self.on_answer(now, id, answer),
        }
        self.pump(now);
    }

    fn handle_timeout(&mut self, now: Now) {
        let now = now.mono;
        let late = |ask: &Ask| matches!(ask.stage, Stage::Asked { until } if until <= now);
        let late: Vec<AskId> = self
            .asks
            .iter()
            .filter(|(_, ask)| late(ask))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.on_answer(now, id, Err(LookupError::Timeout));
        }
        self.pump(now);
    }

    fn deadline(&self) -> Option<MonoTime> {
        let asked = self.asks.values().filter_map(|ask| match ask.stage {
            Stage::Asked { until } => Some(until),
            Stage::Waiting => Some(self.next_query),
            Stage::Loading => None,
        });
        let free = self.wanted > 0 && self.asks.len() < MAX_ASKS;
        let lists = self.lists.iter().filter(|_| free).flat_map(|(url, list)| {
            let root = (!self.asks_root(url)).then_some(list.next_root);
            [root, list.next()].into_iter().flatten()
        });
        asked.chain(lists).min()
    }

    fn poll(&mut self) -> Option<SyncOutput> {
        self.outputs.pop_front()
    }
}

enum Taken {
    Branch,
    Link(TreeUrl),
    Node(Box<NodeRecord>),
}

fn take(
    config: &SyncConfig,
    list: &mut List,
    subtree: Subtree,
    step: &Step,
    entry: TreeEntry,
) -> Result<Taken, SyncError> {
    match (subtree, entry) {
        (_, TreeEntry::Branch(children)) => match list.walk(subtree).branch(step, children) {
            0 => Ok(Taken::Branch),
            left_out => Err(SyncError::TooMany(left_out)),
        },
        (Subtree::Links, TreeEntry::Link(url)) if list.link(url.clone()) => Ok(Taken::Link(url)),
        (Subtree::Links, TreeEntry::Link(_)) => Err(SyncError::TooMany(1)),
        (Subtree::Nodes, TreeEntry::Node(record)) if believed(config, &record) => {
            Ok(Taken::Node(Box::new(record)))
        }
        (Subtree::Nodes, TreeEntry::Node(_)) => Err(SyncError::Address),
        _ => Err(SyncError::WrongKind(subtree)),
    }
}

/// Every address in the record must be of the Internet or of a trusted network, not only the one tried first.
fn believed(config: &SyncConfig, record: &NodeRecord) -> bool {
    let ips = [record.ip4().map(IpAddr::V4), record.ip6().map(IpAddr::V6)];
    let fine = |ip: &IpAddr| {
        AddressClass::of(*ip) == AddressClass::Global
            || config.trusted.iter().any(|network| network.contains(ip))
    };
    let mut ips = ips.into_iter().flatten().peekable();
    config.any_address || (ips.peek().is_some() && ips.all(|ip| fine(&ip)))
}

fn text(bytes: &Bytes) -> Option<&str> {
    std::str::from_utf8(bytes)
        .ok()
        .filter(|text| text.len() <= MAX_TEXT)
}

fn signed_root(text: &str, list: &TreeUrl) -> Option<TreeRoot> {
    let text = Some(text).filter(|text| text.starts_with(ROOT_PREFIX))?;
    let root: TreeRoot = text.parse().ok()?;
    root.verify(list.key()).ok().map(|()| root)
}

/// Where the cache has the entry of this name, whatever list it is of.
pub(super) fn entry_key(hash: &EntryHash) -> CacheKey {
    CacheKey::new(keccak256(hash.as_str().as_bytes()))
}

/// No entry's key: a label has no colon.
pub(super) fn root_key(list: &TreeUrl) -> CacheKey {
    CacheKey::new(keccak256(list.to_string().as_bytes()))
}

#[cfg(test)]
mod tests;
