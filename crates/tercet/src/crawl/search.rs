//! The searches of a crawl: slices of the key space that too few nodes have spoken for, then walks to random targets. Which nodes
//! are nearest and may be asked is the crawl's to see.

use std::collections::BTreeMap;

use tercet_discovery::{Protocol, Protocols, Target};
use tercet_machine::MachineRng;

use super::nodes::Nodes;
use super::slices::{Slice, Slices};

/// Searches at a time; each asks three nodes over each protocol.
const MAX_SEARCHES: usize = 64;

/// So many walks in a row that find nobody new end the crawl.
const QUIET_WALKS: u32 = 8;

/// So many times a search is made once more when its answers were lost.
const MAX_VAIN: u8 = 2;

/// A search to begin.
#[derive(Debug)]
pub(super) struct Plan {
    /// Its number.
    pub(super) search: u64,
    pub(super) target: Target,
    /// The slice it is about.
    pub(super) around: Slice,
    /// Over which protocols nodes are to be asked.
    pub(super) protocols: Protocols,
}

/// Who was asked over a protocol.
#[derive(Debug, Clone, Copy)]
struct Front {
    protocol: Protocol,
    /// They are in this slice: the smallest around what is searched that had enough nodes.
    around: Slice,
    /// The most that one of them has said.
    said: Said,
}

/// What a node has said of whom it knows at a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Said {
    /// It has not, or its answer was lost.
    Nothing,
    /// As many as an answer holds, all of them nearer to the target than itself. These may know others, of whom there was no room in
    /// its bucket.
    Nearer,
    /// All it knows there.
    All,
}

#[derive(Debug)]
struct Search {
    /// `None` for a walk.
    slice: Option<Slice>,
    fronts: Vec<Front>,
    /// Questions without an answer so far.
    left: usize,
    /// Nodes nobody had named before.
    found: usize,
    /// Nodes of the slice when it began.
    known: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Searches {
    slices: Slices,
    running: BTreeMap<u64, Search>,
    /// Slices where over some protocol nobody has said all he knows, each once. When all others are done they are searched again, if
    /// there is somebody nearer to ask by then, or if nothing was said, for the number of times kept here.
    open: Vec<(Slice, Vec<Front>)>,
    vain: BTreeMap<Slice, u8>,
    quiet_walks: u32,
    number: u64,
}

impl Searches {
    pub(super) fn new(rng: &mut MachineRng) -> Self {
        Self {
            slices: Slices::new(rng),
            running: BTreeMap::new(),
            open: Vec::new(),
            vain: BTreeMap::new(),
            quiet_walks: 0,
            number: 0,
        }
    }

    /// A target within `slice`.
    pub(super) fn target(&self, slice: Slice, rng: &mut MachineRng) -> Target {
        self.slices.target(slice, rng)
    }

    /// The next search. Walks go one after the other and only while it is `quiet`, so that each is judged by what those before it
    /// had left.
    pub(super) fn next(
        &mut self,
        nodes: &Nodes,
        wanted: Protocols,
        quiet: bool,
        rng: &mut MachineRng,
    ) -> Option<Plan> {
        if self.running.len() >= MAX_SEARCHES {
            return None;
        }
        if quiet && self.running.is_empty() {
            self.reopen(nodes);
        }
        while let Some(around) = self.slices.next(|slice| nodes.count(slice)) {
            let mut protocols = wanted;
            for protocol in [Protocol::V4, Protocol::V5] {
                if nodes.is_covered(around, protocol) {
                    protocols = protocols.without(protocol);
                }
            }
            if !protocols.is_empty() {
                let target = self.slices.target(around, rng);
                let plan = self.begin(Some(around), target, around, protocols);
                if let Some(search) = self.running.get_mut(&plan.search) {
                    search.known = nodes.count(around);
                }
                return Some(plan);
            }
        }
        if !quiet || !self.running.is_empty() || self.quiet_walks >= QUIET_WALKS {
            return None;
        }
        let target = self.slices.target(Slice::ALL, rng);
        let around = Slice::around(&target.id(), |slice| nodes.count(slice));
        Some(self.begin(None, target, around, wanted))
    }

    /// Puts back what is to be searched again.
    fn reopen(&mut self, nodes: &Nodes) {
        for (slice, fronts) in std::mem::take(&mut self.open) {
            let vain = self.vain.entry(slice).or_default();
            let is_nearer = |front: &Front| {
                let around = nodes.around(slice, front.protocol);
                front.said != Said::All && around.is_finer(front.around)
            };
            if fronts.iter().any(is_nearer) {
                *vain = 0;
            } else if fronts.iter().any(|front| front.said == Said::Nothing) && *vain < MAX_VAIN {
                *vain += 1;
            } else {
                continue;
            }
            self.slices.put_back(slice);
        }
    }

    fn begin(
        &mut self,
        slice: Option<Slice>,
        target: Target,
        around: Slice,
        protocols: Protocols,
    ) -> Plan {
        let search = self.number;
        self.number += 1;
        // One more than is asked, until all of it is.
        let (left, found, known) = (1, 0, 0);
        self.running.insert(
            search,
            Search {
                slice,
                fronts: Vec::new(),
                left,
                found,
                known,
            },
        );
        Plan {
            search,
            target,
            around,
            protocols,
        }
    }

    /// Nobody could be asked just now: another time.
    pub(super) fn put_off(&mut self, search: u64) {
        if let Some(slice) = self.running.remove(&search).and_then(|gone| gone.slice) {
            self.slices.put_back(slice);
        }
    }

    /// So many questions of a search were put over a protocol, to nodes in this slice.
    pub(super) fn on_asked(
        &mut self,
        search: u64,
        (protocol, around): (Protocol, Slice),
        questions: usize,
    ) {
        if let Some(search) = self.running.get_mut(&search) {
            search.left += questions;
            search.fronts.push(Front {
                protocol,
                around,
                said: Said::Nothing,
            });
        }
    }

    /// What a node that was asked has said.
    pub(super) fn on_said(&mut self, search: u64, protocol: Protocol, said: Said) {
        let search = self.running.get_mut(&search);
        let mut fronts = search.into_iter().flat_map(|search| &mut search.fronts);
        if let Some(front) = fronts.find(|front| front.protocol == protocol) {
            front.said = front.said.max(said);
        }
    }

    /// All questions of a search were put. Says whether that was its end.
    pub(super) fn on_begun(&mut self, nodes: &Nodes, search: u64) -> bool {
        self.on_end(nodes, search, 0)
    }

    /// A question of a search ended, and named so many new nodes. Says whether that was the search's end.
    pub(super) fn on_end(&mut self, nodes: &Nodes, number: u64, found: usize) -> bool {
        let Some(search) = self.running.get_mut(&number) else {
            return false;
        };
        search.left -= 1;
        search.found += found;
        if search.left > 0 {
            return false;
        }
        let Some(search) = self.running.remove(&number) else {
            return false;
        };
        let found = search.found > 0;
        let is_open = |front: &Front| front.said != Said::All;
        match search.slice {
            // Where there is somebody new there may be more; another search may have been the first to name them.
            Some(slice) if found || nodes.count(slice) > search.known => {
                self.slices.put_back(slice);
            }
            Some(slice) if search.fronts.iter().any(is_open) => {
                self.open.push((slice, search.fronts));
            }
            Some(_) => {}
            None if found => self.quiet_walks = 0,
            None => self.quiet_walks += 1,
        }
        true
    }
}
