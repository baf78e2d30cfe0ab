//! Requests for headers, bodies and receipts, the envelope of every reply, and
//! the items of header and body replies. Bodies are taken apart lazily: a reply
//! is first split into its items, and each item decoded by whoever knows which
//! block it should be, because decoded transactions take many times the memory
//! of hostile encoded ones.

use super::{DecodeError, finished, next_item, whole_list};
use crate::limits::MIN_TRANSACTION_SIZE;
use alloy_consensus::{EthereumTxEnvelope, Header, TxEip4844};
use alloy_eips::BlockHashOrNumber;
use alloy_primitives::B256;
use alloy_rlp::{Decodable, Encodable, Header as RlpHeader};
use bytes::Bytes;

/// A transaction as it stands in a block: blob transactions without sidecar.
pub type BlockTransaction = EthereumTxEnvelope<TxEip4844>;

/// A block body.
pub type BlockBody = alloy_consensus::BlockBody<BlockTransaction>;

/// A whole block.
pub type Block = alloy_consensus::Block<BlockTransaction>;

/// RLP of a 32-byte string begins with this.
const HASH_PREFIX: u8 = 0x80 + 32;

/// Encoded length of a hash.
const HASH_LENGTH: usize = 33;

/// GetBlockHeaders: `limit` headers from `start`, each `skip` blocks further
/// than the last, upwards or (`reverse`) downwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetBlockHeaders {
    /// Echoed in the reply.
    pub request_id: u64,
    /// First header wanted.
    pub start: BlockHashOrNumber,
    /// Number of headers wanted.
    pub limit: u64,
    /// Blocks left out between two headers.
    pub skip: u64,
    /// Whether numbers fall.
    pub reverse: bool,
}

impl GetBlockHeaders {
    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        let mut query = Vec::with_capacity(64);
        match self.start {
            BlockHashOrNumber::Hash(hash) => hash.encode(&mut query),
            BlockHashOrNumber::Number(number) => number.encode(&mut query),
        }
        self.limit.encode(&mut query);
        self.skip.encode(&mut query);
        u8::from(self.reverse).encode(&mut query);
        let mut items = Vec::with_capacity(query.len() + 3);
        RlpHeader {
            list: true,
            payload_length: query.len(),
        }
        .encode(&mut items);
        items.extend_from_slice(&query);
        with_request_id(self.request_id, &items)
    }

    /// Reads the message.
    ///
    /// # Errors
    /// When the bytes are not exactly one such message.
    pub fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = whole_list(message)?;
        let request_id = u64::decode(&mut fields)?;
        let mut query = RlpHeader::decode_bytes(&mut fields, true)?;
        finished(fields)?;
        let start = if query.first() == Some(&HASH_PREFIX) {
            BlockHashOrNumber::Hash(B256::decode(&mut query)?)
        } else {
            BlockHashOrNumber::Number(u64::decode(&mut query)?)
        };
        let request = GetBlockHeaders {
            request_id,
            start,
            limit: u64::decode(&mut query)?,
            skip: u64::decode(&mut query)?,
            reverse: bool::decode(&mut query)?,
        };
        finished(query)?;
        Ok(request)
    }
}

/// GetBlockBodies, GetReceipts and GetPooledTransactions: a request id and
/// hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashRequest {
    /// Echoed in the reply.
    pub request_id: u64,
    /// What is wanted.
    pub hashes: Vec<B256>,
}

impl HashRequest {
    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        let mut items = Vec::with_capacity(self.hashes.len() * HASH_LENGTH + 4);
        alloy_rlp::encode_list::<B256, B256>(&self.hashes, &mut items);
        with_request_id(self.request_id, &items)
    }

    /// Reads the message. The form of every hash is checked, and the first
    /// `keep` are kept: a server looks up no more of them.
    ///
    /// # Errors
    /// When the bytes are not exactly one such message.
    pub fn decode(message: &[u8], keep: usize) -> Result<Self, DecodeError> {
        let mut fields = whole_list(message)?;
        let request_id = u64::decode(&mut fields)?;
        let list = RlpHeader::decode_bytes(&mut fields, true)?;
        finished(fields)?;
        Ok(HashRequest {
            request_id,
            hashes: decode_hashes(list, keep)?.0,
        })
    }
}

