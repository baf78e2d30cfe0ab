//! The handle of the eth protocol and the task behind it: one task owns the
//! gossip of all peers, and never waits for any of them.
#![allow(clippy::disallowed_methods)] // a driver: it spawns the gossip task and reads the clock

use crate::backend::ChainBackend;
use crate::gossip::{Gossip, GossipCore, GossipInput, GossipOutput};
use crate::limits::{MAX_PEERS, SESSION_CREDIT};
use crate::peerset::{EthPeer, PeerSet};
use crate::pool::{PoolError, TxPool};
use crate::protocol::EthProtocol;
use crate::wire::{BlockRange, EthVersion, Status, WireTransaction};
use alloy_primitives::B256;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tercet_enode::NodeId;
use tercet_machine::{Clock, KeyedState, Machine, MachineRng};
use tercet_server::{Peer, Protocol};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Commands the gossip task has not yet looked at. Sessions wait for room;
/// each also holds one place from the start for the word that it ended.
const COMMANDS: usize = 1024 + MAX_PEERS;

/// Events a subscriber may be behind (design section 3).
const EVENTS: usize = 1024;

/// How the eth protocol takes part in the network.
#[derive(Clone, Debug)]
pub struct EthConfig {
    /// Our node id, which the choice of peers for direct broadcast is made with.
    pub node_id: NodeId,
    /// Network id in Status. Default: the chain's.
    pub network_id: Option<u64>,
    /// Seed of the choices that must not be foreseen. Default: drawn from the
    /// system.
    pub seed: Option<[u8; 32]>,
}

impl EthConfig {
    /// The defaults.
    pub fn new(node_id: NodeId) -> Self {
        EthConfig {
            node_id,
            network_id: None,
            seed: None,
        }
    }
}

/// Why the protocol did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EthStartError {
    /// The system gave no randomness.
    #[error("no randomness from the system: {0}")]
    Randomness(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a transaction was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The pool did not take it.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The gossip has been shut down.
    #[error("the eth protocol has been shut down")]
    Closed,
}

/// What happens with peers and transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EthEvent {
    /// A peer agreed on Status.
    StatusAgreed {
        /// The peer.
        peer: NodeId,
        /// The version of eth.
        version: EthVersion,
        /// What it said.
        status: Status,
    },
    /// A peer's session ended.
    PeerLeft {
        /// The peer.
        peer: NodeId,
    },
    /// The pool took a transaction.
    TransactionAdded {
        /// Its hash.
        hash: B256,
        /// Who sent it; `None` for one submitted here.
        from: Option<NodeId>,
    },
    /// A transaction came that the pool had.
    DuplicateTransaction {
        /// Its hash.
        hash: B256,
        /// Who sent it.
        from: NodeId,
    },
    /// The pool refused a transaction.
    TransactionRefused {
        /// Its hash.
        hash: B256,
        /// Who sent it.
        from: NodeId,
        /// Why.
        reason: PoolError,
    },
    /// A peer's block range changed.
    RangeUpdated {
        /// The peer.
        peer: NodeId,
        /// Its range.
        range: BlockRange,
    },
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EthStats {
    /// Full transactions received.
    pub txs_seen: u64,
    /// Of these, taken by the pool.
    pub added: u64,
    /// Of these, in the pool already.
    pub duplicates: u64,
    /// Of these, refused by the pool.
    pub refused: u64,
    /// Transactions announced by peers.
    pub announced: u64,
    /// Requests of peers answered.
    pub served: u64,
    /// Announcements not taken up because a peer had too many open, or a
    /// message too many.
    pub ignored_announcements: u64,
    /// Announcements taken back because a peer read too slowly.
    pub taken_back: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) txs_seen: AtomicU64,
    pub(crate) added: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) announced: AtomicU64,
    pub(crate) served: AtomicU64,
    pub(crate) cut_announcements: AtomicU64,
    ignored: AtomicU64,
    taken_back: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// What a session tells the gossip task.
pub(crate) enum Command {
    Gossip(GossipInput),
    Joined {
        peer: Box<EthPeer>,
        link: SessionLink,
        told: BlockRange,
    },
    Range {
        peer: NodeId,
        range: BlockRange,
    },
    Left(NodeId),
}

