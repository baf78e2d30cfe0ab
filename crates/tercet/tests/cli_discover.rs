//! `tercet ping`, `requestenr`, `resolve` and `lookup` against discovery services on loopback, over both protocols and over
//! either. What they say to mistakes is in `cli_nodes`; `tercet listen` is in the workspace's `program_listen`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // a failed expectation is the test's result

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{fails, json, ok};
use serde_json::Value;
use tercet_discovery::{
    Discovery, DiscoveryConfig, DiscoveryConfigBuilder, Protocol, TableSnapshot,
};
use tercet_enode::{NodeId, SecretKey};
use tercet_machine::MachineRng;
use tercet_nodedb::NodeDb;
use tokio::time::timeout;

/// Nothing takes this long on an idle machine.
const LIMIT: Duration = Duration::from_secs(60);

fn key(seed: u8) -> SecretKey {
    SecretKey::generate(&mut MachineRng::from_seed([seed; 32]))
}

async fn service(seed: u8, config: DiscoveryConfigBuilder) -> Discovery {
    let db = NodeDb::memory().unwrap();
    let config = config.build().unwrap();
    Discovery::start(config, key(seed), db).await.unwrap()
}

fn loopback() -> DiscoveryConfigBuilder {
    DiscoveryConfig::builder().listen("127.0.0.1:0".parse().unwrap())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn enode(service: &Discovery) -> String {
    service.local_node().enode_url().to_string()
}

#[test]
fn a_node_is_asked_over_the_protocols_it_speaks() {
    let runtime = runtime();
    let start = |seed, v4, v5| runtime.block_on(service(seed, loopback().v4(v4).v5(v5)));
    let services = [
        (start(1, true, true), true, true),
        (start(2, true, false), true, false),
        (start(3, false, true), false, true),
    ];
    for (service, v4, v5) in &services {
        let record = service.local_record();
        let address = service.local_addr().to_string();
        for name in [enode(service), record.to_string()] {
            for (flag, works) in [(None, *v4 && *v5), (Some("--v4"), *v4), (Some("--v5"), *v5)] {
                // Who answers has all the time there is; who does not is not waited for long.
                let time = if works { "10s" } else { "200ms" };
                let run = |command: &'static str| -> Vec<&str> {
                    let args = [
                        Some(command),
                        Some(name.as_str()),
                        Some("--timeout"),
                        Some(time),
                        flag,
                    ];
                    args.into_iter().flatten().collect()
                };
                if flag.is_none() && !works {
                    // Silent over one protocol, it is asked over the other.
                    let ping = json(&["ping", &name, "--json"]);
                    assert_eq!(ping["protocol"], if *v4 { "v4" } else { "v5" }, "{ping}");
                    continue;
                }
                if !works {
                    for command in ["ping", "requestenr", "resolve"] {
                        fails(&run(command), 1, &format!("{address}: no reply in time"));
                    }
                    continue;
                }
                let ping = json(&[&run("ping")[..], &["--json"]].concat());
                assert_eq!(ping["id"], record.id().to_string(), "{flag:?}");
                assert_eq!(ping["enr_seq"], record.seq(), "{ping}");
                let over = flag.map(|flag| flag.trim_start_matches('-'));
                let over = over.or((!*v5).then_some("v4")).or((!*v4).then_some("v5"));
                assert!(
                    over.is_none_or(|over| ping["protocol"] == over),
                    "{flag:?} {ping}"
                );
                assert!(
                    ping["seen_as"].as_str().unwrap().starts_with("127.0.0.1:"),
                    "{ping}"
                );
                assert_eq!(ok(&run("requestenr")).trim_end(), record.to_string());
                let resolved = json(&[&run("resolve")[..], &["--json"]].concat());
                assert_eq!(resolved["enr"], record.to_string());
                // The record is news to whoever came with the URL.
                assert_eq!(resolved["newer"], name.starts_with("enode"), "{resolved}");
            }
        }
    }
    assert!(ok(&["ping", &enode(&services[0].0)]).starts_with("pong from 127.0.0.1:"));
}

