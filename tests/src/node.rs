//! Our own discovery node on a loopback port, and waiting for what its table holds.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tercet_discovery::{Discovery, DiscoveryConfig, EntrySnapshot, Protocol, Protocols};
use tercet_enode::{Node, NodeId, SecretKey};
use tercet_machine::MachineRng;
use tercet_nodedb::NodeDb;

use crate::child::LIMIT;

/// Long, so that a busy machine is no reason to fail.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// The key made from `seed`.
pub fn key(seed: u8) -> SecretKey {
    SecretKey::generate(&mut MachineRng::from_seed([seed; 32]))
}

/// A port of the loopback that the system chooses.
pub fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// The node that an enode URL from another program names.
pub fn node(url: &serde_json::Value) -> Node {
    let url = url.as_str().expect("an enode URL");
    let address: tercet_enode::NodeAddress = url.parse().expect("an enode URL");
    address.to_node().expect("an address")
}

/// A discovery service on any port that begins with `bootnodes` and remembers nothing.
pub async fn discovery(key: &SecretKey, bootnodes: Vec<Node>) -> Discovery {
    discovery_at(any_port(), key, bootnodes).await
}

/// The same on a certain port.
pub async fn discovery_at(listen: SocketAddr, key: &SecretKey, bootnodes: Vec<Node>) -> Discovery {
    discovery_over(Protocols::ALL, listen, key, bootnodes).await
}

/// The same with these protocols only.
pub async fn discovery_over(
    protocols: Protocols,
    listen: SocketAddr,
    key: &SecretKey,
    bootnodes: Vec<Node>,
) -> Discovery {
    let config = DiscoveryConfig::builder()
        .listen(listen)
        .v4(protocols.contains(Protocol::V4))
        .v5(protocols.contains(Protocol::V5))
        .v5_reply_timeout(REPLY_TIMEOUT)
        .tcp_port(30_303)
        .bootnodes(bootnodes)
        .build()
        .unwrap();
    let db = NodeDb::memory().unwrap();
    Discovery::start(config, key.clone(), db).await.unwrap()
}

/// Waits until the table holds the node and has had an answer from it.
///
/// # Panics
/// After [`LIMIT`].
pub async fn until_live(discovery: &Discovery, id: NodeId) {
    until_entry(discovery, id, |entry| entry.live).await;
}

/// Waits until the table holds the node and `fits` likes the entry.
///
/// # Panics
/// After [`LIMIT`].
pub async fn until_entry(discovery: &Discovery, id: NodeId, fits: impl Fn(&EntrySnapshot) -> bool) {
    let mut table = discovery.table_watch();
    let there = table.wait_for(|table| table.get(&id).is_some_and(&fits));
    match tokio::time::timeout(LIMIT, there).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) => panic!("discovery ended before {id} was as it should be"),
        Err(_) => panic!(
            "{id} never became what it should be in {:?}\n{:?}",
            discovery.table(),
            discovery.metrics()
        ),
    }
}
