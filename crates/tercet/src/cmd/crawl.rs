//! `tercet crawl`: runs the crawler over a discovery service, shows how far it is, and keeps the node set on disk.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use indicatif::{MultiProgress, ProgressBar};
use serde::Serialize;
use tercet_discovery::{Discovery, DiscoveryConfig, RequestError};
use tercet_enode::{Node, NodeAddress};
use tercet_machine::{Clock, Machine as _};
use tercet_nodedb::NodeDb;
use tokio::time::{Instant, sleep_until};

use super::discover::any_port_towards;
use super::node::options::List;
use crate::bootnodes;
use crate::crawl::{Crawl, CrawlInput, CrawlOutput, Progress};
use crate::error::CliError;
use crate::keyfile::KeyArgs;
use crate::nodeset::{EthNetworkName, FilterArgs, KnownNode, NodeFilter, NodeSet};
use crate::output::{Fields, Output};
use crate::signals::Interrupt;

/// Best nodes of an earlier crawl that discovery starts from, besides the boot nodes.
const MAX_STARTS: usize = 30;
/// A killed crawl loses at most what it learned in this time.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);
/// How often the progress line changes.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);

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
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    key: KeyArgs,
    /// Folder of a node database to use [default: in memory]
    #[arg(long, value_name = "DIR")]
    nodedb: Option<PathBuf>,
    /// Address to listen on [default: any port, of the first node's kind of address]
    #[arg(long, value_name = "IP:PORT")]
    addr: Option<SocketAddr>,
    /// The address others reach this crawler at
    #[arg(long, value_name = "IP")]
    extaddr: Option<IpAddr>,
}

/// The discovery driver takes 1,024 requests at a time; its own need some of them.
const MAX_PARALLEL: usize = tercet_discovery::MAX_OPS / 2;

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
    silent: usize,
    recent: usize,
    searches: usize,
    left_out: usize,
    rtt_ms: Option<f64>,
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
    let mut runner = Runner::start(&args, known, boot).await?;
    let bar = progress.add(ProgressBar::new_spinner());
    let ended = tokio::select! {
        ended = runner.run(&args, &bar) => ended,
        () = interrupt.recv() => Ok(false),
    };
    bar.finish_and_clear();
    runner.discovery.shutdown().await;
    let complete = ended?;
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
    discovery: Discovery,
    crawl: Crawl,
    clock: Clock,
    questions: FuturesUnordered<BoxFuture<'static, CrawlInput>>,
    started: Instant,
}

impl Runner {
    async fn start(args: &CrawlArgs, known: NodeSet, boot: Vec<Node>) -> Result<Self, CliError> {
        let best = known.filtered(&NodeFilter::default(), Some(MAX_STARTS));
        let best = best.iter().filter_map(|(_, node)| node.address.to_node());
        let starts: Vec<Node> = boot.iter().cloned().chain(best).collect();
        let first = starts.first().map(|node| node.endpoint().ip);
        let first = first.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let mut config = DiscoveryConfig::builder()
            .listen(args.addr.unwrap_or_else(|| any_port_towards(first)))
            .bootnodes(starts.clone());
        if let Some(ip) = args.extaddr {
            config = config.advertised_ip(ip);
        }
        let config = config.build().map_err(CliError::DiscoveryConfig)?;
        let key = args.key.load()?.unwrap_or_else(super::new_key);
        let db = match args.nodedb.clone() {
            None => NodeDb::memory().map_err(CliError::Database)?,
            Some(path) => tokio::task::spawn_blocking(move || NodeDb::open(path))
                .await
                .map_err(CliError::Task)?
                .map(|(db, _)| db)
                .map_err(CliError::Database)?,
        };
        let discovery = Discovery::start(config, key, db)
            .await
            .map_err(CliError::Discovery)?;
        let mut runner = Self {
            discovery,
            crawl: Crawl::new(args.parallel, rand::random()),
            clock: Clock::start(),
            questions: FuturesUnordered::new(),
            started: Instant::now(),
        };
        // A search starts from the table, so the first nodes have to be in it.
        if runner.discovery.refresh().await.is_err() || runner.discovery.table().live_len() == 0 {
            runner.discovery.shutdown().await;
            return Err(CliError::NobodyAnswered {
                nodes: starts.len(),
            });
        }
        let named = boot.iter().map(|node| {
            let record = node.record().cloned().map(NodeAddress::Record);
            KnownNode::new(record.unwrap_or(NodeAddress::Enode(node.enode_url())))
        });
        let known = known.iter().map(|(_, node)| node.clone());
        for node in known.chain(named).collect::<Vec<_>>() {
            runner.tell(CrawlInput::Known(node));
        }
        Ok(runner)
    }

