//! The pool as the gossip sees it, and a simple one in memory. A node with a
//! pool of its own implements [`TxPool`] for it.

mod checks;
mod memory;

pub use checks::intrinsic_gas;
pub use memory::{MemoryPool, PoolConfig};

use crate::wire::{Announcement, PooledEnvelope, WireTransaction};
use alloy_primitives::{Address, B256, U256};
use bytes::Bytes;
use std::sync::Arc;

/// A transaction whose signature has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PooledTransaction {
    tx: WireTransaction,
    sender: Address,
}

impl PooledTransaction {
    /// Recovers the sender.
    ///
    /// # Errors
    /// When the signature is invalid.
    pub fn new(tx: WireTransaction) -> Result<Self, PoolError> {
        let sender = tx.recover().map_err(|_| PoolError::Signature)?;
        Ok(PooledTransaction { tx, sender })
    }

    /// The account that signed it.
    pub fn sender(&self) -> Address {
        self.sender
    }

    /// The transaction.
    pub fn envelope(&self) -> &PooledEnvelope {
        self.tx.envelope()
    }

    /// Its hash.
    pub fn hash(&self) -> B256 {
        self.tx.hash()
    }

    /// Hash, type and size as they are announced.
    pub fn announcement(&self) -> Announcement {
        self.tx.announcement()
    }

    /// The RLP item that stands for it in lists of transactions.
    pub fn item(&self) -> &Bytes {
        self.tx.item()
    }
}

/// What the gossip asks of a pool. Calls are synchronous; `add` may take as
/// long as a signature check.
pub trait TxPool: Send + Sync + 'static {
    /// Whether the pool has the transaction.
    fn contains(&self, hash: &B256) -> bool;

    /// The transaction with this hash.
    fn get(&self, hash: &B256) -> Option<Arc<PooledTransaction>>;

    /// Checks a transaction and takes it in.
    ///
    /// # Errors
    /// When it is known already, invalid, or not wanted.
    fn add(&self, tx: WireTransaction) -> Result<Arc<PooledTransaction>, PoolError>;

    /// What the pool has, in the order it came. A new peer is told of all of it.
    fn announcements(&self) -> Vec<Announcement>;
}

/// Why a transaction was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The pool has it.
    #[error("already known")]
    AlreadyKnown,
    /// The signature is invalid.
    #[error("invalid signature")]
    Signature,
    /// It is signed for another chain.
    #[error("signed for chain {found}, this is {expected}")]
    ChainId {
        /// The pool's chain.
        expected: u64,
        /// The transaction's.
        found: u64,
    },
    /// It is larger than a transaction may be.
    #[error("{size} bytes, at most {max} allowed")]
    TooLarge {
        /// Its size, without the sidecar of a blob transaction.
        size: usize,
        /// The limit of its kind.
        max: usize,
    },
    /// Its code to create a contract is too large (EIP-3860).
    #[error("init code of {size} bytes, at most {max} allowed")]
    InitCode {
        /// Size of the code.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// Its gas limit does not cover what it costs before any code runs.
    #[error("gas limit {limit} is under the intrinsic {required}")]
    IntrinsicGas {
        /// The gas limit.
        limit: u64,
        /// The gas needed.
        required: u64,
    },
    /// Its gas limit is more than a block has.
    #[error("gas limit {limit} is over the block's {block}")]
    GasLimit {
        /// The gas limit.
        limit: u64,
        /// The block's.
        block: u64,
    },
    /// The priority fee is above the fee cap.
    #[error("priority fee {tip} above the fee cap {cap}")]
    TipAboveCap {
        /// Priority fee in wei.
        tip: u128,
        /// Fee cap in wei.
        cap: u128,
    },
    /// It carries no blobs though it is a blob transaction, or too many.
    #[error("{count} blobs, between 1 and {max} allowed")]
    BlobCount {
        /// Blobs it carries.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// Blobs, commitments and proofs do not belong together.
    #[error("invalid blobs")]
    Blobs,
    /// A transaction that authorizes code for accounts names none (EIP-7702).
    #[error("no authorizations")]
    NoAuthorizations,
    /// The nonce is used up.
    #[error("nonce {nonce} is below the account's {account}")]
    NonceTooLow {
        /// The transaction's.
        nonce: u64,
        /// The account's.
        account: u64,
    },
    /// The nonce is too far in the future, or the largest there is (EIP-2681).
    #[error("nonce {nonce} is too high, the pool keeps up to {max}")]
    NonceTooHigh {
        /// The transaction's.
        nonce: u64,
        /// The highest taken.
        max: u64,
    },
    /// The account cannot pay for it and its other pooled transactions.
    #[error("costs {cost} wei with the account's other transactions, its balance is {balance}")]
    InsufficientFunds {
        /// Balance in wei.
        balance: U256,
        /// Highest possible cost in wei.
        cost: U256,
    },
    /// Another transaction of the account has the nonce and pays as much.
    #[error("replacing a transaction takes {required} wei a gas, it pays {fee}")]
    Underpriced {
        /// Fee cap in wei.
        fee: u128,
        /// Fee cap that would replace the other.
        required: u128,
    },
    /// The account has as many transactions as one may have.
    #[error("the account has {0} transactions in the pool already")]
    AccountFull(usize),
    /// The pool is full of better ones.
    #[error("the pool is full")]
    Full,
}

impl PoolError {
    /// Whether the transaction can never be valid on this chain, whatever the
    /// state: an honest node does not send such.
    pub fn is_invalid(&self) -> bool {
        matches!(
            self,
            PoolError::Signature
                | PoolError::ChainId { .. }
                | PoolError::TooLarge { .. }
                | PoolError::InitCode { .. }
                | PoolError::IntrinsicGas { .. }
                | PoolError::TipAboveCap { .. }
                | PoolError::BlobCount { .. }
                | PoolError::Blobs
                | PoolError::NoAuthorizations
        )
    }
}
