//! `tercet listen` as a user runs it: what it says as its table fills, over both protocols and over one, and its end.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failed expectation is the test's result

use serde_json::Value;
use tercet_tests::{Child, LIMIT, Loopback, has, tercet};

/// A listener on loopback, and what it said first.
fn listen(name: &str, more: &[&str]) -> (Child, Value) {
    let mut command = tercet();
    command.args(["listen", "--addr", "127.0.0.1:0", "--json"]);
    let mut child = Child::spawn(name, command.args(more));
    let started = child.event("started");
    (child, started)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} in {value}"))
}

/// Stops a listener as Ctrl-C does; it must end cleanly.
fn stop(mut child: Child) {
    child.interrupt();
    let (rest, status) = child.finish(LIMIT);
    assert!(status.success(), "{status}: {}", child.said());
    let events: Vec<Value> = rest
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let last: Vec<&Value> = events
        .iter()
        .rev()
        .take(2)
        .map(|event| &event["event"])
        .collect();
    assert_eq!(last, ["stopped", "stopping"], "{rest:?}");
}

#[test]
fn each_change_of_the_table_is_told() {
    let (mut first, said) = listen("first", &[]);
    let (mut second, met) = listen("second", &["--bootnodes", text(&said, "enode")]);
    for (child, other) in [(&mut first, &met), (&mut second, &said)] {
        let added = child.event_where("added", |event| event["id"] == other["id"]);
        assert_eq!(added["address"], other["udp"], "{added}");
        assert_eq!(added["nodes"], 1, "{added}");
        assert!(
            (240..=256).contains(&added["bucket"].as_u64().unwrap()),
            "{added}"
        );
        // It was added because it answered, or answers later.
        if added["answering"] == 0 {
            child.event_where("answering", |event| {
                event["answering"] == 1 && event["id"] == other["id"]
            });
        }
    }
    stop(second);
    first.event_where("removed", |event| {
        event["id"] == met["id"] && event["nodes"] == 0
    });
    stop(first);
}

#[test]
fn one_protocol_alone_is_spoken_where_that_is_asked_for() {
    for (flag, protocol) in [("--v4", "v4"), ("--v5", "v5")] {
        let (first, said) = listen("first", &[]);
        // Over discv5 a node needs to know the other's record.
        let (mut second, _) = listen("second", &["--bootnodes", text(&said, "enr"), flag]);
        let answers = second.wait_for("an answer", |line| {
            let event: Value = serde_json::from_str(line).unwrap();
            (event["answering"] == 1).then_some(event)
        });
        assert_eq!(answers["protocols"], serde_json::json!([protocol]));
        stop(second);
        stop(first);
    }
}

#[test]
fn the_first_lines_are_the_enode_and_the_record_and_the_table_outlives_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    let key = folder.path().join("key");
    let made = tercet()
        .args(["key", "generate"])
        .arg(&key)
        .output()
        .unwrap();
    assert!(made.status.success());
    let (first, said) = listen("first", &[]);
    let start = |boot: &[&str]| {
        let mut command = tercet();
        command
            .args(["listen", "--addr", "127.0.0.1:0", "--nodedb"])
            .arg(&db);
        command.arg("--nodekey").arg(&key).args(boot);
        let mut child = Child::spawn("second", &mut command);
        let lines = [
            child.line().unwrap(),
            child.line().unwrap(),
            child.line().unwrap(),
        ];
        assert!(
            lines[0].starts_with("enode://") && lines[1].starts_with("enr:"),
            "{lines:?}"
        );
        assert!(lines[2].contains(" listens on UDP 127.0.0.1:"), "{lines:?}");
        child.wait_for("an answer", |line| {
            let known = line.contains(&text(&said, "id")[..8]);
            (known && line.ends_with("nodes 1, answering 1")).then_some(())
        });
        child.interrupt();
        let (rest, status) = child.finish(LIMIT);
        assert!(
            status.success() && rest.last().unwrap().ends_with(" stopped"),
            "{rest:?}"
        );
        lines[0].clone()
    };
    let enode = start(&["--bootnodes", text(&said, "enode")]);
    // The node that answered is remembered, and the key is the same.
    let again = start(&[]);
    assert_eq!(enode[..136], again[..136]);
    stop(first);
}

#[test]
fn ipv6_is_listened_on_beside_ipv4_where_that_is_asked_for() {
    if !has(&Loopback::V6.any_port()) {
        return;
    }
    let (first, said) = listen("first", &["--ipv6"]);
    let (udp, udp6) = (text(&said, "udp"), text(&said, "udp6"));
    let port = udp.strip_prefix("127.0.0.1:").unwrap();
    assert_eq!(udp6, format!("[::1]:{port}"));
    let (key, _) = text(&said, "enode").split_once('@').unwrap();
    let url = format!("{key}@[::1]:{port}");
    let output = tercet().args(["ping", &url, "--json"]).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let pong: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&pong["id"], &pong["address"]),
        (&said["id"], &said["udp6"])
    );
    stop(first);
}
