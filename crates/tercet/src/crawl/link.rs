//! A crawl's UDP sockets: one for each kind of address, read and written without waiting.
#![allow(clippy::disallowed_methods)] // a driver: it owns the sockets

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Bytes, BytesMut};
use socket2::{Domain, Protocol, SockRef, Type};
use tercet_discovery::Families;
use tercet_enode::canonical_ip;
use tokio::net::UdpSocket;

/// Longest packet of either protocol.
const MAX_PACKET: usize = 1280;

/// Datagrams read from a socket before others have their turn.
pub(super) const BATCH: usize = 64;

/// Datagrams that wait until the system takes them: 1.3 MB at most. Further ones are lost, as they would be on the way.
const MAX_QUEUED: usize = 1024;

/// System buffers asked for. A full window of answers is 512 nodes with two packets each; the system may grant less.
const BUFFER: usize = 1 << 20;

/// Bytes and datagrams on the wire, without the headers below UDP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Traffic {
    pub(crate) sent: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) received: u64,
    pub(crate) received_bytes: u64,
    /// Datagrams the system did not take.
    pub(crate) lost: u64,
}

#[derive(Debug)]
struct Socket {
    socket: UdpSocket,
    local: SocketAddr,
    queue: VecDeque<(SocketAddr, Bytes)>,
}

/// One socket or two.
#[derive(Debug)]
pub(crate) struct Link {
    first: Socket,
    other: Option<Socket>,
    traffic: Traffic,
}

impl Link {
    /// A socket at `addr` alone; or, without one, any port towards `first`, and where it can be had one for the other kind of
    /// address. Towards this machine only its loopback is opened.
    pub(crate) fn open(addr: Option<SocketAddr>, first: IpAddr) -> io::Result<Self> {
        let (first, other) = match addr {
            Some(addr) => (Socket::bind(addr)?, None),
            None => {
                let (v4, v6): (IpAddr, IpAddr) = if first.is_loopback() {
                    (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into())
                } else {
                    (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into())
                };
                let (first, other) = if first.is_ipv4() { (v4, v6) } else { (v6, v4) };
                let first = Socket::bind(SocketAddr::new(first, 0))?;
                // Many machines have no IPv6; that is no failure.
                let other = Socket::bind(SocketAddr::new(other, 0)).ok();
                (first, other)
            }
        };
        let traffic = Traffic::default();
        Ok(Self {
            first,
            other,
            traffic,
        })
    }

    /// The address of the first socket.
    pub(crate) fn local(&self) -> SocketAddr {
        self.first.local
    }

    /// The kinds of address that can be reached.
    pub(crate) fn families(&self) -> Families {
        let mut all = self.sockets().map(|socket| Families::of(socket.local.ip()));
        let first = all.next().unwrap_or(Families::BOTH);
        all.fold(first, |a, b| Families {
            v4: a.v4 || b.v4,
            v6: a.v6 || b.v6,
        })
    }

    /// What went over the wire so far.
    pub(crate) fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Sends a datagram, now or as soon as the system takes it.
    pub(crate) fn send(&mut self, to: SocketAddr, datagram: Bytes) {
        let is_other = self.first.local.is_ipv4() != to.is_ipv4();
        let socket = if is_other {
            self.other.as_mut()
        } else {
            Some(&mut self.first)
        };
        let taken = socket.is_some_and(|socket| socket.send(to, &datagram));
        if taken {
            self.traffic.sent += 1;
            self.traffic.sent_bytes += datagram.len() as u64;
        } else {
            self.traffic.lost += 1;
        }
    }

    /// Waits until there is something to read, or room to write what waits.
    pub(crate) async fn ready(&self) {
        let other = async {
            match &self.other {
                Some(socket) => socket.ready().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.first.ready() => {}
            () = other => {}
        }
    }

    /// Writes what waits, and reads a batch. Says whether there may be more to be read.
    pub(crate) fn exchange(&mut self, mut take: impl FnMut(SocketAddr, BytesMut)) -> bool {
        let mut more = false;
        for socket in std::iter::once(&mut self.first).chain(&mut self.other) {
            while let Some((to, datagram)) = socket.queue.pop_front() {
                if !socket.try_send(to, &datagram) {
                    socket.queue.push_front((to, datagram));
                    break;
                }
            }
            // One byte more than a packet may have, so that a longer datagram is not cut to a good one.
            let mut buffer = [0; MAX_PACKET + 1];
            for read in 1..=BATCH {
                let Ok((len, from)) = socket.socket.try_recv_from(&mut buffer) else {
                    break;
                };
                more |= read == BATCH;
                let datagram = BytesMut::from(buffer.get(..len).unwrap_or_default());
                self.traffic.received += 1;
                self.traffic.received_bytes += len as u64;
                take(
                    SocketAddr::new(canonical_ip(from.ip()), from.port()),
                    datagram,
                );
            }
        }
        more
    }

    fn sockets(&self) -> impl Iterator<Item = &Socket> {
        std::iter::once(&self.first).chain(&self.other)
    }
}

impl Socket {
    fn bind(addr: SocketAddr) -> io::Result<Self> {
        let raw =
            socket2::Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            raw.set_only_v6(true)?;
        }
        raw.set_nonblocking(true)?;
        raw.bind(&addr.into())?;
        let socket = UdpSocket::from_std(raw.into())?;
        let buffers = SockRef::from(&socket);
        if let Err(error) = buffers
            .set_recv_buffer_size(BUFFER)
            .and_then(|()| buffers.set_send_buffer_size(BUFFER))
        {
            tracing::debug!(%error, "the sockets keep the system's own buffers");
        }
        Ok(Self {
            local: socket.local_addr()?,
            socket,
            queue: VecDeque::new(),
        })
    }

    async fn ready(&self) {
        let interest = if self.queue.is_empty() {
            tokio::io::Interest::READABLE
        } else {
            tokio::io::Interest::READABLE | tokio::io::Interest::WRITABLE
        };
        // A socket that fails shows it by never being read from again.
        if let Err(error) = self.socket.ready(interest).await {
            tracing::warn!(%error, "the socket failed");
            std::future::pending::<()>().await;
        }
    }

    /// Whether the datagram was sent or waits.
    fn send(&mut self, to: SocketAddr, datagram: &Bytes) -> bool {
        if self.queue.is_empty() && self.try_send(to, datagram) {
            return true;
        }
        let room = self.queue.len() < MAX_QUEUED;
        if room {
            self.queue.push_back((to, datagram.clone()));
        }
        room
    }

    /// `false` if the system has no room. What it refuses for another reason (no route) counts as sent: nobody will answer.
    fn try_send(&self, to: SocketAddr, datagram: &[u8]) -> bool {
        let sent = self.socket.try_send_to(datagram, to);
        !matches!(sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}
