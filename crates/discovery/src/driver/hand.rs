//! What a reader has for himself: his sockets, and what he has counted at them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};

use crate::metrics::DiscoveryMetrics;
use crate::socket::{Cores, Sockets};

/// Who reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Which {
    Driver,
    Beside,
}

/// See the module's documentation.
pub(crate) struct Hand {
    sockets: Sockets,
    counted: DiscoveryMetrics,
    which: Which,
    /// How often each reader has read: this one's, the other's.
    reads: (Arc<AtomicUsize>, Arc<AtomicUsize>),
    /// How often the other one had when this one flushed last.
    seen: usize,
    /// Whether there is another one.
    paired: bool,
}

impl Hand {
    /// The driver's.
    pub(crate) fn new(sockets: Sockets) -> Self {
        Self {
            sockets,
            counted: DiscoveryMetrics::default(),
            which: Which::Driver,
            reads: Default::default(),
            seen: 0,
            paired: false,
        }
    }

    /// For who reads beside the driver, see [`Sockets::beside`].
    pub(super) fn beside(&mut self, cores: Cores) -> io::Result<Self> {
        let sockets = self.sockets.beside(cores)?;
        self.paired = true;
        let (own, other) = &self.reads;
        Ok(Self {
            sockets,
            counted: DiscoveryMetrics::default(),
            which: Which::Beside,
            reads: (Arc::clone(other), Arc::clone(own)),
            seen: 0,
            paired: true,
        })
    }

    /// There is nobody beside this one after all.
    pub(super) fn alone(&mut self) {
        self.sockets.alone();
        self.paired = false;
    }

    pub(super) const fn which(&self) -> Which {
        self.which
    }

    pub(super) fn queued(&self) -> usize {
        self.sockets.queued()
    }

    /// What was counted since the last call.
    pub(super) fn take_counted(&mut self) -> DiscoveryMetrics {
        std::mem::take(&mut self.counted)
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.sockets.readable().await
    }

    pub(super) async fn sent(&self) {
        self.sockets.sent().await;
    }

    /// A wait for datagrams has failed.
    pub(super) fn failed(&mut self, error: &io::Error) {
        self.counted.socket_errors += 1;
        tracing::debug!(%error, "the UDP socket failed once");
    }

    /// See [`Sockets::fill`].
    pub(super) fn fill<T>(&mut self, enter: impl FnMut() -> T) -> Option<T> {
        self.reads.0.fetch_add(1, Ordering::Relaxed);
        self.sockets.fill(&mut self.counted, enter)
    }

    pub(super) fn take(&mut self) -> Option<(SocketAddr, BytesMut)> {
        self.sockets.take(&mut self.counted)
    }

    /// Queues for the next [`flush`](Self::flush).
    pub(super) fn send(&mut self, to: SocketAddr, datagram: Bytes) {
        self.sockets.send(to, datagram, &mut self.counted);
    }

    /// Sends. Bursts are left to other threads, unless the other reader was busy since the last time: then there is no core for them,
    /// and what is sent where it was made crosses to none.
    pub(super) fn flush(&mut self) {
        if self.paired {
            let reads = self.reads.1.load(Ordering::Relaxed);
            self.sockets.may_hand_over(reads == self.seen);
            self.seen = reads;
        }
        self.sockets.flush(&mut self.counted);
    }

    pub(super) fn close(&mut self) {
        self.sockets.close(&mut self.counted);
    }
}
