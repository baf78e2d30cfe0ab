//! `tercet node`: one node, from its options to its clean end.

mod discovery;
mod events;
mod network;
pub(crate) mod options;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tercet_discovery::Discovery;
use tercet_discovery::dns::SyncCounters;
use tercet_enode::{Node, NodeId, SecretKey};
use tercet_eth_peer::{
    ChainBackend, ChainFolder, EthConfig, EthEvent, EthNetwork, MemoryPool, PoolConfig, StateView,
    UnknownState,
};
use tercet_machine::Clock;
use tercet_nodedb::NodeDb;
use tercet_server::{Server, ServerConfig, ServerEvent};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep_until};

use self::events::{NodeEvent, Started};
use self::network::GenesisOnly;
use self::options::{Identity, Nat, NodeOptions};
use crate::cmd::{self, DEFAULT_PORT};
use crate::error::CliError;
use crate::events::Reporter;
use crate::keyfile;
use crate::output::Output;
use crate::signals::Interrupt;

/// Folder under the home folder, without `--datadir`.
const DEFAULT_DATADIR: &str = ".tercet";
/// geth's default.
const DEFAULT_MAX_PEERS: usize = 50;
/// Mainnet, geth's default.
const DEFAULT_NETWORK: u64 = 1;
/// Numbers that change all the time are said at most this often.
const COUNTS_INTERVAL: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet node --datadir ./a --nat extip:203.0.113.7
  tercet node --datadir ./b --port 30304 --bootnodes enode://KEY@127.0.0.1:30303
  tercet node --config node.toml --json

