//! Every vector of eth/68 and eth/69 messages, and hostile forms of each.

use super::*;
use alloy_consensus::{Header, ReceiptEnvelope, proofs::calculate_receipt_root};
use alloy_eip2124::{ForkHash, ForkId};
use alloy_eips::BlockHashOrNumber;
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{B256, U256};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/vectors/eth.json")).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    alloy_primitives::hex::decode(value.as_str().unwrap()).unwrap()
}

fn b256(value: &Value) -> B256 {
    B256::from_slice(&hex(value))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn hashes(values: &Value) -> Vec<B256> {
    values.as_array().unwrap().iter().map(b256).collect()
}

/// The vector of EIP-2481 with this type.
fn eip2481(kind: &str) -> (Value, Bytes) {
    let all = vectors();
    let case = all["eip2481_eth66"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["type"] == kind);
    let case = case.unwrap_or_else(|| panic!("no vector {kind}")).clone();
    let rlp = hex(&case["rlp"]).into();
    (case["data"].clone(), rlp)
}

#[test]
fn ids_and_lengths() {
    let vectors = vectors();
    for (name, id) in vectors["message_ids"].as_object().unwrap() {
        let Some(message) = MessageId::from_id(EthVersion::Eth69, number(id)) else {
            // What eth/69 does not have: old block gossip, state, later versions.
            assert!(
                name.starts_with("NewBlock")
                    || name.contains("NodeData")
                    || name.contains('+')
                    || name.contains("72"),
                "{name}"
            );
            continue;
        };
        assert_eq!(message.id(), number(id));
        assert_eq!(format!("{message:?}"), name.split('(').next().unwrap());
    }
    for version in EthVersion::ALL {
        assert_eq!(
            number(&vectors["lengths"][version.number().to_string()]),
            version.length()
        );
    }
    assert_eq!(MessageId::from_id(EthVersion::Eth68, 0x11), None);
}

#[test]
fn statuses() {
    let mut count = 0;
    for case in vectors()["status"].as_array().unwrap() {
        let rlp = hex(&case["rlp"]);
        let expected = &case["decoded"];
        let version = number(&expected["version"]);
        // eth/66 and 67 share the layout of 68, and 70 to 72 that of 69.
        let layout = if version <= 68 {
            EthVersion::Eth68
        } else {
            EthVersion::Eth69
        };
        let status = Status::decode(layout, &rlp).unwrap();
        assert_eq!(status.encode(), rlp);
        assert_eq!(u64::from(status.version()), version);
        assert_eq!(status.network_id(), number(&expected["network_id"]));
        assert_eq!(status.genesis(), b256(&expected["genesis"]));
        let fork_id = ForkId {
            hash: ForkHash(hex(&expected["fork_id"][0]).try_into().unwrap()),
            next: number(&expected["fork_id"][1]),
        };
        assert_eq!(status.fork_id(), fork_id);
        match status {
            Status::Eth68(status) => {
                assert_eq!(status.head, b256(&expected["head_hash"]));
                let total: U256 = expected["total_difficulty"]
                    .as_str()
                    .unwrap()
                    .parse()
                    .unwrap();
                assert_eq!(status.total_difficulty, total);
            }
            Status::Eth69(status) => {
                assert_eq!(status.range.earliest, number(&expected["earliest"]));
                assert_eq!(status.range.latest, number(&expected["latest"]));
                assert_eq!(status.range.latest_hash, b256(&expected["latest_hash"]));
            }
        }
        // The other layout does not fit.
        let other = EthVersion::ALL
            .into_iter()
            .find(|other| *other != layout)
            .unwrap();
        assert!(Status::decode(other, &rlp).is_err());
        count += 1;
    }
    assert!(count >= 9, "only {count} statuses");
}

#[test]
fn a_status_of_megabytes_is_refused_unread() {
    let huge = vec![0xc0; crate::limits::MAX_STATUS_SIZE + 1];
    assert_eq!(
        Status::decode(EthVersion::Eth69, &huge),
        Err(DecodeError::TooLarge {
            size: 513,
            max: 512
        })
    );
}

#[test]
fn header_requests() {
    let all = vectors();
    let mut count = 0;
    for case in all["eip2481_eth66"].as_array().unwrap() {
        if case["type"] != "GetBlockHeadersPacket66" {
            continue;
        }
        let rlp = hex(&case["rlp"]);
        let data = &case["data"];
        let request = GetBlockHeaders::decode(&rlp).unwrap();
        assert_eq!(request.encode(), rlp);
        assert_eq!(request.request_id, number(&data["RequestId"]));
        assert_eq!(request.limit, number(&data["Amount"]));
        assert_eq!(request.skip, number(&data["Skip"]));
        assert_eq!(request.reverse, data["Reverse"].as_bool().unwrap());
        match request.start {
            BlockHashOrNumber::Hash(hash) => assert_eq!(hash, b256(&data["Origin"]["Hash"])),
            BlockHashOrNumber::Number(n) => assert_eq!(n, number(&data["Origin"]["Number"])),
        }
        count += 1;
    }
    assert_eq!(count, 2);
}

#[test]
fn hash_requests() {
    for kind in ["GetBlockBodies", "GetReceipts", "GetPooledTransactions"] {
        let (data, rlp) = eip2481(&format!("{kind}Packet66"));
        let request = HashRequest::decode(&rlp, 10).unwrap();
        assert_eq!(request.request_id, number(&data["RequestId"]));
        assert_eq!(request.hashes, hashes(&data[format!("{kind}Packet")]));
        assert_eq!(request.encode(), rlp);
        assert_eq!(HashRequest::decode(&rlp, 1).unwrap().hashes.len(), 1);
    }
}

#[test]
fn header_and_body_replies() {
    let (_, rlp) = eip2481("BlockHeadersPacket66");
    let reply = RawReply::decode(&rlp, 1).unwrap();
    assert_eq!(reply.request_id, 1111);
    let headers = decode_headers(&reply.items).unwrap();
    assert_eq!(headers.len(), 1);
    assert_eq!(headers[0].number, 3333);
    assert_eq!(RawReply::encode(1111, &reply.items), rlp);
    assert_eq!(
        RawReply::decode(&rlp, 0),
        Err(DecodeError::TooMany { max: 0 })
    );

    let (data, rlp) = eip2481("BlockBodiesPacket66");
    let reply = RawReply::decode(&rlp, 1).unwrap();
    let body = decode_body(&reply.items[0]).unwrap();
    let expected = &data["BlockBodiesPacket"][0];
    assert_eq!(
        body.transactions.len(),
        expected["Transactions"].as_array().unwrap().len()
    );
    assert_eq!(body.ommers.len(), 1);
    for (tx, expected) in body
        .transactions
        .iter()
        .zip(expected["Transactions"].as_array().unwrap())
    {
        assert_eq!(
            *tx.tx_hash(),
            expected["hash"].as_str().unwrap().parse::<B256>().unwrap()
        );
    }
    assert_eq!(alloy_rlp::encode(&body), reply.items[0]);
    assert_eq!(RawReply::encode(1111, &reply.items), rlp);
}

#[test]
fn empty_lists() {
    let rlp: Bytes = hex(&vectors()["empty_lists"]["rlp"]).into();
    assert_eq!(RawReply::encode::<Bytes>(1111, &[]), rlp);
    assert_eq!(RawReply::decode(&rlp, 0).unwrap().items.len(), 0);
    let request = HashRequest {
        request_id: 1111,
        hashes: vec![],
    };
    assert_eq!(request.encode(), rlp);
    assert_eq!(HashRequest::decode(&rlp, 10).unwrap(), request);
    assert_eq!(encode_pooled_transactions(1111, [].iter()), rlp);
    assert_eq!(decode_pooled_transactions(&rlp, 1).unwrap(), (1111, vec![]));
}

#[test]
fn announcements() {
    for case in vectors()["announcements_eth68"].as_array().unwrap() {
        let rlp = hex(&case["rlp"]);
        let decoded = decode_announcements(&rlp).unwrap();
        assert_eq!(decoded.ignored, 0);
        let kinds: Vec<u8> = decoded.entries.iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, hex(&case["types"]));
        for (entry, size) in decoded
            .entries
            .iter()
            .zip(case["sizes"].as_array().unwrap())
        {
            assert_eq!(u64::from(entry.size), number(size));
        }
        assert_eq!(
            decoded
                .entries
                .iter()
                .map(|entry| entry.hash)
                .collect::<Vec<_>>(),
            hashes(&case["hashes"])
        );
        assert_eq!(encode_announcements(decoded.entries.iter()), rlp);
    }
}

