//! The few poll functions the stream needs of a transport.

use std::io::{Error, ErrorKind, Result};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Bytes thrown away at once while waiting for a peer to close.
const DISCARD_CHUNK: usize = 4096;

/// Appends one read to `buffer`, which must have room, and returns its length: 0 at the end of the stream.
pub(super) fn poll_read<S: AsyncRead + Unpin, B: BufMut>(
    io: &mut S,
    buffer: &mut B,
    cx: &mut Context<'_>,
) -> Poll<Result<usize>> {
    // The future of one read keeps nothing between polls, so a new one for every poll is as good as the first.
    pin!(io.read_buf(buffer)).poll(cx)
}

/// Writes some of `bytes`, which are not empty, and returns how many.
pub(super) fn poll_write<S: AsyncWrite + Unpin>(
    io: &mut S,
    bytes: &[u8],
    cx: &mut Context<'_>,
) -> Poll<Result<usize>> {
    match ready!(Pin::new(io).poll_write(cx, bytes))? {
        0 => Poll::Ready(Err(Error::from(ErrorKind::WriteZero))),
        written => Poll::Ready(Ok(written)),
    }
}

pub(super) fn poll_flush<S: AsyncWrite + Unpin>(
    io: &mut S,
    cx: &mut Context<'_>,
) -> Poll<Result<()>> {
    Pin::new(io).poll_flush(cx)
}

pub(super) fn poll_shutdown<S: AsyncWrite + Unpin>(
    io: &mut S,
    cx: &mut Context<'_>,
) -> Poll<Result<()>> {
    Pin::new(io).poll_shutdown(cx)
}

/// Reads and throws away what comes; ready once the remote has closed or the connection is broken.
pub(super) fn poll_discard<S: AsyncRead + Unpin>(io: &mut S, cx: &mut Context<'_>) -> Poll<()> {
    let mut chunk = [0; DISCARD_CHUNK];
    loop {
        let mut read = ReadBuf::new(&mut chunk);
        let result = ready!(Pin::new(&mut *io).poll_read(cx, &mut read));
        if result.is_err() || read.filled().is_empty() {
            return Poll::Ready(());
        }
    }
}
