//! Folders: a whole one, the real 600-block chain where it is at hand, and one
//! for each way to be broken, with the block and byte the error names.

use super::*;
use crate::chain::{DevChain, DevChainConfig, write_chain};
use std::fs;

fn dev() -> DevChain {
    DevChain::build(&DevChainConfig::default()).unwrap()
}

fn folder(dev: &DevChain) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_chain(folder.path(), dev.genesis(), dev.chain()).unwrap();
    folder
}

/// Offsets at which the blocks of `chain.rlp` begin, and its length.
fn offsets(file: &[u8]) -> Vec<usize> {
    let mut rest = file;
    let mut offsets = vec![0];
    while !rest.is_empty() {
        RlpHeader::decode_bytes(&mut rest, true).unwrap();
        offsets.push(file.len() - rest.len());
    }
    offsets
}

#[test]
fn a_chain_written_is_read_back() {
    let dev = dev();
    let folder = folder(&dev);
    let chain = ChainFolder::open(folder.path()).unwrap();
    assert_eq!(chain.head(), dev.chain().head());
    assert_eq!(chain.genesis_hash(), dev.chain().genesis_hash());
    assert_eq!(chain.fork_id(), dev.chain().fork_id());
    assert_eq!(chain.range(), dev.chain().range());
    for number in 0..=8 {
        let hash = chain.canonical_hash(number).unwrap();
        assert_eq!(chain.header_rlp(hash), dev.chain().header_rlp(hash));
        assert_eq!(chain.body_rlp(hash), dev.chain().body_rlp(hash));
        // Only the genesis block is without transactions.
        assert_eq!(chain.receipts(hash).is_some(), number == 0);
    }
    assert!(chain.state().is_none());
    assert_eq!(chain.account(&dev.accounts()[0].address()), None);
}

#[test]
fn without_blocks_the_genesis_state_is_known() {
    let dev = dev();
    dev.chain().rewind(0);
    let folder = folder(&dev);
    let chain = ChainFolder::open(folder.path()).unwrap();
    let account = chain.account(&dev.accounts()[3].address()).unwrap();
    assert_eq!(account.nonce, 0);
    assert!(account.balance > U256::ZERO);
}

#[test]
fn what_is_missing_is_named() {
    let empty = tempfile::tempdir().unwrap();
    let error = ChainFolder::open(empty.path()).unwrap_err();
    assert!(error.to_string().contains("genesis.json"), "{error}");

    let folder = folder(&dev());
    fs::remove_file(folder.path().join("chain.rlp")).unwrap();
    let error = ChainFolder::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("chain.rlp"), "{error}");

    fs::write(folder.path().join("genesis.json"), "{\n  \"config\": 5\n}").unwrap();
    let error = ChainFolder::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("line 2"), "{error}");
}

#[test]
fn a_cut_file_names_block_and_byte() {
    let folder = folder(&dev());
    let path = folder.path().join("chain.rlp");
    let file = fs::read(&path).unwrap();
    let offsets = offsets(&file);
    fs::write(&path, &file[..offsets[5] - 1]).unwrap();
    match ChainFolder::open(folder.path()) {
        Err(ChainError::Block {
            number: 5, offset, ..
        }) => assert_eq!(offset, offsets[4]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_missing_block_breaks_the_link() {
    let folder = folder(&dev());
    let path = folder.path().join("chain.rlp");
    let file = fs::read(&path).unwrap();
    let offsets = offsets(&file);
    fs::write(&path, [&file[..offsets[2]], &file[offsets[3]..]].concat()).unwrap();
    match ChainFolder::open(folder.path()) {
        Err(ChainError::Link {
            number: 3,
            offset,
            source,
            ..
        }) => {
            assert_eq!(offset, offsets[2]);
            assert_eq!(
                source,
                LinkError::Number {
                    expected: 3,
                    found: 4
                }
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_flipped_byte_is_found() {
    let small = DevChainConfig {
        blocks: 2,
        transfers: 1,
        ..DevChainConfig::default()
    };
    let dev = DevChain::build(&small).unwrap();
    let folder = folder(&dev);
    let path = folder.path().join("chain.rlp");
    let file = fs::read(&path).unwrap();
    let second = offsets(&file)[1];
    // The first block, whose every byte either its own roots or the second
    // block's parent hash vouch for.
    for at in 0..second {
        let mut broken = file.clone();
        broken[at] ^= 0x01;
        fs::write(&path, &broken).unwrap();
        let error = ChainFolder::open(folder.path()).expect_err("a flipped byte went unnoticed");
        assert!(error.to_string().contains("block "), "byte {at}: {error}");
    }
}

#[test]
fn another_genesis_breaks_the_first_link() {
    let folder = folder(&dev());
    let other = DevChainConfig {
        chain_id: 99,
        genesis_time: 1,
        ..DevChainConfig::default()
    };
    let other = DevChain::build(&other).unwrap();
    let path = folder.path().join("genesis.json");
    fs::write(path, serde_json::to_vec(other.genesis()).unwrap()).unwrap();
    match ChainFolder::open(folder.path()) {
        Err(ChainError::Link {
            number: 1,
            offset: 0,
            source,
            ..
        }) => {
            assert!(matches!(source, LinkError::ParentHash { .. }), "{source}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_state_of_another_block_is_refused() {
    let folder = folder(&dev());
    let path = folder.path().join("headstate.json");
    fs::write(&path, r#"{"root": "00", "accounts": {}}"#).unwrap();
    let error = ChainFolder::open(folder.path()).unwrap_err();
    assert!(
        matches!(
            error,
            ChainError::State {
                source: StateError::Root { .. },
                ..
            }
        ),
        "{error}"
    );
    fs::write(&path, "[]").unwrap();
    let error = ChainFolder::open(folder.path()).unwrap_err();
    assert!(
        matches!(
            error,
            ChainError::State {
                source: StateError::Json(_),
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn the_real_chain_of_600_blocks() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/chain");
    if !path.exists() {
        println!("skipped: no chain at {}", path.display());
        return;
    }
    let chain = ChainFolder::open(&path).unwrap();
    let head = chain.head();
    assert_eq!(head.number, 600);
    let expected = "0x44e3809c9a3cda717f00aea3a9da336d149612c8d5657fbc0028176ef8d94d2a";
    assert_eq!(head.hash.to_string(), expected);
    let expected = "0xbd6a252af394d80904c5993b859574bd4669642cea00a116970ec7887db67533";
    assert_eq!(chain.genesis_hash().to_string(), expected);
    assert_eq!(chain.chain_id(), 3_503_995_874_084_926);
    assert_eq!(chain.fork_id().hash.0, [0x37, 0x7a, 0xaa, 0x78]);
    assert_eq!(chain.fork_id().next, 0);
    // Its head state is at hand, and has the head's root.
    assert_eq!(chain.state().unwrap().len(), 194);
    let funded = "0x0c2c51a0990aee1d73c1228de158688341557508"
        .parse()
        .unwrap();
    assert!(chain.account(&funded).unwrap().balance > U256::ZERO);
    // Blocks without transactions have receipts, the others not.
    let empty = (1..=600).filter(|&number| {
        let hash = chain.canonical_hash(number).unwrap();
        chain.receipts(hash).is_some()
    });
    assert!(empty.count() > 0);
}
