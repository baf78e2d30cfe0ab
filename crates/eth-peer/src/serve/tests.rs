//! What is served, and what hostile requests get.

use super::*;
use crate::chain::{DevChain, DevChainConfig, MemoryChain, UnknownState};
use crate::fork_id::ForkSchedule;
use crate::limits::SOFT_RESPONSE_SIZE;
use crate::pool::{MemoryPool, PoolConfig, PoolError};
use crate::wire::{Announcement, WireTransaction, decode_body, decode_headers, decode_receipts};
use alloy_consensus::{Header, ReceiptEnvelope};
use alloy_primitives::{Sealed, U256};
use std::sync::Arc;

fn dev() -> DevChain {
    DevChain::build(&DevChainConfig {
        blocks: 20,
        transfers: 2,
        ..DevChainConfig::default()
    })
    .unwrap()
}

fn pool() -> MemoryPool {
    MemoryPool::new(PoolConfig::new(1337), Arc::new(UnknownState))
}

fn items(chain: &dyn ChainBackend, version: EthVersion, query: Query) -> Vec<Bytes> {
    let (_, reply) = query.answer(version, chain, &pool());
    let reply = RawReply::decode(&reply.into(), 2000).unwrap();
    assert_eq!(reply.request_id, 7);
    reply.items
}

fn numbers(
    chain: &dyn ChainBackend,
    start: impl Into<BlockHashOrNumber>,
    limit: u64,
    skip: u64,
    reverse: bool,
) -> Vec<u64> {
    let start = start.into();
    let request = GetBlockHeaders {
        request_id: 7,
        start,
        limit,
        skip,
        reverse,
    };
    let items = items(chain, EthVersion::Eth69, Query::Headers(request));
    decode_headers(&items)
        .unwrap()
        .iter()
        .map(|header| header.number)
        .collect()
}

#[test]
fn headers_in_every_shape() {
    let dev = dev();
    let chain = dev.chain();
    let hash = |number| chain.canonical_hash(number).unwrap();
    assert_eq!(numbers(chain, 5, 3, 0, false), [5, 6, 7]);
    assert_eq!(numbers(chain, 5, 3, 0, true), [5, 4, 3]);
    assert_eq!(numbers(chain, 5, 3, 4, false), [5, 10, 15]);
    assert_eq!(numbers(chain, 12, 9, 4, true), [12, 7, 2]);
    assert_eq!(numbers(chain, hash(5), 3, 0, false), [5, 6, 7]);
    assert_eq!(numbers(chain, hash(5), 3, 1, true), [5, 3, 1]);
    assert_eq!(numbers(chain, 19, 10, 0, false), [19, 20]);
    assert_eq!(numbers(chain, 1, 10, 0, true), [1, 0]);
    assert!(numbers(chain, 5, 0, 0, false).is_empty());
    assert!(numbers(chain, 21, 5, 0, false).is_empty());
    assert!(numbers(chain, B256::repeat_byte(1), 5, 0, false).is_empty());
}

#[test]
fn numbers_at_the_end_of_the_range_do_not_overflow() {
    let dev = dev();
    let chain = dev.chain();
    let max = u64::MAX;
    assert_eq!(numbers(chain, 5, max, max, false), [5]);
    assert_eq!(numbers(chain, 5, max, max, true), [5]);
    assert_eq!(numbers(chain, 5, max, max - 1, false), [5]);
    assert_eq!(numbers(chain, 5, max, max - 5, false), [5]);
    assert!(numbers(chain, max, max, 0, true).is_empty());
    assert_eq!(numbers(chain, 0, max, 0, false).len(), 21);
}

#[test]
fn bodies_leave_out_what_is_missing() {
    let dev = dev();
    let chain = dev.chain();
    let hash = |number| chain.canonical_hash(number).unwrap();
    let hashes = vec![hash(1), B256::repeat_byte(1), hash(2)];
    let query = Query::Bodies(HashRequest {
        request_id: 7,
        hashes,
    });
    let items = items(chain, EthVersion::Eth69, query);
    assert_eq!(items.len(), 2);
    assert!(
        items
            .iter()
            .all(|item| decode_body(item).unwrap().transactions.len() == 2)
    );
}

#[test]
fn receipts_stop_at_what_is_missing_but_not_in_eth_68() {
    let dev = dev();
    let chain = dev.chain();
    let hash = |number| chain.canonical_hash(number).unwrap();
    let hashes = vec![hash(1), hash(0), B256::repeat_byte(1), hash(2)];
    for (version, expected) in [(EthVersion::Eth69, 2), (EthVersion::Eth68, 3)] {
        let query = Query::Receipts(HashRequest {
            request_id: 7,
            hashes: hashes.clone(),
        });
        let items = items(chain, version, query);
        assert_eq!(items.len(), expected);
        assert_eq!(decode_receipts(version, &items[0], 2).unwrap().len(), 2);
        assert_eq!(decode_receipts(version, &items[1], 2).unwrap().len(), 0);
    }
}

/// A chain where every hash is a block, each made to measure.
struct Endless {
    inner: MemoryChain,
    body: Bytes,
    header: Header,
}

