//! Fork ids (EIP-2124, EIP-6122): a checksum over the forks a chain has passed
//! and the next one, by which nodes of different chains part before they have
//! spoken a word of eth. The schedule computes the id and judges those of
//! others; it always takes the current head as an argument, so that a filter
//! never works on a stale one.

mod networks;

pub use networks::Network;

use alloy_eip2124::{ForkHash, ForkId};
use alloy_genesis::Genesis;
use alloy_primitives::B256;
use alloy_rlp::{Decodable, Header as RlpHeader};
use serde_json::Value;

/// Next-fork values above this are read as timestamps when our own head is
/// still among block-numbered forks: the time of mainnet's genesis, as geth has
/// it.
///
/// alloy and reth draw the line at [`ALLOY_TIMESTAMP_THRESHOLD`]. The two judge
/// differently only a remote whose next fork lies between them (in the years
/// 2011 to 2015, or at a block number no chain has reached), so no public
/// network is affected; we follow geth because most peers are geth.
pub const TIMESTAMP_THRESHOLD: u64 = 1_438_269_973;

/// Where alloy and reth draw the line between block numbers and timestamps.
pub const ALLOY_TIMESTAMP_THRESHOLD: u64 = 1_300_000_000;

/// How far a chain has come: what forks are compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForkPoint {
    /// Number of the head block.
    pub number: u64,
    /// Timestamp of the head block, in seconds.
    pub timestamp: u64,
}

/// Why a remote fork id does not go with ours (EIP-2124's two errors).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ForkIdError {
    /// The remote has not heard of a fork that we have passed.
    #[error("the remote is on an old fork and needs an update")]
    RemoteStale,
    /// The remote is on another chain, or we have not heard of a fork of this
    /// one.
    #[error("the remote is on another chain, or this node needs an update")]
    LocalIncompatibleOrStale,
}

/// The forks of a chain, by block number and then by time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForkSchedule {
    /// Fork numbers, then fork times.
    forks: Vec<u64>,
    /// How many of `forks` are block numbers.
    blocks: usize,
    /// `sums[i]` is the hash after `forks[..i]`; one longer than `forks`.
    sums: Vec<ForkHash>,
    threshold: u64,
}

impl ForkSchedule {
    /// A schedule from fork numbers and times in any order. Zero numbers,
    /// duplicates, and times not after `genesis_time` are left out, as EIP-2124
    /// and EIP-6122 say.
    pub fn new(
        genesis_hash: B256,
        genesis_time: u64,
        blocks: impl IntoIterator<Item = u64>,
        times: impl IntoIterator<Item = u64>,
    ) -> Self {
        let mut forks: Vec<u64> = blocks.into_iter().filter(|&number| number != 0).collect();
        forks.sort_unstable();
        forks.dedup();
        let blocks = forks.len();
        let mut times: Vec<u64> = times
            .into_iter()
            .filter(|&time| time > genesis_time)
            .collect();
        times.sort_unstable();
        times.dedup();
        forks.append(&mut times);

        let mut hash = ForkHash::from(genesis_hash);
        let mut sums = Vec::with_capacity(forks.len() + 1);
        sums.push(hash);
        for &fork in &forks {
            hash += fork;
            sums.push(hash);
        }
        ForkSchedule {
            forks,
            blocks,
            sums,
            threshold: TIMESTAMP_THRESHOLD,
        }
    }

    /// The schedule in a genesis file, given the hash of its block. As in geth
    /// every number of the config whose name ends in `Block` or `Time` is a
    /// fork, so a fork this code has not heard of counts too.
    pub fn from_genesis(genesis: &Genesis, genesis_hash: B256) -> Self {
        let config = serde_json::to_value(&genesis.config).unwrap_or_default();
        let with_suffix = |suffix: &str| -> Vec<u64> {
            config
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(name, _)| name.ends_with(suffix))
                .filter_map(|(_, value)| number(value))
                .collect()
        };
        Self::new(
            genesis_hash,
            genesis.timestamp,
            with_suffix("Block"),
            with_suffix("Time"),
        )
    }

    /// Replaces [`TIMESTAMP_THRESHOLD`].
    pub fn with_timestamp_threshold(mut self, threshold: u64) -> Self {
        self.threshold = threshold;
        self
    }

    /// The fork id of a node whose head is `head`.
    pub fn fork_id(&self, head: ForkPoint) -> ForkId {
        let passed = self.passed(head);
        ForkId {
            hash: self.sums.get(passed).copied().unwrap_or(ForkHash([0; 4])),
            next: self.forks.get(passed).copied().unwrap_or(0),
        }
    }

    /// Judges the fork id of a remote, with our head at `head`. The remote's
    /// head is not needed, and a node still at block 0 accepts all later nodes
    /// of its chain.
    ///
    /// # Errors
    /// When the remote's chain and ours part, or either side lacks an update.
    pub fn validate(&self, head: ForkPoint, remote: ForkId) -> Result<(), ForkIdError> {
        let passed = self.passed(head);
        match self.sums.iter().position(|sum| *sum == remote.hash) {
            Some(state) if state == passed => {
                // The same forks: but a next fork that we have passed without
                // knowing of it means the chains part there.
                let at = if self.is_block(passed) {
                    head.number
                } else {
                    head.timestamp
                };
                let reached = at >= remote.next
                    || (remote.next > self.threshold && head.timestamp >= remote.next);
                if remote.next != 0 && reached {
                    Err(ForkIdError::LocalIncompatibleOrStale)
                } else {
                    Ok(())
                }
            }
            Some(state) if state < passed => {
                if self.forks.get(state) == Some(&remote.next) {
                    Ok(())
                } else {
                    Err(ForkIdError::RemoteStale)
                }
            }
            Some(_) => Ok(()),
            None => Err(ForkIdError::LocalIncompatibleOrStale),
        }
    }

    /// Number of forks passed: the first one not passed ends the count, even if
    /// later ones look passed.
    fn passed(&self, head: ForkPoint) -> usize {
        self.forks
            .iter()
            .enumerate()
            .take_while(|&(index, &fork)| {
                fork <= if self.is_block(index) {
                    head.number
                } else {
                    head.timestamp
                }
            })
            .count()
    }

    /// Whether the fork at `index` is compared with the block number. What
    /// comes after the last fork goes with the times, if there are any.
    fn is_block(&self, index: usize) -> bool {
        index < self.blocks || self.blocks == self.forks.len()
    }
}

/// A JSON number, or a string of digits or of hexadecimal as some genesis files
/// have it.
fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        },
        _ => None,
    }
}

/// The value of the `eth` entry in a node record: `[[hash, next]]`.
pub fn encode_record_entry(fork_id: ForkId) -> Vec<u8> {
    alloy_rlp::encode(vec![fork_id])
}

/// Reads the value of an `eth` entry. Elements after the fork id are ignored,
/// for a later EIP may add some.
///
/// # Errors
/// When it is not a list that begins with a fork id.
pub fn decode_record_entry(mut value: &[u8]) -> alloy_rlp::Result<ForkId> {
    let mut fields = RlpHeader::decode_bytes(&mut value, true)?;
    ForkId::decode(&mut fields)
}

#[cfg(test)]
mod tests;
