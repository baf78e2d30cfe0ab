//! A folder with a chain: `genesis.json` as geth reads it, `chain.rlp` as
//! `geth export` writes it (the RLP of blocks from 1 on, one after the other),
//! and, if it is there, `headstate.json` as `geth dump` writes it.
//!
//! Every block is checked when the folder is opened: parent hash, number, time,
//! transactions root, ommers hash, withdrawals root. Nothing is executed, so
//! state roots, gas and receipts are taken on trust, and receipts can be served
//! only of blocks without transactions.

use super::genesis::GenesisError;
use super::memory::{AppendError, MemoryChain, StoredBlock};
use super::state::{AccountState, KnownState, StateError, StateView};
use super::verify::{LinkError, verify_body};
use crate::backend::{ChainBackend, Head};
use crate::fork_id::ForkSchedule;
use crate::wire::BlockBody;
use alloy_consensus::{Header, ReceiptEnvelope};
use alloy_eips::BlockHashOrNumber;
use alloy_genesis::Genesis;
use alloy_primitives::{Address, B256, Sealed, U256};
use alloy_rlp::{Decodable, Header as RlpHeader};
use bytes::Bytes;
use std::path::{Path, PathBuf};

/// Why a folder holds no usable chain. Offsets count bytes from the beginning
/// of `chain.rlp`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The genesis file is not one.
    #[error("{}: not a genesis file: {source}", path.display())]
    GenesisFile {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        source: serde_json::Error,
    },
    /// The genesis file describes no block.
    #[error("{}: {source}", path.display())]
    Genesis {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: GenesisError,
    },
    /// Bytes in the chain file are no block.
    #[error("{}: block {number} at byte {offset}: malformed RLP: {source}", path.display())]
    Block {
        /// The file.
        path: PathBuf,
        /// Number the block should have.
        number: u64,
        /// Where it begins.
        offset: usize,
        /// The reason.
        source: alloy_rlp::Error,
    },
    /// A block does not follow the one before, or its parts are not its own.
    #[error("{}: block {number} at byte {offset}: {source}", path.display())]
    Link {
        /// The file.
        path: PathBuf,
        /// Number the block should have.
        number: u64,
        /// Where it begins.
        offset: usize,
        /// What does not fit.
        source: LinkError,
    },
    /// The state file is not one, or not that of the head.
    #[error("{}: {source}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: StateError,
    },
}

/// A chain opened from a folder. Memory: the size of `chain.rlp` and about
/// 1 KiB a block.
#[derive(Debug)]
pub struct ChainFolder {
    chain: MemoryChain,
    state: Option<KnownState>,
}

impl ChainFolder {
    /// Opens the folder and checks the links of every block.
    ///
    /// # Errors
    /// When a file cannot be read or a block is not what it should be; the
    /// error names the file, the block and the byte.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, ChainError> {
        let folder = folder.as_ref();
        let path = folder.join("genesis.json");
        let genesis: Genesis =
            serde_json::from_slice(&read(&path)?).map_err(|source| ChainError::GenesisFile {
                path: path.clone(),
                source,
            })?;
        let chain =
            MemoryChain::new(&genesis).map_err(|source| ChainError::Genesis { path, source })?;

        let path = folder.join("chain.rlp");
        append_blocks(&chain, &path, &Bytes::from(read(&path)?))?;

