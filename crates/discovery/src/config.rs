//! What discovery is started with. Plain data; [`DiscoveryConfigBuilder::build`] checks what no type can.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use tercet_enode::{Node, canonical_ip};

use crate::engine::{Protocol, Protocols};
use crate::kad::MAX_PATHS;
use crate::policy::Families;
use crate::stack::StackConfig;

/// Settings of [`Discovery`](crate::Discovery). Made by [`DiscoveryConfig::builder`].
///
/// | setting | default |
/// |---|---|
/// | `listen` | `0.0.0.0:30303` |
/// | `listen_v6` | none |
/// | `v4` | true |
/// | `v5` | true |
/// | `advertised_ip` | none |
/// | `advertised_ip6` | none |
/// | `tcp_port` | 0 |
/// | `guest` | false |
/// | `bootnodes` | none |
/// | `netrestrict` | none |
/// | `entries` | none |
/// | `lookup_paths` | 1 |
/// | `refresh_interval` | 30m |
/// | `reply_timeout` | 500ms |
/// | `v5_reply_timeout` | 700ms |
/// | `ntp_server` | none |
/// | `second_reader` | false |
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
    /// A second socket for IPv6, beside an IPv4 `listen`. Port 0 takes the port of `listen`, as chosen by the system if that
    /// is 0 too. Without it, an IPv6 `listen` takes both families where the system allows.
    pub listen_v6: Option<SocketAddr>,
    /// Whether to speak discv4.
    pub v4: bool,
    /// Whether to speak discv5.
    pub v5: bool,
    /// The address to put in this node's record, whatever others say: what they reach it at. Without it, for each family, the
    /// address that enough others see and that has been found reachable, or else the one listened on if that is not "any".
    pub advertised_ip: Option<IpAddr>,
    /// The same for IPv6, beside an IPv4 `advertised_ip`.
    pub advertised_ip6: Option<Ipv6Addr>,
    /// The RLPx port to put in the record; 0 for none. It can be set later, when it is known.
    pub tcp_port: u16,
    /// Whether this node only comes to ask, and is soon gone: others are to keep it out of their tables. Its record names no endpoint but
    /// an advertised one, and over discv4 it proves its address only to those who would not answer without. Those hold it for a node
    /// until they check it: discv4 has no other way.
    pub guest: bool,
    /// First contacts.
    #[cfg_attr(feature = "serde", serde(with = "crate::text::nodes"))]
    pub bootnodes: Vec<Node>,
    /// Networks all contact is restricted to. `None`: no restriction.
    pub netrestrict: Option<Vec<IpNet>>,
    /// Further entries of the record: key and value, the value one RLP item.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub entries: Vec<(Vec<u8>, Bytes)>,
    /// Paths a lookup keeps apart, 1 to [`MAX_PATHS`]: no node serves two of them, so that whoever holds one does not steer the
    /// result. Costs as many times the questions.
    pub lookup_paths: usize,
    /// Longest time between two refreshes of the table; each is drawn from its upper half.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub refresh_interval: Duration,
    /// How long a discv4 reply is waited for.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub reply_timeout: Duration,
    /// How long a discv5 response is waited for, with a handshake if there is no session yet.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub v5_reply_timeout: Duration,
    /// A time server, `host` or `host:port`, to ask whether this host's clock is right when many packets look expired; the
    /// operator is warned if it is not. Without one nobody is asked.
    pub ntp_server: Option<String>,
    /// Whether a second thread reads, from a socket of its own on the same port: for boot nodes and others that are asked some ten thousand
    /// times a second. What arrives on one core is then answered there. A sender's datagrams keep their order only as long as all arrive on
    /// one core, as network cards see to. Where everything arrives on one core it costs more than it brings. Without effect on a single
    /// core and elsewhere than on Linux.
    pub second_reader: bool,
    /// Seed of all randomness, for reproducible runs. `None`: asked of the system.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub seed: Option<[u8; 32]>,
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 30303),
            listen_v6: None,
            v4: true,
            v5: true,
            advertised_ip: None,
            advertised_ip6: None,
            tcp_port: 0,
            guest: false,
            bootnodes: Vec::new(),
            netrestrict: None,
            entries: Vec::new(),
            lookup_paths: 1,
            refresh_interval: Duration::from_secs(30 * 60),
            reply_timeout: Duration::from_millis(500),
            v5_reply_timeout: Duration::from_millis(700),
            ntp_server: None,
            second_reader: false,
            seed: None,
        }
    }
}

