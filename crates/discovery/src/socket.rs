//! The UDP socket with its bounded queue. A full system buffer never blocks the driver: what does not fit waits here, and
//! what does not fit here is dropped, as the network would.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use tercet_enode::canonical_ip;
use tokio::net::UdpSocket;

use crate::error::StartError;
use crate::metrics::DiscoveryMetrics;

/// Datagrams waiting to be sent: `1024 × 1280 = 1.3 MB` at most.
pub const MAX_QUEUED: usize = 1024;

/// System buffers asked for: some 800 of the largest datagrams, to survive a pause of the driver. The system may grant less.
const BUFFER: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Socket {
    socket: UdpSocket,
    local: SocketAddr,
    queue: VecDeque<(SocketAddr, Bytes)>,
}

impl Socket {
    /// Binds; `addr` may have port 0.
    pub(crate) async fn bind(addr: SocketAddr) -> Result<Self, StartError> {
        let error = |source| StartError::Bind { addr, source };
        let socket = UdpSocket::bind(addr).await.map_err(error)?;
        let local = socket.local_addr().map_err(error)?;
        let raw = socket2::SockRef::from(&socket);
        if let Err(error) = raw
            .set_recv_buffer_size(BUFFER)
            .and_then(|()| raw.set_send_buffer_size(BUFFER))
        {
            tracing::debug!(%error, "the system keeps its own UDP buffer sizes");
        }
        Ok(Self {
            socket,
            local,
            queue: VecDeque::new(),
        })
    }

    pub(crate) const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    pub(crate) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// A datagram that has arrived, if there is one. IPv4 senders on an IPv6 socket appear under their IPv4 address.
    pub(crate) fn try_receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (len, from) = self.socket.try_recv_from(buffer)?;
        Ok((len, SocketAddr::new(canonical_ip(from.ip()), from.port())))
    }

    /// Sends now or queues.
    pub(crate) fn send(&mut self, to: SocketAddr, datagram: Bytes, metrics: &mut DiscoveryMetrics) {
        if self.queue.is_empty() && self.try_send(to, &datagram, metrics) {
            return;
        }
        if self.queue.len() < MAX_QUEUED {
            self.queue.push_back((to, datagram));
        } else {
            metrics.out_queue_full += 1;
        }
    }

    /// Sends what has been waiting, as far as the system takes it.
    pub(crate) fn flush(&mut self, metrics: &mut DiscoveryMetrics) {
        while let Some((to, datagram)) = self.queue.pop_front() {
            if !self.try_send(to, &datagram, metrics) {
                self.queue.push_front((to, datagram));
                return;
            }
        }
    }

    /// `false` if the system has no room now. An error loses the datagram, as any datagram may be lost.
    fn try_send(&self, to: SocketAddr, datagram: &Bytes, metrics: &mut DiscoveryMetrics) -> bool {
        let to = match (self.local.ip(), to.ip()) {
            (IpAddr::V6(_), IpAddr::V4(ip)) => {
                SocketAddr::new(IpAddr::V6(ip.to_ipv6_mapped()), to.port())
            }
            _ => to,
        };
        match self.socket.try_send_to(datagram, to) {
            Ok(sent) => {
                metrics.datagrams_out += 1;
                metrics.bytes_out += sent as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) => {
                metrics.socket_errors += 1;
                tracing::debug!(%to, %error, "datagram not sent");
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_the_queue_is_dropped_and_counted() {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = receiver.local_addr().unwrap();
        let mut socket = Socket::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let mut metrics = DiscoveryMetrics::default();
        // As if the system had refused one: everything behind it has to wait.
        socket.queue.push_back((to, Bytes::from_static(b"first")));
        for _ in 0..MAX_QUEUED + 9 {
            socket.send(to, Bytes::from_static(b"more"), &mut metrics);
        }
        assert_eq!(
            (socket.queue.len(), metrics.out_queue_full),
            (MAX_QUEUED, 10)
        );
        while socket.has_queued() {
            socket.writable().await.unwrap();
            socket.flush(&mut metrics);
        }
        assert_eq!(
            (metrics.datagrams_out, metrics.socket_errors),
            (MAX_QUEUED as u64, 0)
        );
        let mut buffer = [0; 16];
        let (len, from) = receiver.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..len], from), (&b"first"[..], socket.local_addr()));
    }

    #[tokio::test]
    async fn a_socket_for_both_families_shows_ipv4_senders_as_such() {
        let Ok(socket) = Socket::bind("[::]:0".parse().unwrap()).await else {
            println!("skipped: this machine has no IPv6");
            return;
        };
        let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().port();
        if sender.send_to(b"hello", ("127.0.0.1", port)).await.is_err() {
            println!("skipped: IPv6 sockets do not take IPv4 here");
            return;
        }
        let mut buffer = [0; 16];
        let (len, from) = loop {
            socket.readable().await.unwrap();
            match socket.try_receive(&mut buffer) {
                Ok(received) => break received,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        };
        assert_eq!(
            (&buffer[..len], from),
            (&b"hello"[..], sender.local_addr().unwrap())
        );
        let mut socket = socket;
        socket.send(
            from,
            Bytes::from_static(b"back"),
            &mut DiscoveryMetrics::default(),
        );
        let (len, _) = sender.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..len], b"back");
    }
}
