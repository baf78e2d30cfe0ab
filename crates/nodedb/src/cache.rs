//! Which values the cache keeps: a bound on their number and on their bytes, and the one written longest ago leaves first.
//! Both stores keep the values themselves; this is the order they leave in.

use std::collections::BTreeMap;

use crate::limits::{MAX_CACHED, MAX_CACHED_BYTES};

/// Names a value in the cache: 32 bytes, a hash of what the value is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CacheKey([u8; 32]);

impl CacheKey {
    /// A key from its bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The order in which values were written, about 130 bytes each: 2 MiB at the bound.
#[derive(Debug, Default)]
pub(crate) struct CacheIndex {
    by_key: BTreeMap<CacheKey, Place>,
    by_age: BTreeMap<u64, CacheKey>,
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    written: u64,
    bytes: usize,
}

impl CacheIndex {
    /// The place in the order that the next value gets.
    pub(crate) fn next(&self) -> u64 {
        let last = self.by_age.last_key_value();
        last.map_or(0, |(written, _)| written.saturating_add(1))
    }

    /// Notes that `key` was written at `written` with this many bytes; the keys that have to leave for it.
    pub(crate) fn insert(&mut self, key: CacheKey, written: u64, bytes: usize) -> Vec<CacheKey> {
        self.remove(&key);
        let bytes = bytes + size_of::<CacheKey>();
        // Two values with one number: a damaged disk. The later one stays.
        let mut gone: Vec<CacheKey> = self.by_age.insert(written, key).into_iter().collect();
        for other in &gone {
            self.bytes -= self.by_key.remove(other).map_or(0, |place| place.bytes);
        }
        self.by_key.insert(key, Place { written, bytes });
        self.bytes += bytes;
        while self.by_key.len() > MAX_CACHED || self.bytes > MAX_CACHED_BYTES {
            let Some((_, oldest)) = self.by_age.pop_first() else {
                break;
            };
            self.bytes -= self.by_key.remove(&oldest).map_or(0, |place| place.bytes);
            gone.push(oldest);
        }
        gone
    }

    fn remove(&mut self, key: &CacheKey) {
        if let Some(place) = self.by_key.remove(key) {
            self.by_age.remove(&place.written);
            self.bytes -= place.bytes;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }
}
