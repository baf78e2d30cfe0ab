//! Transactions, their announcements, and the form in which they are kept and
//! passed on. A received transaction is encoded anew, so that the pool never
//! holds on to the large message that brought it.

use super::blocks::{decode_hashes, with_request_id};
use super::{DecodeError, decode_enveloped, finished, next_item, whole_list};
use crate::limits::{MAX_ANNOUNCEMENTS, MAX_POOLED_HASHES, MAX_TRANSACTIONS};
use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{EthereumTxEnvelope, TxEip4844WithSidecar, Typed2718};
use alloy_eips::eip2718::Encodable2718;
use alloy_eips::eip7594::BlobTransactionSidecarVariant;
use alloy_primitives::{Address, B256};
use alloy_rlp::{Decodable, Encodable, Header as RlpHeader};
use bytes::Bytes;

/// A transaction as it travels between pools: blob transactions with their
/// sidecar, in either version (EIP-4844, EIP-7594).
pub type PooledEnvelope = EthereumTxEnvelope<TxEip4844WithSidecar<BlobTransactionSidecarVariant>>;

/// A well-formed transaction with what gossip needs of it computed once. Its
/// signature has not been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireTransaction {
    envelope: PooledEnvelope,
    announcement: Announcement,
    item: Bytes,
}

impl WireTransaction {
    /// Wraps a transaction.
    pub fn new(envelope: PooledEnvelope) -> Self {
        let mut item = Vec::with_capacity(envelope.length());
        envelope.encode(&mut item);
        let announcement = Announcement {
            hash: *envelope.tx_hash(),
            kind: envelope.ty(),
            size: u32::try_from(envelope.encode_2718_len()).unwrap_or(u32::MAX),
        };
        WireTransaction {
            envelope,
            announcement,
            item: item.into(),
        }
    }

    /// The transaction.
    pub fn envelope(&self) -> &PooledEnvelope {
        &self.envelope
    }

    /// Its hash.
    pub fn hash(&self) -> B256 {
        self.announcement.hash
    }

    /// Hash, type and size as they are announced.
    pub fn announcement(&self) -> Announcement {
        self.announcement
    }

    /// Size in bytes of the consensus encoding; of a blob transaction with its
    /// sidecar.
    pub fn size(&self) -> usize {
        self.announcement.size as usize
    }

    /// Whether it carries blobs.
    pub fn is_blob(&self) -> bool {
        self.announcement.is_blob()
    }

    /// The RLP item that stands for it in lists of transactions.
    pub fn item(&self) -> &Bytes {
        &self.item
    }

    /// The account that signed it. This is the costly check (some 40 µs).
    ///
    /// # Errors
    /// When the signature is invalid or its `s` in the upper half.
    pub fn recover(&self) -> Result<Address, alloy_consensus::crypto::RecoveryError> {
        self.envelope.recover_signer()
    }

    fn decode(list: &mut &[u8]) -> Result<Self, DecodeError> {
        decode_enveloped(next_item(list)?)
            .map(Self::new)
            .map_err(DecodeError::Transaction)
    }
}

impl From<PooledEnvelope> for WireTransaction {
    fn from(envelope: PooledEnvelope) -> Self {
        Self::new(envelope)
    }
}

/// What an announcement says of one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Announcement {
    /// Hash of the transaction.
    pub hash: B256,
    /// Its type byte; 0 for legacy.
    pub kind: u8,
    /// Its size in bytes, see [`WireTransaction::size`].
    pub size: u32,
}

impl Announcement {
    /// Whether it is a blob transaction (type 3).
    pub fn is_blob(&self) -> bool {
        self.kind == alloy_eips::eip2718::EIP4844_TX_TYPE_ID
    }
}

/// A received announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcements {
    /// The first 4096 entries.
    pub entries: Vec<Announcement>,
    /// How many more the message had.
    pub ignored: usize,
}

