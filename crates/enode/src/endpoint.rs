//! Where a node can be reached. Choosing one address among several is in `record`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::address::canonical_ip;

/// An address with the ports of both transports; a port of 0 means "not served".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address, never an IPv4-mapped IPv6 one if made by [`Endpoint::new`].
    pub ip: IpAddr,
    /// Discovery (UDP).
    pub udp: u16,
    /// RLPx (TCP).
    pub tcp: u16,
}

impl Endpoint {
    /// An endpoint; an IPv4-mapped IPv6 address becomes the IPv4 address it stands for.
    #[must_use]
    pub fn new(ip: IpAddr, udp: u16, tcp: u16) -> Self {
        Self {
            ip: canonical_ip(ip),
            udp,
            tcp,
        }
    }

    /// The address for datagrams. Its port is 0 if the node does not take part in discovery.
    #[must_use]
    pub fn udp_addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.udp)
    }

    /// The address to dial, if the node has a TCP port.
    #[must_use]
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        (self.tcp != 0).then(|| SocketAddr::new(self.ip, self.tcp))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Endpoint({}, udp {}, tcp {})",
            self.ip, self.udp, self.tcp
        )
    }
}
