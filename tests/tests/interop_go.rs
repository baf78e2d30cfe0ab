//! Live against go-ethereum's `p2p` package: discv4 bonds and lookups both ways.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and is a driver"
)]

use serde_json::json;
use tercet_enode::NodeRecord;
use tercet_tests::{discovery, go_peer, key, node, until_live};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_bonds_with_us_and_reads_our_record() {
    let Some((mut go, _)) = go_peer("go", &json!({})) else {
        return;
    };
    let ours = discovery(&key(1), Vec::new()).await;
    let url = ours.local_node().enode_url().to_string();
    go.send(&json!({"cmd": "ping", "enode": url}));
    let pong = go.event("pong");
    assert_eq!(pong["id"], ours.local_node().id().to_string());
    assert_eq!(pong["seq"], ours.local_record().seq());

    go.send(&json!({"cmd": "enr", "enode": url}));
    let record: NodeRecord = go.event("record")["enr"].as_str().unwrap().parse().unwrap();
    assert_eq!(record, ours.local_record());
    ours.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_bond_with_it_and_read_its_record() {
    let Some((_go, up)) = go_peer("go", &json!({})) else {
        return;
    };
    let ours = discovery(&key(2), Vec::new()).await;
    let theirs: NodeRecord = up["enr"].as_str().unwrap().parse().unwrap();
    let go = node(&up["enode"]);
    let pong = ours.ping(go.clone()).await.unwrap();
    assert_eq!(pong.enr_seq, Some(theirs.seq()));
    assert_eq!(ours.request_enr(go.clone()).await.unwrap(), theirs);
    // The contact known by its URL alone is resolved to the signed record.
    let resolved = ours.resolve(go).await.unwrap().unwrap();
    assert_eq!(resolved.record(), Some(&theirs));
    ours.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_lookup_finds_through_it_whom_it_knows() {
    let Some((mut known, known_up)) = go_peer("known", &json!({})) else {
        return;
    };
    let config = json!({"Bootnodes": [known_up["enode"]]});
    let Some((mut between, between_up)) = go_peer("between", &config) else {
        return;
    };
    let known_node = node(&known_up["enode"]);
    // It tells others only of nodes that have answered it.
    between.send(&json!({"cmd": "await", "id": known_up["id"]}));
    between.event("live");

    let ours = discovery(&key(3), vec![node(&between_up["enode"])]).await;
    let found = ours.lookup(known_node.public_key()).await.unwrap();
    assert_eq!(found.first().unwrap().id(), known_node.id());
    until_live(&ours, known_node.id()).await;
    known.send(&json!({"cmd": "table"}));
    known.event("table");
    ours.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_lookup_finds_through_us_whom_we_know() {
    let known = discovery(&key(4), Vec::new()).await;
    let between = discovery(&key(5), vec![known.local_node()]).await;
    until_live(&between, known.local_node().id()).await;

    let url = between.local_node().enode_url().to_string();
    let Some((mut go, _)) = go_peer("go", &json!({"Bootnodes": [url]})) else {
        return;
    };
    let target = hex::encode(known.local_node().public_key().to_bytes());
    go.send(&json!({"cmd": "lookup", "key": target}));
    let found = go.event("nodes")["ids"].clone();
    let wanted = known.local_node().id().to_string();
    assert!(
        found.as_array().unwrap().iter().any(|id| *id == wanted),
        "{found}"
    );
    between.shutdown().await;
    known.shutdown().await;
}
