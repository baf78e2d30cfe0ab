//! The options of the commands that speak discovery.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use serde::Deserialize;
use tercet_discovery::{DiscoveryConfigBuilder, Protocols};
use tercet_enode::NodeAddress;
use thiserror::Error;

use crate::cmd::node::options::List;
use crate::keyfile::KeyArgs;
use crate::nodeset::EthNetworkName;

#[derive(Debug, Args)]
pub(crate) struct DiscoverArgs {
    /// Speak discv4 and not discv5 [default: both]
    #[arg(long)]
    pub(crate) v4: bool,
    /// Speak discv5 and not discv4 [default: both]
    #[arg(long)]
    pub(crate) v5: bool,
    /// Nodes to start from: enode URLs or ENRs, separated by commas
    #[arg(long, value_name = "NODE,...")]
    pub(crate) bootnodes: Option<List<NodeAddress>>,
    /// Start from the public boot nodes of mainnet, sepolia, holesky or hoodi
    #[arg(long, value_name = "NAME")]
    pub(crate) network: Option<EthNetworkName>,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// Folder of a node database to use [default: in memory]
    #[arg(long, value_name = "DIR")]
    pub(crate) nodedb: Option<PathBuf>,
    /// Address to listen on: IP, :PORT or IP:PORT
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) addr: Option<ListenAddr>,
    /// Listen on IPv6 as well, on the same port: everywhere, or ::1 beside loopback
    #[arg(long)]
    pub(crate) ipv6: bool,
    /// The address others reach this node at, one of each family at most [default: the one they see]
    #[arg(long, value_name = "IP[,IP6]")]
    pub(crate) extaddr: Option<ExtAddr>,
    /// Talk only to addresses in these networks, separated by commas
    #[arg(long, value_name = "CIDR,...")]
    pub(crate) netrestrict: Option<List<IpNet>>,
    /// How long to wait for one answer, 10ms to 10s [default: 2s from NODE, else 500ms over discv4 and 700ms over discv5]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Time server to ask when this machine's clock seems wrong [default: nobody is asked]
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) ntp: Option<TimeServer>,
}

impl DiscoverArgs {
    /// The same over discv5 alone.
    pub(crate) fn over_v5(self) -> Self {
        Self {
            v4: false,
            v5: true,
            ..self
        }
    }

    /// The protocols that are spoken.
    pub(crate) const fn protocols(&self) -> Protocols {
        match (self.v4, self.v5) {
            (true, false) => Protocols::V4,
            (false, true) => Protocols::V5,
            _ => Protocols::ALL,
        }
    }
}

/// An address to listen on of which one half may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListenAddr {
    ip: IpAddr,
    port: Option<u16>,
}

/// A text that is no address to listen on.
#[derive(Debug, Error)]
#[error("an address to listen on is IP, :PORT or IP:PORT, an IPv6 address with a port in brackets")]
pub(crate) struct ListenAddrError;

impl ListenAddr {
    /// The address, with this port if none was named.
    pub(crate) fn at(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.unwrap_or(port))
    }
}

impl FromStr for ListenAddr {
    type Err = ListenAddrError;

    fn from_str(text: &str) -> Result<Self, ListenAddrError> {
        if let Ok(ip) = text.parse() {
            return Ok(Self { ip, port: None });
        }
        if let Some(port) = text.strip_prefix(':') {
            let port = port.parse().map_err(|_| ListenAddrError)?;
            return Ok(Self {
                ip: Ipv4Addr::UNSPECIFIED.into(),
                port: Some(port),
            });
        }
        let address: SocketAddr = text.parse().map_err(|_| ListenAddrError)?;
        Ok(Self {
            ip: address.ip(),
            port: Some(address.port()),
        })
    }
}

/// Addresses of this node as others know it: one, or one of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExtAddr {
    first: IpAddr,
    /// Beside an IPv4 address.
    second: Option<Ipv6Addr>,
}

/// A text that is no [`ExtAddr`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum ExtAddrError {
    /// Not an address.
    #[error("expected an IP address, or one of each family with a comma between them")]
    Address(#[from] std::net::AddrParseError),
    /// Two of one family.
    #[error("the two addresses are of one family")]
    OneFamily,
}

