//! `tercet devnet`: many real nodes in one process on loopback. All but the first know only the first's enode URL; they must
//! find each other by discovery, connect, agree on the chain, and carry every transaction from one of them to all.
#![allow(clippy::disallowed_methods)] // a driver: it spawns the nodes' observers and joins them

mod chain;
mod facts;
mod member;
mod report;
mod screen;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures::stream::StreamExt as _;
use indicatif::MultiProgress;
use tercet_machine::Clock;
use tokio::time::MissedTickBehavior;

pub(crate) use self::chain::DevnetChainError;
pub(crate) use self::facts::Lacks;

use self::chain::Plan;
use self::facts::{Goal, NodeFacts};
use self::member::{Member, Shared};
use self::report::{DevnetReport, HeadReport, NodeReport};
use self::screen::Screen;
use crate::descriptors;
use crate::error::CliError;
use crate::output::Output;
use crate::signals::Interrupt;

/// Most nodes: what still fits one machine's memory and file descriptors.
const MAX_NODES: i64 = 200;
/// Most transactions: they stay below the pool's bound.
const MAX_TXS: i64 = 4000;
/// Time for everything: a minute, and more for each node and each hundred transactions.
const LIMIT: Duration = Duration::from_secs(60);
const LIMIT_PER_NODE: Duration = Duration::from_secs(1);
const LIMIT_PER_TX: Duration = Duration::from_millis(10);
/// How often the screen is brought up to date and the goal is checked. Times in the report do not depend on it.
const TICK: Duration = Duration::from_millis(50);
/// Nodes that start at the same time; opening a database is disk work.
const STARTING: usize = 8;
/// Peers of all nodes together: each takes a file descriptor, and 1024 is what systems commonly allow a process.
const ALL_PEERS: usize = 800;
/// Peers a node may have in the largest devnet: enough for gossip to spread well.
const MIN_PEERS: usize = 8;
/// Peers a node may have in a small devnet: the default of a node.
const MAX_PEERS: usize = 50;

/// Files a node has open beside its peers: seven of its database, two sockets, and connections that are being made.
const FILES_PER_NODE: usize = 16;
/// Files of the process itself.
const OWN_FILES: usize = 64;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet devnet
  tercet devnet --nodes 30 --txs 500
  tercet devnet --chain ./chain --json

The exit code is 0 only if every node has peers found by discovery and every transaction reached every node.")]
pub(crate) struct DevnetArgs {
    /// Number of nodes, 2 to 200
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u16).range(2..=MAX_NODES))]
    nodes: u16,
    /// Number of transactions to inject, 0 to 4000
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=MAX_TXS))]
    txs: u16,
    /// Serve the chain in this folder (genesis.json, chain.rlp; accounts.json holds the keys that sign) [default: a small chain made for the occasion]
    #[arg(long, value_name = "DIR")]
    chain: Option<PathBuf>,
    /// Leave the nodes running at the end, until Ctrl-C
    #[arg(long)]
    keep: bool,
}

pub(crate) async fn run(
    args: DevnetArgs,
    output: Output,
    progress: &MultiProgress,
) -> Result<(), CliError> {
    let mut interrupt = Interrupt::listen().map_err(CliError::Signals)?;
    let plan =
        Plan::new(args.chain.as_deref(), usize::from(args.txs)).map_err(CliError::DevnetChain)?;
    let nodes = usize::from(args.nodes);
    let max_peers = (ALL_PEERS / nodes).clamp(MIN_PEERS, MAX_PEERS);
    descriptors::ensure(nodes * (FILES_PER_NODE + max_peers) + OWN_FILES)?;
    let clock = Clock::start();
    let shared = Arc::new(Shared {
        chain: Arc::clone(&plan.chain),
        state: Arc::clone(&plan.state),
        max_peers,
        started: clock.now().mono,
        clock,
        txs: plan.hashes(),
    });
    let mut screen = Screen::new(nodes, plan.txs.len(), progress);
    // Not interrupted: what has been started is stopped in order, and Ctrl-C is noticed right after.
    let members = start(&shared, nodes).await?;
    let mut devnet = Devnet::new(shared, members);
    let outcome = tokio::select! {
        outcome = devnet.play(&plan, &mut screen) => outcome,
        () = interrupt.recv() => Err(CliError::Interrupted),
    };
    screen.finish();
    let interrupted = matches!(outcome, Err(CliError::Interrupted));
    let printed = if interrupted {
        Ok(())
    } else {
        output.print(&devnet.report(outcome.is_ok()), DevnetReport::text)
    };
    if args.keep && !interrupted && printed.is_ok() {
        screen::note(&format!(
            "the {nodes} nodes keep running; Ctrl-C stops them"
        ));
        interrupt.recv().await;
    }
    let stopped = stop(devnet.members).await;
    outcome.and(printed).and(stopped)
}

