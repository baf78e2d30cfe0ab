//! The command line: flag names are geth's wherever geth has the flag. A mistyped command is one line on stderr and exit
//! code 2, like every other bad input.

use std::io::Write as _;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::cmd::crawl::CrawlArgs;
use crate::cmd::devnet::DevnetArgs;
use crate::cmd::dns::DnsCommand;
use crate::cmd::enr::EnrCommand;
use crate::cmd::hello::HelloArgs;
use crate::cmd::key::KeyCommand;
use crate::cmd::listen::ListenArgs;
use crate::cmd::lookup::LookupArgs;
use crate::cmd::node::NodeArgs;
use crate::cmd::nodeset::NodesetCommand;
use crate::cmd::ping::PingArgs;
use crate::cmd::requestenr::RequestEnrArgs;
use crate::cmd::resolve::ResolveArgs;
use crate::cmd::status::StatusArgs;
use crate::error::EXIT_BAD_INPUT;

/// Ethereum's peer-to-peer stack (devp2p) as one program
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = "Examples:
  tercet devnet                             eight nodes find each other and gossip, in one process
  tercet node --datadir ./a                 one node; prints its enode and ENR, Ctrl-C stops it
  tercet key generate ./nodekey             a new node key
  tercet enr decode enr:-IS4...             what a record says, and whether its signature holds
  tercet status enode://KEY@10.3.58.6:30303 the chain a peer serves
  tercet listen --addr :30301               a boot node; shows its table as it fills

Exit codes: 0 success, 1 it failed (unreachable, refused, incomplete), 2 bad input."
)]
pub(crate) struct Cli {
    /// Print results as JSON: one object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log lines on stderr: 0 none, 1 errors, 2 warnings, 3 information, 4 debugging, 5 everything [default: 3 for node and listen, else 2]
    #[arg(long, global = true, value_name = "0..5", value_parser = clap::value_parser!(u8).range(0..=5))]
    pub(crate) verbosity: Option<u8>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one node
    Node(Box<NodeArgs>),
    /// Run many nodes in this process, let them find each other and gossip transactions, and check that all arrive
    Devnet(DevnetArgs),
    /// Make a node key, or show what belongs to one
    #[command(subcommand)]
    Key(KeyCommand),
    /// Read or sign Ethereum node records
    #[command(subcommand)]
    Enr(EnrCommand),
    /// Find all nodes of the network, check each and keep a set of them (nodes.json)
    Crawl(Box<CrawlArgs>),
    /// Look into sets of nodes (nodes.json) and take parts of them
    #[command(subcommand)]
    Nodeset(NodesetCommand),
    /// Fetch, sign and publish lists of nodes in DNS
    #[command(subcommand)]
    Dns(DnsCommand),
    /// Run a node that takes part in discovery only (a boot node) and watch its table fill
    Listen(Box<ListenArgs>),
    /// Ping a node over discv4 or discv5
    Ping(Box<PingArgs>),
    /// Fetch a node's record from the node itself
    Requestenr(Box<RequestEnrArgs>),
    /// Find out where a node is now and what its newest record says
    Resolve(Box<ResolveArgs>),
    /// Find the nodes closest to a place in the id space
    Lookup(Box<LookupArgs>),
    /// Do the RLPx handshake with a node and print its Hello
    Hello(HelloArgs),
    /// Connect to a node and print its eth Status
    Status(StatusArgs),
}

impl Command {
    /// geth's 3 for the long-running nodes; the other commands say what matters on stdout.
    pub(crate) fn default_verbosity(&self) -> u8 {
        if matches!(self, Self::Node(_) | Self::Listen(_)) {
            3
        } else {
            2
        }
    }
}

/// Prints what clap has to say: help and version as they are, a mistake in one line.
pub(crate) fn report(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        // A closed stdout or stderr leaves nobody to tell.
        let _closed = error.print();
        return if error.use_stderr() {
            ExitCode::from(EXIT_BAD_INPUT)
        } else {
            ExitCode::SUCCESS
        };
    }
    let _closed = writeln!(std::io::stderr(), "{}", one_line(&error.to_string()));
    ExitCode::from(EXIT_BAD_INPUT)
}

/// Folds clap's paragraphs (the mistake, then tips, then usage and a pointer to --help) to the mistake and its tips.
fn one_line(rendered: &str) -> String {
    rendered
        .split("\n\n")
        .filter(|paragraph| {
            !paragraph.starts_with("Usage:") && !paragraph.starts_with("For more information")
        })
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|paragraph| !paragraph.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command, CommandFactory as _, Parser as _};

    use super::{Cli, one_line};

    const DOCS: &str = include_str!("../../../docs/cli.md");

    fn flags(command: &Command) -> impl Iterator<Item = (&Arg, String)> {
        let own = command.get_arguments().filter(|arg| !arg.is_global_set());
        let named = own.filter_map(|arg| arg.get_long().map(|long| (arg, format!("--{long}"))));
        named.filter(|(_, flag)| flag != "--help" && flag != "--version")
    }

    #[test]
    fn every_command_and_every_flag_is_documented() {
        let cli = Cli::command();
        let mut open: Vec<(String, &Command)> = vec![(String::new(), &cli)];
        while let Some((path, command)) = open.pop() {
            for (_, flag) in flags(command) {
                assert!(DOCS.contains(&flag), "{path}: {flag}");
            }
            let named = command
                .get_subcommands()
                .filter(|inner| inner.get_name() != "help");
            for inner in named {
                let path = format!("{path} {}", inner.get_name());
                assert!(DOCS.contains(path.trim_start()), "{path}");
                open.push((path, inner));
            }
        }
    }

    /// What the help says of a default, the table of the node's options says too.
    #[test]
    fn the_documented_defaults_of_a_node_are_those_of_the_help() {
        let cli = Cli::command();
        let node = cli.find_subcommand("node").unwrap();
        let mut compared = 0;
        for (arg, flag) in flags(node) {
            let help = arg.get_help().unwrap().to_string();
            let Some((_, default)) = help.split_once("[default: ") else {
                continue;
            };
            let default = default.trim_end_matches(']');
            let wanted = |line: &&str| line.starts_with('|') && line.contains(&format!("`{flag}"));
            let row = DOCS
                .lines()
                .find(wanted)
                .unwrap_or_else(|| panic!("{flag}"));
            let last = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
            assert_eq!(last.replace('`', ""), default, "{flag}");
            compared += 1;
        }
        assert!(compared > 10, "{compared}");
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn mistakes_fit_one_line() {
        for line in [
            &["tercet", "ping"][..],
            &["tercet", "nod"],
            &["tercet", "node", "--prot", "1"],
            &["tercet", "devnet", "--nodes", "x"],
        ] {
            let error = Cli::try_parse_from(line).expect_err("a mistake");
            let text = one_line(&error.to_string());
            assert!(
                text.starts_with("error: ") && !text.contains('\n') && !text.contains("Usage"),
                "{text}"
            );
        }
    }
}
