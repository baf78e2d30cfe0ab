//! The node's options about discovery (`--discovery.…`, the table `discovery` of the options file), and the lists in DNS that
//! it dials from besides.

use std::net::{Ipv6Addr, SocketAddr};

use clap::Args;
use ipnet::IpNet;
use serde::Deserialize;
use tercet_discovery::dns::{DnsConfig, DnsNodes, SyncConfig, SyncCounters, TreeUrl};
use tercet_discovery::{DiscoveryConfig, DiscoveryConfigBuilder};
use tercet_enode::AddressClass;
use tercet_nodedb::NodeDb;
use tercet_server::{Source, Trust};
use tokio::sync::watch;

use super::options::List;
use crate::cmd::discover::TimeServer;
use crate::cmd::dns::NameServer;
use crate::error::CliError;

/// Each value optional, as in [`NodeOptions`](super::options::NodeOptions).
#[derive(Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DiscoveryOptions {
    /// UDP port for discovery; 0 takes any free one [default: the same as --port]
    #[arg(id = "discovery.port", long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Speak discv4 [default: true]
    #[arg(id = "discovery.v4", long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false")]
    pub(crate) v4: Option<bool>,
    /// Speak discv5 [default: true]
    #[arg(id = "discovery.v5", long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false")]
    pub(crate) v5: Option<bool>,
    /// IPv6 address to listen on for discovery beside an IPv4 --addr [default: none]
    #[arg(id = "discovery.addr6", long, value_name = "IP6")]
    pub(crate) addr6: Option<Ipv6Addr>,
    /// Dial nodes of these lists in DNS too: enrtree://KEY@DOMAIN, separated by commas [default: none]
    #[arg(id = "discovery.dns", long, value_name = "URL,...")]
    pub(crate) dns: Option<List<TreeUrl>>,
    /// DNS servers to ask for them, separated by commas [default: those of the system]
    #[arg(id = "discovery.nameserver", long, value_name = "IP[:PORT],...")]
    pub(crate) nameserver: Option<List<NameServer>>,
    /// Time server to ask when this machine's clock seems wrong [default: nobody is asked]
    #[arg(id = "discovery.ntp", long, value_name = "HOST[:PORT]")]
    pub(crate) ntp: Option<TimeServer>,
}

impl DiscoveryOptions {
    /// Lays these options over `below`.
    pub(crate) fn over(self, below: Self) -> Self {
        Self {
            port: self.port.or(below.port),
            v4: self.v4.or(below.v4),
            v5: self.v5.or(below.v5),
            addr6: self.addr6.or(below.addr6),
            dns: self.dns.or(below.dns),
            nameserver: self.nameserver.or(below.nameserver),
            ntp: self.ntp.or(below.ntp),
        }
    }

    /// The service's settings, listening at `listen` unless another port is chosen here.
    pub(crate) fn config(&self, listen: SocketAddr) -> DiscoveryConfigBuilder {
        let port = self.port.unwrap_or(listen.port());
        let mut config = DiscoveryConfig::builder()
            .listen(SocketAddr::new(listen.ip(), port))
            .v4(self.v4.unwrap_or(true))
            .v5(self.v5.unwrap_or(true));
        if let Some(ip) = self.addr6 {
            config = config.listen_v6(SocketAddr::new(ip.into(), port));
        }
        if let Some(server) = &self.ntp {
            config = config.ntp_server(server.as_str());
        }
        config
    }

    /// The lists in DNS, if there are any.
    pub(crate) fn dns(
        &self,
        netrestrict: Option<&List<IpNet>>,
        db: &NodeDb,
    ) -> Result<Option<DnsSource>, CliError> {
        let lists = self.dns.iter().flat_map(|lists| &lists.0);
        let lists: Vec<TreeUrl> = lists.cloned().collect();
        if lists.is_empty() {
            return Ok(None);
        }
        let trusted = netrestrict.map(|networks| private(&networks.0));
        let trusted = trusted.unwrap_or_default();
        // Which nodes of the private networks may be named is checked as the lists are read.
        let trust = if trusted.is_empty() {
            Trust::Remote
        } else {
            Trust::Own
        };
        let servers = self.nameserver.iter().flat_map(|servers| &servers.0);
        let config = DnsConfig {
            name_servers: servers.map(|server| server.0).collect(),
            sync: SyncConfig {
                trusted,
                ..SyncConfig::default()
            },
        };
        let nodes = DnsNodes::new(lists, config, Some(db.clone())).map_err(CliError::DnsStart)?;
        let counters = nodes.counters_watch();
        Ok(Some(DnsSource {
            source: Source::new("dns", trust, nodes),
            counters,
        }))
    }
}

/// Nodes of lists in DNS for the server to dial.
pub(crate) struct DnsSource {
    pub(crate) source: Source,
    pub(crate) counters: watch::Receiver<SyncCounters>,
}

/// The networks among these that lie inside private ones. A node that is restricted to one of its own belongs there, and so may
/// nodes it is told of; a list from outside must not name any other private address.
fn private(networks: &[IpNet]) -> Vec<IpNet> {
    let inside = |network: &&IpNet| {
        let ends = [network.network(), network.broadcast()];
        ends.into_iter().all(|ip| AddressClass::of(ip).is_lan())
    };
    networks.iter().filter(inside).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_networks_that_are_private_as_a_whole_are_trusted() {
        let networks = |list: &str| -> Vec<IpNet> {
            let list: List<IpNet> = list.parse().unwrap();
            list.0
        };
        let given =
            "10.0.0.0/8,127.0.0.0/8,0.0.0.0/0,8.0.0.0/6,20.0.0.0/8,fd00::/8,::/0,192.0.0.0/8";
        assert_eq!(
            private(&networks(given)),
            networks("10.0.0.0/8,127.0.0.0/8,fd00::/8")
        );
    }
}