#[test]
fn a_node_is_found_by_its_name_alone() {
    let runtime = runtime();
    let first = runtime.block_on(service(11, loopback()));
    let boot = enode(&first);
    let others: Vec<Discovery> = (12..16)
        .map(|seed| {
            let config = loopback().bootnodes(vec![first.local_node()]);
            runtime.block_on(service(seed, config))
        })
        .collect();
    // A node is told to others over the protocols it has answered over, and over discv5 only those at some distances are.
    let all: Vec<&Discovery> = others.iter().chain([&first]).collect();
    let met = async {
        for one in &all {
            for other in &all {
                let node = other.local_node();
                if node.id() == one.local_node().id() {
                    continue;
                }
                for protocol in [Protocol::V4, Protocol::V5] {
                    one.ping_over(node.clone(), protocol).await.unwrap();
                }
            }
        }
    };
    runtime
        .block_on(async { timeout(LIMIT, met).await })
        .expect("all are met over both");
    let sought = others.last().unwrap().local_node();
    let public = hex::encode(sought.public_key().to_bytes());
    let nowhere = format!("enode://{public}");
    let id = sought.id().to_string();
    for (name, flags) in [
        (&public, &[][..]),
        (&nowhere, &["--v4"]),
        (&public, &["--v5"]),
        (&id, &["--v5"]),
        (&id, &[]),
    ] {
        let args = [
            &["resolve", name, "--bootnodes", &boot, "--json"][..],
            flags,
        ]
        .concat();
        let found = json(&args);
        assert_eq!(
            found["address"],
            sought.endpoint().udp_addr().to_string(),
            "{args:?}"
        );
        assert_eq!(
            found["enr"],
            sought.record().unwrap().to_string(),
            "{args:?}"
        );
    }
    let stranger = key(99).public_key();
    let stranger = hex::encode(stranger.to_bytes());
    fails(
        &["resolve", &stranger, "--bootnodes", &boot],
        1,
        "nobody who was asked knows",
    );

    // Everybody but who asks, closest first.
    for flags in [&[][..], &["--v4"], &["--v5"]] {
        let args = [
            &["lookup", &public, "--bootnodes", &boot, "--json"][..],
            flags,
        ]
        .concat();
        let found = json(&args);
        assert_eq!(found["target"], id);
        let nodes = found["nodes"].as_array().unwrap();
        assert_eq!(nodes[0]["id"], id, "{found}");
        let ids: std::collections::BTreeSet<&str> = nodes
            .iter()
            .map(|node| node["id"].as_str().unwrap())
            .collect();
        for service in &all {
            let id = service.local_node().id().to_string();
            assert!(ids.contains(id.as_str()), "{flags:?}: {id} not in {found}");
        }
        let distances: Vec<u64> = nodes
            .iter()
            .map(|node| node["distance"].as_u64().unwrap())
            .collect();
        assert!(distances.is_sorted() && distances[0] == 0, "{distances:?}");
    }
    assert!(ok(&["lookup", "--bootnodes", &boot]).contains(" nodes closest to "));
    runtime.block_on(first.shutdown());
    for other in &others {
        runtime.block_on(other.shutdown());
    }
    let nobody = "the one node to begin with has not answered";
    fails(&["lookup", "--bootnodes", &boot], 1, nobody);
}

/// Waits until `seed` is in the table of `service`, then says who else is.
async fn others_in_the_table(service: &Discovery, visitor: &Discovery) -> Vec<NodeId> {
    let id = visitor.local_node().id();
    let mut table = service.table_watch();
    let met = table.wait_for(|table| table.get(&id).is_some_and(|entry| entry.live));
    let table = timeout(LIMIT, met).await.expect("it is met").unwrap();
    let ids = table.entries().map(|entry| entry.node.id());
    ids.filter(|other| *other != id).collect()
}

#[test]
fn who_only_asks_stays_out_of_tables() {
    let runtime = runtime();
    for (seed, flag, commands) in [
        // discv4 answers no question but a ping without a proof of address, and whoever gives one is taken for a node.
        (41, "--v4", &["ping"][..]),
        (51, "--v5", &["ping", "requestenr", "resolve", "lookup"]),
    ] {
        let speaking =
            |config: DiscoveryConfigBuilder| config.v4(flag == "--v4").v5(flag == "--v5");
        let asked = runtime.block_on(service(seed, speaking(loopback())));
        let record = asked.local_record().to_string();
        for command in commands {
            if *command == "lookup" {
                let found = ok(&["lookup", flag, "--bootnodes", &record]);
                assert!(found.starts_with("1 node closest to "), "{found}");
            } else {
                ok(&[command, flag, &record]);
            }
        }
        // Whatever those sent lies before what this one sends.
        let visitor = speaking(loopback()).bootnodes(vec![asked.local_node()]);
        let visitor = runtime.block_on(service(seed + 1, visitor));
        let others = runtime.block_on(others_in_the_table(&asked, &visitor));
        assert!(others.is_empty(), "{flag}: {others:?}");
    }
}

#[test]
fn a_node_that_has_moved_is_found_again() {
    let runtime = runtime();
    let first = runtime.block_on(service(31, loopback()));
    let boot = enode(&first);
    let start = || {
        let config = loopback().bootnodes(vec![first.local_node()]);
        runtime.block_on(service(32, config))
    };
    let before = start();
    let old = before.local_record().to_string();
    runtime.block_on(before.shutdown());
    // The same key at another port, with a newer record.
    let after = start();
    let now = after.local_node();
    let met = async {
        let mut table = first.table_watch();
        let moved = |table: &Arc<TableSnapshot>| {
            let entry = table.get(&now.id());
            entry.is_some_and(|entry| entry.live && entry.node.endpoint() == now.endpoint())
        };
        table.wait_for(moved).await.unwrap();
    };
    runtime
        .block_on(async { timeout(LIMIT, met).await })
        .expect("the node is met where it is now");
    let found = json(&["resolve", &old, "--bootnodes", &boot, "--json"]);
    assert_eq!(found["address"], now.endpoint().udp_addr().to_string());
    assert_eq!(found["newer"], true, "{found}");
    // Without anybody to ask, all that is known is that nobody is there.
    fails(&["resolve", &old], 1, "no reply in time");
}

#[test]
fn a_node_with_an_ipv6_address_is_asked_over_ipv6() {
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        assert!(
            std::env::var_os("CI").is_none(),
            "IPv6 on loopback is required"
        );
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let runtime = runtime();
    let config = DiscoveryConfig::builder().listen("[::1]:0".parse().unwrap());
    let service = runtime.block_on(service(21, config));
    let url = enode(&service);
    assert!(url.contains("@[::1]:"), "{url}");
    for flag in ["--v4", "--v5"] {
        let ping: Value = json(&["ping", &url, flag, "--json"]);
        assert!(
            ping["seen_as"].as_str().unwrap().starts_with("[::1]:"),
            "{ping}"
        );
    }
}
