//! The gossip as a machine. One of these serves all peers, so a transaction
//! that goes to many is encoded, and later compressed, once.

use super::choice::DirectChoice;
use super::peer::{GossipPeer, Next};
use crate::limits::{
    MAX_BROADCAST_SIZE, MAX_PEERS, MAX_POOLED_HASHES, RANGE_UPDATE_BLOCKS, TRANSACTIONS_PACKET_SIZE,
};
use crate::pool::PooledTransaction;
use crate::tx::{FetchInput, FetchOutput, FetcherCore};
use crate::wire::{
    Announcement, BlockRange, EthVersion, MessageId, encode_announcements, encode_transactions,
};
use alloy_primitives::{Address, B256};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use tercet_enode::NodeId;
use tercet_machine::{KeyedState, Machine, MachineRng, MonoTime, Now};
use tercet_server::{DisconnectReason, Payload};

/// What became of a received transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The pool took it.
    Added(Arc<PooledTransaction>),
    /// The pool has it.
    Duplicate,
    /// The pool refused it.
    Refused,
}

/// A received transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its hash, type and size.
    pub entry: Announcement,
    /// What became of it.
    pub verdict: Verdict,
}

/// What happens to the gossip.
#[derive(Clone, Debug)]
pub enum GossipInput {
    /// A session agreed on Status.
    Joined {
        /// The peer.
        peer: NodeId,
        /// The version of eth.
        version: EthVersion,
        /// The range our Status gave.
        told: BlockRange,
    },
    /// A session ended.
    Left(NodeId),
    /// A session passed a message on and can take another.
    Passed(NodeId),
    /// A peer announced transactions.
    Announced {
        /// The peer.
        peer: NodeId,
        /// All it announced.
        all: Vec<Announcement>,
        /// What of it the pool does not have.
        unknown: Vec<Announcement>,
    },
    /// Transactions came from a peer.
    Received {
        /// The peer.
        peer: NodeId,
        /// What came, in this order.
        transactions: Vec<Received>,
        /// Number of the request they answer, if they do.
        answer: Option<u64>,
    },
    /// A request could not be put to a peer.
    Unasked {
        /// The peer.
        peer: NodeId,
        /// Number of the request.
        number: u64,
    },
    /// This node added a transaction to its pool.
    Local(Arc<PooledTransaction>),
    /// What the pool has, for a peer that is to be told of it.
    Pool {
        /// The peer.
        peer: NodeId,
        /// All of the pool, oldest first.
        entries: Arc<[Announcement]>,
    },
    /// The blocks available now.
    Range(BlockRange),
}

/// A message for a session.
#[derive(Clone, Debug)]
pub enum Gossip {
    /// Send this as it is.
    Message {
        /// Which message.
        message: MessageId,
        /// Encoded, and shared by all peers that get the same.
        payload: Payload,
    },
    /// Ask for transactions.
    Fetch {
        /// To be given back with the answer.
        number: u64,
        /// What to ask for.
        hashes: Vec<B256>,
    },
}

/// Messages are equal if their bytes are, whether compressed yet or not.
impl PartialEq for Gossip {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Gossip::Message {
                    message: a,
                    payload: x,
                },
                Gossip::Message {
                    message: b,
                    payload: y,
                },
            ) => a == b && x.raw() == y.raw(),
            (
                Gossip::Fetch {
                    number: a,
                    hashes: x,
                },
                Gossip::Fetch {
                    number: b,
                    hashes: y,
                },
            ) => a == b && x == y,
            _ => false,
        }
    }
}

impl Eq for Gossip {}

/// What the gossip wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GossipOutput {
    /// Hand something to a peer's session; never more than its credit of 4
    /// before it says [`GossipInput::Passed`].
    Send {
        /// The peer.
        peer: NodeId,
        /// What.
        gossip: Gossip,
    },
    /// Say what the pool has, see [`GossipInput::Pool`].
    NeedPool(NodeId),
    /// Disconnect a peer.
    Drop {
        /// The peer.
        peer: NodeId,
        /// What it is told.
        reason: DisconnectReason,
    },
}

/// The machine. It keeps state for up to 1024 peers.
pub struct GossipCore {
    peers: BTreeMap<NodeId, GossipPeer>,
    choice: DirectChoice,
    fetcher: FetcherCore,
    /// Requests that wait for a session's credit, at most one a peer.
    fetches: BTreeMap<NodeId, (u64, Vec<B256>)>,
    outputs: VecDeque<GossipOutput>,
    taken_back: u64,
    state: KeyedState,
}

impl GossipCore {
    /// A gossip without peers, for the node with this id.
    pub fn new(local: NodeId, rng: &mut MachineRng) -> Self {
        let mut key = [0; 16];
        rand::Rng::fill_bytes(&mut rng.child("direct choice"), &mut key);
        let state = KeyedState::new(&mut rng.child("hash maps"));
        GossipCore {
            peers: BTreeMap::new(),
            choice: DirectChoice::new(key, local),
            fetcher: FetcherCore::new(state),
            fetches: BTreeMap::new(),
            outputs: VecDeque::new(),
            taken_back: 0,
            state,
        }
    }

