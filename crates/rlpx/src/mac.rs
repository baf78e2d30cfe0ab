//! The running MAC of one direction: a Keccak-256 that never ends, stirred with AES. Used by the frame codecs.

use aes::Aes256;
use cipher::{BlockCipherEncrypt, KeyInit};
use subtle::ConstantTimeEq;
use tercet_enode::Keccak256;

/// A tag as it is sent: the first half of a digest.
pub(crate) type Tag = [u8; 16];

/// One direction's MAC. `tag` is always the first half of the digest of everything absorbed so far, which the next
/// step needs as its seed: keeping it saves a Keccak permutation a frame.
pub(crate) struct FrameMac {
    state: Keccak256,
    block: Aes256,
    tag: Tag,
}

impl FrameMac {
    /// `state` has absorbed `(mac ⊕ nonce) ‖ packet`; `secret` is the session's MAC secret.
    pub(crate) fn new(state: Keccak256, secret: &[u8; 32]) -> Self {
        let tag = truncated_digest(&state);
        Self {
            state,
            block: Aes256::new(secret.into()),
            tag,
        }
    }

    /// Absorbs the 16 encrypted bytes of a header and returns its tag.
    pub(crate) fn header(&mut self, header: &[u8; 16]) -> Tag {
        self.stir(header)
    }

    /// Absorbs an encrypted body and returns its tag.
    pub(crate) fn body(&mut self, body: &[u8]) -> Tag {
        self.state.update(body);
        self.tag = truncated_digest(&self.state);
        let digest = self.tag;
        self.stir(&digest)
    }

    /// `S.update(E(D) ⊕ input)`, where `D` is the current tag; the new tag.
    fn stir(&mut self, input: &Tag) -> Tag {
        let mut seed = self.tag.into();
        self.block.encrypt_block(&mut seed);
        for (to, from) in seed.iter_mut().zip(input) {
            *to ^= from;
        }
        self.state.update(&seed);
        self.tag = truncated_digest(&self.state);
        self.tag
    }

    #[cfg(test)]
    pub(crate) fn state(&self) -> &Keccak256 {
        &self.state
    }
}

fn truncated_digest(state: &Keccak256) -> Tag {
    let [tag @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = state.clone().finalize();
    tag
}

/// Compares in constant time: how far a forged tag was right must not show.
pub(crate) fn tags_equal(a: &Tag, b: &Tag) -> bool {
    a.ct_eq(b).into()
}
