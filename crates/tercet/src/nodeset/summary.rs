//! A set in figures: how many nodes by client, by fork and by protocol. A file of records knows what those say; a crawl's database
//! knows what answered.

use std::collections::BTreeMap;

use alloy_rlp::Header;
use serde::Serialize;
use tercet_enode::NodeRecord;
use tercet_eth_peer::{ForkHash, ForkId, ForkPoint, Network};

use super::{KnownNode, NodeSet, fork_id};
use crate::crawl::store::Counts;

/// What is not known of a node.
const UNKNOWN: &str = "unknown";

/// The figures.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    pub(crate) nodes: usize,
    /// By the client's name alone.
    pub(crate) clients: BTreeMap<String, usize>,
    /// By network and fork hash.
    pub(crate) forks: BTreeMap<String, usize>,
    /// By what they answer over or, from records, what those have a port or an entry for.
    pub(crate) protocols: BTreeMap<String, usize>,
}

impl Summary {
    /// What the records of a set say.
    pub(crate) fn of_set(set: &NodeSet) -> Self {
        let mut summary = Self {
            nodes: set.len(),
            ..Self::default()
        };
        for (_, node) in set.iter() {
            let record = node.record();
            let client = record
                .and_then(client)
                .unwrap_or_else(|| UNKNOWN.to_owned());
            add(&mut summary.clients, &client, 1);
            add(&mut summary.forks, &fork_name(fork_id(record)), 1);
            for protocol in protocols(node) {
                add(&mut summary.protocols, protocol, 1);
            }
        }
        summary
    }

    /// What a crawl's database holds.
    pub(crate) fn of_counts(counts: &Counts) -> Self {
        let mut summary = Self {
            nodes: counts.nodes,
            ..Self::default()
        };
        for (client, count) in &counts.clients {
            let name = client.as_deref().map_or(UNKNOWN, name_in);
            add(&mut summary.clients, name, *count);
        }
        for (fork, count) in &counts.forks {
            let fork = fork.map(|(hash, next)| ForkId {
                hash: ForkHash(hash),
                next,
            });
            add(&mut summary.forks, &fork_name(fork), *count);
        }
        for (protocol, count) in &counts.protocols {
            let name = match &protocol[..] {
                "v4" => "discv4",
                "v5" => "discv5",
                other => other,
            };
            add(&mut summary.protocols, name, *count);
        }
        summary.protocols.extend(counts.capabilities.clone());
        summary
    }
}

fn add(counts: &mut BTreeMap<String, usize>, name: &str, count: usize) {
    *counts.entry(name.to_owned()).or_default() += count;
}

/// `Geth` of `Geth/v1.16.0/linux-amd64/go1.24`.
fn name_in(client: &str) -> &str {
    match client.split('/').next() {
        Some(name) if !name.trim().is_empty() => name.trim(),
        _ => UNKNOWN,
    }
}

/// The client's name in the entry of EIP-7636: a list of name, version and perhaps build. Printable or not at all.
fn client(record: &NodeRecord) -> Option<String> {
    let mut entry = record.get_raw(b"client")?;
    let mut list = Header::decode_bytes(&mut entry, true).ok()?;
    let name = Header::decode_bytes(&mut list, false).ok()?;
    let name = std::str::from_utf8(name).ok()?;
    let printable = !name.is_empty() && name.chars().all(|char| !char.is_control());
    printable.then(|| name.to_owned())
}

/// The network whose fork this is or may be, and the hash.
fn fork_name(fork: Option<ForkId>) -> String {
    let Some(fork) = fork else {
        return UNKNOWN.to_owned();
    };
    let is_its = |network: &Network| network.forks().validate(ForkPoint::default(), fork).is_ok();
    let network = Network::ALL.into_iter().find(is_its);
    let network = network.map_or("other", |network| network.name);
    format!("{network} {}", hex::encode(fork.hash.0))
}

fn protocols(node: &KnownNode) -> impl Iterator<Item = &'static str> {
    let endpoint = node.address.to_node().map(|node| *node.endpoint());
    let record = node.record();
    let has = |key: &str| record.is_some_and(|record| record.get_raw(key.as_bytes()).is_some());
    let all = [
        ("udp", endpoint.is_some_and(|endpoint| endpoint.udp != 0)),
        ("tcp", endpoint.is_some_and(|endpoint| endpoint.tcp != 0)),
        ("quic", has("quic") || has("quic6")),
        ("eth", has("eth")),
        ("snap", has("snap")),
        ("eth2", has("eth2")),
    ];
    all.into_iter()
        .filter_map(|(name, is_there)| is_there.then_some(name))
}

#[cfg(test)]
mod tests {
    use tercet_enode::{NodeAddress, SecretKey};
    use tercet_machine::MachineRng;

    use super::*;

    fn node(seed: u8, client: Option<&[&str]>, fork: Option<[u8; 4]>) -> KnownNode {
        let key = SecretKey::generate(&mut MachineRng::from_seed([seed; 32]));
        let mut record = NodeRecord::builder().ip([10, 0, 0, seed].into()).udp(1);
        if let Some(client) = client {
            let words: Vec<String> = client.iter().map(|word| (*word).to_owned()).collect();
            record = record.insert_raw(b"client", &alloy_rlp::encode(&words));
        }
        if let Some(fork) = fork {
            record = record.eth(fork, 0).tcp(1);
        }
        KnownNode::new(NodeAddress::Record(record.sign(&key).unwrap()))
    }

    #[test]
    fn records_say_client_fork_and_ports() {
        let set: NodeSet = [
            node(
                1,
                Some(&["Tercet", "0.1.0"]),
                Some([0xfc, 0x64, 0xec, 0x04]),
            ),
            node(2, Some(&["Tercet", "0.2.0", "x"]), Some([1, 2, 3, 4])),
            node(3, Some(&["a\nb", "1"]), None),
            node(4, None, None),
        ]
        .into_iter()
        .collect();
        let summary = Summary::of_set(&set);
        let text = serde_json::to_string(&summary).unwrap();
        assert_eq!(
            text,
            r#"{"nodes":4,"clients":{"Tercet":2,"unknown":2},"forks":{"mainnet fc64ec04":1,"other 01020304":1,"unknown":2},"protocols":{"eth":2,"tcp":2,"udp":4}}"#
        );
    }

    #[test]
    fn versions_of_a_client_are_counted_together() {
        let counts = Counts {
            nodes: 4,
            clients: [
                (Some("Geth/v1/x"), 2),
                (Some("Geth/v2"), 1),
                (Some("/"), 3),
                (None, 1),
            ]
            .map(|(name, count)| (name.map(str::to_owned), count))
            .into(),
            ..Counts::default()
        };
        let clients = Summary::of_counts(&counts).clients;
        assert_eq!(
            clients,
            [("Geth".to_owned(), 3), (UNKNOWN.to_owned(), 4)].into()
        );
    }
}
