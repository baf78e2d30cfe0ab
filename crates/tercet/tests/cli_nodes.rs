//! What the commands that take a node, and the node's own options, say to mistakes. Nothing here opens a connection.
#![allow(clippy::unwrap_used)] // a failed expectation is the test's result

mod common;

use std::fs;

use common::{KEY, bad_input, fails};

const PUBLIC: &str = "ca634cae0d49acb401d8a4c6b6fe8c55b70d115bf400769cc1400f3258cd31387574077f301b421bc84df7266c44e9e6d569fc56be00812904767bf5ccd1fc7f";

#[test]
fn a_mistyped_node_is_one_line_that_says_where() {
    let off_curve = "00".repeat(64);
    let node = |rest: &str| format!("enode://{PUBLIC}{rest}");
    let cases = [
        (String::new(), "enode://"),
        ("127.0.0.1:30303".to_owned(), "enode://"),
        ("http://foobar".to_owned(), "enode://"),
        ("enode:/".to_owned(), "enode://"),
        ("enode://01010101@123.124.125.126:3".to_owned(), "128"),
        (node("@127.0.0.1:foo"), "character 148"),
        (node("@127.0.0.1:3?discport=foo"), "discport"),
        (node("@127.0.0.1"), "port"),
        (node("@:30303"), "character 138"),
        (node("@127.0.0.1:65536"), "65536"),
        (format!("enode://{off_curve}@127.0.0.1:30303"), "curve"),
        (
            node("@127.0.0.1:30303").replacen("ca63", "cx63", 1),
            "character 10",
        ),
        ("enr:".to_owned(), "record"),
        ("enr:-IS4Q".to_owned(), "record"),
    ];
    for command in ["ping", "requestenr", "resolve", "hello", "status"] {
        for (node, part) in &cases {
            // A word that looks like no node could be a key or an id there.
            let part = if command == "resolve" && !node.starts_with("en") {
                "64 hex digits"
            } else {
                part
            };
            bad_input(&[command, node], part);
        }
        bad_input(&[command], "NODE");
    }
}

#[test]
fn a_node_that_cannot_be_asked_is_refused_before_asking() {
    let nowhere = format!("enode://{PUBLIC}");
    for command in ["ping", "requestenr", "hello", "status"] {
        bad_input(&[command, &nowhere], "no IP address");
    }
    bad_input(&["resolve", &nowhere], "--bootnodes");
    bad_input(&["resolve", PUBLIC], "--bootnodes");
    bad_input(&["lookup"], "--bootnodes");
    bad_input(
        &[
            "hello",
            &format!("enode://{PUBLIC}@127.0.0.1:0?discport=30303"),
        ],
        "no TCP port",
    );
    let deaf = format!("enode://{PUBLIC}@127.0.0.1:30303?discport=0");
    for command in ["ping", "requestenr"] {
        bad_input(&[command, &deaf], "no UDP port");
    }
}

#[test]
fn a_name_that_leads_nowhere_is_a_failure() {
    // RFC 6761 keeps this name from ever being registered.
    fails(
        &["hello", &format!("enode://{PUBLIC}@nowhere.invalid:30303")],
        1,
        "nowhere.invalid",
    );
}

