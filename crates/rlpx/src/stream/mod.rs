//! RLPx over any `AsyncRead + AsyncWrite`: [`connect`] or [`accept`], then [`Authenticated::hello`], then
//! [`RlpxStream`]. This is the crate's driver: it alone reads the clock and the system's randomness. It decides about
//! one connection only; whom to talk to is for the caller, between those steps.
#![allow(clippy::disallowed_methods)] // a driver: time limits and randomness of real connections

mod error;
mod io;
mod setup;

use std::future::poll_fn;
use std::ops::Range;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tercet_enode::PublicKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::disconnect::DisconnectReason;
use crate::frame::{FrameReader, FrameWriter, Message, QueueError};
use crate::hello::{Hello, p2p};
use crate::payload::Payload;
use crate::secrets::Session;

pub use error::{HandshakeError, HelloError, StreamError};
pub use setup::{Authenticated, accept, connect};

/// Time for the whole set-up of a connection from the first byte of the handshake to the end of both Hellos: 5 s, as
/// in geth (which then allows Hello another 30 s, so that a few dozen silent sources can block it).
pub const SETUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for a Disconnect to be sent and for the peer to close after it: 2 s (RLPx "Disconnect").
pub const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What a call of [`RlpxStream::event`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Messages are wanted, and what is queued is sent meanwhile.
    ReadWrite,
    /// Nothing is read (the receiver of messages is busy); what is queued is sent.
    Write,
}

/// What happened on a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEvent {
    /// A message came.
    Message(Message),
    /// All that was queued has been handed to the transport.
    Flushed,
}

/// An established connection: both sides have said Hello.
///
/// Reading and writing go on in one future, so a peer's task needs one branch for its connection:
///
/// ```
/// # use tercet_rlpx::{Interest, Payload, RlpxStream, StreamError, StreamEvent};
/// # use tokio::io::{AsyncRead, AsyncWrite};
/// # async fn run<S: AsyncRead + AsyncWrite + Unpin>(
/// #     mut stream: RlpxStream<S>, mut outbound: tokio::sync::mpsc::Receiver<(u64, Payload)>,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// loop {
///     tokio::select! {
///         event = stream.event(Interest::ReadWrite) => match event? {
///             StreamEvent::Message(message) => println!("{}: {} bytes", message.id, message.payload.len()),
///             StreamEvent::Flushed => {} // evaluates the guard below anew
///         },
///         next = outbound.recv(), if stream.has_room() => match next {
///             Some((id, payload)) => stream.queue(id, &payload)?,
///             None => break,
///         },
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct RlpxStream<S> {
    link: Link<S>,
    remote_hello: Hello,
    snappy: bool,
}

/// A transport with the codecs of its two directions.
#[derive(Debug)]
struct Link<S> {
    io: S,
    reader: FrameReader,
    writer: FrameWriter,
    remote: PublicKey,
}

impl<S: AsyncRead + AsyncWrite + Unpin> RlpxStream<S> {
    /// The remote's static key.
    #[must_use]
    pub fn remote_key(&self) -> PublicKey {
        self.link.remote
    }

    /// What the remote said about itself.
    #[must_use]
    pub fn remote_hello(&self) -> &Hello {
        &self.remote_hello
    }

    /// Whether messages are compressed: both sides speak version 5 or later.
    #[must_use]
    pub fn snappy(&self) -> bool {
        self.snappy
    }

    /// The transport, for its addresses.
    #[must_use]
    pub fn io(&self) -> &S {
        &self.link.io
    }

    /// Limits the payloads of messages `ids` to `max_len` bytes after decompression. Where ranges overlap the latest
    /// counts. Without a limit of their own messages may have 2^24 − 1 bytes, those of the base protocol 2 KiB.
    pub fn limit_messages(&mut self, ids: Range<u64>, max_len: usize) {
        self.link.reader.limit_messages(ids, max_len);
    }

    /// Seals a message into the write buffer; [`event`](Self::event) or [`flush`](Self::flush) sends it.
    ///
    /// # Errors
    /// [`QueueError`]; the stream stays usable.
    pub fn queue(&mut self, id: u64, payload: &Payload) -> Result<(), QueueError> {
        self.link.writer.queue(id, payload)
    }

