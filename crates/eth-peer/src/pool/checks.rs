//! The checks of a transaction that need no state: size, chain, gas, fees,
//! blobs. They come before the signature check, which costs more than all of
//! them except the blobs' proofs, which come last.

use super::PoolError;
use crate::limits::{MAX_BLOB_TRANSACTION_SIZE, MAX_BLOBS_PER_TRANSACTION, MAX_TRANSACTION_SIZE};
use crate::wire::{PooledEnvelope, WireTransaction};
use alloy_consensus::{EthereumTxEnvelope, Transaction};
use alloy_eips::eip2718::Encodable2718;
use alloy_eips::eip4844::env_settings::EnvKzgSettings;
use alloy_primitives::U256;
use alloy_rlp::Encodable;

/// Gas of any transaction.
const BASE_GAS: u64 = 21_000;
/// More gas for creating a contract (EIP-2).
const CREATE_GAS: u64 = 32_000;
/// Gas of a zero byte of input, and of any other (EIP-2028).
const ZERO_BYTE_GAS: u64 = 4;
const BYTE_GAS: u64 = 16;
/// Gas of an address and of a storage key in an access list (EIP-2930).
const ACCESS_ADDRESS_GAS: u64 = 2_400;
const ACCESS_KEY_GAS: u64 = 1_900;
/// Gas of 32 bytes of init code, and its largest size (EIP-3860).
const INIT_CODE_WORD_GAS: u64 = 2;
const MAX_INIT_CODE: usize = 2 * 24_576;
/// Gas of one authorization (EIP-7702).
const AUTHORIZATION_GAS: u64 = 25_000;
/// Least gas of a token of input; a zero byte is one token, any other four
/// (EIP-7623).
const FLOOR_TOKEN_GAS: u64 = 10;

/// The gas a transaction must at least allow for under the rules of Prague:
/// what it costs before any code runs, or the floor for its input if that is
/// higher.
pub fn intrinsic_gas(tx: &PooledEnvelope) -> u64 {
    let input = tx.input();
    let zeros = input.iter().filter(|&&byte| byte == 0).count() as u64;
    let others = input.len() as u64 - zeros;
    let mut gas = BASE_GAS + zeros * ZERO_BYTE_GAS + others * BYTE_GAS;
    if tx.is_create() {
        gas += CREATE_GAS + (input.len() as u64).div_ceil(32) * INIT_CODE_WORD_GAS;
    }
    if let Some(list) = tx.access_list() {
        let keys: usize = list.iter().map(|item| item.storage_keys.len()).sum();
        gas += list.len() as u64 * ACCESS_ADDRESS_GAS + keys as u64 * ACCESS_KEY_GAS;
    }
    gas += tx.authorization_list().map_or(0, <[_]>::len) as u64 * AUTHORIZATION_GAS;
    let floor = BASE_GAS + (zeros + 4 * others) * FLOOR_TOKEN_GAS;
    gas.max(floor)
}

/// The most a transaction can take from its sender, in wei.
pub(super) fn max_cost(tx: &PooledEnvelope) -> U256 {
    let gas = U256::from(tx.gas_limit()).saturating_mul(U256::from(tx.max_fee_per_gas()));
    let blob_gas = U256::from(tx.blob_gas_used().unwrap_or(0));
    let blobs = blob_gas.saturating_mul(U256::from(tx.max_fee_per_blob_gas().unwrap_or(0)));
    gas.saturating_add(blobs).saturating_add(tx.value())
}

/// All checks before the signature.
pub(super) fn check_stateless(
    tx: &WireTransaction,
    chain_id: u64,
    block_gas: Option<u64>,
) -> Result<(), PoolError> {
    let envelope = tx.envelope();
    check_size(envelope)?;
    // A legacy transaction without chain id is valid on every chain (EIP-155).
    if let Some(found) = envelope.chain_id()
        && found != chain_id
    {
        return Err(PoolError::ChainId {
            expected: chain_id,
            found,
        });
    }
    let (cap, tip) = (
        envelope.max_fee_per_gas(),
        envelope.max_priority_fee_per_gas(),
    );
    if let Some(tip) = tip.filter(|&tip| tip > cap) {
        return Err(PoolError::TipAboveCap { tip, cap });
    }
    let limit = envelope.gas_limit();
    if let Some(block) = block_gas.filter(|&block| limit > block) {
        return Err(PoolError::GasLimit { limit, block });
    }
    let required = intrinsic_gas(envelope);
    if limit < required {
        return Err(PoolError::IntrinsicGas { limit, required });
    }
    if envelope.authorization_list().is_some_and(<[_]>::is_empty) {
        return Err(PoolError::NoAuthorizations);
    }
    Ok(())
}

fn check_size(tx: &PooledEnvelope) -> Result<(), PoolError> {
    let (size, max) = match tx {
        EthereumTxEnvelope::Eip4844(signed) => {
            let count = signed.tx().tx.blob_versioned_hashes.len();
            if count == 0 || count > MAX_BLOBS_PER_TRANSACTION {
                return Err(PoolError::BlobCount {
                    count,
                    max: MAX_BLOBS_PER_TRANSACTION,
                });
            }
            (signed.tx().tx.length(), MAX_BLOB_TRANSACTION_SIZE)
        }
        _ => (tx.encode_2718_len(), MAX_TRANSACTION_SIZE),
    };
    if size > max {
        return Err(PoolError::TooLarge { size, max });
    }
    let size = tx.input().len();
    if tx.is_create() && size > MAX_INIT_CODE {
        return Err(PoolError::InitCode {
            size,
            max: MAX_INIT_CODE,
        });
    }
    Ok(())
}

/// Checks that blobs, commitments and proofs belong together and to the
/// transaction's hashes. Milliseconds for each blob.
pub(super) fn check_blobs(tx: &PooledEnvelope) -> Result<(), PoolError> {
    match tx {
        EthereumTxEnvelope::Eip4844(signed) => signed
            .tx()
            .validate_blob(EnvKzgSettings::Default.get())
            .map_err(|_| PoolError::Blobs),
        _ => Ok(()),
    }
}
