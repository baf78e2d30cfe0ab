//! Datagrams that wait to be sent, their bytes one after another in one buffer. A thread that hands them to another one hands
//! over this buffer and nothing that has to be freed: memory freed on one thread and allocated on another costs both more than
//! the copy.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::{Buf, BytesMut};

/// An empty queue keeps room for as many bytes, a thousand short answers. What a flood of the longest ones took beyond that is given
/// back: a socket has five queues, which keep 640 KiB at most.
const KEPT: usize = 1 << 17;

/// Datagrams in the order in which they leave.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: BytesMut,
    waiting: VecDeque<(SocketAddr, usize)>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn push(&mut self, to: SocketAddr, datagram: &[u8]) {
        self.bytes.extend_from_slice(datagram);
        self.waiting.push_back((to, datagram.len()));
    }

    /// From the first to leave on.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let mut rest = &self.bytes[..];
        self.waiting.iter().map_while(move |(to, len)| {
            let (datagram, behind) = rest.split_at_checked(*len)?;
            rest = behind;
            Some((*to, datagram))
        })
    }

    /// Takes the first `count` out, or all if there are fewer; how many those were, and how many bytes.
    pub(super) fn take_out(&mut self, count: usize) -> (usize, usize) {
        let count = count.min(self.len());
        let len = self.waiting.drain(..count).map(|(_, len)| len).sum();
        if !self.is_empty() {
            self.bytes.advance(len);
        } else if self.bytes.capacity() > KEPT {
            self.bytes = BytesMut::new();
        } else {
            self.bytes.clear();
        }
        (count, len)
    }

    /// Moves all of `other` behind what is here.
    pub(super) fn append(&mut self, other: &mut Self) {
        if self.is_empty() {
            // They change places, so that neither grows anew each time.
            std::mem::swap(self, other);
            return;
        }
        self.bytes.extend_from_slice(&other.bytes);
        self.waiting.append(&mut other.waiting);
        other.take_out(0);
    }
}

#[cfg(test)]
mod tests;