    /// Announcements taken back because a peer read too slowly.
    pub fn taken_back(&self) -> u64 {
        self.taken_back
    }

    /// Announcements by peers ignored because they had too many open.
    pub fn ignored(&self) -> u64 {
        self.fetcher.ignored()
    }

    fn on_joined(&mut self, now: Now, id: NodeId, version: EthVersion, told: BlockRange) {
        if self.peers.len() >= MAX_PEERS || self.peers.contains_key(&id) {
            let reason = DisconnectReason::TooManyPeers;
            self.outputs
                .push_back(GossipOutput::Drop { peer: id, reason });
            return;
        }
        self.peers
            .insert(id, GossipPeer::new(version, told, self.state));
        self.fetcher.handle(now, FetchInput::Joined(id));
        self.outputs.push_back(GossipOutput::NeedPool(id));
    }

    fn on_received(
        &mut self,
        now: Now,
        id: NodeId,
        transactions: Vec<Received>,
        answer: Option<u64>,
    ) {
        let entries: Vec<_> = transactions.iter().map(|received| received.entry).collect();
        let hashes: Vec<_> = entries.iter().map(|entry| entry.hash).collect();
        if let Some(peer) = self.peers.get_mut(&id) {
            hashes.iter().for_each(|hash| peer.known.insert(hash));
        }
        self.fetcher.handle(now, FetchInput::Arrived(entries));
        if let Some(number) = answer {
            self.fetcher
                .handle(now, FetchInput::Answered(id, number, hashes));
        }
        let mut added = Vec::new();
        for received in transactions {
            match received.verdict {
                Verdict::Added(tx) => added.push(tx),
                Verdict::Refused => {
                    self.fetcher
                        .handle(now, FetchInput::Refused(received.entry.hash));
                }
                Verdict::Duplicate => {}
            }
        }
        self.broadcast(&added);
    }

    fn on_range(&mut self, range: BlockRange) {
        let payload = Payload::from(range.encode_update());
        for (id, peer) in &mut self.peers {
            let moved = range.latest < peer.told.latest
                || range.latest >= peer.told.latest.saturating_add(RANGE_UPDATE_BLOCKS)
                || (range.latest == peer.told.latest && range.latest_hash != peer.told.latest_hash);
            if !moved || peer.version < EthVersion::Eth69 {
                continue;
            }
            peer.told = range;
            if peer.credit > 0 {
                let message = MessageId::BlockRangeUpdate;
                self.outputs
                    .push_back(peer.take(*id, message, payload.clone()));
            } else {
                peer.range_waits = true;
            }
        }
    }

    /// Gossips transactions that are new here, in portions that make one
    /// message.
    fn broadcast(&mut self, mut txs: &[Arc<PooledTransaction>]) {
        while !txs.is_empty() {
            let mut bytes = 0;
            let count = txs
                .iter()
                .take(MAX_POOLED_HASHES)
                .take_while(|tx| {
                    let fits = bytes < TRANSACTIONS_PACKET_SIZE;
                    bytes += tx.item().len();
                    fits
                })
                .count();
            let (portion, rest) = txs.split_at(count.max(1).min(txs.len()));
            self.broadcast_portion(portion);
            txs = rest;
        }
    }

    fn broadcast_portion(&mut self, txs: &[Arc<PooledTransaction>]) {
        let direct = self.direct_peers(txs);
        // Peers that get the same transactions share one payload.
        let mut whole: HashMap<Vec<usize>, Payload, KeyedState> = HashMap::with_hasher(self.state);
        let mut hashes = whole.clone();
        for (id, peer) in &mut self.peers {
            let (mut send, mut announce) = (Vec::new(), Vec::new());
            for (index, (tx, direct)) in txs.iter().zip(&direct).enumerate() {
                if peer.known.contains(&tx.hash()) {
                    continue;
                }
                peer.known.insert(&tx.hash());
                let chosen = direct
                    .as_ref()
                    .is_some_and(|ids| ids.binary_search(id).is_ok());
                if chosen { &mut send } else { &mut announce }.push(index);
            }
            let pick = |indices: &[usize]| -> Vec<&Arc<PooledTransaction>> {
                indices.iter().filter_map(|&index| txs.get(index)).collect()
            };
            if !send.is_empty() {
                let picked = pick(&send);
                if peer.is_idle() {
                    let payload = whole.entry(send).or_insert_with(|| {
                        encode_transactions(picked.iter().map(|tx| tx.item())).into()
                    });
                    let message = MessageId::Transactions;
                    self.outputs
                        .push_back(peer.take(*id, message, payload.clone()));
                } else {
                    for tx in picked {
                        self.taken_back += peer.queue_transaction(Arc::clone(tx));
                    }
                }
            }
            if !announce.is_empty() {
                let entries: Vec<_> = pick(&announce)
                    .into_iter()
                    .map(|tx| tx.announcement())
                    .collect();
                if peer.is_idle() {
                    let payload = hashes
                        .entry(announce)
                        .or_insert_with(|| encode_announcements(entries.iter()).into());
                    let message = MessageId::NewPooledTransactionHashes;
                    self.outputs
                        .push_back(peer.take(*id, message, payload.clone()));
                } else {
                    for entry in entries {
                        self.taken_back += peer.queue_announcement(entry);
                    }
                }
            }
        }
    }

