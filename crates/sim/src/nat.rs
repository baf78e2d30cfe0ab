//! Network address translators, of the kinds that decide whether two nodes can talk (RFC 4787 names in the docs of
//! [`NatKind`]).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tercet_machine::MonoTime;

/// How a NAT maps and filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NatKind {
    /// One public port for each node, open to everyone (endpoint-independent mapping and filtering).
    FullCone,
    /// One public port for each node, open to addresses it has sent to (address-dependent filtering).
    RestrictedCone,
    /// One public port for each node, open to addresses and ports it has sent to.
    PortRestricted,
    /// A public port for each destination, open to that destination (address and port-dependent mapping).
    Symmetric,
}

/// How long a mapping lives after the last datagram from inside: the least RFC 4787 allows.
const MAPPING_LIFETIME: Duration = Duration::from_secs(120);
/// The first public port given out: those up to 1024 are taken for a system's own by many a protocol.
const FIRST_PORT: u16 = 1025;

/// A translator with one public address.
#[derive(Debug, Clone)]
pub(crate) struct Nat {
    pub(crate) ip: IpAddr,
    kind: NatKind,
    next_port: u16,
    /// From the inside, and the destination if each has its own, to the public port.
    ports: BTreeMap<(SocketAddr, Option<SocketAddr>), u16>,
    mappings: BTreeMap<u16, Mapping>,
}

#[derive(Debug, Clone)]
struct Mapping {
    inside: (SocketAddr, Option<SocketAddr>),
    ends: MonoTime,
    /// Whom the inside has sent to, and until when they may answer.
    allowed: BTreeMap<SocketAddr, MonoTime>,
}

impl Nat {
    pub(crate) fn new(ip: IpAddr, kind: NatKind) -> Self {
        Self {
            ip,
            kind,
            next_port: FIRST_PORT,
            ports: BTreeMap::new(),
            mappings: BTreeMap::new(),
        }
    }

    pub(crate) const fn set_kind(&mut self, kind: NatKind) {
        self.kind = kind;
    }

    /// The public source of a datagram from `inside` to `to`; opens the way back. `None` when all ports are taken.
    pub(crate) fn outbound(
        &mut self,
        now: MonoTime,
        inside: SocketAddr,
        to: SocketAddr,
    ) -> Option<SocketAddr> {
        let key = (inside, (self.kind == NatKind::Symmetric).then_some(to));
        let live = |port: &&u16| self.mappings.get(*port).is_some_and(|m| m.ends > now);
        let port = match self.ports.get(&key).filter(live) {
            Some(port) => *port,
            None => self.open(now, key)?,
        };
        let ends = now + MAPPING_LIFETIME;
        let mapping = self.mappings.get_mut(&port)?;
        mapping.ends = ends;
        mapping.allowed.retain(|_, until| *until > now);
        mapping.allowed.insert(to, ends);
        Some(SocketAddr::new(self.ip, port))
    }

    /// The node behind public `port` that a datagram from `from` reaches, if it is let in.
    pub(crate) fn inbound(&self, now: MonoTime, port: u16, from: SocketAddr) -> Option<SocketAddr> {
        let mapping = self
            .mappings
            .get(&port)
            .filter(|mapping| mapping.ends > now)?;
        let live = || mapping.allowed.iter().filter(|(_, until)| **until > now);
        let allowed = match self.kind {
            NatKind::FullCone => true,
            NatKind::RestrictedCone => live().any(|(to, _)| to.ip() == from.ip()),
            NatKind::PortRestricted | NatKind::Symmetric => live().any(|(to, _)| *to == from),
        };
        allowed.then_some(mapping.inside.0)
    }

