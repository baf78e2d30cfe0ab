//! Holds the workspace to its layers: which crate may name which other one, what
//! a pure core may not need, and what every crate has to carry. It reads Cargo's
//! own description of the workspace, so a new edge fails here first.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tercet_tests::workspace_dir;

/// Each crate with the crates of the workspace that it may depend on, lowest layer
/// first. `server` is the only way from the top to what lies below it.
const LAYERS: &[(&str, &[&str])] = &[
    ("tercet-enode", &[]),
    ("tercet-machine", &[]),
    ("tercet-nodedb", GROUND),
    (
        "tercet-discovery",
        &["tercet-enode", "tercet-machine", "tercet-nodedb"],
    ),
    ("tercet-rlpx", GROUND),
    (
        "tercet-server",
        &[
            "tercet-enode",
            "tercet-machine",
            "tercet-nodedb",
            "tercet-discovery",
            "tercet-rlpx",
        ],
    ),
    (
        "tercet-eth-peer",
        &["tercet-enode", "tercet-machine", "tercet-server"],
    ),
    ("tercet", STACK),
    ("tercet-sim", &["tercet-machine"]),
    ("tercet-tests", EVERYTHING),
    ("tercet-fuzz", EVERYTHING),
];
const GROUND: &[&str] = &["tercet-enode", "tercet-machine"];
const STACK: &[&str] = &[
    "tercet-enode",
    "tercet-machine",
    "tercet-nodedb",
    "tercet-discovery",
    "tercet-rlpx",
    "tercet-server",
    "tercet-eth-peer",
];
const EVERYTHING: &[&str] = &[
    "tercet-enode",
    "tercet-machine",
    "tercet-nodedb",
    "tercet-discovery",
    "tercet-rlpx",
    "tercet-server",
    "tercet-eth-peer",
    "tercet-sim",
];

/// A crate's own tests may use these beside what its row allows.
const FOR_TESTS: &[&str] = &["tercet-sim"];

/// External crates that only the named one may depend on: there is one Keccak, one
/// signature type and one disk store in the workspace. (Tests and benchmarks may
/// name the first three to measure against them.)
const ONE_HOME: &[(&str, &str)] = &[
    ("sha3", "tercet-enode"),
    ("keccak-asm", "tercet-enode"),
    ("secp256k1", "tercet-enode"),
    ("rocksdb", "tercet-nodedb"),
];

/// What a pure core does without: in a library these are optional.
const DRIVERS: &[&str] = &[
    "tokio",
    "tokio-util",
    "socket2",
    "hickory-resolver",
    "rocksdb",
    "quinn-udp",
];

struct Dependency {
    name: String,
    optional: bool,
    for_tests: bool,
}

fn packages() -> BTreeMap<String, (Value, Vec<Dependency>)> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--no-deps",
        ])
        .current_dir(workspace_dir())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let package = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let dependencies = dependencies.map(|dependency| Dependency {
            name: dependency["name"].as_str().unwrap().to_owned(),
            optional: dependency["optional"] == true,
            for_tests: dependency["kind"] == "dev",
        });
        let name = package["name"].as_str().unwrap().to_owned();
        (name, (package.clone(), dependencies.collect()))
    };
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().map(package).collect()
}

fn allowed(package: &str) -> &'static [&'static str] {
    let row = LAYERS.iter().find(|(name, _)| *name == package);
    row.unwrap_or_else(|| panic!("{package} has no row in the table of layers"))
        .1
}

fn is_library(package: &str) -> bool {
    STACK.contains(&package) || package == "tercet-sim"
}

#[test]
fn every_crate_names_only_lower_layers() {
    let packages = packages();
    assert_eq!(packages.len(), LAYERS.len(), "{:?}", packages.keys());
    for (package, (_, dependencies)) in &packages {
        let allowed = allowed(package);
        let ours = dependencies
            .iter()
            .filter(|d| packages.contains_key(&d.name));
        for Dependency {
            name, for_tests, ..
        } in ours
        {
            let tests_only = *for_tests && (FOR_TESTS.contains(&name.as_str()) || name == package);
            assert!(
                allowed.contains(&name.as_str()) || tests_only,
                "{package} may not depend on {name}: its layer allows {allowed:?}"
            );
        }
    }
}

#[test]
fn the_table_itself_only_points_down() {
    for (position, (package, allowed)) in LAYERS.iter().enumerate() {
        for name in *allowed {
            let lower = LAYERS.iter().position(|(other, _)| other == name).unwrap();
            assert!(
                lower < position,
                "{package} allows {name}, which lies above"
            );
        }
    }
}

#[test]
fn what_has_one_home_is_named_there_only() {
    for (package, (_, dependencies)) in packages() {
        for (external, home) in ONE_HOME {
            let named = dependencies
                .iter()
                .any(|d| d.name == *external && (!d.for_tests || *external == "rocksdb"));
            assert!(
                !named || package == *home,
                "{package} depends on {external}, which belongs in {home}"
            );
        }
    }
}

#[test]
fn cores_need_no_runtime_socket_or_disk() {
    for (package, (_, dependencies)) in packages() {
        if !is_library(&package) {
            continue;
        }
        for Dependency {
            name,
            optional,
            for_tests,
        } in &dependencies
        {
            assert!(
                !DRIVERS.contains(&name.as_str()) || *optional || *for_tests,
                "{package} needs {name} even with --no-default-features"
            );
        }
    }
}

#[test]
fn every_crate_takes_the_shared_lints_and_is_ready_to_publish() {
    for (package, (metadata, _)) in packages() {
        let manifest = Path::new(metadata["manifest_path"].as_str().unwrap());
        let text = std::fs::read_to_string(manifest).unwrap();
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "{package} does not take the workspace's lints"
        );
        assert_eq!(metadata["license"], "MIT OR Apache-2.0", "{package}");
        assert!(metadata["description"].is_string(), "{package}");
        if is_library(&package) || package == "tercet" {
            let readme = manifest.with_file_name("README.md");
            let readme = std::fs::read_to_string(readme)
                .unwrap_or_else(|error| panic!("{package} has no README.md: {error}"));
            assert!(
                readme.lines().count() > 5,
                "{package} has an empty README.md"
            );
        }
    }
}
