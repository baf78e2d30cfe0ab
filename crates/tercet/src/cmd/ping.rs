//! `tercet ping`: one Ping of node discovery and its Pong.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tercet_enode::NodeAddress;

use super::discover::{self, DiscoverArgs, Discoverer};
use crate::error::CliError;
use crate::output::Output;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet ping enode://KEY@127.0.0.1:30303
  tercet ping --v5 --json enr:-IS4...")]
pub(crate) struct PingArgs {
    /// The node: an enode URL or an ENR
    #[arg(value_name = "NODE")]
    node: NodeAddress,
    #[command(flatten)]
    discover: DiscoverArgs,
}

#[derive(Debug, Serialize)]
struct PingReport {
    id: String,
    address: SocketAddr,
    protocol: &'static str,
    rtt_ms: f64,
    /// What EIP-868 adds to a Pong; `None` from a node that does not speak it.
    enr_seq: Option<u64>,
    /// This end as the node sees it.
    seen_as: Option<SocketAddr>,
}

impl PingReport {
    fn text(&self) -> String {
        let seq = self
            .enr_seq
            .map_or("no record".to_owned(), |seq| format!("record {seq}"));
        let (address, protocol, rtt) = (self.address, self.protocol, self.rtt_ms);
        let seen = self.seen_as.map(|seen| format!(", seen as {seen}"));
        let seen = seen.unwrap_or_default();
        format!("pong from {address} over disc{protocol} in {rtt:.2} ms, {seq}{seen}")
    }
}

pub(crate) async fn run(args: PingArgs, output: Output) -> Result<(), CliError> {
    let node = super::contact(&args.node).await?;
    let address = super::udp_address(&node)?;
    let discoverer = Discoverer::for_asking(&args.discover, Some(&node)).await?;
    let ping = async |protocol| discoverer.service.ping_over(node.clone(), protocol).await;
    let answer = discoverer.ask(&node, ping).await;
    discoverer.stop().await?;
    let (protocol, pong) = answer?;
    let report = PingReport {
        id: node.id().to_string(),
        address,
        protocol: discover::name(protocol),
        rtt_ms: milliseconds(pong.rtt),
        enr_seq: pong.enr_seq,
        seen_as: pong.seen_as,
    };
    output.print(&report, PingReport::text)
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    // Microseconds are as fine as a network measurement gets.
    (time.as_secs_f64() * 1e6).round() / 1e3
}
