//! The key space in slices, and a target in each.
//!
//! A slice is all ids with the same first bits. Slices wait in one queue and are cut in two for as long as they have more nodes
//! than one answer names, so the search is breadth first: the whole space coarsely before any part of it finely. What was
//! asked of whom about a slice is the crawl's business.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use rand::RngExt as _;
use tercet_discovery::Target;
use tercet_enode::NodeId;
use tercet_machine::MachineRng;

/// Bits of the finest slices: 4,096 of them.
const MAX_BITS: u32 = 12;
const FINEST: usize = 1 << MAX_BITS;

/// A slice with as many known nodes is cut in two. Half of what one answer names, so that an answer about a slice is full
/// only where there is news.
pub(super) const LEAF: usize = tercet_discovery::BUCKET_SIZE / 2;

/// The ids whose first `bits` bits are those of `prefix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slice {
    bits: u32,
    prefix: u16,
}

impl Slice {
    /// All ids.
    pub(super) const ALL: Self = Self { bits: 0, prefix: 0 };

    /// The coarsest slice around `id` in which `count` finds fewer than [`LEAF`] nodes; the finest one if there is none.
    pub(super) fn around(id: &NodeId, count: impl Fn(Self) -> usize) -> Self {
        let of = |bits| Self {
            bits,
            prefix: place(id) >> (MAX_BITS - bits),
        };
        let mut slices = (0..=MAX_BITS).map(of);
        slices
            .find(|slice| slice.bits == MAX_BITS || count(*slice) < LEAF)
            .unwrap_or(Self::ALL)
    }

    /// The log distance within which everything lies that shares the slice with a node in it.
    pub(super) fn reach(self) -> u16 {
        // At most 12 bits.
        256 - self.bits as u16
    }

    /// The slice's first and last id.
    pub(super) fn ids(self) -> RangeInclusive<NodeId> {
        let first = u32::from(self.prefix) << (u16::BITS - self.bits);
        let last = first + ((1 << (u16::BITS - self.bits)) - 1);
        let id = |head: u32, rest| {
            let mut bytes = [rest; 32];
            for (byte, value) in bytes.iter_mut().zip((head as u16).to_be_bytes()) {
                *byte = value;
            }
            NodeId::new(bytes)
        };
        id(first, 0)..=id(last, u8::MAX)
    }

    /// Whether it is finer than another one.
    pub(super) fn is_finer(self, other: Self) -> bool {
        self.bits > other.bits
    }

    /// The slice of twice the size that this one is in.
    pub(super) fn parent(self) -> Option<Self> {
        let bits = self.bits.checked_sub(1)?;
        let prefix = self.prefix >> 1;
        Some(Self { bits, prefix })
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
pub(super) struct Slices {
    waiting: VecDeque<Slice>,
    targets: Vec<[u8; 64]>,
}

impl Slices {
    /// The whole space. discv4's targets are the hashes of 64 bytes, so one for each finest slice is found by trial: about
    /// 4,096 × ln 4,096 ≈ 37,000 hashes, some 20 ms.
    pub(super) fn new(rng: &mut MachineRng) -> Self {
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

    /// The next slice to search: one that cannot be cut or has fewer than [`LEAF`] nodes by `count`.
    pub(super) fn next(&mut self, count: impl Fn(Slice) -> usize) -> Option<Slice> {
        while let Some(slice) = self.waiting.pop_front() {
            match slice.halves() {
                Some(halves) if count(slice) >= LEAF => self.waiting.extend(halves),
                _ => return Some(slice),
            }
        }
        None
    }

    /// A slice that has to be searched again.
    pub(super) fn put_back(&mut self, slice: Slice) {
        self.waiting.push_back(slice);
    }

    /// A target within `slice`.
    pub(super) fn target(&self, slice: Slice, rng: &mut MachineRng) -> Target {
        let free = MAX_BITS - slice.bits;
        let within: usize = rng.random_range(0..1 << free);
        let at = usize::from(slice.prefix) << free | within;
        // There is one for each finest slice.
        Target::new(self.targets.get(at).copied().unwrap_or([0; 64]))
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
            let target = slices.target(slice, &mut rng).id();
            assert!(slice.ids().contains(&target));
            // Two ids of a slice are no farther apart than its reach, its ends exactly that far.
            let (first, last) = slice.ids().into_inner();
            assert_eq!(first.log_distance(&last), slice.reach());
            assert!(target.log_distance(&first) <= slice.reach());
            match slice.halves() {
                Some(halves) => {
                    assert!(halves.iter().all(|half| half.parent() == Some(slice)));
                    queue.extend(halves);
                }
                None => finest += 1,
            }
        }
        assert_eq!(finest, FINEST);
    }

    #[test]
    fn only_a_full_slice_is_cut_and_the_coarse_come_first() {
        let mut rng = MachineRng::from_seed([2; 32]);
        let mut slices = Slices::new(&mut rng);
        assert_eq!(slices.next(|_| LEAF - 1), Some(Slice::ALL));
        slices.put_back(Slice::ALL);
        // Everything is in the upper half of the upper half.
        let crowd = NodeId::new([0xff; 32]);
        let count =
            |slice: Slice| LEAF * usize::from(slice.bits < 3 && slice.ids().contains(&crowd));
        let found: Vec<_> = std::iter::from_fn(|| slices.next(count)).collect();
        let expected =
            [(1, 0), (2, 2), (3, 6), (3, 7)].map(|(bits, prefix)| Slice { bits, prefix });
        assert_eq!(found, expected);
        assert_eq!(Slice::around(&crowd, count), expected[3]);
        assert_eq!(Slice::around(&crowd, |_| LEAF).bits, MAX_BITS);
    }
}
