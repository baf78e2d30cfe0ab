//! A simple pool: bounded in number, bytes and per account, ordered by nothing
//! but the order of arrival. It builds no blocks; it is there so that a node
//! without a pool of its own can take part in gossip.

use super::checks::{check_blobs, check_stateless, max_cost};
use super::{PoolError, PooledTransaction, TxPool};
use crate::chain::StateView;
use crate::wire::{Announcement, WireTransaction};
use alloy_consensus::Transaction;
use alloy_primitives::{Address, B256, U256};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// By how many percent a transaction must outbid the one it replaces (geth's
/// `PriceBump`).
const PRICE_BUMP: u128 = 10;

/// Limits of a [`MemoryPool`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Chain that transactions must be signed for.
    pub chain_id: u64,
    /// Transactions kept. Default 8192.
    pub max_transactions: usize,
    /// Bytes of transactions kept, sidecars included. Default 64 MiB.
    pub max_bytes: usize,
    /// Transactions kept of one account. Default 128.
    pub max_per_account: usize,
    /// Gas limit of a block, if known: no transaction may ask for more.
    pub block_gas_limit: Option<u64>,
}

impl PoolConfig {
    /// The defaults for a chain.
    pub fn new(chain_id: u64) -> Self {
        PoolConfig {
            chain_id,
            max_transactions: 8192,
            max_bytes: 64 * 1024 * 1024,
            max_per_account: 128,
            block_gas_limit: None,
        }
    }
}

/// A pool in memory. Nonce and balance are checked for the accounts its state
/// knows. When it is full, a transaction pushes out one with a lower fee cap or
/// is refused.
///
/// Memory: about twice `max_bytes` (each transaction decoded and encoded).
pub struct MemoryPool {
    config: PoolConfig,
    state: Arc<dyn StateView>,
    inner: Mutex<Inner>,
}

impl std::fmt::Debug for MemoryPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryPool")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Inner {
    /// By order of arrival.
    entries: BTreeMap<u64, Entry>,
    arrivals: HashMap<B256, u64>,
    accounts: HashMap<Address, BTreeMap<u64, u64>>,
    /// Fee caps and arrivals: the first is the next to be pushed out, the
    /// youngest among equals.
    fees: BTreeSet<(u128, std::cmp::Reverse<u64>)>,
    bytes: usize,
    next_arrival: u64,
}

struct Entry {
    tx: Arc<PooledTransaction>,
    nonce: u64,
    fee: u128,
    cost: U256,
}

impl MemoryPool {
    /// An empty pool over a view of the state.
    pub fn new(config: PoolConfig, state: Arc<dyn StateView>) -> Self {
        MemoryPool {
            config,
            state,
            inner: Mutex::default(),
        }
    }

    /// Transactions in the pool.
    pub fn len(&self) -> usize {
        self.inner.lock().entries.len()
    }

    /// Whether the pool has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes transactions out, such as those a block has included.
    pub fn remove(&self, hashes: &[B256]) {
        let mut inner = self.inner.lock();
        for hash in hashes {
            if let Some(&arrival) = inner.arrivals.get(hash) {
                inner.remove(arrival);
            }
        }
    }

    /// Nonce and balance, and what else of the account is in the pool. Returns
    /// the transaction that this one would replace.
    fn check_account(
        &self,
        inner: &Inner,
        sender: &Address,
        entry: &Entry,
    ) -> Result<Option<u64>, PoolError> {
        let pooled = inner.accounts.get(sender);
        let replaced = pooled.and_then(|nonces| nonces.get(&entry.nonce).copied());
        let count = pooled.map_or(0, BTreeMap::len);
        if replaced.is_none() && count >= self.config.max_per_account {
            return Err(PoolError::AccountFull(count));
        }
        let account = self.state.account(sender);
        let ahead = self.config.max_per_account as u64;
        // EIP-2681: no account can have a nonce after 2^64 - 2.
        let max = account.map_or(u64::MAX - 1, |account| {
            account.nonce.saturating_add(ahead - 1)
        });
        if entry.nonce > max.min(u64::MAX - 1) {
            return Err(PoolError::NonceTooHigh {
                nonce: entry.nonce,
                max,
            });
        }
        if let Some(account) = account {
            if entry.nonce < account.nonce {
                let (nonce, account) = (entry.nonce, account.nonce);
                return Err(PoolError::NonceTooLow { nonce, account });
            }
            let others = pooled.into_iter().flat_map(BTreeMap::values);
            let cost = others
                .filter(|&&arrival| Some(arrival) != replaced)
                .filter_map(|arrival| inner.entries.get(arrival))
                .fold(entry.cost, |sum, other| sum.saturating_add(other.cost));
            if cost > account.balance {
                return Err(PoolError::InsufficientFunds {
                    balance: account.balance,
                    cost,
                });
            }
        }
        if let Some(other) = replaced.and_then(|arrival| inner.entries.get(&arrival)) {
            let required = other
                .fee
                .saturating_add((other.fee / 100 * PRICE_BUMP).max(1));
            if entry.fee < required {
                return Err(PoolError::Underpriced {
                    fee: entry.fee,
                    required,
                });
            }
        }
        Ok(replaced)
    }

