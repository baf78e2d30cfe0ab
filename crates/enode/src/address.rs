//! What kind of address an IP is, and which addresses one node may tell another about.
//! Subnets and limits per subnet are left to `tercet-machine`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is good for. IPv4-mapped IPv6 addresses are classified as the IPv4 address inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// `0.0.0.0` or `::`.
    Unspecified,
    /// `127.0.0.0/8` or `::1`.
    Loopback,
    /// A private network: RFC 1918, unique local IPv6 (`fc00::/7`) and link-local addresses.
    Lan,
    /// `100.64.0.0/10`, the space between a carrier's NAT and its customers (RFC 6598). Not reachable from the
    /// Internet, and not one LAN either.
    Cgnat,
    /// Reserved for documentation, benchmarks, tunnels and the like (IANA special-purpose registries), and IPv4
    /// broadcast. Nothing there can be talked to.
    SpecialUse,
    /// A multicast group.
    Multicast,
    /// Everything else: reachable from the Internet.
    Global,
}

impl AddressClass {
    /// The class of `ip`.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        match canonical_ip(ip) {
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(ip) => Self::of_v6(ip),
        }
    }

    /// Whether the address is on this machine or in its private network: [`Loopback`](Self::Loopback) or
    /// [`Lan`](Self::Lan). Those are exempt from subnet limits.
    #[must_use]
    pub const fn is_lan(self) -> bool {
        matches!(self, Self::Loopback | Self::Lan)
    }

    fn of_v4(ip: Ipv4Addr) -> Self {
        let [first, ..] = ip.octets();
        if MARKED_V4.get(usize::from(first)) == Some(&false) {
            return Self::Global;
        }
        if ip.is_unspecified() {
            Self::Unspecified
        } else if ip.is_loopback() {
            Self::Loopback
        } else if ip.is_private() || ip.is_link_local() {
            Self::Lan
        } else if ip.is_multicast() {
            Self::Multicast
        } else if in_v4(ip, &CGNAT_V4) {
            Self::Cgnat
        } else if SPECIAL_V4.iter().any(|net| in_v4(ip, net)) {
            Self::SpecialUse
        } else {
            Self::Global
        }
    }

    fn of_v6(ip: Ipv6Addr) -> Self {
        if ip.is_unspecified() {
            Self::Unspecified
        } else if ip.is_loopback() {
            Self::Loopback
        } else if ip.is_unique_local() || ip.is_unicast_link_local() {
            Self::Lan
        } else if ip.is_multicast() {
            Self::Multicast
        } else if SPECIAL_V6.iter().any(|net| in_v6(ip, net)) {
            Self::SpecialUse
        } else {
            Self::Global
        }
    }
}

/// Why an address that one node told us about is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// `0.0.0.0` or `::`.
    #[error("the unspecified address")]
    Unspecified,
    /// A multicast group.
    #[error("a multicast address")]
    Multicast,
    /// An address reserved for a special use.
    #[error("a special-use address")]
    SpecialUse,
    /// A loopback address from a sender that is not on this machine.
    #[error("a loopback address from a host elsewhere")]
    Loopback,
    /// A private address from a sender outside every private network.
    #[error("a private address from the Internet")]
    Lan,
    /// A carrier-NAT address from a sender that is neither private nor behind a carrier's NAT.
    #[error("a carrier-NAT address from the Internet")]
    Cgnat,
}

