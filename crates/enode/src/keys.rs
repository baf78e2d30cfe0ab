//! secp256k1 keys: a node's secret, which is erased when its last copy goes, and the public key that names it.
//! All curve work goes through secp256k1's one global context: re-randomising a context for each call doubles its cost.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use secp256k1::ecdsa::{
    RecoverableSignature as CurveRecoverable, RecoveryId, Signature as CurveSignature,
};
use secp256k1::{Message, SECP256K1};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::hexadecimal::{self, HexError};
use crate::id::NodeId;
use crate::keccak::keccak256;
use crate::signature::{RecoverableSignature, Signature};

/// Why bytes are not a key or a signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A secret key must be a number from 1 to the curve's order less 1.
    #[error("the secret key is zero or not below the order of secp256k1")]
    SecretOutOfRange,
    /// A public key has another length than its encoding needs.
    #[error("a public key of {found} bytes where {expected} are needed")]
    PublicKeyLength {
        /// Bytes needed.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The coordinates are not a point of secp256k1.
    #[error("the public key is not a point on the curve secp256k1")]
    NotOnCurve,
    /// The recovery id of a signature is above 3.
    #[error("recovery id {found} of a signature, 0 to 3 are possible")]
    RecoveryId {
        /// The id given.
        found: u8,
    },
    /// No public key could have made this signature.
    #[error("no public key can be recovered from the signature")]
    Unrecoverable,
    /// The signature was not made by this key over this digest, or its `s` is in the upper half of the order.
    #[error("the signature does not match")]
    SignatureMismatch,
}

/// Why a text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseKeyError {
    /// The text is not the right number of hexadecimal digits.
    #[error(transparent)]
    Hex(#[from] HexError),
    /// The digits do not make a key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A node's secret key. Clones share one allocation, which is overwritten when the last of them is dropped; it is
/// neither displayed nor shown by `Debug`.
///
/// ```
/// use tercet_enode::SecretKey;
/// let key: SecretKey = "b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291".parse()?;
/// assert!(key.node_id().to_string().starts_with("a448f24c"));
/// assert_eq!(format!("{key:?}"), "SecretKey(of a448f24c…)");
/// # Ok::<(), tercet_enode::ParseKeyError>(())
/// ```
#[derive(Clone)]
pub struct SecretKey(Arc<KeyPair>);

struct KeyPair {
    secret: secp256k1::SecretKey,
    public: PublicKey,
}

impl KeyPair {
    fn erase(&mut self) {
        self.secret.non_secure_erase();
    }
}

impl Drop for KeyPair {
    fn drop(&mut self) {
        self.erase();
    }
}

impl ZeroizeOnDrop for SecretKey {}

impl SecretKey {
    /// A new key from `rng`, which must be fit for secrets outside tests.
    pub fn generate<R: rand::Rng + ?Sized>(rng: &mut R) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        loop {
            rng.fill_bytes(bytes.as_mut());
            // Fails once in 2^128 draws.
            if let Ok(key) = Self::from_bytes(&bytes) {
                return key;
            }
        }
    }

    /// A key from its 32 big-endian bytes.
    ///
    /// # Errors
    /// [`KeyError::SecretOutOfRange`] for zero and for numbers not below the curve's order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let mut secret = secp256k1::SecretKey::from_byte_array(*bytes)
            .map_err(|_| KeyError::SecretOutOfRange)?;
        let public = PublicKey::new(secret.public_key(SECP256K1));
        let pair = Arc::new(KeyPair { secret, public });
        secret.non_secure_erase();
        Ok(Self(pair))
    }

    /// The 32 big-endian bytes, erased when dropped.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.secret.secret_bytes())
    }

    /// The public key; computed once, when the key is made.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.0.public
    }

    /// The node id; computed once, when the key is made.
    #[must_use]
    #[inline]
    pub fn node_id(&self) -> NodeId {
        self.0.public.node_id()
    }

    /// Signs a 32-byte digest with the deterministic nonce of RFC 6979 and a low `s`.
    #[must_use]
    pub fn sign(&self, digest: &[u8; 32]) -> Signature {
        let signature = SECP256K1.sign_ecdsa(Message::from_digest(*digest), &self.0.secret);
        Signature::from_bytes(&signature.serialize_compact())
    }

    /// As [`sign`](Self::sign), with the recovery id appended.
    #[must_use]
    pub fn sign_recoverable(&self, digest: &[u8; 32]) -> RecoverableSignature {
        let signature =
            SECP256K1.sign_ecdsa_recoverable(Message::from_digest(*digest), &self.0.secret);
        let (recovery, compact) = signature.serialize_compact();
        RecoverableSignature::from_parts(&compact, recovery as u8)
    }

    /// The x coordinate of `remote` multiplied by this key: the shared secret of ECIES and RLPx.
    #[must_use]
    pub fn ecdh_x(&self, remote: &PublicKey) -> Zeroizing<[u8; 32]> {
        let point = Zeroizing::new(secp256k1::ecdh::shared_secret_point(
            &remote.point,
            &self.0.secret,
        ));
        let mut x = Zeroizing::new([0; 32]);
        for (to, from) in x.iter_mut().zip(point.iter()) {
            *to = *from;
        }
        x
    }

    /// The compressed SEC1 form of `remote` multiplied by this key: the shared secret of discv5.
    #[must_use]
    pub fn ecdh_compressed(&self, remote: &PublicKey) -> Zeroizing<[u8; 33]> {
        let point = Zeroizing::new(secp256k1::ecdh::shared_secret_point(
            &remote.point,
            &self.0.secret,
        ));
        // SEC1: 2 marks an even y, 3 an odd one.
        let [.., last] = *point;
        let mut compressed = Zeroizing::new([2 | (last & 1); 33]);
        for (to, from) in compressed.iter_mut().skip(1).zip(point.iter()) {
            *to = *from;
        }
        compressed
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {:?})", self.node_id())
    }
}

