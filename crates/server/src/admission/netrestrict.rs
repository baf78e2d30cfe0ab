//! The networks the user allows.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tercet_enode::canonical_ip;

/// Allowed networks; without a list, all. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Netrestrict {
    networks: Option<Arc<[IpNet]>>,
}

impl Netrestrict {
    /// Only these networks.
    pub fn new(networks: &[IpNet]) -> Self {
        Self {
            networks: Some(networks.into()),
        }
    }

    /// Whether an address is in one of them. An IPv4-mapped IPv6 address counts
    /// as the IPv4 address it stands for.
    pub fn allows(&self, ip: IpAddr) -> bool {
        let ip = canonical_ip(ip);
        match &self.networks {
            None => true,
            Some(networks) => networks.iter().any(|network| network.contains(&ip)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_networks_and_their_mapped_form() {
        let rule = Netrestrict::new(&["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        for (ip, allowed) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("fd12::1", true),
            ("2001:db8::1", false),
        ] {
            assert_eq!(rule.allows(ip.parse().unwrap()), allowed, "{ip}");
        }
        assert!(Netrestrict::default().allows("8.8.8.8".parse().unwrap()));
        assert!(!Netrestrict::new(&[]).allows("8.8.8.8".parse().unwrap()));
    }
}
