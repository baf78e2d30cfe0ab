//! `tercet node` as a user runs it: nodes that meet, the commands that look at them, what survives a restart and a kill, and
//! what is said when two nodes want the same thing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failed expectation is the test's result

use std::path::Path;

use serde_json::Value;
use tercet_tests::{Child, LIMIT, tercet};

/// A node on loopback with its own folder and free ports, and what it said first.
fn node(name: &str, datadir: &Path, more: &[&str]) -> (Child, Value) {
    let mut child = spawn(name, datadir, more);
    let started = child.event("started");
    (child, started)
}

fn spawn(name: &str, datadir: &Path, more: &[&str]) -> Child {
    let mut command = tercet();
    command
        .args(["node", "--json", "--addr", "127.0.0.1", "--datadir"])
        .arg(datadir);
    if !more.contains(&"--port") {
        command.args(["--port", "0"]);
    }
    Child::spawn(name, command.args(more))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} in {value}"))
}

/// Runs `tercet` to its end: exit code, stdout, stderr.
fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let output = tercet().args(args).output().unwrap();
    let utf8 = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        utf8(output.stdout),
        utf8(output.stderr),
    )
}

/// The JSON that a successful command prints.
fn json(args: &[&str]) -> Value {
    let (code, stdout, stderr) = run(args);
    assert_eq!(code, Some(0), "{args:?}: {stderr}");
    serde_json::from_str(&stdout).unwrap()
}

/// Stops a node as Ctrl-C does; it must end cleanly.
fn stop(mut node: Child) {
    node.interrupt();
    node.event("stopping");
    let (rest, status) = node.finish(LIMIT);
    assert!(status.success(), "{status}: {}", node.said());
    assert!(
        rest.last().is_some_and(|line| line.contains("\"stopped\"")),
        "{rest:?}"
    );
}

#[test]
fn two_nodes_meet_and_commands_see_them() {
    let folder = tempfile::tempdir().unwrap();
    let (mut a, a_said) = node("a", &folder.path().join("a"), &["--identity", "first"]);
    let (enode, enr) = (text(&a_said, "enode"), text(&a_said, "enr"));
    let (mut b, b_said) = node("b", &folder.path().join("b"), &["--bootnodes", enode]);

    for (node, other) in [(&mut a, text(&b_said, "id")), (&mut b, text(&a_said, "id"))] {
        // They come from three sources, in any order.
        let mut missing = vec!["peer_added", "status_agreed", "table"];
        node.wait_for("peer, Status and table", |line| {
            let event: Value = serde_json::from_str(line).unwrap();
            missing.retain(|name| {
                let seen = match *name {
                    "table" => event["nodes"] == 1,
                    "status_agreed" => event["id"] == other && event["eth"] == 69,
                    _ => event["id"] == other,
                };
                event["event"] != *name || !seen
            });
            missing.is_empty().then_some(())
        });
    }

    // Nothing from this machine is throttled, however often it comes.
    for _ in 0..20 {
        let pong = json(&["ping", enode, "--json"]);
        assert_eq!(pong["id"], a_said["id"]);
        assert!(
            pong["rtt_ms"].as_f64().unwrap() < 5000.0 && pong["enr_seq"].as_u64().is_some(),
            "{pong}"
        );
        let hello = json(&["hello", enr, "--json"]);
        assert!(text(&hello, "client").contains("/first/"), "{hello}");
        assert_eq!(
            hello["capabilities"],
            serde_json::json!(["eth/68", "eth/69"])
        );
    }
    let status = json(&["status", enode, "--json"]);
    assert_eq!(
        (&status["network_id"], &status["eth"]),
        (&1.into(), &69.into())
    );
    assert_eq!(status["genesis"], a_said["genesis"]);
    assert_eq!(
        (&status["fork_hash"], &status["fork_next"]),
        (&"fc64ec04".into(), &1_150_000.into())
    );
    stop(b);
    a.event_where("peer_dropped", |event| event["id"] == b_said["id"]);
    stop(a);
}

#[test]
fn the_first_lines_are_the_enode_and_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = tercet();
    command
        .args(["node", "--addr", "127.0.0.1", "--port", "0", "--datadir"])
        .arg(folder.path());
    let mut node = Child::spawn("node", &mut command);
    let enode = node.line().unwrap();
    let enr = node.line().unwrap();
    assert!(enode.starts_with("enode://"), "{enode}");
    let decoded = json(&["enr", "decode", &enr, "--json"]);
    assert_eq!(decoded["enode"], enode);
    assert_eq!(decoded["entries"]["eth"]["fork_hash"], "fc64ec04");
    node.interrupt();
    let (rest, status) = node.finish(LIMIT);
    assert!(
        status.success() && rest.last().unwrap().ends_with(" stopped"),
        "{rest:?}"
    );
}