/// The gossip task's end of a session.
pub(crate) struct SessionLink {
    pub(crate) gossip: mpsc::Sender<Gossip>,
    pub(crate) peer: Peer,
}

/// What all sessions share.
pub(crate) struct Shared {
    pub(crate) network_id: u64,
    pub(crate) chain: Arc<dyn ChainBackend>,
    pub(crate) pool: Arc<dyn TxPool>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) events: broadcast::Sender<EthEvent>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) clock: Clock,
    pub(crate) hash_state: KeyedState,
}

/// The eth protocol of one node: the handle that [`Protocol`]s for the server
/// come from and that transactions go in through. Cheap to clone. It ends when
/// the last clone and the last of its protocols are dropped, or by
/// [`EthNetwork::shutdown`].
#[derive(Clone)]
pub struct EthNetwork {
    shared: Arc<Shared>,
    peers: watch::Receiver<PeerSet>,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl EthNetwork {
    /// Starts the gossip task on the current tokio runtime.
    ///
    /// # Errors
    /// When no seed is given and the system has no randomness.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(
        config: EthConfig,
        chain: Arc<dyn ChainBackend>,
        pool: Arc<dyn TxPool>,
    ) -> Result<Self, EthStartError> {
        let mut rng = match config.seed {
            Some(seed) => MachineRng::from_seed(seed),
            None => MachineRng::from_system()
                .map_err(|error| EthStartError::Randomness(Box::new(error)))?,
        };
        let core = GossipCore::new(config.node_id, &mut rng.child("gossip"));
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (events, _) = broadcast::channel(EVENTS);
        let (set, peers) = watch::channel(PeerSet::from([]));
        let clock = Clock::start();
        let counters = Arc::new(Counters::default());
        let driver = GossipDriver {
            core,
            inbox,
            links: BTreeMap::new(),
            peers: BTreeMap::new(),
            set,
            pool: Arc::clone(&pool),
            events: events.clone(),
            counters: Arc::clone(&counters),
            clock,
        };
        let shared = Arc::new(Shared {
            network_id: config.network_id.unwrap_or_else(|| chain.network_id()),
            chain,
            pool,
            commands,
            events,
            counters,
            clock,
            hash_state: KeyedState::new(&mut rng.child("sessions")),
        });
        let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(driver.run(cancel.clone()));
        tasks.close();
        Ok(EthNetwork {
            shared,
            peers,
            cancel,
            tasks,
        })
    }

    /// eth/69 and eth/68, to be given to a server.
    pub fn protocols(&self) -> Vec<Arc<dyn Protocol>> {
        EthVersion::ALL
            .into_iter()
            .filter_map(|version| EthProtocol::new(version, Arc::clone(&self.shared)))
            .map(|protocol| Arc::new(protocol) as Arc<dyn Protocol>)
            .collect()
    }

    /// Adds a transaction to the pool and gossips it. Waits while the gossip
    /// task has 1024 commands before it.
    ///
    /// # Errors
    /// When the pool does not take it.
    pub async fn submit(&self, tx: impl Into<WireTransaction>) -> Result<B256, SubmitError> {
        // Room first: what is in the pool must be gossiped.
        let room = self
            .shared
            .commands
            .reserve()
            .await
            .map_err(|_| SubmitError::Closed)?;
        let tx = self.shared.pool.add(tx.into())?;
        let hash = tx.hash();
        let _ = self
            .shared
            .events
            .send(EthEvent::TransactionAdded { hash, from: None });
        room.send(Command::Gossip(GossipInput::Local(tx)));
        Ok(hash)
    }

    /// Says that the chain has a new head. Peers on eth/69 hear of it when it
    /// moved 32 blocks since they last did, or back.
    pub async fn chain_changed(&self) {
        let range = self.shared.chain.range();
        // A gossip task that has ended has nobody to tell.
        let _ = self
            .shared
            .commands
            .send(Command::Gossip(GossipInput::Range(range)))
            .await;
    }

    /// The peers that agreed on Status.
    pub fn peers(&self) -> PeerSet {
        Arc::clone(&self.peers.borrow())
    }

    /// Follows [`EthNetwork::peers`].
    pub fn peers_watch(&self) -> watch::Receiver<PeerSet> {
        self.peers.clone()
    }

