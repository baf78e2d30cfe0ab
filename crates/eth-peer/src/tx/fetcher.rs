//! Fetches announced transactions. A machine of its own: it is told what peers
//! announce, deliver and answer, and says whom to ask for what.
//!
//! A hash first waits 500 ms for a direct broadcast (blob transactions do not,
//! nobody broadcasts those), then stands in the queue of every peer that
//! announced it until one of them is free to be asked; the others remain in
//! case that one fails. A peer owes one answer at a time. Peers that let
//! requests time out are asked again after a pause that doubles.
//!
//! Work is constant for each announcement: a peer's queue may hold hashes that
//! were fetched elsewhere meanwhile; they are skipped when the peer's turn
//! comes instead of being searched for.

use super::refused::RefusedTransactions;
use crate::limits::{
    ANNOUNCED_SIZE_TOLERANCE, ARRIVE_TIMEOUT, FETCH_TIMEOUT, GATHER_SLACK, MAX_FETCH_BACKOFF,
    MAX_FETCH_SIZE, MAX_POOLED_HASHES, MAX_TRACKED_ANNOUNCEMENTS, MAX_USELESS_ANSWERS,
};
use crate::wire::Announcement;
use alloy_primitives::B256;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use tercet_enode::NodeId;
use tercet_machine::{KeyedMap, KeyedSet, KeyedState, Machine, MonoTime, Now, TimerSet};

/// What happens to the fetcher.
#[derive(Clone, Debug)]
pub(crate) enum FetchInput {
    /// A peer is there.
    Joined(NodeId),
    /// A peer is gone.
    Left(NodeId),
    /// A peer announced these, which the pool does not have.
    Announced(NodeId, Vec<Announcement>),
    /// These came from anyone in any way; there is no need to fetch them.
    Arrived(Vec<Announcement>),
    /// A peer answered the request with this number, with these hashes in this
    /// order. [`FetchInput::Arrived`] comes before it.
    Answered(NodeId, u64, Vec<B256>),
    /// The pool refused this one.
    Refused(B256),
}

/// What the fetcher wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FetchOutput {
    /// Ask a peer for these.
    Request {
        peer: NodeId,
        number: u64,
        hashes: Vec<B256>,
    },
    /// A peer announced a transaction with another type or size than it has.
    Lied(NodeId),
    /// A peer announces but does not deliver.
    Useless(NodeId),
}

#[derive(Debug)]
struct PeerFetch {
    /// Announced by the peer and not yet settled.
    tracked: KeyedSet<B256>,
    /// In the order they may be asked for. May hold what is settled or being
    /// fetched elsewhere.
    queue: VecDeque<B256>,
    /// What the peer was asked for and owes.
    request: Option<(u64, Vec<B256>)>,
    /// Timeouts and empty answers in a row.
    useless: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Queued,
    Fetching(NodeId),
}

#[derive(Debug)]
struct Tracked {
    stage: Stage,
    announcers: Vec<(NodeId, Announcement)>,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct FetcherCore {
    peers: BTreeMap<NodeId, PeerFetch>,
    txs: KeyedMap<B256, Tracked>,
    /// Hashes that wait for a direct broadcast; all wait equally long, so the
    /// first is the first due. May hold what is settled.
    waiting: VecDeque<(MonoTime, B256)>,
    /// For a peer with a request its timeout, for one without the end of its
    /// pause.
    timers: TimerSet<NodeId>,
    refused: RefusedTransactions,
    /// Peers that may have become able to take a request.
    ready: BTreeSet<NodeId>,
    outputs: VecDeque<FetchOutput>,
    next_number: u64,
    ignored: u64,
    state: KeyedState,
}

impl FetcherCore {
    pub(crate) fn new(state: KeyedState) -> Self {
        FetcherCore {
            peers: BTreeMap::new(),
            txs: HashMap::with_hasher(state),
            waiting: VecDeque::new(),
            timers: TimerSet::new(),
            refused: RefusedTransactions::new(state),
            ready: BTreeSet::new(),
            outputs: VecDeque::new(),
            next_number: 0,
            ignored: 0,
            state,
        }
    }

    /// Announcements ignored because a peer had too many open.
    pub(crate) fn ignored(&self) -> u64 {
        self.ignored
    }

    fn on_joined(&mut self, id: NodeId) {
        self.peers.entry(id).or_insert_with(|| PeerFetch {
            tracked: HashSet::with_hasher(self.state),
            queue: VecDeque::new(),
            request: None,
            useless: 0,
        });
    }

