//! `tercet crawl`: runs the crawler over a discovery service, shows how far it is, and keeps the node set on disk.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{MultiProgress, ProgressBar};
use serde::Serialize;
use tercet_discovery::Protocols;
use tercet_enode::{Node, NodeAddress};
use tokio::time::Instant;

use super::node::options::List;
use crate::bootnodes;
use crate::crawl::{Driver, DriverConfig, Progress};
use crate::error::CliError;
use crate::keyfile::KeyArgs;
use crate::nodeset::{EthNetworkName, FilterArgs, KnownNode, NodeFilter, NodeSet};
use crate::output::{Fields, Output};
use crate::signals::Interrupt;

/// A killed crawl loses at most what it learned in this time.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);
/// How often the progress line changes.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);
/// Most requests under way: the discv5 sessions of as many handshakes are a quarter of those kept.
const MAX_PARALLEL: usize = tercet_discovery::v5::DEFAULT_SESSIONS / 4;

/// Over which protocols nodes are asked.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Over {
    /// discv4
    V4,
    /// discv5
    V5,
    /// Each node over both, where possible
    Both,
}

impl From<Over> for Protocols {
    fn from(over: Over) -> Self {
        match over {
            Over::V4 => Self::V4,
            Over::V5 => Self::V5,
            Over::Both => Self::ALL,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet crawl nodes.json --bootnodes enode://KEY@127.0.0.1:30303
  tercet crawl nodes.json --network mainnet --timeout 30m --eth-network mainnet
  tercet crawl nodes.json                       goes on from the nodes in the file

Nothing is sent to a public network unless --bootnodes, --network or the file names nodes there. Ctrl-C saves.")]
pub(crate) struct CrawlArgs {
    /// The node set to write; if it exists, its nodes are checked again
    #[arg(value_name = "OUT.json")]
    file: PathBuf,
    /// Stop after this time
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Most requests under way
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = parallel)]
    parallel: usize,
    /// Nodes to start from: enode URLs or ENRs, separated by commas
    #[arg(long, value_name = "NODE,...")]
    bootnodes: Option<List<NodeAddress>>,
    /// Start from the public boot nodes of mainnet, sepolia, holesky or hoodi
    #[arg(long, value_name = "NAME")]
    network: Option<EthNetworkName>,
    /// Ask over discv4, discv5 or both
    #[arg(long, value_name = "PROTOCOL", value_enum, default_value_t = Over::Both)]
    protocol: Over,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    key: KeyArgs,
    /// The only address to listen on [default: any port, of both kinds of address]
    #[arg(long, value_name = "IP:PORT")]
    addr: Option<SocketAddr>,
    /// The address others reach this crawler at
    #[arg(long, value_name = "IP")]
    extaddr: Option<IpAddr>,
}

fn parallel(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(parallel) if (1..=MAX_PARALLEL).contains(&parallel) => Ok(parallel),
        _ => Err(format!("expected 1 to {MAX_PARALLEL}")),
    }
}

#[derive(Debug, Serialize)]
struct CrawlReport {
    file: PathBuf,
    /// Nodes in the file.
    nodes: usize,
    /// Whether the crawl came to its own end, before its time was up and without Ctrl-C.
    complete: bool,
    seen: usize,
    answered: usize,
    answered_v4: usize,
    answered_v5: usize,
    silent: usize,
    recent: usize,
    searches: usize,
    left_out: usize,
    rtt_ms: Option<f64>,
    sent_bytes: u64,
    received_bytes: u64,
    elapsed_ms: u64,
}

pub(crate) async fn run(
    args: CrawlArgs,
    output: Output,
    progress: &MultiProgress,
) -> Result<(), CliError> {
    let mut interrupt = Interrupt::listen().map_err(CliError::Signals)?;
    let known = if args.file.exists() {
        NodeSet::read(&args.file)?
    } else {
        NodeSet::default()
    };
    let boot = boot_nodes(&args).await;
    if boot.is_empty() && known.len() == 0 {
        return Err(CliError::NobodyToAsk);
    }
    let mut runner = Runner::start(&args, &known, &boot)?;
    let bar = progress.add(ProgressBar::new_spinner());
    let ended = tokio::select! {
        ended = runner.run(&args, &bar) => ended,
        () = interrupt.recv() => Ok(false),
    };
    bar.finish_and_clear();
    let complete = ended?;
    let progress = runner.driver.crawl().progress();
    if complete && progress.answered == 0 && progress.recent == 0 {
        return Err(CliError::NobodyAnswered {
            nodes: progress.silent,
        });
    }
    let report = runner.report(&args, complete)?;
    output.print(&report, CrawlReport::text)
}

/// The nodes the user named; names that cannot be found are left out with a warning.
async fn boot_nodes(args: &CrawlArgs) -> Vec<Node> {
    let mut nodes = args
        .network
        .map_or_else(Vec::new, |network| bootnodes::of(network.0.name));
    for address in args.bootnodes.iter().flat_map(|list| &list.0) {
        match super::contact(address).await {
            Ok(node) => nodes.push(node),
            Err(error) => {
                tracing::warn!(bootnode = %address, "left out: {}", crate::error::chain(&error));
            }
        }
    }
    nodes
}

