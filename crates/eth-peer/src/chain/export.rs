//! Writes a chain as a folder that [`super::ChainFolder`] and `geth import`
//! read.

use crate::backend::ChainBackend;
use alloy_genesis::Genesis;
use alloy_rlp::Header as RlpHeader;
use std::path::{Path, PathBuf};

/// Why a chain was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A file cannot be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The genesis file cannot be put in JSON.
    #[error("genesis: {0}")]
    Genesis(#[from] serde_json::Error),
    /// The backend lacks a block below its head.
    #[error("block {0} is missing")]
    Missing(u64),
}

/// Writes `genesis.json` and `chain.rlp` (blocks from 1 to the head, in geth's
/// export format) into `folder`, which must exist.
///
/// # Errors
/// When a block is missing or a file cannot be written.
pub fn write_chain(
    folder: impl AsRef<Path>,
    genesis: &Genesis,
    chain: &dyn ChainBackend,
) -> Result<(), ExportError> {
    let folder = folder.as_ref();
    write(
        folder.join("genesis.json"),
        &serde_json::to_vec_pretty(genesis)?,
    )?;
    let mut file = Vec::new();
    for number in 1..=chain.head().number {
        let block = block_rlp(chain, number).ok_or(ExportError::Missing(number))?;
        file.extend_from_slice(&block);
    }
    write(folder.join("chain.rlp"), &file)
}

fn write(path: PathBuf, bytes: &[u8]) -> Result<(), ExportError> {
    std::fs::write(&path, bytes).map_err(|source| ExportError::Write { path, source })
}

/// `[header, transactions, ommers, withdrawals]` of a canonical block.
fn block_rlp(chain: &dyn ChainBackend, number: u64) -> Option<Vec<u8>> {
    let hash = chain.canonical_hash(number)?;
    let header = chain.header_rlp(hash)?;
    let body = chain.body_rlp(hash)?;
    let fields = RlpHeader::decode_bytes(&mut body.as_ref(), true).ok()?;
    let mut out = Vec::with_capacity(header.len() + fields.len() + 5);
    RlpHeader {
        list: true,
        payload_length: header.len() + fields.len(),
    }
    .encode(&mut out);
    out.extend_from_slice(&header);
    out.extend_from_slice(fields);
    Some(out)
}
