//! Answers to the requests of peers, from the chain and the pool, within the
//! limits of the eth spec. A reply is as long as the limits let it be; an empty
//! one is the answer when nothing is there. Nothing a request says makes this
//! work longer than its limits allow.

use crate::backend::ChainBackend;
use crate::limits::{
    MAX_BLOCK_LOOKUPS, MAX_BODIES_SERVED, MAX_HEADERS_SERVED, MAX_MESSAGE_SIZE, MAX_POOLED_HASHES,
    MAX_RECEIPTS_SERVED, SOFT_RESPONSE_SIZE,
};
use crate::pool::{PooledTransaction, TxPool};
use crate::wire::{
    DecodeError, EthVersion, GetBlockHeaders, HashRequest, MessageId, RawReply,
    encode_pooled_transactions, encode_receipts,
};
use alloy_eips::BlockHashOrNumber;
use alloy_primitives::B256;
use bytes::Bytes;

/// Room left under the hard cap for what stands around the items of a reply.
const ENVELOPE: usize = 32;

/// A request to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Query {
    /// GetBlockHeaders.
    Headers(GetBlockHeaders),
    /// GetBlockBodies.
    Bodies(HashRequest),
    /// GetReceipts.
    Receipts(HashRequest),
    /// GetPooledTransactions.
    PooledTransactions(HashRequest),
}

impl Query {
    /// Reads a request; `None` if the message is none.
    ///
    /// # Errors
    /// When the bytes are not the request they should be.
    pub fn decode(message: MessageId, payload: &[u8]) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match message {
            MessageId::GetBlockHeaders => Query::Headers(GetBlockHeaders::decode(payload)?),
            MessageId::GetBlockBodies => {
                Query::Bodies(HashRequest::decode(payload, MAX_BLOCK_LOOKUPS)?)
            }
            MessageId::GetReceipts => {
                Query::Receipts(HashRequest::decode(payload, MAX_BLOCK_LOOKUPS)?)
            }
            MessageId::GetPooledTransactions => {
                Query::PooledTransactions(HashRequest::decode(payload, MAX_POOLED_HASHES)?)
            }
            _ => return Ok(None),
        }))
    }

    /// The reply: its message and payload.
    pub fn answer(
        &self,
        version: EthVersion,
        chain: &dyn ChainBackend,
        pool: &dyn TxPool,
    ) -> (MessageId, Vec<u8>) {
        match self {
            Query::Headers(request) => {
                let items = headers(chain, request);
                (
                    MessageId::BlockHeaders,
                    RawReply::encode(request.request_id, &items),
                )
            }
            Query::Bodies(request) => {
                let items = bodies(chain, &request.hashes);
                (
                    MessageId::BlockBodies,
                    RawReply::encode(request.request_id, &items),
                )
            }
            Query::Receipts(request) => {
                let items = receipts(version, chain, &request.hashes);
                (
                    MessageId::Receipts,
                    RawReply::encode(request.request_id, &items),
                )
            }
            Query::PooledTransactions(request) => {
                let items = pooled_transactions(pool, &request.hashes);
                let reply = encode_pooled_transactions(request.request_id, items.iter());
                (MessageId::PooledTransactions, reply)
            }
        }
    }
}

/// The items of a reply as it grows.
struct Reply<T> {
    items: Vec<T>,
    bytes: usize,
    max: usize,
}

impl<T: AsRef<[u8]>> Reply<T> {
    fn new(max: usize) -> Self {
        Reply {
            items: Vec::new(),
            bytes: 0,
            max,
        }
    }

    fn is_full(&self) -> bool {
        self.items.len() >= self.max || self.bytes >= SOFT_RESPONSE_SIZE
    }

    /// Adds an item; false if the message would pass the hard cap with it.
    fn push(&mut self, item: T) -> bool {
        let bytes = self.bytes + item.as_ref().len();
        if bytes + ENVELOPE > MAX_MESSAGE_SIZE {
            return false;
        }
        self.bytes = bytes;
        self.items.push(item);
        true
    }
}

