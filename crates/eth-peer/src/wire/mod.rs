//! The messages of eth/68 and eth/69 as types, and their RLP. Decoders are
//! total: every length is checked against what is there before anything is
//! allocated for it, and counts have a bound. Nothing here keeps state or asks
//! whether a message makes sense at this moment; that is the session's part.

mod blocks;
mod receipts;
mod status;
mod txs;

pub use blocks::{
    Block, BlockBody, BlockTransaction, GetBlockHeaders, HashRequest, RawReply, decode_body,
    decode_headers, request_id,
};
pub use receipts::{decode_receipts, encode_receipts};
pub use status::{BlockRange, Status, Status68, Status69};
pub use txs::{
    Announcement, Announcements, PooledEnvelope, WireTransaction, decode_announcements,
    decode_pooled_transactions, decode_transactions, encode_announcements,
    encode_pooled_transactions, encode_transactions,
};

use alloy_eips::eip2718::Decodable2718;
use alloy_rlp::{Decodable, Header as RlpHeader};
use std::fmt;

/// The versions of eth spoken here, newest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EthVersion {
    /// eth/68 (EIP-5793): Status with total difficulty, receipts with bloom.
    Eth68,
    /// eth/69 (EIP-7642): Status with a block range, receipts without bloom,
    /// BlockRangeUpdate.
    Eth69,
}

impl EthVersion {
    /// All versions, the one to prefer first.
    pub const ALL: [EthVersion; 2] = [EthVersion::Eth69, EthVersion::Eth68];

    /// The number in the capability and in Status.
    pub const fn number(self) -> u32 {
        match self {
            EthVersion::Eth68 => 68,
            EthVersion::Eth69 => 69,
        }
    }

    /// How many message ids the version reserves (its length in the
    /// capability arithmetic of RLPx).
    pub const fn length(self) -> u64 {
        match self {
            EthVersion::Eth68 => 17,
            EthVersion::Eth69 => 18,
        }
    }
}

impl fmt::Display for EthVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "eth/{}", self.number())
    }
}

/// The ids of messages, relative to the capability's offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MessageId {
    /// Status.
    Status = 0x00,
    /// Transactions.
    Transactions = 0x02,
    /// GetBlockHeaders.
    GetBlockHeaders = 0x03,
    /// BlockHeaders.
    BlockHeaders = 0x04,
    /// GetBlockBodies.
    GetBlockBodies = 0x05,
    /// BlockBodies.
    BlockBodies = 0x06,
    /// NewPooledTransactionHashes.
    NewPooledTransactionHashes = 0x08,
    /// GetPooledTransactions.
    GetPooledTransactions = 0x09,
    /// PooledTransactions.
    PooledTransactions = 0x0a,
    /// GetReceipts.
    GetReceipts = 0x0f,
    /// Receipts.
    Receipts = 0x10,
    /// BlockRangeUpdate, from eth/69.
    BlockRangeUpdate = 0x11,
}

impl MessageId {
    /// The message with this id in `version`; `None` for what the version does
    /// not have and for the block gossip of proof of work (0x01, 0x07), which a
    /// peer must not send any more.
    pub const fn from_id(version: EthVersion, id: u64) -> Option<MessageId> {
        Some(match id {
            0x00 => MessageId::Status,
            0x02 => MessageId::Transactions,
            0x03 => MessageId::GetBlockHeaders,
            0x04 => MessageId::BlockHeaders,
            0x05 => MessageId::GetBlockBodies,
            0x06 => MessageId::BlockBodies,
            0x08 => MessageId::NewPooledTransactionHashes,
            0x09 => MessageId::GetPooledTransactions,
            0x0a => MessageId::PooledTransactions,
            0x0f => MessageId::GetReceipts,
            0x10 => MessageId::Receipts,
            0x11 if matches!(version, EthVersion::Eth69) => MessageId::BlockRangeUpdate,
            _ => return None,
        })
    }

    /// The id as it is sent.
    pub const fn id(self) -> u64 {
        self as u64
    }
}

/// Why bytes are not the message they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The RLP is malformed, or a field is missing, superfluous or of the wrong
    /// size.
    #[error("malformed RLP: {0}")]
    Rlp(#[from] alloy_rlp::Error),
    /// Bytes follow the message.
    #[error("{0} bytes after the message")]
    TrailingBytes(usize),
    /// The message is larger than its kind may be.
    #[error("message of {size} bytes, {max} allowed")]
    TooLarge {
        /// Bytes received.
        size: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A list holds more items than it may.
    #[error("more than {max} items")]
    TooMany {
        /// Items allowed.
        max: usize,
    },
    /// The three lists of an announcement differ in length.
    #[error("announcement of {types} types, {sizes} sizes and {hashes} hashes")]
    UnequalLists {
        /// Number of types.
        types: usize,
        /// Number of sizes, counted up to one past the number of types.
        sizes: usize,
        /// Number of hashes.
        hashes: usize,
    },
    /// A transaction is of no known type, or not what its type demands.
    #[error("not a transaction: {0}")]
    Transaction(alloy_rlp::Error),
    /// A receipt is of no known transaction type.
    #[error("receipt of unknown type {0}")]
    ReceiptType(u64),
}

/// The payload of the list that is the whole of `message`.
fn whole_list(mut message: &[u8]) -> Result<&[u8], DecodeError> {
    let payload = RlpHeader::decode_bytes(&mut message, true)?;
    finished(message)?;
    Ok(payload)
}

/// Nothing may follow.
fn finished(rest: &[u8]) -> Result<(), DecodeError> {
    if rest.is_empty() {
        Ok(())
    } else {
        Err(DecodeError::TrailingBytes(rest.len()))
    }
}

/// Takes the next item, header included, off `payload`.
fn next_item<'a>(payload: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let start = *payload;
    let header = RlpHeader::decode(payload)?;
    // For a single byte below 0x80 the header is the payload itself.
    let head = start.len() - payload.len();
    let (item, rest) = start
        .split_at_checked(head + header.payload_length)
        .ok_or(DecodeError::Rlp(alloy_rlp::Error::InputTooShort))?;
    *payload = rest;
    Ok(item)
}

/// Decodes an item that is a transaction or receipt: a list in the legacy form,
/// a byte string in the typed one. The item's own length is binding; the typed
/// decoders by themselves would read past it.
fn decode_enveloped<T: Decodable + Decodable2718>(item: &[u8]) -> alloy_rlp::Result<T> {
    let mut rest = item;
    let value = if item
        .first()
        .is_some_and(|&first| first >= alloy_rlp::EMPTY_LIST_CODE)
    {
        T::decode(&mut rest)?
    } else {
        rest = RlpHeader::decode_bytes(&mut rest, false)?;
        // A list inside the string would be the legacy form in disguise.
        if rest
            .first()
            .is_none_or(|&kind| kind >= alloy_rlp::EMPTY_STRING_CODE)
        {
            return Err(alloy_rlp::Error::Custom("no transaction type"));
        }
        T::decode_2718(&mut rest).map_err(alloy_rlp::Error::from)?
    };
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(alloy_rlp::Error::UnexpectedLength)
    }
}

#[cfg(test)]
mod tests;
