//! One peer as the gossip sees it: what it knows, and what waits for it.
//!
//! A session takes a few messages ahead (its credit); the rest waits here as
//! items, not as messages, so that a backlog is packed into few large messages.
//! When too much waits, the oldest full transactions become announcements, and
//! the oldest announcements are taken back: the peer is no longer marked as
//! knowing them, and once it has caught up it is told of whatever the pool then
//! has that it does not know. So nothing is lost for good.

use crate::limits::{
    MAX_ANNOUNCEMENTS, MAX_QUEUED_BYTES, MAX_QUEUED_ITEMS, SESSION_CREDIT, TRANSACTIONS_PACKET_SIZE,
};
use crate::pool::PooledTransaction;
use crate::tx::KnownTransactions;
use crate::wire::{
    Announcement, BlockRange, EthVersion, encode_announcements, encode_transactions,
};
use std::collections::VecDeque;
use std::sync::Arc;
use tercet_machine::KeyedState;

/// What can be sent to a peer next.
pub(super) enum Next {
    Transactions(Vec<u8>),
    Announcements(Vec<u8>),
    /// All is sent, but something had to be taken back.
    CatchUp,
    Nothing,
}

pub(super) struct GossipPeer {
    pub(super) version: EthVersion,
    pub(super) known: KnownTransactions,
    pub(super) credit: usize,
    /// The range the peer was last told of.
    pub(super) told: BlockRange,
    /// `told` is yet to be sent.
    pub(super) range_waits: bool,
    transactions: VecDeque<Arc<PooledTransaction>>,
    transaction_bytes: usize,
    announcements: VecDeque<Announcement>,
    /// Part of the pool that is still to be announced, from an index on.
    pool: Option<(Arc<[Announcement]>, usize)>,
    behind: bool,
}

impl GossipPeer {
    pub(super) fn new(version: EthVersion, told: BlockRange, state: KeyedState) -> Self {
        GossipPeer {
            version,
            known: KnownTransactions::new(state),
            credit: SESSION_CREDIT,
            told,
            range_waits: false,
            transactions: VecDeque::new(),
            transaction_bytes: 0,
            announcements: VecDeque::new(),
            pool: None,
            behind: false,
        }
    }

    /// Whether a message can go to the session at once.
    pub(super) fn is_idle(&self) -> bool {
        self.credit > 0 && self.transactions.is_empty() && self.announcements.is_empty()
    }

    /// Lets a full transaction wait. The peer is marked as knowing it already.
    /// Returns how many announcements had to be taken back.
    pub(super) fn queue_transaction(&mut self, tx: Arc<PooledTransaction>) -> u64 {
        self.transaction_bytes += tx.item().len();
        self.transactions.push_back(tx);
        let mut taken_back = 0;
        while self.transactions.len() > MAX_QUEUED_ITEMS
            || self.transaction_bytes > MAX_QUEUED_BYTES
        {
            let Some(oldest) = self.transactions.pop_front() else {
                break;
            };
            self.transaction_bytes -= oldest.item().len();
            taken_back += self.queue_announcement(oldest.announcement());
        }
        taken_back
    }

    /// Lets an announcement wait. The peer is marked as knowing it already.
    /// Returns how many had to be taken back.
    pub(super) fn queue_announcement(&mut self, entry: Announcement) -> u64 {
        self.announcements.push_back(entry);
        if self.announcements.len() <= MAX_QUEUED_ITEMS {
            return 0;
        }
        if let Some(oldest) = self.announcements.pop_front() {
            self.known.remove(&oldest.hash);
            self.behind = true;
        }
        1
    }

    /// Announces of `pool` what the peer does not know.
    pub(super) fn announce_pool(&mut self, pool: Arc<[Announcement]>) {
        self.pool = Some((pool, 0));
    }

    /// Takes the next message from what waits.
    pub(super) fn next(&mut self) -> Next {
        if !self.transactions.is_empty() {
            return Next::Transactions(self.pack_transactions());
        }
        if self.announcements.is_empty() {
            self.next_of_pool();
        }
        if !self.announcements.is_empty() {
            let count = self.announcements.len().min(MAX_ANNOUNCEMENTS);
            let entries: Vec<_> = self.announcements.drain(..count).collect();
            return Next::Announcements(encode_announcements(entries.iter()));
        }
        if std::mem::take(&mut self.behind) {
            Next::CatchUp
        } else {
            Next::Nothing
        }
    }

    fn pack_transactions(&mut self) -> Vec<u8> {
        let mut bytes = 0;
        let mut items = Vec::new();
        while bytes < TRANSACTIONS_PACKET_SIZE {
            let Some(tx) = self.transactions.pop_front() else {
                break;
            };
            bytes += tx.item().len();
            items.push(tx.item().clone());
        }
        self.transaction_bytes -= bytes;
        encode_transactions(items.iter())
    }

    /// Moves a message's worth of unknown hashes from the pool to be announced.
    fn next_of_pool(&mut self) {
        let Some((pool, mut index)) = self.pool.take() else {
            return;
        };
        while self.announcements.len() < MAX_ANNOUNCEMENTS {
            let Some(entry) = pool.get(index) else { return };
            index += 1;
            if !self.known.contains(&entry.hash) {
                self.known.insert(&entry.hash);
                self.announcements.push_back(*entry);
            }
        }
        self.pool = Some((pool, index));
    }

    #[cfg(test)]
    pub(super) fn queued(&self) -> (usize, usize, usize) {
        (
            self.transactions.len(),
            self.transaction_bytes,
            self.announcements.len(),
        )
    }
}