    /// Events from now on. A subscriber more than 1024 behind is told how many
    /// it missed.
    pub fn subscribe(&self) -> broadcast::Receiver<EthEvent> {
        self.shared.events.subscribe()
    }

    /// Counts since the start.
    pub fn stats(&self) -> EthStats {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EthStats {
            txs_seen: read(&counters.txs_seen),
            added: read(&counters.added),
            duplicates: read(&counters.duplicates),
            refused: read(&counters.refused),
            announced: read(&counters.announced),
            served: read(&counters.served),
            ignored_announcements: read(&counters.cut_announcements) + read(&counters.ignored),
            taken_back: read(&counters.taken_back),
        }
    }

    /// Ends the gossip task. Shut the server down first: sessions that are
    /// still there end.
    pub async fn shutdown(&self) {
        self.cancel.cancel();
        self.tasks.wait().await;
    }
}

impl std::fmt::Debug for EthNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EthNetwork")
            .field("network_id", &self.shared.network_id)
            .field("peers", &self.peers.borrow().len())
            .finish_non_exhaustive()
    }
}

/// The task that owns the gossip.
struct GossipDriver {
    core: GossipCore,
    inbox: mpsc::Receiver<Command>,
    links: BTreeMap<NodeId, SessionLink>,
    peers: BTreeMap<NodeId, EthPeer>,
    set: watch::Sender<PeerSet>,
    pool: Arc<dyn TxPool>,
    events: broadcast::Sender<EthEvent>,
    counters: Arc<Counters>,
    clock: Clock,
}

impl GossipDriver {
    async fn run(mut self, cancel: CancellationToken) {
        loop {
            self.drain();
            let deadline = self.core.deadline().map(|at| self.clock.instant(at).into());
            let sleep = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                command = self.inbox.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => return,
                },
                () = sleep => self.core.handle_timeout(self.clock.now()),
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        let now = self.clock.now();
        match command {
            Command::Gossip(input) => self.core.handle(now, input),
            Command::Joined { peer, link, told } => {
                let (id, version, status) = (peer.id(), peer.version(), *peer.status());
                self.links.insert(id, link);
                self.peers.insert(id, *peer);
                self.publish();
                self.emit(EthEvent::StatusAgreed {
                    peer: id,
                    version,
                    status,
                });
                self.core.handle(
                    now,
                    GossipInput::Joined {
                        peer: id,
                        version,
                        told,
                    },
                );
            }
            Command::Range { peer: id, range } => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.set_range(range);
                    self.publish();
                    self.emit(EthEvent::RangeUpdated { peer: id, range });
                }
            }
            Command::Left(id) => {
                self.links.remove(&id);
                self.core.handle(now, GossipInput::Left(id));
                if self.peers.remove(&id).is_some() {
                    self.publish();
                    self.emit(EthEvent::PeerLeft { peer: id });
                }
            }
        }
        self.counters
            .ignored
            .store(self.core.ignored(), Ordering::Relaxed);
        self.counters
            .taken_back
            .store(self.core.taken_back(), Ordering::Relaxed);
    }

    /// Carries out what the core wants.
    fn drain(&mut self) {
        while let Some(output) = self.core.poll() {
            match output {
                GossipOutput::Send { peer, gossip } => {
                    // The core keeps to the session's credit, so there is room;
                    // a session that has ended is about to say so.
                    if let Some(link) = self.links.get(&peer) {
                        let _ = link.gossip.try_send(gossip);
                    }
                }
                GossipOutput::NeedPool(peer) => {
                    let entries = self.pool.announcements().into();
                    self.core
                        .handle(self.clock.now(), GossipInput::Pool { peer, entries });
                }
                GossipOutput::Drop { peer, reason } => {
                    if let Some(link) = self.links.get(&peer) {
                        link.peer.disconnect(reason);
                    }
                }
            }
        }
    }

    fn publish(&self) {
        self.set
            .send_replace(self.peers.values().cloned().collect());
    }

    fn emit(&self, event: EthEvent) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }
}

/// Messages the channel to a session must have room for.
pub(crate) const SESSION_CHANNEL: usize = SESSION_CREDIT;