    /// Crawls to the end; `false` if time was up first.
    async fn run(&mut self, args: &CrawlArgs, bar: &ProgressBar) -> Result<bool, CliError> {
        let end = self.started + args.timeout;
        let mut save_at = Instant::now() + SAVE_INTERVAL;
        let mut draw_at = Instant::now();
        loop {
            while let Some(output) = self.crawl.poll() {
                match output {
                    CrawlOutput::Done => return Ok(true),
                    question => self.questions.push(ask(self.discovery.clone(), question)),
                }
            }
            let wake = self
                .crawl
                .deadline()
                .map(|at| self.clock.instant(at).into());
            let wake = wake.unwrap_or(end).min(end).min(save_at).min(draw_at);
            tokio::select! {
                Some(input) = self.questions.next() => self.tell(input),
                () = sleep_until(wake) => self.crawl.handle_timeout(self.clock.now()),
            }
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
                bar.set_message(line(self.crawl.progress()));
                bar.tick();
            }
        }
    }

    fn tell(&mut self, input: CrawlInput) {
        self.crawl.handle(self.clock.now(), input);
    }

    /// Writes the file; says how many nodes are in it.
    fn save(&self, args: &CrawlArgs) -> Result<usize, CliError> {
        let filter = NodeFilter {
            record: args.filter.clone(),
            ..NodeFilter::default()
        };
        let set = self.crawl.set().filtered(&filter, None);
        set.write(Path::new(&args.file))?;
        Ok(set.len())
    }

    fn report(&self, args: &CrawlArgs, complete: bool) -> Result<CrawlReport, CliError> {
        let nodes = self.save(args)?;
        let progress = self.crawl.progress();
        Ok(CrawlReport {
            file: args.file.clone(),
            nodes,
            complete,
            seen: progress.seen,
            answered: progress.answered,
            silent: progress.silent,
            recent: progress.recent,
            searches: progress.searches,
            left_out: progress.left_out,
            rtt_ms: self.crawl.rtt().map(super::ping::milliseconds),
            elapsed_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }
}

/// Puts one question and waits for what comes of it.
fn ask(discovery: Discovery, question: CrawlOutput) -> BoxFuture<'static, CrawlInput> {
    Box::pin(async move {
        let asked = Instant::now();
        match &question {
            CrawlOutput::Search { search, target } => match discovery.lookup(*target).await {
                Err(RequestError::Busy) => CrawlInput::Busy(question),
                found => CrawlInput::Found {
                    search: *search,
                    nodes: found.unwrap_or_default(),
                },
            },
            CrawlOutput::Check(node) => match discovery.request_enr(node.clone()).await {
                Err(RequestError::Busy) => CrawlInput::Busy(question),
                Err(_) => CrawlInput::Silent { id: node.id() },
                Ok(record) => CrawlInput::Answered {
                    record,
                    rtt: asked.elapsed(),
                },
            },
            CrawlOutput::Done => CrawlInput::Busy(question),
        }
    })
}

fn line(progress: Progress) -> String {
    let Progress {
        seen,
        answered,
        silent,
        searches,
        window,
        ..
    } = progress;
    format!(
        "{seen} nodes seen, {answered} answered, {silent} did not; {searches} searches, window {window}"
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
            .add("did not answer", self.silent)
            .add("checked lately", self.recent)
            .add("searches", format!("{}, {end}", self.searches))
            .add_some("answer time", self.rtt_ms.map(|rtt| format!("{rtt} ms")))
            .add("took", format!("{:.2} s", self.elapsed_ms as f64 / 1000.0));
        if self.left_out > 0 {
            fields.add("left out", self.left_out);
        }
        fields.render()
    }
}
