//! What our Status says and whether a remote one is acceptable.

use crate::backend::ChainBackend;
use crate::fork_id::ForkIdError;
use crate::wire::{DecodeError, EthVersion, Status, Status68, Status69};
use alloy_primitives::B256;

/// Largest total difficulty taken for one, in bits: it would take mainnet's
/// whole hash rate ages to exceed it (the rule of several clients).
const MAX_DIFFICULTY_BITS: usize = 160;

/// Why a remote Status ends the session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    /// It cannot be read.
    #[error("unreadable Status: {0}")]
    Decode(#[from] DecodeError),
    /// The remote is on another network.
    #[error("network id {remote}, ours is {local}")]
    NetworkId {
        /// Ours.
        local: u64,
        /// The remote's.
        remote: u64,
    },
    /// Status names another version than the one negotiated.
    #[error("Status of eth/{remote} in a session of eth/{negotiated}")]
    Version {
        /// Agreed on in Hello.
        negotiated: u32,
        /// In Status.
        remote: u32,
    },
    /// The remote is on another chain.
    #[error("genesis {remote}, ours is {local}")]
    Genesis {
        /// Ours.
        local: B256,
        /// The remote's.
        remote: B256,
    },
    /// The chains part at a fork.
    #[error("fork id: {0}")]
    ForkId(#[from] ForkIdError),
    /// The block range is reversed, or its hash zero.
    #[error("impossible block range {earliest} to {latest}")]
    BlockRange {
        /// First block.
        earliest: u64,
        /// Last block.
        latest: u64,
    },
    /// The total difficulty is beyond reason.
    #[error("total difficulty of {bits} bits")]
    TotalDifficulty {
        /// Its length.
        bits: usize,
    },
}

impl StatusError {
    /// Whether an honest node of another chain would send this.
    pub fn is_honest(&self) -> bool {
        matches!(
            self,
            StatusError::NetworkId { .. } | StatusError::Genesis { .. } | StatusError::ForkId(_)
        )
    }
}

/// Our Status for a session in `version`.
pub fn local_status(version: EthVersion, network_id: u64, chain: &dyn ChainBackend) -> Status {
    let head = chain.head();
    let fork_id = chain.forks().fork_id(head.fork_point());
    let genesis = chain.genesis_hash();
    let version_number = version.number();
    match version {
        EthVersion::Eth68 => Status::Eth68(Status68 {
            version: version_number,
            network_id,
            total_difficulty: chain.total_difficulty(),
            head: head.hash,
            genesis,
            fork_id,
        }),
        EthVersion::Eth69 => Status::Eth69(Status69 {
            version: version_number,
            network_id,
            genesis,
            fork_id,
            range: chain.range(),
        }),
    }
}

/// Judges a remote Status: network, version, genesis, fork id (against the
/// chain's head of this moment), then the range or total difficulty.
///
/// # Errors
/// The first of these that does not go together.
pub fn check_status(
    version: EthVersion,
    network_id: u64,
    chain: &dyn ChainBackend,
    remote: &Status,
) -> Result<(), StatusError> {
    if remote.network_id() != network_id {
        return Err(StatusError::NetworkId {
            local: network_id,
            remote: remote.network_id(),
        });
    }
    if remote.version() != version.number() {
        let (negotiated, remote) = (version.number(), remote.version());
        return Err(StatusError::Version { negotiated, remote });
    }
    let genesis = chain.genesis_hash();
    if remote.genesis() != genesis {
        return Err(StatusError::Genesis {
            local: genesis,
            remote: remote.genesis(),
        });
    }
    chain
        .forks()
        .validate(chain.head().fork_point(), remote.fork_id())?;
    match remote {
        Status::Eth68(status) => {
            let bits = status.total_difficulty.bit_len();
            if bits > MAX_DIFFICULTY_BITS {
                return Err(StatusError::TotalDifficulty { bits });
            }
        }
        Status::Eth69(status) => {
            if !status.range.is_valid() {
                let (earliest, latest) = (status.range.earliest, status.range.latest);
                return Err(StatusError::BlockRange { earliest, latest });
            }
        }
    }
    Ok(())
}
