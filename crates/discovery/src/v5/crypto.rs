//! The cryptography of discv5 (`discv5-theory.md`, "Handshake"): key agreement, the identity proof, and ciphers with their
//! key schedules done.

use aes::Aes128Enc;
use aes_gcm::aead::AeadInOut;
use aes_gcm::{AesGcm, KeyInit};
use cipher::consts::U12;
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use tercet_enode::{NodeId, PublicKey, SecretKey, Signature};
use zeroize::Zeroizing;

use super::packet::CHALLENGE_DATA;
use super::session_io::Nonce;

/// Bytes of a message's tag.
pub const TAG: usize = 16;

const KEY_AGREEMENT: &[u8] = b"discovery v5 key agreement";
const IDENTITY_PROOF: &[u8] = b"discovery v5 identity proof";

/// The two keys of a session, erased when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKeys {
    /// Encrypts what the node that began the handshake sends.
    pub initiator: Zeroizing<[u8; 16]>,
    /// Encrypts what the other one sends.
    pub recipient: Zeroizing<[u8; 16]>,
}

impl std::fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionKeys(..)")
    }
}

impl SessionKeys {
    /// The keys that `secret` and `remote`, one of them ephemeral, agree on under a challenge that `recipient` sent to
    /// `initiator`.
    #[must_use]
    pub fn derive(
        secret: &SecretKey,
        remote: &PublicKey,
        initiator: &NodeId,
        recipient: &NodeId,
        challenge_data: &[u8; CHALLENGE_DATA],
    ) -> Self {
        let shared = secret.ecdh_compressed(remote);
        let mut okm = Zeroizing::new([0; 32]);
        let info = [
            KEY_AGREEMENT,
            initiator.as_bytes().as_slice(),
            recipient.as_bytes(),
        ];
        // The one error is an output of more than 255 hashes, and this one is a single hash.
        let derived = Hkdf::<Sha256>::new(Some(challenge_data), shared.as_ref())
            .expand_multi_info(&info, okm.as_mut());
        debug_assert!(derived.is_ok());
        let mut keys = Self {
            initiator: Zeroizing::default(),
            recipient: Zeroizing::default(),
        };
        if let ([initiator, recipient], _) = okm.as_chunks::<16>() {
            *keys.initiator = *initiator;
            *keys.recipient = *recipient;
        }
        keys
    }
}

/// One direction of a session: AES-128-GCM with the key schedule and the powers of the hash key computed once.
#[derive(Clone)]
pub struct Cipher(AesGcm<Aes128Enc, U12>);

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cipher(..)")
    }
}

/// The tag does not match: other key, nonce, header or message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the message does not decrypt")]
pub struct Undecryptable;

impl Cipher {
    /// The cipher of `key`.
    #[must_use]
    pub fn new(key: &[u8; 16]) -> Self {
        Self(AesGcm::new(&(*key).into()))
    }

    /// Encrypts `message` in place and returns its tag, which covers `head` too.
    #[must_use]
    pub fn seal(&self, nonce: Nonce, head: &[u8], message: &mut [u8]) -> [u8; TAG] {
        let nonce = (*nonce.as_bytes()).into();
        // The one error is a message of more than 64 GiB.
        self.0
            .encrypt_inout_detached(&nonce, head, message.into())
            .map(Into::into)
            .unwrap_or_default()
    }

    /// Decrypts `message`, whose last 16 bytes are the tag, in place and returns the plaintext. What does not match is left
    /// as it was, so that another key can be tried on it.
    ///
    /// # Errors
    /// [`Undecryptable`].
    pub fn open<'a>(
        &self,
        nonce: Nonce,
        head: &[u8],
        message: &'a mut [u8],
    ) -> Result<&'a mut [u8], Undecryptable> {
        let (message, tag) = message.split_last_chunk_mut::<TAG>().ok_or(Undecryptable)?;
        let nonce = (*nonce.as_bytes()).into();
        self.0
            .decrypt_inout_detached(&nonce, head, (&mut *message).into(), &(*tag).into())
            .map_err(|_| Undecryptable)?;
        Ok(message)
    }
}

/// The digest that the node with the challenge signs: the challenge, its ephemeral key, and who asked.
fn proof_digest(
    challenge_data: &[u8; CHALLENGE_DATA],
    ephemeral: &[u8; 33],
    recipient: &NodeId,
) -> [u8; 32] {
    Sha256::new()
        .chain_update(IDENTITY_PROOF)
        .chain_update(challenge_data)
        .chain_update(ephemeral)
        .chain_update(recipient.as_bytes())
        .finalize()
        .into()
}

/// Signs the proof that this node holds `key`, for the node `recipient` that sent the challenge.
#[must_use]
pub fn sign_identity(
    key: &SecretKey,
    challenge_data: &[u8; CHALLENGE_DATA],
    ephemeral: &[u8; 33],
    recipient: &NodeId,
) -> Signature {
    key.sign(&proof_digest(challenge_data, ephemeral, recipient))
}

/// Checks a proof that was asked for by `recipient`.
#[must_use]
pub fn verify_identity(
    key: &PublicKey,
    signature: &Signature,
    challenge_data: &[u8; CHALLENGE_DATA],
    ephemeral: &[u8; 33],
    recipient: &NodeId,
) -> bool {
    key.verify(
        &proof_digest(challenge_data, ephemeral, recipient),
        signature,
    )
    .is_ok()
}
