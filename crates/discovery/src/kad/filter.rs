//! How many nodes of one network the table takes, so that whoever owns a network cannot own the
//! table. IPv4 is counted by /24. IPv6 is counted twice, by /64 (one site's network) and by /48
//! (what one customer is usually given), because either alone leaves the other free to flood.

use std::net::IpAddr;

use tercet_enode::AddressClass;
use tercet_machine::Subnet;

/// Most nodes from one network, in one bucket or in the whole table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubnetLimits {
    /// Per IPv4 /24.
    pub v4: usize,
    /// Per IPv6 /64.
    pub v6_narrow: usize,
    /// Per IPv6 /48.
    pub v6_wide: usize,
}

/// Limits for one bucket, replacements included; IPv4 as in geth.
pub const BUCKET_LIMITS: SubnetLimits = SubnetLimits {
    v4: 2,
    v6_narrow: 2,
    v6_wide: 4,
};

/// Limits for the whole table, replacements included; IPv4 as in geth.
pub const TABLE_LIMITS: SubnetLimits = SubnetLimits {
    v4: 10,
    v6_narrow: 5,
    v6_wide: 10,
};

/// Whether two addresses may lie in one /24, /64 or /48, as far as that is seen at a glance: `false` is certain.
pub(super) fn may_share(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => u32::from(a) >> 8 == u32::from(b) >> 8,
        (IpAddr::V6(a), IpAddr::V6(b)) => u128::from(a) >> 80 == u128::from(b) >> 80,
        // One may be the other, mapped.
        _ => true,
    }
}

impl SubnetLimits {
    /// Each limit `n` times as high.
    pub(super) const fn times(self, n: usize) -> Self {
        Self {
            v4: self.v4 * n,
            v6_narrow: self.v6_narrow * n,
            v6_wide: self.v6_wide * n,
        }
    }

    /// The lowest of the limits.
    pub(super) const fn least(self) -> usize {
        let v6 = if self.v6_narrow < self.v6_wide {
            self.v6_narrow
        } else {
            self.v6_wide
        };
        if v6 < self.v4 { v6 } else { self.v4 }
    }

    /// Whether one more node at `ip` fits beside those at `present`. Loopback and LAN addresses are
    /// exempt: nobody can have them from afar.
    pub(super) fn admit(&self, ip: IpAddr, present: impl Iterator<Item = IpAddr>) -> bool {
        if AddressClass::of(ip).is_lan() {
            return true;
        }
        let (narrow, wide) = (Subnet::of(ip), Subnet::wide(ip));
        let (narrow_limit, wide_limit) = match ip {
            IpAddr::V4(_) => (self.v4, self.v4),
            IpAddr::V6(_) => (self.v6_narrow, self.v6_wide),
        };
        let (mut in_narrow, mut in_wide) = (0, 0);
        for other in present {
            if Subnet::wide(other) == wide {
                in_wide += 1;
                in_narrow += usize::from(Subnet::of(other) == narrow);
            }
        }
        in_narrow < narrow_limit && in_wide < wide_limit
    }
}
