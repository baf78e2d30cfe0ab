//! Counting addresses by subnet. A host commands all of its IPv6 /64, often a /48, so single addresses prove nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::hash::{KeyedMap, KeyedState, shrink};

/// The part of an address that limits count by. IPv4-mapped IPv6 addresses count as the IPv4 address inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subnet {
    /// An IPv4 /24.
    V4([u8; 3]),
    /// An IPv6 /64, what one host usually has.
    V6([u8; 8]),
    /// An IPv6 /48, what one site usually has.
    V6Wide([u8; 6]),
}

impl Subnet {
    /// The /24 of an IPv4 address, the /64 of an IPv6 one.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }

    /// The /24 of an IPv4 address, the /48 of an IPv6 one.
    #[must_use]
    pub fn wide(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, ..] = ip.octets();
                Self::V6Wide([a, b, c, d, e, f])
            }
        }
    }

    fn of_v4(ip: Ipv4Addr) -> Self {
        let [a, b, c, _] = ip.octets();
        Self::V4([a, b, c])
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::V4([a, b, c]) => write!(f, "{a}.{b}.{c}.0/24"),
            Self::V6([a, b, c, d, e, g, h, i]) => {
                let ip = Ipv6Addr::from([a, b, c, d, e, g, h, i, 0, 0, 0, 0, 0, 0, 0, 0]);
                write!(f, "{ip}/64")
            }
            Self::V6Wide([a, b, c, d, e, g]) => {
                let ip = Ipv6Addr::from([a, b, c, d, e, g, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                write!(f, "{ip}/48")
            }
        }
    }
}

/// How many addresses may be counted in one subnet of each size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubnetQuota {
    /// In an IPv4 /24.
    pub v4: u32,
    /// In an IPv6 /64.
    pub v6: u32,
    /// In an IPv6 /48.
    pub v6_wide: u32,
}

impl SubnetQuota {
    /// The same number for each size.
    #[must_use]
    pub const fn same(limit: u32) -> Self {
        Self {
            v4: limit,
            v6: limit,
            v6_wide: limit,
        }
    }

    fn of(&self, subnet: Subnet) -> u32 {
        match subnet {
            Subnet::V4(_) => self.v4,
            Subnet::V6(_) => self.v6,
            Subnet::V6Wide(_) => self.v6_wide,
        }
    }
}

/// Counts addresses per subnet and refuses those above the quota; an IPv6 address must find room in its /64 and in its /48.
/// Whether an address is exempt (loopback, LAN) is the caller's to decide before asking. Memory: at most two counters an
/// address counted, given back when it is removed.
///
/// ```
/// use tercet_machine::{KeyedState, MachineRng, SubnetLimit, SubnetQuota};
/// let state = KeyedState::new(&mut MachineRng::from_seed([1; 32]));
/// let mut limit = SubnetLimit::new(SubnetQuota::same(1), state);
/// assert!(limit.insert([192, 0, 2, 1].into()));
/// assert!(!limit.insert([192, 0, 2, 2].into()));
/// limit.remove([192, 0, 2, 1].into());
/// assert!(limit.insert([192, 0, 2, 2].into()));
/// ```
#[derive(Debug, Clone)]
pub struct SubnetLimit {
    quota: SubnetQuota,
    counts: KeyedMap<Subnet, u32>,
}

impl SubnetLimit {
    /// Nothing counted.
    #[must_use]
    pub fn new(quota: SubnetQuota, state: KeyedState) -> Self {
        Self {
            quota,
            counts: KeyedMap::with_hasher(state),
        }
    }

    /// Counts `ip`; `false`, and nothing is counted, if one of its subnets is full.
    pub fn insert(&mut self, ip: IpAddr) -> bool {
        if !self.has_room(ip) {
            return false;
        }
        for subnet in subnets(ip) {
            *self.counts.entry(subnet).or_default() += 1;
        }
        true
    }

    /// Whether [`insert`](Self::insert) would count `ip`.
    #[must_use]
    pub fn has_room(&self, ip: IpAddr) -> bool {
        subnets(ip).all(|subnet| self.count(subnet) < self.quota.of(subnet))
    }

    /// Takes back one [`insert`](Self::insert) of an address in the same subnets; `false` if there was none.
    pub fn remove(&mut self, ip: IpAddr) -> bool {
        if subnets(ip).any(|subnet| self.count(subnet) == 0) {
            return false;
        }
        for subnet in subnets(ip) {
            if let Some(count) = self.counts.get_mut(&subnet) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&subnet);
                    shrink(&mut self.counts);
                }
            }
        }
        true
    }

    /// How many addresses are counted in `subnet`.
    #[must_use]
    pub fn count(&self, subnet: Subnet) -> u32 {
        self.counts.get(&subnet).copied().unwrap_or(0)
    }

    /// Whether nothing is counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

/// The one subnet of an IPv4 address, the two of an IPv6 one.
fn subnets(ip: IpAddr) -> impl Iterator<Item = Subnet> {
    let (narrow, wide) = (Subnet::of(ip), Subnet::wide(ip));
    std::iter::once(narrow).chain((wide != narrow).then_some(wide))
}
