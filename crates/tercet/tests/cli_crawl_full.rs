//! `tercet crawl --sqlite`, `--hello` and `--status`, and `tercet nodeset summary` over what they leave behind.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a failed expectation is the test's result

mod common;
mod responder;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use common::{bad_input, json, ok, tercet};
use responder::net::Network;
use rusqlite::Connection;
use serde_json::json;
use tercet_discovery::Protocols;

fn one<T: rusqlite::types::FromSql>(file: &str, query: &str) -> T {
    let connection = Connection::open(file).unwrap();
    connection.query_row(query, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_database_remembers_and_is_gone_on_from() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let thirds = |number| [Protocols::ALL, Protocols::V4, Protocols::V5][number % 3];
    let network = runtime.block_on(Network::start(30, thirds));
    let boot = network.world.node(0).record().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (file, db) = (path("nodes.json"), path("crawl.db"));

    let report = json(&[
        "crawl",
        &file,
        "--sqlite",
        &db,
        "--bootnodes",
        &boot,
        "--json",
    ]);
    assert_eq!(
        (&report["complete"], &report["nodes"]),
        (&true.into(), &30.into())
    );
    assert_eq!(
        one::<i64>(
            &db,
            "SELECT count(*) FROM nodes WHERE score = 1 AND udp > 0 AND ip LIKE '127.77.%'"
        ),
        30
    );
    let answered = |protocol: &str| {
        let query = format!(
            "SELECT count(*) FROM sightings WHERE protocol = '{protocol}' AND rtt_us > 0 AND crawl = 1"
        );
        one::<i64>(&db, &query)
    };
    assert_eq!((answered("v4"), answered("v5")), (20, 20));
    // Who answers over one protocol alone was asked over both, and that it is silent is on record.
    assert_eq!(
        one::<i64>(&db, "SELECT count(*) FROM reachability WHERE answers = 0"),
        20
    );
    assert_eq!(
        one::<i64>(
            &db,
            "SELECT count(*) FROM crawls WHERE complete AND ended >= started"
        ),
        1
    );
    assert_eq!(
        one::<i64>(
            &db,
            "SELECT count(*) FROM nodes WHERE fork_hash = x'fc64ec04' AND fork_next = 1150000"
        ),
        30
    );

    // Without the file of records the database is enough: it names whom to ask, and that they were asked just now.
    fs::remove_file(&file).unwrap();
    let report = json(&["crawl", &file, "--sqlite", &db, "--json"]);
    assert_eq!(
        (&report["recent"], &report["answered"], &report["nodes"]),
        (&30.into(), &0.into(), &30.into())
    );
    // Long ago they are asked again.
    let connection = Connection::open(&db).unwrap();
    connection
        .execute("UPDATE nodes SET last_check = 1, score = 6", [])
        .unwrap();
    drop(connection);
    fs::remove_file(&file).unwrap();
    let report = json(&["crawl", &file, "--sqlite", &db, "--json"]);
    assert_eq!(
        (&report["recent"], &report["answered"]),
        (&0.into(), &30.into())
    );
    assert_eq!(
        one::<i64>(&db, "SELECT count(*) FROM nodes WHERE score = 7"),
        30
    );
    assert_eq!(
        one::<i64>(
            &db,
            "SELECT visits FROM reachability WHERE protocol = 'v4' AND answers = 2 LIMIT 1"
        ),
        2
    );
    assert_eq!(one::<i64>(&db, "SELECT count(*) FROM crawls"), 3);

    let summary = json(&["nodeset", "summary", &db, "--json"]);
    let expected = json!({
        "nodes": 30, "clients": { "unknown": 30 }, "forks": { "mainnet fc64ec04": 30 },
        "protocols": { "discv4": 20, "discv5": 20 },
    });
    assert_eq!(summary, expected);
    let summary = json(&["nodeset", "summary", &file, "--json"]);
    assert_eq!(
        summary["protocols"],
        json!({ "udp": 30, "eth": 30, "snap": 15 })
    );
    let text = ok(&["nodeset", "summary", &db]);
    assert!(
        text.contains("by fork") && text.contains("  mainnet fc64ec04  30"),
        "{text}"
    );
}

/// A `tercet node` on loopback, killed in the end.
struct Running(Child, String);

impl Running {
    fn start(folder: &Path, identity: &str) -> Self {
        let datadir = folder.join(identity);
        let args = [
            "node",
            "--addr",
            "127.0.0.1",
            "--port",
            "0",
            "--identity",
            identity,
            "--datadir",
        ];
        let mut command = tercet(&args);
        let mut child = command.arg(datadir).stdout(Stdio::piped()).spawn().unwrap();
        let mut enode = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut enode)
            .unwrap();
        Self(child, enode.trim().to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn nodes_say_who_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = [
        Running::start(folder.path(), "a"),
        Running::start(folder.path(), "b"),
    ];
    let boot = format!("{},{}", nodes[0].1, nodes[1].1);
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (file, db) = (path("nodes.json"), path("crawl.db"));
    let report = json(&[
        "crawl",
        &file,
        "--sqlite",
        &db,
        "--bootnodes",
        &boot,
        "--status",
        "--json",
    ]);
    assert_eq!(
        (&report["hellos"], &report["statuses"]),
        (&2.into(), &2.into()),
        "{report}"
    );
    assert_eq!(
        (&report["answered_v4"], &report["complete"]),
        (&2.into(), &true.into())
    );
    let names: String = one(
        &db,
        "SELECT group_concat(name, ' ') FROM (SELECT name FROM clients ORDER BY name)",
    );
    let names: Vec<_> = names.split(' ').collect();
    assert!(
        matches!(names[..], [a, b] if a.starts_with("Tercet/a/v") && b.starts_with("Tercet/b/v")),
        "{names:?}"
    );
    assert_eq!(
        one::<i64>(
            &db,
            "SELECT count(*) FROM capabilities WHERE name = 'eth' AND version = 69"
        ),
        2
    );
    let chain = "SELECT count(*) FROM statuses WHERE network_id = 1 AND length(genesis) = 32 AND fork_hash = x'fc64ec04'";
    assert_eq!(one::<i64>(&db, chain), 2);
    assert_eq!(
        one::<i64>(
            &db,
            "SELECT count(*) FROM reachability WHERE protocol = 'rlpx' AND answers = 1"
        ),
        2
    );
    let summary = json(&["nodeset", "summary", &db, "--json"]);
    assert_eq!(summary["clients"], json!({ "Tercet": 2 }));
    assert_eq!(summary["protocols"]["eth/69"], 2);
    assert_eq!(summary["protocols"]["rlpx"], 2);

    // A filter decides who is dialled, and a node that has gone is on record with the reason.
    let other = path("other.json");
    let none = json(&[
        "crawl",
        &other,
        "--bootnodes",
        &boot,
        "--hello",
        "--eth-network",
        "sepolia",
        "--json",
    ]);
    assert_eq!(
        (&none["hellos"], &none["answered"]),
        (&0.into(), &2.into()),
        "{none}"
    );
}

#[test]
fn mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (file, text, other) = (path("nodes.json"), path("text"), path("other.db"));
    fs::write(
        &text,
        "neither a database nor a node set, and long enough to be one\n".repeat(20),
    )
    .unwrap();
    Connection::open(&other)
        .unwrap()
        .execute_batch("CREATE TABLE t (x)")
        .unwrap();
    for db in [&text, &other] {
        bad_input(
            &["crawl", &file, "--sqlite", db, "--network", "mainnet"],
            "is no crawl database",
        );
    }
    bad_input(
        &[
            "crawl",
            &file,
            "--sqlite",
            &path("no/folder/x.db"),
            "--bootnodes",
            "x",
        ],
        "--bootnodes",
    );
    bad_input(&["nodeset", "summary", &text], "is no node set");
    bad_input(&["nodeset", "summary", &other], "is no crawl database");
    bad_input(&["nodeset", "summary", &path("none")], "none");
    assert!(!Path::new(&file).exists());
}
