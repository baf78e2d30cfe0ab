//! Node ids and the XOR metric over them. What a distance is used for (buckets, lookups) is left to discovery.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use crate::hexadecimal::{self, HexError};

/// The identity of a node: Keccak-256 of its public key (EIP-778, scheme "v4").
///
/// ```
/// use tercet_enode::NodeId;
/// let a = NodeId::new([0; 32]);
/// let b: NodeId = "8000000000000000000000000000000000000000000000000000000000000000".parse()?;
/// assert_eq!(a.log_distance(&b), 256);
/// # Ok::<(), tercet_enode::HexError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId([u8; 32]);

/// The XOR of two node ids, ordered as a big-endian number: the smaller, the nearer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distance([u8; 32]);

impl NodeId {
    /// An id from its 32 bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A uniformly random id, for lookups of random targets.
    pub fn random<R: rand::Rng + ?Sized>(rng: &mut R) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    #[inline]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The XOR distance to `other`.
    #[must_use]
    #[inline]
    pub fn distance(&self, other: &Self) -> Distance {
        let mut xor = self.0;
        for (byte, theirs) in xor.iter_mut().zip(other.0) {
            *byte ^= theirs;
        }
        Distance(xor)
    }

    /// The bit length of the XOR with `other`: 0 for the same id, up to 256.
    #[must_use]
    #[inline]
    pub fn log_distance(&self, other: &Self) -> u16 {
        self.distance(other).log()
    }

    /// Orders `a` and `b` by their distance to `self`, the nearer first. Sorting a table by it is what a lookup spends its
    /// time on, so it compares words.
    #[must_use]
    #[inline]
    pub fn cmp_distance(&self, a: &Self, b: &Self) -> Ordering {
        let (a, b) = (words(&a.0), words(&b.0));
        for ((target, a), b) in words(&self.0).into_iter().zip(a).zip(b) {
            if a != b {
                return (target ^ a).cmp(&(target ^ b));
            }
        }
        Ordering::Equal
    }
}

impl Hash for NodeId {
    /// Gives its last 64 bits. Under a keyed hasher that is as safe as all of them: whoever wants two of his nodes to meet in a map
    /// has to make 2^32 keys first, for many of them more.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [.., last] = words(&self.0);
        state.write_u64(last);
    }
}

/// The bytes as four big-endian words, which order as the bytes do.
#[inline]
fn words(bytes: &[u8; 32]) -> [u64; 4] {
    let (words, _) = bytes.as_chunks::<8>();
    let mut words = words.iter().map(|word| u64::from_be_bytes(*word));
    std::array::from_fn(|_| words.next().unwrap_or_default())
}

impl Distance {
    /// The XOR as 32 big-endian bytes.
    #[must_use]
    #[inline]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The bit length: 0 for equal ids, up to 256.
    #[must_use]
    #[inline]
    pub fn log(&self) -> u16 {
        let mut bits = 256;
        for word in words(&self.0) {
            // At most 64, and less for all but a word of zeros.
            bits -= word.leading_zeros() as u16;
            if word != 0 {
                break;
            }
        }
        bits
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}…")
    }
}

impl fmt::Debug for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Distance(log {}, {})", self.log(), hex::encode(self.0))
    }
}

impl FromStr for NodeId {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        hexadecimal::decode(text).map(Self)
    }
}

impl From<[u8; 32]> for NodeId {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for NodeId {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
