//! Keccak-256 (the original padding, not NIST SHA-3): the only one in the workspace, so that the backend is chosen
//! once. Feature `asm` takes the assembly of `keccak-asm` on x86-64 and aarch64; everything else runs `sha3`.

#[cfg(all(feature = "asm", any(target_arch = "x86_64", target_arch = "aarch64")))]
use keccak_asm::{Digest, Keccak256 as Backend};
#[cfg(not(all(feature = "asm", any(target_arch = "x86_64", target_arch = "aarch64"))))]
use sha3::{Digest, Keccak256 as Backend};

/// A running Keccak-256. Cloning copies the state, which is how RLPx takes a digest in the middle of a stream.
///
/// ```
/// use tercet_enode::{Keccak256, keccak256};
/// let mut hasher = Keccak256::new();
/// hasher.update(b"ab");
/// let halfway = hasher.clone().finalize();
/// hasher.update(b"c");
/// assert_eq!(halfway, keccak256(b"ab"));
/// assert_eq!(hasher.finalize(), keccak256(b"abc"));
/// ```
#[derive(Clone)]
pub struct Keccak256(Backend);

impl Keccak256 {
    /// An empty state.
    #[must_use]
    pub fn new() -> Self {
        Self(Backend::new())
    }

    /// Absorbs `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        Digest::update(&mut self.0, bytes);
    }

    /// The digest of everything absorbed.
    #[must_use]
    pub fn finalize(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

impl Default for Keccak256 {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Keccak256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The state of a MAC is a secret.
        f.write_str("Keccak256(..)")
    }
}

/// Keccak-256 of `bytes`.
#[must_use]
pub fn keccak256(bytes: &[u8]) -> [u8; 32] {
    let mut hasher = Keccak256::new();
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use sha3::Digest as _;

    use super::*;

    #[test]
    fn the_empty_digest_is_the_known_one() {
        let empty = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470";
        assert_eq!(hex::encode(keccak256(b"")), empty);
        assert_eq!(Keccak256::default().finalize(), keccak256(b""));
    }

    /// With feature `asm` the backend is another than `sha3`; all lengths around the block of 136 bytes must agree.
    #[test]
    fn every_backend_gives_the_same_digest() {
        let bytes: Vec<u8> = (0..700u32)
            .map(|i| i.to_le_bytes()[0].wrapping_mul(31))
            .collect();
        for length in 0..bytes.len() {
            let portable: [u8; 32] = sha3::Keccak256::digest(&bytes[..length]).into();
            assert_eq!(keccak256(&bytes[..length]), portable, "{length} bytes");
            let mut pieces = Keccak256::new();
            for piece in bytes[..length].chunks(37) {
                pieces.update(piece);
            }
            assert_eq!(pieces.finalize(), portable, "{length} bytes in pieces");
        }
    }
}
