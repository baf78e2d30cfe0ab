//! `tercet nodeset` over a node set as geth's crawler writes it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a failed expectation is the test's result

mod common;

use std::fs;

use common::{KEY, bad_input, json, ok};
use serde_json::json;

/// A set of one node with an `eth` entry of mainnet's genesis fork id, and its path.
fn set(folder: &tempfile::TempDir) -> (String, String) {
    let sign = [
        "enr",
        "sign",
        "--nodekeyhex",
        KEY,
        "--ip",
        "10.3.58.6",
        "--udp",
        "30303",
        "--tcp",
        "30303",
        "--entry",
        "eth=cac984fc64ec0483118c30",
        "--json",
    ];
    let record = json(&sign);
    let id = record["id"].as_str().unwrap().to_owned();
    let path = folder.path().join("nodes.json");
    let set = json!({ id.clone(): {
        "seq": 1, "record": record["enr"], "score": 7,
        "firstResponse": "2023-11-14T22:13:20Z", "lastResponse": "2023-11-15T22:13:20Z",
        "lastCheck": "2023-11-15T22:13:20Z",
    }});
    fs::write(&path, set.to_string()).unwrap();
    (path.to_str().unwrap().to_owned(), id)
}

#[test]
fn a_set_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = set(&folder);
    let info = json(&["nodeset", "info", &path, "--json"]);
    assert_eq!(
        (&info["nodes"], &info["keys"]["eth"]),
        (&1.into(), &1.into())
    );
    assert!(ok(&["nodeset", "info", &path]).starts_with("nodes"));
}

#[test]
fn a_set_is_filtered_to_a_set() {
    let folder = tempfile::tempdir().unwrap();
    let (path, id) = set(&folder);
    let filter = |more: &[&str]| -> serde_json::Value {
        let args = [&["nodeset", "filter", &path][..], more].concat();
        let text = ok(&args);
        let again = folder.path().join("again.json");
        fs::write(&again, &text).unwrap();
        // What comes out can go in.
        json(&["nodeset", "info", again.to_str().unwrap(), "--json"]);
        serde_json::from_str(&text).unwrap()
    };
    for passes in [
        &[][..],
        &["--eth-network", "mainnet"],
        &["--fork-id", "fc64ec04"],
        &["--enr-key", "eth", "--dialable"],
        &["--ip", "10.3.0.0/16", "--min-age", "24h", "--limit", "1"],
    ] {
        assert_eq!(filter(passes)[&id]["score"], 7, "{passes:?}");
    }
    for fails in [
        &["--eth-network", "sepolia"][..],
        &["--fork-id", "00000000"],
        &["--enr-key", "eth2"],
        &["--snap"],
        &["--les-server"],
        &["--ip", "10.4.0.0/16"],
        &["--min-age", "25h"],
        &["--limit", "0"],
    ] {
        assert_eq!(filter(fails), json!({}), "{fails:?}");
    }
}

#[test]
fn mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (path, id) = set(&folder);
    bad_input(&["nodeset", "info", "/no/such/file"], "/no/such/file");
    bad_input(&["nodeset", "filter"], "FILE");
    bad_input(
        &["nodeset", "filter", &path, "--eth-network", "x"],
        "mainnet",
    );
    bad_input(
        &["nodeset", "filter", &path, "--fork-id", "12"],
        "8 hex digits",
    );
    bad_input(
        &["nodeset", "filter", &path, "--min-age", "soon"],
        "--min-age",
    );
    bad_input(&["nodeset", "filter", &path, "--ip", "10.0.0.0/33"], "--ip");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace(&id, &"00".repeat(32))).unwrap();
    bad_input(&["nodeset", "info", &path], "is of node");
    fs::write(&path, "{").unwrap();
    bad_input(&["nodeset", "info", &path], "line 1");
}
