//! `tercet lookup`: the nodes closest to a place in the id space.

use clap::Args;
use serde::Serialize;
use tercet_discovery::Target;
use tercet_enode::NodeId;
use tokio::time::Instant;

use super::discover::{DiscoverArgs, Discoverer, TargetArg};
use super::ping::milliseconds;
use super::resolve::NodeReport;
use crate::error::CliError;
use crate::events::short;
use crate::output::{Output, nodes};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet lookup --bootnodes enode://KEY@127.0.0.1:30303
  tercet lookup PUBLICKEY --network sepolia --v5 --json

A node id alone can be looked up over discv5 only: discv4 is asked for public keys.")]
pub(crate) struct LookupArgs {
    /// Where to look: an enode URL, an ENR, a public key or a node id [default: a random place]
    #[arg(value_name = "TARGET")]
    target: Option<TargetArg>,
    #[command(flatten)]
    discover: DiscoverArgs,
}

#[derive(Debug, Serialize)]
struct LookupReport {
    target: String,
    /// Closest first.
    nodes: Vec<FoundReport>,
    elapsed_ms: f64,
}

#[derive(Debug, Serialize)]
struct FoundReport {
    /// Bits in which it differs from the target at most: the log distance.
    distance: u16,
    #[serde(flatten)]
    node: NodeReport,
}

impl LookupReport {
    fn text(&self) -> String {
        let (count, target) = (nodes(self.nodes.len()), short(&self.target));
        let elapsed = self.elapsed_ms;
        let mut lines = vec![format!("{count} closest to {target} in {elapsed:.1} ms")];
        let found = self.nodes.iter();
        lines.extend(found.map(|found| format!("{:3}  {}", found.distance, found.node.name())));
        lines.join("\n")
    }
}

pub(crate) async fn run(mut args: LookupArgs, output: Output) -> Result<(), CliError> {
    let target = match &args.target {
        Some(target) => {
            args.discover = target.suited(args.discover)?;
            target.target()
        }
        None => Target::new(rand::random()),
    };
    let discoverer = Discoverer::for_asking(&args.discover, None).await?;
    let found = found(&discoverer, &args, target).await;
    discoverer.stop().await?;
    output.print(&found?, LookupReport::text)
}

async fn found(
    discoverer: &Discoverer,
    args: &LookupArgs,
    target: Target,
) -> Result<LookupReport, CliError> {
    discoverer.check_start(&args.discover)?;
    let started = Instant::now();
    let found = discoverer.service.lookup(target).await;
    let found = found.map_err(CliError::LookupFailed)?;
    if found.is_empty() {
        let nodes = discoverer.bootnodes.len();
        return Err(CliError::NobodyAnswered { nodes });
    }
    let target: NodeId = target.id();
    let report = |node| FoundReport {
        distance: target.log_distance(&tercet_enode::Node::id(node)),
        node: NodeReport::new(node),
    };
    Ok(LookupReport {
        target: target.to_string(),
        nodes: found.iter().map(report).collect(),
        elapsed_ms: milliseconds(started.elapsed()),
    })
}
