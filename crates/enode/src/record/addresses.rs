//! What a record says of where its node is, read once: every table, lookup and answer asks for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::entries::{Entry, Ip4, Ip6, Tcp, Tcp6, Udp, Udp6};
use super::layout::Layout;
use crate::address::{AddressClass, canonical_ip};
use crate::endpoint::Endpoint;

/// The entries as they are written; `None` where one is missing or malformed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) ip4: Option<Ipv4Addr>,
    pub(super) ip6: Option<Ipv6Addr>,
    pub(super) udp4: Option<u16>,
    pub(super) udp6: Option<u16>,
    pub(super) tcp4: Option<u16>,
    pub(super) tcp6: Option<u16>,
    /// What can be used of them, the better first: at most one of each family.
    pub(super) endpoints: [Option<Endpoint>; 2],
}

/// Which entries an address was read from; its ports come from the same family's.
#[derive(Clone, Copy)]
pub(super) enum Family {
    V4,
    V6,
}

impl Addresses {
    pub(super) fn read(layout: &Layout) -> Self {
        let mut addresses = Self {
            ip4: typed::<Ip4>(layout).map(|entry| entry.0),
            ip6: typed::<Ip6>(layout).map(|entry| entry.0),
            udp4: typed::<Udp>(layout).map(|entry| entry.0),
            udp6: typed::<Udp6>(layout).map(|entry| entry.0),
            tcp4: typed::<Tcp>(layout).map(|entry| entry.0),
            tcp6: typed::<Tcp6>(layout).map(|entry| entry.0),
            endpoints: [None, None],
        };
        addresses.endpoints = addresses.usable_endpoints();
        addresses
    }

    fn usable_endpoints(&self) -> [Option<Endpoint>; 2] {
        let endpoints = self.usable().map(|address| {
            let (ip, family) = address?;
            let (udp, tcp) = match family {
                Family::V4 => (self.udp4, self.tcp4),
                Family::V6 => (self.udp6.or(self.udp4), self.tcp6.or(self.tcp4)),
            };
            Some(Endpoint::new(ip, udp.unwrap_or(0), tcp.unwrap_or(0)))
        });
        // An IPv6 address may be a mapped IPv4 one; a second address of one family says nothing more.
        match endpoints {
            [Some(first), Some(second)] if first.ip.is_ipv4() == second.ip.is_ipv4() => {
                [Some(first), None]
            }
            endpoints => endpoints,
        }
    }

    /// The usable addresses, the better one first.
    pub(super) fn usable(&self) -> [Option<(IpAddr, Family)>; 2] {
        let usable = |address: &(IpAddr, Family)| usability(address.0) > 0;
        let v4 = self.ip4.map(|ip| (IpAddr::V4(ip), Family::V4));
        let v4 = v4.filter(usable);
        let v6 = self
            .ip6
            .map(|ip| (canonical_ip(IpAddr::V6(ip)), Family::V6))
            .filter(usable);
        let rank = |address: Option<(IpAddr, Family)>| address.map_or(0, |(ip, _)| usability(ip));
        if rank(v6) > rank(v4) {
            [v6, v4]
        } else {
            [v4, v6]
        }
    }
}

/// An entry, if it is there and well-formed.
fn typed<E: Entry>(layout: &Layout) -> Option<E> {
    layout.value(E::KEY).and_then(|raw| E::decode(raw).ok())
}

/// How far an address reaches, 0 for one that cannot be used. Carrier-NAT addresses rank as private: from outside the
/// carrier's network they lead nowhere.
fn usability(ip: IpAddr) -> u8 {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    match AddressClass::of(ip) {
        AddressClass::Unspecified | AddressClass::Multicast => 0,
        AddressClass::Loopback => 1,
        AddressClass::Lan if link_local => 2,
        AddressClass::Lan | AddressClass::Cgnat => 3,
        AddressClass::SpecialUse | AddressClass::Global => 4,
    }
}