    fn open(&mut self, now: MonoTime, key: (SocketAddr, Option<SocketAddr>)) -> Option<u16> {
        // Ports are given out in turn, so that a new mapping never gets the port of one that has just ended.
        for _ in FIRST_PORT..=u16::MAX {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
            if self
                .mappings
                .get(&port)
                .is_some_and(|mapping| mapping.ends > now)
            {
                continue;
            }
            let mapping = Mapping {
                inside: key,
                ends: now,
                allowed: BTreeMap::new(),
            };
            if let Some(ended) = self.mappings.insert(port, mapping)
                && self.ports.get(&ended.inside) == Some(&port)
            {
                self.ports.remove(&ended.inside);
            }
            self.ports.insert(key, port);
            return Some(port);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// After one datagram to `10.0.0.1:1`: can it, its other port, and another host answer?
    fn answers(kind: NatKind) -> (bool, bool, bool) {
        let mut nat = Nat::new([9, 9, 9, 9].into(), kind);
        let now = MonoTime::ZERO;
        let public = nat
            .outbound(now, addr("192.168.0.2:30303"), addr("10.0.0.1:1"))
            .unwrap();
        let reached = |from: &str| {
            let inside = nat.inbound(now, public.port(), addr(from));
            assert!(inside.is_none_or(|inside| inside == addr("192.168.0.2:30303")));
            inside.is_some()
        };
        (
            reached("10.0.0.1:1"),
            reached("10.0.0.1:2"),
            reached("10.0.0.2:1"),
        )
    }

    #[test]
    fn each_kind_lets_in_whom_it_should() {
        assert_eq!(answers(NatKind::FullCone), (true, true, true));
        assert_eq!(answers(NatKind::RestrictedCone), (true, true, false));
        assert_eq!(answers(NatKind::PortRestricted), (true, false, false));
        assert_eq!(answers(NatKind::Symmetric), (true, false, false));
    }

    #[test]
    fn only_a_symmetric_nat_has_a_port_for_each_destination() {
        for kind in [
            NatKind::FullCone,
            NatKind::PortRestricted,
            NatKind::Symmetric,
        ] {
            let mut nat = Nat::new([9, 9, 9, 9].into(), kind);
            let mut port = |inside, to| {
                nat.outbound(MonoTime::ZERO, addr(inside), addr(to))
                    .unwrap()
            };
            let first = port("192.168.0.2:1", "10.0.0.1:1");
            assert_eq!(
                first == port("192.168.0.2:1", "10.0.0.2:1"),
                kind != NatKind::Symmetric
            );
            assert_eq!(first, port("192.168.0.2:1", "10.0.0.1:1"));
            assert_ne!(first, port("192.168.0.3:1", "10.0.0.1:1"));
        }
    }

    #[test]
    fn mappings_end_when_nothing_is_sent_for_their_lifetime() {
        let mut nat = Nat::new([9, 9, 9, 9].into(), NatKind::FullCone);
        let (inside, to) = (addr("192.168.0.2:1"), addr("10.0.0.1:1"));
        let public = nat.outbound(MonoTime::ZERO, inside, to).unwrap();
        assert!(
            nat.inbound(MonoTime::from_secs(119), public.port(), to)
                .is_some()
        );
        assert!(
            nat.inbound(MonoTime::from_secs(120), public.port(), to)
                .is_none()
        );
        let again = nat.outbound(MonoTime::from_secs(130), inside, to).unwrap();
        assert_ne!(public, again);
    }

    #[test]
    fn ports_run_out_and_come_back() {
        let mut nat = Nat::new([9, 9, 9, 9].into(), NatKind::Symmetric);
        let inside = addr("192.168.0.2:1");
        let to = |n: u32| SocketAddr::new(IpAddr::from(n.to_be_bytes()), 1);
        let ports = u32::from(u16::MAX - FIRST_PORT) + 1;
        for n in 0..ports {
            assert!(nat.outbound(MonoTime::ZERO, inside, to(n)).is_some());
        }
        assert_eq!(nat.outbound(MonoTime::ZERO, inside, to(ports)), None);
        assert!(
            nat.outbound(MonoTime::from_secs(120), inside, to(ports))
                .is_some()
        );
        assert!(nat.ports.len() <= ports as usize && nat.mappings.len() <= ports as usize);
    }
}
