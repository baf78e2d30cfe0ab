//! A node set as go-ethereum's devp2p tools keep it: `nodes.json`, a map from node id to record, score and times. The
//! crawler writes it, `nodeset` reads it, DNS trees are made of it. Which nodes of a set are wanted is in `filter`.

mod filter;
mod summary;
mod time;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};
use tercet_enode::{NodeAddress, NodeId, NodeRecord};
use tercet_machine::UnixTime;
use thiserror::Error;

pub(crate) use filter::{Chain, EthNetworkName, FilterArgs, NodeFilter, fork_id};
pub(crate) use summary::Summary;

/// A set of nodes, ordered by id, so that equal sets are equal files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct NodeSet {
    #[serde(serialize_with = "by_id")]
    nodes: BTreeMap<NodeId, KnownNode>,
}

/// What is known of one node. Times are whole seconds in the file, as geth writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownNode {
    /// Its newest record; the URL of a node that has shown none.
    pub(crate) address: NodeAddress,
    /// One more for each check it answered, half for each it did not; at 0 it leaves the set.
    pub(crate) score: u64,
    /// When it first answered.
    pub(crate) first_response: Option<UnixTime>,
    /// When it last answered.
    pub(crate) last_response: Option<UnixTime>,
    /// When it was last asked.
    pub(crate) last_check: Option<UnixTime>,
}

/// A node set could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum NodeSetError {
    /// Reading failed.
    #[error("cannot read the node set {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// Not JSON, or not of this form; the source names line and column.
    #[error("{} is no node set", path.display())]
    Json {
        path: PathBuf,
        source: serde_json::Error,
    },
    /// A key that is no node id.
    #[error("{}: {key:?} is no node id", path.display())]
    Id { path: PathBuf, key: String },
    /// A node under another node's id.
    #[error("{}: the record under {id} is of node {found}", path.display())]
    OtherNode {
        path: PathBuf,
        id: NodeId,
        found: NodeId,
    },
    /// Writing failed; the file is as it was.
    #[error("cannot write the node set {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// One node as the file has it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(default)]
    seq: u64,
    #[serde(with = "address")]
    record: NodeAddress,
    #[serde(default, skip_serializing_if = "is_zero")]
    score: u64,
    #[serde(default, with = "time")]
    first_response: Option<UnixTime>,
    #[serde(default, with = "time")]
    last_response: Option<UnixTime>,
    #[serde(default, with = "time")]
    last_check: Option<UnixTime>,
}

impl NodeSet {
    /// Reads a file. Records are verified and must be under their node's id.
    pub(crate) fn read(path: &Path) -> Result<Self, NodeSetError> {
        let bytes = fs::read(path).map_err(|source| NodeSetError::Read {
            path: path.to_owned(),
            source,
        })?;
        let rows: BTreeMap<String, Row> =
            serde_json::from_slice(&bytes).map_err(|source| NodeSetError::Json {
                path: path.to_owned(),
                source,
            })?;
        let mut nodes = BTreeMap::new();
        for (key, row) in rows {
            let id: NodeId = key.parse().map_err(|_| NodeSetError::Id {
                path: path.to_owned(),
                key: key.clone(),
            })?;
            let found = row.record.id();
            if found != id {
                let path = path.to_owned();
                return Err(NodeSetError::OtherNode { path, id, found });
            }
            nodes.insert(id, KnownNode::from(row));
        }
        Ok(Self { nodes })
    }

    /// Writes the file: whole or, if that fails, not at all.
    pub(crate) fn write(&self, path: &Path) -> Result<(), NodeSetError> {
        Self::write_nodes(path, &self.nodes)
    }

    /// The same with nodes that are kept elsewhere. The text goes to the file as it is made: for 100,000 nodes it is longer than all that
    /// is known of them.
    pub(crate) fn write_nodes<N: Serialize>(
        path: &Path,
        nodes: &BTreeMap<NodeId, N>,
    ) -> Result<(), NodeSetError> {
        let written = replace_by(path, |file| {
            let mut buffered = BufWriter::new(file);
            pretty_to(nodes, &mut buffered)?;
            buffered.flush()
        });
        written.map_err(|source| NodeSetError::Write {
            path: path.to_owned(),
            source,
        })
    }