#[test]
fn mistyped_node_options_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let datadir = folder.path().to_str().unwrap();
    let good = format!("enode://{PUBLIC}@127.0.0.1:30303");
    let lists: Vec<String> = (0..17)
        .map(|n| {
            format!("enrtree://AM5FCQLWIZX2QFPNJAP7VUERCCRNGRHWZG3YYHIUV7BVDQ5FDPRT2@l{n}.org")
        })
        .collect();
    let lists = lists.join(",");
    let cases: &[(&[&str], &str)] = &[
        (&["--prot", "1"], "--prot"),
        (&["--port", "65536"], "65536"),
        (&["--discovery.port", "x"], "--discovery.port"),
        (&["--discovery.v4=perhaps"], "perhaps"),
        (
            &["--discovery.v4=false", "--discovery.v5=false"],
            "switched off",
        ),
        (&["--discovery.addr6", "127.0.0.1"], "--discovery.addr6"),
        (&["--addr", "::1", "--discovery.addr6", "::1"], "listen-v6"),
        (
            &["--discovery.dns", "enrtree://AAAA@x"],
            "number 1 in the list",
        ),
        (&["--discovery.dns", &lists], "at most"),
        (
            &["--discovery.nameserver", "1.1.1.1,dns"],
            "number 2 in the list",
        ),
        (&["--discovery.ntp", "a b"], "--discovery.ntp"),
        (&["--nat", "extip:1.2.3.4,1.2.3.5"], "one family"),
        (&["--nat", "extip:1.2.3.4,::5"], "not listened on"),
        (
            &["--bootnodes", &format!("{good},enode://12@1.2.3.4:5")],
            "number 2 in the list",
        ),
        (&["--maxpeers", "-1"], "-1"),
        (&["--netrestrict", "10.0.0.0/33"], "--netrestrict"),
        (&["--networkid", "5"], "--chain"),
        (&["--identity", "a b"], "--identity"),
        (&["--nat", "upnp"], "extip"),
        (&["--nat", "extip:here"], "extip"),
        (&["--addr", "localhost"], "--addr"),
        (&["--addr", "127.0.0.1:30303"], "--addr"),
        (&["--nodekeyhex", "12"], "nodekeyhex"),
        (&["--nodekeyhex", KEY, "--nodekey", "file"], "--nodekey"),
        (&["--nodekey", "/no/such/file"], "/no/such/file"),
        (&["--chain", "/no/such/folder"], "/no/such/folder"),
        (&["--config", "/no/such/file"], "/no/such/file"),
        (&["--nodiscover=perhaps"], "perhaps"),
    ];
    for (args, part) in cases {
        let all = [&["node", "--datadir", datadir][..], *args].concat();
        bad_input(&all, part);
    }
}

#[test]
fn mistyped_discovery_options_are_named() {
    let good = format!("enode://{PUBLIC}@127.0.0.1:30303");
    let cases: &[(&[&str], &str)] = &[
        (&["--v6"], "--v6"),
        (
            &["--bootnodes", "enode://12@1.2.3.4:5"],
            "number 1 in the list",
        ),
        (&["--network", "ropsten"], "mainnet"),
        (&["--addr", "localhost"], "IP:PORT"),
        (&["--addr", "[::1]:0", "--ipv6"], "listen-v6"),
        (&["--extaddr", "1.2.3.4,1.2.3.5"], "one family"),
        (
            &["--extaddr", "::5", "--addr", "127.0.0.1:0"],
            "not listened on",
        ),
        (&["--netrestrict", "10.0.0.0/33"], "--netrestrict"),
        (&["--ntp", "a b"], "--ntp"),
        (&["--timeout", "soon"], "--timeout"),
        (&["--timeout", "1ms"], "10 ms"),
        (&["--nodekeyhex", "12"], "nodekeyhex"),
        (&["--nodekeyhex", KEY, "--nodekey", "file"], "--nodekey"),
        (&["--nodekey", "/no/such/file"], "/no/such/file"),
    ];
    for (args, part) in cases {
        for command in [
            &["listen"][..],
            &["ping", &good],
            &["requestenr", &good],
            &["resolve", &good],
            &["lookup"],
        ] {
            bad_input(&[command, *args].concat(), part);
        }
    }
    bad_input(&["lookup", "here"], "64 hex digits");
    for command in ["lookup", "resolve"] {
        bad_input(&[command, &"ab".repeat(32), "--v4"], "public key");
    }
    bad_input(&["lookup", &"00".repeat(64)], "curve");
    bad_input(&["listen", "here"], "here");
}

#[test]
fn a_datadir_that_is_a_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    bad_input(&["node", "--datadir", file.to_str().unwrap()], "file");
}
