//! The incoming side of a connection: bytes in, messages out, however the bytes were cut on the way.
//!
//! Order of the checks, each before memory is taken for the next: header tag, size limit, body tag, message id,
//! decompressed length, limit of the message. Memory grows as bytes arrive, never because a peer announced many, and
//! is given back after a large frame.

use std::ops::Range;

use bytes::buf::Limit;
use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::ingress::TagMismatch;
use super::{BLOCK, HEADER, Ingress, MAX_FRAME, body_len, header};
use crate::capability::FIRST_OFFSET;
use crate::disconnect::DisconnectReason;
use crate::hello::p2p;
use crate::snappy::{self, SnappyError};

/// Longest frame before Hello and longest message of the base protocol after it: 2 KiB (as geth and reth).
pub(crate) const MAX_BASE_MESSAGE: usize = 2048;

/// Bytes asked of the transport at once while no large frame is under way; also the buffer of an idle connection.
const READ_CHUNK: usize = 16 * 1024;

/// A grown buffer up to this length, 2 MiB and some, is kept for the next large frame and goes with the next small one:
/// getting it anew from the system takes half as long as opening the frame, or longer. It fits the usual limit of an
/// answer in eth and snap. A longer one goes at once.
const KEEP_CAPACITY: usize = (2 << 20) + READ_CHUNK;

/// A payload is handed out as a part of the read buffer if it fills at least a fourth of it, else copied: a small
/// part would keep all of the buffer in memory for as long as the message lives. Concerns connections without snappy.
const MIN_SHARE: usize = 4;

/// A received message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Message id on this connection: 0x00 to 0x0f are the base protocol's.
    pub id: u64,
    /// The body, decompressed.
    pub payload: Bytes,
}

/// Why the incoming side ended. It cannot be used further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame was altered or the peer has other keys.
    #[error(transparent)]
    Tag(#[from] TagMismatch),
    /// The frame is larger than allowed in this phase.
    #[error("a frame of {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Size in the header.
        size: usize,
        /// The limit: 2 KiB before Hello, 2^24 − 1 after.
        limit: usize,
    },
    /// The frame is empty: there is not even a message id.
    #[error("an empty frame")]
    Empty,
    /// The message id is no canonical RLP integer of 64 bits.
    #[error("a frame whose message id is malformed")]
    MessageId,
    /// The payload does not decompress within the limits.
    #[error("message 0x{id:02x}: {source}")]
    Snappy {
        /// The message.
        id: u64,
        /// What is wrong.
        source: SnappyError,
    },
    /// An uncompressed payload is above the limit of its message.
    #[error("message 0x{id:02x}: a payload of {len} bytes, the limit is {limit}")]
    MessageTooLarge {
        /// The message.
        id: u64,
        /// Bytes of the payload.
        len: usize,
        /// The limit.
        limit: usize,
    },
}

impl FrameError {
    /// What to tell the peer. `None` after a tag mismatch: it could not read it.
    #[must_use]
    pub fn reason(&self) -> Option<DisconnectReason> {
        match self {
            Self::Tag(_) => None,
            _ => Some(DisconnectReason::ProtocolError),
        }
    }
}

enum State {
    Header,
    /// A header was right; `size` bytes of body follow, then padding and tag.
    Body {
        size: usize,
    },
    Failed(FrameError),
}

/// Opens the frames of a connection.
///
/// Read from the transport into [`buffer`](Self::buffer), then take messages with [`decode`](Self::decode) until it
/// has none.
pub struct FrameReader {
    ingress: Ingress,
    buffer: BytesMut,
    /// Bytes of the allocation under `buffer`, of which its capacity shows only what lies behind the read position.
    allocated: usize,
    state: State,
    phase: Phase,
    limits: Vec<(Range<u64>, usize)>,
}

#[derive(Clone, Copy)]
enum Phase {
    BeforeHello,
    Messages { snappy: bool },
}

impl FrameReader {
    /// A reader in the phase before Hello: frames up to 2 KiB, nothing compressed. `leftover` are bytes already read
    /// after the handshake.
    #[must_use]
    pub fn new(ingress: Ingress, leftover: BytesMut) -> Self {
        Self {
            ingress,
            allocated: leftover.capacity(),
            buffer: leftover,
            state: State::Header,
            phase: Phase::BeforeHello,
            limits: vec![(0..FIRST_OFFSET, MAX_BASE_MESSAGE)],
        }
    }

    /// Enters the phase after both Hellos: frames up to 2^24 − 1 bytes, payloads compressed if `snappy`.
    pub fn start_messages(&mut self, snappy: bool) {
        self.phase = Phase::Messages { snappy };
    }

    /// Limits the payloads of messages `ids` to `max_len` bytes after decompression. Where ranges overlap the latest
    /// counts. Without a limit of their own messages may have 2^24 − 1 bytes, those of the base protocol 2 KiB.
    pub fn limit_messages(&mut self, ids: Range<u64>, max_len: usize) {
        self.limits.retain(|(known, _)| *known != ids);
        self.limits.push((ids, max_len));
    }

    /// Where the transport is to put what it reads next: never empty, and never more than a chunk or as much as has
    /// already come of the present frame.
    pub fn buffer(&mut self) -> Limit<&mut BytesMut> {
        let missing = self.needed().saturating_sub(self.buffer.len());
        let room = self.buffer.capacity() - self.buffer.len();
        // A part of a chunk is good enough: it saves moving what is there.
        if room < missing.clamp(1, READ_CHUNK / 4) {
            self.make_room(missing);
        }
        let room = self.buffer.capacity() - self.buffer.len();
        (&mut self.buffer).limit(room)
    }