impl FromStr for SecretKey {
    type Err = ParseKeyError;

    /// Reads 64 hexadecimal digits, as a `nodekey` file holds them.
    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let mut bytes: [u8; 32] = hexadecimal::decode(text)?;
        let key = Self::from_bytes(&bytes);
        bytes.zeroize();
        Ok(key?)
    }
}

/// A point of secp256k1 that names a node. Text form: the 128 hexadecimal digits of `X ‖ Y`.
///
/// The node's id is found once, with the key: a hash costs 0.3 µs, and ids are what tables and lookups work with. Keys compare,
/// order and hash as their ids do.
#[derive(Clone, Copy)]
pub struct PublicKey {
    point: secp256k1::PublicKey,
    id: NodeId,
}

impl PublicKey {
    /// A key from `X ‖ Y` without a leading tag, as discv4 and RLPx carry it.
    ///
    /// # Errors
    /// [`KeyError::NotOnCurve`] if that is no point of the curve.
    pub fn from_bytes(bytes: &[u8; 64]) -> Result<Self, KeyError> {
        // SEC1: the tag 4 marks an uncompressed point.
        let mut tagged = [4; 65];
        for (to, from) in tagged.iter_mut().skip(1).zip(bytes) {
            *to = *from;
        }
        let point = secp256k1::PublicKey::from_byte_array_uncompressed(tagged)
            .map_err(|_| KeyError::NotOnCurve)?;
        let id = NodeId::new(keccak256(bytes));
        Ok(Self { point, id })
    }

    fn new(point: secp256k1::PublicKey) -> Self {
        let id = NodeId::new(keccak256(&untagged(&point)));
        Self { point, id }
    }

    /// As [`from_bytes`](Self::from_bytes), checking that there are 64 of them.
    ///
    /// # Errors
    /// [`KeyError::PublicKeyLength`] or [`KeyError::NotOnCurve`].
    pub fn from_slice(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes = bytes.try_into().map_err(|_| KeyError::PublicKeyLength {
            expected: 64,
            found: bytes.len(),
        })?;
        Self::from_bytes(bytes)
    }

    /// A key from its 33-byte compressed SEC1 form, as records carry it.
    ///
    /// # Errors
    /// [`KeyError::PublicKeyLength`] or [`KeyError::NotOnCurve`].
    pub fn from_compressed(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes = bytes.try_into().map_err(|_| KeyError::PublicKeyLength {
            expected: 33,
            found: bytes.len(),
        })?;
        secp256k1::PublicKey::from_byte_array_compressed(bytes)
            .map(Self::new)
            .map_err(|_| KeyError::NotOnCurve)
    }

    /// The key that made `signature` over `digest`. A high `s` is accepted, as in all clients: it is the same signer.
    ///
    /// # Errors
    /// [`KeyError::Unrecoverable`] if no key can have made it.
    pub fn recover(digest: &[u8; 32], signature: &RecoverableSignature) -> Result<Self, KeyError> {
        let (compact, v) = signature.split();
        let recovery = RecoveryId::from_u8_masked(v);
        let signature = CurveRecoverable::from_compact(compact, recovery)
            .map_err(|_| KeyError::Unrecoverable)?;
        SECP256K1
            .recover_ecdsa(Message::from_digest(*digest), &signature)
            .map(Self::new)
            .map_err(|_| KeyError::Unrecoverable)
    }

