//! What is going to happen: by time, then by who brought it about.
//!
//! Nearly everything is put in long before it happens, and taken out together with what else happens in the same window. So it waits
//! unsorted, in spans of a few milliseconds; only where things are wanted one by one, a heap sorts the span that has begun.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

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

/// Which span a time lies in: of 2²² ns, 4.2 ms, each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Span(u64);

impl Span {
    const fn of(at: MonoTime) -> Self {
        Self(at.as_nanos() >> 22)
    }
}

/// Former spans whose memory is kept: as many as packets are under way for, mostly.
const SPARE: usize = 32;

/// Things with a time.
pub(crate) struct Agenda<T> {
    /// The span that has begun and those before it, sorted.
    begun: Option<Span>,
    heap: BinaryHeap<Reverse<(Moment, Slot)>>,
    slots: Vec<Option<T>>,
    free: Vec<Slot>,
    /// The spans after it; none of them is empty.
    later: BTreeMap<Span, Later<T>>,
    /// Memory of former spans.
    spare: Vec<Vec<(Moment, T)>>,
    len: usize,
}

/// Where a thing is while the heap sorts its moment: it is as large as a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Slot(usize);

struct Later<T> {
    first: Moment,
    things: Vec<(Moment, T)>,
}

impl<T> Agenda<T> {
    pub(crate) const fn new() -> Self {
        Self {
            begun: None,
            heap: BinaryHeap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            later: BTreeMap::new(),
            spare: Vec::new(),
            len: 0,
        }
    }

    pub(crate) fn push(&mut self, moment: Moment, what: T) {
        self.len += 1;
        let span = Span::of(moment.at);
        if Some(span) <= self.begun {
            self.sort_in(moment, what);
        } else {
            let spare = &mut self.spare;
            let later = self.later.entry(span).or_insert_with(|| Later {
                first: moment,
                things: spare.pop().unwrap_or_default(),
            });
            later.first = later.first.min(moment);
            later.things.push((moment, what));
        }
    }

    /// The moment of the next thing.
    pub(crate) fn next(&self) -> Option<Moment> {
        let begun = self.heap.peek().map(|Reverse((moment, _))| *moment);
        begun.or_else(|| Some(self.later.first_key_value()?.1.first))
    }

    pub(crate) fn pop(&mut self) -> Option<(Moment, T)> {
        if self.heap.is_empty() {
            let (span, later) = self.later.pop_first()?;
            self.begun = Some(span);
            for (moment, what) in later.things {
                self.sort_in(moment, what);
            }
        }
        self.len -= 1;
        self.pop_sorted()
    }

    /// Takes out everything before `until`, in no order.
    pub(crate) fn take_before(&mut self, until: MonoTime) -> Vec<(Moment, T)> {
        let mut taken = Vec::new();
        while let Some(Reverse((moment, _))) = self.heap.peek()
            && moment.at < until
        {
            taken.extend(self.pop_sorted());
        }
        while let Some(mut first) = self.later.first_entry()
            && first.get().first.at < until
        {
            if *first.key() < Span::of(until) {
                let mut things = first.remove().things;
                taken.append(&mut things);
                if self.spare.len() < SPARE {
                    self.spare.push(things);
                }
                continue;
            }
            let things = &mut first.get_mut().things;
            taken.extend(things.extract_if(.., |(moment, _)| moment.at < until));
            match things.iter().map(|(moment, _)| *moment).min() {
                Some(left) => first.get_mut().first = left,
                None => drop(first.remove()),
            }
        }
        self.len -= taken.len();
        taken
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    fn sort_in(&mut self, moment: Moment, what: T) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot(self.slots.len() - 1)
        });
        if let Some(place) = self.slots.get_mut(slot.0) {
            *place = Some(what);
        }
        self.heap.push(Reverse((moment, slot)));
    }

    fn pop_sorted(&mut self) -> Option<(Moment, T)> {
        let Reverse((moment, slot)) = self.heap.pop()?;
        self.free.push(slot);
        let what = self.slots.get_mut(slot.0)?.take()?;
        Some((moment, what))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test fails by panicking
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        /// So many microseconds from now.
        Push(u64),
        Pop,
        TakeBefore(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..30_000_u64).prop_map(Step::Push),
            1 => Just(Step::Pop),
            1 => (0..20_000_u64).prop_map(Step::TakeBefore),
        ]
    }

    proptest! {
        #[test]
        fn an_agenda_is_a_sorted_list(steps in prop::collection::vec(step(), 1..300)) {
            let (mut agenda, mut list, mut now) = (Agenda::new(), Vec::new(), 0);
            for (number, step) in (0..).zip(steps) {
                match step {
                    Step::Push(micros) => {
                        let at = MonoTime::from_nanos(now + micros * 1000);
                        let moment = Moment { at, cause: None, number };
                        agenda.push(moment, number);
                        list.push((moment, number));
                        list.sort_unstable();
                    }
                    Step::Pop => {
                        let first = (!list.is_empty()).then(|| list.remove(0));
                        now = first.map_or(now, |(moment, _)| moment.at.as_nanos());
                        prop_assert_eq!(agenda.pop(), first);
                    }
                    Step::TakeBefore(micros) => {
                        now += micros * 1000;
                        let until = MonoTime::from_nanos(now);
                        let mut taken = agenda.take_before(until);
                        taken.sort_unstable();
                        let upto = list.partition_point(|(moment, _)| moment.at < until);
                        prop_assert_eq!(taken, list.drain(..upto).collect::<Vec<_>>());
                    }
                }
                prop_assert_eq!(agenda.len(), list.len());
                prop_assert_eq!(agenda.next(), list.first().map(|(moment, _)| *moment));
            }
        }
    }
}
