//! What is known of one list: its root, the state of its two passes, and when to look at the root again.

use std::collections::BTreeSet;
use std::time::Duration;

use tercet_machine::{MachineRng, MonoTime};

use super::MAX_LINKS;
use super::walk::{Step, Walk};
use crate::dns::root::TreeRoot;
use crate::dns::url::TreeUrl;

/// Between two looks at a root, as geth.
pub const ROOT_INTERVAL: Duration = Duration::from_secs(30 * 60);
/// The first wait after a root could not be had; doubled each time, up to [`MAX_ROOT_WAIT`].
const ROOT_WAIT: Duration = Duration::from_secs(1);
/// The longest.
pub const MAX_ROOT_WAIT: Duration = Duration::from_secs(5 * 60);
/// After more failed entries than this the root is looked at again: the list was probably published anew. As geth.
pub const MAX_LEAF_FAILURES: u32 = 5;
/// A list that was handed out to its end begins again after this. Entries come from the cache, so a reader that asks as
/// fast as it can would otherwise get the same nodes without end.
pub const REPEAT_AFTER: Duration = Duration::from_secs(5 * 60);

/// One of a list's two trees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subtree {
    /// Links to other lists.
    Links,
    /// Nodes.
    Nodes,
}

#[derive(Debug)]
pub(super) struct List {
    /// Asked for by the user, not by another list.
    pub(super) named: bool,
    pub(super) root: Option<TreeRoot>,
    /// No lower one is accepted.
    pub(super) seq: Option<u64>,
    /// The database was asked for the last root.
    pub(super) recalled: bool,
    pub(super) next_root: MonoTime,
    root_failures: u32,
    leaf_failures: u32,
    links: Walk,
    nodes: Walk,
    links_done: bool,
    /// A part of the links could not be had in this pass.
    links_missing: bool,
    /// When the nodes begin again; set once they are through.
    repeat: Option<MonoTime>,
    /// The links of the last complete pass, and those of the present one.
    pub(super) linked: BTreeSet<TreeUrl>,
    gathering: BTreeSet<TreeUrl>,
}

/// A pass that has come to its end.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Ended {
    Nothing,
    Links,
    Nodes { entries: usize },
}

impl List {
    pub(super) fn new(named: bool, max_entries: usize, rng: &mut MachineRng) -> Self {
        Self {
            named,
            root: None,
            seq: None,
            recalled: false,
            next_root: MonoTime::ZERO,
            root_failures: 0,
            leaf_failures: 0,
            links: Walk::new(MAX_LINKS * 2, rng),
            nodes: Walk::new(max_entries, rng),
            links_done: false,
            links_missing: false,
            repeat: None,
            linked: BTreeSet::new(),
            gathering: BTreeSet::new(),
        }
    }

    /// A root whose signature holds. `false` if its number went back: it stays as it was.
    pub(super) fn accept(&mut self, root: TreeRoot) -> bool {
        if self.seq.is_some_and(|seq| root.seq() < seq) {
            return false;
        }
        self.seq = Some(root.seq());
        let old = self.root.as_ref();
        let nodes_changed = old.is_none_or(|old| old.nodes() != root.nodes());
        if old.is_none_or(|old| old.links() != root.links()) {
            self.restart_links(&root);
        }
        if nodes_changed {
            self.restart_nodes(&root);
        }
        self.root = Some(root);
        true
    }

    fn restart_links(&mut self, root: &TreeRoot) {
        self.links.restart(root.links().clone());
        self.gathering.clear();
        self.links_done = false;
        self.links_missing = false;
    }

    /// The nodes from the beginning, and before them the links again if some are missing.
    fn restart_nodes(&mut self, root: &TreeRoot) {
        self.nodes.restart(root.nodes().clone());
        self.repeat = None;
        if self.links_done && self.links_missing {
            self.restart_links(root);
        }
    }

    pub(super) fn on_root(&mut self, now: MonoTime) {
        self.root_failures = 0;
        self.leaf_failures = 0;
        self.next_root = now + ROOT_INTERVAL;
    }

    pub(super) fn on_root_failed(&mut self, now: MonoTime) {
        let doubled =
            ROOT_WAIT.saturating_mul(1_u32.checked_shl(self.root_failures).unwrap_or(u32::MAX));
        self.root_failures = (self.root_failures + 1).min(30);
        self.next_root = now + doubled.min(MAX_ROOT_WAIT);
    }

    /// The next entry to fetch: links first, nodes once those are complete.
    pub(super) fn take(&mut self, now: MonoTime, rng: &mut MachineRng) -> Option<(Subtree, Step)> {
        if self.links_done
            && self.repeat.is_some_and(|at| at <= now)
            && let Some(root) = self.root.clone()
        {
            self.restart_nodes(&root);
        }
        if !self.links_done {
            return self.links.take(now, rng).map(|step| (Subtree::Links, step));
        }
        self.nodes.take(now, rng).map(|step| (Subtree::Nodes, step))
    }

    /// When there is something to do, if nothing is under way.
    pub(super) fn next(&self) -> Option<MonoTime> {
        self.root.as_ref()?;
        if !self.links_done {
            return self.links.next();
        }
        self.nodes.next().or(self.repeat)
    }

    pub(super) fn walk(&mut self, subtree: Subtree) -> &mut Walk {
        match subtree {
            Subtree::Links => &mut self.links,
            Subtree::Nodes => &mut self.nodes,
        }
    }

    /// `false` if there are too many already.
    pub(super) fn link(&mut self, url: TreeUrl) -> bool {
        if self.gathering.len() >= MAX_LINKS && !self.gathering.contains(&url) {
            return false;
        }
        self.gathering.insert(url);
        true
    }

    /// `step` could not be had.
    pub(super) fn on_failed(&mut self, now: MonoTime, subtree: Subtree, step: Step) {
        let tried_again = self.walk(subtree).failed(now, step);
        self.links_missing |= !tried_again && subtree == Subtree::Links;
    }

    pub(super) fn on_leaf_failed(&mut self, now: MonoTime) {
        self.leaf_failures += 1;
        if self.leaf_failures > MAX_LEAF_FAILURES {
            self.leaf_failures = 0;
            self.next_root = self.next_root.min(now);
        }
    }

    /// To be called after every entry, with whether others of this list are under way.
    pub(super) fn settle(&mut self, now: MonoTime, busy: bool) -> Ended {
        if busy || self.root.is_none() {
            return Ended::Nothing;
        }
        if !self.links_done && self.links.is_empty() {
            self.links_done = true;
            let before = std::mem::take(&mut self.linked);
            self.linked = std::mem::take(&mut self.gathering);
            if self.links_missing {
                // It may still lead to where it led.
                let room = MAX_LINKS.saturating_sub(self.linked.len());
                self.linked.extend(before.into_iter().take(room));
            }
            return Ended::Links;
        }
        if self.links_done && self.repeat.is_none() && self.nodes.is_empty() {
            self.repeat = Some(now + REPEAT_AFTER);
            let entries = self.nodes.met();
            return Ended::Nodes { entries };
        }
        Ended::Nothing
    }
}