    /// For each transaction the peers that get it whole; none for those too
    /// large and those with blobs.
    fn direct_peers(&self, txs: &[Arc<PooledTransaction>]) -> Vec<Option<Arc<[NodeId]>>> {
        let mut by_sender: HashMap<Address, Arc<[NodeId]>, KeyedState> =
            HashMap::with_hasher(self.state);
        txs.iter()
            .map(|tx| {
                let entry = tx.announcement();
                if entry.is_blob() || entry.size as usize > MAX_BROADCAST_SIZE {
                    return None;
                }
                let sender = tx.sender();
                let chosen = by_sender.entry(sender).or_insert_with(|| {
                    self.choice
                        .choose(self.peers.keys().copied(), &sender)
                        .into()
                });
                Some(Arc::clone(chosen))
            })
            .collect()
    }

    /// Sends a peer what waits for it, as far as its credit goes: first what
    /// is to be asked of it.
    fn pump(&mut self, id: NodeId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        while peer.credit > 0 {
            if std::mem::take(&mut peer.range_waits) {
                let payload = Payload::from(peer.told.encode_update());
                self.outputs
                    .push_back(peer.take(id, MessageId::BlockRangeUpdate, payload));
                continue;
            }
            if let Some((number, hashes)) = self.fetches.remove(&id) {
                peer.credit -= 1;
                let gossip = Gossip::Fetch { number, hashes };
                self.outputs
                    .push_back(GossipOutput::Send { peer: id, gossip });
                continue;
            }
            let (message, payload) = match peer.next() {
                Next::Transactions(payload) => (MessageId::Transactions, payload),
                Next::Announcements(payload) => (MessageId::NewPooledTransactionHashes, payload),
                Next::CatchUp => {
                    self.outputs.push_back(GossipOutput::NeedPool(id));
                    return;
                }
                Next::Nothing => return,
            };
            self.outputs
                .push_back(peer.take(id, message, payload.into()));
        }
    }

    /// Carries out what the fetcher wants.
    fn drain_fetcher(&mut self) {
        while let Some(output) = self.fetcher.poll() {
            match output {
                FetchOutput::Request {
                    peer,
                    number,
                    hashes,
                } => {
                    self.fetches.insert(peer, (number, hashes));
                    self.pump(peer);
                }
                FetchOutput::Lied(peer) | FetchOutput::Useless(peer) => {
                    let reason = DisconnectReason::UselessPeer;
                    self.outputs.push_back(GossipOutput::Drop { peer, reason });
                }
            }
        }
    }
}

impl GossipPeer {
    /// A message for this peer, at the cost of credit.
    fn take(&mut self, id: NodeId, message: MessageId, payload: Payload) -> GossipOutput {
        self.credit = self.credit.saturating_sub(1);
        GossipOutput::Send {
            peer: id,
            gossip: Gossip::Message { message, payload },
        }
    }
}

impl Machine for GossipCore {
    type Input = GossipInput;
    type Output = GossipOutput;

    fn handle(&mut self, now: Now, input: GossipInput) {
        match input {
            GossipInput::Joined {
                peer,
                version,
                told,
            } => {
                self.on_joined(now, peer, version, told);
            }
            GossipInput::Left(peer) => {
                self.peers.remove(&peer);
                self.fetches.remove(&peer);
                self.fetcher.handle(now, FetchInput::Left(peer));
            }
            GossipInput::Passed(id) => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.credit += 1;
                }
                self.pump(id);
            }
            GossipInput::Announced {
                peer: id,
                all,
                unknown,
            } => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    all.iter().for_each(|entry| peer.known.insert(&entry.hash));
                    self.fetcher.handle(now, FetchInput::Announced(id, unknown));
                }
            }
            GossipInput::Received {
                peer,
                transactions,
                answer,
            } => {
                self.on_received(now, peer, transactions, answer);
            }
            GossipInput::Unasked { peer, number } => {
                self.fetcher
                    .handle(now, FetchInput::Answered(peer, number, Vec::new()));
            }
            GossipInput::Local(tx) => self.broadcast(&[tx]),
            GossipInput::Pool { peer: id, entries } => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.announce_pool(entries);
                }
                self.pump(id);
            }
            GossipInput::Range(range) => self.on_range(range),
        }
        self.drain_fetcher();
    }

    fn handle_timeout(&mut self, now: Now) {
        self.fetcher.handle_timeout(now);
        self.drain_fetcher();
    }

    fn deadline(&self) -> Option<MonoTime> {
        self.fetcher.deadline()
    }

    fn poll(&mut self) -> Option<GossipOutput> {
        self.outputs.pop_front()
    }
}

#[cfg(test)]
mod tests;
