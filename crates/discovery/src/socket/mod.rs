//! The UDP sockets with their bounded queues, read and written in batches: one system call for up to 32 datagrams. A full
//! system buffer never blocks the driver: what does not fit waits here, and what does not fit here is dropped, as the network
//! would. Bursts may be left to a thread for each socket.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quinn_udp::BATCH_SIZE;
use tercet_enode::canonical_ip;

use crate::error::StartError;
use crate::metrics::DiscoveryMetrics;

mod batch;
mod egress;
mod port;
mod queue;

use self::batch::Inbox;
use self::egress::{Egress, Wire as _, settle};
use self::port::Port;
use self::queue::Queue;

/// Datagrams waiting to be sent on one socket: `1024 × 1280 = 1.3 MB` at most.
pub const MAX_QUEUED: usize = 1024;

/// With more datagrams than this under way the driver takes part in sending: twice the answers to one turn's short questions, so
/// that it does so only when the thread is the slower of the two.
const AHEAD: usize = 128;

/// As many datagrams as this the driver sends itself: what goes into one system call. On a single core it sends all of them, as
/// there is nothing to gain by another thread.
fn inline() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores > 1 { BATCH_SIZE } else { MAX_QUEUED }
}

/// One socket.
#[derive(Debug)]
struct Socket {
    port: Arc<Port>,
    queue: Queue,
    egress: Egress,
    /// Datagrams the thread had not yet sent when it was last asked, and those handed over since.
    handed_over: usize,
    /// A longer queue is handed over.
    inline: usize,
}

impl Socket {
    /// See [`Port::bind`].
    fn bind(addr: SocketAddr, only_v6: bool) -> Result<Self, StartError> {
        let error = |source| StartError::Bind { addr, source };
        let port = Arc::new(Port::bind(addr, only_v6).map_err(error)?);
        Ok(Self {
            egress: Egress::start(Arc::clone(&port)).map_err(StartError::Threads)?,
            port,
            queue: Queue::default(),
            handed_over: 0,
            inline: inline(),
        })
    }

    /// Datagrams waiting to be sent.
    fn queued(&self) -> usize {
        self.queue.len() + self.handed_over
    }

    /// Until all that was handed over has been sent. For ever if nothing was.
    async fn sent(&self) {
        match self.handed_over {
            0 => std::future::pending().await,
            _ => self.egress.done().await,
        }
    }

    /// Queues for the next [`flush`](Self::flush).
    fn send(&mut self, to: SocketAddr, datagram: &[u8], metrics: &mut DiscoveryMetrics) {
        if self.queued() >= MAX_QUEUED {
            metrics.out_queue_full += 1;
            return;
        }
        let to = match (self.port.local_addr().ip(), to.ip()) {
            (IpAddr::V6(_), IpAddr::V4(ip)) => {
                SocketAddr::new(IpAddr::V6(ip.to_ipv6_mapped()), to.port())
            }
            _ => to,
        };
        self.queue.push(to, datagram);
    }

    /// Sends what has been waiting. Bursts, what comes while one is under way, and what the system does not take now, are handed
    /// over to the thread.
    fn flush(&mut self, metrics: &mut DiscoveryMetrics) {
        if self.handed_over > 0 {
            self.handed_over = self.egress.collect(metrics);
        }
        if self.handed_over == 0 && self.queue.len() <= self.inline {
            self.send_inline(metrics);
        }
        if !self.queue.is_empty() {
            self.handed_over += self.queue.len();
            metrics.datagrams_handed_over += self.queue.len() as u64;
            self.egress.submit(&mut self.queue);
        }
        if self.handed_over > AHEAD {
            self.egress.help(&*self.port);
            self.handed_over = self.egress.collect(metrics);
        }
    }

    fn send_inline(&mut self, metrics: &mut DiscoveryMetrics) {
        while !self.queue.is_empty() {
            let attempt = self.port.send(&self.queue);
            match settle(&mut self.queue, attempt) {
                Some(sent) => sent.count(metrics),
                None => return,
            }
        }
    }