struct Runner {
    driver: Driver,
    started: Instant,
}

impl Runner {
    fn start(args: &CrawlArgs, known: &NodeSet, boot: &[Node]) -> Result<Self, CliError> {
        let known_nodes = known.iter().map(|(_, node)| node);
        let first = known.iter().find_map(|(_, node)| node.address.to_node());
        let first = boot.first().cloned().or(first);
        let towards = first.map_or(Ipv4Addr::UNSPECIFIED.into(), |node| node.endpoint().ip);
        let mut driver = Driver::start(DriverConfig {
            key: args.key.load()?.unwrap_or_else(super::new_key),
            addr: args.addr,
            advertised: args.extaddr,
            towards,
            parallel: args.parallel,
            protocols: args.protocol.into(),
        })?;
        let named = boot.iter().map(|node| {
            let record = node.record().cloned().map(NodeAddress::Record);
            KnownNode::new(record.unwrap_or(NodeAddress::Enode(node.enode_url())))
        });
        for node in known_nodes.cloned().chain(named) {
            driver.known(node);
        }
        Ok(Self {
            driver,
            started: Instant::now(),
        })
    }

    /// Crawls to the end; `false` if time was up first.
    async fn run(&mut self, args: &CrawlArgs, bar: &ProgressBar) -> Result<bool, CliError> {
        let end = self.started + args.timeout;
        let mut save_at = self.started + SAVE_INTERVAL;
        let mut draw_at = self.started;
        while !self.driver.is_done() {
            self.driver.turn(end.min(save_at).min(draw_at)).await?;
            while self.driver.next_met().is_some() {}
            let now = Instant::now();
            if now >= end {
                return Ok(false);
            }
            if now >= save_at {
                save_at = now + SAVE_INTERVAL;
                self.save(args)?;
            }
            if now >= draw_at {
                draw_at = now + DRAW_INTERVAL;
                bar.set_message(line(self.driver.crawl().progress()));
                bar.tick();
            }
        }
        Ok(true)
    }

    /// Writes the file; says how many nodes are in it.
    fn save(&self, args: &CrawlArgs) -> Result<usize, CliError> {
        let filter = NodeFilter {
            record: args.filter.clone(),
            ..NodeFilter::default()
        };
        let set = self.driver.crawl().set().filtered(&filter, None);
        set.write(Path::new(&args.file))?;
        Ok(set.len())
    }

    fn report(&self, args: &CrawlArgs, complete: bool) -> Result<CrawlReport, CliError> {
        let nodes = self.save(args)?;
        let progress = self.driver.crawl().progress();
        let traffic = self.driver.traffic();
        tracing::debug!(?traffic, counters = ?self.driver.counters(), "on the wire");
        Ok(CrawlReport {
            file: args.file.clone(),
            nodes,
            complete,
            seen: progress.seen,
            answered: progress.answered,
            answered_v4: progress.answered_v4,
            answered_v5: progress.answered_v5,
            silent: progress.silent,
            recent: progress.recent,
            searches: progress.searches,
            left_out: progress.left_out,
            rtt_ms: self.driver.crawl().rtt().map(super::ping::milliseconds),
            sent_bytes: traffic.sent_bytes,
            received_bytes: traffic.received_bytes,
            elapsed_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }
}

fn line(progress: Progress) -> String {
    let Progress {
        seen,
        answered,
        answered_v4,
        answered_v5,
        silent,
        waiting,
        searches,
        window,
        ..
    } = progress;
    format!(
        "{seen} nodes seen, {answered} answered (v4 {answered_v4}, v5 {answered_v5}), {silent} did not, {waiting} to go; \
         {searches} searches, window {window}"
    )
}

impl CrawlReport {
    fn text(&self) -> String {
        let end = if self.complete {
            "the whole key space was searched"
        } else {
            "stopped before its end"
        };
        let mut fields = Fields::default();
        fields
            .add(
                "file",
                format!("{}, {} nodes", self.file.display(), self.nodes),
            )
            .add("seen", self.seen)
            .add("answered", self.answered)
            .add("  over discv4", self.answered_v4)
            .add("  over discv5", self.answered_v5)
            .add("did not answer", self.silent)
            .add("checked lately", self.recent)
            .add("searches", format!("{}, {end}", self.searches))
            .add_some("answer time", self.rtt_ms.map(|rtt| format!("{rtt} ms")))
            .add(
                "traffic",
                format!("{} bytes out, {} in", self.sent_bytes, self.received_bytes),
            )
            .add("took", format!("{:.2} s", self.elapsed_ms as f64 / 1000.0));
        if self.left_out > 0 {
            fields.add("left out", self.left_out);
        }
        fields.render()
    }
}
