//! The Elliptic Curve Integrated Encryption Scheme as the RLPx handshake uses it: `0x04 ‖ R ‖ iv ‖ ciphertext ‖ tag`.
//! What is encrypted, and with which ephemeral key, is the handshake's business.

use aes::Aes128;
use cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use tercet_enode::{PublicKey, SecretKey};
use zeroize::{Zeroize, Zeroizing};

// The iv is random, so the counter must be 128 bits wide: a 64-bit one would differ after its low half overflows.
type Cipher = ctr::Ctr128BE<Aes128>;

/// The SEC1 tag of an uncompressed point, the only form accepted.
const UNCOMPRESSED: u8 = 4;
const TAGGED_POINT: usize = 65;
const IV: usize = 16;
const TAG: usize = 32;

/// Bytes a message is longer than its plaintext: 65 (point) + 16 (iv) + 32 (tag) = 113.
pub(crate) const OVERHEAD: usize = TAGGED_POINT + IV + TAG;

/// Why an ECIES message cannot be opened. Everybody who knows our public key can send one, so none of these says
/// anything about the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EciesError {
    /// Shorter than the 113 bytes of an empty message.
    #[error("an encrypted message of {found} bytes, at least {OVERHEAD} are needed")]
    TooShort {
        /// Bytes found.
        found: usize,
    },
    /// The ephemeral key is not an uncompressed point of the curve.
    #[error("the ephemeral key of the encrypted message is not a point on the curve")]
    Point,
    /// The tag does not match: another recipient, or damaged on the way.
    #[error("the authentication tag of the encrypted message does not match")]
    Tag,
}

/// The two keys of one message.
struct Keys {
    encryption: Zeroizing<[u8; 16]>,
    mac: Zeroizing<[u8; 32]>,
}

impl Keys {
    fn agree(secret: &SecretKey, public: &PublicKey) -> Self {
        // NIST SP 800-56A concatenation KDF with one round: its counter is 1, its shared info empty.
        let derived = Sha256::new()
            .chain_update(1u32.to_be_bytes())
            .chain_update(secret.ecdh_x(public).as_slice())
            .finalize();
        let (encryption, mac) = derived.split_at(16);
        let mut keys = Self {
            encryption: Zeroizing::new([0; 16]),
            mac: Zeroizing::new([0; 32]),
        };
        keys.encryption.copy_from_slice(encryption);
        keys.mac.copy_from_slice(&Sha256::digest(mac));
        let mut derived: [u8; 32] = derived.into();
        derived.zeroize();
        keys
    }

    fn tag(&self, iv: &[u8], ciphertext: &[u8], authdata: &[u8]) -> Hmac<Sha256> {
        let key: &[u8; 32] = &self.mac;
        Hmac::<Sha256>::new(&sized_key(key))
            .chain_update(iv)
            .chain_update(ciphertext)
            .chain_update(authdata)
    }

    fn cipher(&self, iv: &[u8; IV]) -> Cipher {
        let key: &[u8; 16] = &self.encryption;
        Cipher::new(key.into(), iv.into())
    }
}

/// HMAC-SHA256 takes a key of one hash block; a shorter key is filled up with zeros (RFC 2104).
fn sized_key(key: &[u8; 32]) -> hmac::digest::Key<Hmac<Sha256>> {
    let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    block
}

/// Appends `plaintext` encrypted for `remote` to `out`. `ephemeral` and `iv` must be fresh and random; `authdata` is
/// authenticated but not sent.
pub(crate) fn encrypt(
    remote: &PublicKey,
    ephemeral: &SecretKey,
    iv: &[u8; IV],
    plaintext: &[u8],
    authdata: &[u8],
    out: &mut Vec<u8>,
) {
    let keys = Keys::agree(ephemeral, remote);
    let mut ciphertext = plaintext.to_vec();
    keys.cipher(iv).apply_keystream(&mut ciphertext);
    out.reserve(OVERHEAD + ciphertext.len());
    out.push(UNCOMPRESSED);
    out.extend_from_slice(&ephemeral.public_key().to_bytes());
    out.extend_from_slice(iv);
    out.extend_from_slice(&ciphertext);
    out.extend_from_slice(&keys.tag(iv, &ciphertext, authdata).finalize().into_bytes());
}

/// The plaintext of `message`, whose tag is checked in constant time before anything is decrypted.
pub(crate) fn decrypt(
    secret: &SecretKey,
    message: &[u8],
    authdata: &[u8],
) -> Result<Vec<u8>, EciesError> {
    let short = EciesError::TooShort {
        found: message.len(),
    };
    let (point, rest) = message.split_first_chunk::<TAGGED_POINT>().ok_or(short)?;
    let (iv, rest) = rest.split_first_chunk::<IV>().ok_or(short)?;
    let (ciphertext, tag) = rest.split_last_chunk::<TAG>().ok_or(short)?;
    let [UNCOMPRESSED, point @ ..] = point else {
        return Err(EciesError::Point);
    };
    let ephemeral = PublicKey::from_bytes(point).map_err(|_| EciesError::Point)?;

    let keys = Keys::agree(secret, &ephemeral);
    let expected = keys.tag(iv, ciphertext, authdata);
    expected.verify_slice(tag).map_err(|_| EciesError::Tag)?;
    let mut plaintext = ciphertext.to_vec();
    keys.cipher(iv).apply_keystream(&mut plaintext);
    Ok(plaintext)
}

#[cfg(test)]
mod tests;
