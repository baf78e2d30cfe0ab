//! Checks of a block against its parent and of its parts against its header.
//! They are what a chain's links and a peer's replies are held to; executing a
//! block is not among them.

use crate::wire::BlockBody;
use alloy_consensus::constants::EMPTY_OMMER_ROOT_HASH;
use alloy_consensus::proofs::{
    calculate_ommers_root, calculate_receipt_root, calculate_transaction_root,
    calculate_withdrawals_root,
};
use alloy_consensus::{Header, ReceiptEnvelope};
use alloy_primitives::B256;

/// Why a block does not follow its parent, or a part not belong to its header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The number is not the parent's plus one.
    #[error("its number is {found}, expected {expected}")]
    Number {
        /// The parent's plus one.
        expected: u64,
        /// The header's.
        found: u64,
    },
    /// The parent hash is another.
    #[error("its parent hash is {found}, but the block before has {expected}")]
    ParentHash {
        /// Hash of the block before.
        expected: B256,
        /// The header's parent hash.
        found: B256,
    },
    /// The timestamp is not after the parent's.
    #[error("its time {found} is not after its parent's {parent}")]
    Timestamp {
        /// The parent's timestamp, in seconds.
        parent: u64,
        /// The header's timestamp, in seconds.
        found: u64,
    },
    /// The transactions are not those of the header.
    #[error("its transactions have the root {found}, the header says {expected}")]
    TransactionsRoot {
        /// The header's root.
        expected: B256,
        /// The root of the transactions.
        found: B256,
    },
    /// The ommers are not those of the header.
    #[error("its ommers have the hash {found}, the header says {expected}")]
    OmmersHash {
        /// The header's hash.
        expected: B256,
        /// The hash of the ommers.
        found: B256,
    },
    /// The withdrawals are not those of the header, or only one of body and
    /// header has any.
    #[error("its withdrawals have the root {found:?}, the header says {expected:?}")]
    WithdrawalsRoot {
        /// The header's root, if it has one.
        expected: Option<B256>,
        /// The root of the withdrawals, if there is a list.
        found: Option<B256>,
    },
    /// The receipts are not those of the header.
    #[error("its receipts have the root {found}, the header says {expected}")]
    ReceiptsRoot {
        /// The header's root.
        expected: B256,
        /// The root of the receipts.
        found: B256,
    },
}

/// Checks that `header` follows `parent`, whose hash is `parent_hash`.
///
/// # Errors
/// Number, parent hash or time, in this order.
pub fn verify_link(parent: &Header, parent_hash: B256, header: &Header) -> Result<(), LinkError> {
    let expected = parent.number.saturating_add(1);
    if header.number != expected {
        return Err(LinkError::Number {
            expected,
            found: header.number,
        });
    }
    if header.parent_hash != parent_hash {
        return Err(LinkError::ParentHash {
            expected: parent_hash,
            found: header.parent_hash,
        });
    }
    if header.timestamp <= parent.timestamp {
        return Err(LinkError::Timestamp {
            parent: parent.timestamp,
            found: header.timestamp,
        });
    }
    Ok(())
}

/// Checks that `body` is the body `header` stands for.
///
/// # Errors
/// The first root that differs: transactions, ommers, withdrawals.
pub fn verify_body(header: &Header, body: &BlockBody) -> Result<(), LinkError> {
    let found = calculate_transaction_root(&body.transactions);
    if found != header.transactions_root {
        return Err(LinkError::TransactionsRoot {
            expected: header.transactions_root,
            found,
        });
    }
    let found = if body.ommers.is_empty() {
        EMPTY_OMMER_ROOT_HASH
    } else {
        calculate_ommers_root(&body.ommers)
    };
    if found != header.ommers_hash {
        return Err(LinkError::OmmersHash {
            expected: header.ommers_hash,
            found,
        });
    }
    let found = body
        .withdrawals
        .as_ref()
        .map(|list| calculate_withdrawals_root(list));
    if found != header.withdrawals_root {
        return Err(LinkError::WithdrawalsRoot {
            expected: header.withdrawals_root,
            found,
        });
    }
    Ok(())
}

/// Checks that `receipts` are those `header` stands for.
///
/// # Errors
/// When the root differs.
pub fn verify_receipts(header: &Header, receipts: &[ReceiptEnvelope]) -> Result<(), LinkError> {
    let found = calculate_receipt_root(receipts);
    if found == header.receipts_root {
        Ok(())
    } else {
        Err(LinkError::ReceiptsRoot {
            expected: header.receipts_root,
            found,
        })
    }
}