impl ChainBackend for Endless {
    fn genesis_hash(&self) -> B256 {
        self.inner.genesis_hash()
    }
    fn chain_id(&self) -> u64 {
        1
    }
    fn total_difficulty(&self) -> U256 {
        U256::ZERO
    }
    fn forks(&self) -> &ForkSchedule {
        self.inner.forks()
    }
    fn head(&self) -> crate::backend::Head {
        self.inner.head()
    }
    fn earliest(&self) -> u64 {
        0
    }
    fn canonical_hash(&self, _: u64) -> Option<B256> {
        None
    }
    fn header(&self, id: BlockHashOrNumber) -> Option<Sealed<Header>> {
        let hash = id.as_hash()?;
        let header = Header {
            parent_hash: hash,
            number: 1 << 40,
            ..self.header.clone()
        };
        Some(Sealed::new_unchecked(header, hash))
    }
    fn header_rlp(&self, _: B256) -> Option<Bytes> {
        Some(alloy_rlp::encode(&self.header).into())
    }
    fn body_rlp(&self, _: B256) -> Option<Bytes> {
        Some(self.body.clone())
    }
    fn receipts(&self, _: B256) -> Option<Vec<ReceiptEnvelope>> {
        Some(Vec::new())
    }
}

fn endless(body: usize) -> Endless {
    let inner = dev().into_parts().0;
    let body = alloy_rlp::encode(vec![0u8; body].as_slice()).into();
    Endless {
        inner,
        body,
        header: Header::default(),
    }
}

#[test]
fn no_more_items_than_the_limits() {
    let chain = endless(10);
    let many = vec![B256::ZERO; 5000];
    let request = HashRequest {
        request_id: 7,
        hashes: many,
    };
    let bodies = items(&chain, EthVersion::Eth69, Query::Bodies(request.clone()));
    assert_eq!(bodies.len(), MAX_BODIES_SERVED);
    let receipts = items(&chain, EthVersion::Eth69, Query::Receipts(request));
    assert_eq!(receipts.len(), MAX_RECEIPTS_SERVED);
    let hash = B256::repeat_byte(1);
    // Off the canonical chain there is no way up.
    assert_eq!(numbers(&chain, hash, 5000, 0, false).len(), 1);
    assert_eq!(
        numbers(&chain, hash, 5000, 0, true).len(),
        MAX_HEADERS_SERVED
    );
    // All walks down together look at 2048 headers: here 20 of 100.
    assert_eq!(numbers(&chain, hash, 5000, 99, true).len(), 21);
}

#[test]
fn a_reply_ends_after_the_item_that_passes_2_mib() {
    let chain = endless(700_000);
    let query = Query::Bodies(HashRequest {
        request_id: 7,
        hashes: vec![B256::ZERO; 100],
    });
    let items = items(&chain, EthVersion::Eth69, query);
    assert_eq!(items.len(), 3);
    let bytes: usize = items.iter().map(Bytes::len).sum();
    assert!(bytes > SOFT_RESPONSE_SIZE && bytes - items[0].len() < SOFT_RESPONSE_SIZE);
}

#[test]
fn no_reply_passes_10_mib() {
    let chain = endless(MAX_MESSAGE_SIZE);
    let query = Query::Bodies(HashRequest {
        request_id: 7,
        hashes: vec![B256::ZERO; 3],
    });
    assert_eq!(items(&chain, EthVersion::Eth69, query).len(), 0);
    let chain = endless(MAX_MESSAGE_SIZE - 100);
    let query = Query::Bodies(HashRequest {
        request_id: 7,
        hashes: vec![B256::ZERO; 3],
    });
    let (_, reply) = query.answer(EthVersion::Eth69, &chain, &pool());
    assert!(reply.len() <= MAX_MESSAGE_SIZE);
    assert!(reply.len() > MAX_MESSAGE_SIZE - 100);
}

/// A pool that has everything, and counts how often it is asked.
struct Everything(WireTransaction, std::sync::atomic::AtomicUsize);

impl TxPool for Everything {
    fn contains(&self, _: &B256) -> bool {
        true
    }
    fn get(&self, _: &B256) -> Option<Arc<PooledTransaction>> {
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        PooledTransaction::new(self.0.clone()).ok().map(Arc::new)
    }
    fn add(&self, _: WireTransaction) -> Result<Arc<PooledTransaction>, PoolError> {
        Err(PoolError::Full)
    }
    fn announcements(&self) -> Vec<Announcement> {
        Vec::new()
    }
}

#[test]
fn pooled_transactions_are_looked_up_256_times_at_most() {
    let dev = dev();
    let mut account = dev.accounts()[0].clone();
    let tx = account.transfer(crate::chain::DevTransfer {
        chain_id: 1337,
        to: account.address(),
        value: U256::ONE,
        kind: crate::chain::TransferKind::Legacy,
    });
    let pool = Everything(tx, Default::default());
    let hashes = vec![B256::ZERO; 10_000];
    let payload = HashRequest {
        request_id: 7,
        hashes,
    }
    .encode();
    let query = Query::decode(MessageId::GetPooledTransactions, &payload)
        .unwrap()
        .unwrap();
    let (message, reply) = query.answer(EthVersion::Eth69, dev.chain(), &pool);
    assert_eq!(message, MessageId::PooledTransactions);
    let (_, transactions) = crate::wire::decode_pooled_transactions(&reply, 256).unwrap();
    assert_eq!(transactions.len(), MAX_POOLED_HASHES);
    assert_eq!(pool.1.into_inner(), MAX_POOLED_HASHES);
}
