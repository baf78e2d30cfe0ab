//! The set-up of a connection: the handshake of either side, then both Hellos, all before one deadline.

use std::future::poll_fn;

use bytes::{BufMut, BytesMut};
use tercet_enode::{PublicKey, SecretKey};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::{
    DISCONNECT_TIMEOUT, HandshakeError, HelloError, Interest, Link, RlpxStream, SETUP_TIMEOUT,
    StreamError, StreamEvent, io,
};
use crate::disconnect::DisconnectReason;
use crate::frame::MAX_BASE_MESSAGE;
use crate::handshake::{
    Initiator, MAX_HANDSHAKE_PACKET, Responder, SIZE_PREFIX, handshake_packet_len,
};
use crate::hello::{Hello, MIN_P2P_VERSION, SNAPPY_VERSION, p2p};

/// A connection whose remote key is known and to which nothing has been said yet. The caller decides whether to go on
/// with [`hello`](Self::hello) or to [`reject`](Self::reject).
#[derive(Debug)]
pub struct Authenticated<S> {
    pub(super) link: Link<S>,
    deadline: Instant,
}

/// Shakes hands with the node that holds `remote`, over a transport that leads to it.
///
/// # Errors
/// [`HandshakeError`], at the latest after [`SETUP_TIMEOUT`].
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    key: &SecretKey,
    remote: PublicKey,
) -> Result<Authenticated<S>, HandshakeError> {
    let deadline = Instant::now() + SETUP_TIMEOUT;
    let handshake = initiate(io, key, remote);
    let link = timeout_at(deadline, handshake)
        .await
        .map_err(|_| HandshakeError::Timeout)??;
    Ok(Authenticated { link, deadline })
}

/// Shakes hands with whoever is calling; [`Authenticated::remote_key`] then says who.
///
/// # Errors
/// [`HandshakeError`], at the latest after [`SETUP_TIMEOUT`].
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    key: &SecretKey,
) -> Result<Authenticated<S>, HandshakeError> {
    let deadline = Instant::now() + SETUP_TIMEOUT;
    let link = timeout_at(deadline, respond(io, key))
        .await
        .map_err(|_| HandshakeError::Timeout)??;
    Ok(Authenticated { link, deadline })
}

async fn initiate<S: AsyncRead + AsyncWrite + Unpin>(
    mut io: S,
    key: &SecretKey,
    remote: PublicKey,
) -> Result<Link<S>, HandshakeError> {
    let handshake = Initiator::new(key, remote, &mut rand::rng())?;
    io.write_all(handshake.auth()).await?;
    io.flush().await?;
    let mut received = BytesMut::new();
    let ack = read_packet(&mut io, &mut received).await?;
    Ok(Link::new(io, handshake.finish(&ack)?, received))
}

async fn respond<S: AsyncRead + AsyncWrite + Unpin>(
    mut io: S,
    key: &SecretKey,
) -> Result<Link<S>, HandshakeError> {
    let mut received = BytesMut::new();
    let auth = read_packet(&mut io, &mut received).await?;
    let (session, ack) = Responder::open(key, &auth)?.accept(&mut rand::rng());
    io.write_all(&ack).await?;
    io.flush().await?;
    Ok(Link::new(io, session, received))
}

