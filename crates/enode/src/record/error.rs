//! Everything that can be wrong with a record, with the position where it is: the command line prints these as they are.

use std::fmt;

use bytes::Bytes;

use super::layout::MAX_RECORD_SIZE;
use crate::keys::KeyError;

/// The key of a record entry, shown as text where it is printable. At most 300 bytes, as it comes from a record.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey(Bytes);

impl EntryKey {
    pub(super) fn new(key: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(key))
    }

    /// The bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Debug for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why bytes are not a valid record, or a record cannot be signed. Positions count bytes of the encoding from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// More than 300 bytes, the limit of EIP-778.
    #[error("the record has {size} bytes, at most {MAX_RECORD_SIZE} are allowed")]
    TooLarge {
        /// The size of the encoding.
        size: usize,
    },
    /// There are no bytes.
    #[error("the record is empty")]
    Empty,
    /// The item at `at` says it is longer than what is left.
    #[error("the record is cut off: the item at byte {at} is longer than what is left")]
    CutOff {
        /// Start of the item.
        at: usize,
    },
    /// The item at `at` is not in RLP's one shortest form.
    #[error("the record is not canonical RLP at byte {at}")]
    NotCanonical {
        /// Start of the item.
        at: usize,
    },
    /// The record is an RLP string.
    #[error("the record is not an RLP list")]
    NotAList,
    /// Bytes follow the list.
    #[error("{count} bytes follow the record's list, from byte {at}")]
    TrailingBytes {
        /// Where the list ends.
        at: usize,
        /// How many bytes follow.
        count: usize,
    },
    /// Signature or sequence number is missing.
    #[error("the record needs at least a signature and a sequence number")]
    Incomplete,
    /// The signature is a list.
    #[error("the record's signature is a list, not bytes")]
    SignatureNotBytes,
    /// The sequence number is not an unsigned integer of at most 64 bits without leading zeros.
    #[error("the record's sequence number at byte {at} is not a 64-bit integer")]
    SequenceNumber {
        /// Start of the item.
        at: usize,
    },
    /// A key is a list.
    #[error("the record's key at byte {at} is a list, not bytes")]
    KeyNotBytes {
        /// Start of the key.
        at: usize,
    },
    /// The last key has no value.
    #[error("the record's key {key} at byte {at} has no value")]
    KeyWithoutValue {
        /// Start of the key.
        at: usize,
        /// The key.
        key: EntryKey,
    },
    /// A key is smaller than the one before it.
    #[error("the record's key {key} at byte {at} is out of order (keys must ascend)")]
    UnsortedKey {
        /// Start of the key.
        at: usize,
        /// The key.
        key: EntryKey,
    },
    /// A key occurs twice.
    #[error("the record's key {key} occurs again at byte {at}")]
    DuplicateKey {
        /// Start of the second key.
        at: usize,
        /// The key.
        key: EntryKey,
    },
    /// The record has no entry `id`, or one that is not text.
    #[error("the record does not name its identity scheme (no \"id\")")]
    NoScheme,
    /// The identity scheme is not "v4", the only one there is.
    #[error("the record's identity scheme {scheme} is not known, only \"v4\" is")]
    UnknownScheme {
        /// The scheme named.
        scheme: EntryKey,
    },
    /// Scheme "v4" needs a public key.
    #[error("the record has no public key (no \"secp256k1\")")]
    NoPublicKey,
    /// The public key is not 33 bytes or not on the curve.
    #[error("the record's entry \"secp256k1\" is wrong: {source}")]
    PublicKey {
        /// What is wrong with it.
        source: KeyError,
    },
    /// A v4 signature has 64 bytes.
    #[error("the record's signature has {found} bytes, 64 are needed")]
    SignatureLength {
        /// Bytes found.
        found: usize,
    },
    /// The signature was made by another key or over other content, or has a high `s`.
    #[error("the record's signature does not match its content and key")]
    BadSignature,
    /// A value given to the builder is not exactly one RLP item.
    #[error("the value for the record's key {key} is not exactly one RLP item")]
    ValueNotRlp {
        /// The key.
        key: EntryKey,
    },
}

/// Why an entry does not have the form its key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// A list where a string is needed, or the other way round.
    #[error("a list where bytes are needed, or bytes where a list is needed")]
    Kind,
    /// The content has a length the entry does not have.
    #[error("{found} bytes where {expected} are needed")]
    Length {
        /// Bytes needed.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// An integer with leading zeros or out of range.
    #[error("not an integer in range")]
    Integer,
    /// Not RLP, or with missing elements.
    #[error("not well-formed RLP")]
    Malformed,
}

/// Why a text is not a record. Positions count characters from 0; messages count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseRecordError {
    /// The text does not begin with `enr:`.
    #[error("a node record begins with \"enr:\"")]
    MissingPrefix,
    /// Longer than any valid record, 4 + ⌈300 · 8 / 6⌉ = 404 characters.
    #[error(
        "a node record has at most {} characters, this has {found}",
        super::MAX_TEXT_SIZE
    )]
    TooLong {
        /// Characters given.
        found: usize,
    },
    /// A character outside the URL-safe base64 alphabet. Padding, whitespace, `+` and `/` are not in it.
    #[error(
        "character {} ({found:?}) of the node record is not in the URL-safe base64 alphabet \
         (A-Z a-z 0-9 - _, no padding)",
        .at + 1
    )]
    Character {
        /// Index of the character.
        at: usize,
        /// The character.
        found: char,
    },
    /// The number of base64 characters, or the unused bits of the last one, cannot come from whole bytes.
    #[error("the node record's base64 text is cut off or damaged at its end")]
    Truncated,
    /// The text holds bytes, but they are not a valid record.
    #[error("{0}")]
    Record(#[from] RecordError),
}
