//! `tercet crawl --sqlite`, `--hello` and `--status`, and `tercet nodeset summary` over what they leave behind.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a failed expectation is the test's result

mod common;
mod responder;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};

use common::{bad_input, json, ok, tercet};
use responder::net::Network;
use rusqlite::Connection;
use serde_json::json;
use tercet_discovery::{Discovery, DiscoveryConfig, DiscoveryConfigBuilder, Protocols};
use tercet_enode::{NodeRecord, SecretKey};
use tercet_machine::MachineRng;
use tercet_nodedb::NodeDb;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn key(seed: u8) -> SecretKey {
    SecretKey::generate(&mut MachineRng::from_seed([seed; 32]))
}

/// A discovery node, and nothing behind it.
async fn service(seed: u8, config: DiscoveryConfigBuilder) -> Discovery {
    let db = NodeDb::memory().unwrap();
    Discovery::start(config.build().unwrap(), key(seed), db)
        .await
        .unwrap()
}

fn one<T: rusqlite::types::FromSql>(file: &str, query: &str) -> T {
    let connection = Connection::open(file).unwrap();
    connection.query_row(query, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_database_remembers_and_is_gone_on_from() {
    let runtime = runtime();
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
        Self::with(folder, identity, &["--identity", identity])
    }

    fn with(folder: &Path, name: &str, args: &[&str]) -> Self {
        let datadir = folder.join(name);
        let mut command = tercet(&["node", "--addr", "127.0.0.1", "--port", "0"]);
        let mut child = command
            .args(args)
            .arg("--datadir")
            .arg(datadir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
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

/// A node whose record says nothing of a chain: one that serves `network` behind a discovery node with its key.
async fn unmarked(seed: u8, folder: &Path, network: &str) -> (Running, Discovery) {
    let secret = hex::encode(*key(seed).to_bytes());
    let args = [
        "--nodiscover",
        "--networkid",
        network,
        "--nodekeyhex",
        &secret,
    ];
    let node = Running::with(folder, network, &args);
    let url: tercet_enode::EnodeUrl = node.1.parse().unwrap();
    let config = DiscoveryConfig::builder().listen("127.0.0.1:0".parse().unwrap());
    let front = service(seed, config.tcp_port(url.tcp())).await;
    (node, front)
}

#[test]
fn the_status_tells_the_chain_where_the_record_does_not() {
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let nodes = runtime.block_on(async {
        let mainnet = unmarked(1, folder.path(), "1").await;
        [mainnet, unmarked(2, folder.path(), "17000").await]
    });
    let [mainnet, holesky] = nodes.each_ref().map(|(_, front)| front.local_record());
    let boot = format!("{mainnet},{holesky}");
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (file, db) = (path("nodes.json"), path("crawl.db"));
    let ids = |file: &str| -> Vec<String> {
        let set: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        set.as_object().unwrap().keys().cloned().collect()
    };
    let crawl = |file: &str, args: &[&str]| {
        let report = json(&[&["crawl", file, "--bootnodes", &boot, "--json"], args].concat());
        (report["statuses"].clone(), ids(file))
    };
    let wanted = ["--eth-network", "holesky", "--sqlite", &db, "--status"];
    let (statuses, found) = crawl(&file, &wanted);
    assert_eq!(
        (statuses, found),
        (2.into(), vec![holesky.id().to_string()])
    );
    // The next crawl leaves them alone, and knows from the database.
    let (statuses, found) = crawl(&file, &wanted);
    assert_eq!(
        (statuses, found),
        (0.into(), vec![holesky.id().to_string()])
    );
    // By fork id it is the same; the records alone say nothing, so without a Status nobody is wanted.
    let of_mainnet = ["--fork-id", "fc64ec04", "--status"];
    let (statuses, found) = crawl(&path("mainnet.json"), &of_mainnet);
    assert_eq!(
        (statuses, found),
        (2.into(), vec![mainnet.id().to_string()])
    );
    let (_, found) = crawl(&path("none.json"), &["--eth-network", "holesky", "--hello"]);
    assert!(found.is_empty(), "{found:?}");
    bad_input(
        &["crawl", &file, "--status", "--eth-network", "olympic"],
        "expected mainnet, sepolia, holesky or hoodi",
    );
}

/// Where the only node of a crawl is on record: in its own row, and where it answered over each protocol. It begins with a record that
/// names an address of each family and is newer than the node's own, from which nothing is learnt then.
fn on_record(seed: u8, v4: SocketAddr, v6: SocketAddr) -> [String; 3] {
    let record = NodeRecord::builder()
        .seq(u64::MAX)
        .ip(v4.ip())
        .udp(v4.port())
        .ip(v6.ip())
        .udp6(v6.port());
    let record = record.sign(&key(seed)).unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (file, db) = (path("nodes.json"), path("crawl.db"));
    let report = json(&[
        "crawl",
        &file,
        "--sqlite",
        &db,
        "--bootnodes",
        &record,
        "--json",
    ]);
    assert_eq!(report["answered"], 1, "{report}");
    let answered = |protocol| {
        format!(
            "SELECT group_concat(ip || ' ' || port) FROM sightings WHERE protocol = '{protocol}' AND rtt_us > 0"
        )
    };
    let itself = "SELECT group_concat(ip || ' ' || udp) FROM nodes".to_owned();
    [itself, answered("v4"), answered("v5")].map(|query| one(&db, &query))
}

fn has_ipv6() -> bool {
    let has = std::net::UdpSocket::bind("[::1]:0").is_ok();
    if !has {
        assert!(std::env::var_os("CI").is_none(), "CI has no IPv6");
        println!("skipped: this machine has no IPv6");
    }
    has
}

#[test]
fn the_address_that_answers_is_on_record() {
    if !has_ipv6() {
        return;
    }
    let runtime = runtime();
    let config = DiscoveryConfig::builder().listen("[::1]:0".parse().unwrap());
    let node = runtime.block_on(service(1, config));
    // Nobody reads from its IPv4 address.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = format!("::1 {}", node.local_addr().port());
    let found = on_record(1, silent.local_addr().unwrap(), node.local_addr());
    assert_eq!(found, [&at; 3].map(String::clone));
}

#[test]
fn each_protocol_has_the_address_on_record_that_answers_over_it() {
    if !has_ipv6() {
        return;
    }
    let runtime = runtime();
    let listen = |at: &str| DiscoveryConfig::builder().listen(at.parse().unwrap());
    let v4 = runtime.block_on(service(1, listen("127.0.0.1:0").v5(false)));
    let v5 = runtime.block_on(service(1, listen("[::1]:0").v4(false)));
    let (v4, v5) = (v4.local_addr(), v5.local_addr());
    let [_, over_v4, over_v5] = on_record(1, v4, v5);
    assert_eq!(over_v4, format!("127.0.0.1 {}", v4.port()));
    assert_eq!(over_v5, format!("::1 {}", v5.port()));
}

#[test]
fn a_node_that_takes_no_connections_is_on_record_with_the_reason() {
    let runtime = runtime();
    // One whose port is closed, and one that hangs up on everybody.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing = closed.local_addr().unwrap();
    drop(closed);
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hangs = hanging.local_addr().unwrap();
    std::thread::spawn(move || hanging.incoming().for_each(drop));
    let nodes: Vec<Discovery> = [refusing, hangs]
        .iter()
        .enumerate()
        .map(|(seed, tcp)| {
            let config = DiscoveryConfig::builder().listen("127.0.0.1:0".parse().unwrap());
            runtime.block_on(service(seed as u8 + 1, config.tcp_port(tcp.port())))
        })
        .collect();
    let boot: Vec<String> = nodes
        .iter()
        .map(|node| node.local_record().to_string())
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (file, db) = (path("nodes.json"), path("crawl.db"));
    let report = json(&[
        "crawl",
        &file,
        "--sqlite",
        &db,
        "--bootnodes",
        &boot.join(","),
        "--hello",
        "--json",
    ]);
    // They answer over UDP, so they are in the set all the same.
    let counts = (&report["hellos"], &report["answered"], &report["nodes"]);
    assert_eq!(counts, (&0.into(), &2.into(), &2.into()), "{report}");
    let error = |port: u16| {
        let query = format!(
            "SELECT error FROM sightings WHERE protocol = 'rlpx' AND rtt_us IS NULL AND ip = '127.0.0.1' AND port = {port}"
        );
        one::<String>(&db, &query)
    };
    let (refused, hung_up) = (error(refusing.port()), error(hangs.port()));
    assert!(
        refused.starts_with("cannot connect to 127.0.0.1:"),
        "{refused}"
    );
    assert!(hung_up.contains("handshake"), "{hung_up}");
    assert_eq!(
        one::<i64>(
            &db,
            "SELECT count(*) FROM reachability WHERE protocol = 'rlpx' AND visits = 1 AND answers = 0 AND first_answer IS NULL"
        ),
        2
    );
    assert_eq!(one::<i64>(&db, "SELECT count(*) FROM hellos"), 0);
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
