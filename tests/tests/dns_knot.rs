//! Lists of nodes in DNS over a real server (knot) on loopback: what is published is what is found.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and is a driver"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use futures::StreamExt as _;
use tercet_discovery::dns::{DnsConfig, DnsNodes, EntryHash, Tree, TreeEntry, TreeRoot, TreeUrl};
use tercet_enode::{NodeId, NodeRecord, SecretKey};
use tercet_nodedb::NodeDb;
use tercet_tests::{LIMIT, key, knot, tercet};
use tokio::time::timeout;

fn record(n: u8) -> NodeRecord {
    let key = SecretKey::from_bytes(&[n + 1; 32]).unwrap();
    NodeRecord::builder()
        .ip([20, 0, 0, n].into())
        .udp(30303)
        .tcp(30303)
        .sign(&key)
        .unwrap()
}

fn ids(numbers: impl IntoIterator<Item = u8>) -> BTreeSet<NodeId> {
    numbers.into_iter().map(|n| record(n).id()).collect()
}

fn zone(
    seed: u8,
    domain: &str,
    seq: u64,
    nodes: impl IntoIterator<Item = u8>,
    links: &[TreeUrl],
) -> (TreeUrl, String) {
    let domain = domain.parse().unwrap();
    let nodes = nodes.into_iter().map(record);
    let signed = Tree::new(nodes, links.iter().cloned())
        .unwrap()
        .sign(seq, &key(seed));
    let zone = signed.zone_file(&domain, Some(&"ns.test".parse().unwrap()));
    (TreeUrl::new(key(seed).public_key(), domain), zone)
}

/// The first `count` nodes of the list.
async fn first(nodes: &mut DnsNodes, count: usize) -> BTreeSet<NodeId> {
    let taken = nodes.by_ref().take(count).map(|node| node.id()).collect();
    timeout(LIMIT, taken).await.expect("the list's nodes")
}

