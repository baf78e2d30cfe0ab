//! Boot nodes in a configuration file: enode URLs or records, as people write them.

/// `serde(with)` for a list of nodes.
pub(crate) mod nodes {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::{Serialize, Serializer};
    use tercet_enode::{Node, NodeAddress};

    pub(crate) fn serialize<S: Serializer>(
        nodes: &[Node],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let addresses: Vec<NodeAddress> = nodes
            .iter()
            .map(|node| match node.record() {
                Some(record) => NodeAddress::Record(record.clone()),
                None => NodeAddress::Enode(node.enode_url()),
            })
            .collect();
        addresses.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Node>, D::Error> {
        let addresses = Vec::<NodeAddress>::deserialize(deserializer)?;
        let node = |address: &NodeAddress| {
            address
                .to_node()
                .ok_or_else(|| D::Error::custom(format!("{address} names no IP address")))
        };
        addresses.iter().map(node).collect()
    }
}
