//! Which nodes are wanted: geth's filters, and two more (`--fork-id`, `--enr-key`) that the crawler has too.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use tercet_enode::NodeRecord;
use tercet_eth_peer::wire::Status;
use tercet_eth_peer::{ForkHash, ForkId, ForkPoint, Network};

use super::KnownNode;

/// Filters on what a record says.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FilterArgs {
    /// Only nodes of this chain: mainnet, sepolia, holesky or hoodi
    #[arg(long, value_name = "NAME")]
    pub(crate) eth_network: Option<EthNetworkName>,
    /// Only nodes at this fork: the 8 hex digits of EIP-2124's hash
    #[arg(long, value_name = "HEX")]
    pub(crate) fork_id: Option<ForkHashArg>,
    /// Only nodes whose record has this key; may be repeated
    #[arg(long, value_name = "KEY")]
    pub(crate) enr_key: Vec<String>,
    /// Only nodes that serve snap sync
    #[arg(long)]
    pub(crate) snap: bool,
}

/// What is asked of a node. The default wants every node.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeFilter {
    /// On its record.
    pub(crate) record: FilterArgs,
    /// In this network.
    pub(crate) ip: Option<IpNet>,
    /// This long between its first answer and its last.
    pub(crate) min_age: Option<Duration>,
    /// With a TCP port.
    pub(crate) dialable: bool,
    /// With geth's entry for light clients.
    pub(crate) les_server: bool,
}

impl NodeFilter {
    /// Whether the node has everything that is asked.
    pub(crate) fn wants(&self, node: &KnownNode) -> bool {
        self.record.wants(node.record())
            && self.ip.is_none_or(|net| in_network(node, net))
            && self.min_age.is_none_or(|age| age_of(node) >= age)
            && (!self.dialable || is_dialable(node))
            && (!self.les_server || has_key(node.record(), "les"))
    }
}

impl FilterArgs {
    /// Whether a record has everything that is asked; without a record nothing is known.
    pub(crate) fn wants(&self, record: Option<&NodeRecord>) -> bool {
        let names_chain = self.eth_network.is_some() || self.fork_id.is_some();
        let fork_id = fork_id(record);
        self.wants_entries(record)
            && (!names_chain || fork_id.is_some_and(|fork_id| self.wants_fork(fork_id)))
    }

    /// Whether a node may have everything that is asked, if a record that names no chain is no answer.
    pub(crate) fn may_want(&self, record: Option<&NodeRecord>) -> bool {
        self.wants_entries(record) && fork_id(record).is_none_or(|fork_id| self.wants_fork(fork_id))
    }

    /// Whether a node on this chain, which it has said itself, has everything that is asked.
    pub(crate) fn wants_on(&self, chain: &Chain, record: Option<&NodeRecord>) -> bool {
        let is_chain = |network: EthNetworkName| {
            let EthNetworkName(network) = network;
            chain.network_id == network.chain_id && chain.genesis == network.genesis_hash().0
        };
        self.wants_entries(record)
            && self.eth_network.is_none_or(is_chain)
            && self.wants_fork(chain.fork_id)
    }

    fn wants_fork(&self, fork_id: ForkId) -> bool {
        self.eth_network
            .is_none_or(|network| on_network(fork_id, &network.0))
            && self.fork_id.is_none_or(|wanted| fork_id.hash == wanted.0)
    }

    fn wants_entries(&self, record: Option<&NodeRecord>) -> bool {
        self.enr_key.iter().all(|key| has_key(record, key))
            && (!self.snap || record.is_some_and(NodeRecord::snap))
    }
}

/// A node's chain by its eth Status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) network_id: u64,
    pub(crate) genesis: [u8; 32],
    pub(crate) fork_id: ForkId,
}

impl From<&Status> for Chain {
    fn from(status: &Status) -> Self {
        Self {
            network_id: status.network_id(),
            genesis: status.genesis().0,
            fork_id: status.fork_id(),
        }
    }
}

/// The fork id that a record names.
pub(crate) fn fork_id(record: Option<&NodeRecord>) -> Option<ForkId> {
    let eth = record?.eth()?;
    Some(ForkId {
        hash: ForkHash(eth.fork_hash),
        next: eth.fork_next,
    })
}

/// Judged as a node still at the genesis block would: every later state of the same chain is fine.
fn on_network(fork_id: ForkId, network: &Network) -> bool {
    let forks = network.forks();
    forks.validate(ForkPoint::default(), fork_id).is_ok()
}

fn has_key(record: Option<&NodeRecord>, key: &str) -> bool {
    record.is_some_and(|record| record.get_raw(key.as_bytes()).is_some())
}

fn in_network(node: &KnownNode, net: IpNet) -> bool {
    let endpoint = node.address.to_node();
    endpoint.is_some_and(|node| net.contains(&node.endpoint().ip))
}

fn is_dialable(node: &KnownNode) -> bool {
    let endpoint = node.address.to_node();
    endpoint.is_some_and(|node| node.endpoint().tcp_addr().is_some())
}

fn age_of(node: &KnownNode) -> Duration {
    match (node.first_response, node.last_response) {
        (Some(first), Some(last)) => last - first,
        _ => Duration::ZERO,
    }
}

/// A public network by its common name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EthNetworkName(pub(crate) Network);

/// Not one of the names.
#[derive(Debug, thiserror::Error)]
#[error("expected mainnet, sepolia, holesky or hoodi")]
pub(crate) struct UnknownNetwork;

impl FromStr for EthNetworkName {
    type Err = UnknownNetwork;

    fn from_str(name: &str) -> Result<Self, UnknownNetwork> {
        let mut networks = Network::ALL.into_iter();
        networks
            .find(|network| network.name == name)
            .map(Self)
            .ok_or(UnknownNetwork)
    }
}

/// The hash half of a fork id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForkHashArg(pub(crate) ForkHash);

/// Not 8 hex digits.
#[derive(Debug, thiserror::Error)]
#[error("a fork id is 8 hex digits")]
pub(crate) struct ForkHashError;

impl FromStr for ForkHashArg {
    type Err = ForkHashError;

    fn from_str(text: &str) -> Result<Self, ForkHashError> {
        let mut hash = [0; 4];
        hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut hash)
            .map_err(|_| ForkHashError)?;
        Ok(Self(ForkHash(hash)))
    }
}
