//! The UDP sockets with their bounded queues, read and written in batches: one system call for up to 32 datagrams. A full
//! system buffer never blocks the driver: what does not fit waits here, and what does not fit here is dropped, as the network
//! would.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::{Bytes, BytesMut};
use quinn_udp::{UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Type};
use tercet_enode::canonical_ip;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::error::StartError;
use crate::metrics::DiscoveryMetrics;

mod batch;

pub(crate) use self::batch::Inbox;

/// Datagrams waiting to be sent on one socket: `1024 × 1280 = 1.3 MB` at most.
pub const MAX_QUEUED: usize = 1024;

/// System buffers asked for: some 800 of the largest datagrams, to survive a pause of the driver. The system may grant less.
const BUFFER: usize = 1 << 20;

/// One socket.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    queue: VecDeque<(SocketAddr, Bytes)>,
}

impl Socket {
    /// Binds; `addr` may have port 0. With `only_v6` an IPv6 socket leaves IPv4 to another one on the same port.
    pub(crate) fn bind(addr: SocketAddr, only_v6: bool) -> Result<Self, StartError> {
        let error = |source| StartError::Bind { addr, source };
        Self::open(addr, only_v6).map_err(error)
    }

    fn open(addr: SocketAddr, only_v6: bool) -> io::Result<Self> {
        let raw =
            socket2::Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            raw.set_only_v6(only_v6)?;
        }
        raw.set_nonblocking(true)?;
        raw.bind(&addr.into())?;
        let socket = UdpSocket::from_std(raw.into())?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let local = socket.local_addr()?;
        let raw = SockRef::from(&socket);
        if let Err(error) = raw
            .set_recv_buffer_size(BUFFER)
            .and_then(|()| raw.set_send_buffer_size(BUFFER))
        {
            tracing::debug!(%error, "the system keeps its own UDP buffer sizes");
        }
        Ok(Self {
            socket,
            state,
            local,
            queue: VecDeque::new(),
        })
    }

    pub(crate) const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// Fills `inbox`, which has to be empty, with what has arrived.
    pub(crate) fn try_receive(&self, inbox: &mut Inbox) -> io::Result<()> {
        self.socket
            .try_io(Interest::READABLE, || inbox.fill(&self.socket, &self.state))
    }

    /// Queues for the next [`flush`](Self::flush).
    pub(crate) fn send(&mut self, to: SocketAddr, datagram: Bytes, metrics: &mut DiscoveryMetrics) {
        if self.queue.len() >= MAX_QUEUED {
            metrics.out_queue_full += 1;
            return;
        }
        let to = match (self.local.ip(), to.ip()) {
            (IpAddr::V6(_), IpAddr::V4(ip)) => {
                SocketAddr::new(IpAddr::V6(ip.to_ipv6_mapped()), to.port())
            }
            _ => to,
        };
        self.queue.push_back((to, datagram));
    }

    /// Sends what has been waiting, as far as the system takes it. A datagram the system refuses is lost, as any datagram may
    /// be.
    pub(crate) fn flush(&mut self, metrics: &mut DiscoveryMetrics) {
        while !self.queue.is_empty() {
            let sent = self.socket.try_io(Interest::WRITABLE, || {
                batch::send(&self.socket, &self.state, &self.queue)
            });
            match sent {
                Ok(count) => {
                    for (_, datagram) in self.queue.drain(..count.min(self.queue.len())) {
                        metrics.datagrams_out += 1;
                        metrics.bytes_out += datagram.len() as u64;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // It is about the first: an error behind it shows when that one is the first.
                Err(error) => {
                    metrics.socket_errors += 1;
                    if let Some((to, _)) = self.queue.pop_front() {
                        tracing::debug!(%to, %error, "datagram not sent");
                    }
                }
            }
        }
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
                    addr.set_port(main.local_addr().port());
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

    pub(crate) const fn local_addr(&self) -> SocketAddr {
        self.main.local_addr()
    }

    pub(crate) fn local_addr_v6(&self) -> Option<SocketAddr> {
        self.six.as_ref().map(Socket::local_addr)
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
            None => self.main.readable().await,
            Some(six) => tokio::select! {
                ready = self.main.readable() => ready,
                ready = six.readable() => ready,
            },
        }
    }

    /// Until a socket takes what waits for it.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        match &self.six {
            Some(six) if self.main.queued() == 0 => six.writable().await,
            Some(six) if six.queued() > 0 => tokio::select! {
                ready = self.main.writable() => ready,
                ready = six.writable() => ready,
            },
            _ => self.main.writable().await,
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
            match socket.try_receive(&mut self.inbox) {
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
        socket.send(to, datagram, metrics);
    }

    pub(crate) fn flush(&mut self, metrics: &mut DiscoveryMetrics) {
        self.main.flush(metrics);
        if let Some(six) = &mut self.six {
            six.flush(metrics);
        }
    }
}

#[cfg(test)]
mod tests;
