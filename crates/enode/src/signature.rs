//! The two forms of an ECDSA signature on the wire. Making and checking them is in `keys`.

use std::fmt;

use crate::keys::KeyError;

/// `r ‖ s`, as records carry it. Whether it verifies is decided by [`PublicKey::verify`](crate::PublicKey::verify).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature([u8; 64]);

/// `r ‖ s ‖ v` with `v` in 0..=3, from which the signer's key can be recovered (discv4 packets, RLPx auth).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecoverableSignature([u8; 65]);

impl Signature {
    /// A signature from its bytes. Any 64 bytes are a signature; few of them verify.
    #[must_use]
    pub const fn from_bytes(bytes: &[u8; 64]) -> Self {
        Self(*bytes)
    }

    /// The 64 bytes `r ‖ s`.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl RecoverableSignature {
    /// A signature from its bytes.
    ///
    /// # Errors
    /// [`KeyError::RecoveryId`] if the last byte is above 3 (Ethereum's 27 and 28 are not used on the wire).
    pub const fn from_bytes(bytes: &[u8; 65]) -> Result<Self, KeyError> {
        let [.., v] = *bytes;
        if v > 3 {
            return Err(KeyError::RecoveryId { found: v });
        }
        Ok(Self(*bytes))
    }

    /// The 65 bytes `r ‖ s ‖ v`.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 65] {
        &self.0
    }

    pub(crate) fn from_parts(compact: &[u8; 64], v: u8) -> Self {
        let mut bytes = [v; 65];
        for (to, from) in bytes.iter_mut().zip(compact) {
            *to = *from;
        }
        Self(bytes)
    }

    /// The compact half and the recovery id.
    pub(crate) fn split(&self) -> (&[u8], u8) {
        let [compact @ .., v] = &self.0;
        (compact, *v)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", hex::encode(self.0))
    }
}

impl fmt::Debug for RecoverableSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecoverableSignature({})", hex::encode(self.0))
    }
}