fn headers(chain: &dyn ChainBackend, request: &GetBlockHeaders) -> Vec<Bytes> {
    let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
    let mut reply = Reply::new(limit.min(MAX_HEADERS_SERVED));
    let mut next = match request.start {
        BlockHashOrNumber::Hash(hash) => Some(hash),
        BlockHashOrNumber::Number(number) => chain.canonical_hash(number),
    };
    let mut lookups = 0;
    while let Some(hash) = next.filter(|_| !reply.is_full()) {
        let Some(rlp) = chain.header_rlp(hash) else {
            break;
        };
        if !reply.push(rlp) {
            break;
        }
        next = following(chain, request, hash, &mut lookups);
    }
    reply.items
}

/// The header after `hash` that the request asks for. Off the canonical chain
/// there is a way down but none up.
fn following(
    chain: &dyn ChainBackend,
    request: &GetBlockHeaders,
    hash: B256,
    lookups: &mut usize,
) -> Option<B256> {
    let step = request.skip.checked_add(1)?;
    let number = chain.header(hash.into())?.number;
    let canonical = chain.canonical_hash(number) == Some(hash);
    if request.reverse {
        let target = number.checked_sub(step)?;
        if canonical {
            return chain.canonical_hash(target);
        }
        ancestor(chain, hash, step, lookups)
    } else if canonical {
        chain.canonical_hash(number.checked_add(step)?)
    } else {
        None
    }
}

/// Walks `steps` parents down from a header off the canonical chain. All walks
/// of one request together look at 2048 headers at most.
fn ancestor(
    chain: &dyn ChainBackend,
    mut hash: B256,
    steps: u64,
    lookups: &mut usize,
) -> Option<B256> {
    for _ in 0..steps {
        *lookups += 1;
        if *lookups > MAX_BLOCK_LOOKUPS {
            return None;
        }
        hash = chain.header(hash.into())?.parent_hash;
    }
    Some(hash)
}

/// Bodies of the blocks there are, in the order asked for; the requester tells
/// by the roots which are missing.
fn bodies(chain: &dyn ChainBackend, hashes: &[B256]) -> Vec<Bytes> {
    let mut reply = Reply::new(MAX_BODIES_SERVED);
    for hash in hashes.iter().take(MAX_BLOCK_LOOKUPS) {
        if reply.is_full() {
            break;
        }
        if let Some(body) = chain.body_rlp(*hash)
            && !reply.push(body)
        {
            break;
        }
    }
    reply.items
}

/// Receipts by block. The list ends at the first block whose receipts are not
/// there; up to eth/68 such blocks are left out instead.
fn receipts(version: EthVersion, chain: &dyn ChainBackend, hashes: &[B256]) -> Vec<Vec<u8>> {
    let mut reply = Reply::new(MAX_RECEIPTS_SERVED);
    for hash in hashes.iter().take(MAX_BLOCK_LOOKUPS) {
        if reply.is_full() {
            break;
        }
        match (chain.receipts(*hash), version) {
            (Some(receipts), _) => {
                if !reply.push(encode_receipts(version, &receipts)) {
                    break;
                }
            }
            (None, EthVersion::Eth68) => {}
            (None, EthVersion::Eth69) => break,
        }
    }
    reply.items
}

fn pooled_transactions(pool: &dyn TxPool, hashes: &[B256]) -> Vec<Bytes> {
    let mut reply = Reply::new(MAX_POOLED_HASHES);
    for hash in hashes.iter().take(MAX_POOLED_HASHES) {
        if reply.is_full() {
            break;
        }
        let tx = pool.get(hash);
        if let Some(item) = tx.as_deref().map(PooledTransaction::item)
            && !reply.push(item.clone())
        {
            break;
        }
    }
    reply.items
}

#[cfg(test)]
mod tests;
