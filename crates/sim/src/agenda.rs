//! What is going to happen: a heap ordered by time, then by who brought it about.
//!
//! The heap sorts small keys; the things themselves, which are as large as a packet, stay in their slots while it does.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tercet_machine::MonoTime;

use crate::simulation::NodeKey;

/// When something happens, and its place among what happens at the same time: ordered by its fields in turn, never the same
/// twice. It says nothing of other nodes' doings, so that it is the same on however many threads they are played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    pub(crate) at: MonoTime,
    /// Who brought it about; `None` if it was the scenario or the network.
    pub(crate) cause: Option<NodeKey>,
    /// How many things it had brought about before.
    pub(crate) number: u64,
}

/// Things with a time.
pub(crate) struct Agenda<T> {
    heap: BinaryHeap<Reverse<(Moment, Slot)>>,
    slots: Vec<Option<T>>,
    free: Vec<Slot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Slot(u32);

impl Slot {
    const fn index(self) -> usize {
        self.0 as usize
    }
}

impl<T> Agenda<T> {
    pub(crate) const fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, moment: Moment, what: T) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            // More than 2^32 things at one time fit no memory.
            Slot(u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX))
        });
        if let Some(place) = self.slots.get_mut(slot.index()) {
            *place = Some(what);
        }
        self.heap.push(Reverse((moment, slot)));
    }

    /// The moment of the next thing.
    pub(crate) fn next(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse((moment, _))| *moment)
    }

    pub(crate) fn pop(&mut self) -> Option<(Moment, T)> {
        let Reverse((moment, slot)) = self.heap.pop()?;
        self.free.push(slot);
        let what = self.slots.get_mut(slot.index())?.take()?;
        Some((moment, what))
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}