    fn on_left(&mut self, id: NodeId) {
        self.timers.cancel(&id);
        self.ready.remove(&id);
        let Some(peer) = self.peers.remove(&id) else {
            return;
        };
        for hash in peer.tracked {
            self.drop_announcer(id, hash);
        }
    }

    fn on_announced(&mut self, now: MonoTime, id: NodeId, entries: Vec<Announcement>) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        for entry in entries {
            let hash = entry.hash;
            if self.refused.contains(now, &hash) || peer.tracked.contains(&hash) {
                continue;
            }
            if peer.tracked.len() >= MAX_TRACKED_ANNOUNCEMENTS {
                self.ignored += 1;
                continue;
            }
            peer.tracked.insert(hash);
            let tracked = self.txs.entry(hash).or_insert_with(|| {
                let stage = if entry.is_blob() {
                    Stage::Queued
                } else {
                    Stage::Waiting
                };
                if stage == Stage::Waiting {
                    self.waiting.push_back((now + ARRIVE_TIMEOUT, hash));
                }
                Tracked {
                    stage,
                    announcers: Vec::new(),
                }
            });
            tracked.announcers.push((id, entry));
            if tracked.stage == Stage::Queued {
                peer.queue.push_back(hash);
                self.ready.insert(id);
            }
        }
        self.compact_waiting();
        self.compact_queue(id);
    }