The options file is TOML with the same names, for example:
  datadir = \"./a\"
  port = 30304
  discovery.port = 30305
  bootnodes = [\"enode://KEY@127.0.0.1:30303\"]

Ctrl-C or SIGTERM stops the node cleanly.")]
pub(crate) struct NodeArgs {
    /// Options file (TOML); flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: NodeOptions,
}

pub(crate) async fn run(args: NodeArgs, output: Output) -> Result<(), CliError> {
    let mut interrupt = Interrupt::listen().map_err(CliError::Signals)?;
    let options = match &args.config {
        Some(path) => args.options.over(NodeOptions::read(path)?),
        None => args.options,
    };
    let reporter = Reporter::new(output, Clock::start());
    let mut running = Running::start(options).await?;
    let told = tokio::select! {
        told = running.tell(&reporter) => told,
        () = interrupt.recv() => reporter.say(&NodeEvent::Stopping),
    };
    let stopped = running.shutdown().await;
    told.and(stopped)
        .and_then(|()| reporter.say(&NodeEvent::Stopped))
}

/// What a node serves.
struct Chain {
    blocks: Arc<dyn ChainBackend>,
    state: Arc<dyn StateView>,
    name: String,
    network_id: u64,
}

/// The chain to serve: a folder's, or the beginning of a public network's.
fn chain(options: &NodeOptions) -> Result<Chain, CliError> {
    if let Some(folder) = &options.chain {
        let chain = ChainFolder::open(folder).map_err(CliError::Chain)?;
        let network_id = options.networkid.unwrap_or_else(|| chain.network_id());
        let state: Arc<dyn StateView> = match chain.state() {
            Some(state) => Arc::new(state.clone()),
            None => Arc::new(UnknownState),
        };
        let name = format!("chain {}", folder.display());
        return Ok(Chain {
            blocks: Arc::new(chain),
            state,
            name,
            network_id,
        });
    }
    let id = options.networkid.unwrap_or(DEFAULT_NETWORK);
    let chain = GenesisOnly::new(id).ok_or(CliError::UnknownNetwork { id })?;
    let name = chain.name().to_owned();
    Ok(Chain {
        blocks: Arc::new(chain),
        state: Arc::new(UnknownState),
        name,
        network_id: id,
    })
}

/// The folder to use, made if it is not there.
fn datadir(options: &NodeOptions) -> Result<PathBuf, CliError> {
    let path = match &options.datadir {
        Some(path) => path.clone(),
        None => std::env::home_dir()
            .ok_or(CliError::NoHome)?
            .join(DEFAULT_DATADIR),
    };
    std::fs::create_dir_all(&path).map_err(|source| CliError::Datadir {
        path: path.clone(),
        source,
    })?;
    Ok(path)
}

/// The node's key: as given, or the one in the datadir, which is made on the first start.
fn node_key(options: &NodeOptions, datadir: &Path) -> Result<SecretKey, CliError> {
    let given = keyfile::KeyArgs {
        nodekey: options.nodekey.clone(),
        nodekeyhex: options.nodekeyhex.clone(),
    };
    if let Some(key) = given.load()? {
        return Ok(key);
    }
    let path = datadir.join("nodekey");
    if path.exists() {
        return Ok(keyfile::read(&path)?);
    }
    let key = cmd::new_key();
    keyfile::create(&path, &key)?;
    Ok(key)
}

struct Running {
    server: Server,
    eth: EthNetwork,
    /// From before the server started, so that nothing is missed.
    eth_events: broadcast::Receiver<EthEvent>,
    pool: Arc<MemoryPool>,
    db: NodeDb,
    /// What the reading of lists in DNS has come to.
    dns: Option<watch::Receiver<SyncCounters>>,
    started: Box<Started>,
}

/// Numbers that change all the time, as they were told last.
#[derive(Default, PartialEq)]
struct Counts {
    table: (usize, usize),
    transactions: (usize, u64),
    dns: SyncCounters,
}

impl Running {
    async fn start(options: NodeOptions) -> Result<Self, CliError> {
        let Chain {
            blocks,
            state,
            name,
            network_id,
        } = chain(&options)?;
        let datadir = datadir(&options)?;
        let key = node_key(&options, &datadir)?;
        let id = key.node_id();
        let path = datadir.join("nodes");
        let (db, report) = tokio::task::spawn_blocking(move || NodeDb::open(path))
            .await
            .map_err(CliError::Task)?
            .map_err(CliError::Database)?;
        let bootnodes = cmd::boot_nodes(None, options.bootnodes.as_ref()).await;
        let client = cmd::client_id(options.identity.as_ref().map(Identity::as_str));
        let config = server_config(&options, key, &client, bootnodes.clone())?;
        let pool = Arc::new(MemoryPool::new(PoolConfig::new(blocks.chain_id()), state));
        let mut eth_config = EthConfig::new(id);
        eth_config.network_id = Some(network_id);
        let eth = EthNetwork::new(eth_config, Arc::clone(&blocks), Arc::clone(&pool) as _)
            .map_err(CliError::Eth)?;
        let eth_events = eth.subscribe();
        let dns = options.discovery.dns(options.netrestrict.as_ref(), &db)?;
        let server = Server::start(config, eth.protocols(), db.clone())
            .await
            .map_err(CliError::Server)?;
        let dns = match dns {
            Some(dns) => {
                server.add_source(dns.source).map_err(CliError::Source)?;
                Some(dns.counters)
            }
            None => None,
        };
        let started = Box::new(Started {
            id: server.local_node().id().to_string(),
            enode: server.enode().to_string(),
            enr: server.local_record().to_string(),
            client,
            tcp: server.local_addr(),
            udp: server.discovery().map(Discovery::local_addr),
            udp6: server.discovery().and_then(Discovery::local_addr_v6),
            network: name,
            network_id,
            genesis: blocks.genesis_hash().to_string(),
            head: blocks.head().number,
            datadir,
            database: report.to_string(),
            bootnodes: bootnodes.len(),
        });
        Ok(Self {
            server,
            eth,
            eth_events,
            pool,
            db,
            dns,
            started,
        })
    }

    /// Tells what happens until nobody listens any more.
    async fn tell(&mut self, reporter: &Reporter) -> Result<(), CliError> {
        let mut server_events = self.server.subscribe();
        reporter.say(&NodeEvent::Started(self.started.clone()))?;
        let mut peers = Peers::default();
        // Those that were there before anybody listened.
        for info in self.server.peers().iter() {
            let info = Arc::new(info.clone());
            let event = ServerEvent::PeerAdded { info };
            peers.tell(&event, reporter)?;
        }
        let mut record = self.server.local_record();
        let mut counts = Counts::default();
        let mut next_counts = Instant::now() + COUNTS_INTERVAL;
        loop {
            tokio::select! {
                event = server_events.recv() => match event {
                    Ok(event) => peers.tell(&event, reporter)?,
                    Err(RecvError::Lagged(events)) => {
                        peers = Peers::of(&self.server);
                        reporter.say(&NodeEvent::Missed { events })?;
                    }
                    Err(RecvError::Closed) => return Ok(()),
                },
                event = self.eth_events.recv() => match event {
                    Ok(event) => peers.tell_eth(&event, reporter)?,
                    // The transactions it missed are in the counts all the same.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return Ok(()),
                },
                () = sleep_until(next_counts) => {
                    next_counts = Instant::now() + COUNTS_INTERVAL;
                    self.tell_counts(reporter, &mut counts)?;
                    let current = self.server.local_record();
                    if current.seq() != record.seq() {
                        let (enr, seq) = (current.to_string(), current.seq());
                        reporter.say(&NodeEvent::Record { enr, seq })?;
                    }
                    record = current;
                }
            }
        }
    }

    /// Tells the numbers that have changed.
    fn tell_counts(&self, reporter: &Reporter, told: &mut Counts) -> Result<(), CliError> {
        let table = self.server.discovery().map(Discovery::table);
        let now = Counts {
            table: table.map_or((0, 0), |table| (table.len(), table.live_len())),
            transactions: (self.pool.len(), self.eth.stats().duplicates),
            dns: self
                .dns
                .as_ref()
                .map(|dns| *dns.borrow())
                .unwrap_or_default(),
        };
        if now.table != told.table {
            let (nodes, live) = now.table;
            reporter.say(&NodeEvent::Table { nodes, live })?;
        }
        if now.transactions != told.transactions {
            let (pool, duplicates) = now.transactions;
            reporter.say(&NodeEvent::Transactions { pool, duplicates })?;
        }
        if now.dns != told.dns {
            reporter.say(&NodeEvent::dns(now.dns))?;
        }
        *told = now;
        Ok(())
    }

    async fn shutdown(self) -> Result<(), CliError> {
        self.server.shutdown().await;
        self.eth.shutdown().await;
        self.db.shutdown().await.map_err(CliError::Store)
    }
}

/// Agreements kept back at most until their peer has been told of.
const MAX_EARLY: usize = 64;

/// The peers that have been told of. Counting them here keeps each number in step with its line, and a Status that was agreed
/// before its peer was told of (the two come by different ways) waits for it.
#[derive(Default)]
struct Peers {
    told: BTreeSet<NodeId>,
    early: BTreeMap<NodeId, NodeEvent>,
}

impl Peers {
    fn of(server: &Server) -> Self {
        let told = server.peers().iter().map(|info| info.id).collect();
        Self {
            told,
            early: BTreeMap::new(),
        }
    }

    /// Tells a change of the peers, once.
    fn tell(&mut self, event: &ServerEvent, reporter: &Reporter) -> Result<(), CliError> {
        let (news, added) = match event {
            ServerEvent::PeerAdded { info } => (self.told.insert(info.id), Some(info.id)),
            ServerEvent::PeerDropped { id, .. } => (self.told.remove(id), None),
            _ => (true, None),
        };
        if let Some(event) = events::from_server(event, self.told.len()).filter(|_| news) {
            reporter.say(&event)?;
        }
        match added.and_then(|id| self.early.remove(&id)) {
            Some(event) => reporter.say(&event),
            None => Ok(()),
        }
    }

    /// Tells of a Status agreed, after its peer.
    fn tell_eth(&mut self, event: &EthEvent, reporter: &Reporter) -> Result<(), CliError> {
        let Some((id, event)) = events::from_eth(event) else {
            return Ok(());
        };
        if self.told.contains(&id) || self.early.len() >= MAX_EARLY {
            return reporter.say(&event);
        }
        self.early.insert(id, event);
        Ok(())
    }
}

fn server_config(
    options: &NodeOptions,
    key: SecretKey,
    client: &str,
    bootnodes: Vec<Node>,
) -> Result<ServerConfig, CliError> {
    let ip = options.addr.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let port = options.port.unwrap_or(DEFAULT_PORT);
    let outer = match options.nat {
        Some(Nat::ExtIp(outer)) => Some(outer),
        Some(Nat::None) | None => None,
    };
    let mut config = ServerConfig::builder(key)
        .listen(SocketAddr::new(ip, port))
        .client_id(client)
        .max_peers(options.maxpeers.unwrap_or(DEFAULT_MAX_PEERS))
        .nat(match outer {
            Some(outer) => tercet_server::Nat::ExtIp(outer.first()),
            None => tercet_server::Nat::None,
        });
    if let Some(networks) = &options.netrestrict {
        config = config.netrestrict(networks.0.iter().copied());
    }
    if !options.nodiscover.unwrap_or(false) {
        let listen = SocketAddr::new(ip, port);
        let mut discovery = options.discovery.config(listen).bootnodes(bootnodes);
        if let Some(outer) = outer {
            discovery = outer.announce(discovery);
        }
        config = config.discovery(discovery.build().map_err(CliError::DiscoveryConfig)?);
    }
    config.build().map_err(CliError::ServerConfig)
}