    /// Whether the file could be written now, for who will have something to write in half an hour.
    pub(crate) fn check_writable(path: &Path) -> Result<(), NodeSetError> {
        match tempfile::tempfile_in(folder_of(path)) {
            Ok(_) => Ok(()),
            Err(source) => Err(NodeSetError::Write {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// The text of the file: geth's indentation, a newline at the end.
    pub(crate) fn pretty(&self) -> Result<String, serde_json::Error> {
        let mut text = Vec::new();
        pretty_to(&self.nodes, &mut text)?;
        String::from_utf8(text).map_err(serde::ser::Error::custom)
    }

    /// Adds a node or takes its new state.
    pub(crate) fn insert(&mut self, node: KnownNode) {
        self.nodes.insert(node.address.id(), node);
    }

    /// One node.
    pub(crate) fn get(&self, id: &NodeId) -> Option<&KnownNode> {
        self.nodes.get(id)
    }

    /// The nodes, by id.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&NodeId, &KnownNode)> {
        self.nodes.iter()
    }

    /// How many nodes there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// How many records have each key.
    pub(crate) fn keys(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for record in self.nodes.values().filter_map(KnownNode::record) {
            for (key, _) in record.iter() {
                *counts.entry(key.escape_ascii().to_string()).or_default() += 1;
            }
        }
        counts
    }

    /// The nodes that `filter` wants; of those at most `limit`: the ones with the best score, among equals those that
    /// answered last.
    pub(crate) fn filtered(&self, filter: &NodeFilter, limit: Option<usize>) -> Self {
        let mut nodes: Vec<&KnownNode> = self.nodes.values().filter(|n| filter.wants(n)).collect();
        if let Some(limit) = limit {
            nodes.sort_by_key(|node| std::cmp::Reverse((node.score, node.last_response)));
            nodes.truncate(limit);
        }
        nodes.into_iter().cloned().collect()
    }
}

impl FromIterator<KnownNode> for NodeSet {
    fn from_iter<I: IntoIterator<Item = KnownNode>>(nodes: I) -> Self {
        let mut set = Self::default();
        nodes.into_iter().for_each(|node| set.insert(node));
        set
    }
}

impl KnownNode {
    /// A node nobody has checked yet.
    pub(crate) fn new(address: NodeAddress) -> Self {
        Self {
            address,
            score: 0,
            first_response: None,
            last_response: None,
            last_check: None,
        }
    }

    /// The record; `None` for a node that has shown none.
    pub(crate) fn record(&self) -> Option<&NodeRecord> {
        match &self.address {
            NodeAddress::Record(record) => Some(record),
            NodeAddress::Enode(_) => None,
        }
    }

    /// A check was answered.
    pub(crate) fn on_answer(&mut self, now: UnixTime) {
        self.score = self.score.saturating_add(1);
        self.first_response.get_or_insert(now);
        self.last_response = Some(now);
        self.last_check = Some(now);
    }

    /// A check was not answered; `false` when the node has to leave the set.
    #[must_use]
    pub(crate) fn on_failure(&mut self, now: UnixTime) -> bool {
        self.score /= 2;
        self.last_check = Some(now);
        self.score > 0
    }
}

impl From<Row> for KnownNode {
    fn from(row: Row) -> Self {
        Self {
            address: row.record,
            score: row.score,
            first_response: row.first_response,
            last_response: row.last_response,
            last_check: row.last_check,
        }
    }
}

impl Serialize for KnownNode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = Row {
            seq: self.record().map_or(0, NodeRecord::seq),
            record: self.address.clone(),
            score: self.score,
            first_response: self.first_response,
            last_response: self.last_response,
            last_check: self.last_check,
        };
        row.serialize(serializer)
    }
}

/// Puts `content` in place of the file, so that a reader (and a crash) sees the old file or the new one. A link stays one, and what is
/// no file, such as `/dev/stdout`, is written to: root could put a file in its place.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_by(path, |file| file.write_all(content))
}

fn replace_by(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        return write(&mut File::options().write(true).open(path)?);
    }
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // As for any other file: the umask decides. Temporary files are private otherwise.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder_of(path))?;
    write(file.as_file_mut())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// The folder a file is in.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The text of a file: geth's indentation, a newline at the end.
fn pretty_to<N: Serialize>(
    nodes: &BTreeMap<NodeId, N>,
    to: &mut impl io::Write,
) -> Result<(), serde_json::Error> {
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    by_id(
        nodes,
        &mut serde_json::Serializer::with_formatter(&mut *to, indent),
    )?;
    to.write_all(b"\n").map_err(serde_json::Error::io)
}

fn by_id<S: Serializer, N: Serialize>(
    nodes: &BTreeMap<NodeId, N>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(nodes.iter().map(|(id, node)| (id.to_string(), node)))
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(score: &u64) -> bool {
    *score == 0
}

/// A node as `enr:…` or `enode://…`.
mod address {
    use serde::de::{Deserialize as _, Deserializer, Error as _};
    use serde::ser::Serializer;
    use tercet_enode::NodeAddress;

    pub(super) fn serialize<S: Serializer>(
        address: &NodeAddress,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(address)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<NodeAddress, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