    /// Makes room for `bytes` more, if cheaper transactions can go.
    fn make_room(&self, inner: &mut Inner, fee: u128, bytes: usize) -> Result<(), PoolError> {
        while inner.entries.len() >= self.config.max_transactions
            || inner.bytes + bytes > self.config.max_bytes
        {
            match inner.fees.first() {
                Some(&(cheapest, std::cmp::Reverse(arrival))) if cheapest < fee => {
                    inner.remove(arrival);
                }
                _ => return Err(PoolError::Full),
            }
        }
        Ok(())
    }
}

impl Inner {
    fn insert(&mut self, entry: Entry) {
        let arrival = self.next_arrival;
        self.next_arrival += 1;
        self.bytes += entry.tx.item().len();
        self.arrivals.insert(entry.tx.hash(), arrival);
        self.accounts
            .entry(entry.tx.sender())
            .or_default()
            .insert(entry.nonce, arrival);
        self.fees.insert((entry.fee, std::cmp::Reverse(arrival)));
        self.entries.insert(arrival, entry);
    }

    fn remove(&mut self, arrival: u64) {
        let Some(entry) = self.entries.remove(&arrival) else {
            return;
        };
        self.bytes -= entry.tx.item().len();
        self.arrivals.remove(&entry.tx.hash());
        self.fees.remove(&(entry.fee, std::cmp::Reverse(arrival)));
        let sender = entry.tx.sender();
        if let Some(nonces) = self.accounts.get_mut(&sender) {
            nonces.remove(&entry.nonce);
            if nonces.is_empty() {
                self.accounts.remove(&sender);
            }
        }
    }
}

impl TxPool for MemoryPool {
    fn contains(&self, hash: &B256) -> bool {
        self.inner.lock().arrivals.contains_key(hash)
    }

    fn get(&self, hash: &B256) -> Option<Arc<PooledTransaction>> {
        let inner = self.inner.lock();
        let arrival = inner.arrivals.get(hash)?;
        inner
            .entries
            .get(arrival)
            .map(|entry| Arc::clone(&entry.tx))
    }

    fn add(&self, tx: WireTransaction) -> Result<Arc<PooledTransaction>, PoolError> {
        if self.contains(&tx.hash()) {
            return Err(PoolError::AlreadyKnown);
        }
        check_stateless(&tx, self.config.chain_id, self.config.block_gas_limit)?;
        let tx = Arc::new(PooledTransaction::new(tx)?);
        check_blobs(tx.envelope())?;
        let entry = Entry {
            nonce: tx.envelope().nonce(),
            fee: tx.envelope().max_fee_per_gas(),
            cost: max_cost(tx.envelope()),
            tx: Arc::clone(&tx),
        };

        let mut inner = self.inner.lock();
        if inner.arrivals.contains_key(&tx.hash()) {
            return Err(PoolError::AlreadyKnown);
        }
        match self.check_account(&inner, &tx.sender(), &entry)? {
            Some(replaced) => inner.remove(replaced),
            None => self.make_room(&mut inner, entry.fee, tx.item().len())?,
        }
        inner.insert(entry);
        Ok(tx)
    }

    fn announcements(&self) -> Vec<Announcement> {
        let inner = self.inner.lock();
        inner
            .entries
            .values()
            .map(|entry| entry.tx.announcement())
            .collect()
    }
}

#[cfg(test)]
mod tests;
