//! Status, the first message of a session, in its two layouts, and the block
//! range that eth/69 put in it. Whether a Status is acceptable is decided in
//! the session's handshake.

use super::{DecodeError, EthVersion, finished, whole_list};
use crate::limits::MAX_STATUS_SIZE;
use alloy_eip2124::ForkId;
use alloy_primitives::{B256, U256};
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};

/// The blocks a node has with bodies and receipts (EIP-7642): all from
/// `earliest` to `latest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct BlockRange {
    /// Number of the first block available.
    pub earliest: u64,
    /// Number of the last block available.
    pub latest: u64,
    /// Hash of the last block available.
    pub latest_hash: B256,
}

impl BlockRange {
    /// Whether the range can be true: not reversed, and with a hash.
    pub fn is_valid(&self) -> bool {
        self.earliest <= self.latest && !self.latest_hash.is_zero()
    }

    /// Whether the range covers the block `number`.
    pub fn contains(&self, number: u64) -> bool {
        (self.earliest..=self.latest).contains(&number)
    }

    /// The BlockRangeUpdate message.
    pub fn encode_update(&self) -> Vec<u8> {
        alloy_rlp::encode(self)
    }

    /// Reads a BlockRangeUpdate. The range may still be invalid
    /// (see [`BlockRange::is_valid`]).
    ///
    /// # Errors
    /// When the bytes are not exactly one such message.
    pub fn decode_update(message: &[u8]) -> Result<Self, DecodeError> {
        let mut rest = message;
        let range = Self::decode(&mut rest)?;
        finished(rest)?;
        Ok(range)
    }
}

/// Status up to eth/68.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Status68 {
    /// Version of eth.
    pub version: u32,
    /// Network id.
    pub network_id: u64,
    /// Total difficulty; after the Merge the terminal value of the chain.
    pub total_difficulty: U256,
    /// Hash of the head.
    pub head: B256,
    /// Hash of the genesis block.
    pub genesis: B256,
    /// Fork id (EIP-2124).
    pub fork_id: ForkId,
}

/// Status from eth/69.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status69 {
    /// Version of eth.
    pub version: u32,
    /// Network id.
    pub network_id: u64,
    /// Hash of the genesis block.
    pub genesis: B256,
    /// Fork id (EIP-2124).
    pub fork_id: ForkId,
    /// The blocks available.
    pub range: BlockRange,
}

/// Either Status; which one follows from the version negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Up to eth/68.
    Eth68(Status68),
    /// From eth/69.
    Eth69(Status69),
}

impl Status {
    /// Reads the Status of a session in `version`. The version number inside is
    /// not compared with it here.
    ///
    /// # Errors
    /// When the message is over 512 bytes or not exactly the layout of
    /// `version`.
    pub fn decode(version: EthVersion, message: &[u8]) -> Result<Self, DecodeError> {
        if message.len() > MAX_STATUS_SIZE {
            return Err(DecodeError::TooLarge {
                size: message.len(),
                max: MAX_STATUS_SIZE,
            });
        }
        match version {
            EthVersion::Eth68 => {
                let mut rest = message;
                let status = Status68::decode(&mut rest)?;
                finished(rest)?;
                Ok(Status::Eth68(status))
            }
            EthVersion::Eth69 => Ok(Status::Eth69(Status69::decode_exact(message)?)),
        }
    }

    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Status::Eth68(status) => alloy_rlp::encode(status),
            Status::Eth69(status) => status.encode(),
        }
    }

    /// Version number inside.
    pub fn version(&self) -> u32 {
        match self {
            Status::Eth68(status) => status.version,
            Status::Eth69(status) => status.version,
        }
    }

    /// Network id.
    pub fn network_id(&self) -> u64 {
        match self {
            Status::Eth68(status) => status.network_id,
            Status::Eth69(status) => status.network_id,
        }
    }

    /// Hash of the genesis block.
    pub fn genesis(&self) -> B256 {
        match self {
            Status::Eth68(status) => status.genesis,
            Status::Eth69(status) => status.genesis,
        }
    }

    /// Fork id.
    pub fn fork_id(&self) -> ForkId {
        match self {
            Status::Eth68(status) => status.fork_id,
            Status::Eth69(status) => status.fork_id,
        }
    }

    /// Hash of the sender's newest block.
    pub fn head_hash(&self) -> B256 {
        match self {
            Status::Eth68(status) => status.head,
            Status::Eth69(status) => status.range.latest_hash,
        }
    }

    /// The sender's block range; eth/68 has none.
    pub fn range(&self) -> Option<BlockRange> {
        match self {
            Status::Eth68(_) => None,
            Status::Eth69(status) => Some(status.range),
        }
    }
}

impl Status69 {
    fn encode(&self) -> Vec<u8> {
        let range = &self.range;
        let mut payload = Vec::with_capacity(MAX_STATUS_SIZE);
        self.version.encode(&mut payload);
        self.network_id.encode(&mut payload);
        self.genesis.encode(&mut payload);
        self.fork_id.encode(&mut payload);
        range.earliest.encode(&mut payload);
        range.latest.encode(&mut payload);
        range.latest_hash.encode(&mut payload);
        let mut out = Vec::with_capacity(payload.len() + 3);
        alloy_rlp::Header {
            list: true,
            payload_length: payload.len(),
        }
        .encode(&mut out);
        out.extend_from_slice(&payload);
        out
    }

    fn decode_exact(message: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = whole_list(message)?;
        let status = Status69 {
            version: u32::decode(&mut fields)?,
            network_id: u64::decode(&mut fields)?,
            genesis: B256::decode(&mut fields)?,
            fork_id: ForkId::decode(&mut fields)?,
            range: BlockRange {
                earliest: u64::decode(&mut fields)?,
                latest: u64::decode(&mut fields)?,
                latest_hash: B256::decode(&mut fields)?,
            },
        };
        finished(fields)?;
        Ok(status)
    }
}
