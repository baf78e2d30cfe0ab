//! Every reason to refuse a transaction, every bound, and that the books stay
//! right whatever comes and goes.

use super::*;
use crate::chain::{
    AccountState, DevAccount, DevChain, DevChainConfig, DevTransfer, KnownState, TransferKind,
    UnknownState,
};
use crate::limits;
use crate::wire::PooledEnvelope;
use alloy_consensus::transaction::SignableTransaction;
use alloy_consensus::{TxEip1559, TxEip4844, TxEip4844WithSidecar, TxEip7702, TxLegacy};
use alloy_eips::eip4844::builder::{SidecarBuilder, SimpleCoder};
use alloy_eips::eip7594::BlobTransactionSidecarVariant;
use alloy_primitives::{Signature, TxKind};
use proptest::prelude::*;
use tercet_enode::SecretKey;

const CHAIN: u64 = 1337;

fn config() -> PoolConfig {
    PoolConfig::new(CHAIN)
}

fn unknown(config: PoolConfig) -> MemoryPool {
    MemoryPool::new(config, Arc::new(UnknownState))
}

fn account(number: u8) -> DevAccount {
    DevAccount::new(SecretKey::from_bytes(&[number; 32]).unwrap(), 0)
}

fn sign<T: SignableTransaction<Signature>>(tx: T) -> WireTransaction
where
    PooledEnvelope: From<alloy_consensus::Signed<T>>,
{
    let digest = tx.signature_hash();
    let key = account(1).key().clone();
    let signature = key.sign_recoverable(&digest.0);
    let [rs @ .., v] = signature.as_bytes();
    let signature = Signature::from_bytes_and_parity(rs, *v == 1);
    WireTransaction::new(tx.into_signed(signature).into())
}

fn transfer() -> TxEip1559 {
    TxEip1559 {
        chain_id: CHAIN,
        gas_limit: 21_000,
        max_fee_per_gas: 1_000,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(Address::repeat_byte(2)),
        value: U256::from(5),
        ..TxEip1559::default()
    }
}

#[test]
fn a_valid_transaction_is_kept_and_found() {
    let pool = unknown(config());
    let tx = sign(transfer());
    let added = pool.add(tx.clone()).unwrap();
    assert_eq!(added.sender(), account(1).address());
    assert!(pool.contains(&tx.hash()));
    assert_eq!(pool.get(&tx.hash()), Some(added));
    assert_eq!(pool.announcements(), [tx.announcement()]);
    assert_eq!(pool.add(tx.clone()), Err(PoolError::AlreadyKnown));
    pool.remove(&[tx.hash()]);
    assert!(pool.is_empty());
    assert_eq!(pool.get(&tx.hash()), None);
}

#[test]
fn a_signature_in_the_upper_half_is_refused() {
    let tx = transfer();
    let order = alloy_primitives::uint!(
        0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256
    );
    let signed = sign(tx.clone());
    let signature = signed.envelope().signature();
    let high = Signature::new(signature.r(), order - signature.s(), !signature.v());
    let high = WireTransaction::new(tx.into_signed(high).into());
    assert_eq!(unknown(config()).add(high), Err(PoolError::Signature));
}

#[test]
fn the_chain_id_must_be_ours_unless_there_is_none() {
    let pool = unknown(config());
    let other = sign(TxEip1559 {
        chain_id: 1,
        ..transfer()
    });
    assert_eq!(
        pool.add(other),
        Err(PoolError::ChainId {
            expected: CHAIN,
            found: 1
        })
    );
    let legacy = TxLegacy {
        gas_limit: 21_000,
        gas_price: 5,
        to: TxKind::Call(Address::ZERO),
        ..TxLegacy::default()
    };
    assert!(pool.add(sign(legacy)).is_ok());
}

#[test]
fn size_gas_and_fees() {
    let pool = unknown(PoolConfig {
        block_gas_limit: Some(10_000_000),
        ..config()
    });
    let input = vec![1; limits::MAX_TRANSACTION_SIZE];
    let large = TxEip1559 {
        input: input.into(),
        gas_limit: 9_000_000,
        ..transfer()
    };
    assert!(matches!(
        pool.add(sign(large)),
        Err(PoolError::TooLarge { .. })
    ));

    let low = TxEip1559 {
        gas_limit: 20_999,
        ..transfer()
    };
    let expected = PoolError::IntrinsicGas {
        limit: 20_999,
        required: 21_000,
    };
    assert_eq!(pool.add(sign(low)), Err(expected));

    let high = TxEip1559 {
        gas_limit: 10_000_001,
        ..transfer()
    };
    let expected = PoolError::GasLimit {
        limit: 10_000_001,
        block: 10_000_000,
    };
    assert_eq!(pool.add(sign(high)), Err(expected));

    let tip = TxEip1559 {
        max_priority_fee_per_gas: 1_001,
        ..transfer()
    };
    assert_eq!(
        pool.add(sign(tip)),
        Err(PoolError::TipAboveCap {
            tip: 1_001,
            cap: 1_000
        })
    );

    let code = vec![0; 49_153];
    let create = TxEip1559 {
        to: TxKind::Create,
        input: code.into(),
        ..transfer()
    };
    let expected = PoolError::InitCode {
        size: 49_153,
        max: 49_152,
    };
    assert_eq!(pool.add(sign(create)), Err(expected));

    let none = TxEip7702 {
        chain_id: CHAIN,
        gas_limit: 100_000,
        ..TxEip7702::default()
    };
    assert_eq!(pool.add(sign(none)), Err(PoolError::NoAuthorizations));
}

