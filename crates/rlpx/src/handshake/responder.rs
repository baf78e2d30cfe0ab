//! The listening side: opens auth, learns who is calling, answers with ack.

use rand::CryptoRng;
use tercet_enode::{PublicKey, SecretKey};

use super::messages::{AckBody, AuthBody};
use super::{AuthError, Envelope, Nonce, open, token};
use crate::secrets::{Half, Secrets, Session};

/// A handshake of the listening side whose auth packet is read: who calls is known, nothing has been answered.
pub struct Responder {
    remote: PublicKey,
    remote_ephemeral: PublicKey,
    remote_nonce: Nonce,
    auth: Vec<u8>,
}

impl Responder {
    /// Opens the whole auth packet of a caller.
    ///
    /// # Errors
    /// [`AuthError`] if the packet is not a valid auth for `key`. One that names that same key is opened like any other:
    /// whoever sent it is to hear why it is refused, which takes a session.
    pub fn open(key: &SecretKey, auth: &[u8]) -> Result<Self, AuthError> {
        let body = AuthBody::decode(&open(key, auth)?)?;
        let token = token(key, &body.public_key, &body.nonce);
        Ok(Self {
            remote: body.public_key,
            remote_ephemeral: PublicKey::recover(&token, &body.signature)?,
            remote_nonce: body.nonce,
            auth: auth.to_vec(),
        })
    }

    /// The caller's static key. It is proven by the first frame whose MAC is right.
    #[must_use]
    pub fn remote_key(&self) -> PublicKey {
        self.remote
    }

    /// Completes the handshake: the session, and the ack packet to send before its first frame.
    pub fn accept<R: CryptoRng + ?Sized>(self, rng: &mut R) -> (Session, Vec<u8>) {
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        let ephemeral = SecretKey::generate(rng);
        self.accept_with(&ephemeral, &nonce, &Envelope::random(rng))
    }

    pub(super) fn accept_with(
        self,
        ephemeral: &SecretKey,
        nonce: &Nonce,
        envelope: &Envelope,
    ) -> (Session, Vec<u8>) {
        let body = AckBody {
            ephemeral: ephemeral.public_key(),
            nonce: *nonce,
        };
        let ack = envelope.seal(&self.remote, body.encode());
        (self.session(ephemeral, nonce, &ack), ack)
    }

    pub(super) fn session(self, ephemeral: &SecretKey, nonce: &Nonce, ack: &[u8]) -> Session {
        let secrets = Secrets::agree(ephemeral, &self.remote_ephemeral, &self.remote_nonce, nonce);
        let own = Half { nonce, packet: ack };
        let other = Half {
            nonce: &self.remote_nonce,
            packet: &self.auth,
        };
        secrets.into_session(self.remote, &own, &other)
    }
}

#[cfg(test)]
impl Responder {
    pub(super) fn remote_ephemeral(&self) -> PublicKey {
        self.remote_ephemeral
    }
}

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Responder")
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}