/// The first `keep` hashes of a list's payload, and how many there are.
pub(super) fn decode_hashes(list: &[u8], keep: usize) -> Result<(Vec<B256>, usize), DecodeError> {
    let chunks = list.chunks_exact(HASH_LENGTH);
    if !chunks.remainder().is_empty() {
        return Err(DecodeError::Rlp(alloy_rlp::Error::UnexpectedLength));
    }
    let count = chunks.len();
    let mut hashes = Vec::with_capacity(count.min(keep));
    for mut chunk in chunks {
        let hash = B256::decode(&mut chunk)?;
        if hashes.len() < keep {
            hashes.push(hash);
        }
    }
    Ok((hashes, count))
}

/// `[request_id, items]`, where `items` is an encoded list.
pub(super) fn with_request_id(request_id: u64, items: &[u8]) -> Vec<u8> {
    let payload_length = request_id.length() + items.len();
    let mut out = Vec::with_capacity(payload_length + 5);
    RlpHeader {
        list: true,
        payload_length,
    }
    .encode(&mut out);
    request_id.encode(&mut out);
    out.extend_from_slice(items);
    out
}

/// The request id that begins every request and reply.
///
/// # Errors
/// When the message is not a list that begins with a 64-bit number.
pub fn request_id(message: &[u8]) -> Result<u64, DecodeError> {
    let mut fields = whole_list(message)?;
    Ok(u64::decode(&mut fields)?)
}

/// A reply split into its items, none of them decoded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawReply {
    /// The id of the request answered.
    pub request_id: u64,
    /// The RLP of each item, as it came; slices of the one message.
    pub items: Vec<Bytes>,
}

impl RawReply {
    /// Splits a reply.
    ///
    /// # Errors
    /// When the bytes are not `[request-id, [item, …]]`, or hold more than
    /// `max` items.
    pub fn decode(message: &Bytes, max: usize) -> Result<Self, DecodeError> {
        let mut fields = whole_list(message)?;
        let request_id = u64::decode(&mut fields)?;
        let mut list = RlpHeader::decode_bytes(&mut fields, true)?;
        finished(fields)?;
        let mut items = Vec::new();
        while !list.is_empty() {
            if items.len() == max {
                return Err(DecodeError::TooMany { max });
            }
            items.push(message.slice_ref(next_item(&mut list)?));
        }
        Ok(RawReply { request_id, items })
    }

    /// A reply with these items, each already RLP.
    pub fn encode<I: AsRef<[u8]>>(request_id: u64, items: &[I]) -> Vec<u8> {
        let payload_length: usize = items.iter().map(|item| item.as_ref().len()).sum();
        let mut list = Vec::with_capacity(payload_length + 5);
        RlpHeader {
            list: true,
            payload_length,
        }
        .encode(&mut list);
        for item in items {
            list.extend_from_slice(item.as_ref());
        }
        with_request_id(request_id, &list)
    }
}

/// Decodes the items of a BlockHeaders reply.
///
/// # Errors
/// When an item is not exactly one header.
pub fn decode_headers<I: AsRef<[u8]>>(items: &[I]) -> Result<Vec<Header>, DecodeError> {
    items.iter().map(|item| exactly(item.as_ref())).collect()
}

/// Decodes one item of a BlockBodies reply: two lists, or three from Shanghai.
///
/// # Errors
/// When the item is not exactly one body, or counts more transactions than fit
/// in its bytes if each is as small as a transaction can be.
pub fn decode_body(item: &[u8]) -> Result<BlockBody, DecodeError> {
    check_transaction_count(whole_list(item)?)?;
    exactly(item)
}

/// Refuses a list of transactions too small to be any: decoding one takes some
/// 400 bytes of memory, so a message of tiny ones would take 40 times its size.
fn check_transaction_count(mut fields: &[u8]) -> Result<(), DecodeError> {
    let mut list = RlpHeader::decode_bytes(&mut fields, true)?;
    let max = list.len() / MIN_TRANSACTION_SIZE;
    let mut count = 0;
    while !list.is_empty() {
        next_item(&mut list)?;
        count += 1;
        if count > max {
            return Err(DecodeError::TooMany { max });
        }
    }
    Ok(())
}

fn exactly<T: Decodable>(item: &[u8]) -> Result<T, DecodeError> {
    let mut rest = item;
    let value = T::decode(&mut rest)?;
    finished(rest)?;
    Ok(value)
}
