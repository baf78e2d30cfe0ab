//! The UDP sockets with their bounded queues, read and written in batches: one system call for up to 32 datagrams. A full
//! system buffer never blocks the driver: what does not fit waits here, and what does not fit here is dropped, as the network
//! would. Bursts may be left to a thread for each socket. Two readers have two sockets on the same port, for what arrives on two cores.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quinn_udp::BATCH_SIZE;
use tercet_enode::canonical_ip;

use crate::error::StartError;
use crate::metrics::DiscoveryMetrics;

mod batch;
mod cores;
mod egress;
mod port;
mod queue;

pub(crate) use self::cores::Cores;

use self::batch::Inbox;
use self::cores::here;
use self::egress::{Egress, Wire as _, settle};
use self::port::Port;
use self::queue::Queue;

/// Datagrams waiting to be sent on one socket: `1024 × 1280 = 1.3 MB` at most.
pub const MAX_QUEUED: usize = 1024;

/// With more datagrams than this under way the driver takes part in sending: twice the answers to one turn's short questions, so
/// that it does so only when the thread is the slower of the two.
const AHEAD: usize = 128;

/// Every so often a reader begins with its own port, whatever core it runs on: it is the one who is woken for it.
const OWN_FIRST: usize = 8;

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
    /// The other socket on the same port, and the core whose datagrams arrive there.
    twin: Option<(Arc<Port>, usize)>,
    queue: Queue,
    egress: Egress,
    /// Datagrams the thread had not yet sent when it was last asked, and those handed over since.
    handed_over: usize,
    /// A longer queue is handed over.
    inline: usize,
    /// Whether it may be.
    spare: bool,
}

impl Socket {
    /// See [`Port::bind`].
    fn bind(addr: SocketAddr, only_v6: bool) -> Result<Self, StartError> {
        let error = |source| StartError::Bind { addr, source };
        let port = Port::bind(addr, only_v6).map_err(error)?;
        Self::on(port).map_err(StartError::Threads)
    }

    fn on(port: Port) -> io::Result<Self> {
        let port = Arc::new(port);
        Ok(Self {
            egress: Egress::start(Arc::clone(&port))?,
            port,
            twin: None,
            queue: Queue::default(),
            handed_over: 0,
            inline: inline(),
            spare: true,
        })
    }

    /// See [`Port::beside`].
    fn beside(&self, cores: Cores) -> io::Result<Self> {
        let mut other = Self::on(self.port.beside(cores)?)?;
        other.twin = Some((Arc::clone(&self.port), cores.first));
        Ok(other)
    }

    /// Knows `other`, made by [`beside`](Self::beside), as its twin.
    fn pair(&mut self, other: &Self, cores: Cores) {
        self.twin = Some((Arc::clone(&other.port), cores.second));
    }

    /// Reads once what has arrived on the core this thread runs on; if that is nothing, or with `own_first`, from its own port.
    fn receive<T>(
        &self,
        inbox: &mut Inbox,
        own_first: bool,
        mut enter: impl FnMut() -> T,
    ) -> io::Result<T> {
        if let Some((twin, core)) = &self.twin
            && !own_first
            && here() == Some(*core)
        {
            match twin.receive_for_other(inbox, &mut enter) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
        self.port.receive(inbox, enter)
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
        if self.handed_over == 0 && (self.queue.len() <= self.inline || !self.spare) {
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
    /// Decides whose turn it is to be read first, so that a flood on one leaves the others their part.
    reads: usize,
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
            reads: 0,
        })
    }

    /// Sockets beside these on the same ports, for another reader. Each of both waits for its own, and reads what has arrived on the
    /// core it happens to run on.
    ///
    /// # Errors
    /// Where the system cannot do that.
    pub(crate) fn beside(&mut self, cores: Cores) -> io::Result<Self> {
        let main = self.main.beside(cores)?;
        let six = self.six.as_ref().map(|six| six.beside(cores)).transpose()?;
        self.main.pair(&main, cores);
        if let (Some(own), Some(other)) = (&mut self.six, &six) {
            own.pair(other, cores);
        }
        Ok(Self {
            main,
            six,
            inbox: Inbox::new(),
            reads: 0,
        })
    }

    /// Forgets the sockets that were made beside these, so that they close with whoever has them.
    pub(crate) fn alone(&mut self) {
        self.main.twin = None;
        if let Some(six) = &mut self.six {
            six.twin = None;
        }
    }

    /// Whether threads may send what does not go into one system call.
    pub(crate) fn may_hand_over(&mut self, spare: bool) {
        self.main.spare = spare;
        if let Some(six) = &mut self.six {
            six.spare = spare;
        }
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

    /// Reads once and enters, if nothing that was read waits to be taken; what entering came to. `None` if nothing has arrived.
    pub(crate) fn fill<T>(
        &mut self,
        metrics: &mut DiscoveryMetrics,
        mut enter: impl FnMut() -> T,
    ) -> Option<T> {
        if !self.inbox.is_empty() {
            return Some(enter());
        }
        for _ in 0..1 + usize::from(self.six.is_some()) {
            self.reads = self.reads.wrapping_add(1);
            let socket = match &self.six {
                Some(six) if self.reads.is_multiple_of(2) => six,
                _ => &self.main,
            };
            let own_first = (self.reads / 2).is_multiple_of(OWN_FIRST);
            match socket.receive(&mut self.inbox, own_first, &mut enter) {
                Ok(entered) => return Some(entered),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    metrics.socket_errors += 1;
                    tracing::debug!(%error, "a read of the UDP socket failed");
                }
            }
        }
        None
    }

    /// A datagram that was read, if there is one. IPv4 senders on an IPv6 socket appear under their IPv4 address. Which interface a
    /// link-local sender is on is not kept: an answer goes out where the system sends such addresses, as a question to one does.
    pub(crate) fn take(
        &mut self,
        metrics: &mut DiscoveryMetrics,
    ) -> Option<(SocketAddr, BytesMut)> {
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
