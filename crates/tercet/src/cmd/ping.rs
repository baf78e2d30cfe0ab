//! `tercet ping`: one discv4 Ping and its Pong.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tercet_discovery::{Discovery, DiscoveryConfig};
use tercet_enode::NodeAddress;
use tercet_nodedb::NodeDb;

use crate::error::CliError;
use crate::output::Output;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet ping enode://KEY@127.0.0.1:30303
  tercet ping --json enr:-IS4...")]
pub(crate) struct PingArgs {
    /// The node: an enode URL or an ENR
    #[arg(value_name = "NODE")]
    node: NodeAddress,
}

#[derive(Debug, Serialize)]
struct PingReport {
    id: String,
    address: SocketAddr,
    rtt_ms: f64,
    /// What EIP-868 adds to a Pong; `None` from a node that does not speak it.
    enr_seq: Option<u64>,
}

pub(crate) async fn run(args: PingArgs, output: Output) -> Result<(), CliError> {
    let node = super::contact(&args.node).await?;
    let address = node.endpoint().udp_addr();
    if address.port() == 0 {
        return Err(CliError::NoUdpPort);
    }
    let config = DiscoveryConfig::builder()
        .listen(any_port_towards(address.ip()))
        .build()
        .map_err(CliError::DiscoveryConfig)?;
    let db = NodeDb::memory().map_err(CliError::Database)?;
    let discovery = Discovery::start(config, super::new_key(), db)
        .await
        .map_err(CliError::Discovery)?;
    let answer = discovery.ping(node.clone()).await;
    discovery.shutdown().await;
    let pong = answer.map_err(|source| CliError::Ping { address, source })?;
    let report = PingReport {
        id: node.id().to_string(),
        address,
        rtt_ms: milliseconds(pong.rtt),
        enr_seq: pong.enr_seq,
    };
    output.print(&report, |report| {
        let seq = report
            .enr_seq
            .map_or("no record".to_owned(), |seq| format!("record {seq}"));
        format!(
            "pong from {} in {:.2} ms, {seq}",
            report.address, report.rtt_ms
        )
    })
}

/// A local address of the family of `ip`, on a free port. Towards this machine only its loopback is opened.
pub(super) fn any_port_towards(ip: IpAddr) -> SocketAddr {
    let local: IpAddr = match ip {
        IpAddr::V4(ip) if ip.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(ip) if ip.is_loopback() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(local, 0)
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    // Microseconds are as fine as a network measurement gets.
    (time.as_secs_f64() * 1e6).round() / 1e3
}
