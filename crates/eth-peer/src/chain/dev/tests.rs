//! The made-up chain: deterministic, linked, with the roots it claims.

use super::*;
use crate::chain::{StateView, verify_body, verify_receipts};
use alloy_primitives::b256;
use alloy_rlp::Decodable;

fn small() -> DevChain {
    DevChain::build(&DevChainConfig::default()).unwrap()
}

#[test]
fn the_same_config_gives_the_same_chain() {
    let (one, two) = (small(), small());
    assert_eq!(one.chain().head(), two.chain().head());
    assert_eq!(one.chain().head().number, 8);
    let other = DevChainConfig {
        chain_id: 7,
        ..DevChainConfig::default()
    };
    assert_ne!(
        DevChain::build(&other).unwrap().chain().head().hash,
        one.chain().head().hash
    );
}

/// go-ethereum 1.17.10 imported this chain's export block by block and came to this head: every root is the one that
/// executing the blocks gives.
#[test]
fn the_default_chain_is_the_one_that_go_ethereum_imported() {
    let head = small().chain().head();
    let imported = b256!("6a8616588b532c28d5e25070f3eef462e3c0d74592113c9cbfbfe58e4bfd107d");
    assert_eq!((head.number, head.hash), (8, imported));
}

#[test]
fn every_part_belongs_to_its_header() {
    let dev = small();
    let chain = dev.chain();
    for number in 0..=chain.head().number {
        let header = chain.header(number.into()).unwrap();
        let body = chain.body_rlp(header.hash()).unwrap();
        let body = BlockBody::decode(&mut body.as_ref()).unwrap();
        verify_body(&header, &body).unwrap();
        let receipts = chain.receipts(header.hash()).unwrap();
        verify_receipts(&header, &receipts).unwrap();
        assert_eq!(receipts.len(), if number == 0 { 0 } else { 4 });
        let rlp = chain.header_rlp(header.hash()).unwrap();
        assert_eq!(keccak256(&rlp), header.hash());
    }
}

#[test]
fn accounts_have_the_nonces_of_the_state() {
    let dev = small();
    let state = dev.state();
    for account in dev.accounts() {
        let known = state.account(&account.address()).unwrap();
        assert_eq!(known.nonce, account.nonce());
        assert!(known.balance > U256::ZERO);
    }
    // Eight blocks of four transfers, the first four accounts sending in each.
    assert_eq!(dev.accounts()[0].nonce(), 8);
    assert_eq!(dev.accounts()[4].nonce(), 0);
}

#[test]
fn transfers_are_signed_by_their_account() {
    let mut account = small().accounts()[0].clone();
    let nonce = account.nonce();
    for kind in [TransferKind::Legacy, TransferKind::Eip1559] {
        let to = Address::repeat_byte(9);
        let tx = account.transfer(DevTransfer {
            chain_id: 1337,
            to,
            value: U256::ONE,
            kind,
        });
        assert_eq!(tx.recover().unwrap(), account.address());
    }
    assert_eq!(account.nonce(), nonce + 2);
}

#[test]
fn impossible_configs_are_refused() {
    let none = DevChainConfig {
        accounts: 0,
        ..DevChainConfig::default()
    };
    assert!(matches!(
        DevChain::build(&none),
        Err(DevChainError::NoAccounts)
    ));
    let many = DevChainConfig {
        transfers: 1429,
        ..DevChainConfig::default()
    };
    assert!(matches!(
        DevChain::build(&many),
        Err(DevChainError::TooManyTransfers { max: 1428, .. })
    ));
    let full = DevChainConfig {
        transfers: 1428,
        blocks: 1,
        ..DevChainConfig::default()
    };
    assert_eq!(DevChain::build(&full).unwrap().chain().head().number, 1);
}

/// A chain of a genesis block with this base fee.
fn with_base_fee(gwei: u128) -> DevChain {
    let config = DevChainConfig::default();
    let accounts: Vec<_> = (0..config.accounts).map(DevAccount::numbered).collect();
    let mut genesis = genesis(&config, &accounts);
    genesis.base_fee_per_gas = Some(gwei * 1_000_000_000);
    DevChain {
        chain: MemoryChain::new(&genesis).unwrap(),
        state: DevState::new(&genesis),
        genesis,
        accounts,
    }
}

#[test]
fn a_base_fee_above_the_fee_cap_is_an_error() {
    // An empty block lowers the base fee by an eighth: 99.75 gwei leaves less
    // than the whole tip.
    let mut dev = with_base_fee(114);
    dev.add_block(2).unwrap();
    let tips = U256::from(2 * 250_000_000 * TRANSFER_GAS);
    let coinbase = dev.genesis.coinbase;
    assert_eq!(dev.state().account(&coinbase).unwrap().balance, tips);

    let mut dev = with_base_fee(120);
    assert_eq!(
        dev.add_block(1),
        Err(DevChainError::BaseFee {
            block: 1,
            base_fee: 105_000_000_000,
        })
    );
    // Nothing was changed, and a block without transfers needs no fee.
    assert_eq!(dev.chain().head().number, 0);
    dev.add_block(0).unwrap();
    assert_eq!(dev.chain().head().number, 1);
}

#[test]
fn a_block_that_does_not_fit_leaves_the_chain_as_it_was() {
    let dev = small();
    let chain = dev.chain();
    let head = chain.head();
    let block = Block {
        header: Header::default(),
        body: BlockBody::default(),
    };
    assert!(chain.append(block, Vec::new()).is_err());
    assert_eq!(chain.head(), head);
    assert_eq!(chain.rewind(100), head);
    assert_eq!(chain.rewind(3).number, 3);
    assert!(chain.header(head.hash.into()).is_none());
    assert_eq!(chain.rewind(0).hash, chain.genesis_hash());
}
