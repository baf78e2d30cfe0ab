//! `tercet crawl` over a network of discovery nodes on loopback.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a failed expectation is the test's result

mod common;
mod responder;

use std::collections::BTreeSet;
use std::fs;

use common::{bad_input, fails, json, ok};
use responder::net::Network;
use tercet_discovery::{Discovery, DiscoveryConfig, Protocols};
use tercet_enode::SecretKey;
use tercet_machine::MachineRng;
use tercet_nodedb::NodeDb;

/// More than a lookup returns, so that the key space has to be cut.
const NODES: u8 = 24;

/// Nodes that know the first one and have looked themselves up. Even ones say that they serve snap.
async fn network() -> Vec<Discovery> {
    let mut nodes: Vec<Discovery> = Vec::new();
    for seed in 0..NODES {
        let mut config = DiscoveryConfig::builder()
            .listen("127.0.0.1:0".parse().unwrap())
            .bootnodes(
                nodes
                    .first()
                    .map(Discovery::local_node)
                    .into_iter()
                    .collect(),
            );
        if seed % 2 == 0 {
            config = config.entry(*b"snap", vec![0xc0]);
        }
        let key = SecretKey::generate(&mut MachineRng::from_seed([seed; 32]));
        let db = NodeDb::memory().unwrap();
        let node = Discovery::start(config.build().unwrap(), key, db);
        nodes.push(node.await.unwrap());
    }
    for node in &nodes {
        node.refresh().await.unwrap();
    }
    nodes
}

