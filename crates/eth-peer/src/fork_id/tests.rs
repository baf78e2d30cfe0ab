//! Every fork-id vector: tables of the networks, creation, validation, both
//! thresholds, and the encodings.

use super::*;
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/vectors/fork_id.json")).unwrap()
}

fn hash(value: &Value) -> ForkHash {
    ForkHash(hex(value).try_into().unwrap())
}

fn hex(value: &Value) -> Vec<u8> {
    alloy_primitives::hex::decode(value.as_str().unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<u64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_u64().unwrap())
        .collect()
}

fn schedule(table: &Value, genesis: &Value) -> ForkSchedule {
    ForkSchedule::new(
        B256::from_slice(&hex(genesis)),
        0,
        numbers(&table["block_forks"]),
        numbers(&table["time_forks"]),
    )
}

fn point(case: &Value) -> ForkPoint {
    ForkPoint {
        number: case["head"].as_u64().unwrap(),
        timestamp: case["time"].as_u64().unwrap(),
    }
}

#[test]
fn built_in_networks_have_the_tables_of_the_vectors() {
    let vectors = vectors();
    for network in Network::ALL {
        let table = &vectors["networks"][network.name];
        assert_eq!(table["chain_id"].as_u64(), Some(network.chain_id));
        assert_eq!(
            hex(&table["genesis_hash"]),
            network.genesis_hash().as_slice()
        );
        let forks = network.forks();
        assert_eq!(forks, schedule(table, &table["genesis_hash"]));
    }
}

#[test]
fn every_id_of_every_network() {
    let mut count = 0;
    for (name, table) in vectors()["networks"].as_object().unwrap() {
        let forks = schedule(table, &table["genesis_hash"]);
        let ids = table["ids"].as_array().unwrap();
        assert_eq!(ids.len(), forks.sums.len(), "{name}");
        for (index, id) in ids.iter().enumerate() {
            // The id in force from the fork before it.
            let before = index.checked_sub(1).map_or(0, |last| forks.forks[last]);
            let head = if index <= forks.blocks {
                ForkPoint {
                    number: before,
                    timestamp: 0,
                }
            } else {
                ForkPoint {
                    number: u64::MAX,
                    timestamp: before,
                }
            };
            let fork_id = forks.fork_id(head);
            assert_eq!(fork_id.hash, hash(&id["hash"]), "{name} {index}");
            assert_eq!(fork_id.next, id["next"].as_u64().unwrap(), "{name} {index}");
            assert_eq!(
                alloy_rlp::encode(fork_id),
                hex(&id["rlp"]),
                "{name} {index}"
            );
            count += 1;
        }
    }
    assert!(count >= 40, "only {count} ids");
}

#[test]
fn creation() {
    let vectors = vectors();
    let creation = &vectors["creation"];
    let mut tables: Vec<&Value> = vec![&creation["eip6122"]];
    for group in ["eip2124", "geth_current"] {
        tables.extend(creation[group].as_object().unwrap().values());
    }
    let mut count = 0;
    for table in tables {
        let forks = schedule(table, &table["genesis"]);
        for case in table["cases"].as_array().unwrap() {
            let id = forks.fork_id(point(case));
            assert_eq!(id.hash, hash(&case["hash"]), "{case}");
            assert_eq!(id.next, case["next"].as_u64().unwrap(), "{case}");
            count += 1;
        }
    }
    assert_eq!(
        count,
        14 + 12 + 13 + 4 + 38 + 16 + 14 + 10 + creation_eip6122_cases()
    );
}

fn creation_eip6122_cases() -> usize {
    vectors()["creation"]["eip6122"]["cases"]
        .as_array()
        .unwrap()
        .len()
}

#[test]
fn a_time_fork_after_block_forks_that_never_came() {
    // EIP-6122's worked example.
    let vectors = vectors();
    let table = &vectors["creation"]["eip6122"];
    let genesis = B256::from_slice(&hex(&table["genesis"]));
    let forks = ForkSchedule::new(genesis, 0, [1_150_000], [1_668_000_000]);
    let head = ForkPoint {
        number: 1_150_000,
        timestamp: 1_668_000_000,
    };
    assert_eq!(forks.fork_id(head).hash, hash(&table["example"]["hash"]));
}

fn expect(text: &Value) -> Result<(), ForkIdError> {
    match text.as_str().unwrap() {
        "ok" => Ok(()),
        "remote_stale" => Err(ForkIdError::RemoteStale),
        "local_incompatible_or_stale" => Err(ForkIdError::LocalIncompatibleOrStale),
        other => panic!("unknown expectation {other}"),
    }
}

fn remote(case: &Value) -> ForkId {
    ForkId {
        hash: hash(&case["remote_hash"]),
        next: case["remote_next"].as_u64().unwrap(),
    }
}

