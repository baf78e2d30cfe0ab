//! Many datagrams in one system call: `recvmmsg` through `quinn-udp`, `sendmmsg` through `rustix`. Where a system has only
//! the single calls, the same functions move one datagram at a time.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

use super::port::Plain;
use super::queue::Queue;
use bytes::BytesMut;
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};

/// Room for one read. The system may hand over many datagrams of one sender joined together (GRO), 64 KiB at most; pages that
/// are never written to are never allocated.
const SLOT: usize = 1 << 16;

/// What has been read and not yet taken.
pub(super) struct Inbox {
    buffer: Vec<u8>,
    metas: [RecvMeta; BATCH_SIZE],
    /// Slots filled by the last read.
    filled: usize,
    /// The next datagram: its slot and where in it.
    next: (usize, usize),
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inbox({} of {})", self.next.0, self.filled)
    }
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; SLOT * BATCH_SIZE],
            metas: [RecvMeta::default(); BATCH_SIZE],
            filled: 0,
            next: (0, 0),
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.next.0 >= self.filled
    }

    pub(super) fn fill(&mut self, socket: &Plain, state: &UdpSocketState) -> io::Result<()> {
        let mut slices: Vec<IoSliceMut<'_>> = self
            .buffer
            .chunks_exact_mut(SLOT)
            .map(IoSliceMut::new)
            .collect();
        self.filled = state.recv(UdpSockRef::from(socket), &mut slices, &mut self.metas)?;
        self.next = (0, 0);
        Ok(())
    }

    /// The next datagram.
    pub(super) fn take(&mut self) -> Option<(SocketAddr, BytesMut)> {
        let (slot, at) = self.next;
        if slot >= self.filled {
            return None;
        }
        let meta = self.metas.get(slot)?;
        let end = meta.len.min(at.saturating_add(meta.stride.max(1)));
        self.next = if end >= meta.len {
            (slot + 1, 0)
        } else {
            (slot, end)
        };
        let start = slot * SLOT;
        let datagram = self.buffer.get(start + at..start + end)?;
        Some((meta.addr, BytesMut::from(datagram)))
    }
}

/// Sends from the front of `queue`; how many the system took, at least one.
#[cfg(target_os = "linux")]
pub(super) fn send(socket: &Plain, _: &UdpSocketState, queue: &Queue) -> io::Result<usize> {
    use std::io::IoSlice;

    use rustix::net::addr::SocketAddrArg;
    use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

    let batch = || queue.iter().take(BATCH_SIZE);
    let addrs: Vec<_> = batch().map(|(to, _)| to.as_any()).collect();
    let bytes: Vec<_> = batch().map(|(_, bytes)| [IoSlice::new(bytes)]).collect();
    let mut controls: Vec<_> = addrs
        .iter()
        .map(|_| SendAncillaryBuffer::default())
        .collect();
    let mut messages: Vec<_> = addrs
        .iter()
        .zip(&bytes)
        .zip(&mut controls)
        .map(|((to, bytes), control)| MMsgHdr::new_with_addr(to, bytes, control))
        .collect();
    Ok(sendmmsg(socket, &mut messages, SendFlags::empty())?)
}

/// Sends the front of `queue`.
#[cfg(not(target_os = "linux"))]
pub(super) fn send(socket: &Plain, state: &UdpSocketState, queue: &Queue) -> io::Result<usize> {
    let Some((destination, contents)) = queue.iter().next() else {
        return Ok(0);
    };
    let transmit = quinn_udp::Transmit {
        destination,
        ecn: None,
        contents,
        segment_size: None,
        src_ip: None,
    };
    state.try_send(UdpSockRef::from(socket), &transmit)?;
    Ok(1)
}