/// Reads one handshake packet. What came after it stays in `received`, which never holds more than the longest packet.
async fn read_packet<S: AsyncRead + Unpin>(
    io: &mut S,
    received: &mut BytesMut,
) -> Result<BytesMut, HandshakeError> {
    const LONGEST: usize = SIZE_PREFIX + MAX_HANDSHAKE_PACKET;
    received.reserve(LONGEST);
    loop {
        if let Some(prefix) = received.first_chunk::<SIZE_PREFIX>() {
            let packet = handshake_packet_len(*prefix)?;
            if received.len() >= packet {
                return Ok(received.split_to(packet));
            }
        }
        let room = LONGEST - received.len();
        let mut room = (&mut *received).limit(room);
        if poll_fn(|cx| io::poll_read(io, &mut room, cx)).await? == 0 {
            return Err(HandshakeError::Closed);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Authenticated<S> {
    /// The remote's static key.
    #[must_use]
    pub fn remote_key(&self) -> PublicKey {
        self.link.remote
    }

    /// The transport, for its addresses.
    #[must_use]
    pub fn io(&self) -> &S {
        &self.link.io
    }

    /// Refuses the remote: it gets a Disconnect with `reason` instead of Hello. Takes as long as
    /// [`RlpxStream::disconnect`] at most, and not beyond the deadline of the set-up.
    ///
    /// # Errors
    /// If the reason could not be handed to the transport in time or at all.
    pub async fn reject(mut self, reason: DisconnectReason) -> std::io::Result<()> {
        self.say_goodbye(reason).await
    }

    /// Exchanges Hellos. Messages are compressed from then on if both state version 5 or later. A remote whose Hello
    /// is refused gets a Disconnect with the reason before this returns.
    ///
    /// # Errors
    /// [`HelloError`], at the latest [`SETUP_TIMEOUT`] after the start of the handshake.
    pub async fn hello(mut self, hello: Hello) -> Result<RlpxStream<S>, HelloError> {
        match self.agree(&hello).await {
            Ok((remote_hello, snappy)) => Ok(RlpxStream {
                link: self.link,
                remote_hello,
                snappy,
            }),
            Err(error) => {
                if let Some(reason) = error.reason() {
                    // The error at hand matters more than whether the remote could be told of it.
                    let _ = self.say_goodbye(reason).await;
                }
                Err(error)
            }
        }
    }

    async fn agree(&mut self, hello: &Hello) -> Result<(Hello, bool), HelloError> {
        if self.link.remote == hello.public_key {
            return Err(HelloError::Itself);
        }
        let payload = hello.to_payload();
        let size = payload.len();
        // The id of Hello takes one byte of its frame.
        if size >= MAX_BASE_MESSAGE {
            return Err(HelloError::OwnHelloTooLarge { size });
        }
        self.link.writer.queue(p2p::HELLO, &payload)?;
        let received = timeout_at(self.deadline, self.link.exchange_hello()).await;
        let received = received.unwrap_or(Err(HelloError::Timeout));

        // A Disconnect that follows our Hello is compressed, as the remote takes everything after it to be: unless it
        // is known to be too old for that.
        let theirs = received
            .as_ref()
            .map_or(u64::MAX, |remote| remote.p2p_version);
        let snappy = hello.p2p_version.min(theirs) >= SNAPPY_VERSION;
        self.link.start_messages(snappy);

        let remote = received?;
        check(&remote, self.link.remote)?;
        Ok((remote, snappy))
    }

    async fn say_goodbye(&mut self, reason: DisconnectReason) -> std::io::Result<()> {
        let deadline = self.deadline.min(Instant::now() + DISCONNECT_TIMEOUT);
        self.link.say_goodbye(reason, deadline).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    /// Sends what is queued (our Hello) while receiving the remote's. Both sides speak first, so neither may wait for
    /// the other to read.
    pub(super) async fn exchange_hello(&mut self) -> Result<Hello, HelloError> {
        let message = loop {
            let event = poll_fn(|cx| self.poll_event(Interest::ReadWrite, cx)).await?;
            if let StreamEvent::Message(message) = event {
                break message;
            }
        };
        let hello = match message.id {
            p2p::HELLO => Hello::decode(&message.payload)?,
            p2p::DISCONNECT => {
                return Err(HelloError::Disconnected(DisconnectReason::decode(
                    &message.payload,
                )?));
            }
            id => return Err(HelloError::Unexpected { id }),
        };
        poll_fn(|cx| self.poll_flush(cx))
            .await
            .map_err(StreamError::from)?;
        Ok(hello)
    }

    pub(super) fn start_messages(&mut self, snappy: bool) {
        self.reader.start_messages(snappy);
        if snappy {
            self.writer.enable_snappy();
        }
    }
}

fn check(hello: &Hello, expected: PublicKey) -> Result<(), HelloError> {
    if hello.public_key != expected {
        let (expected, stated) = (expected.node_id(), hello.public_key.node_id());
        return Err(HelloError::UnexpectedIdentity { expected, stated });
    }
    if hello.p2p_version < MIN_P2P_VERSION {
        return Err(HelloError::IncompatibleVersion {
            version: hello.p2p_version,
        });
    }
    Ok(())
}
