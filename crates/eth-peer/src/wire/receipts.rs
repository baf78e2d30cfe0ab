//! One block's receipts as they travel: with bloom, in consensus form, up to
//! eth/68; as `[type, status-or-root, gas, logs]` without bloom from eth/69
//! (EIP-7642). Checking them against a header's root is in the chain module.

use super::{DecodeError, EthVersion, decode_enveloped, finished, next_item, whole_list};
use alloy_consensus::{Eip658Value, Receipt, ReceiptEnvelope, TxReceipt, TxType};
use alloy_primitives::Log;
use alloy_rlp::{Decodable, Encodable, Header as RlpHeader};

/// The list of one block's receipts in the form of `version`.
pub fn encode_receipts(version: EthVersion, receipts: &[ReceiptEnvelope]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(receipts.len() * 64);
    for receipt in receipts {
        match version {
            EthVersion::Eth68 => receipt.encode(&mut payload),
            EthVersion::Eth69 => encode_without_bloom(receipt, &mut payload),
        }
    }
    let mut out = Vec::with_capacity(payload.len() + 5);
    RlpHeader {
        list: true,
        payload_length: payload.len(),
    }
    .encode(&mut out);
    out.extend_from_slice(&payload);
    out
}

/// Reads one block's receipts. Pass the number of its transactions as `max`:
/// decoded receipts take up to 60 times the memory of hostile encoded ones.
///
/// # Errors
/// When the item is not exactly one such list, a receipt is of an unknown type,
/// or there are more than `max`.
pub fn decode_receipts(
    version: EthVersion,
    item: &[u8],
    max: usize,
) -> Result<Vec<ReceiptEnvelope>, DecodeError> {
    let mut list = whole_list(item)?;
    let mut receipts = Vec::new();
    while !list.is_empty() {
        if receipts.len() == max {
            return Err(DecodeError::TooMany { max });
        }
        receipts.push(match version {
            EthVersion::Eth68 => decode_enveloped(next_item(&mut list)?)?,
            EthVersion::Eth69 => decode_without_bloom(&mut list)?,
        });
    }
    Ok(receipts)
}

fn encode_without_bloom(envelope: &ReceiptEnvelope, out: &mut Vec<u8>) {
    let status = envelope.status_or_post_state();
    let gas = envelope.cumulative_gas_used();
    let kind = envelope.tx_type() as u8;
    let logs = envelope.logs();
    let payload_length =
        kind.length() + status.length() + gas.length() + alloy_rlp::list_length::<Log, Log>(logs);
    RlpHeader {
        list: true,
        payload_length,
    }
    .encode(out);
    kind.encode(out);
    status.encode(out);
    gas.encode(out);
    alloy_rlp::encode_list::<Log, Log>(logs, out);
}

fn decode_without_bloom(list: &mut &[u8]) -> Result<ReceiptEnvelope, DecodeError> {
    let mut fields = RlpHeader::decode_bytes(list, true)?;
    let kind = u64::decode(&mut fields)?;
    let kind = u8::try_from(kind)
        .ok()
        .and_then(|byte| TxType::try_from(byte).ok())
        .ok_or(DecodeError::ReceiptType(kind))?;
    let receipt: Receipt = Receipt {
        status: Eip658Value::decode(&mut fields)?,
        cumulative_gas_used: u64::decode(&mut fields)?,
        logs: Vec::<Log>::decode(&mut fields)?,
    };
    finished(fields)?;
    Ok(ReceiptEnvelope::from_typed(kind, receipt))
}
