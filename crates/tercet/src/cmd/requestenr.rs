//! `tercet requestenr`: a node's record, from the node itself.

use clap::Args;
use tercet_enode::NodeAddress;

use super::discover::{DiscoverArgs, Discoverer};
use super::enr::RecordReport;
use crate::error::CliError;
use crate::output::Output;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet requestenr enode://KEY@127.0.0.1:30303
  tercet enr decode $(tercet requestenr --v5 enr:-IS4...)")]
pub(crate) struct RequestEnrArgs {
    /// The node: an enode URL or an ENR
    #[arg(value_name = "NODE")]
    node: NodeAddress,
    #[command(flatten)]
    discover: DiscoverArgs,
}

pub(crate) async fn run(args: RequestEnrArgs, output: Output) -> Result<(), CliError> {
    let node = super::contact(&args.node).await?;
    super::udp_address(&node)?;
    let discoverer = Discoverer::for_asking(&args.discover, Some(&node)).await?;
    let record = discoverer.record(&node).await;
    discoverer.stop().await?;
    output.print(&RecordReport::new(&record?), |report| report.enr.clone())
}
