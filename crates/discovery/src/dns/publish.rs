//! Making a list out of nodes, and its records in the forms that DNS providers and servers take.
//!
//! The layout is geth's: nodes sorted by id, up to 13 hashes a branch. So the same nodes give the same records, and those
//! that did not change keep their names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use tercet_enode::{EntryError, NodeId, NodeRecord, SecretKey};

use super::label::{EntryHash, PUBLISHED_HASH};
use super::root::TreeRoot;
use super::tree::TreeEntry;
use super::url::{Domain, TreeUrl};

/// Room for the hashes of a branch: answers stay within the 512 bytes of plain DNS with the name, the header and the prefix.
const BRANCH_BYTES: usize = 370;
/// `⌊370 / (26 + 1)⌋ = 13`: a published hash is 26 characters, and a comma follows.
pub const MAX_CHILDREN: usize = BRANCH_BYTES / (1 + PUBLISHED_HASH * 13 / 8);

/// How long resolvers may keep a root: half an hour, between EIP-1459's 1 and 60 minutes. That long a change may go unseen.
pub const ROOT_TTL: Duration = Duration::from_secs(30 * 60);
/// How long they may keep any other entry, which never changes under its name: four weeks, as geth sets it.
pub const ENTRY_TTL: Duration = Duration::from_secs(28 * 24 * 60 * 60);
/// How long they may remember that a name is not there: a minute, because the next list may put an entry there.
const NEGATIVE_TTL: u64 = 60;

/// A list before it is signed: its entries and the hashes of its two trees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tree {
    entries: BTreeMap<EntryHash, TreeEntry>,
    nodes: EntryHash,
    links: EntryHash,
    node_count: usize,
}

/// Why a list cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// A record has a port that is none: others would refuse the list, or the node.
    #[error("node {id}: {key} in its record cannot be read")]
    Port {
        /// The node.
        id: NodeId,
        /// The entry's key.
        key: &'static str,
        /// What is wrong with it.
        source: EntryError,
    },
}

impl Tree {
    /// The list of these nodes and links. A node that is there more than once is taken with its newest record.
    ///
    /// # Errors
    /// [`PublishError`] if a record should not be published.
    pub fn new(
        nodes: impl IntoIterator<Item = NodeRecord>,
        links: impl IntoIterator<Item = TreeUrl>,
    ) -> Result<Self, PublishError> {
        let mut newest: BTreeMap<NodeId, NodeRecord> = BTreeMap::new();
        for record in nodes {
            check_ports(&record)?;
            let known = newest.get(&record.id());
            if known.is_none_or(|known| known.seq() < record.seq()) {
                newest.insert(record.id(), record);
            }
        }
        let node_count = newest.len();
        let mut entries = BTreeMap::new();
        let nodes = newest.into_values().map(TreeEntry::Node).collect();
        let nodes = build(nodes, &mut entries);
        let links = links.into_iter().map(TreeEntry::Link).collect();
        let links = build(links, &mut entries);
        Ok(Self {
            entries,
            nodes,
            links,
            node_count,
        })
    }

    /// Signs the list.
    #[must_use]
    pub fn sign(self, seq: u64, key: &SecretKey) -> SignedTree {
        let root = TreeRoot::sign(self.nodes.clone(), self.links.clone(), seq, key);
        SignedTree { tree: self, root }
    }

    /// The list under a signature made before.
    #[must_use]
    pub fn with_signature(self, seq: u64, signature: [u8; 65]) -> SignedTree {
        let (nodes, links) = (self.nodes.clone(), self.links.clone());
        let root = TreeRoot::with_signature(nodes, links, seq, signature);
        SignedTree { tree: self, root }
    }

    /// How many nodes it has.
    #[must_use]
    pub const fn node_count(&self) -> usize {
        self.node_count
    }

    /// Its entries, each under its name.
    #[cfg(feature = "tokio")] // what a fetch starts from
    pub(super) fn entries(&self) -> impl ExactSizeIterator<Item = (&EntryHash, &TreeEntry)> {
        self.entries.iter()
    }

    /// How many records it takes, the root not counted.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }
}

/// A list with its root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedTree {
    tree: Tree,
    root: TreeRoot,
}

impl SignedTree {
    /// The root.
    #[must_use]
    pub const fn root(&self) -> &TreeRoot {
        &self.root
    }

    /// The list.
    #[must_use]
    pub const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The records by full name, as geth's `to-txt` writes them: the root under the domain itself.
    #[must_use]
    pub fn records(&self, domain: &Domain) -> BTreeMap<String, String> {
        let entries = self.tree.entries.iter();
        let mut records: BTreeMap<String, String> = entries
            .map(|(hash, entry)| (format!("{hash}.{domain}"), entry.to_string()))
            .collect();
        records.insert(domain.to_string(), self.root.to_string());
        records
    }

