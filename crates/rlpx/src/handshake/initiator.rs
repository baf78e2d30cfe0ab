//! The dialling side: sends auth, waits for ack.

use rand::CryptoRng;
use tercet_enode::{PublicKey, SecretKey};

use super::messages::{AckBody, AuthBody};
use super::{AuthError, Envelope, Nonce, open, token};
use crate::secrets::{Half, Secrets, Session};

/// A handshake of the dialling side whose auth packet is made and whose ack is awaited.
pub struct Initiator {
    pub(super) key: SecretKey,
    pub(super) remote: PublicKey,
    pub(super) ephemeral: SecretKey,
    pub(super) nonce: Nonce,
    pub(super) auth: Vec<u8>,
}

impl Initiator {
    /// Begins a handshake with the node that holds `remote`.
    ///
    /// # Errors
    /// [`AuthError::OwnKey`] if that is ourselves.
    pub fn new<R: CryptoRng + ?Sized>(
        key: &SecretKey,
        remote: PublicKey,
        rng: &mut R,
    ) -> Result<Self, AuthError> {
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        let ephemeral = SecretKey::generate(rng);
        Self::with(key, remote, ephemeral, nonce, &Envelope::random(rng))
    }

    pub(super) fn with(
        key: &SecretKey,
        remote: PublicKey,
        ephemeral: SecretKey,
        nonce: Nonce,
        envelope: &Envelope,
    ) -> Result<Self, AuthError> {
        if remote == key.public_key() {
            return Err(AuthError::OwnKey);
        }
        let body = AuthBody {
            signature: ephemeral.sign_recoverable(&token(key, &remote, &nonce)),
            public_key: key.public_key(),
            nonce,
        };
        let auth = envelope.seal(&remote, body.encode());
        Ok(Self {
            key: key.clone(),
            remote,
            ephemeral,
            nonce,
            auth,
        })
    }

    /// The packet to send, its size prefix included.
    #[must_use]
    pub fn auth(&self) -> &[u8] {
        &self.auth
    }

    /// Completes the handshake with the whole ack packet. That the remote holds its static key is proven by the first
    /// frame whose MAC is right, as only its holder could read our auth.
    ///
    /// # Errors
    /// [`AuthError`] if the packet is not a valid ack for us.
    pub fn finish(self, ack: &[u8]) -> Result<Session, AuthError> {
        let body = AckBody::decode(&open(&self.key, ack)?)?;
        let secrets = Secrets::agree(&self.ephemeral, &body.ephemeral, &self.nonce, &body.nonce);
        let own = Half {
            nonce: &self.nonce,
            packet: &self.auth,
        };
        let other = Half {
            nonce: &body.nonce,
            packet: ack,
        };
        Ok(secrets.into_session(self.remote, &own, &other))
    }
}

impl std::fmt::Debug for Initiator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Initiator")
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}