impl DiscoveryConfig {
    /// Starts from the defaults.
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
        if let Some(addr) = self.listen_v6
            && (self.listen().is_ipv6() || canonical_ip(addr.ip()).is_ipv4())
        {
            return Err(ConfigError::ListenV6(addr));
        }
        if !self.v4 && !self.v5 {
            return Err(ConfigError::NoProtocol);
        }
        for ip in self.advertised() {
            if ip.is_unspecified() || ip.is_multicast() {
                return Err(ConfigError::AdvertisedIp(ip));
            }
            if !self.families().reach(ip) {
                return Err(ConfigError::AdvertisedFamily(ip));
            }
        }
        if let (Some(IpAddr::V6(one)), Some(other)) = (self.advertised_ip, self.advertised_ip6)
            && one != other
        {
            return Err(ConfigError::AdvertisedTwice(one, other));
        }
        for timeout in [self.reply_timeout, self.v5_reply_timeout] {
            if timeout < MIN_REPLY_TIMEOUT || timeout > MAX_REPLY_TIMEOUT {
                return Err(ConfigError::ReplyTimeout(timeout));
            }
        }
        if !(1..=MAX_PATHS).contains(&self.lookup_paths) {
            return Err(ConfigError::LookupPaths(self.lookup_paths));
        }
        if self.refresh_interval < MIN_REFRESH_INTERVAL {
            return Err(ConfigError::RefreshInterval(self.refresh_interval));
        }
        if self.netrestrict.as_ref().is_some_and(Vec::is_empty) {
            return Err(ConfigError::NobodyPermitted);
        }
        Ok(())
    }

    /// Where the first socket is bound: for an IPv4 address in the form of an IPv6 one an IPv4 socket, as nothing else would come
    /// over an IPv6 one.
    pub(crate) fn listen(&self) -> SocketAddr {
        match canonical_ip(self.listen.ip()) {
            ip @ IpAddr::V4(_) => SocketAddr::new(ip, self.listen.port()),
            // As it is, or a link-local address would lose its interface.
            IpAddr::V6(_) => self.listen,
        }
    }

    /// The families for which there will be a socket.
    fn families(&self) -> Families {
        match self.listen().ip() {
            IpAddr::V4(_) => Families {
                v4: true,
                v6: self.listen_v6.is_some(),
            },
            // One socket for both, where the system allows.
            IpAddr::V6(ip) if ip.is_unspecified() => Families::BOTH,
            IpAddr::V6(_) => Families {
                v4: false,
                v6: true,
            },
        }
    }

    fn advertised(&self) -> impl Iterator<Item = IpAddr> {
        let six = self.advertised_ip6.map(IpAddr::V6);
        self.advertised_ip.map(canonical_ip).into_iter().chain(six)
    }

    /// The stack of a node bound to these addresses.
    pub(crate) fn into_stack(
        self,
        seed: [u8; 32],
        (main, six): (SocketAddr, Option<SocketAddr>),
    ) -> StackConfig {
        let families = self.families();
        let mut stack = StackConfig::new(seed);
        let (v4, v6) = match main {
            SocketAddr::V4(_) => (Some(main), six),
            SocketAddr::V6(_) => {
                let four = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), main.port());
                (families.v4.then_some(four), Some(main))
            }
        };
        stack.listen = [v4, v6];
        for ip in self.advertised() {
            let [v4, v6] = &mut stack.advertised;
            *(if ip.is_ipv4() { v4 } else { v6 }) = Some(SocketAddr::new(ip, 0));
        }
        let switched = [(self.v4, Protocol::V4), (self.v5, Protocol::V5)];
        let on = switched.into_iter().filter(|(on, _)| *on);
        stack.core.protocols = on.fold(Protocols::NONE, |all, (_, one)| all.with(one));
        stack.core.guest = self.guest;
        stack.core.bootnodes = self.bootnodes;
        stack.core.netrestrict = self.netrestrict;
        stack.core.lookup_paths = self.lookup_paths;
        stack.core.refresh_interval = self.refresh_interval;
        stack.core.reply_timeout = self.reply_timeout;
        stack.core.v5_reply_timeout = self.v5_reply_timeout;
        stack.tcp_port = self.tcp_port;
        stack.entries = self.entries.into_iter().collect();
        stack
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
    /// There is no socket of this address's family.
    #[error("advertised-ip: {0} is of a family that is not listened on")]
    AdvertisedFamily(IpAddr),
    /// Two addresses for one family.
    #[error("advertised-ip and advertised-ip6 name two IPv6 addresses: {0} and {1}")]
    AdvertisedTwice(Ipv6Addr, Ipv6Addr),
    /// At least one protocol must be switched on.
    #[error("v4 and v5 are both switched off")]
    NoProtocol,
    /// It must be an IPv6 address, and `listen` an IPv4 one.
    #[error("listen-v6: {0} must be an IPv6 address beside an IPv4 one in listen")]
    ListenV6(SocketAddr),
    /// Must be 10 ms to 10 s.
    #[error("reply-timeout or v5-reply-timeout: {0:?} is not between 10 ms and 10 s")]
    ReplyTimeout(Duration),
    /// Must be 1 to [`MAX_PATHS`].
    #[error("lookup-paths: {0} is not between 1 and {MAX_PATHS}")]
    LookupPaths(usize),
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

    /// A second socket for IPv6, beside an IPv4 `listen`; port 0 takes the port of that. Default: none.
    pub fn listen_v6(mut self, listen: SocketAddr) -> Self {
        self.config.listen_v6 = Some(listen);
        self
    }

    /// Whether to speak discv4. Default: yes.
    pub fn v4(mut self, on: bool) -> Self {
        self.config.v4 = on;
        self
    }

    /// Whether to speak discv5. Default: yes.
    pub fn v5(mut self, on: bool) -> Self {
        self.config.v5 = on;
        self
    }

    /// The address others reach this node at, whatever they say. Default: the one others see, once it is found reachable, or
    /// else the one listened on if that is not "any".
    pub fn advertised_ip(mut self, ip: IpAddr) -> Self {
        self.config.advertised_ip = Some(ip);
        self
    }

    /// The same for IPv6, beside an IPv4 `advertised_ip`. Default: as there.
    pub fn advertised_ip6(mut self, ip: Ipv6Addr) -> Self {
        self.config.advertised_ip6 = Some(ip);
        self
    }

    /// The RLPx port to announce. Default 0, none.
    pub fn tcp_port(mut self, port: u16) -> Self {
        self.config.tcp_port = port;
        self
    }

    /// Whether this node only comes to ask and stays out of others' tables where it can. Default: no.
    pub fn guest(mut self, on: bool) -> Self {
        self.config.guest = on;
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

    /// Paths a lookup keeps apart, 1 to [`MAX_PATHS`]. Default 1.
    pub fn lookup_paths(mut self, paths: usize) -> Self {
        self.config.lookup_paths = paths;
        self
    }

    /// Longest time between two refreshes, at least 10 s. Default 30 min.
    pub fn refresh_interval(mut self, interval: Duration) -> Self {
        self.config.refresh_interval = interval;
        self
    }

    /// How long a discv4 reply is waited for, 10 ms to 10 s. Default 500 ms.
    pub fn reply_timeout(mut self, timeout: Duration) -> Self {
        self.config.reply_timeout = timeout;
        self
    }

    /// How long a discv5 response is waited for, 10 ms to 10 s. Default 700 ms.
    pub fn v5_reply_timeout(mut self, timeout: Duration) -> Self {
        self.config.v5_reply_timeout = timeout;
        self
    }

    /// The time server to ask when the clock is suspected, `host` or `host:port`. Default: none.
    pub fn ntp_server(mut self, server: impl Into<String>) -> Self {
        self.config.ntp_server = Some(server.into());
        self
    }

    /// Whether a second thread reads, see [`DiscoveryConfig::second_reader`]. Default: no.
    pub fn second_reader(mut self, on: bool) -> Self {
        self.config.second_reader = on;
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

#[cfg(test)]
mod tests;
