//! `tercet node` killed while it writes: the database opens, and the node finds back into
//! the network from its seeds alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and is a driver"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tercet_discovery::Discovery;
use tercet_enode::SecretKey;
use tercet_tests::{Child, LIMIT, discovery, discovery_at, key, node, tercet};

/// Starts a node on loopback and waits for its first line.
fn start(name: &str, datadir: &Path, more: &[&str]) -> (Child, Value) {
    let mut command = tercet();
    command
        .args([
            "node",
            "--json",
            "--addr",
            "127.0.0.1",
            "--port",
            "0",
            "--nat",
            "none",
        ])
        .arg("--datadir")
        .arg(datadir)
        .args(more);
    let mut child = Child::spawn(name, &mut command);
    let started = child.event("started");
    (child, started)
}

/// Waits until the node says that so many nodes in its table answer.
fn until_live(node: &mut Child, count: u64) {
    node.event_where("table", |table| table["live"].as_u64() >= Some(count));
}

/// Neighbours of the node under test. Begun anew, they are where they were and know nobody.
struct Neighbours(Vec<(SecretKey, Discovery)>);

impl Neighbours {
    async fn start(count: u8) -> Self {
        let mut neighbours = Vec::new();
        for seed in 0..count {
            let key = key(100 + seed);
            let service = discovery(&key, Vec::new()).await;
            neighbours.push((key, service));
        }
        Self(neighbours)
    }

    async fn forget_everything(self) -> Self {
        let mut neighbours = Vec::new();
        for (key, service) in self.0 {
            let address: SocketAddr = service.local_addr();
            service.shutdown().await;
            let service = discovery_at(address, &key, Vec::new()).await;
            neighbours.push((key, service));
        }
        Self(neighbours)
    }

    fn urls(&self) -> String {
        let urls = self
            .0
            .iter()
            .map(|(_, service)| service.local_node().enode_url().to_string());
        urls.collect::<Vec<_>>().join(",")
    }

    /// Pings from all of them, so that the node's database always has something to write.
    async fn ping(&self, started: &Value, rounds: usize) {
        let target = node(&started["enode"]);
        for _ in 0..rounds {
            for (_, service) in &self.0 {
                service.ping(target.clone()).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_writing_it_starts_again_from_its_seeds() {
    const NEIGHBOURS: u8 = 6;
    let datadir = TempDir::new().unwrap();
    let mut neighbours = Neighbours::start(NEIGHBOURS).await;

    // The first run learns the neighbours and keeps them: a clean end saves the table.
    let bootnodes = neighbours.urls();
    let (mut first, started) = start("first run", datadir.path(), &["--bootnodes", &bootnodes]);
    assert!(
        started["database"].as_str().unwrap().contains("new"),
        "{started}"
    );
    let id = started["id"].clone();
    until_live(&mut first, NEIGHBOURS.into());
    first.interrupt();
    first.event("stopped");
    assert!(first.finish(LIMIT).1.success());

    for round in 0..3 {
        // Nobody tells the node of its neighbours, and they do not know it.
        neighbours = neighbours.forget_everything().await;
        let (mut run, started) = start(&format!("run {round}"), datadir.path(), &[]);
        assert_eq!(started["id"], id, "the key is kept");
        assert_eq!(started["bootnodes"], 0);
        let database = started["database"].as_str().unwrap();
        let expected = format!("node database with {NEIGHBOURS} nodes");
        assert!(database.starts_with(&expected), "{database}");
        until_live(&mut run, NEIGHBOURS.into());

        // Each round dies at another moment of the writer's work.
        let writing = async { neighbours.ping(&started, 10_000).await };
        let moment = Duration::from_millis(150 + 370 * round);
        let cut_short = tokio::time::timeout(moment, writing).await;
        assert!(cut_short.is_err(), "the pings were still going on");
        run.kill();
    }
}
