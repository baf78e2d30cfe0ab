//! Which addresses this node sends to and which it believes; one set of rules for both protocols.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tercet_enode::{Endpoint, Node, NodeId, NodeRecord, check_relay};

use crate::core::RequestError;

/// UDP ports of relayed nodes lie above this (geth): the ones below belong to services we should not be made to talk to.
const MAX_RESERVED_PORT: u16 = 1024;

/// The IP families for which there is a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl Families {
    /// Both.
    pub const BOTH: Self = Self { v4: true, v6: true };

    /// The family of one address.
    #[must_use]
    pub const fn of(ip: IpAddr) -> Self {
        Self {
            v4: ip.is_ipv4(),
            v6: ip.is_ipv6(),
        }
    }

    /// Whether packets can be sent to `ip`.
    #[must_use]
    pub const fn reach(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(_) => self.v4,
            IpAddr::V6(_) => self.v6,
        }
    }
}

/// See the module's documentation. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    own: NodeId,
    netrestrict: Option<Arc<[IpNet]>>,
    families: Families,
}

impl Policy {
    pub(crate) fn new(own: NodeId, netrestrict: Option<&[IpNet]>, families: Families) -> Self {
        Self {
            own,
            netrestrict: netrestrict.map(Arc::from),
            families,
        }
    }

    /// Whether contact with `ip` is permitted.
    pub(crate) fn permits(&self, ip: IpAddr) -> bool {
        self.netrestrict
            .as_ref()
            .is_none_or(|nets| nets.iter().any(|net| net.contains(&ip)))
    }

    /// The node at the address of a family that can be reached, if its record names one where `node` does not.
    pub(crate) fn reachable(&self, node: Node) -> Node {
        let mut endpoints = node.endpoints();
        match endpoints.find(|endpoint| self.families.reach(endpoint.ip)) {
            Some(endpoint) => node.with_endpoint(endpoint),
            None => node,
        }
    }

    /// Whether packets may be sent to a node.
    pub(crate) fn usable(&self, node: &Node) -> Result<(), RequestError> {
        if node.id() == self.own {
            Err(RequestError::Own)
        } else if self.is_usable(node.endpoint()) {
            Ok(())
        } else {
            Err(RequestError::NoAddress)
        }
    }

    fn is_usable(&self, endpoint: &Endpoint) -> bool {
        endpoint.udp != 0
            && !endpoint.ip.is_unspecified()
            && !endpoint.ip.is_multicast()
            && self.families.reach(endpoint.ip)
            && self.permits(endpoint.ip)
    }

    /// Whether an address somebody at `sender` names may be used.
    pub(crate) fn is_relayable(&self, sender: IpAddr, node: &Node) -> bool {
        let endpoint = node.endpoint();
        endpoint.udp > MAX_RESERVED_PORT
            && check_relay(sender, endpoint.ip).is_ok()
            && self.usable(node).is_ok()
    }

    /// The node a record describes, at the address of a family that can be reached: the one every client would choose, or
    /// else the other.
    pub(crate) fn node(&self, record: NodeRecord) -> Option<Node> {
        let node = Node::from_record(record)?;
        if self.families.reach(node.endpoint().ip) {
            return Some(node);
        }
        let other = self.other(&node)?;
        Some(node.with_endpoint(other))
    }

    /// The address a node's record names in the other family than its present one, if packets may be sent there.
    pub(crate) fn other(&self, node: &Node) -> Option<Endpoint> {
        let record = node.record()?;
        let endpoint = match node.endpoint().ip {
            IpAddr::V4(_) => Endpoint::new(
                IpAddr::V6(record.ip6()?),
                record.udp6().or(record.udp4())?,
                record.tcp6().or(record.tcp4()).unwrap_or(0),
            ),
            IpAddr::V6(_) => Endpoint::new(
                IpAddr::V4(record.ip4()?),
                record.udp4()?,
                record.tcp4().unwrap_or(0),
            ),
        };
        let believed = check_relay(node.endpoint().ip, endpoint.ip).is_ok();
        (believed && self.is_usable(&endpoint)).then_some(endpoint)
    }
}