    /// Checks that this key made `signature` over `digest`. A high `s` is refused, so that a signature has one form.
    ///
    /// # Errors
    /// [`KeyError::SignatureMismatch`].
    pub fn verify(&self, digest: &[u8; 32], signature: &Signature) -> Result<(), KeyError> {
        let signature = CurveSignature::from_compact(signature.as_bytes())
            .map_err(|_| KeyError::SignatureMismatch)?;
        SECP256K1
            .verify_ecdsa(Message::from_digest(*digest), &signature, &self.point)
            .map_err(|_| KeyError::SignatureMismatch)
    }

    /// `X ‖ Y` without a leading tag.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 64] {
        untagged(&self.point)
    }

    /// The 33-byte compressed SEC1 form.
    #[must_use]
    pub fn to_compressed(&self) -> [u8; 33] {
        self.point.serialize()
    }

    /// The id of the node that holds this key: Keccak-256 of [`to_bytes`](Self::to_bytes).
    #[must_use]
    #[inline]
    pub const fn node_id(&self) -> NodeId {
        self.id
    }
}

/// `X ‖ Y`, without the tag SEC1 puts before them.
fn untagged(point: &secp256k1::PublicKey) -> [u8; 64] {
    let tagged = point.serialize_uncompressed();
    let mut bytes = [0; 64];
    for (to, from) in bytes.iter_mut().zip(tagged.iter().skip(1)) {
        *to = *from;
    }
    bytes
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for PublicKey {}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.id.cmp(&other.id)
    }
}

impl Hash for PublicKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.to_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.to_bytes();
        write!(f, "PublicKey({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

impl FromStr for PublicKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        Ok(Self::from_bytes(&hexadecimal::decode(text)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_bytes(&[byte; 32]).unwrap()
    }

    #[test]
    fn a_dropped_secret_is_overwritten() {
        fn erased_on_drop<T: ZeroizeOnDrop>(_: &T) {}
        let secret = key(7);
        erased_on_drop(&secret);
        let SecretKey(pair) = secret;
        let mut pair = Arc::into_inner(pair).unwrap();
        assert_eq!(pair.secret.secret_bytes(), [7; 32]);
        pair.erase();
        assert_ne!(pair.secret.secret_bytes(), [7; 32]);
    }

    #[test]
    fn clones_share_one_secret() {
        let secret = key(7);
        let clone = secret.clone();
        assert!(Arc::ptr_eq(&secret.0, &clone.0));
        drop(secret);
        assert_eq!(*clone.to_bytes(), [7; 32]);
    }

    #[test]
    fn secrets_outside_the_range_are_refused() {
        let order: [u8; 32] =
            hexadecimal::decode("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141")
                .unwrap();
        let mut largest = order;
        largest[31] -= 1;
        for (bytes, valid) in [
            ([0; 32], false),
            (order, false),
            ([0xff; 32], false),
            (largest, true),
        ] {
            assert_eq!(SecretKey::from_bytes(&bytes).is_ok(), valid);
        }
    }

    #[test]
    fn debug_hides_the_secret() {
        let shown = format!("{:?}", key(7));
        assert!(!shown.contains("0707"), "{shown}");
    }

    #[test]
    fn generated_keys_differ_and_follow_the_generator() {
        use rand::SeedableRng;
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        let (a, b) = (SecretKey::generate(&mut rng), SecretKey::generate(&mut rng));
        assert_ne!(a.node_id(), b.node_id());
        let again = SecretKey::generate(&mut rand::rngs::StdRng::seed_from_u64(1));
        assert_eq!(a.node_id(), again.node_id());
    }

    #[test]
    fn malformed_keys_and_signatures_are_refused() {
        assert_eq!(PublicKey::from_bytes(&[1; 64]), Err(KeyError::NotOnCurve));
        assert_eq!(PublicKey::from_bytes(&[0; 64]), Err(KeyError::NotOnCurve));
        assert_eq!(
            PublicKey::from_slice(&[1; 63]),
            Err(KeyError::PublicKeyLength {
                expected: 64,
                found: 63
            })
        );
        assert_eq!(
            PublicKey::from_compressed(&[2; 34]),
            Err(KeyError::PublicKeyLength {
                expected: 33,
                found: 34
            })
        );
        assert_eq!(
            PublicKey::from_compressed(&[5; 33]),
            Err(KeyError::NotOnCurve)
        );
        let signature = Signature::from_bytes(&[0xff; 64]);
        assert_eq!(
            key(1).public_key().verify(&[0; 32], &signature),
            Err(KeyError::SignatureMismatch)
        );
        let mut bytes = [0xff; 65];
        bytes[64] = 4;
        assert_eq!(
            RecoverableSignature::from_bytes(&bytes),
            Err(KeyError::RecoveryId { found: 4 })
        );
        bytes[64] = 3;
        let signature = RecoverableSignature::from_bytes(&bytes).unwrap();
        assert_eq!(
            PublicKey::recover(&[0; 32], &signature),
            Err(KeyError::Unrecoverable)
        );
    }
}
