//! What discovery is started with. Plain data; [`DiscoveryConfigBuilder::build`] checks what no type can.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use tercet_enode::Node;

/// Settings of [`Discovery`](crate::Discovery). Made by [`DiscoveryConfig::builder`].
///
/// | setting | default |
/// |---|---|
/// | `listen` | `0.0.0.0:30303` |
/// | `advertised_ip` | none |
/// | `tcp_port` | 0 |
/// | `bootnodes` | none |
/// | `netrestrict` | none |
/// | `entries` | none |
/// | `refresh_interval` | 30m |
/// | `reply_timeout` | 500ms |
/// | `seed` | from the system |
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(default, deny_unknown_fields, rename_all = "kebab-case")
)]
#[non_exhaustive]
pub struct DiscoveryConfig {
    /// Where to listen for datagrams. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// The address to put in this node's record: what others reach it at. Without it, the address listened on, and loopback
    /// where that is "any".
    pub advertised_ip: Option<IpAddr>,
    /// The RLPx port to put in the record; 0 for none. It can be set later, when it is known.
    pub tcp_port: u16,
    /// First contacts.
    #[cfg_attr(feature = "serde", serde(with = "crate::text::nodes"))]
    pub bootnodes: Vec<Node>,
    /// Networks all contact is restricted to. `None`: no restriction.
    pub netrestrict: Option<Vec<IpNet>>,
    /// Further entries of the record: key and value, the value one RLP item.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub entries: Vec<(Vec<u8>, Bytes)>,
    /// Longest time between two refreshes of the table; each is drawn from its upper half.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub refresh_interval: Duration,
    /// How long a reply is waited for.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub reply_timeout: Duration,
    /// Seed of all randomness, for reproducible runs. `None`: asked of the system.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub seed: Option<[u8; 32]>,
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 30303),
            advertised_ip: None,
            tcp_port: 0,
            bootnodes: Vec::new(),
            netrestrict: None,
            entries: Vec::new(),
            refresh_interval: Duration::from_secs(30 * 60),
            reply_timeout: Duration::from_millis(500),
            seed: None,
        }
    }
}

impl DiscoveryConfig {
    /// Starts from the defaults.
    #[must_use]
    pub fn builder() -> DiscoveryConfigBuilder {
        DiscoveryConfigBuilder {
            config: Self::default(),
        }
    }

    /// The checks of [`DiscoveryConfigBuilder::build`], for a configuration that was read from a file.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        if let Some(ip) = self
            .advertised_ip
            .filter(|ip| ip.is_unspecified() || ip.is_multicast())
        {
            return Err(ConfigError::AdvertisedIp(ip));
        }
        if self.reply_timeout < MIN_REPLY_TIMEOUT || self.reply_timeout > MAX_REPLY_TIMEOUT {
            return Err(ConfigError::ReplyTimeout(self.reply_timeout));
        }
        if self.refresh_interval < MIN_REFRESH_INTERVAL {
            return Err(ConfigError::RefreshInterval(self.refresh_interval));
        }
        if self.netrestrict.as_ref().is_some_and(Vec::is_empty) {
            return Err(ConfigError::NobodyPermitted);
        }
        Ok(())
    }
}

/// Below this nobody but a neighbour can answer.
const MIN_REPLY_TIMEOUT: Duration = Duration::from_millis(10);

/// Half the life of a packet: a later answer would be void.
const MAX_REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// A refresh is four lookups of up to some seconds each.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_secs(10);

/// Settings that cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Nobody can be reached at that address.
    #[error("advertised-ip: {0} is no address of a single host")]
    AdvertisedIp(IpAddr),
    /// Must be 10 ms to 10 s.
    #[error("reply-timeout: {0:?} is not between 10 ms and 10 s")]
    ReplyTimeout(Duration),
    /// Must be at least 10 s.
    #[error("refresh-interval: {0:?} is shorter than 10 s")]
    RefreshInterval(Duration),
    /// An empty list of networks permits nobody; leave it out to permit everybody.
    #[error("netrestrict: the list is empty, so no contact would be permitted")]
    NobodyPermitted,
}

/// Builds a [`DiscoveryConfig`].
#[derive(Clone, Debug)]
#[must_use]
pub struct DiscoveryConfigBuilder {
    config: DiscoveryConfig,
}

impl DiscoveryConfigBuilder {
    /// Address and port to listen on; port 0 takes any free one. Default `0.0.0.0:30303`.
    pub fn listen(mut self, listen: SocketAddr) -> Self {
        self.config.listen = listen;
        self
    }

    /// The address others reach this node at. Default: the address listened on, loopback where that is "any".
    pub fn advertised_ip(mut self, ip: IpAddr) -> Self {
        self.config.advertised_ip = Some(ip);
        self
    }

    /// The RLPx port to announce. Default 0, none.
    pub fn tcp_port(mut self, port: u16) -> Self {
        self.config.tcp_port = port;
        self
    }

    /// First contacts. Default: none.
    pub fn bootnodes(mut self, nodes: Vec<Node>) -> Self {
        self.config.bootnodes = nodes;
        self
    }

    /// Networks all contact is restricted to. Default: no restriction.
    pub fn netrestrict(mut self, nets: Vec<IpNet>) -> Self {
        self.config.netrestrict = Some(nets);
        self
    }

    /// One more entry of the record; the value is one RLP item. Default: none.
    pub fn entry(mut self, key: impl Into<Vec<u8>>, rlp: impl Into<Bytes>) -> Self {
        self.config.entries.push((key.into(), rlp.into()));
        self
    }

    /// Longest time between two refreshes, at least 10 s. Default 30 min.
    pub fn refresh_interval(mut self, interval: Duration) -> Self {
        self.config.refresh_interval = interval;
        self
    }

    /// How long a reply is waited for, 10 ms to 10 s. Default 500 ms.
    pub fn reply_timeout(mut self, timeout: Duration) -> Self {
        self.config.reply_timeout = timeout;
        self
    }

    /// Seed of all randomness. Default: asked of the system.
    pub fn seed(mut self, seed: [u8; 32]) -> Self {
        self.config.seed = Some(seed);
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn build(self) -> Result<DiscoveryConfig, ConfigError> {
        self.config.check()?;
        Ok(self.config)
    }
}
