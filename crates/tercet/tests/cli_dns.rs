//! `tercet dns` without a server: lists that are signed, written and refused. With one: `tests/dns_knot.rs` of the workspace.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a failed expectation is the test's result

mod common;

use std::fs;
use std::path::Path;

use common::{KEY, bad_input, json, ok};
use serde_json::{Value, json};

const LIST: &str = "enrtree://AM5FCQLWIZX2QFPNJAP7VUERCCRNGRHWZG3YYHIUV7BVDQ5FDPRT2@list.example";

/// A folder with a node set of one node and a signing key.
struct List {
    folder: tempfile::TempDir,
    id: String,
    record: String,
}

impl List {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sign = [
            "enr",
            "sign",
            "--nodekeyhex",
            KEY,
            "--ip",
            "20.0.0.1",
            "--udp",
            "30303",
            "--json",
        ];
        let record = json(&sign);
        let text = |field: &str| record[field].as_str().unwrap().to_owned();
        let (id, record) = (text("id"), text("enr"));
        fs::create_dir(folder.path().join("list")).unwrap();
        let list = Self { folder, id, record };
        list.write(
            "nodes.json",
            &json!({ list.id.clone(): { "seq": 1, "record": list.record } }),
        );
        ok(&["key", "generate", &list.path("key")]);
        list
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, content: &Value) {
        fs::write(
            Path::new(&self.path("list")).join(name),
            content.to_string(),
        )
        .unwrap();
    }

    fn info(&self) -> Value {
        let text = fs::read(self.path("list/enrtree-info.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    fn sign(&self, more: &[&str]) -> Value {
        json(
            &[
                &[
                    "dns",
                    "sign",
                    &self.path("list"),
                    &self.path("key"),
                    "--json",
                ],
                more,
            ]
            .concat(),
        )
    }
}

#[test]
fn a_list_is_signed_under_growing_numbers() {
    let list = List::new();
    let (folder, key) = (list.path("list"), list.path("key"));
    bad_input(&["dns", "to-txt", &folder], "is not signed");
    bad_input(&["dns", "sign", &folder, &key], "--domain");
    assert!(!Path::new(&list.path("list/enrtree-info.json")).exists());

    let first = list.sign(&["--domain", "List.Example."]);
    assert_eq!((&first["seq"], &first["nodes"]), (&1.into(), &1.into()));
    assert!(
        first["url"].as_str().unwrap().ends_with("@list.example"),
        "{first}"
    );
    assert_eq!(list.sign(&[])["seq"], 2);
    assert_eq!(list.sign(&["--seq", "9"])["seq"], 9);
    for seq in ["9", "3"] {
        bad_input(
            &["dns", "sign", &folder, &key, "--seq", seq],
            "not higher than the last, 9",
        );
    }
    let other = list.path("other");
    ok(&["key", "generate", &other]);
    bad_input(&["dns", "sign", &folder, &other], "signed by another key");
    let info = list.info();
    assert_eq!(
        (&info["seq"], &info["url"], &info["links"]),
        (&9.into(), &first["url"], &json!([]))
    );
    assert!(
        info["signature"].is_string() && info["lastModified"].is_string(),
        "{info}"
    );
}

#[test]
fn records_are_written_in_both_forms_to_stdout_and_to_files() {
    let list = List::new();
    let mut info = json!({ "seq": 4, "links": [LIST] });
    list.write("enrtree-info.json", &info);
    list.sign(&["--domain", "list.example"]);
    let folder = list.path("list");
    let text = ok(&["dns", "to-txt", &folder]);
    let records: Value = serde_json::from_str(&text).unwrap();
    let records = records.as_object().unwrap();
    let texts: Vec<&str> = records
        .values()
        .map(|text| text.as_str().unwrap())
        .collect();
    assert!(
        records["list.example"]
            .as_str()
            .unwrap()
            .contains(" seq=5 ")
    );
    // Root, link and node: neither tree needs a branch.
    assert!(
        texts.len() == 3 && texts.contains(&LIST) && texts.contains(&list.record.as_str()),
        "{text}"
    );
    assert_eq!(ok(&["dns", "to-txt", &folder, "-"]), text);

    let zone = list.path("zone");
    let said = json(&[
        "dns",
        "to-zone",
        &folder,
        &zone,
        "--ns",
        "ns.example",
        "--json",
    ]);
    assert_eq!(
        (&said["file"], &said["records"]),
        (&zone.clone().into(), &3.into())
    );
    let zone = fs::read_to_string(zone).unwrap();
    assert!(
        zone.contains(" SOA ns.example. ") && zone.contains(&list.record[..100]),
        "{zone}"
    );
    assert!(!ok(&["dns", "to-zone", &folder]).contains("SOA"));

    // What is written is what was signed, or nothing.
    info = list.info();
    info["links"] = json!([]);
    list.write("enrtree-info.json", &info);
    bad_input(
        &["dns", "to-txt", &folder],
        "has changed since it was signed",
    );
    bad_input(&["dns", "to-zone", &folder], "sign again");
}

#[test]
fn a_fetched_list_does_not_replace_another() {
    let list = List::new();
    let folder = list.path("list");
    let before = fs::read(list.path("list/nodes.json")).unwrap();
    // Nobody is asked: the folder is looked at first.
    bad_input(
        &["dns", "sync", LIST, &folder, "--nameserver", "127.0.0.1:1"],
        "choose another folder",
    );
    list.sign(&["--domain", "other.example"]);
    bad_input(
        &["dns", "sync", LIST, &folder, "--nameserver", "127.0.0.1:1"],
        "choose another folder",
    );
    assert_eq!(fs::read(list.path("list/nodes.json")).unwrap(), before);
}

#[test]
#[cfg(target_os = "linux")] // where not even root makes files in /proc
fn where_nothing_can_be_written_nothing_is_fetched() {
    // Nobody is asked: that there is no root would be said of it.
    let server = ["--nameserver", "127.0.0.1:1"];
    let sync = ["dns", "sync", LIST, "/proc/list", server[0], server[1]];
    common::fails(&sync, 1, "cannot write /proc/list");
}

#[test]
fn mistakes_are_named() {
    let list = List::new();
    let (folder, key) = (list.path("list"), list.path("key"));
    let domain = ["--domain", "a.org"];
    let sign = |more: &[&str], part: &str| {
        bad_input(&[&["dns", "sign", &folder][..], more].concat(), part);
    };
    sign(&[], "KEYFILE");
    sign(&["/no/such/key", domain[0], domain[1]], "/no/such/key");
    sign(&[&key, "--domain", "a..org"], "--domain");
    sign(&[&key, domain[0], domain[1], "--seq", "x"], "--seq");
    bad_input(&["dns", "sign", "/no/such/list", &key], "/no/such/list");
    bad_input(&["dns", "to-txt", "/no/such/list"], "/no/such/list");
    bad_input(&["dns", "to-zone", &folder, "--ns", "a b"], "--ns");
    let sync = |args: &[&str], part: &str| bad_input(&[&["dns", "sync"][..], args].concat(), part);
    sync(&[], "URL");
    sync(&["https://list.example"], "enrtree://");
    sync(&["enrtree://list.example"], "@");
    sync(&["enrtree://AAAA@list.example"], "public key");
    sync(&[LIST, "--nameserver", "localhost"], "IP:PORT");
    sync(&[LIST, "--timeout", "soon"], "--timeout");

    list.write(
        "enrtree-info.json",
        &json!({ "seq": 1, "links": ["http://x"] }),
    );
    sign(&[&key, domain[0], domain[1]], "enrtree-info.json");
    list.write("enrtree-info.json", &json!({ "seq": "one" }));
    sign(&[&key, domain[0], domain[1]], "line 1");
    list.write("enrtree-info.json", &json!({ "seq": u64::MAX }));
    sign(&[&key, domain[0], domain[1]], "cannot grow");
    let url = "enode://ca634cae0d49acb401d8a4c6b6fe8c55b70d115bf400769cc1400f3258cd31387574077f301b421bc84df7266c44e9e6d569fc56be00812904767bf5ccd1fc7f@20.0.0.1:30303";
    list.write("enrtree-info.json", &json!({ "seq": 1 }));
    let id = "a448f24c6d18e575453db13171562b71999873db5b286df957af199ec94617f7";
    list.write("nodes.json", &json!({ id: { "record": url } }));
    sign(&[&key, domain[0], domain[1]], "has no record");
}