    fn close(&mut self, metrics: &mut DiscoveryMetrics) {
        self.flush(metrics);
        self.egress.close();
        self.handed_over = self.egress.collect(metrics);
    }
}

/// A socket for each family, or one for both.
#[derive(Debug)]
pub(crate) struct Sockets {
    main: Socket,
    /// For IPv6, where `main` is an IPv4 socket.
    six: Option<Socket>,
    inbox: Inbox,
    /// Whose turn it is to be read first, so that a flood on one leaves the other its half.
    six_first: bool,
}

impl Sockets {
    /// Binds `listen`, and `listen_v6` beside it. With port 0 both, the second takes the port the first was given.
    pub(crate) fn bind(
        listen: SocketAddr,
        listen_v6: Option<SocketAddr>,
    ) -> Result<Self, StartError> {
        let main = Socket::bind(listen, listen_v6.is_some())?;
        let six = listen_v6
            .map(|mut addr| {
                if addr.port() == 0 {
                    addr.set_port(main.port.local_addr().port());
                }
                Socket::bind(addr, true)
            })
            .transpose()?;
        Ok(Self {
            main,
            six,
            inbox: Inbox::new(),
            six_first: false,
        })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.main.port.local_addr()
    }

    pub(crate) fn local_addr_v6(&self) -> Option<SocketAddr> {
        self.six.as_ref().map(|six| six.port.local_addr())
    }

    /// Datagrams waiting to be sent.
    pub(crate) fn queued(&self) -> usize {
        self.main.queued() + self.six.as_ref().map_or(0, Socket::queued)
    }

    /// Until a socket has something to read, or at once if something read waits to be taken.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        if !self.inbox.is_empty() {
            return Ok(());
        }
        match &self.six {
            None => self.main.port.readable().await,
            Some(six) => tokio::select! {
                ready = self.main.port.readable() => ready,
                ready = six.port.readable() => ready,
            },
        }
    }

    /// Until a thread has sent all that was handed over to it. For ever if nothing was.
    pub(crate) async fn sent(&self) {
        match &self.six {
            None => self.main.sent().await,
            Some(six) => tokio::select! {
                () = self.main.sent() => {}
                () = six.sent() => {}
            },
        }
    }

    /// A datagram that has arrived, if there is one. IPv4 senders on an IPv6 socket appear under their IPv4 address.
    pub(crate) fn try_receive(
        &mut self,
        metrics: &mut DiscoveryMetrics,
    ) -> Option<(SocketAddr, BytesMut)> {
        for _ in 0..2 {
            if !self.inbox.is_empty() {
                break;
            }
            let socket = match &self.six {
                Some(six) if self.six_first => six,
                _ => &self.main,
            };
            self.six_first = !self.six_first;
            match socket.port.try_receive(&mut self.inbox) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    metrics.socket_errors += 1;
                    tracing::debug!(%error, "a read of the UDP socket failed");
                }
            }
        }
        let (from, datagram) = self.inbox.take()?;
        metrics.datagrams_in += 1;
        metrics.bytes_in += datagram.len() as u64;
        Some((
            SocketAddr::new(canonical_ip(from.ip()), from.port()),
            datagram,
        ))
    }

    /// Queues for the next [`flush`](Self::flush), on the socket of the address's family.
    pub(crate) fn send(&mut self, to: SocketAddr, datagram: Bytes, metrics: &mut DiscoveryMetrics) {
        let socket = match &mut self.six {
            Some(six) if to.is_ipv6() => six,
            _ => &mut self.main,
        };
        socket.send(to, &datagram, metrics);
    }

    pub(crate) fn flush(&mut self, metrics: &mut DiscoveryMetrics) {
        self.main.flush(metrics);
        if let Some(six) = &mut self.six {
            six.flush(metrics);
        }
    }

    /// Sends what is left. Waits for threads that send, a tenth of a second at most if the system takes nothing from them.
    pub(crate) fn close(&mut self, metrics: &mut DiscoveryMetrics) {
        self.main.close(metrics);
        if let Some(six) = &mut self.six {
            six.close(metrics);
        }
    }
}

#[cfg(test)]
mod tests;