#[test]
fn unequal_announcement_lists_are_refused() {
    let entry = Announcement {
        hash: B256::repeat_byte(1),
        kind: 2,
        size: 100,
    };
    // [types, sizes, hashes] with one list shorter or longer than the others.
    for (types, sizes, count) in [(1, 1, 2), (1, 2, 1), (2, 1, 1), (0, 1, 1), (1, 0, 1)] {
        let mut payload = Vec::new();
        alloy_rlp::Encodable::encode(&vec![2u8; types].as_slice(), &mut payload);
        alloy_rlp::Encodable::encode(&vec![100u32; sizes], &mut payload);
        alloy_rlp::Encodable::encode(&vec![entry.hash; count], &mut payload);
        let message = list(&payload);
        assert!(
            matches!(
                decode_announcements(&message),
                Err(DecodeError::UnequalLists { .. })
            ),
            "{types} {sizes} {count}"
        );
    }
}

#[test]
fn announcements_past_the_soft_limit_are_counted_not_kept() {
    let max = crate::limits::MAX_ANNOUNCEMENTS;
    let entries: Vec<_> = (0..max as u64 + 5)
        .map(|n| Announcement {
            hash: B256::from(U256::from(n)),
            kind: 2,
            size: 200,
        })
        .collect();
    let decoded = decode_announcements(&encode_announcements(entries.iter())).unwrap();
    assert_eq!(decoded.entries, entries[..max]);
    assert_eq!(decoded.ignored, 5);
}