fn client(list: &TreeUrl, server: SocketAddr, db: &NodeDb) -> DnsNodes {
    let config = DnsConfig {
        name_servers: vec![server],
        ..DnsConfig::default()
    };
    DnsNodes::new([list.clone()], config, Some(db.clone())).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_and_those_they_link_to_are_found_remembered_and_never_go_back() {
    let folder = tempfile::tempdir().unwrap();
    let (other, other_zone) = zone(2, "other.test", 1, [20], &[]);
    let (list, list_zone) = zone(1, "list.test", 5, 0..6, &[other]);
    // A spoiled record: another node's under this one's name.
    let spoiled = format!("{} 2419200 IN TXT", EntryHash::of(&record(3).to_string()));
    let list_zone: String = list_zone
        .lines()
        .map(|line| {
            if line.starts_with(&spoiled) {
                format!("{spoiled} \"enr:-----\"\n")
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    assert!(list_zone.contains("enr:-----"));
    let zones = [("list.test", list_zone), ("other.test", other_zone)];
    let Some((mut server, address)) = knot(folder.path(), &zones) else {
        return;
    };
    let db = NodeDb::memory().unwrap();
    let mut nodes = client(&list, address, &db);
    let met = ids([0, 1, 2, 4, 5, 20]);
    assert_eq!(first(&mut nodes, 6).await, met);
    drop(nodes);
    server.kill();

    // Published anew with an older number, and another node: refused, and the list goes on from what is remembered.
    let (_, older) = zone(1, "list.test", 4, [9], &[]);
    let folder = tempfile::tempdir().unwrap();
    let (mut server, address) = knot(folder.path(), &[("list.test", older)]).unwrap();
    let mut nodes = client(&list, address, &db);
    assert_eq!(first(&mut nodes, 6).await, met);
    // The entries cost no query: the two roots and the entry that was never had are all that is asked for.
    let counters = nodes.counters();
    assert!(
        counters.cached >= 8 && counters.queries <= 6,
        "{counters:?}"
    );
    drop(nodes);
    server.kill();

    // A higher one is followed.
    let (_, newer) = zone(1, "list.test", 6, [9], &[]);
    let folder = tempfile::tempdir().unwrap();
    let (_server, address) = knot(folder.path(), &[("list.test", newer)]).unwrap();
    let mut nodes = client(&list, address, &db);
    let newest = record(9).id();
    let found = async { while nodes.next().await.unwrap().id() != newest {} };
    timeout(LIMIT, found).await.expect("the new node");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_longer_than_plain_dns_takes_is_had() {
    let nodes: Vec<String> = (0..30).map(|n| record(n).to_string()).collect();
    let hashes = nodes.iter().map(|text| EntryHash::of(text)).collect();
    let branch = TreeEntry::Branch(hashes).to_string();
    let empty = TreeEntry::Branch(Vec::new()).to_string();
    assert!(branch.len() > 512);
    let root = TreeRoot::sign(EntryHash::of(&branch), EntryHash::of(&empty), 1, &key(1));
    let mut zone = format!(
        "$TTL 60\n@ IN SOA ns.test. me.test. 1 60 60 60 60\n@ IN NS ns.test.\n@ IN TXT \"{root}\"\n"
    );
    for text in nodes.iter().chain([&branch, &empty]) {
        let strings: Vec<&str> = text
            .as_bytes()
            .chunks(255)
            .map(|chunk| str::from_utf8(chunk).unwrap())
            .collect();
        let strings = strings.join("\" \"");
        writeln!(zone, "{} IN TXT \"{strings}\"", EntryHash::of(text)).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let Some((_server, address)) = knot(folder.path(), &[("list.test", zone)]) else {
        return;
    };
    let list = TreeUrl::new(key(1).public_key(), "list.test".parse().unwrap());
    let mut nodes = client(&list, address, &NodeDb::memory().unwrap());
    assert_eq!(first(&mut nodes, 30).await, ids(0..30));
}

fn run(arguments: &[&str], folder: &Path) -> String {
    let output = tercet()
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the program, which must fail with this exit code and one line that holds these words.
fn fails(arguments: &[&str], folder: &Path, (code, words): (i32, &str)) {
    let mut program = tercet();
    let output = program
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), said.lines().count()),
        (Some(code), 1),
        "{said}"
    );
    assert!(said.contains(words), "{said}");
}

#[test]
fn the_program_publishes_what_the_program_finds() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::create_dir(at.join("list")).unwrap();
    let rows = (0..30).map(record).map(|record| {
        let row =
            serde_json::json!({"seq": record.seq(), "record": record.to_string(), "score": 1});
        (record.id().to_string(), row)
    });
    let nodes: serde_json::Map<String, serde_json::Value> = rows.collect();
    std::fs::write(
        at.join("list/nodes.json"),
        serde_json::to_vec(&nodes).unwrap(),
    )
    .unwrap();
    run(&["key", "generate", "key"], at);
    run(&["dns", "sign", "list", "key", "--domain", "list.test"], at);
    run(&["dns", "to-zone", "list", "zone", "--ns", "ns.test"], at);
    let zone = std::fs::read_to_string(at.join("zone")).unwrap();
    let Some((mut server, address)) = knot(at, &[("list.test", zone)]) else {
        return;
    };
    let info = |path: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(at.join(path)).unwrap()).unwrap()
    };
    let signed = info("list/enrtree-info.json");
    let (url, address) = (signed["url"].as_str().unwrap(), address.to_string());
    let sync = |url: &str, address: &str| -> serde_json::Value {
        let said = run(
            &[
                "dns",
                "sync",
                url,
                "copy",
                "--nameserver",
                address,
                "--json",
            ],
            at,
        );
        serde_json::from_str(&said).unwrap()
    };
    // 30 nodes, three branches and one over them, the empty branch of links, the root.
    assert_eq!(sync(url, &address)["queries"], 36);
    let copy = info("copy/enrtree-info.json");
    for field in ["url", "seq", "signature", "links"] {
        assert_eq!(copy[field], signed[field], "{field}");
    }
    let copied = info("copy/nodes.json");
    assert_eq!(copied.as_object().unwrap().len(), 30);
    // The signature is over just these nodes.
    assert_eq!(
        run(&["dns", "to-txt", "copy"], at),
        run(&["dns", "to-txt", "list"], at)
    );

    // Once more: what has not changed is not looked up.
    assert_eq!(sync(url, &address)["queries"], 1);
    server.kill();

    // Signed anew with one node less; the copy follows, and does not go back.
    let old_zone = std::fs::read_to_string(at.join("zone")).unwrap();
    let gone = record(7).id().to_string();
    let mut less = info("list/nodes.json");
    less.as_object_mut().unwrap().remove(&gone).unwrap();
    std::fs::write(at.join("list/nodes.json"), less.to_string()).unwrap();
    run(&["dns", "sign", "list", "key"], at);
    let new_zone = run(&["dns", "to-zone", "list", "-", "--ns", "ns.test"], at);
    let (mut server, address) = knot(at, &[("list.test", new_zone)]).unwrap();
    let report = sync(url, &address.to_string());
    assert_eq!((&report["seq"], &report["nodes"]), (&2.into(), &29.into()));
    // The branches over the nodes have changed, no node has.
    assert!(report["queries"].as_u64().unwrap() <= 5, "{report}");
    server.kill();
    let (_server, address) = knot(at, &[("list.test", old_zone)]).unwrap();
    let address = address.to_string();
    fails(
        &["dns", "sync", url, "copy", "--nameserver", &address],
        at,
        (1, "the root's number 1 is lower than 2"),
    );
    assert_eq!(info("copy/enrtree-info.json")["seq"], 2);

    std::fs::write(at.join("copy/nodes.json"), "{}").unwrap();
    fails(
        &["dns", "to-txt", "copy"],
        at,
        (2, "has changed since it was signed"),
    );
}