#[test]
fn intrinsic_gas_of_known_cases() {
    let gas = |tx: TxEip1559| super::super::intrinsic_gas(sign(tx).envelope());
    assert_eq!(gas(transfer()), 21_000);
    // 100 zero bytes: 21,000 + 400, the floor is 21,000 + 1,000.
    assert_eq!(
        gas(TxEip1559 {
            input: vec![0; 100].into(),
            ..transfer()
        }),
        22_000
    );
    // 100 others: 21,000 + 1,600, the floor 21,000 + 4,000.
    assert_eq!(
        gas(TxEip1559 {
            input: vec![1; 100].into(),
            ..transfer()
        }),
        25_000
    );
    // Creating from 33 bytes: 53,000 + 528 + two words.
    let create = TxEip1559 {
        to: TxKind::Create,
        input: vec![1; 33].into(),
        ..transfer()
    };
    assert_eq!(gas(create), 53_000 + 528 + 4);
    let list = vec![alloy_eips::eip2930::AccessListItem {
        address: Address::ZERO,
        storage_keys: vec![B256::ZERO; 3],
    }];
    assert_eq!(
        gas(TxEip1559 {
            access_list: list.into(),
            ..transfer()
        }),
        21_000 + 2_400 + 5_700
    );
}

#[test]
fn nonce_and_balance_where_they_are_known() {
    let mut state = KnownState::default();
    let sender = account(1).address();
    // Enough for one transfer of 21,000 · 1,000 + 5 wei, not for two.
    let cost = U256::from(21_000 * 1_000 + 5);
    state.set(
        sender,
        AccountState {
            nonce: 7,
            balance: cost,
        },
    );
    let pool = MemoryPool::new(config(), Arc::new(state));
    let with = |nonce| {
        sign(TxEip1559 {
            nonce,
            ..transfer()
        })
    };
    assert_eq!(
        pool.add(with(6)),
        Err(PoolError::NonceTooLow {
            nonce: 6,
            account: 7
        })
    );
    let max = 7 + 127;
    assert_eq!(
        pool.add(with(135)),
        Err(PoolError::NonceTooHigh { nonce: 135, max })
    );
    assert!(pool.add(with(7)).is_ok());
    let expected = PoolError::InsufficientFunds {
        balance: cost,
        cost: cost * U256::from(2),
    };
    assert_eq!(pool.add(with(8)), Err(expected));
    // An account the state does not list has nothing.
    let other = account(2).transfer(DevTransfer {
        chain_id: CHAIN,
        to: sender,
        value: U256::ONE,
        kind: TransferKind::Legacy,
    });
    assert!(matches!(
        pool.add(other),
        Err(PoolError::InsufficientFunds { .. })
    ));
    // Where nothing is known, any nonce but the last will do.
    let pool = unknown(config());
    assert!(pool.add(with(1_000_000)).is_ok());
    assert!(matches!(
        pool.add(with(u64::MAX)),
        Err(PoolError::NonceTooHigh { .. })
    ));
}

#[test]
fn a_replacement_pays_a_tenth_more() {
    let pool = unknown(config());
    let with = |max_fee_per_gas| {
        sign(TxEip1559 {
            max_fee_per_gas,
            ..transfer()
        })
    };
    let first = with(1_000);
    pool.add(first.clone()).unwrap();
    assert_eq!(
        pool.add(with(1_099)),
        Err(PoolError::Underpriced {
            fee: 1_099,
            required: 1_100
        })
    );
    let second = with(1_100);
    pool.add(second.clone()).unwrap();
    assert!(!pool.contains(&first.hash()));
    assert_eq!(pool.announcements(), [second.announcement()]);
}

#[test]
fn an_account_has_a_limit() {
    let pool = unknown(PoolConfig {
        max_per_account: 2,
        ..config()
    });
    for nonce in 0..2 {
        pool.add(sign(TxEip1559 {
            nonce,
            ..transfer()
        }))
        .unwrap();
    }
    let third = sign(TxEip1559 {
        nonce: 2,
        ..transfer()
    });
    assert_eq!(pool.add(third), Err(PoolError::AccountFull(2)));
}