#[test]
fn range_updates() {
    let vectors = vectors();
    let group = &vectors["block_range_update"];
    let rlp = hex(&group["rlp"]);
    let range = BlockRange::decode_update(&rlp).unwrap();
    assert_eq!(range.earliest, number(&group["decoded"]["earliest"]));
    assert_eq!(range.latest, number(&group["decoded"]["latest"]));
    assert_eq!(range.latest_hash, b256(&group["decoded"]["latest_hash"]));
    assert_eq!(range.encode_update(), rlp);
    assert!(range.is_valid());
    for case in group["invalid"].as_array().unwrap() {
        assert!(
            !BlockRange::decode_update(&hex(&case["rlp"]))
                .unwrap()
                .is_valid(),
            "{case}"
        );
    }
}

#[test]
fn receipts_with_bloom() {
    let rlp: Bytes = hex(&vectors()["receipts_eth68"]["rlp"]).into();
    let reply = RawReply::decode(&rlp, 1).unwrap();
    let receipts = decode_receipts(EthVersion::Eth68, &reply.items[0], 1).unwrap();
    assert_eq!(receipts.len(), 1);
    assert_eq!(receipts[0].cumulative_gas_used(), 1);
    assert_eq!(
        encode_receipts(EthVersion::Eth68, &receipts),
        reply.items[0]
    );
}

#[test]
fn receipts_without_bloom() {
    let mut roots = 0;
    for case in vectors()["receipts_eth69"].as_array().unwrap() {
        let rlp: Bytes = hex(&case["rlp"]).into();
        let reply = RawReply::decode(&rlp, 1).unwrap();
        if let Some(id) = case["request_id"].as_u64() {
            assert_eq!(reply.request_id, id);
        }
        let item = &reply.items[0];
        let receipts = decode_receipts(EthVersion::Eth69, item, 1000).unwrap();
        assert_eq!(encode_receipts(EthVersion::Eth69, &receipts), *item);
        if let Some(count) = case["count"].as_u64() {
            assert_eq!(receipts.len() as u64, count);
            assert_eq!(
                decode_receipts(EthVersion::Eth69, item, 75),
                Err(DecodeError::TooMany { max: 75 })
            );
        }
        for key in ["receipts_root", "receipts_root_computed"] {
            if let Some(root) = case.get(key) {
                assert_eq!(calculate_receipt_root(&receipts), b256(root));
                roots += 1;
            }
        }
        for key in ["consensus_encodings", "consensus_encodings_computed"] {
            let Some(encodings) = case.get(key) else {
                continue;
            };
            for (receipt, expected) in receipts.iter().zip(encodings.as_array().unwrap()) {
                assert_eq!(receipt.encoded_2718(), hex(expected));
            }
        }
        // The two forms hold the same receipts.
        let with_bloom = encode_receipts(EthVersion::Eth68, &receipts);
        assert_eq!(
            decode_receipts(EthVersion::Eth68, &with_bloom, 1000).unwrap(),
            receipts
        );
    }
    assert_eq!(roots, 3);
}

#[test]
fn a_receipt_of_unknown_type_is_refused() {
    // [[5, 1, 21000, []]]
    let item = alloy_primitives::hex!("c7c605018252 08c0");
    assert_eq!(
        decode_receipts(EthVersion::Eth69, &item, 1),
        Err(DecodeError::ReceiptType(5))
    );
}

