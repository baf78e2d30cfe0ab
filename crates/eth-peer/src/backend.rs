//! What the eth protocol asks of a chain. Whoever has blocks implements this;
//! the crate brings a folder of exported blocks and a chain in memory. Calls
//! are synchronous and must not block for long: a backend over a disk keeps
//! its indices in memory.

use crate::fork_id::{ForkPoint, ForkSchedule};
use crate::wire::BlockRange;
use alloy_consensus::{Header, ReceiptEnvelope};
use alloy_eip2124::ForkId;
use alloy_eips::BlockHashOrNumber;
use alloy_primitives::{B256, Sealed, U256};
use bytes::Bytes;

/// The newest block of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Its timestamp, in seconds.
    pub timestamp: u64,
}

impl Head {
    /// What fork ids are made from.
    pub fn fork_point(&self) -> ForkPoint {
        ForkPoint {
            number: self.number,
            timestamp: self.timestamp,
        }
    }
}

/// A source of blocks.
pub trait ChainBackend: Send + Sync + 'static {
    /// Hash of the genesis block.
    fn genesis_hash(&self) -> B256;

    /// Chain id, which transactions are signed for.
    fn chain_id(&self) -> u64;

    /// Network id in Status; the chain id unless a network has set it apart.
    fn network_id(&self) -> u64 {
        self.chain_id()
    }

    /// Total difficulty up to the head; after the Merge the terminal value.
    /// Only eth/68 carries it.
    fn total_difficulty(&self) -> U256;

    /// The fork schedule.
    fn forks(&self) -> &ForkSchedule;

    /// The newest block.
    fn head(&self) -> Head;

    /// Number of the first block whose body is available.
    fn earliest(&self) -> u64;

    /// Hash of the canonical block with this number.
    fn canonical_hash(&self, number: u64) -> Option<B256>;

    /// A header, by number among canonical ones or by hash among all.
    fn header(&self, id: BlockHashOrNumber) -> Option<Sealed<Header>>;

    /// The RLP of the header with this hash.
    fn header_rlp(&self, hash: B256) -> Option<Bytes>;

    /// The RLP of the body of the block with this hash.
    fn body_rlp(&self, hash: B256) -> Option<Bytes>;

    /// The receipts of the block with this hash; empty for a block without
    /// transactions, `None` where they are not available.
    fn receipts(&self, hash: B256) -> Option<Vec<ReceiptEnvelope>>;

    /// The fork id at the head.
    fn fork_id(&self) -> ForkId {
        self.forks().fork_id(self.head().fork_point())
    }

    /// The range of blocks announced to peers.
    fn range(&self) -> BlockRange {
        let head = self.head();
        BlockRange {
            earliest: self.earliest().min(head.number),
            latest: head.number,
            latest_hash: head.hash,
        }
    }
}
