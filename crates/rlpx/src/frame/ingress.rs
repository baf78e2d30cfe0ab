//! Opening of frames: one direction's cipher stream and MAC. Nothing is decrypted before its tag was right.

use cipher::StreamCipher;

use super::{BLOCK, FrameCipher, HEADER, frame_cipher, header};
use crate::mac::{FrameMac, tags_equal};

/// A frame was altered, or the remote does not hold the keys. The stream cannot be used further, nor can the remote
/// be told why: it would not be able to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the authentication tag of a frame does not match")]
pub struct TagMismatch;

/// Opens the frames of one direction, in the order in which they were sealed.
pub struct Ingress {
    cipher: FrameCipher,
    mac: FrameMac,
}

impl Ingress {
    pub(crate) fn new(aes: &[u8; 32], mac: FrameMac) -> Self {
        Self {
            cipher: frame_cipher(aes),
            mac,
        }
    }

    /// The size of the body that follows `frame_header` (header and tag), 0 to [`MAX_FRAME`](super::MAX_FRAME).
    ///
    /// # Errors
    /// [`TagMismatch`]; the direction is unusable then.
    pub fn open_header(&mut self, frame_header: &[u8; HEADER]) -> Result<usize, TagMismatch> {
        let (head, tag) = split_halves(frame_header);
        if !tags_equal(&self.mac.header(&head), &tag) {
            return Err(TagMismatch);
        }
        let mut plain = head;
        self.cipher.apply_keystream(&mut plain);
        Ok(header::size(&plain))
    }

    /// Decrypts in place `body`, which is padded to a multiple of 16 bytes, after checking its `tag`.
    ///
    /// # Errors
    /// [`TagMismatch`]; the direction is unusable then, and `body` is unchanged.
    pub fn open_body(&mut self, body: &mut [u8], tag: &[u8; BLOCK]) -> Result<(), TagMismatch> {
        if !tags_equal(&self.mac.body(body), tag) {
            return Err(TagMismatch);
        }
        self.cipher.apply_keystream(body);
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn mac(&self) -> &FrameMac {
        &self.mac
    }
}

fn split_halves(header: &[u8; HEADER]) -> ([u8; BLOCK], [u8; BLOCK]) {
    let mut halves = ([0; BLOCK], [0; BLOCK]);
    let (head, tag) = header.split_at(BLOCK);
    halves.0.copy_from_slice(head);
    halves.1.copy_from_slice(tag);
    halves
}

impl std::fmt::Debug for Ingress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingress").finish_non_exhaustive()
    }
}
