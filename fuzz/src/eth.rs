//! The messages of eth/68 and eth/69, and the files of a chain.

use std::fs;

use alloy_eips::BlockHashOrNumber;
use bytes::Bytes;
use tempfile::TempDir;
use tercet_eth_peer::wire::{
    BlockRange, EthVersion, GetBlockHeaders, HashRequest, MessageId, RawReply, Status,
    decode_announcements, decode_body, decode_headers, decode_pooled_transactions, decode_receipts,
    decode_transactions, encode_announcements, encode_receipts, encode_transactions, request_id,
};
use tercet_eth_peer::{ChainBackend, ChainFolder};

/// Items taken from one message, and hashes kept, in these targets.
const MANY: usize = 64;

/// Status in both versions.
pub fn eth_status(data: &[u8]) -> bool {
    EthVersion::ALL
        .map(|version| status(version, data))
        .contains(&true)
}

fn status(version: EthVersion, data: &[u8]) -> bool {
    let Ok(status) = Status::decode(version, data) else {
        return false;
    };
    assert_eq!(status.encode(), data, "one encoding for one Status");
    let _ = (status.range(), status.head_hash(), status.fork_id());
    true
}

/// Any message: the version, the message id, the body.
pub fn eth_message(data: &[u8]) -> bool {
    let Some((&[choice, id], body)) = data.split_first_chunk() else {
        return false;
    };
    let version = EthVersion::ALL[usize::from(choice) % EthVersion::ALL.len()];
    let Some(message) = MessageId::from_id(version, u64::from(id)) else {
        return false;
    };
    assert_eq!(message.id(), u64::from(id));
    match message {
        MessageId::Status => status(version, body),
        MessageId::Transactions => transactions(body),
        MessageId::GetBlockHeaders => GetBlockHeaders::decode(body)
            .inspect(|request| assert_eq!(request.encode(), body))
            .is_ok(),
        MessageId::GetBlockBodies | MessageId::GetReceipts | MessageId::GetPooledTransactions => {
            HashRequest::decode(body, MANY)
                .inspect(|request| {
                    assert!(request.hashes.len() <= MANY);
                    assert_eq!(request_id(body), Ok(request.request_id));
                })
                .is_ok()
        }
        MessageId::BlockHeaders | MessageId::BlockBodies | MessageId::Receipts => {
            reply(version, message, body)
        }
        MessageId::NewPooledTransactionHashes => announcements(body),
        MessageId::PooledTransactions => decode_pooled_transactions(body, MANY).is_ok(),
        MessageId::BlockRangeUpdate => BlockRange::decode_update(body)
            .inspect(|range| {
                assert_eq!(range.encode_update(), body);
                assert!(!range.is_valid() || range.contains(range.latest));
            })
            .is_ok(),
    }
}

fn transactions(body: &[u8]) -> bool {
    let Ok(transactions) = decode_transactions(body) else {
        return false;
    };
    let items = transactions.iter().map(|transaction| transaction.item());
    assert_eq!(encode_transactions(items), body);
    for transaction in &transactions {
        // Recovery may fail; it may not panic.
        let _ = (transaction.recover(), transaction.announcement());
    }
    true
}

fn announcements(body: &[u8]) -> bool {
    let Ok(announced) = decode_announcements(body) else {
        return false;
    };
    if announced.ignored == 0 {
        assert_eq!(encode_announcements(announced.entries.iter()), body);
    }
    true
}

fn reply(version: EthVersion, message: MessageId, body: &[u8]) -> bool {
    let Ok(reply) = RawReply::decode(&Bytes::copy_from_slice(body), MANY) else {
        return false;
    };
    assert!(reply.items.len() <= MANY);
    assert_eq!(RawReply::encode(reply.request_id, &reply.items), body);
    match message {
        MessageId::BlockHeaders => decode_headers(&reply.items).is_ok(),
        MessageId::BlockBodies => reply.items.iter().all(|item| decode_body(item).is_ok()),
        _ => reply.items.iter().all(|item| {
            decode_receipts(version, item, MANY)
                .inspect(|receipts| assert_eq!(encode_receipts(version, receipts), *item))
                .is_ok()
        }),
    }
}

/// A chain folder: four bytes of length, so much of `genesis.json`, then `chain.rlp`.
pub fn chain_folder(data: &[u8]) -> bool {
    thread_local! {
        static FOLDER: TempDir = TempDir::new().unwrap();
    }
    let Some((length, files)) = data.split_first_chunk() else {
        return false;
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap();
    let (genesis, blocks) = files.split_at(length.min(files.len()));
    FOLDER.with(|folder| {
        fs::write(folder.path().join("genesis.json"), genesis).unwrap();
        fs::write(folder.path().join("chain.rlp"), blocks).unwrap();
        match ChainFolder::open(folder.path()) {
            Ok(chain) => {
                let head = chain.head();
                let header = chain.header(BlockHashOrNumber::Number(head.number));
                assert_eq!(header.unwrap().hash_slow(), head.hash);
                true
            }
            Err(error) => {
                // The message names the file and the place, whatever is wrong.
                assert!(!error.to_string().is_empty());
                false
            }
        }
    })
}
