//! `tercet devnet`: nodes in one process find each other by discovery and carry every transaction to all.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a failed expectation is the test's result

use serde_json::Value;
use tercet_tests::{Child, LIMIT, chain_folder, say, tercet};

/// Runs a devnet that must succeed and checks what any successful one has in common.
fn devnet(nodes: usize, txs: usize, more: &[&str]) -> Value {
    let output = tercet()
        .args([
            "devnet",
            "--json",
            "--nodes",
            &nodes.to_string(),
            "--txs",
            &txs.to_string(),
        ])
        .args(more)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stderr}\n{stdout}");
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    let report = serde_json::from_str(&stdout).unwrap();
    check(&report, nodes, txs);
    report
}

fn check(report: &Value, nodes: usize, txs: usize) {
    assert_eq!(report["ok"], true);
    assert!(
        report["discovery_ms"].is_u64() && report["coverage_ms"].is_u64(),
        "{report}"
    );
    let members = report["nodes"].as_array().unwrap();
    assert_eq!(members.len(), nodes);
    for member in members {
        let count = |field: &str| member[field].as_u64().unwrap();
        assert!(
            count("table") >= 1 && count("peers_in") + count("peers_out") >= 1,
            "{member}"
        );
        assert!(member["first_peer_ms"].is_u64(), "{member}");
        assert_eq!(count("txs"), txs as u64, "{member}");
        assert!(member["enode"].as_str().unwrap().starts_with("enode://"));
        assert_eq!(member["id"].as_str().unwrap().len(), 64);
        count("duplicates");
    }
    // A connection has one end that dialed and one that did not.
    let sum = |field: &str| {
        members
            .iter()
            .map(|member| member[field].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!(sum("peers_in"), sum("peers_out"));
}

#[test]
fn nodes_find_each_other_and_share_transactions() {
    let report = devnet(5, 40, &[]);
    assert!(
        report["chain_head"]["number"].as_u64().unwrap() > 0,
        "{report}"
    );
}

/// What `./run` does when nothing is asked of it.
#[test]
fn by_default_eight_nodes_share_a_hundred_transactions_and_people_get_a_table() {
    let output = tercet().arg("devnet").output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{table}");
    let columns = [
        "table",
        "in",
        "out",
        "first peer",
        "last peer",
        "txs",
        "duplicates",
    ];
    for column in columns {
        assert!(table.contains(column), "no {column} in\n{table}");
    }
    assert!(table.contains("complete: 8 nodes"), "{table}");
    // The last column but one, before the border; any other may say 100 too.
    let txs = |line: &&str| line.split_whitespace().rev().nth(2) == Some("100");
    assert_eq!(table.lines().filter(txs).count(), 8, "{table}");
}

#[test]
fn kept_running_it_ends_when_told() {
    let mut command = tercet();
    command.args(["devnet", "--nodes", "3", "--txs", "2", "--keep", "--json"]);
    let mut devnet = Child::spawn("devnet", &mut command);
    let report = devnet.line().expect("the report");
    check(&serde_json::from_str(&report).unwrap(), 3, 2);
    devnet.interrupt();
    let (_, status) = devnet.finish(LIMIT);
    assert!(status.success(), "{status}\n{}", devnet.said());
}

#[test]
fn two_nodes_and_no_transactions_are_a_devnet_too() {
    devnet(2, 0, &[]);
}

#[test]
fn a_given_chain_is_served() {
    let Some(folder) = chain_folder() else {
        say("skipped: a_given_chain_is_served: the chain data is not beside the project");
        return;
    };
    let report = devnet(3, 10, &["--chain", folder.to_str().unwrap()]);
    assert_eq!(report["chain_head"]["number"], 600);
    assert_eq!(
        report["chain_head"]["hash"],
        "0x44e3809c9a3cda717f00aea3a9da336d149612c8d5657fbc0028176ef8d94d2a"
    );
}

#[test]
fn impossible_devnets_are_refused() {
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().to_str().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["--nodes", "1"], "--nodes"),
        (&["--nodes", "201"], "--nodes"),
        (&["--txs", "4001"], "--txs"),
        (&["--nodes", "many"], "many"),
        (&["--chain", empty], "genesis.json"),
    ];
    for (args, part) in cases {
        let output = tercet().arg("devnet").args(*args).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(
            output.stdout.is_empty() && stderr.lines().count() == 1,
            "{args:?}: {stderr}"
        );
        assert!(stderr.contains(part), "{args:?}: {stderr}");
    }
}