    /// The records as a zone file (RFC 1035), to be included in the domain's zone. With `name_server` it is a whole zone: an
    /// SOA record, whose serial number is the list's, and an NS record come first.
    #[must_use]
    pub fn zone_file(&self, domain: &Domain, name_server: Option<&Domain>) -> String {
        let mut zone = format!("$ORIGIN {domain}.\n");
        let (root_ttl, entry_ttl) = (ROOT_TTL.as_secs(), ENTRY_TTL.as_secs());
        if let Some(server) = name_server {
            // Serial numbers wrap and are compared in 32 bits (RFC 1982).
            let serial = self.root.seq() & u64::from(u32::MAX);
            line(
                &mut zone,
                format_args!(
                    "@ {root_ttl} IN SOA {server}. hostmaster.{domain}. {serial} 3600 600 1209600 {NEGATIVE_TTL}"
                ),
            );
            line(&mut zone, format_args!("@ {root_ttl} IN NS {server}."));
        }
        let root = character_strings(&self.root.to_string());
        line(&mut zone, format_args!("@ {root_ttl} IN TXT {root}"));
        for (hash, entry) in &self.tree.entries {
            let text = character_strings(&entry.to_string());
            line(&mut zone, format_args!("{hash} {entry_ttl} IN TXT {text}"));
        }
        zone
    }
}

fn line(to: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _infallible = writeln!(to, "{line}");
}

/// The text as the character-strings of one TXT record, of at most 255 bytes each. Entries have no quote, backslash or other
/// character that would need an escape.
fn character_strings(text: &str) -> String {
    let mut strings = String::with_capacity(text.len() + 8);
    for (index, byte) in text.chars().enumerate() {
        if index % 255 == 0 {
            strings.push_str(if index == 0 { "\"" } else { "\" \"" });
        }
        strings.push(byte);
    }
    strings.push('"');
    strings
}

/// Puts the entries under one hash: itself if there is one, else branches over branches.
fn build(mut level: Vec<TreeEntry>, entries: &mut BTreeMap<EntryHash, TreeEntry>) -> EntryHash {
    loop {
        let mut hashes = Vec::with_capacity(level.len());
        for entry in level {
            let hash = EntryHash::of(&entry.to_string());
            entries.insert(hash.clone(), entry);
            hashes.push(hash);
        }
        if let [only] = hashes.as_slice() {
            return only.clone();
        }
        level = if hashes.is_empty() {
            vec![TreeEntry::Branch(Vec::new())]
        } else {
            let branches = hashes.chunks(MAX_CHILDREN);
            // A single entry left over stands for itself in the level above, as in geth; its branch would only cost a lookup.
            branches
                .map(|chunk| match chunk {
                    [only] => entries
                        .get(only)
                        .cloned()
                        .unwrap_or_else(|| TreeEntry::Branch(chunk.to_vec())),
                    _ => TreeEntry::Branch(chunk.to_vec()),
                })
                .collect()
        };
    }
}

/// As geth does before it publishes: a port that does not fit 16 bits makes others drop the node.
fn check_ports(record: &NodeRecord) -> Result<(), PublishError> {
    use tercet_enode::{Quic, Quic6, Tcp, Tcp6, Udp, Udp6};
    let id = record.id();
    let failed = |key| move |source| PublishError::Port { id, key, source };
    record.get::<Tcp>().transpose().map_err(failed("tcp"))?;
    record.get::<Udp>().transpose().map_err(failed("udp"))?;
    record.get::<Tcp6>().transpose().map_err(failed("tcp6"))?;
    record.get::<Udp6>().transpose().map_err(failed("udp6"))?;
    record.get::<Quic>().transpose().map_err(failed("quic"))?;
    record.get::<Quic6>().transpose().map_err(failed("quic6"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_with_a_port_that_is_none_is_not_published() {
        let key = SecretKey::from_bytes(&[1; 32]).unwrap();
        for name in ["tcp", "udp", "tcp6", "udp6", "quic", "quic6"] {
            // 65,536.
            let record = NodeRecord::builder().insert_raw(name.as_bytes(), &[0x83, 1, 0, 0]);
            let Err(PublishError::Port { key, .. }) = Tree::new([record.sign(&key).unwrap()], [])
            else {
                panic!("{name} was taken");
            };
            assert_eq!(key, name);
        }
    }
}
