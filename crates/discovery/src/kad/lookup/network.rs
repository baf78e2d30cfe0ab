//! The networks of nodes as a lookup counts them: as plain numbers, since each name that comes in is compared with all that
//! wait, and each choice with those chosen before.

use std::net::IpAddr;

use tercet_enode::AddressClass;

use crate::kad::bucket::BUCKET_SIZE;
use crate::kad::filter::{BUCKET_LIMITS, SubnetLimits};

/// Questions to one network: four times what may be in the result. Its dead nodes cost time, not the whole
/// lookup.
const ASKED: SubnetLimits = BUCKET_LIMITS.times(4);

/// Bits of an IPv6 /64 below its /48.
const BELOW_WIDE: u32 = 16;

/// The narrow network of an address, an IPv4 /24 or an IPv6 /64, and in its upper 48 bits the wide one, an IPv4 /24 as well or an
/// IPv6 /48.
///
/// An IPv6 /64 is its own number. No limit applies to local networks, so their numbers are left over for the others: IPv4
/// has those of fe80::/16 (link-local), and all addresses free of limits have the first one of fc00::/7 (unique local).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Network(u64);

impl Network {
    const V4: u64 = 0xfe80;

    /// No limit applies.
    pub(super) const FREE: Self = Self(0xfc00 << 48);

    pub(super) fn of(ip: IpAddr) -> Self {
        if AddressClass::of(ip).is_lan() {
            return Self::FREE;
        }
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                let [high, low] = (Self::V4 as u16).to_be_bytes();
                Self(u64::from_be_bytes([high, low, 0, a, b, c, 0, 0]))
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
        }
    }

    /// What `limits` lets of the narrow network and of the wide one.
    pub(super) fn limits(self, limits: &SubnetLimits) -> (usize, usize) {
        if self == Self::FREE {
            (usize::MAX, usize::MAX)
        } else if self.0 >> 48 == Self::V4 {
            (limits.v4, limits.v4)
        } else {
            (limits.v6_narrow, limits.v6_wide)
        }
    }

    /// Whether the wide networks are the same. The narrow ones are if the two are equal.
    pub(super) const fn shares_wide(self, other: Self) -> bool {
        self.0 >> BELOW_WIDE == other.0 >> BELOW_WIDE
    }

    /// Whether one more fits beside `present`.
    fn fits(self, limits: &SubnetLimits, present: &[Self]) -> bool {
        if self == Self::FREE {
            return true;
        }
        let (narrow, wide) = self.limits(limits);
        let (mut in_narrow, mut in_wide) = (0, 0);
        for other in present {
            in_narrow += usize::from(self == *other);
            in_wide += usize::from(self.shares_wide(*other));
        }
        in_narrow < narrow && in_wide < wide
    }
}

/// Of `nodes` those that find room in their networks beside the ones before: sixteen at most.
pub(super) fn spread<T>(
    nodes: impl Iterator<Item = T>,
    network: impl Fn(&T) -> Network,
) -> impl Iterator<Item = T> {
    let mut taken = [Network::FREE; BUCKET_SIZE];
    let mut count = 0;
    let fitting = nodes.filter(move |node| {
        let network = network(node);
        let fits = network.fits(&BUCKET_LIMITS, taken.get(..count).unwrap_or_default());
        if let Some(place) = taken.get_mut(count).filter(|_| fits) {
            *place = network;
            count += 1;
        }
        fits
    });
    fitting.take(BUCKET_SIZE)
}

/// Questions by network.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// One for each question to a network with limits.
    asked: Vec<Network>,
    /// Those whose narrow network, and those whose wide one, has been asked enough. Hardly ever any, so that to look is nothing.
    full: Vec<Network>,
    full_wide: Vec<Network>,
}

impl Questions {
    pub(super) fn count(&mut self, network: Network) {
        if network == Network::FREE {
            return;
        }
        self.asked.push(network);
        let fits = |limit, shares: &dyn Fn(Network) -> bool| {
            self.asked.iter().filter(|other| shares(**other)).count() < limit
        };
        let (narrow, wide) = network.limits(&ASKED);
        let fits_narrow = fits(narrow, &|other| other == network);
        let fits_wide = fits(wide, &|other| other.shares_wide(network));
        if !fits_narrow {
            self.full.push(network);
        }
        if !fits_wide {
            self.full_wide.push(network);
        }
    }

    /// Whether enough of the network were asked.
    pub(super) fn are_enough(&self, network: Network) -> bool {
        self.full.contains(&network) || self.full_wide.iter().any(|full| full.shares_wide(network))
    }
}