#[test]
fn transactions() {
    let vectors = vectors();
    let group = &vectors["transactions"];
    let rlp = hex(&group["transactions_0x02"]);
    let decoded = decode_transactions(&rlp).unwrap();
    let legacy = group["legacy_from_eip2481"].as_array().unwrap();
    assert_eq!(decoded.len(), legacy.len());
    for (tx, expected) in decoded.iter().zip(legacy) {
        assert_eq!(tx.hash(), b256(&expected["hash"]));
        assert_eq!(tx.item(), &hex(&expected["rlp"]));
    }
    assert_eq!(
        encode_transactions(decoded.iter().map(WireTransaction::item)),
        rlp
    );

    let mixed = &group["pooled_network_mixed"];
    let rlp = hex(&mixed["rlp"]);
    let (id, decoded) = decode_pooled_transactions(&rlp, 256).unwrap();
    let expected = mixed["transactions"].as_array().unwrap();
    assert_eq!(decoded.len(), expected.len());
    for (tx, expected) in decoded.iter().zip(expected) {
        let entry = tx.announcement();
        assert_eq!(entry.hash, b256(&expected["hash"]));
        assert_eq!(u64::from(entry.kind), number(&expected["type"]));
        assert_eq!(u64::from(entry.size), number(&expected["size_announced"]));
    }
    assert_eq!(
        encode_pooled_transactions(id, decoded.iter().map(WireTransaction::item)),
        rlp
    );
    assert_eq!(
        decode_pooled_transactions(&rlp, 4),
        Err(DecodeError::TooMany { max: 4 })
    );

    let (_, rlp) = eip2481("PooledTransactionsPacket66");
    let (id, decoded) = decode_pooled_transactions(&rlp, 256).unwrap();
    assert_eq!((id, decoded.len()), (1111, 2));
}

#[test]
fn a_typed_transaction_keeps_to_its_own_length() {
    let all = vectors();
    let mut rlp = hex(&all["transactions"]["pooled_network_mixed"]["rlp"]);
    let at = rlp
        .windows(3)
        .position(|bytes| bytes == [0xb8, 0x75, 0x02])
        .unwrap();
    // One byte less than the transaction in it has.
    rlp[at + 1] -= 1;
    assert!(matches!(
        decode_pooled_transactions(&rlp, 256),
        Err(DecodeError::Transaction(_))
    ));

    // A legacy transaction in a string.
    let legacy = hex(&all["transactions"]["legacy_from_eip2481"][0]["rlp"]);
    let message = list(&alloy_rlp::encode(legacy.as_slice()));
    assert!(matches!(
        decode_transactions(&message),
        Err(DecodeError::Transaction(_))
    ));
}

#[test]
fn headers() {
    let mut count = 0;
    for case in vectors()["headers"].as_array().unwrap() {
        let rlp = hex(&case["rlp"]);
        let header: Header = decode_headers(&[&rlp]).unwrap().remove(0);
        assert_eq!(alloy_rlp::encode(&header), rlp);
        assert_eq!(header.hash_slow(), b256(&case["hash"]));
        count += 1;
    }
    assert!(count >= 5);
}

#[test]
fn no_more_than_5000_transactions() {
    let one = vectors()["transactions"]["legacy_from_eip2481"][0]["rlp"].clone();
    let item: Bytes = hex(&one).into();
    let full: Vec<_> = std::iter::repeat_n(item, crate::limits::MAX_TRANSACTIONS + 1).collect();
    assert_eq!(
        decode_transactions(&encode_transactions(full.iter())),
        Err(DecodeError::TooMany { max: 5000 })
    );
    assert_eq!(
        decode_transactions(&encode_transactions(full[1..].iter()))
            .unwrap()
            .len(),
        5000
    );
}

#[test]
fn a_body_of_tiny_transactions_is_refused_before_it_is_decoded() {
    // A million nine-field lists of nothing, ten bytes each.
    let tiny = [0xc9, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80].repeat(1_000_000);
    let mut fields = list(&tiny);
    fields.push(0xc0);
    let body = list(&fields);
    assert!(matches!(
        decode_body(&body),
        Err(DecodeError::TooMany { .. })
    ));
}

