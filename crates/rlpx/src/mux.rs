//! Multiplexing: one connection's message ids, shared out among the capabilities both ends have.

use std::ops::Range;

use crate::capability::{Capability, FIRST_OFFSET};

/// A capability both ends have, and its place among the message ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedCapability {
    /// Name and version.
    pub capability: Capability,
    /// Index into the local list it was matched from.
    pub local_index: usize,
    /// Its message ids on this connection.
    pub ids: Range<u64>,
}

/// The capabilities of one connection, ordered by name, with adjoining ranges of ids from 0x10 up.
///
/// ```
/// use tercet_rlpx::{Capability, SharedCapabilities};
/// let (eth68, eth69) = (Capability::new("eth", 68)?, Capability::new("eth", 69)?);
/// let snap = Capability::new("snap", 1)?;
/// let shared = SharedCapabilities::match_capabilities(&[(eth68, 17), (eth69, 18), (snap, 8)], &[eth68, eth69, snap]);
/// assert_eq!(shared.get(0).unwrap().capability, eth69);
/// assert_eq!(shared.locate(0x22), Some((1, 0)), "snap's first message");
/// assert_eq!(shared.locate(0x22 + 8), None);
/// # Ok::<(), tercet_rlpx::CapabilityError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SharedCapabilities(Vec<SharedCapability>);

impl SharedCapabilities {
    /// Matches what we offer, with the number of message ids each takes, against what the remote offers: of every
    /// name the highest version both have. Repeated entries are harmless; of a repeated local one the first counts.
    #[must_use]
    pub fn match_capabilities(local: &[(Capability, u64)], remote: &[Capability]) -> Self {
        let mut best: Vec<(usize, Capability, u64)> = Vec::new();
        for (index, (capability, length)) in local.iter().enumerate() {
            if !remote.contains(capability) {
                continue;
            }
            match best
                .iter_mut()
                .find(|(_, known, _)| known.name == capability.name)
            {
                Some(known) if known.1.version < capability.version => {
                    *known = (index, *capability, *length);
                }
                Some(_) => {}
                None => best.push((index, *capability, *length)),
            }
        }
        best.sort_by_key(|(_, capability, _)| capability.name);
        let mut next = FIRST_OFFSET;
        let place = |(local_index, capability, length): (usize, Capability, u64)| {
            let ids = next..next.saturating_add(length);
            next = ids.end;
            SharedCapability {
                capability,
                local_index,
                ids,
            }
        };
        Self(best.into_iter().map(place).collect())
    }

    /// Which capability message `id` belongs to (its index here) and the id relative to it. `None` for ids of the
    /// base protocol and for ids beyond the last range, which are a breach of protocol.
    #[must_use]
    pub fn locate(&self, id: u64) -> Option<(usize, u64)> {
        let index = self.0.iter().position(|shared| shared.ids.contains(&id))?;
        let start = self.0.get(index)?.ids.start;
        Some((index, id - start))
    }

    /// The capability at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&SharedCapability> {
        self.0.get(index)
    }

    /// All of them, by name.
    pub fn iter(&self) -> std::slice::Iter<'_, SharedCapability> {
        self.0.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the two ends have nothing in common: "useless peer".
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first id after the last range.
    #[must_use]
    pub fn next_free(&self) -> u64 {
        self.0.last().map_or(FIRST_OFFSET, |last| last.ids.end)
    }
}

#[cfg(test)]
mod tests;
