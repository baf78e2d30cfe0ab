//! One module a command, and the few things several commands need.
#![allow(clippy::disallowed_methods)] // the program is a driver: keys come from the system's randomness

pub(crate) mod crawl;
pub(crate) mod devnet;
pub(crate) mod discover;
pub(crate) mod dns;
pub(crate) mod enr;
pub(crate) mod hello;
pub(crate) mod key;
pub(crate) mod listen;
pub(crate) mod lookup;
pub(crate) mod node;
pub(crate) mod nodeset;
pub(crate) mod ping;
pub(crate) mod requestenr;
pub(crate) mod resolve;
pub(crate) mod status;

use std::net::SocketAddr;

use tercet_enode::{Host, Node, NodeAddress, SecretKey};

use self::node::options::List;
use crate::bootnodes;
use crate::error::CliError;
use crate::nodeset::EthNetworkName;

/// geth's port, for TCP and UDP.
pub(crate) const DEFAULT_PORT: u16 = 30303;

/// A fresh key from the system's randomness.
pub(crate) fn new_key() -> SecretKey {
    SecretKey::generate(&mut rand::rng())
}

/// How this program introduces itself: name, the user's own word, version, platform, in geth's order.
pub(crate) fn client_id(identity: Option<&str>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    match identity {
        Some(identity) => format!("Tercet/{identity}/v{version}/{os}-{arch}"),
        None => format!("Tercet/v{version}/{os}-{arch}"),
    }
}

/// The node a user named, with its DNS name looked up.
pub(crate) async fn contact(address: &NodeAddress) -> Result<Node, CliError> {
    if let Some(node) = address.to_node() {
        return Ok(node);
    }
    let NodeAddress::Enode(url) = address else {
        return Err(CliError::NoEndpoint);
    };
    let Some(Host::Dns(name)) = url.host() else {
        return Err(CliError::NoEndpoint);
    };
    let unknown = |source| CliError::Lookup {
        name: name.clone(),
        source,
    };
    let found = tokio::net::lookup_host((name.as_str(), url.tcp()))
        .await
        .map_err(unknown)?;
    // IPv4 first, as the preference between equal addresses goes everywhere else.
    let ip = found
        .map(|address| address.ip())
        .min_by_key(|ip| ip.is_ipv6())
        .ok_or(CliError::NoEndpoint)?;
    Ok(Node::new(url.public_key(), url.endpoint_at(ip)))
}

/// The nodes to start from: the boot nodes of a public network, and those the user named. One whose name cannot be found is left out with
/// a warning: the others may do.
pub(crate) async fn boot_nodes(
    network: Option<EthNetworkName>,
    named: Option<&List<NodeAddress>>,
) -> Vec<Node> {
    let mut nodes = network.map_or_else(Vec::new, |network| bootnodes::of(network.0.name));
    for address in named.iter().flat_map(|list| &list.0) {
        match contact(address).await {
            Ok(node) => nodes.push(node),
            Err(error) => {
                tracing::warn!(bootnode = %address, "left out: {}", crate::error::chain(&error));
            }
        }
    }
    nodes
}

/// The TCP address of a contact, for commands that dial it.
pub(crate) fn tcp_address(node: &Node) -> Result<SocketAddr, CliError> {
    node.endpoint().tcp_addr().ok_or(CliError::NoTcpPort)
}

/// The UDP address of a contact, for commands that ask it over discovery.
pub(crate) fn udp_address(node: &Node) -> Result<SocketAddr, CliError> {
    let address = node.endpoint().udp_addr();
    if address.port() == 0 {
        return Err(CliError::NoUdpPort);
    }
    Ok(address)
}
