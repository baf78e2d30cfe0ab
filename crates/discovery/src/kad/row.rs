//! What is asked of a bucket's nodes again and again, side by side: who they are, over what they have answered, which list they
//! are on, and which network they lie in. A node's entry has 200 bytes somewhere in memory; whoever looks for one of 26 nodes,
//! counts them or chooses among them reads one to four cache lines here instead.

use std::net::IpAddr;
use std::ops::Range;

use tercet_enode::NodeId;
use tercet_machine::Subnet;

use super::bucket::{BUCKET_SIZE, Entry, MAX_REPLACEMENTS};
use super::revalidate::{Census, RevalidationList};
use crate::engine::{Protocol, Protocols};

/// Places of one bucket: those in it, then those waiting.
pub(super) const ROW: usize = BUCKET_SIZE + MAX_REPLACEMENTS;

/// See the module's documentation. 432 bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Row {
    /// The first eight bytes of each id. Two nodes can have the same.
    heads: [u64; ROW],
    prints: [Print; ROW],
    marks: [Option<Mark>; ROW],
    /// Of the marks of those in the bucket.
    census: Census,
}

/// What is said of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    pub(super) live: Protocols,
    list: RevalidationList,
    checking: bool,
    saved: bool,
}

/// A number that addresses of one /24 or /48 share, and hardly any others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Print(pub(super) u32);

impl Print {
    /// Stands for a place without a node.
    pub(super) const VACANT: Self = Self(1 << 30);

    pub(super) fn of(ip: IpAddr) -> Self {
        Self(match Subnet::wide(ip) {
            Subnet::V4([a, b, c]) => u32::from_be_bytes([0, a, b, c]),
            Subnet::V6Wide([a, b, c, d, e, f]) | Subnet::V6([a, b, c, d, e, f, ..]) => {
                u32::from_be_bytes([a, b, c, d]) ^ u32::from_be_bytes([0, 0, e, f]) | 1 << 31
            }
        })
    }
}

impl Mark {
    const fn of(entry: &Entry) -> Self {
        Self {
            live: entry.live,
            list: entry.list,
            checking: entry.checking,
            saved: entry.saved,
        }
    }

    /// The node by itself.
    fn census(self) -> Census {
        Census {
            fast: u16::from(self.is_idle_on(RevalidationList::Fast)),
            slow: u16::from(self.is_idle_on(RevalidationList::Slow)),
            live: u16::from(!self.live.is_empty()),
            live_v4: u16::from(self.live.contains(Protocol::V4)),
            live_v5: u16::from(self.live.contains(Protocol::V5)),
        }
    }

    /// Whether the node can be chosen for a check of this list.
    pub(super) fn is_idle_on(self, list: RevalidationList) -> bool {
        self.list == list && !self.checking
    }

    /// Whether the database should hear of the node.
    pub(super) fn is_news(self) -> bool {
        !self.live.is_empty() && !self.saved
    }
}

impl Default for Row {
    fn default() -> Self {
        Self {
            heads: [0; ROW],
            prints: [Print::VACANT; ROW],
            marks: [None; ROW],
            census: Census::NONE,
        }
    }
}

impl Row {
    /// What a bucket's row should say.
    #[cfg(test)]
    pub(super) fn of(bucket: &super::bucket::Bucket) -> Self {
        let mut row = Self::default();
        for (at, entry) in bucket.entries().enumerate() {
            row.set(at, entry);
        }
        for (at, entry) in bucket.replacements().enumerate() {
            row.set(BUCKET_SIZE + at, entry);
        }
        row
    }

    pub(super) fn set(&mut self, at: usize, entry: &Entry) {
        if let (Some(head_at), Some(print), Some(mark)) = (
            self.heads.get_mut(at),
            self.prints.get_mut(at),
            self.marks.get_mut(at),
        ) {
            *head_at = head(&entry.node.id());
            *print = Print::of(entry.node.endpoint().ip);
            let new = Mark::of(entry);
            let old = mark.replace(new);
            if at < BUCKET_SIZE && old != Some(new) {
                let rest = old.map_or(self.census, |old| self.census.without(old.census()));
                self.census = rest.with(new.census());
            }
        }
    }

    /// The last of these places comes first, the others move on by one.
    pub(super) fn raise(&mut self, places: Range<usize>) {
        self.turn(places, |len| len.min(1));
    }

    /// The first of these places goes, the others move up.
    pub(super) fn close(&mut self, places: Range<usize>) {
        let last = places.end.saturating_sub(1);
        self.turn(places, |len| len.saturating_sub(1));
        if let (Some(head), Some(print), Some(mark)) = (
            self.heads.get_mut(last),
            self.prints.get_mut(last),
            self.marks.get_mut(last),
        ) {
            (*head, *print) = (0, Print::VACANT);
            if let Some(gone) = mark.take().filter(|_| last < BUCKET_SIZE) {
                self.census = self.census.without(gone.census());
            }
        }
    }

    fn turn(&mut self, places: Range<usize>, right: impl Fn(usize) -> usize) {
        if let (Some(heads), Some(prints), Some(marks)) = (
            self.heads.get_mut(places.clone()),
            self.prints.get_mut(places.clone()),
            self.marks.get_mut(places),
        ) {
            let by = right(heads.len());
            heads.rotate_right(by);
            prints.rotate_right(by);
            marks.rotate_right(by);
        }
    }

    /// Those of these places that may have the node with this id: any other has another head.
    pub(super) fn with_head(
        &self,
        places: Range<usize>,
        id: &NodeId,
    ) -> impl Iterator<Item = usize> {
        let (first, wanted) = (places.start, head(id));
        let heads = self.heads.get(places).unwrap_or_default();
        let at = heads
            .iter()
            .enumerate()
            .filter(move |(_, head)| **head == wanted);
        at.map(move |(at, _)| first + at)
    }

    /// How far each node of the bucket is from `target`, as its distance's first eight bytes, with its place.
    pub(super) fn distances(&self, target: &NodeId) -> impl Iterator<Item = (u64, usize)> {
        let target = head(target);
        let present = self.marks().map(|(at, _)| at);
        present.filter_map(move |at| Some((self.heads.get(at)? ^ target, at)))
    }

    /// The nodes in the bucket, with their places; none of those waiting.
    pub(super) fn marks(&self) -> impl Iterator<Item = (usize, Mark)> {
        let present = self.marks.iter().take(BUCKET_SIZE).enumerate();
        present.filter_map(|(at, mark)| Some((at, (*mark)?)))
    }

    /// What is said of the node at this place.
    pub(super) fn mark(&self, at: usize) -> Option<Mark> {
        self.marks.get(at).copied().flatten()
    }

    /// The network of the node at this place.
    pub(super) fn print(&self, at: usize) -> Print {
        self.prints.get(at).copied().unwrap_or(Print::VACANT)
    }

    pub(super) const fn prints(&self) -> &[Print; ROW] {
        &self.prints
    }

    /// What the table's rules count of the nodes in the bucket.
    pub(super) const fn census(&self) -> Census {
        self.census
    }
}

fn head(id: &NodeId) -> u64 {
    id.as_bytes()
        .first_chunk()
        .map_or(0, |head| u64::from_be_bytes(*head))
}
