//! `tercet nodeset`: what is in a node set, and a part of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use serde::Serialize;

use crate::crawl::store;
use crate::error::CliError;
use crate::nodeset::{FilterArgs, NodeFilter, NodeSet, Summary};
use crate::output::{Fields, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum NodesetCommand {
    /// Count the nodes of a set and the keys of their records
    #[command(after_help = "Example:\n  tercet nodeset info nodes.json")]
    Info {
        /// The node set
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Count the nodes of a set by client, fork and protocol
    #[command(after_help = "Examples:
  tercet nodeset summary nodes.json   what the records say
  tercet nodeset summary crawl.db     what answered, from the database of `tercet crawl --sqlite`")]
    Summary {
        /// The node set, or the database of a crawl
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the nodes of a set that pass every filter, as a node set
    #[command(
        after_help = "Example:\n  tercet nodeset filter nodes.json --eth-network mainnet --min-age 24h --limit 3000 > best.json"
    )]
    Filter(NodesetFilterArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NodesetFilterArgs {
    /// The node set
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// At most so many: those with the best score
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Only nodes in this network
    #[arg(long, value_name = "CIDR")]
    ip: Option<IpNet>,
    /// Only nodes that have answered over at least this time, for example 24h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    min_age: Option<Duration>,
    #[command(flatten)]
    record: FilterArgs,
    /// Only nodes with a TCP port
    #[arg(long)]
    dialable: bool,
    /// Only nodes whose record has the light client entry
    #[arg(long)]
    les_server: bool,
}

#[derive(Debug, Serialize)]
struct InfoReport {
    nodes: usize,
    keys: BTreeMap<String, usize>,
}

pub(crate) fn run(command: NodesetCommand, output: Output) -> Result<(), CliError> {
    match command {
        NodesetCommand::Info { file } => {
            let set = NodeSet::read(&file)?;
            let report = InfoReport {
                nodes: set.len(),
                keys: set.keys(),
            };
            output.print(&report, InfoReport::text)
        }
        NodesetCommand::Summary { file } => {
            let summary = if store::is_database(&file) {
                Summary::of_counts(&store::counts(&file)?)
            } else {
                Summary::of_set(&NodeSet::read(&file)?)
            };
            output.print(&summary, Summary::text)
        }
        NodesetCommand::Filter(args) => {
            let set = NodeSet::read(&args.file)?;
            let filter = NodeFilter {
                record: args.record,
                ip: args.ip,
                min_age: args.min_age,
                dialable: args.dialable,
                les_server: args.les_server,
            };
            let kept = set.filtered(&filter, args.limit);
            let text = kept.pretty().map_err(CliError::Json)?;
            output.print(&kept, |_| text.trim_end().to_owned())
        }
    }
}

impl Summary {
    fn text(&self) -> String {
        let mut fields = Fields::default();
        fields.add("nodes", self.nodes);
        for (title, counts) in [
            ("client", &self.clients),
            ("fork", &self.forks),
            ("protocol", &self.protocols),
        ] {
            // The most frequent first; equal ones by name.
            let mut rows: Vec<_> = counts.iter().collect();
            rows.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            fields.add(format!("by {title}"), "");
            for (name, count) in rows {
                fields.add(format!("  {name}"), count);
            }
        }
        fields.render()
    }
}

impl InfoReport {
    fn text(&self) -> String {
        let mut fields = Fields::default();
        fields.add("nodes", self.nodes);
        for (key, count) in &self.keys {
            fields.add(format!("  {key}"), count);
        }
        fields.render()
    }
}