        let state = match folder.join("headstate.json") {
            path if path.exists() => Some(read_state(&chain, path)?),
            _ if chain.head().number == 0 => Some(KnownState::from_genesis(&genesis)),
            _ => None,
        };
        Ok(ChainFolder { chain, state })
    }

    /// The state at the head, where it is known: from `headstate.json`, which
    /// must have the head's state root, or from the genesis file if there are
    /// no blocks.
    pub fn state(&self) -> Option<&KnownState> {
        self.state.as_ref()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ChainError> {
    std::fs::read(path).map_err(|source| ChainError::Read {
        path: path.to_owned(),
        source,
    })
}

fn read_state(chain: &MemoryChain, path: PathBuf) -> Result<KnownState, ChainError> {
    let file = read(&path)?;
    let root = chain
        .header(BlockHashOrNumber::Hash(chain.head().hash))
        .map(|header| header.state_root)
        .unwrap_or_default();
    KnownState::from_dump(&file, root).map_err(|source| ChainError::State { path, source })
}

fn append_blocks(chain: &MemoryChain, path: &Path, file: &Bytes) -> Result<(), ChainError> {
    let mut rest: &[u8] = file;
    while !rest.is_empty() {
        let offset = file.len() - rest.len();
        let number = chain.head().number + 1;
        let link = |source| ChainError::Link {
            path: path.to_owned(),
            number,
            offset,
            source,
        };
        let (block, body) = decode_block(file, &mut rest).map_err(|source| ChainError::Block {
            path: path.to_owned(),
            number,
            offset,
            source,
        })?;
        let (header, stored) = block;
        verify_body(&header, &body).map_err(link)?;
        match chain.push(stored) {
            Ok(_) => {}
            Err(AppendError::Link { source, .. }) => return Err(link(source)),
        }
    }
    Ok(())
}

/// Takes the next block off the file, without copying its bytes.
fn decode_block(
    file: &Bytes,
    rest: &mut &[u8],
) -> alloy_rlp::Result<((Header, StoredBlock), BlockBody)> {
    let fields = RlpHeader::decode_bytes(rest, true)?;
    let mut after_header = fields;
    let header = Header::decode(&mut after_header)?;
    let (header_rlp, _) = fields
        .split_at_checked(fields.len() - after_header.len())
        .ok_or(alloy_rlp::Error::InputTooShort)?;

    let mut body_fields = after_header;
    let body = BlockBody {
        transactions: Vec::decode(&mut body_fields)?,
        ommers: Vec::decode(&mut body_fields)?,
        withdrawals: if body_fields.is_empty() {
            None
        } else {
            Some(Decodable::decode(&mut body_fields)?)
        },
    };
    if !body_fields.is_empty() {
        return Err(alloy_rlp::Error::UnexpectedLength);
    }
    // Without execution the receipts are known only where there are none.
    let receipts = body.transactions.is_empty().then(Vec::new);
    let stored = StoredBlock::from_parts(
        header.clone(),
        file.slice_ref(header_rlp),
        file.slice_ref(after_header),
        receipts,
    );
    Ok(((header, stored), body))
}

impl StateView for ChainFolder {
    fn account(&self, address: &Address) -> Option<AccountState> {
        self.state.as_ref()?.account(address)
    }
}

impl ChainBackend for ChainFolder {
    fn genesis_hash(&self) -> B256 {
        self.chain.genesis_hash()
    }

    fn chain_id(&self) -> u64 {
        self.chain.chain_id()
    }

    fn total_difficulty(&self) -> U256 {
        self.chain.total_difficulty()
    }

    fn forks(&self) -> &ForkSchedule {
        self.chain.forks()
    }

    fn head(&self) -> Head {
        self.chain.head()
    }

    fn earliest(&self) -> u64 {
        self.chain.earliest()
    }

    fn canonical_hash(&self, number: u64) -> Option<B256> {
        self.chain.canonical_hash(number)
    }

    fn header(&self, id: BlockHashOrNumber) -> Option<Sealed<Header>> {
        self.chain.header(id)
    }

    fn header_rlp(&self, hash: B256) -> Option<Bytes> {
        self.chain.header_rlp(hash)
    }

    fn body_rlp(&self, hash: B256) -> Option<Bytes> {
        self.chain.body_rlp(hash)
    }

    fn receipts(&self, hash: B256) -> Option<Vec<ReceiptEnvelope>> {
        self.chain.receipts(hash)
    }
}

#[cfg(test)]
mod tests;