impl ExtAddr {
    /// The address for those that know one only: IPv4 if there is one.
    pub(crate) const fn first(&self) -> IpAddr {
        self.first
    }

    /// Has discovery announce these addresses.
    pub(crate) fn announce(&self, config: DiscoveryConfigBuilder) -> DiscoveryConfigBuilder {
        let config = config.advertised_ip(self.first);
        match self.second {
            Some(six) => config.advertised_ip6(six),
            None => config,
        }
    }
}

impl FromStr for ExtAddr {
    type Err = ExtAddrError;

    fn from_str(text: &str) -> Result<Self, ExtAddrError> {
        let Some((one, other)) = text.split_once(',') else {
            let first = text.trim().parse()?;
            return Ok(Self {
                first,
                second: None,
            });
        };
        let (first, second) = match (one.trim().parse()?, other.trim().parse()?) {
            (four @ IpAddr::V4(_), IpAddr::V6(six)) | (IpAddr::V6(six), four @ IpAddr::V4(_)) => {
                (four, Some(six))
            }
            _ => return Err(ExtAddrError::OneFamily),
        };
        Ok(Self { first, second })
    }
}

/// A time server as typed: a host, with a port if it is not 123.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct TimeServer(String);

/// A text that names no time server.
#[derive(Debug, Error)]
#[error("a time server is HOST or HOST:PORT")]
pub(crate) struct TimeServerError;

impl TimeServer {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TimeServer {
    type Error = TimeServerError;

    fn try_from(text: String) -> Result<Self, TimeServerError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        // An IPv6 address has several colons; a port is not checked there, looking it up does.
        let port = text
            .rsplit_once(':')
            .filter(|(host, _)| !host.contains(':'));
        let port_fits =
            port.is_none_or(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if text.is_empty() || !text.bytes().all(plain) || !port_fits {
            return Err(TimeServerError);
        }
        Ok(Self(text))
    }
}

impl FromStr for TimeServer {
    type Err = TimeServerError;

    fn from_str(text: &str) -> Result<Self, TimeServerError> {
        Self::try_from(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_of_a_listen_address_may_be_left_out() {
        let at = |text: &str| {
            text.parse::<ListenAddr>()
                .map(|addr| addr.at(30303).to_string())
        };
        for (text, address) in [
            (":30301", "0.0.0.0:30301"),
            ("127.0.0.1", "127.0.0.1:30303"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("::1", "[::1]:30303"),
            ("[::]:1", "[::]:1"),
        ] {
            assert_eq!(at(text).unwrap(), address, "{text}");
        }
        for text in [
            "",
            ":",
            "30303",
            "localhost:1",
            ":65536",
            "[::1]",
            "1.2.3.4:x",
        ] {
            assert!(at(text).is_err(), "{text}");
        }
    }

    #[test]
    fn outer_addresses_are_one_of_each_family_at_most() {
        let ips = |text: &str| -> Result<Vec<String>, ExtAddrError> {
            let parsed: ExtAddr = text.parse()?;
            let six = parsed.second.map(|six| six.to_string());
            Ok([Some(parsed.first.to_string()), six]
                .into_iter()
                .flatten()
                .collect())
        };
        assert_eq!(ips("1.2.3.4").unwrap(), ["1.2.3.4"]);
        assert_eq!(ips("2001:db8::1").unwrap(), ["2001:db8::1"]);
        for text in ["2001:db8::1, 1.2.3.4", "1.2.3.4,2001:db8::1"] {
            assert_eq!(ips(text).unwrap(), ["1.2.3.4", "2001:db8::1"]);
        }
        for text in [
            "",
            "1.2.3.4,",
            "1.2.3.4,1.2.3.5",
            "1.2.3.4:30303",
            "1.2.3.4,::1,::2",
        ] {
            assert!(ips(text).is_err(), "{text}");
        }
    }

    #[test]
    fn time_servers_are_hosts() {
        for text in ["pool.ntp.org", "127.0.0.1:123", "[::1]:123", "::1"] {
            assert!(text.parse::<TimeServer>().is_ok(), "{text}");
        }
        for text in ["", "a b", "host:x", ":123", "http://host"] {
            assert!(text.parse::<TimeServer>().is_err(), "{text}");
        }
    }
}
