//! What a completed handshake leaves behind: the keys and MAC states of both directions, ready to make frame codecs.

use tercet_enode::{Keccak256, PublicKey, SecretKey, keccak256};
use zeroize::Zeroizing;

use crate::frame::{Egress, Ingress};
use crate::handshake::Nonce;
use crate::mac::FrameMac;

/// A connection whose remote key is authenticated: who it is, and the codecs of both directions.
pub struct Session {
    /// The remote's static key.
    pub remote: PublicKey,
    /// Seals frames to the remote.
    pub egress: Egress,
    /// Opens frames from the remote.
    pub ingress: Ingress,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

/// One side's contribution: its nonce and the packet that carried it, as it was sent (size prefix and ciphertext).
pub(crate) struct Half<'a> {
    pub(crate) nonce: &'a Nonce,
    pub(crate) packet: &'a [u8],
}

/// The secrets of a connection (RLPx §"Handshake"): erased when dropped, needed only until the codecs are made.
pub(crate) struct Secrets {
    pub(crate) aes: Zeroizing<[u8; 32]>,
    pub(crate) mac: Zeroizing<[u8; 32]>,
}

impl Secrets {
    /// Agrees on the secrets with our ephemeral key and the remote's.
    pub(crate) fn agree(
        ephemeral: &SecretKey,
        remote_ephemeral: &PublicKey,
        initiator: &Nonce,
        recipient: &Nonce,
    ) -> Self {
        let key = ephemeral.ecdh_x(remote_ephemeral);
        let nonces = hash(recipient, initiator);
        let shared = Zeroizing::new(hash(&key, &nonces));
        let aes = Zeroizing::new(hash(&key, &shared));
        let mac = Zeroizing::new(hash(&key, &aes));
        Self { aes, mac }
    }

    /// The codecs of the side that sent `own` and received `other`.
    pub(crate) fn into_session(
        self,
        remote: PublicKey,
        own: &Half<'_>,
        other: &Half<'_>,
    ) -> Session {
        // Each direction starts from the nonce of its receiver and the packet of its sender.
        let egress = self.mac_state(other.nonce, own.packet);
        let ingress = self.mac_state(own.nonce, other.packet);
        Session {
            remote,
            egress: Egress::new(&self.aes, FrameMac::new(egress, &self.mac)),
            ingress: Ingress::new(&self.aes, FrameMac::new(ingress, &self.mac)),
        }
    }

    pub(crate) fn mac_state(&self, nonce: &Nonce, packet: &[u8]) -> Keccak256 {
        let mut seed = Zeroizing::new(*self.mac);
        for (to, from) in seed.iter_mut().zip(nonce) {
            *to ^= from;
        }
        let mut state = Keccak256::new();
        state.update(seed.as_slice());
        state.update(packet);
        state
    }
}

/// Keccak-256 of two 32-byte values one after the other.
fn hash(a: &[u8; 32], b: &[u8; 32]) -> [u8; 32] {
    let mut both = Zeroizing::new([0; 64]);
    let (first, second) = both.split_at_mut(32);
    first.copy_from_slice(a);
    second.copy_from_slice(b);
    keccak256(both.as_slice())
}
