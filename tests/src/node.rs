//! Our own discovery node on a loopback port, and waiting for what its table holds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use tercet_discovery::{Discovery, DiscoveryConfig, EntrySnapshot, Protocol, Protocols};
use tercet_enode::{Node, NodeId, SecretKey};
use tercet_machine::MachineRng;
use tercet_nodedb::NodeDb;

use crate::child::LIMIT;
use crate::workspace::say;

/// Long, so that a busy machine is no reason to fail.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// The key made from `seed`.
pub fn key(seed: u8) -> SecretKey {
    SecretKey::generate(&mut MachineRng::from_seed([seed; 32]))
}

/// Which of the loopback's two addresses a node is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loopback {
    /// 127.0.0.1
    V4,
    /// ::1
    V6,
    /// Both, with a socket for each.
    Both,
}

impl Loopback {
    /// A port that the system chooses on each address, IPv4 first.
    pub fn any_port(self) -> Vec<SocketAddr> {
        let four = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let six = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let ips = match self {
            Self::V4 => vec![four],
            Self::V6 => vec![six],
            Self::Both => vec![four, six],
        };
        ips.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect()
    }
}

/// A port of the IPv4 loopback that the system chooses.
pub fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// Whether this machine has the loopback addresses it is to listen on. Where it has not, that was said, and the test skips.
///
/// # Panics
/// Where `CI` is set: a kernel without IPv6 is no fault of ours, but what is called tested there has to have run.
pub fn has(listen: &[SocketAddr]) -> bool {
    for addr in listen {
        // A port of the test's own choice may be taken just now, and that is not asked.
        if let Err(error) = UdpSocket::bind((addr.ip(), 0)) {
            let reason = format!("this machine has no {} ({error})", addr.ip());
            assert!(std::env::var_os("CI").is_none(), "{reason}");
            say(&format!("skipped: {reason}"));
            return false;
        }
    }
    true
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
    discovery_over(Protocols::ALL, &[listen], key, bootnodes).await
}

/// The same with these protocols only, listening here: on one address, or on an IPv4 and an IPv6 one.
pub async fn discovery_over(
    protocols: Protocols,
    listen: &[SocketAddr],
    key: &SecretKey,
    bootnodes: Vec<Node>,
) -> Discovery {
    let mut config = DiscoveryConfig::builder().listen(listen[0]);
    if let Some(six) = listen.get(1) {
        config = config.listen_v6(*six);
    }
    let config = config
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
