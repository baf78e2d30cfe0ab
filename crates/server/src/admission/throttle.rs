//! The inbound throttle: one connection from a subnet in a while. Loopback and
//! LAN addresses are exempt, where many nodes share few addresses and nobody
//! needs to be kept from flooding himself.

use std::net::IpAddr;
use std::time::Duration;

use tercet_enode::AddressClass;
use tercet_machine::{ExpiringMap, KeyedState, MonoTime, Subnet};

/// Subnets remembered at most: 4096 × about 100 bytes. When it is full the
/// subnet that may connect again first is forgotten.
pub(crate) const THROTTLED_SUBNETS: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(crate) struct Throttle {
    interval: Duration,
    seen: ExpiringMap<Subnet, ()>,
}

impl Throttle {
    pub(crate) fn new(interval: Duration, hasher: KeyedState) -> Self {
        Self {
            interval,
            seen: ExpiringMap::new(THROTTLED_SUBNETS, hasher),
        }
    }

    /// Whether a connection from the address may go on. One that may not does
    /// not prolong the wait.
    pub(crate) fn admits(&mut self, now: MonoTime, ip: IpAddr) -> bool {
        if self.interval.is_zero() || AddressClass::of(ip).is_lan() {
            return true;
        }
        let subnet = Subnet::of(ip);
        let admits = self.seen.get(now, &subnet).is_none();
        if admits {
            self.seen.insert(subnet, (), now + self.interval);
        }
        admits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tercet_machine::MachineRng;

    fn throttle() -> Throttle {
        let hasher = KeyedState::new(&mut MachineRng::from_seed([3; 32]));
        Throttle::new(Duration::from_secs(30), hasher)
    }

    fn admits(throttle: &mut Throttle, second: u64, ip: &str) -> bool {
        throttle.admits(MonoTime::from_secs(second), ip.parse().unwrap())
    }

    #[test]
    fn one_connection_in_thirty_seconds_from_a_subnet() {
        let mut t = throttle();
        assert!(admits(&mut t, 0, "8.8.8.8"));
        assert!(!admits(&mut t, 1, "8.8.8.8"));
        assert!(!admits(&mut t, 29, "8.8.8.9"), "the same /24");
        assert!(admits(&mut t, 29, "8.8.9.8"), "another /24");
        assert!(admits(&mut t, 30, "8.8.8.9"), "refusals did not prolong it");
        assert!(admits(&mut t, 0, "2a00:1:2:3::1"));
        assert!(!admits(&mut t, 0, "2a00:1:2:3:ffff::1"), "the same /64");
        assert!(admits(&mut t, 0, "2a00:1:2:4::1"), "another /64");
        assert!(!admits(&mut t, 31, "::ffff:8.8.8.1"), "IPv4 in disguise");
    }

    #[test]
    fn loopback_and_lan_are_exempt() {
        let mut t = throttle();
        for ip in [
            "127.0.0.1",
            "::1",
            "10.0.0.1",
            "192.168.1.1",
            "fd00::1",
            "::ffff:127.0.0.1",
        ] {
            for _ in 0..100 {
                assert!(admits(&mut t, 0, ip), "{ip}");
            }
        }
        assert!(t.seen.is_empty());
    }

    #[test]
    fn the_bound_is_reached_and_held() {
        let mut t = throttle();
        for n in 0..2 * THROTTLED_SUBNETS as u32 {
            let ip = IpAddr::from((0x0800_0000 + (n << 8)).to_be_bytes());
            assert!(t.admits(MonoTime::ZERO, ip));
            assert!(t.seen.len() <= THROTTLED_SUBNETS);
        }
        assert_eq!(t.seen.len(), THROTTLED_SUBNETS);
    }
}
