//! A bound socket: read by the driver or by the thread beside it, written by the same and by the thread that sends its bursts.
//!
//! With the runtime it is registered for reading alone. Registered for writing too, it would wake the driver for every datagram the
//! thread sends, to tell it that there is room for another one; that costs more than sending does.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn_udp::{UdpSockRef, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockRef, Type};
use tokio::io::Interest;

use super::batch::{self, Inbox};
use super::cores::Cores;
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
    /// Held by who reads until what he has read is in its place, so that nobody overtakes him with what arrived later.
    reading: Mutex<()>,
}

impl Port {
    /// Binds; `addr` may have port 0. With `only_v6` an IPv6 socket leaves IPv4 to another one on the same port.
    pub(super) fn bind(addr: SocketAddr, only_v6: bool) -> io::Result<Self> {
        let raw = unbound(addr)?;
        if addr.is_ipv6() {
            raw.set_only_v6(only_v6)?;
        }
        Self::bound(raw, addr)
    }

    /// A second socket on the same port. The system gives what arrives on the first core to this one, on the second to the new one, and
    /// elsewhere to either, always the same for a sender. Before Linux 6.2 it does so with everything.
    ///
    /// # Errors
    /// Where the system cannot do that.
    #[cfg(target_os = "linux")]
    pub(super) fn beside(&self, cores: Cores) -> io::Result<Self> {
        let first = SockRef::from(self.plain());
        let raw = unbound(self.local)?;
        if self.local.is_ipv6() {
            raw.set_only_v6(first.only_v6()?)?;
        }
        // Only now: bound alone, the first one has found out whether the port is taken.
        first.set_reuse_port(true)?;
        raw.set_reuse_port(true)?;
        first.set_cpu_affinity(cores.first)?;
        raw.set_cpu_affinity(cores.second)?;
        Self::bound(raw, self.local)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn beside(&self, _: Cores) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn bound(raw: socket2::Socket, addr: SocketAddr) -> io::Result<Self> {
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
            reading: Mutex::new(()),
        })
    }

    pub(super) const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    #[cfg(unix)]
    pub(super) fn plain(&self) -> &Plain {
        self.registered.get_ref()
    }

    #[cfg(not(unix))]
    pub(super) const fn plain(&self) -> &Plain {
        &self.registered
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        // What is ready stays so until a read finds nothing.
        self.registered.readable().await.map(drop)
    }

    /// Fills `inbox`, which has to be empty, with what has arrived, and enters. Nobody else reads until that has happened.
    pub(super) fn receive<T>(&self, inbox: &mut Inbox, enter: impl FnOnce() -> T) -> io::Result<T> {
        let _reading = self.begin();
        #[cfg(unix)]
        self.registered
            .try_io(Interest::READABLE, |socket| inbox.fill(socket, &self.state))?;
        #[cfg(not(unix))]
        self.registered.try_io(Interest::READABLE, || {
            inbox.fill(&self.registered, &self.state)
        })?;
        Ok(enter())
    }

    /// As [`receive`](Self::receive), for who is not the one that waits for the socket.
    pub(super) fn receive_for_other<T>(
        &self,
        inbox: &mut Inbox,
        enter: impl FnOnce() -> T,
    ) -> io::Result<T> {
        let _reading = self.begin();
        inbox.fill(self.plain(), &self.state)?;
        Ok(enter())
    }

    #[cfg(test)]
    pub(super) fn is_read(&self) -> bool {
        self.reading.try_lock().is_err()
    }

    fn begin(&self) -> MutexGuard<'_, ()> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unbound(addr: SocketAddr) -> io::Result<socket2::Socket> {
    let raw = socket2::Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    raw.set_nonblocking(true)?;
    Ok(raw)
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
