//! A bound socket: read by the driver, written by it and by the thread that sends its bursts.
//!
//! With the runtime it is registered for reading alone. Registered for writing too, it would wake the driver for every datagram the
//! thread sends, to tell it that there is room for another one; that costs more than sending does.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use quinn_udp::{UdpSockRef, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockRef, Type};
use tokio::io::Interest;

use super::batch::{self, Inbox};
use super::egress::Wire;
use super::queue::Queue;

#[cfg(unix)]
type Registered = tokio::io::unix::AsyncFd<std::net::UdpSocket>;
#[cfg(not(unix))]
type Registered = tokio::net::UdpSocket;

#[cfg(unix)]
pub(super) type Plain = std::net::UdpSocket;
#[cfg(not(unix))]
pub(super) type Plain = tokio::net::UdpSocket;

/// System buffers asked for: some 800 of the largest datagrams, to survive a pause of the driver. The system may grant less.
const BUFFER: usize = 1 << 20;

/// How long the thread waits at a time for a system that takes nothing.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: Duration::from_millis(100).subsec_nanos() as _,
};

#[derive(Debug)]
pub(super) struct Port {
    registered: Registered,
    state: UdpSocketState,
    local: SocketAddr,
}

impl Port {
    /// Binds; `addr` may have port 0. With `only_v6` an IPv6 socket leaves IPv4 to another one on the same port.
    pub(super) fn bind(addr: SocketAddr, only_v6: bool) -> io::Result<Self> {
        let raw =
            socket2::Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            raw.set_only_v6(only_v6)?;
        }
        raw.set_nonblocking(true)?;
        raw.bind(&addr.into())?;
        let socket: std::net::UdpSocket = raw.into();
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
            registered: register(socket)?,
            state,
            local,
        })
    }

    pub(super) const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    #[cfg(unix)]
    fn plain(&self) -> &Plain {
        self.registered.get_ref()
    }

    #[cfg(not(unix))]
    const fn plain(&self) -> &Plain {
        &self.registered
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        // What is ready stays so until a read finds nothing.
        self.registered.readable().await.map(drop)
    }

    /// Fills `inbox`, which has to be empty, with what has arrived.
    pub(super) fn try_receive(&self, inbox: &mut Inbox) -> io::Result<()> {
        #[cfg(unix)]
        let read = self
            .registered
            .try_io(Interest::READABLE, |socket| inbox.fill(socket, &self.state));
        #[cfg(not(unix))]
        let read = self.registered.try_io(Interest::READABLE, || {
            inbox.fill(&self.registered, &self.state)
        });
        read
    }
}

#[cfg(unix)]
#[allow(deprecated)] // for what owns no descriptor, or changes it; a socket of the standard library owns the one it has
fn register(socket: std::net::UdpSocket) -> io::Result<Registered> {
    Registered::with_interest(socket, Interest::READABLE)
}

#[cfg(not(unix))]
fn register(socket: std::net::UdpSocket) -> io::Result<Registered> {
    Registered::from_std(socket)
}

impl Wire for Port {
    fn send(&self, queue: &Queue) -> io::Result<usize> {
        batch::send(self.plain(), &self.state, queue)
    }

    fn wait(&self) -> bool {
        let mut fds = [PollFd::new(self.plain(), PollFlags::OUT)];
        // An error shows when something is sent.
        !matches!(poll(&mut fds, Some(&PATIENCE)), Ok(0))
    }
}