    /// Whether [`queue`](Self::queue) takes a message now: fewer than 64 KiB wait.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.link.writer.has_room()
    }

    /// Bytes in the write buffer.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.link.writer.buffered()
    }

    /// Sends what is queued and, if that is of interest, waits for a message; returns at the first of the two. With
    /// nothing queued and no interest in reading it waits for ever. Cancel-safe: dropping the future loses nothing.
    ///
    /// # Errors
    /// [`StreamError`]; the stream is unusable then.
    pub async fn event(&mut self, interest: Interest) -> Result<StreamEvent, StreamError> {
        poll_fn(|cx| self.link.poll_event(interest, cx)).await
    }

    /// The next message; what is queued is sent meanwhile. Cancel-safe.
    ///
    /// # Errors
    /// [`StreamError`]; the stream is unusable then.
    pub async fn read(&mut self) -> Result<Message, StreamError> {
        loop {
            if let StreamEvent::Message(message) = self.event(Interest::ReadWrite).await? {
                return Ok(message);
            }
        }
    }

    /// Sends all that is queued without reading. Cancel-safe.
    ///
    /// # Errors
    /// [`StreamError::Io`]; the stream is unusable then.
    pub async fn flush(&mut self) -> Result<(), StreamError> {
        Ok(poll_fn(|cx| self.link.poll_flush(cx)).await?)
    }

    /// Ends the connection: sends what is queued and a Disconnect with `reason`, then waits for the remote to close,
    /// for [`DISCONNECT_TIMEOUT`] in all. Closing at once would let the transport throw the reason away where the
    /// remote is sending at that moment.
    ///
    /// # Errors
    /// If the reason could not be handed to the transport in time or at all.
    pub async fn disconnect(mut self, reason: DisconnectReason) -> std::io::Result<()> {
        self.link
            .say_goodbye(reason, Instant::now() + DISCONNECT_TIMEOUT)
            .await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    fn new(io: S, session: Session, leftover: BytesMut) -> Self {
        Self {
            io,
            reader: FrameReader::new(session.ingress, leftover),
            writer: FrameWriter::new(session.egress),
            remote: session.remote,
        }
    }

    fn poll_event(
        &mut self,
        interest: Interest,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamEvent, StreamError>> {
        // Writing first: a peer that sends without pause must not keep our answers back. A failed write is reported
        // only when nothing is left to read, because the peer's last words (its Disconnect) are in there.
        let mut write_error = None;
        if self.writer.buffered() > 0 {
            match self.poll_flush(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(StreamEvent::Flushed)),
                Poll::Ready(Err(error)) => write_error = Some(error),
                Poll::Pending => {}
            }
        }
        let read = match interest {
            Interest::ReadWrite => self.poll_message(cx).map_ok(StreamEvent::Message),
            Interest::Write => Poll::Pending,
        };
        match (read, write_error) {
            (Poll::Ready(Ok(event)), _) => Poll::Ready(Ok(event)),
            (_, Some(error)) => Poll::Ready(Err(error.into())),
            (read, None) => read,
        }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, StreamError>> {
        loop {
            if let Some(message) = self.reader.decode()? {
                return Poll::Ready(Ok(message));
            }
            let read = ready!(io::poll_read(&mut self.io, &mut self.reader.buffer(), cx))?;
            if read == 0 {
                return Poll::Ready(Err(StreamError::Closed));
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while self.writer.buffered() > 0 {
            let written = ready!(io::poll_write(&mut self.io, self.writer.pending(), cx))?;
            self.writer.sent(written);
        }
        io::poll_flush(&mut self.io, cx)
    }

    /// Sends a Disconnect, closes our direction and waits until the remote has closed its own or `deadline` has
    /// passed. Errors concern the sending only.
    async fn say_goodbye(
        &mut self,
        reason: DisconnectReason,
        deadline: Instant,
    ) -> std::io::Result<()> {
        // A Disconnect of a few bytes is never too large.
        self.writer
            .queue_last(p2p::DISCONNECT, &reason.to_payload())
            .map_err(std::io::Error::other)?;
        let sent = async {
            poll_fn(|cx| {
                let flushed = self.poll_flush(cx);
                if flushed.is_pending() {
                    // The remote may be unable to read before what it is sending has been taken.
                    let _ = io::poll_discard(&mut self.io, cx);
                }
                flushed
            })
            .await?;
            poll_fn(|cx| io::poll_shutdown(&mut self.io, cx)).await
        };
        // `timeout_at` polls once even when the deadline has passed, so a refused peer is told in any case.
        tokio::time::timeout_at(deadline, sent).await??;
        let closed = poll_fn(|cx| io::poll_discard(&mut self.io, cx));
        // Whether the remote closes or not, we do so now.
        let _ = tokio::time::timeout_at(deadline, closed).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