#[test]
fn a_full_pool_takes_only_better_ones() {
    let pool = unknown(PoolConfig {
        max_transactions: 3,
        ..config()
    });
    let with = |nonce, max_fee_per_gas| {
        sign(TxEip1559 {
            nonce,
            max_fee_per_gas,
            ..transfer()
        })
    };
    for nonce in 0..3 {
        pool.add(with(nonce, 100 + u128::from(nonce))).unwrap();
    }
    assert_eq!(pool.add(with(3, 100)), Err(PoolError::Full));
    pool.add(with(3, 101)).unwrap();
    assert_eq!(pool.len(), 3);
    assert!(!pool.contains(&with(0, 100).hash()));

    let bytes = with(0, 100).item().len();
    let pool = unknown(PoolConfig {
        max_bytes: 2 * bytes,
        ..config()
    });
    pool.add(with(0, 100)).unwrap();
    pool.add(with(1, 100)).unwrap();
    assert_eq!(pool.add(with(2, 100)), Err(PoolError::Full));
}

fn blob_transaction(sidecar: BlobTransactionSidecarVariant, hashes: Vec<B256>) -> WireTransaction {
    let tx = TxEip4844 {
        chain_id: CHAIN,
        gas_limit: 21_000,
        max_fee_per_gas: 10,
        max_fee_per_blob_gas: 1,
        blob_versioned_hashes: hashes,
        ..TxEip4844::default()
    };
    sign(TxEip4844WithSidecar { tx, sidecar })
}

#[test]
fn blobs_must_belong_to_their_transaction() {
    let mut builder = SidecarBuilder::<SimpleCoder>::new();
    builder.ingest(b"some data");
    let sidecar = builder.build_7594().unwrap();
    let hashes: Vec<B256> = sidecar.versioned_hashes().collect();
    let variant = BlobTransactionSidecarVariant::Eip7594(sidecar.clone());
    let pool = unknown(config());
    assert_eq!(
        pool.add(blob_transaction(variant.clone(), vec![])),
        Err(PoolError::BlobCount { count: 0, max: 6 })
    );
    assert_eq!(
        pool.add(blob_transaction(variant.clone(), vec![hashes[0]; 7])),
        Err(PoolError::BlobCount { count: 7, max: 6 })
    );
    let other = vec![B256::with_last_byte(1)];
    assert_eq!(
        pool.add(blob_transaction(variant.clone(), other)),
        Err(PoolError::Blobs)
    );
    let mut broken = sidecar;
    broken.cell_proofs.swap(0, 1);
    let broken = BlobTransactionSidecarVariant::Eip7594(broken);
    assert_eq!(
        pool.add(blob_transaction(broken, hashes.clone())),
        Err(PoolError::Blobs)
    );
    let tx = blob_transaction(variant, hashes);
    assert!(tx.is_blob());
    pool.add(tx).unwrap();
}

#[test]
fn the_transfers_of_a_dev_chain_are_taken() {
    let dev = DevChain::build(&DevChainConfig::default()).unwrap();
    let (_, state, mut accounts) = dev.into_parts();
    let pool = MemoryPool::new(config(), Arc::new(state));
    for (index, account) in accounts.iter_mut().enumerate() {
        for kind in [TransferKind::Legacy, TransferKind::Eip1559] {
            let value = U256::from(index);
            let to = Address::repeat_byte(1);
            let tx = account.transfer(DevTransfer {
                chain_id: CHAIN,
                to,
                value,
                kind,
            });
            pool.add(tx).unwrap();
        }
    }
    assert_eq!(pool.len(), 32);
}

proptest! {
    /// Whatever is added and removed, the bounds hold and the indices agree.
    #[test]
    fn the_books_stay_right(
        steps in proptest::collection::vec((0u64..6, 1u128..9, any::<bool>()), 1..40)
    ) {
        let limit = 4;
        let pool = unknown(PoolConfig { max_transactions: limit, max_per_account: 3, ..config() });
        for (nonce, fee, add) in steps {
            let tx = sign(TxEip1559 {
                nonce,
                max_fee_per_gas: fee,
                max_priority_fee_per_gas: 0,
                ..transfer()
            });
            if add {
                let _ = pool.add(tx);
            } else {
                pool.remove(&[tx.hash()]);
            }
            let inner = pool.inner.lock();
            prop_assert!(inner.entries.len() <= limit);
            prop_assert_eq!(inner.entries.len(), inner.arrivals.len());
            prop_assert_eq!(inner.entries.len(), inner.fees.len());
            let per_account: usize = inner.accounts.values().map(BTreeMap::len).sum();
            prop_assert_eq!(inner.entries.len(), per_account);
            prop_assert!(inner.accounts.values().all(|nonces| (1..=3).contains(&nonces.len())));
            let bytes: usize = inner.entries.values().map(|entry| entry.tx.item().len()).sum();
            prop_assert_eq!(inner.bytes, bytes);
        }
    }
}