    fn on_arrived(&mut self, entries: &[Announcement]) {
        let mut liars = BTreeSet::new();
        for entry in entries {
            let Some(tracked) = self.txs.remove(&entry.hash) else {
                continue;
            };
            for (id, claim) in tracked.announcers {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.tracked.remove(&entry.hash);
                }
                let off = u64::from(claim.size.abs_diff(entry.size));
                if claim.kind != entry.kind || off > ANNOUNCED_SIZE_TOLERANCE {
                    liars.insert(id);
                }
            }
        }
        self.outputs
            .extend(liars.into_iter().map(FetchOutput::Lied));
    }

    fn on_answered(&mut self, id: NodeId, number: u64, delivered: &[B256]) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer
            .request
            .as_ref()
            .is_none_or(|(asked, _)| *asked != number)
        {
            // Late. The pause ends early if it brought something.
            if !delivered.is_empty() && peer.request.is_none() {
                peer.useless = 0;
                self.timers.cancel(&id);
                self.ready.insert(id);
            }
            return;
        }
        let hashes = peer
            .request
            .take()
            .map(|(_, hashes)| hashes)
            .unwrap_or_default();
        peer.useless = if delivered.is_empty() {
            peer.useless + 1
        } else {
            0
        };
        let useless = peer.useless >= MAX_USELESS_ANSWERS;
        self.timers.cancel(&id);
        let delivered: BTreeSet<_> = delivered.iter().collect();
        // Gaps are what the peer does not have. What is missing after the last
        // one delivered was cut off for its size and can be asked for again.
        let end = hashes.iter().rposition(|hash| delivered.contains(hash));
        for (index, hash) in hashes.into_iter().enumerate() {
            if end.is_none_or(|end| index < end) {
                self.drop_announcer(id, hash);
            } else {
                self.requeue(hash);
            }
        }
        self.ready.insert(id);
        if useless {
            self.outputs.push_back(FetchOutput::Useless(id));
        }
    }

    fn on_timer(&mut self, now: MonoTime, id: NodeId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        self.ready.insert(id);
        let Some((_, hashes)) = peer.request.take() else {
            return;
        };
        peer.useless += 1;
        let doubled = FETCH_TIMEOUT * (1 << (peer.useless - 1).min(8));
        let useless = peer.useless >= MAX_USELESS_ANSWERS;
        self.timers.set(id, now + doubled.min(MAX_FETCH_BACKOFF));
        for hash in hashes {
            self.drop_announcer(id, hash);
        }
        if useless {
            self.outputs.push_back(FetchOutput::Useless(id));
        }
    }

    /// The peer is no source of this hash any more.
    fn drop_announcer(&mut self, id: NodeId, hash: B256) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.tracked.remove(&hash);
        }
        let Some(tracked) = self.txs.get_mut(&hash) else {
            return;
        };
        tracked.announcers.retain(|(announcer, _)| *announcer != id);
        if tracked.announcers.is_empty() {
            self.txs.remove(&hash);
        } else if tracked.stage == Stage::Fetching(id) {
            self.requeue(hash);
        }
    }

    /// Puts a hash, if it is still wanted, in the queues of its announcers.
    fn requeue(&mut self, hash: B256) {
        let Some(tracked) = self.txs.get_mut(&hash) else {
            return;
        };
        tracked.stage = Stage::Queued;
        for (id, _) in &tracked.announcers {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.queue.push_back(hash);
                self.ready.insert(*id);
            }
        }
    }

    /// Moves what has waited long enough to the queues; what is due shortly
    /// goes along.
    fn end_waits(&mut self, now: MonoTime) {
        if self.waiting.front().is_none_or(|(due, _)| *due > now) {
            return;
        }
        while let Some((due, hash)) = self.waiting.pop_front() {
            if due > now + GATHER_SLACK {
                self.waiting.push_front((due, hash));
                break;
            }
            let stage = self.txs.get(&hash).map(|tracked| tracked.stage);
            if stage == Some(Stage::Waiting) {
                self.requeue(hash);
            }
        }
    }

    /// Asks every peer that became ready for what it can be asked for.
    fn schedule(&mut self, now: MonoTime) {
        while let Some(id) = self.ready.pop_first() {
            self.compact_queue(id);
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            // A timer is a request under way or a pause.
            if self.timers.get(&id).is_some() {
                continue;
            }
            let mut hashes = Vec::new();
            let mut bytes = 0;
            while hashes.len() < MAX_POOLED_HASHES && bytes < MAX_FETCH_SIZE {
                let Some(hash) = peer.queue.pop_front() else {
                    break;
                };
                let Some(tracked) = self.txs.get_mut(&hash) else {
                    continue;
                };
                let claim = tracked
                    .announcers
                    .iter()
                    .find(|(announcer, _)| *announcer == id);
                if let (Stage::Queued, Some((_, claim))) = (tracked.stage, claim) {
                    tracked.stage = Stage::Fetching(id);
                    bytes += u64::from(claim.size);
                    hashes.push(hash);
                }
            }
            if hashes.is_empty() {
                continue;
            }
            let number = self.next_number;
            self.next_number += 1;
            peer.request = Some((number, hashes.clone()));
            self.timers.set(id, now + FETCH_TIMEOUT);
            self.outputs.push_back(FetchOutput::Request {
                peer: id,
                number,
                hashes,
            });
        }
    }

    /// Throws settled hashes out of a peer's queue once they outnumber what it
    /// can hold otherwise, so that the queue stays bounded.
    fn compact_queue(&mut self, id: NodeId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.queue.len() <= 2 * MAX_TRACKED_ANNOUNCEMENTS {
            return;
        }
        let mut seen = HashSet::with_hasher(self.state);
        let (txs, tracked) = (&self.txs, &peer.tracked);
        peer.queue.retain(|hash| {
            let queued = txs.get(hash).is_some_and(|tx| tx.stage == Stage::Queued);
            queued && tracked.contains(hash) && seen.insert(*hash)
        });
    }

    /// The same for the hashes that wait.
    fn compact_waiting(&mut self) {
        if self.waiting.len() <= 2 * self.txs.len() + MAX_TRACKED_ANNOUNCEMENTS {
            return;
        }
        let mut seen = HashSet::with_hasher(self.state);
        let txs = &self.txs;
        self.waiting.retain(|(_, hash)| {
            let waits = txs.get(hash).is_some_and(|tx| tx.stage == Stage::Waiting);
            waits && seen.insert(*hash)
        });
    }
}

impl Machine for FetcherCore {
    type Input = FetchInput;
    type Output = FetchOutput;

    fn handle(&mut self, now: Now, input: FetchInput) {
        let mono = now.mono;
        match input {
            FetchInput::Joined(id) => self.on_joined(id),
            FetchInput::Left(id) => self.on_left(id),
            FetchInput::Announced(id, entries) => self.on_announced(mono, id, entries),
            FetchInput::Arrived(entries) => self.on_arrived(&entries),
            FetchInput::Answered(id, number, hashes) => self.on_answered(id, number, &hashes),
            FetchInput::Refused(hash) => self.refused.insert(mono, hash),
        }
        self.schedule(mono);
    }

    fn handle_timeout(&mut self, now: Now) {
        while let Some(id) = self.timers.pop_expired(now.mono) {
            self.on_timer(now.mono, id);
        }
        self.end_waits(now.mono);
        self.schedule(now.mono);
    }

    fn deadline(&self) -> Option<MonoTime> {
        let wait = self.waiting.front().map(|(due, _)| *due);
        [wait, self.timers.deadline()].into_iter().flatten().min()
    }

    fn poll(&mut self) -> Option<FetchOutput> {
        self.outputs.pop_front()
    }
}

#[cfg(test)]
mod tests;
