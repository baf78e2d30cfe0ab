//! What a server is told at its start. Plain data with a builder; everything
//! that must hold between fields is checked in [`ServerConfigBuilder::build`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use tercet_discovery::DiscoveryConfig;
use tercet_enode::{NodeAddress, NodeId, SecretKey};

use crate::error::ConfigError;
use crate::limits::{Limits, MAX_NAMED_NODES, Timeouts};

/// Longest client id announced: leaves 1.7 KiB of the 2 KiB Hello for capabilities.
pub const MAX_CLIENT_ID: usize = 256;

/// How the address others see is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Nat {
    /// Nothing is assumed: the listen address, if it is one, is announced.
    #[default]
    None,
    /// This address is announced.
    ExtIp(IpAddr),
}

/// Everything a server needs to start.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    pub(crate) key: SecretKey,
    pub(crate) listen: SocketAddr,
    pub(crate) discovery: Option<DiscoveryConfig>,
    pub(crate) client_id: String,
    pub(crate) nat: Nat,
    pub(crate) static_nodes: Vec<NodeAddress>,
    pub(crate) trusted_nodes: Vec<NodeId>,
    pub(crate) netrestrict: Option<Vec<IpNet>>,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
}

impl ServerConfig {
    /// Starts a configuration with the defaults: TCP 0.0.0.0:30303, no
    /// discovery, client id `tercet/<version>`, no named nodes, any network.
    pub fn builder(key: SecretKey) -> ServerConfigBuilder {
        ServerConfigBuilder {
            config: ServerConfig {
                key,
                listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 30303)),
                discovery: None,
                client_id: concat!("tercet/v", env!("CARGO_PKG_VERSION")).to_owned(),
                nat: Nat::None,
                static_nodes: Vec::new(),
                trusted_nodes: Vec::new(),
                netrestrict: None,
                limits: Limits::default(),
                timeouts: Timeouts::default(),
            },
        }
    }
}

/// Builds a [`ServerConfig`]. Setters never fail; [`build`](Self::build) checks.
#[derive(Debug, Clone)]
pub struct ServerConfigBuilder {
    config: ServerConfig,
}

impl ServerConfigBuilder {
    /// TCP address to listen on; port 0 lets the system choose. Default 0.0.0.0:30303.
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.config.listen = addr;
        self
    }

    /// Runs discovery with this configuration. The server fills in the
    /// announced address ([`nat`](Self::nat)), the TCP port and the allowed
    /// networks. Default: no discovery, only static nodes and inbound peers.
    pub fn discovery(mut self, config: DiscoveryConfig) -> Self {
        self.config.discovery = Some(config);
        self
    }

    /// Name announced in Hello, at most 256 bytes. Default `tercet/v<version>`.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.config.client_id = client_id.into();
        self
    }

    /// How the announced address is known. Default [`Nat::None`].
    pub fn nat(mut self, nat: Nat) -> Self {
        self.config.nat = nat;
        self
    }

    /// Nodes to stay connected to, at most 1024. Default none.
    pub fn static_nodes(mut self, nodes: impl IntoIterator<Item = NodeAddress>) -> Self {
        self.config.static_nodes = nodes.into_iter().collect();
        self
    }

    /// Nodes let in above every limit, at most 1024. Default none.
    pub fn trusted_nodes(mut self, nodes: impl IntoIterator<Item = NodeId>) -> Self {
        self.config.trusted_nodes = nodes.into_iter().collect();
        self
    }

    /// Only addresses in these networks are dialed, let in, or kept by
    /// discovery. Default: all.
    pub fn netrestrict(mut self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        self.config.netrestrict = Some(networks.into_iter().collect());
        self
    }

    /// Most peers at once. Default 50.
    pub fn max_peers(mut self, max_peers: usize) -> Self {
        self.config.limits.max_peers = max_peers;
        self
    }

    /// All connection limits. Default [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// All time limits. Default [`Timeouts::default`].
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.config.timeouts = timeouts;
        self
    }

    /// Checks the configuration.
    pub fn build(self) -> Result<ServerConfig, ConfigError> {
        let config = self.config;
        if config.limits.dial_ratio == 0 {
            return Err(ConfigError::ZeroDialRatio);
        }
        if config.limits.max_pending == 0 {
            return Err(ConfigError::ZeroMaxPending);
        }
        if config.client_id.len() > MAX_CLIENT_ID {
            return Err(ConfigError::ClientIdTooLong(config.client_id.len()));
        }
        for (set, len) in [
            ("static", config.static_nodes.len()),
            ("trusted", config.trusted_nodes.len()),
        ] {
            if len > MAX_NAMED_NODES {
                return Err(ConfigError::TooManyNodes {
                    set,
                    limit: MAX_NAMED_NODES,
                });
            }
        }
        let t = &config.timeouts;
        for (name, limit) in [
            ("dial", t.dial),
            ("dns", t.dns),
            ("ping", t.ping),
            ("write", t.write),
            ("inbox", t.inbox),
            ("join", t.join),
            ("redial", t.redial),
        ] {
            if limit.is_zero() {
                return Err(ConfigError::ZeroTimeout(name));
            }
        }
        if t.idle <= t.ping {
            return Err(ConfigError::IdleNotAbovePing);
        }
        Ok(config)
    }
}
