//! A chain in memory. Blocks keep the bytes they came in, so serving one copies
//! it once into the reply.

use super::genesis::{GenesisError, genesis_header};
use super::verify::{LinkError, verify_body, verify_link, verify_receipts};
use crate::backend::{ChainBackend, Head};
use crate::fork_id::ForkSchedule;
use crate::wire::{Block, BlockBody};
use alloy_consensus::{Header, ReceiptEnvelope};
use alloy_eips::BlockHashOrNumber;
use alloy_genesis::Genesis;
use alloy_primitives::{B256, Sealed, U256};
use alloy_rlp::{Encodable, Header as RlpHeader};
use bytes::Bytes;
use parking_lot::RwLock;
use std::collections::HashMap;

/// Why a block was not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The block does not follow the head, or its parts are not its own.
    #[error("block {number} does not fit: {source}")]
    Link {
        /// Number the block should have.
        number: u64,
        /// What does not fit.
        source: LinkError,
    },
}

/// A block as it is kept.
#[derive(Clone, Debug)]
pub(super) struct StoredBlock {
    header: Sealed<Header>,
    header_rlp: Bytes,
    /// The lists of the body, one after the other, without the list around them.
    body_fields: Bytes,
    receipts: Option<Vec<ReceiptEnvelope>>,
}

#[derive(Debug)]
struct Blocks {
    /// By number, beginning with the genesis block.
    canonical: Vec<StoredBlock>,
    numbers: HashMap<B256, usize>,
    total_difficulty: U256,
}

/// A chain in memory, complete from its genesis block. It can grow and be cut
/// back while it is served. Only canonical blocks are kept.
///
/// Memory: the RLP of all blocks, about 1 KiB of header each, and the receipts
/// given.
#[derive(Debug)]
pub struct MemoryChain {
    genesis_hash: B256,
    chain_id: u64,
    forks: ForkSchedule,
    blocks: RwLock<Blocks>,
}

impl MemoryChain {
    /// A chain of the genesis block alone.
    ///
    /// # Errors
    /// When the genesis file describes no block.
    pub fn new(genesis: &Genesis) -> Result<Self, GenesisError> {
        let header = genesis_header(genesis)?;
        let body = BlockBody {
            withdrawals: header.withdrawals_root.map(|_| Default::default()),
            ..BlockBody::default()
        };
        let total_difficulty = header.difficulty;
        let block = StoredBlock::new(Block { header, body }, Some(Vec::new()));
        let genesis_hash = block.header.hash();
        Ok(MemoryChain {
            genesis_hash,
            chain_id: genesis.config.chain_id,
            forks: ForkSchedule::from_genesis(genesis, genesis_hash),
            blocks: RwLock::new(Blocks {
                canonical: vec![block],
                numbers: HashMap::from([(genesis_hash, 0)]),
                total_difficulty,
            }),
        })
    }

    /// Appends a block with its receipts.
    ///
    /// # Errors
    /// When the block does not follow the head, or body or receipts are not
    /// those of its header. The chain is then unchanged.
    pub fn append(
        &self,
        block: Block,
        receipts: Vec<ReceiptEnvelope>,
    ) -> Result<Head, AppendError> {
        let checked = verify_body(&block.header, &block.body)
            .and_then(|()| verify_receipts(&block.header, &receipts));
        checked.map_err(|source| AppendError::Link {
            number: block.header.number,
            source,
        })?;
        self.push(StoredBlock::new(block, Some(receipts)))
    }

    /// Cuts the chain back to the block `number`; nothing happens if it is not
    /// beyond it. Returns the head.
    pub fn rewind(&self, number: u64) -> Head {
        let keep = usize::try_from(number)
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        let mut blocks = self.blocks.write();
        while blocks.canonical.len() > keep {
            if let Some(block) = blocks.canonical.pop() {
                blocks.numbers.remove(&block.header.hash());
                blocks.total_difficulty -= block.header.difficulty;
            }
        }
        drop(blocks);
        self.head()
    }