#[test]
fn lengths_past_the_end_and_deep_nesting_are_refused() {
    // A list that claims 2^63 bytes, a list of lists of lists, and nothing.
    let claims = [0xff, 0x80, 0, 0, 0, 0, 0, 0, 0];
    let nested = [vec![0xc1; 100_000], vec![0xc0]].concat();
    for message in [&claims[..], &nested, &[], &[0xc0], &[0x80]] {
        let bytes = Bytes::copy_from_slice(message);
        assert!(Status::decode(EthVersion::Eth69, message).is_err());
        assert!(GetBlockHeaders::decode(message).is_err());
        assert!(HashRequest::decode(message, 10).is_err());
        assert!(RawReply::decode(&bytes, 10).is_err());
        assert!(decode_announcements(message).is_err());
        assert!(decode_pooled_transactions(message, 10).is_err());
        assert!(decode_body(message).is_err());
        assert!(BlockRange::decode_update(message).is_err());
        assert!(request_id(message).is_err());
    }
}

#[test]
fn a_header_request_with_the_largest_numbers_decodes() {
    let request = GetBlockHeaders {
        request_id: u64::MAX,
        start: BlockHashOrNumber::Number(u64::MAX),
        limit: u64::MAX,
        skip: u64::MAX,
        reverse: true,
    };
    assert_eq!(GetBlockHeaders::decode(&request.encode()), Ok(request));
}

fn list(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    alloy_rlp::Header {
        list: true,
        payload_length: payload.len(),
    }
    .encode(&mut out);
    out.extend_from_slice(payload);
    out
}

proptest! {
    #[test]
    fn decoders_are_total(message in proptest::collection::vec(any::<u8>(), 0..600)) {
        let bytes = Bytes::from(message.clone());
        for version in EthVersion::ALL {
            let _ = Status::decode(version, &message);
            let _ = decode_receipts(version, &message, 100);
        }
        let _ = GetBlockHeaders::decode(&message);
        let _ = HashRequest::decode(&message, 10);
        let _ = RawReply::decode(&bytes, 10);
        let _ = decode_announcements(&message);
        let _ = decode_transactions(&message);
        let _ = decode_pooled_transactions(&message, 10);
        let _ = decode_body(&message);
        let _ = decode_headers(&[&message]);
        let _ = BlockRange::decode_update(&message);
        let _ = request_id(&message);
    }

    /// One flipped byte of a real message is an error or another message of the
    /// same form, never a panic, and what decodes encodes to what was read.
    #[test]
    fn flipped_bytes(kind in 0usize..4, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let all = vectors();
        let source = match kind {
            0 => &all["status"][3]["rlp"],
            1 => &all["announcements_eth68"][3]["rlp"],
            2 => &all["transactions"]["pooled_network_mixed"]["rlp"],
            _ => &all["receipts_eth69"][0]["rlp"],
        };
        let mut message = hex(source);
        let index = at.index(message.len());
        message[index] ^= 1 << bit;
        match kind {
            0 => if let Ok(status) = Status::decode(EthVersion::Eth69, &message) {
                prop_assert_eq!(status.encode(), message);
            },
            1 => if let Ok(decoded) = decode_announcements(&message) {
                prop_assert_eq!(encode_announcements(decoded.entries.iter()), message);
            },
            2 => if let Ok((id, decoded)) = decode_pooled_transactions(&message, 256) {
                let again = encode_pooled_transactions(id, decoded.iter().map(|tx| tx.item()));
                prop_assert_eq!(again, message);
            },
            _ => if let Ok(reply) = RawReply::decode(&message.into(), 10) {
                for item in &reply.items {
                    let decoded: Result<Vec<ReceiptEnvelope>, _> =
                        decode_receipts(EthVersion::Eth69, item, 10);
                    if let Ok(receipts) = decoded {
                        prop_assert_eq!(&encode_receipts(EthVersion::Eth69, &receipts)[..], &item[..]);
                    }
                }
            },
        }
    }

    #[test]
    fn announcements_round_trip(
        entries in proptest::collection::vec((any::<[u8; 32]>(), any::<u8>(), any::<u32>()), 0..50)
    ) {
        let entries: Vec<_> = entries
            .into_iter()
            .map(|(hash, kind, size)| Announcement { hash: hash.into(), kind, size })
            .collect();
        let decoded = decode_announcements(&encode_announcements(entries.iter())).unwrap();
        prop_assert_eq!(decoded.entries, entries);
    }

    #[test]
    fn header_requests_round_trip(
        request_id: u64, hash: Option<[u8; 32]>, number: u64, limit: u64, skip: u64, reverse: bool,
    ) {
        let start = match hash {
            Some(hash) => BlockHashOrNumber::Hash(hash.into()),
            None => BlockHashOrNumber::Number(number),
        };
        let request = GetBlockHeaders { request_id, start, limit, skip, reverse };
        prop_assert_eq!(GetBlockHeaders::decode(&request.encode()), Ok(request));
    }
}
