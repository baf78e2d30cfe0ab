//! The commands that need no network, run as a user runs them: what they print, in both forms, and what they say to mistakes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a failed expectation is the test's result

mod common;

use std::fs;

use common::{KEY, bad_input, json, ok, run};

/// The example record of EIP-778: 127.0.0.1, UDP 30303, sequence number 1, signed by `KEY`.
const RECORD: &str = "enr:-IS4QHCYrYZbAKWCBRlAy5zzaDZXJBGkcnh4MHcBFZntXNFrdvJjX04jRzjzCBOonrkTfj499SZuOh8R33Ls8RRcy5wBgmlkgnY0gmlwhH8AAAGJc2VjcDI1NmsxoQPKY0yuDUmstAHYpMa2_oxVtw0RW_QAdpzBQA8yWM0xOIN1ZHCCdl8";
const ID: &str = "a448f24c6d18e575453db13171562b71999873db5b286df957af199ec94617f7";
const PUBLIC: &str = "ca634cae0d49acb401d8a4c6b6fe8c55b70d115bf400769cc1400f3258cd31387574077f301b421bc84df7266c44e9e6d569fc56be00812904767bf5ccd1fc7f";

#[test]
fn a_generated_key_is_inspected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodekey");
    let file = path.to_str().unwrap();
    let made = json(&["--json", "key", "generate", file]);
    let shown = json(&["key", "inspect", file, "--json"]);
    assert_eq!(made["id"], shown["id"]);
    assert_eq!(made["public_key"], shown["public_key"]);
    assert!(made.get("secret").is_none() && shown.get("secret").is_none());
    let enode = shown["enode"].as_str().unwrap();
    assert_eq!(
        enode,
        format!(
            "enode://{}@127.0.0.1:30303",
            made["public_key"].as_str().unwrap()
        )
    );

    let before = fs::read(&path).unwrap();
    bad_input(&["key", "generate", file], "exists already");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_key_can_go_to_stdout_instead() {
    let made = json(&["key", "generate", "--json"]);
    let secret = made["secret"].as_str().unwrap();
    assert_eq!(
        json(&["key", "inspect", "--nodekeyhex", secret, "--json"])["id"],
        made["id"]
    );
}

#[test]
fn inspect_shows_what_belongs_to_a_key() {
    let text = ok(&[
        "key",
        "inspect",
        "--nodekeyhex",
        KEY,
        "--ip",
        "10.3.58.6",
        "--tcp",
        "30303",
        "--udp",
        "30301",
    ]);
    assert!(text.contains(ID) && text.contains(PUBLIC), "{text}");
    assert!(text.contains("@10.3.58.6:30303?discport=30301"), "{text}");
}

#[test]
fn a_record_is_decoded() {
    let record = json(&["enr", "decode", RECORD, "--json"]);
    assert_eq!(record["id"], ID);
    assert_eq!(record["seq"], 1);
    assert_eq!(record["enr"], RECORD);
    assert_eq!(record["entries"]["ip"], "127.0.0.1");
    assert_eq!(record["entries"]["udp"], 30303);
    assert_eq!(record["entries"]["id"], "v4");
    let text = ok(&["enr", "decode", RECORD]);
    for part in [ID, "signature", "valid", "127.0.0.1", "30303", "sequence"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_record_is_signed() {
    let line = ok(&[
        "enr",
        "sign",
        "--nodekeyhex",
        KEY,
        "--ip",
        "127.0.0.1",
        "--udp",
        "30303",
    ]);
    assert_eq!(line.trim_end(), RECORD);
    let line = ok(&[
        "enr",
        "sign",
        "--nodekeyhex",
        KEY,
        "--seq",
        "9",
        "--ip",
        "10.0.0.1",
        "--ip",
        "2001:db8::1",
        "--udp",
        "1",
        "--tcp",
        "2",
        "--udp6",
        "3",
        "--tcp6",
        "4",
        "--entry",
        "eth=c7c684fc64ec0480",
        "--entry",
        "x=0x83616263",
    ]);
    let record = json(&["enr", "decode", line.trim_end(), "--json"]);
    assert_eq!(record["seq"], 9);
    let entries = &record["entries"];
    assert_eq!(
        (
            &entries["udp"],
            &entries["tcp"],
            &entries["udp6"],
            &entries["tcp6"]
        ),
        (&1.into(), &2.into(), &3.into(), &4.into())
    );
    assert_eq!(entries["ip6"], "2001:db8::1");
    assert_eq!(
        entries["eth"],
        serde_json::json!({ "fork_hash": "fc64ec04", "fork_next": 0 })
    );
    assert_eq!(entries["x"], "0x83616263");
}

#[test]
fn mistakes_are_one_line_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let short = folder.path().join("short");
    fs::write(&short, &KEY[1..]).unwrap();
    let short = short.to_str().unwrap();
    let damaged = RECORD.replace("QHCY", "QHCZ");
    let large = format!("x=b90190{}", "00".repeat(400));
    let cases: &[(&[&str], &str)] = &[
        (&["key"], "Usage"),
        (&["kez", "generate"], "'kez'"),
        (&["key", "inspect"], "required"),
        (&["key", "inspect", "/no/such/file"], "/no/such/file"),
        (&["key", "inspect", short], "63 characters"),
        (&["key", "inspect", "--nodekeyhex", "zz"], "nodekeyhex"),
        (
            &["key", "inspect", "--nodekeyhex", KEY, "--ip", "1.2.3"],
            "--ip",
        ),
        (
            &["key", "inspect", "--nodekeyhex", KEY, "--tcp", "65536"],
            "65536",
        ),
        (&["enr", "decode"], "RECORD"),
        (&["enr", "decode", "enr:"], "record"),
        (&["enr", "decode", "enr:!"], "character 5"),
        (&["enr", "decode", &damaged], "signature"),
        (&["enr", "decode", "xyz"], "enr:"),
        (&["enr", "decode", "c0"], "record"),
        (&["enr", "sign"], "--nodekey"),
        (
            &["enr", "sign", "--nodekeyhex", KEY, "--entry", "x"],
            "KEY=HEX",
        ),
        (
            &["enr", "sign", "--nodekeyhex", KEY, "--entry", "x=8"],
            "hex",
        ),
        (
            &["enr", "sign", "--nodekeyhex", KEY, "--entry", "x=8361"],
            "RLP",
        ),
        (
            &["enr", "sign", "--nodekeyhex", KEY, "--entry", &large],
            "300",
        ),
        (
            &[
                "enr",
                "sign",
                "--nodekeyhex",
                KEY,
                "--ip",
                "1.1.1.1",
                "--ip",
                "1.1.1.2",
            ],
            "at most one",
        ),
        (&["--verbosity", "6", "key", "generate"], "verbosity"),
    ];
    for (args, part) in cases {
        if *part != "Usage" {
            bad_input(args, part);
        }
    }
    // A command group without a command shows its help, which is longer.
    let output = run(&["key"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_mistyped_key_is_not_repeated() {
    let typo = KEY.replace("b71c", "x71c");
    let output = run(&["key", "inspect", "--nodekeyhex", &typo]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("71a67e11"), "{stderr}");
}

#[test]
fn help_and_version_succeed() {
    assert!(ok(&["--help"]).contains("Examples:"));
    assert!(ok(&["--version"]).starts_with("tercet "));
}
