//! `tercet crawl`: runs the crawler, shows how far it is, and keeps the node set and the database on disk. What nodes say over
//! RLPx is asked in `speak`; what goes into the database is put together in `records`.

mod records;
mod speak;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{MultiProgress, ProgressBar};
use serde::Serialize;
use tercet_discovery::Protocols;
use tercet_enode::{Node, NodeAddress, NodeId};
use tokio::time::Instant;

use self::speak::{Dials, Outcome};
use super::node::options::List;
use crate::crawl::store::Store;
use crate::crawl::{Driver, DriverConfig, Meeting, Progress};
use crate::error::CliError;
use crate::keyfile::KeyArgs;
use crate::nodeset::{Chain, EthNetworkName, FilterArgs, KnownNode, NodeSet};
use crate::output::{Fields, Output, nodes};
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
  tercet crawl nodes.json --sqlite crawl.db --status   remembers everything, client names and chains too

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
    /// Keep the full data of this crawl in a database, and go on from what it holds
    #[arg(long, value_name = "FILE")]
    sqlite: Option<PathBuf>,
    /// Connect to each wanted node over RLPx for its Hello: client name and capabilities
    #[arg(long)]
    hello: bool,
    /// As --hello, and for its eth Status: network, genesis and fork id
    #[arg(long)]
    status: bool,
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
    /// With --hello or --status: how many said their Hello, and how many their Status.
    #[serde(skip_serializing_if = "Option::is_none")]
    hellos: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    statuses: Option<usize>,
    searches: usize,
    left_out: usize,
    rtt_ms: Option<f64>,
    sent_bytes: u64,
    received_bytes: u64,
    /// The most this process had, where the system says.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_memory_bytes: Option<u64>,
    elapsed_ms: u64,
}

pub(crate) async fn run(
    args: CrawlArgs,
    output: Output,
    progress: &MultiProgress,
) -> Result<(), CliError> {
    let mut interrupt = Interrupt::listen().map_err(CliError::Signals)?;
    NodeSet::check_writable(&args.file)?;
    let mut known = if args.file.exists() {
        NodeSet::read(&args.file)?
    } else {
        NodeSet::default()
    };
    let is_filled = known.len() > 0;
    let mut chains = BTreeMap::new();
    if let Some(path) = &args.sqlite {
        chains = records::resume(&mut known, path.clone()).await?;
    }
    let boot = super::boot_nodes(args.network, args.bootnodes.as_ref()).await;
    if boot.is_empty() && known.len() == 0 {
        return Err(CliError::NobodyToAsk);
    }
    let mut runner = Runner::start(&args, (&known, &boot), chains).await?;
    runner.filled = is_filled;
    let bar = progress.add(ProgressBar::new_spinner());
    let ended = tokio::select! {
        ended = runner.run(&args, &bar) => ended,
        () = interrupt.recv() => Ok(false),
    };
    bar.finish_and_clear();
    let complete = ended?;
    if let Some(store) = runner.store.take() {
        store.end(runner.driver.now().unix, complete).await?;
    }
    let progress = runner.driver.crawl().progress();
    if complete && progress.answered == 0 && progress.recent == 0 {
        return Err(match progress.silent {
            0 => CliError::NobodyReachable {
                nodes: progress.seen,
                over_v5: matches!(args.protocol, Over::V5),
            },
            nodes => CliError::NobodyAnswered { nodes },
        });
    }
    let report = runner.report(&args, complete)?;
    output.print(&report, CrawlReport::text)
}

struct Runner {
    driver: Driver,
    store: Option<Store>,
    /// Without --hello and --status nobody is dialled.
    dials: Option<Dials>,
    /// Who was dialled or is to be.
    dialled: BTreeSet<NodeId>,
    /// What nodes have said of their chains, in this crawl or in one that is in the database.
    chains: BTreeMap<NodeId, Chain>,
    /// The file had nodes when the crawl began.
    filled: bool,
    hellos: usize,
    statuses: usize,
    started: Instant,
}

impl Runner {
    async fn start(
        args: &CrawlArgs,
        (known, boot): (&NodeSet, &[Node]),
        chains: BTreeMap<NodeId, Chain>,
    ) -> Result<Self, CliError> {
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
        let store = match &args.sqlite {
            Some(path) => Some(Store::begin(path, driver.now().unix).await?),
            None => None,
        };
        Ok(Self {
            driver,
            store,
            dials: (args.hello || args.status).then(|| Dials::new(args.status)),
            dialled: BTreeSet::new(),
            chains,
            filled: false,
            hellos: 0,
            statuses: 0,
            started: Instant::now(),
        })
    }

    /// Crawls to the end; `false` if time was up first.
    async fn run(&mut self, args: &CrawlArgs, bar: &ProgressBar) -> Result<bool, CliError> {
        let end = self.started + args.timeout;
        let mut save_at = self.started + SAVE_INTERVAL;
        let mut draw_at = self.started;
        while !self.driver.is_done() || self.dials.as_ref().is_some_and(|dials| !dials.is_empty()) {
            let wake = end.min(save_at).min(draw_at);
            let ended = match &mut self.dials {
                Some(dials) if !dials.is_empty() => {
                    tokio::select! {
                        ended = dials.next() => Some(ended?),
                        turned = turn(&mut self.driver, wake) => {
                            turned?;
                            None
                        }
                    }
                }
                _ => {
                    turn(&mut self.driver, wake).await?;
                    None
                }
            };
            if let Some(outcome) = ended {
                self.on_dialled(outcome).await?;
            }
            while let Some(met) = self.driver.next_met() {
                self.on_met(args, met).await?;
            }
            let now = Instant::now();
            if now >= end {
                return Ok(false);
            }
            if now >= save_at {
                save_at = now + SAVE_INTERVAL;
                match self.save(args) {
                    // Some may yet be found.
                    Ok(_) | Err(CliError::NobodyPasses { .. }) => {}
                    Err(error) => return Err(error),
                }
                if let Some(store) = &mut self.store {
                    store.flush().await?;
                }
            }
            if now >= draw_at {
                draw_at = now + DRAW_INTERVAL;
                bar.set_message(line(self.driver.crawl().progress()));
                bar.tick();
            }
        }
        Ok(true)
    }

