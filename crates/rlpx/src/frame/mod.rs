//! Frames: `header(16) ‖ tag(16) ‖ body padded to 16 ‖ tag(16)`, where the body is `RLP(message id) ‖ payload`.
//! [`Egress`] and [`Ingress`] do the cryptography of one direction on slices; [`FrameWriter`] and [`FrameReader`] add
//! the buffer, snappy and the size limits. Sockets are `stream`'s.

mod egress;
mod header;
mod ingress;
mod reader;
mod writer;

use aes::Aes256;

pub use egress::{Egress, SealError};
pub use header::MAX_FRAME;
pub use ingress::{Ingress, TagMismatch};
#[cfg(feature = "tokio")]
pub(crate) use reader::MAX_BASE_MESSAGE;
pub use reader::{FrameError, FrameReader, Message};
pub use writer::{FrameWriter, QueueError, WRITE_BUFFER};

/// The cipher of one direction. Its stream starts at a zero iv and would need 2^68 bytes to overflow 64 bits of
/// counter, so the narrower and faster counter gives the same stream as the 128-bit one of the specification.
type FrameCipher = ctr::Ctr64BE<Aes256>;

/// Length of an encrypted header and of every tag; bodies are padded to a multiple of it.
const BLOCK: usize = 16;

/// Length of a header with its tag.
pub(crate) const HEADER: usize = 2 * BLOCK;

fn frame_cipher(key: &[u8; 32]) -> FrameCipher {
    use cipher::KeyIvInit;
    FrameCipher::new(key.into(), &[0; 16].into())
}

/// Length on the wire of what follows the header of a frame of `size` bytes: the padded body and its tag.
const fn body_len(size: usize) -> usize {
    size.next_multiple_of(BLOCK) + BLOCK
}

#[cfg(test)]
mod tests;