#[test]
fn validation() {
    let vectors = vectors();
    let mut count = 0;
    for group in ["eip2124", "eip6122", "geth_current"] {
        let table = &vectors["validation"][group];
        let full = schedule(table, &table["genesis"]);
        let genesis = B256::from_slice(&hex(&table["genesis"]));
        let blocks_only = ForkSchedule::new(genesis, 0, numbers(&table["block_forks"]), []);
        for case in table["cases"].as_array().unwrap() {
            let forks = match case["config"].as_str() {
                Some("mainnet_block_forks_only") => &blocks_only,
                _ => &full,
            };
            let result = forks.validate(point(case), remote(case));
            assert_eq!(result, expect(&case["expect"]), "{group}: {case}");
            count += 1;
        }
    }
    assert_eq!(count, 15 + 16 + 45);
}

#[test]
fn both_thresholds() {
    let vectors = vectors();
    let table = &vectors["validation"]["alloy_threshold"];
    let geth = ForkSchedule::new(
        Network::MAINNET.genesis_hash(),
        0,
        numbers(&table["block_forks"]),
        [],
    );
    let alloy = geth
        .clone()
        .with_timestamp_threshold(ALLOY_TIMESTAMP_THRESHOLD);
    assert_eq!(
        vectors["timestamp_threshold"]["geth"].as_u64(),
        Some(TIMESTAMP_THRESHOLD)
    );
    assert_eq!(
        vectors["timestamp_threshold"]["alloy_reth"].as_u64(),
        Some(ALLOY_TIMESTAMP_THRESHOLD)
    );
    for case in table["cases"].as_array().unwrap() {
        assert_eq!(
            geth.validate(point(case), remote(case)),
            expect(&case["geth_algorithm"]),
            "{case}"
        );
        assert_eq!(
            alloy.validate(point(case), remote(case)),
            expect(&case["expect_alloy"]),
            "{case}"
        );
    }
}

#[test]
fn forks_at_or_before_the_genesis_time_do_not_count() {
    let vectors = vectors();
    let group = &vectors["time_forks_at_genesis"];
    let time = group["genesis_time"].as_u64().unwrap();
    let offset = |value: &Value| match value.as_str().unwrap() {
        "t-1" => time - 1,
        "t" => time,
        "t+1" => time + 1,
        "t+2" => time + 2,
        other => panic!("unknown offset {other}"),
    };
    let genesis = B256::repeat_byte(7);
    for case in group["cases"].as_array().unwrap() {
        let times = [offset(&case["shanghai"]), offset(&case["cancun"])];
        let forks = ForkSchedule::new(genesis, time, [], times);
        let id = forks.fork_id(ForkPoint {
            number: 0,
            timestamp: time,
        });
        assert_eq!(id.hash, ForkHash::from(genesis));
        assert_eq!(id.next, offset(&case["next"]));
    }
}

#[test]
fn encodings() {
    let vectors = vectors();
    for case in vectors["rlp"].as_array().unwrap() {
        let id = ForkId {
            hash: hash(&case["hash"]),
            next: case["next"].as_u64().unwrap(),
        };
        let rlp = hex(&case["rlp"]);
        assert_eq!(alloy_rlp::encode(id), rlp);
        assert_eq!(alloy_rlp::decode_exact::<ForkId>(&rlp).unwrap(), id);
        let entry = encode_record_entry(id);
        assert_eq!(decode_record_entry(&entry).unwrap(), id);
    }
    let extra = hex(&vectors["enr_entry_with_extra"]["value_rlp"]);
    let id = ForkId {
        hash: ForkHash([0xde, 0xad, 0xbe, 0xef]),
        next: 0xbadd_cafe,
    };
    assert_eq!(decode_record_entry(&extra).unwrap(), id);
    assert!(decode_record_entry(&[0xc0]).is_err());
    assert!(decode_record_entry(&[]).is_err());
}

#[test]
fn a_genesis_file_names_its_forks() {
    let genesis: Genesis = serde_json::from_str(
        r#"{
            "config": {
                "chainId": 5, "homesteadBlock": 0, "eip150Block": 7, "daoForkBlock": 7,
                "londonBlock": 9, "shanghaiTime": 100, "cancunTime": 200, "pragueTime": 200,
                "somedayTime": 300, "terminalTotalDifficulty": 0,
                "depositContractAddress": "0x0000000000000000000000000000000000000000"
            },
            "timestamp": "0x64", "extraData": "0x", "gasLimit": "0x1c9c380",
            "difficulty": "0x0", "alloc": {}
        }"#,
    )
    .unwrap();
    let genesis_hash = B256::repeat_byte(1);
    let forks = ForkSchedule::from_genesis(&genesis, genesis_hash);
    assert_eq!(
        forks,
        ForkSchedule::new(genesis_hash, 0, [7, 9], [200, 300])
    );
}

#[test]
fn a_node_at_block_zero_accepts_later_nodes_of_its_chain() {
    let forks = Network::MAINNET.forks();
    let latest = forks.fork_id(ForkPoint {
        number: u64::MAX,
        timestamp: u64::MAX,
    });
    assert_eq!(latest.next, 0);
    assert_eq!(forks.validate(ForkPoint::default(), latest), Ok(()));
    let other = Network::HOODI.forks().fork_id(ForkPoint::default());
    assert_eq!(
        forks.validate(ForkPoint::default(), other),
        Err(ForkIdError::LocalIncompatibleOrStale)
    );
}