/// NewPooledTransactionHashes.
pub fn encode_announcements<'a>(
    entries: impl Iterator<Item = &'a Announcement> + Clone,
) -> Vec<u8> {
    let count = entries.clone().count();
    let kinds: Vec<u8> = entries.clone().map(|entry| entry.kind).collect();
    let sizes: Vec<u32> = entries.clone().map(|entry| entry.size).collect();
    let hashes: Vec<B256> = entries.map(|entry| entry.hash).collect();
    let mut payload = Vec::with_capacity(count * 40 + 16);
    kinds.as_slice().encode(&mut payload);
    sizes.encode(&mut payload);
    hashes.encode(&mut payload);
    let mut out = Vec::with_capacity(payload.len() + 5);
    RlpHeader {
        list: true,
        payload_length: payload.len(),
    }
    .encode(&mut out);
    out.extend_from_slice(&payload);
    out
}

/// Reads NewPooledTransactionHashes of eth/68 and later.
///
/// # Errors
/// When the bytes are not exactly one such message, or its lists differ in
/// length.
pub fn decode_announcements(message: &[u8]) -> Result<Announcements, DecodeError> {
    let mut fields = whole_list(message)?;
    let kinds = RlpHeader::decode_bytes(&mut fields, false)?;
    let mut sizes = RlpHeader::decode_bytes(&mut fields, true)?;
    let list = RlpHeader::decode_bytes(&mut fields, true)?;
    finished(fields)?;
    let (hashes, count) = decode_hashes(list, MAX_ANNOUNCEMENTS)?;
    let mut entries = Vec::with_capacity(hashes.len());
    let mut counted = 0;
    while !sizes.is_empty() && counted <= count {
        let size = u32::decode(&mut sizes)?;
        if let (Some(&hash), Some(&kind)) = (hashes.get(counted), kinds.get(counted)) {
            entries.push(Announcement { hash, kind, size });
        }
        counted += 1;
    }
    if kinds.len() != count || counted != count {
        return Err(DecodeError::UnequalLists {
            types: kinds.len(),
            sizes: counted,
            hashes: count,
        });
    }
    Ok(Announcements {
        ignored: count - entries.len(),
        entries,
    })
}

/// Transactions.
pub fn encode_transactions<'a>(items: impl Iterator<Item = &'a Bytes> + Clone) -> Vec<u8> {
    let payload_length: usize = items.clone().map(Bytes::len).sum();
    let mut out = Vec::with_capacity(payload_length + 5);
    RlpHeader {
        list: true,
        payload_length,
    }
    .encode(&mut out);
    for item in items {
        out.extend_from_slice(item);
    }
    out
}

/// Reads Transactions.
///
/// # Errors
/// When the bytes are not exactly one such message, an item is no transaction,
/// or there are more than 5000.
pub fn decode_transactions(message: &[u8]) -> Result<Vec<WireTransaction>, DecodeError> {
    decode_list(whole_list(message)?, MAX_TRANSACTIONS)
}

/// PooledTransactions.
pub fn encode_pooled_transactions<'a>(
    request_id: u64,
    items: impl Iterator<Item = &'a Bytes> + Clone,
) -> Vec<u8> {
    with_request_id(request_id, &encode_transactions(items))
}

/// Reads PooledTransactions: the request id and the transactions.
///
/// # Errors
/// When the bytes are not exactly one such message, an item is no transaction,
/// or there are more than `max` (at most 256).
pub fn decode_pooled_transactions(
    message: &[u8],
    max: usize,
) -> Result<(u64, Vec<WireTransaction>), DecodeError> {
    let mut fields = whole_list(message)?;
    let request_id = u64::decode(&mut fields)?;
    let list = RlpHeader::decode_bytes(&mut fields, true)?;
    finished(fields)?;
    Ok((request_id, decode_list(list, max.min(MAX_POOLED_HASHES))?))
}

fn decode_list(mut list: &[u8], max: usize) -> Result<Vec<WireTransaction>, DecodeError> {
    let mut transactions = Vec::new();
    while !list.is_empty() {
        if transactions.len() == max {
            return Err(DecodeError::TooMany { max });
        }
        transactions.push(WireTransaction::decode(&mut list)?);
    }
    Ok(transactions)
}
