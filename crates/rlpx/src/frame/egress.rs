//! Sealing of frames: one direction's cipher stream and MAC.

use cipher::StreamCipher;

use super::{BLOCK, FrameCipher, HEADER, body_len, frame_cipher, header};
use crate::mac::FrameMac;

/// The message does not fit in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {size} bytes, the limit is {}", header::MAX_FRAME)]
pub struct SealError {
    /// Length of the message id and payload.
    pub size: usize,
}

/// Seals the frames of one direction, in the order in which they must be sent.
pub struct Egress {
    cipher: FrameCipher,
    mac: FrameMac,
}

impl Egress {
    pub(crate) fn new(aes: &[u8; 32], mac: FrameMac) -> Self {
        Self {
            cipher: frame_cipher(aes),
            mac,
        }
    }

    /// Appends the frame of message `id` to `out`. `payload` is taken as it is (compressed or not): it is copied once,
    /// into `out`, and encrypted there.
    ///
    /// # Errors
    /// [`SealError`] if id and payload together are longer than [`MAX_FRAME`](super::MAX_FRAME); nothing was sealed.
    pub fn seal(&mut self, id: u64, payload: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        let (id, id_len) = header::encode_id(id);
        let id = id.get(..id_len).unwrap_or_default();
        let size = id.len() + payload.len();
        let too_large = SealError { size };
        let field = u32::try_from(size).map_err(|_| too_large)?;
        if size > header::MAX_FRAME {
            return Err(too_large);
        }
        out.reserve(HEADER + body_len(size));

        let mut head = header::encode(field);
        self.cipher.apply_keystream(&mut head);
        out.extend_from_slice(&head);
        out.extend_from_slice(&self.mac.header(&head));

        let start = out.len();
        out.extend_from_slice(id);
        out.extend_from_slice(payload);
        out.resize(start + size.next_multiple_of(BLOCK), 0);
        let (_, body) = out.split_at_mut(start);
        self.cipher.apply_keystream(body);
        let tag = self.mac.body(body);
        out.extend_from_slice(&tag);
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn mac(&self) -> &FrameMac {
        &self.mac
    }
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Egress").finish_non_exhaustive()
    }
}
