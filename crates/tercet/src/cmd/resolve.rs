//! `tercet resolve`: where a node is now, by its newest record: asked of itself, or looked for in the network.

use clap::Args;
use serde::Serialize;
use tercet_enode::Node;

use super::discover::{DiscoverArgs, Discoverer, TargetArg};
use crate::error::CliError;
use crate::output::Output;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet resolve enr:-IS4... --bootnodes enode://KEY@127.0.0.1:30303
  tercet resolve PUBLICKEY --network mainnet

A node that is where NODE says is asked directly; one that is not, or a key alone, needs nodes to start from.")]
pub(crate) struct ResolveArgs {
    /// The node: an enode URL, an ENR, a public key or a node id
    #[arg(value_name = "NODE")]
    node: TargetArg,
    #[command(flatten)]
    discover: DiscoverArgs,
}

/// A node as it is known.
#[derive(Debug, Serialize)]
pub(super) struct NodeReport {
    id: String,
    address: String,
    enode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    enr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
}

impl NodeReport {
    pub(super) fn new(node: &Node) -> Self {
        Self {
            id: node.id().to_string(),
            address: node.endpoint().udp_addr().to_string(),
            enode: node.enode_url().to_string(),
            enr: node.record().map(ToString::to_string),
            seq: node.record().map(|record| record.seq()),
        }
    }

    /// The record, which says most; the URL of a node that has none.
    pub(super) fn name(&self) -> &str {
        self.enr.as_ref().unwrap_or(&self.enode)
    }
}

#[derive(Debug, Serialize)]
struct ResolveReport {
    #[serde(flatten)]
    node: NodeReport,
    /// Whether it is something else than what was given.
    newer: bool,
}

pub(crate) async fn run(mut args: ResolveArgs, output: Output) -> Result<(), CliError> {
    args.discover = args.node.suited(args.discover)?;
    let given = match &args.node {
        TargetArg::Node(address) => match super::contact(address).await {
            Ok(node) if node.endpoint().udp != 0 => Some(node),
            Ok(_) | Err(CliError::NoEndpoint) => None,
            Err(error) => return Err(error),
        },
        TargetArg::Key(_) | TargetArg::Id(_) => None,
    };
    let discoverer = Discoverer::for_asking(&args.discover, given.as_ref()).await?;
    let found = match &given {
        Some(node) => asked(&discoverer, node).await,
        None => match discoverer.check_start(&args.discover) {
            Ok(()) => looked_for(&discoverer, &args.node).await,
            Err(error) => Err(error),
        },
    };
    discoverer.stop().await?;
    let node = found?;
    let known = given.as_ref();
    let newer = known
        .is_none_or(|known| known.record() != node.record() || known.endpoint() != node.endpoint());
    let report = ResolveReport {
        node: NodeReport::new(&node),
        newer,
    };
    output.print(&report, |report| report.node.name().to_owned())
}

/// The node's newest state, starting from where it was.
async fn asked(discoverer: &Discoverer, node: &Node) -> Result<Node, CliError> {
    let address = node.endpoint().udp_addr();
    let failed = |source| CliError::Asked { address, source };
    let newer = discoverer.service.resolve(node.clone()).await;
    if let Some(newer) = newer.map_err(failed)? {
        return Ok(newer);
    }
    // Nothing newer is known to anybody. Good news only if the node is still there.
    let record = discoverer.record(node).await?;
    Ok(node.clone().with_record(record).unwrap_or(node.clone()))
}

/// A node of which only the name is known.
async fn looked_for(discoverer: &Discoverer, target: &TargetArg) -> Result<Node, CliError> {
    let found = discoverer.service.lookup(target.target()).await;
    let id = target.id();
    let found = found.map_err(CliError::LookupFailed)?;
    let node = found.into_iter().find(|node| node.id() == id);
    let node = node.ok_or(CliError::NotFound { id })?;
    if node.record().is_some() {
        return Ok(node);
    }
    // A URL is what discv4 tells of others; the record has to come from the node.
    let record = discoverer.record(&node).await.ok();
    let with_record = record.and_then(|record| node.clone().with_record(record).ok());
    Ok(with_record.unwrap_or(node))
}
