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

#[derive(Debug)]
struct Search {
    /// `None` for a walk.
    slice: Option<Slice>,
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
    quiet_walks: u32,
    number: u64,
}

impl Searches {
    pub(super) fn new(rng: &mut MachineRng) -> Self {
        Self {
            slices: Slices::new(rng),
            running: BTreeMap::new(),
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

    /// So many questions of a search were put.
    pub(super) fn on_asked(&mut self, search: u64, questions: usize) {
        if let Some(search) = self.running.get_mut(&search) {
            search.left += questions;
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
        let found = search.found > 0;
        match search.slice {
            // Where there is somebody new there may be more; another search may have been the first to name them.
            Some(slice) if found || nodes.count(slice) > search.known => {
                self.slices.put_back(slice);
            }
            Some(_) => {}
            None if found => self.quiet_walks = 0,
            None => self.quiet_walks += 1,
        }
        self.running.remove(&number);
        true
    }
}