fn ids(file: &str) -> BTreeSet<String> {
    let set: serde_json::Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    set.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn a_network_is_found_whole_and_found_again() {
    let runtime = runtime();
    let nodes = runtime.block_on(network());
    let all: BTreeSet<String> = nodes
        .iter()
        .map(|node| node.local_node().id().to_string())
        .collect();
    let boot = nodes[0].local_node().enode_url().to_string();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();

    let file = path("nodes.json");
    let report = json(&["crawl", &file, "--bootnodes", &boot, "--json"]);
    assert_eq!(report["complete"], true, "{report}");
    assert_eq!(report["nodes"], u64::from(NODES), "{report}");
    let over = (&report["answered_v4"], &report["answered_v5"]);
    assert_eq!(over, (&24.into(), &24.into()), "{report}");
    assert_eq!(ids(&file), all);
    let info = json(&["nodeset", "info", &file, "--json"]);
    assert_eq!(
        (&info["nodes"], &info["keys"]["snap"]),
        (&24.into(), &12.into())
    );

    // The file is enough to go on from, and whoever was checked just now is left alone.
    let again = json(&["crawl", &file, "--json"]);
    assert_eq!(
        (&again["recent"], &again["answered"]),
        (&24.into(), &0.into())
    );
    assert_eq!(ids(&file), all);

    let snap = path("snap.json");
    ok(&[
        "crawl",
        &snap,
        "--bootnodes",
        &boot,
        "--snap",
        "--parallel",
        "4",
    ]);
    assert_eq!(ids(&snap).len(), 12);

    // Checked long ago: the one that has gone loses half its score, the others gain one.
    let old = fs::read_to_string(&file).unwrap();
    let old: String = old
        .lines()
        .map(|line| match line.split_once("\"lastCheck\"") {
            Some((indent, _)) => format!("{indent}\"lastCheck\": \"2020-01-01T00:00:00Z\"\n"),
            None => format!("{}\n", line.replace("\"score\": 1", "\"score\": 6")),
        })
        .collect();
    fs::write(&file, old).unwrap();
    let gone = nodes[5].local_node().id().to_string();
    runtime.block_on(nodes[5].shutdown());
    let report = json(&["crawl", &file, "--json"]);
    // The crawlers before this one have gone too, and some node may still name them.
    assert_eq!(report["answered"], 23, "{report}");
    assert!(report["silent"].as_u64() >= Some(1), "{report}");
    let set: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    for id in &all {
        assert_eq!(set[id]["score"], if *id == gone { 3 } else { 7 }, "{id}");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().build().unwrap()
}

/// A third answers over both protocols, a third over discv4 alone, a third over discv5 alone.
fn thirds(number: usize) -> Protocols {
    [Protocols::ALL, Protocols::V4, Protocols::V5][number % 3]
}

#[test]
fn each_protocol_finds_its_nodes_and_both_find_all() {
    let runtime = runtime();
    let network = runtime.block_on(Network::start(60, thirds));
    // The first speaks both.
    let boot = network.world.node(0).record().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    for (protocol, nodes, over) in [
        ("both", 60, (40, 40)),
        ("v4", 40, (40, 0)),
        ("v5", 40, (0, 40)),
    ] {
        let file = folder.path().join(protocol).to_str().unwrap().to_owned();
        let report = json(&[
            "crawl",
            &file,
            "--bootnodes",
            &boot,
            "--protocol",
            protocol,
            "--json",
        ]);
        assert_eq!(report["complete"], true, "{report}");
        let expected: Vec<String> = (0..60)
            .filter(|number| {
                let speaks = thirds(*number);
                protocol == "both"
                    || speaks == Protocols::ALL
                    || (speaks == Protocols::V4) == (protocol == "v4")
            })
            .map(|number| network.world.node(number).id().to_string())
            .collect();
        assert_eq!(ids(&file), expected.into_iter().collect(), "{protocol}");
        assert_eq!(report["nodes"], nodes);
        let counts = (&report["answered_v4"], &report["answered_v5"]);
        assert_eq!(counts, (&over.0.into(), &over.1.into()), "{report}");
        assert!(
            report["rtt_ms"].as_f64().unwrap() > 0.0 && report["sent_bytes"].as_u64().unwrap() > 0
        );
    }
}

#[test]
fn filters_keep_the_wanted_though_all_are_asked() {
    let runtime = runtime();
    let network = runtime.block_on(Network::start(40, |_| Protocols::V5));
    let boot = network.world.node(1).record().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = folder
        .path()
        .join("nodes.json")
        .to_str()
        .unwrap()
        .to_owned();
    let crawl = |more| {
        [
            "crawl",
            &file,
            "--bootnodes",
            &boot,
            "--protocol",
            "v5",
            more,
        ]
    };
    for (filter, kept) in [
        (&["--enr-key", "snap"][..], 20),
        (&["--fork-id", "fc64ec04"], 40),
        (&["--fork-id", "00000000"], 0),
        (&["--eth-network", "mainnet", "--snap"], 20),
        (&["--eth-network", "sepolia"], 0),
    ] {
        let args = crawl("--json");
        let report = json(&[&args[..], filter].concat());
        assert_eq!(
            (&report["answered"], &report["nodes"]),
            (&40.into(), &kept.into()),
            "{filter:?}"
        );
        fs::remove_file(&file).unwrap();
    }
    // A slip does not cost the nodes that are there.
    ok(&crawl("--snap"));
    let before = fs::read_to_string(&file).unwrap();
    let slip = [&crawl("--eth-network")[..], &["hoodi"]].concat();
    fails(&slip, 1, "passes the filters, so");
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
}

#[test]
fn mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nodes.json");
    let file = file.to_str().unwrap();
    bad_input(&["crawl"], "OUT.json");
    bad_input(&["crawl", file], "--bootnodes");
    bad_input(&["crawl", file, "--network", "ropsten"], "mainnet");
    bad_input(&["crawl", file, "--parallel", "0"], "1 to");
    bad_input(&["crawl", file, "--timeout", "x"], "--timeout");
    bad_input(&["crawl", file, "--protocol", "v6"], "both");
    bad_input(
        &["crawl", file, "--bootnodes", "enode://12@1.2.3.4:5"],
        "number 1",
    );
    // A bound socket that never answers.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let key = SecretKey::generate(&mut MachineRng::from_seed([9; 32])).public_key();
    let endpoint = tercet_enode::Endpoint::new(
        [127, 0, 0, 1].into(),
        socket.local_addr().unwrap().port(),
        0,
    );
    let silent = tercet_enode::Node::new(key, endpoint)
        .enode_url()
        .to_string();
    fails(
        &["crawl", file, "--bootnodes", &silent],
        1,
        "the one node to begin with has not answered",
    );
    assert!(!std::path::Path::new(file).exists());
    // Said before anybody is asked, not after half an hour.
    let nowhere = folder.path().join("none/nodes.json");
    fails(
        &["crawl", nowhere.to_str().unwrap(), "--bootnodes", &silent],
        1,
        "cannot write the node set",
    );
    let other_family = ["--bootnodes", &silent, "--addr", "[::1]:0"];
    if std::net::UdpSocket::bind("[::1]:0").is_ok() {
        let args = [&["crawl", file][..], &other_family].concat();
        fails(&args, 1, "the one node to begin with has no address");
        let key = SecretKey::generate(&mut MachineRng::from_seed([8; 32])).public_key();
        let two = format!(
            "{silent},{}",
            tercet_enode::Node::new(key, endpoint).enode_url()
        );
        let args = ["crawl", file, "--bootnodes", &two, "--addr", "[::1]:0"];
        fails(&args, 1, "none of the 2 nodes to begin with has an address");
    }
    // Of a node that is named by its key alone.
    let over_v5 = ["crawl", file, "--bootnodes", &silent, "--protocol", "v5"];
    fails(&over_v5, 1, "has no ENR with an address");
    fs::write(file, "{").unwrap();
    bad_input(&["crawl", file], "line 1");
}