#[test]
fn the_key_stays_and_is_private() {
    let folder = tempfile::tempdir().unwrap();
    let (node_, first) = node("first", folder.path(), &[]);
    stop(node_);
    let key = folder.path().join("nodekey");
    let inspected = json(&["key", "inspect", key.to_str().unwrap(), "--json"]);
    assert_eq!(inspected["id"], first["id"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(
            std::fs::metadata(&key).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let (node_, again) = node("again", folder.path(), &[]);
    assert_eq!(again["id"], first["id"]);
    stop(node_);
}

#[test]
fn an_options_file_gives_what_flags_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    let datadir = folder.path().join("data");
    let options = format!(
        "datadir = {datadir:?}\nport = 1\nidentity = 'filed'\nnetworkid = 560048\nnodiscover = true\n"
    );
    std::fs::write(&file, options).unwrap();
    let mut command = tercet();
    command
        .args([
            "node",
            "--json",
            "--addr",
            "127.0.0.1",
            "--port",
            "0",
            "--config",
        ])
        .arg(&file);
    let mut node = Child::spawn("node", &mut command);
    let started = node.event("started");
    assert!(text(&started, "client").contains("/filed/"), "{started}");
    assert_eq!(
        (&started["network"], &started["udp"]),
        (&"hoodi".into(), &Value::Null)
    );
    assert!(datadir.join("nodekey").exists());
    stop(node);

    std::fs::write(&file, "port = 30303\nprot = 1\n").unwrap();
    let (code, stdout, stderr) = run(&["node", "--config", file.to_str().unwrap()]);
    assert_eq!(code, Some(2));
    assert!(stdout.is_empty() && stderr.lines().count() == 1, "{stderr}");
    assert!(
        stderr.contains("line 2") && stderr.contains("prot"),
        "{stderr}"
    );
}

#[test]
fn two_nodes_on_one_port_or_folder_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (a, said) = node("a", &folder.path().join("a"), &[]);
    let port = text(&said, "tcp").rsplit(':').next().unwrap().to_owned();

    let mut b = spawn(
        "b",
        &folder.path().join("b"),
        &["--port", &port, "--discovery.port", "0"],
    );
    let (rest, status) = b.finish(LIMIT);
    assert_eq!(status.code(), Some(1), "{}", b.said());
    assert!(rest.is_empty());
    assert!(
        b.said().contains(&format!("127.0.0.1:{port}")) && b.said().contains("in use"),
        "{}",
        b.said()
    );

    let mut c = spawn("c", &folder.path().join("a"), &[]);
    let (rest, status) = c.finish(LIMIT);
    assert_eq!(status.code(), Some(1), "{}", c.said());
    assert!(rest.is_empty());
    assert!(
        c.said().contains("in use by another process"),
        "{}",
        c.said()
    );
    stop(a);
}

#[test]
fn unreachable_nodes_are_one_line_and_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let (node_, said) = node("node", folder.path(), &["--nodiscover"]);
    let enode = text(&said, "enode").to_owned();
    let wrong_key = "ca634cae0d49acb401d8a4c6b6fe8c55b70d115bf400769cc1400f3258cd31387574077f301b421bc84df7266c44e9e6d569fc56be00812904767bf5ccd1fc7f";
    let address = enode.split('@').nth(1).unwrap().to_owned();
    let impostor = format!("enode://{wrong_key}@{address}");
    stop(node_);
    let (again, _) = node(
        "again",
        folder.path(),
        &[
            "--nodiscover",
            "--port",
            address.split(['?', ':']).nth(1).unwrap(),
        ],
    );
    let cases = [
        // It answers, but under another key.
        (vec!["hello", &impostor], "127.0.0.1"),
        // Nobody takes part in discovery there.
        (
            vec!["ping", impostor.trim_end_matches("?discport=0")],
            "127.0.0.1",
        ),
    ];
    for (args, part) in cases {
        let (code, stdout, stderr) = run(&args);
        assert_eq!(code, Some(1), "{args:?}: {stderr}");
        assert!(
            stdout.is_empty() && stderr.lines().count() == 1 && stderr.contains(part),
            "{args:?}: {stderr}"
        );
    }
    stop(again);
    for command in ["hello", "status"] {
        let (code, stdout, stderr) = run(&[command, &enode]);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(
            stdout.is_empty() && stderr.contains("cannot connect to 127.0.0.1"),
            "{stderr}"
        );
    }
}
