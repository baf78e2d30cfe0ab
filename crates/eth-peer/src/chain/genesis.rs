//! The genesis block that a genesis file describes.

use alloy_consensus::Header;
use alloy_consensus::constants::{EMPTY_OMMER_ROOT_HASH, EMPTY_WITHDRAWALS};
use alloy_eips::eip1559::INITIAL_BASE_FEE;
use alloy_eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy_genesis::Genesis;
use alloy_primitives::B256;
use alloy_trie::EMPTY_ROOT_HASH;
use alloy_trie::root::state_root_unhashed;

/// Why a genesis file has no genesis block here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GenesisError {
    /// Amsterdam is active from the first block; which header fields its
    /// genesis has is not settled yet.
    #[error("Amsterdam is active at genesis, which is not supported")]
    AmsterdamAtGenesis,
    /// The base fee does not fit a header.
    #[error("the base fee {0} is over 64 bits")]
    BaseFee(u128),
}

/// The header of the genesis block. Fields that came with a fork are there if
/// the fork is active at block 0 and the genesis time.
///
/// # Errors
/// When the file asks for what no header can hold.
pub fn genesis_header(genesis: &Genesis) -> Result<Header, GenesisError> {
    let config = &genesis.config;
    let active = |time: Option<u64>| time.is_some_and(|time| time <= genesis.timestamp);
    if active(config.amsterdam_time) {
        return Err(GenesisError::AmsterdamAtGenesis);
    }
    let london = config.london_block == Some(0);
    let shanghai = london && active(config.shanghai_time);
    let cancun = london && active(config.cancun_time);
    let prague = london && active(config.prague_time);
    let base_fee = genesis
        .base_fee_per_gas
        .unwrap_or(u128::from(INITIAL_BASE_FEE));
    let base_fee = u64::try_from(base_fee).map_err(|_| GenesisError::BaseFee(base_fee))?;
    let accounts = genesis
        .alloc
        .iter()
        .map(|(address, account)| (*address, account.clone().into_trie_account()));
    Ok(Header {
        parent_hash: genesis.parent_hash.unwrap_or_default(),
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        beneficiary: genesis.coinbase,
        state_root: state_root_unhashed(accounts),
        transactions_root: EMPTY_ROOT_HASH,
        receipts_root: EMPTY_ROOT_HASH,
        difficulty: genesis.difficulty,
        number: genesis.number.unwrap_or(0),
        gas_limit: genesis.gas_limit,
        timestamp: genesis.timestamp,
        extra_data: genesis.extra_data.clone(),
        mix_hash: genesis.mix_hash,
        nonce: genesis.nonce.into(),
        base_fee_per_gas: london.then_some(base_fee),
        withdrawals_root: shanghai.then_some(EMPTY_WITHDRAWALS),
        blob_gas_used: cancun.then(|| genesis.blob_gas_used.unwrap_or(0)),
        excess_blob_gas: cancun.then(|| genesis.excess_blob_gas.unwrap_or(0)),
        parent_beacon_block_root: cancun.then_some(B256::ZERO),
        requests_hash: prague.then_some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    })
}
