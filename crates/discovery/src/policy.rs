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
        let other = node.endpoints().nth(1)?;
        let believed = check_relay(node.endpoint().ip, other.ip).is_ok();
        (believed && self.is_usable(&other)).then_some(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tercet_enode::{Ip4, Ip6, SecretKey, Udp, Udp6};
    use tercet_machine::MachineRng;

    /// Where a node is tried that does not answer at the first of these addresses, its record naming both.
    fn other(families: Families, first: &str, second: &str) -> Option<String> {
        let key = SecretKey::generate(&mut MachineRng::from_seed([1; 32]));
        let [first, second] = [first, second].map(|ip| ip.parse::<IpAddr>().unwrap());
        let mut record = NodeRecord::builder().insert(&Udp(4)).insert(&Udp6(6));
        for ip in [first, second] {
            record = match ip {
                IpAddr::V4(ip) => record.insert(&Ip4(ip)),
                IpAddr::V6(ip) => record.insert(&Ip6(ip)),
            };
        }
        let node = Node::new(key.public_key(), Endpoint::new(first, 4, 0));
        let node = node.with_record(record.sign(&key).unwrap()).unwrap();
        let policy = Policy::new(NodeId::from([0; 32]), None, families);
        let other = policy.other(&node);
        other.map(|other| other.udp_addr().to_string())
    }

    #[test]
    fn a_node_is_tried_at_its_address_of_the_other_family_if_that_is_no_nearer() {
        let cases = [
            ("20.0.0.1", "2a00::1", Some("[2a00::1]:6")),
            ("2a00::1", "20.0.0.1", Some("20.0.0.1:4")),
            ("10.0.0.1", "fd00::1", Some("[fd00::1]:6")),
            ("127.0.0.1", "::1", Some("[::1]:6")),
            ("::1", "127.0.0.1", Some("127.0.0.1:4")),
            // Into the private network, or this machine, of whoever believes it.
            ("20.0.0.1", "fd00::1", None),
            ("20.0.0.1", "fe80::1", None),
            ("2a00::1", "10.0.0.1", None),
            ("fd00::1", "127.0.0.1", None),
            ("10.0.0.1", "::1", None),
            // No address of a host, or none of the other family: IPv4 in another form.
            ("20.0.0.1", "::", None),
            ("20.0.0.1", "ff02::1", None),
            ("20.0.0.1", "::ffff:20.0.0.2", None),
        ];
        for (first, second, expected) in cases {
            let tried = other(Families::BOTH, first, second);
            assert_eq!(tried.as_deref(), expected, "{first} {second}");
        }
        let alone = Families::of("20.0.0.1".parse().unwrap());
        assert_eq!(other(alone, "20.0.0.1", "2a00::1"), None);
    }
}
