//! Where the parts of a record are in its bytes: list, order and uniqueness of keys, nothing about their meaning.
//! The pairs are kept as ranges of the raw record, so values nobody here knows survive byte for byte.

use std::ops::Range;

use bytes::Bytes;
use rlp::{DecoderError, PayloadInfo};

use super::error::{EntryKey, RecordError};

/// The largest encoded record, signature included (EIP-778).
pub const MAX_RECORD_SIZE: usize = 300;

/// One key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pair {
    /// The content of the key, without its RLP header.
    key: Range<usize>,
    /// The whole RLP item of the value.
    value: Range<usize>,
}

/// A structurally sound record: `[signature, seq, k1, v1, …]`, keys strictly ascending, at most 300 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    raw: Bytes,
    signature: Range<usize>,
    /// What is signed, without its own list header: from the sequence number to the end.
    content: Range<usize>,
    seq: u64,
    pairs: Box<[Pair]>,
}

/// One RLP item within a buffer, by positions.
pub(super) struct Item {
    pub(super) start: usize,
    /// Without the header.
    pub(super) payload: Range<usize>,
    pub(super) is_list: bool,
}

/// Reads the header of the item at `start` and checks that it is canonical and ends within `bytes`.
pub(super) fn item_at(bytes: &[u8], start: usize) -> Result<Item, RecordError> {
    let rest = bytes.get(start..).unwrap_or_default();
    let info = PayloadInfo::from(rest).map_err(|error| match error {
        DecoderError::RlpIsTooShort => RecordError::CutOff { at: start },
        _ => RecordError::NotCanonical { at: start },
    })?;
    let payload_start = start.saturating_add(info.header_len);
    let end = payload_start
        .checked_add(info.value_len)
        .filter(|end| *end <= bytes.len())
        .ok_or(RecordError::CutOff { at: start })?;
    // A byte below 0x80 stands for itself; the `rlp` crate lets the longer form 0x81 0x05 pass.
    if let [0x81, 0..=0x7f, ..] = rest {
        return Err(RecordError::NotCanonical { at: start });
    }
    let is_list = rest.first().is_some_and(|first| *first >= 0xc0);
    Ok(Item {
        start,
        payload: payload_start..end,
        is_list,
    })
}

impl Layout {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > MAX_RECORD_SIZE {
            return Err(RecordError::TooLarge { size: bytes.len() });
        }
        if bytes.is_empty() {
            return Err(RecordError::Empty);
        }
        let list = item_at(bytes, 0)?;
        if !list.is_list {
            return Err(RecordError::NotAList);
        }
        let end = list.payload.end;
        if end != bytes.len() {
            return Err(RecordError::TrailingBytes {
                at: end,
                count: bytes.len() - end,
            });
        }
        let mut items = Vec::new();
        let mut at = list.payload.start;
        while at < end {
            let item = item_at(bytes, at)?;
            at = item.payload.end;
            items.push(item);
        }
        let mut items = items.into_iter();
        let (Some(signature), Some(seq_item)) = (items.next(), items.next()) else {
            return Err(RecordError::Incomplete);
        };
        if signature.is_list {
            return Err(RecordError::SignatureNotBytes);
        }
        let seq = read_seq(bytes, &seq_item)?;
        let pairs = read_pairs(bytes, items)?;
        Ok(Self {
            raw: Bytes::copy_from_slice(bytes),
            signature: signature.payload,
            content: seq_item.start..end,
            seq,
            pairs,
        })
    }

    pub(super) fn raw(&self) -> &Bytes {
        &self.raw
    }

    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    pub(super) fn signature(&self) -> &[u8] {
        self.slice(&self.signature)
    }

    /// The bytes the signature covers, without their list header.
    pub(super) fn content(&self) -> &[u8] {
        self.slice(&self.content)
    }

    /// The raw RLP of the value under `key`.
    pub(super) fn value(&self, key: &[u8]) -> Option<&[u8]> {
        let index = self
            .pairs
            .binary_search_by(|pair| self.slice(&pair.key).cmp(key))
            .ok()?;
        self.pairs.get(index).map(|pair| self.slice(&pair.value))
    }

    /// Keys with the raw RLP of their values, in ascending order of keys.
    pub(super) fn pairs(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone {
        self.pairs
            .iter()
            .map(|pair| (self.slice(&pair.key), self.slice(&pair.value)))
    }

    fn slice(&self, range: &Range<usize>) -> &[u8] {
        // Every range was taken from `raw` by `parse`.
        self.raw.get(range.clone()).unwrap_or_default()
    }
}

fn read_seq(bytes: &[u8], item: &Item) -> Result<u64, RecordError> {
    let digits = bytes.get(item.payload.clone()).unwrap_or_default();
    integer(digits)
        .filter(|_| !item.is_list)
        .ok_or(RecordError::SequenceNumber { at: item.start })
}

/// An unsigned integer of at most 64 bits from its big-endian digits, which have no leading zeros.
pub(super) fn integer(digits: &[u8]) -> Option<u64> {
    let canonical = digits.len() <= 8 && digits.first() != Some(&0);
    canonical.then(|| {
        digits
            .iter()
            .fold(0, |value, digit| (value << 8) | u64::from(*digit))
    })
}

fn read_pairs(
    bytes: &[u8],
    mut items: impl Iterator<Item = Item>,
) -> Result<Box<[Pair]>, RecordError> {
    let mut pairs = Vec::new();
    let mut last: Option<&[u8]> = None;
    while let Some(key_item) = items.next() {
        let at = key_item.start;
        if key_item.is_list {
            return Err(RecordError::KeyNotBytes { at });
        }
        let key = bytes.get(key_item.payload.clone()).unwrap_or_default();
        let Some(value) = items.next() else {
            return Err(RecordError::KeyWithoutValue {
                at,
                key: EntryKey::new(key),
            });
        };
        match last.map(|last| last.cmp(key)) {
            Some(std::cmp::Ordering::Equal) => {
                return Err(RecordError::DuplicateKey {
                    at,
                    key: EntryKey::new(key),
                });
            }
            Some(std::cmp::Ordering::Greater) => {
                return Err(RecordError::UnsortedKey {
                    at,
                    key: EntryKey::new(key),
                });
            }
            Some(std::cmp::Ordering::Less) | None => {}
        }
        last = Some(key);
        pairs.push(Pair {
            key: key_item.payload,
            value: value.start..value.payload.end,
        });
    }
    Ok(pairs.into_boxed_slice())
}
