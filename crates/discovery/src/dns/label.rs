//! The name of an entry: the start of its text's Keccak-256, in base32, as one DNS label. What an entry says is left to
//! `tree`.

use std::fmt;
use std::sync::{Arc, LazyLock};

use data_encoding::{Encoding, Specification};
use tercet_enode::keccak256;

/// Shortest hash that is believed: 12 bytes, as in geth. Finding another text for one takes 2^96 tries.
pub const MIN_HASH: usize = 12;
/// Longest hash: a whole Keccak-256.
pub const MAX_HASH: usize = 32;
/// The hash that is published: 16 bytes, 26 characters.
pub const PUBLISHED_HASH: usize = 16;

/// RFC 4648 base32 in upper case without padding. The unused bits of the last character may be anything: geth and
/// EIP-1459 do not look at them, and lists with such labels are out there.
pub(super) static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = Specification::new();
    spec.symbols.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567");
    spec.check_trailing_bits = false;
    // The specification above is valid; were it not, the plain alphabet differs in strictness only.
    spec.encoding().unwrap_or(data_encoding::BASE32_NOPAD)
});

/// The label under which an entry is published. Cheap to clone.
///
/// ```
/// use tercet_discovery::dns::EntryHash;
/// let hash = EntryHash::of("enrtree-branch:");
/// assert_eq!(hash.as_str(), "FDXN3SN67NA5DKA4J2GOK7BVQI");
/// assert!(hash.matches("enrtree-branch:") && !hash.matches("enrtree-branch"));
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryHash(Arc<str>);

/// A label that is no hash: not base32, or not 12 to 32 bytes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash is {MIN_HASH} to {MAX_HASH} bytes in upper-case base32 without padding")]
pub struct HashError;

impl EntryHash {
    /// The label of the entry with this text: its first 16 bytes.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let hash = keccak256(text.as_bytes());
        let (start, _) = hash.split_at(PUBLISHED_HASH);
        Self(BASE32.encode(start).into())
    }

    /// Whether the entry with this text belongs under this label.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.bytes()
            .is_some_and(|bytes| keccak256(text.as_bytes()).starts_with(&bytes))
    }

    /// The label.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        BASE32.decode(self.0.as_bytes()).ok()
    }
}

impl std::str::FromStr for EntryHash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        // 32 bytes are 52 characters; longer texts are not even looked at.
        if text.len() > MAX_HASH * 8 / 5 + 1 {
            return Err(HashError);
        }
        let bytes = BASE32.decode(text.as_bytes()).map_err(|_| HashError)?;
        if !(MIN_HASH..=MAX_HASH).contains(&bytes.len()) {
            return Err(HashError);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for EntryHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EntryHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
