//! `tercet node --discovery.dns` over a real server (knot) on loopback: what it dials, what it remembers, what it refuses.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failed expectation is the test's result

use std::path::Path;

use serde_json::Value;
use tercet_discovery::dns::{Tree, TreeUrl};
use tercet_tests::{Child, LIMIT, key, knot, tercet};

/// A node on loopback that does not speak discovery, and what it said first.
fn node(name: &str, datadir: &Path, more: &[&str]) -> (Child, Value) {
    let mut command = tercet();
    command.args(["node", "--json", "--addr", "127.0.0.1", "--port", "0"]);
    command.arg("--datadir").arg(datadir).args(more);
    let mut child = Child::spawn(name, &mut command);
    let started = child.event("started");
    (child, started)
}

fn stop(mut node: Child) {
    node.interrupt();
    let (_, status) = node.finish(LIMIT);
    assert!(status.success(), "{status}: {}", node.said());
}

#[test]
fn nodes_of_a_list_are_dialed_remembered_and_never_private_unless_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (listed, said) = node("listed", &at("listed"), &[]);
    let record = said["enr"].as_str().unwrap().parse().unwrap();
    let domain = "list.test".parse().unwrap();
    let tree = Tree::new([record], []).unwrap().sign(1, &key(1));
    let zone = tree.zone_file(&domain, Some(&"ns.test".parse().unwrap()));
    let Some((mut server, address)) = knot(folder.path(), &[("list.test", zone)]) else {
        return;
    };
    let url = TreeUrl::new(key(1).public_key(), domain).to_string();
    let address = address.to_string();
    let dns = [
        "--nodiscover",
        "--discovery.dns",
        &url,
        "--discovery.nameserver",
        &address,
    ];

    // A list from outside does not lead to this machine.
    let (mut wary, _) = node("wary", &at("wary"), &dns);
    let refused = wary.wait_for("a refusal", |line| {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_ne!(event["event"], "peer_added", "{line}");
        (event["event"] == "dns" && event["refused"] == 1).then_some(event)
    });
    assert_eq!(refused["nodes"], 0, "{refused}");
    stop(wary);

    // It does where the user has said that this machine is where the nodes are.
    let inside = [&dns[..], &["--netrestrict", "127.0.0.0/8"]].concat();
    let (mut first, _) = node("first", &at("node"), &inside);
    first.event_where("peer_added", |event| event["id"] == said["id"]);
    let read = first.event_where("dns", |event| event["nodes"] == 1);
    // The root, the empty branch of links, the node.
    assert_eq!((&read["queries"], &read["cached"]), (&3.into(), &0.into()));
    stop(first);

    // Without the server the list is as it was.
    server.kill();
    let (mut again, _) = node("again", &at("node"), &inside);
    again.event_where("peer_added", |event| event["id"] == said["id"]);
    again.event_where("dns", |event| event["nodes"] == 1 && event["cached"] == 2);
    stop(again);
    stop(listed);
}