    /// Bytes, from the start of the buffer, of what is to be opened next.
    fn needed(&self) -> usize {
        match self.state {
            State::Header => HEADER,
            State::Body { size } => body_len(size),
            State::Failed(_) => 0,
        }
    }

    fn make_room(&mut self, missing: usize) {
        let have = self.buffer.len();
        // Doubling what has come keeps the copying linear; more than the frame needs is not taken.
        let capacity = (have + missing.min(have.max(READ_CHUNK))).max(READ_CHUNK);
        if !self.buffer.try_reclaim(capacity - have) {
            let mut larger = BytesMut::with_capacity(capacity);
            larger.extend_from_slice(&self.buffer);
            self.replace_buffer(larger);
        }
    }

    fn replace_buffer(&mut self, buffer: BytesMut) {
        self.allocated = buffer.capacity();
        self.buffer = buffer;
    }

    /// Gives the memory of a burst back, once it is over. `wire` is the length of the frame just taken out.
    fn shrink(&mut self, wire: usize) {
        let over = match self.allocated {
            0..=READ_CHUNK => false,
            _ if wire > READ_CHUNK => self.allocated > KEEP_CAPACITY,
            // What waits behind the frame is copied; much of it means that the burst goes on.
            _ => self.buffer.len() <= READ_CHUNK,
        };
        if over {
            self.replace_buffer(BytesMut::from(&self.buffer[..]));
        }
    }

    /// The next message, or `None` until more bytes have come.
    ///
    /// # Errors
    /// [`FrameError`]; every later call gives the same one.
    pub fn decode(&mut self) -> Result<Option<Message>, FrameError> {
        let result = self.advance();
        if let Err(error) = &result {
            self.state = State::Failed(error.clone());
            self.replace_buffer(BytesMut::new());
        }
        result
    }

    fn advance(&mut self) -> Result<Option<Message>, FrameError> {
        let size = match &self.state {
            State::Failed(error) => return Err(error.clone()),
            State::Body { size } => *size,
            State::Header => match self.buffer.first_chunk::<HEADER>() {
                None => return Ok(None),
                Some(header) => {
                    let size = self.ingress.open_header(header)?;
                    self.check_size(size)?;
                    self.buffer.advance(HEADER);
                    self.state = State::Body { size };
                    size
                }
            },
        };
        let wire = body_len(size);
        if self.buffer.len() < wire {
            return Ok(None);
        }
        let body = self.open_body(size)?;
        self.state = State::Header;
        self.shrink(wire);
        Ok(Some(body))
    }

    fn check_size(&self, size: usize) -> Result<(), FrameError> {
        let limit = match self.phase {
            Phase::BeforeHello => MAX_BASE_MESSAGE,
            Phase::Messages { .. } => MAX_FRAME,
        };
        if size == 0 {
            return Err(FrameError::Empty);
        }
        if size > limit {
            return Err(FrameError::TooLarge { size, limit });
        }
        Ok(())
    }

    /// Opens the body that is at the start of the buffer as a whole, and takes it out.
    fn open_body(&mut self, size: usize) -> Result<Message, FrameError> {
        let padded = size.next_multiple_of(BLOCK);
        // Both fall back only on a buffer shorter than the caller has checked.
        let (body, rest) = self
            .buffer
            .split_at_mut_checked(padded)
            .ok_or(FrameError::Empty)?;
        let tag = *rest.first_chunk::<BLOCK>().ok_or(FrameError::Empty)?;
        self.ingress.open_body(body, &tag)?;
        let data = body.get(..size).unwrap_or_default();
        let (id, payload) = header::split_id(data).ok_or(FrameError::MessageId)?;
        let limit = limit_of(&self.limits, id);
        let snappy = matches!(self.phase, Phase::Messages { snappy: true });

        let id_len = size - payload.len();
        let payload = match snappy {
            true => decompress(id, payload, limit)?,
            false if payload.len() > limit => {
                return Err(FrameError::MessageTooLarge {
                    id,
                    len: payload.len(),
                    limit,
                });
            }
            false if payload.len() < self.allocated / MIN_SHARE => Bytes::copy_from_slice(payload),
            false => {
                let mut frame = self.buffer.split_to(padded + BLOCK);
                frame.truncate(size);
                frame.advance(id_len);
                return Ok(Message {
                    id,
                    payload: frame.freeze(),
                });
            }
        };
        self.buffer.advance(padded + BLOCK);
        Ok(Message { id, payload })
    }

    #[cfg(test)]
    pub(crate) fn allocated(&self) -> usize {
        self.allocated.max(self.buffer.capacity())
    }
}

/// The latest limit set for `id`.
fn limit_of(limits: &[(Range<u64>, usize)], id: u64) -> usize {
    let latest = limits.iter().rev().find(|(ids, _)| ids.contains(&id));
    latest.map_or(MAX_FRAME, |(_, limit)| *limit)
}

/// Decompresses a payload. A Disconnect that is not compressed is taken as it is: clients in use send it so when they
/// refuse a peer before they have taken note of its Hello.
fn decompress(id: u64, payload: &[u8], limit: usize) -> Result<Bytes, FrameError> {
    match snappy::decompress(payload, limit) {
        Err(_)
            if id == p2p::DISCONNECT
                && payload.len() <= limit
                && DisconnectReason::decode(payload).is_ok() =>
        {
            Ok(Bytes::copy_from_slice(payload))
        }
        other => other.map_err(|source| FrameError::Snappy { id, source }),
    }
}

impl std::fmt::Debug for FrameReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameReader")
            .field("buffered", &self.buffer.len())
            .finish_non_exhaustive()
    }
}