/// An IPv4-mapped IPv6 address as the IPv4 address it stands for; any other unchanged. Everything that compares,
/// counts or stores addresses does so in this form, or one host would have two.
#[must_use]
pub fn canonical_ip(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// Whether a node at `sender` may tell us about a node at `addr`: unspecified, multicast and special-use addresses
/// never, loopback only from this machine, private ones only from a private network or this machine (the rule of
/// geth's `CheckRelay`). Carrier-NAT addresses, which geth takes for global, only from private or carrier-NAT senders:
/// from the Internet they lead nowhere, or to a stranger in our own carrier's network.
///
/// # Errors
/// What is wrong with the address.
pub fn check_relay(sender: IpAddr, addr: IpAddr) -> Result<(), RelayError> {
    let sender = AddressClass::of(sender);
    match AddressClass::of(addr) {
        AddressClass::Unspecified => Err(RelayError::Unspecified),
        AddressClass::Multicast => Err(RelayError::Multicast),
        AddressClass::SpecialUse => Err(RelayError::SpecialUse),
        AddressClass::Loopback if sender != AddressClass::Loopback => Err(RelayError::Loopback),
        AddressClass::Lan if !sender.is_lan() => Err(RelayError::Lan),
        AddressClass::Cgnat if !sender.is_lan() && sender != AddressClass::Cgnat => {
            Err(RelayError::Cgnat)
        }
        _ => Ok(()),
    }
}

/// A network and its prefix length.
type NetV4 = (Ipv4Addr, u32);
type NetV6 = (Ipv6Addr, u32);

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u32) -> NetV4 {
    (Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, h: u16, prefix: u32) -> NetV6 {
    (Ipv6Addr::new(a, b, c, 0, 0, 0, 0, h), prefix)
}

/// RFC 6598.
const CGNAT_V4: NetV4 = v4(100, 64, 0, 0, 10);

/// IANA's IPv4 special-purpose registry, without what has a class of its own. 240.0.0.0/4 is left out except for the
/// broadcast address, as in geth: it is reserved for a use yet to be named.
const SPECIAL_V4: [NetV4; 14] = [
    v4(0, 0, 0, 0, 8),          // "this network"
    v4(192, 0, 0, 0, 29),       // IPv4 service continuity
    v4(192, 0, 0, 9, 32),       // PCP anycast
    v4(192, 0, 0, 170, 32),     // NAT64/DNS64 discovery
    v4(192, 0, 0, 171, 32),     // NAT64/DNS64 discovery
    v4(192, 0, 2, 0, 24),       // TEST-NET-1
    v4(192, 31, 196, 0, 24),    // AS112
    v4(192, 52, 193, 0, 24),    // AMT
    v4(192, 88, 99, 0, 24),     // 6to4 relay anycast
    v4(192, 175, 48, 0, 24),    // AS112
    v4(198, 18, 0, 0, 15),      // benchmarks
    v4(198, 51, 100, 0, 24),    // TEST-NET-2
    v4(203, 0, 113, 0, 24),     // TEST-NET-3
    v4(255, 255, 255, 255, 32), // broadcast
];

/// First bytes with which addresses begin that are not global. Most addresses begin with another, and nearly every packet asks.
const MARKED_V4: [bool; 256] = marked_v4();

#[allow(clippy::indexing_slicing)] // computed by the compiler, which checks it
const fn marked_v4() -> [bool; 256] {
    // Loopback, RFC 1918, link-local and CGNAT; multicast follows below.
    let mut marked = [false; 256];
    let mut at = 0;
    while at < SPECIAL_V4.len() {
        marked[SPECIAL_V4[at].0.octets()[0] as usize] = true;
        at += 1;
    }
    let others = [127, 10, 172, 192, 169, CGNAT_V4.0.octets()[0]];
    at = 0;
    while at < others.len() {
        marked[others[at] as usize] = true;
        at += 1;
    }
    at = 224;
    while at < 240 {
        marked[at] = true;
        at += 1;
    }
    marked
}

/// IANA's IPv6 special-purpose registry, without what has a class of its own.
const SPECIAL_V6: [NetV6; 14] = [
    v6(0x64, 0xff9b, 1, 0, 48), // NAT64 of one network, into its private IPv4 addresses too
    v6(0x100, 0, 0, 0, 64),     // discard
    v6(0x2001, 0, 0, 0, 32),    // Teredo
    v6(0x2001, 1, 0, 1, 128),   // PCP anycast
    v6(0x2001, 2, 0, 0, 48),    // benchmarks
    v6(0x2001, 3, 0, 0, 32),    // AMT
    v6(0x2001, 4, 0x112, 0, 48), // AS112
    v6(0x2001, 5, 0, 0, 32),    // EID space for LISP
    v6(0x2001, 0x10, 0, 0, 28), // ORCHID
    v6(0x2001, 0x20, 0, 0, 28), // ORCHIDv2
    v6(0x2001, 0xdb8, 0, 0, 32), // documentation
    v6(0x2002, 0, 0, 0, 16),    // 6to4
    v6(0x3fff, 0, 0, 0, 20),    // documentation
    v6(0x5f00, 0, 0, 0, 16),    // segment routing
];

fn in_v4(ip: Ipv4Addr, (net, prefix): &NetV4) -> bool {
    (ip.to_bits() ^ net.to_bits()).leading_zeros() >= *prefix
}

fn in_v6(ip: Ipv6Addr, (net, prefix): &NetV6) -> bool {
    (ip.to_bits() ^ net.to_bits()).leading_zeros() >= *prefix
}