    async fn on_met(&mut self, args: &CrawlArgs, met: Meeting) -> Result<(), CliError> {
        if let Some(store) = &mut self.store {
            let at = self.driver.now().unix;
            records::met(store, self.driver.crawl(), met, at).await?;
        }
        let Some(dials) = &mut self.dials else {
            return Ok(());
        };
        if let Some((known, Some(_))) = self.driver.crawl().node(&met.id)
            && met.rtt.is_some()
            && may_be_wanted(args, known)
            && self.dialled.insert(met.id)
        {
            dials.add(self.driver.crawl().places(&met.id));
        }
        Ok(())
    }

    async fn on_dialled(&mut self, outcome: Outcome) -> Result<(), CliError> {
        if let Ok((_, spoken)) = &outcome.said {
            self.hellos += 1;
            if let Some((_, status)) = &spoken.status {
                self.statuses += 1;
                self.chains.insert(outcome.node.id(), status.into());
            }
        }
        if let Some(store) = &mut self.store {
            let at = self.driver.now().unix;
            records::dialled(store, self.driver.crawl(), outcome, at).await?;
        }
        Ok(())
    }

    /// Writes the file; says how many nodes are in it. A file that has nodes is not emptied by a filter: that is more likely a slip.
    fn save(&self, args: &CrawlArgs) -> Result<usize, CliError> {
        let answering = || self.driver.crawl().set();
        let wanted = answering().filter(|known| {
            let (filter, record) = (&args.filter, known.record());
            match self.chains.get(&known.address.id()) {
                Some(chain) => filter.wants_on(chain, record),
                None => filter.wants(record),
            }
        });
        let wanted: BTreeMap<NodeId, &KnownNode> =
            wanted.map(|known| (known.address.id(), known)).collect();
        let nodes = answering().count();
        if self.filled && wanted.is_empty() && nodes > 0 {
            let path = args.file.clone();
            return Err(CliError::NobodyPasses { nodes, path });
        }
        NodeSet::write_nodes(&args.file, &wanted)?;
        Ok(wanted.len())
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
            hellos: self.dials.as_ref().map(|_| self.hellos),
            statuses: self.dials.as_ref().map(|_| self.statuses),
            searches: progress.searches,
            left_out: progress.left_out,
            rtt_ms: self.driver.crawl().rtt().map(super::ping::milliseconds),
            sent_bytes: traffic.sent_bytes,
            received_bytes: traffic.received_bytes,
            peak_memory_bytes: crate::memory::peak(),
            elapsed_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }
}

/// Whether to connect to a node: if it is wanted by its record, or, where it will say its chain, if nothing speaks against it.
fn may_be_wanted(args: &CrawlArgs, known: &KnownNode) -> bool {
    if args.status {
        args.filter.may_want(known.record())
    } else {
        args.filter.wants(known.record())
    }
}

/// A turn of the crawl; once that is over only dials are waited for.
async fn turn(driver: &mut Driver, wake: Instant) -> Result<(), CliError> {
    if driver.is_done() {
        tokio::time::sleep_until(wake).await;
        return Ok(());
    }
    Ok(driver.turn(wake).await?)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB at most", bytes as f64 / f64::from(1 << 20))
}

fn line(progress: Progress) -> String {
    let Progress {
        seen,
        answered,
        answered_v4,
        answered_v5,
        silent,
        asking,
        waiting,
        searches,
        window,
        ..
    } = progress;
    let seen = nodes(seen);
    format!(
        "{seen} seen, {answered} answered (v4 {answered_v4}, v5 {answered_v5}), {silent} did not; \
         {waiting} visits to go, {searches} searches done, {asking} of {window} questions under way"
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
                format!("{}, {}", self.file.display(), nodes(self.nodes)),
            )
            .add("seen", self.seen)
            .add("answered", self.answered)
            .add("  over discv4", self.answered_v4)
            .add("  over discv5", self.answered_v5)
            .add("did not answer", self.silent)
            .add("checked lately", self.recent)
            .add_some("said Hello", self.hellos)
            .add_some("said Status", self.statuses)
            .add("searches", format!("{}, {end}", self.searches))
            .add_some("answer time", self.rtt_ms.map(|rtt| format!("{rtt} ms")))
            .add(
                "traffic",
                format!("{} bytes out, {} in", self.sent_bytes, self.received_bytes),
            )
            .add_some("memory", self.peak_memory_bytes.map(mebibytes))
            .add("took", format!("{:.2} s", self.elapsed_ms as f64 / 1000.0));
        if self.left_out > 0 {
            fields.add("left out", self.left_out);
        }
        fields.render()
    }
}

#[cfg(test)]
mod tests;