    /// Appends a block whose parts have been checked against its header.
    pub(super) fn push(&self, block: StoredBlock) -> Result<Head, AppendError> {
        let mut blocks = self.blocks.write();
        if let Some(parent) = blocks.canonical.last() {
            verify_link(&parent.header, parent.header.hash(), &block.header).map_err(|source| {
                AppendError::Link {
                    number: parent.header.number + 1,
                    source,
                }
            })?;
        }
        let head = block.head();
        let index = blocks.canonical.len();
        blocks.numbers.insert(head.hash, index);
        blocks.total_difficulty = blocks
            .total_difficulty
            .saturating_add(block.header.difficulty);
        blocks.canonical.push(block);
        Ok(head)
    }

    /// Reads a block by hash.
    fn with<T>(&self, hash: B256, read: impl FnOnce(&StoredBlock) -> T) -> Option<T> {
        let blocks = self.blocks.read();
        let index = *blocks.numbers.get(&hash)?;
        blocks.canonical.get(index).map(read)
    }
}

impl StoredBlock {
    fn new(block: Block, receipts: Option<Vec<ReceiptEnvelope>>) -> Self {
        let mut fields = Vec::new();
        block.body.transactions.encode(&mut fields);
        block.body.ommers.encode(&mut fields);
        if let Some(withdrawals) = &block.body.withdrawals {
            withdrawals.encode(&mut fields);
        }
        let header_rlp = alloy_rlp::encode(&block.header);
        Self::from_parts(block.header, header_rlp.into(), fields.into(), receipts)
    }

    /// A block whose RLP is at hand: that of the header, and the items after it.
    pub(super) fn from_parts(
        header: Header,
        header_rlp: Bytes,
        body_fields: Bytes,
        receipts: Option<Vec<ReceiptEnvelope>>,
    ) -> Self {
        let hash = alloy_primitives::keccak256(&header_rlp);
        StoredBlock {
            header: Sealed::new_unchecked(header, hash),
            header_rlp,
            body_fields,
            receipts,
        }
    }

    fn head(&self) -> Head {
        Head {
            number: self.header.number,
            hash: self.header.hash(),
            timestamp: self.header.timestamp,
        }
    }
}

impl ChainBackend for MemoryChain {
    fn genesis_hash(&self) -> B256 {
        self.genesis_hash
    }

    fn chain_id(&self) -> u64 {
        self.chain_id
    }

    fn total_difficulty(&self) -> U256 {
        self.blocks.read().total_difficulty
    }

    fn forks(&self) -> &ForkSchedule {
        &self.forks
    }

    fn head(&self) -> Head {
        let blocks = self.blocks.read();
        let genesis = Head {
            number: 0,
            hash: self.genesis_hash,
            timestamp: 0,
        };
        blocks.canonical.last().map_or(genesis, StoredBlock::head)
    }

    fn earliest(&self) -> u64 {
        0
    }

    fn canonical_hash(&self, number: u64) -> Option<B256> {
        let index = usize::try_from(number).ok()?;
        self.blocks
            .read()
            .canonical
            .get(index)
            .map(|block| block.header.hash())
    }

    fn header(&self, id: BlockHashOrNumber) -> Option<Sealed<Header>> {
        let hash = match id {
            BlockHashOrNumber::Hash(hash) => hash,
            BlockHashOrNumber::Number(number) => self.canonical_hash(number)?,
        };
        self.with(hash, |block| block.header.clone())
    }

    fn header_rlp(&self, hash: B256) -> Option<Bytes> {
        self.with(hash, |block| block.header_rlp.clone())
    }

    fn body_rlp(&self, hash: B256) -> Option<Bytes> {
        let fields = self.with(hash, |block| block.body_fields.clone())?;
        let mut out = Vec::with_capacity(fields.len() + 5);
        RlpHeader {
            list: true,
            payload_length: fields.len(),
        }
        .encode(&mut out);
        out.extend_from_slice(&fields);
        Some(out.into())
    }

    fn receipts(&self, hash: B256) -> Option<Vec<ReceiptEnvelope>> {
        self.with(hash, |block| block.receipts.clone())?
    }
}