/// Starts the first node, then the others with its enode URL.
async fn start(shared: &Arc<Shared>, nodes: usize) -> Result<Vec<Member>, CliError> {
    let first = Member::start(shared, None).await?;
    // Only what an enode URL says: not the record.
    let boot = first
        .server
        .enode()
        .endpoint()
        .map(|endpoint| tercet_enode::Node::new(first.server.enode().public_key(), endpoint));
    let others: Vec<Result<Member, CliError>> = futures::stream::iter(1..nodes)
        .map(|_| Member::start(shared, boot.clone()))
        .buffered(STARTING)
        .collect()
        .await;
    let (mut members, mut failure) = (vec![first], None);
    for member in others {
        match member {
            Ok(member) => members.push(member),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    let Some(failure) = failure else {
        return Ok(members);
    };
    // Why it failed matters more than how the others stopped.
    let _stopped = stop(members).await;
    Err(failure)
}

/// Stops nodes together; the first failure is told after all have stopped.
async fn stop(members: Vec<Member>) -> Result<(), CliError> {
    let stopped = futures::future::join_all(members.into_iter().map(Member::shutdown)).await;
    stopped.into_iter().collect()
}

struct Devnet {
    shared: Arc<Shared>,
    members: Vec<Member>,
    goal: Goal,
    /// When every node had peers found by discovery.
    connected: Option<Duration>,
    /// When the first transaction was injected.
    injected: Option<Duration>,
}

impl Devnet {
    fn new(shared: Arc<Shared>, members: Vec<Member>) -> Self {
        let goal = Goal {
            nodes: members.iter().map(Member::id).collect(),
            txs: shared.txs.len(),
        };
        Self {
            shared,
            members,
            goal,
            connected: None,
            injected: None,
        }
    }

    fn facts(&self) -> Vec<NodeFacts> {
        self.members
            .iter()
            .map(|member| member.facts.borrow().clone())
            .collect()
    }

    /// Waits for peers, injects the transactions at the last node, waits for them everywhere.
    async fn play(&mut self, plan: &Plan, screen: &mut Screen) -> Result<(), CliError> {
        let nodes = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        let txs = u32::try_from(plan.txs.len()).unwrap_or(u32::MAX);
        let limit = LIMIT + LIMIT_PER_NODE * nodes + LIMIT_PER_TX * txs;
        screen.say(
            self.shared.elapsed(),
            &self.facts(),
            &format!("{nodes} nodes are running, each knows node 0 at most"),
        );
        self.reach(limit, screen, |goal, facts| goal.lacks_peers(facts))
            .await?;
        self.connected = Some(self.shared.elapsed());
        screen.say(
            self.shared.elapsed(),
            &self.facts(),
            "every node has peers found by discovery and agrees on the chain",
        );
        let Some(source) = self.members.last() else {
            return Ok(());
        };
        self.injected = Some(self.shared.elapsed());
        for tx in &plan.txs {
            source
                .eth
                .submit(tx.clone())
                .await
                .map_err(CliError::Submit)?;
        }
        self.reach(limit, screen, |goal, facts| goal.lacks_txs(facts))
            .await?;
        let done = format!(
            "all {txs} transactions, injected at node {}, are at all nodes",
            nodes - 1
        );
        screen.say(self.shared.elapsed(), &self.facts(), &done);
        Ok(())
    }

    /// Watches until nothing is lacking, at most until `limit` after the start.
    async fn reach(
        &self,
        limit: Duration,
        screen: &mut Screen,
        lacks: fn(&Goal, &[NodeFacts]) -> Lacks,
    ) -> Result<(), CliError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let (time, facts) = (self.shared.elapsed(), self.facts());
            screen.show(time, &facts);
            let lacks = lacks(&self.goal, &facts);
            if lacks.is_empty() {
                return Ok(());
            }
            if time > limit {
                return Err(CliError::DevnetIncomplete { limit, lacks });
            }
        }
    }

    fn report(&self, ok: bool) -> DevnetReport {
        let facts = self.facts();
        let coverage = self.injected.filter(|_| ok).map(|injected| {
            let last = facts.iter().filter_map(|facts| facts.last_tx).max();
            last.map_or(Duration::ZERO, |last| last.saturating_sub(injected))
        });
        let head = self.shared.chain.head();
        let nodes = self.members.iter().zip(&facts).map(|(member, facts)| {
            NodeReport::new(
                member.id().to_string(),
                member.server.enode().to_string(),
                facts,
            )
        });
        DevnetReport {
            ok,
            nodes: nodes.collect(),
            discovery_ms: self.connected,
            coverage_ms: coverage,
            chain_head: HeadReport {
                number: head.number,
                hash: head.hash.to_string(),
            },
        }
    }
}
