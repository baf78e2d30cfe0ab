//! The outgoing side of a connection: messages are sealed into one buffer, so that a batch is one write.

use super::{Egress, MAX_FRAME, SealError};
use crate::payload::Payload;

/// Bytes of sealed frames at which no further message is taken until some have been sent: 64 KiB. The buffer holds at
/// most this and one frame.
pub const WRITE_BUFFER: usize = 64 * 1024;

/// Capacity an emptied buffer may keep; above it a burst has grown it and the memory is given back.
const KEEP_CAPACITY: usize = 2 * WRITE_BUFFER;

/// Why a message cannot be queued. The stream is as it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// 64 KiB wait to be sent: flush first.
    #[error("the write buffer is full")]
    Full,
    /// The payload, or its frame, is above 2^24 − 1 bytes.
    #[error("a message of {size} bytes, the limit is {MAX_FRAME}")]
    TooLarge {
        /// Bytes of the payload or frame.
        size: usize,
    },
}

impl From<SealError> for QueueError {
    fn from(error: SealError) -> Self {
        Self::TooLarge { size: error.size }
    }
}

/// Seals messages into a buffer from which the transport takes what it can.
#[derive(Debug)]
pub struct FrameWriter {
    egress: Egress,
    snappy: bool,
    /// Sealed frames; those before `start` have been sent.
    buffer: Vec<u8>,
    start: usize,
}

impl FrameWriter {
    /// A writer that does not compress, as before Hello.
    #[must_use]
    pub fn new(egress: Egress) -> Self {
        Self {
            egress,
            snappy: false,
            buffer: Vec::new(),
            start: 0,
        }
    }

    /// Compresses every payload from now on (both Hellos said version 5 or later).
    pub fn enable_snappy(&mut self) {
        self.snappy = true;
    }

    /// Whether payloads are compressed.
    #[must_use]
    pub fn snappy(&self) -> bool {
        self.snappy
    }

    /// Appends a message to the buffer.
    ///
    /// # Errors
    /// [`QueueError::Full`] if [`has_room`](Self::has_room) is false, [`QueueError::TooLarge`] if the payload is above
    /// 2^24 − 1 bytes as it is or as it would be sent.
    pub fn queue(&mut self, id: u64, payload: &Payload) -> Result<(), QueueError> {
        if !self.has_room() {
            return Err(QueueError::Full);
        }
        self.queue_last(id, payload)
    }

    /// As [`queue`](Self::queue), but into a full buffer too: for the Disconnect after which nothing is queued.
    pub(crate) fn queue_last(&mut self, id: u64, payload: &Payload) -> Result<(), QueueError> {
        if payload.len() > MAX_FRAME {
            return Err(QueueError::TooLarge {
                size: payload.len(),
            });
        }
        if self.start > self.buffered() {
            // More has been sent than waits: moving the rest to the front costs less than was gained.
            self.compact();
        }
        let body = if self.snappy {
            payload.compressed()
        } else {
            payload.raw()
        };
        Ok(self.egress.seal(id, body, &mut self.buffer)?)
    }

    /// Whether a message may be queued: fewer than [`WRITE_BUFFER`] bytes wait.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.buffered() < WRITE_BUFFER
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.pending().len()
    }

    /// The bytes to send next.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// The transport has taken the first `count` bytes of [`pending`](Self::pending); more than there are count as
    /// all of them.
    pub fn sent(&mut self, count: usize) {
        self.start += count.min(self.buffered());
        if self.start == self.buffer.len() {
            self.compact();
        }
    }

    fn compact(&mut self) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.shrink_to(KEEP_CAPACITY);
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}
