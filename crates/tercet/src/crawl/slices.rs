//! The key space in slices, and a target in each.
//!
//! A slice is all ids with the same first bits. A lookup of a target in a slice ends with the 16 nodes nearest to it. If all
//! of them are in the slice there may be more, and the slice is cut in two; if not, all of the slice's nodes were among them.
//! Slices wait in one queue, so the search is breadth first: the whole space coarsely before any part of it finely.

use std::collections::VecDeque;

use rand::RngExt as _;
use tercet_discovery::Target;
use tercet_enode::NodeId;
use tercet_machine::MachineRng;

/// Bits of the finest slices: 4,096 of them, with 16 nodes each room for 65,536.
const MAX_BITS: u32 = 12;
const FINEST: usize = 1 << MAX_BITS;
/// Nodes a lookup ends with.
const LOOKUP_RESULT: usize = tercet_discovery::BUCKET_SIZE;

/// The ids whose first `bits` bits are those of `prefix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slice {
    bits: u32,
    prefix: u16,
}

impl Slice {
    /// All ids.
    const ALL: Self = Self { bits: 0, prefix: 0 };

    fn holds(self, id: &NodeId) -> bool {
        let place = u32::from(place(id)) >> (MAX_BITS - self.bits);
        place == u32::from(self.prefix)
    }

    fn halves(self) -> Option<[Self; 2]> {
        let bits = self.bits + 1;
        let half = |bit| Self {
            bits,
            prefix: self.prefix << 1 | bit,
        };
        (bits <= MAX_BITS).then(|| [half(0), half(1)])
    }
}

/// The finest slice an id is in.
fn place(id: &NodeId) -> u16 {
    let [high, low, ..] = *id.as_bytes();
    u16::from_be_bytes([high, low]) >> (u16::BITS - MAX_BITS)
}

/// The slices still to be searched, at most 4,096 of 8 bytes, and 64 bytes of target for each of the finest: 300 KiB.
#[derive(Debug)]
pub(crate) struct Slices {
    waiting: VecDeque<Slice>,
    targets: Vec<[u8; 64]>,
}

impl Slices {
    /// The whole space. discv4's targets are the hashes of 64 bytes, so one for each finest slice is found by trial: about
    /// 4,096 × ln 4,096 ≈ 37,000 hashes, some 20 ms.
    pub(crate) fn new(rng: &mut MachineRng) -> Self {
        let mut found: Vec<Option<[u8; 64]>> = vec![None; FINEST];
        let mut missing = FINEST;
        while missing > 0 {
            let mut bytes = [0; 64];
            rng.fill(&mut bytes[..]);
            let at = usize::from(place(&Target::new(bytes).id()));
            if let Some(slot @ None) = found.get_mut(at) {
                *slot = Some(bytes);
                missing -= 1;
            }
        }
        Self {
            waiting: VecDeque::from([Slice::ALL]),
            targets: found.into_iter().flatten().collect(),
        }
    }

    /// The next slice to search.
    pub(crate) fn next(&mut self) -> Option<Slice> {
        self.waiting.pop_front()
    }

    /// A slice that was taken and not searched.
    pub(crate) fn put_back(&mut self, slice: Slice) {
        self.waiting.push_front(slice);
    }

    /// A target within `slice`.
    pub(crate) fn target(&self, slice: Slice, rng: &mut MachineRng) -> Target {
        let free = MAX_BITS - slice.bits;
        let within: usize = rng.random_range(0..1 << free);
        let at = usize::from(slice.prefix) << free | within;
        // There is one for each finest slice.
        Target::new(self.targets.get(at).copied().unwrap_or([0; 64]))
    }

    /// A search of `slice` ended with the nodes `found`.
    pub(crate) fn on_found<'a>(
        &mut self,
        slice: Slice,
        found: impl ExactSizeIterator<Item = &'a NodeId>,
    ) {
        let full = found.len() >= LOOKUP_RESULT;
        let mut found = found;
        if full && found.all(|id| slice.holds(id)) {
            self.waiting.extend(slice.halves().into_iter().flatten());
        }
    }

    /// Whether everything was searched.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_in_its_slice() {
        let mut rng = MachineRng::from_seed([1; 32]);
        let slices = Slices::new(&mut rng);
        let mut queue = VecDeque::from([Slice::ALL]);
        let mut finest = 0;
        while let Some(slice) = queue.pop_front() {
            assert!(slice.holds(&slices.target(slice, &mut rng).id()));
            match slice.halves() {
                Some(halves) => queue.extend(halves),
                None => finest += 1,
            }
        }
        assert_eq!(finest, FINEST);
    }

    #[test]
    fn only_a_full_slice_is_cut() {
        let mut rng = MachineRng::from_seed([2; 32]);
        let mut slices = Slices::new(&mut rng);
        let all = slices.next().unwrap();
        let ids = |first: u8, count: usize| vec![NodeId::new([first; 32]); count];
        slices.on_found(all, ids(0, 15).iter());
        assert!(slices.is_empty());
        slices.on_found(all, ids(0, 16).iter());
        let (low, high) = (slices.next().unwrap(), slices.next().unwrap());
        assert!(low.holds(&NodeId::new([0x7f; 32])) && high.holds(&NodeId::new([0x80; 32])));
        // One stranger among the 16: the slice has no more.
        slices.on_found(low, [ids(0x7f, 15), ids(0x80, 1)].concat().iter());
        assert!(slices.is_empty());
    }
}
