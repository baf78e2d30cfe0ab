//! A list on disk, as geth's devp2p keeps it: `enrtree-info.json` says where it is and how it was signed last, `nodes.json`
//! who is in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tercet_discovery::dns::{KnownList, SignedTree, Tree, TreeUrl, parse_signature};
use tercet_enode::NodeId;

use super::DnsError;
use crate::error::CliError;
use crate::nodeset::{NodeSet, replace};

const INFO: &str = "enrtree-info.json";
const NODES: &str = "nodes.json";

/// `enrtree-info.json`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Info {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    pub(super) seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signature: Option<String>,
    /// geth writes `null` for none.
    pub(super) links: Option<Vec<String>>,
    #[serde(rename = "lastModified", skip_serializing_if = "Option::is_none")]
    pub(super) last_modified: Option<String>,
}

impl Info {
    /// `None` if there is no such file.
    fn read(path: PathBuf) -> Result<Option<Self>, CliError> {
        let read = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| DnsError::Json { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DnsError::Read { path, source }),
        };
        Ok(read?)
    }
}

/// A list's folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    pub(super) info: Info,
    pub(super) nodes: NodeSet,
}

impl Folder {
    /// A list that is yet to be written, its folder made if it is not there.
    pub(super) fn create(path: &Path, nodes: NodeSet) -> Result<Self, CliError> {
        fs::create_dir_all(path).map_err(|source| DnsError::Write {
            path: path.to_owned(),
            source,
        })?;
        let (path, info) = (path.to_owned(), Info::default());
        Ok(Self { path, info, nodes })
    }

    /// Whether a list could be written to this folder now, or to one that would be made for it.
    pub(super) fn check_writable(path: &Path) -> Result<(), CliError> {
        let there = path.ancestors().find(|folder| folder.exists());
        let tried = tempfile::tempfile_in(there.unwrap_or(Path::new(".")));
        Ok(tried.map(drop).map_err(|source| DnsError::Write {
            path: path.to_owned(),
            source,
        })?)
    }

    /// Reads both files. A folder with `nodes.json` alone is a list that was never signed.
    pub(super) fn read(path: &Path) -> Result<Self, CliError> {
        let nodes = NodeSet::read(&path.join(NODES))?;
        let info = Info::read(path.join(INFO))?.unwrap_or_default();
        let path = path.to_owned();
        Ok(Self { path, info, nodes })
    }

    /// What an earlier fetch of the list `url` has left in the folder `path`. Another list that is there is an error: it would
    /// be lost.
    pub(super) fn known(path: &Path, url: &TreeUrl) -> Result<KnownList, CliError> {
        let has_nodes = path.join(NODES).exists();
        let Some(info) = Info::read(path.join(INFO))? else {
            if has_nodes {
                let path = path.to_owned();
                return Err(DnsError::OtherList { path }.into());
            }
            return Ok(KnownList::default());
        };
        let there = info.url.as_deref().map(str::parse::<TreeUrl>);
        if there.as_ref() != Some(&Ok(url.clone())) {
            let path = path.to_owned();
            return Err(DnsError::OtherList { path }.into());
        }
        // Nodes that cannot be read or put in a list cost lookups.
        let folder = has_nodes.then(|| Self::read(path)).and_then(Result::ok);
        Ok(KnownList {
            seq: info.seq,
            tree: folder.and_then(|folder| folder.tree().ok()),
        })
    }

    pub(super) fn info_path(&self) -> PathBuf {
        self.path.join(INFO)
    }

    /// Writes what describes the list.
    pub(super) fn write_info(&self) -> Result<(), CliError> {
        let path = self.info_path();
        let mut text = Vec::new();
        let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut json = serde_json::Serializer::with_formatter(&mut text, indent);
        self.info.serialize(&mut json).map_err(CliError::Json)?;
        text.push(b'\n');
        let written = replace(&path, &text);
        Ok(written.map_err(|source| DnsError::Write { path, source })?)
    }

    /// Writes who is in it.
    pub(super) fn write_nodes(&self) -> Result<(), CliError> {
        Ok(self.nodes.write(&self.path.join(NODES))?)
    }

    /// The list as it stands in the files, not yet signed.
    pub(super) fn tree(&self) -> Result<Tree, CliError> {
        let mut records = Vec::with_capacity(self.nodes.len());
        for (id, node) in self.nodes.iter() {
            let record = node.record().ok_or_else(|| DnsError::NoRecord {
                path: self.path.join(NODES),
                id: *id,
            })?;
            records.push(record.clone());
        }
        let mut links = Vec::new();
        for text in self.info.links.iter().flatten() {
            links.push(self.parse_url(text)?);
        }
        Ok(Tree::new(records, links).map_err(DnsError::Publish)?)
    }

    /// The list with the signature in the files, which must be over just this list.
    pub(super) fn signed(&self) -> Result<(TreeUrl, SignedTree), CliError> {
        let unsigned = || DnsError::Unsigned {
            path: self.info_path(),
        };
        let url = self.info.url.as_deref().ok_or_else(unsigned)?;
        let url = self.parse_url(url)?;
        let signature = self.info.signature.as_deref().ok_or_else(unsigned)?;
        let changed = || DnsError::Changed {
            path: self.path.clone(),
        };
        let signature = parse_signature(signature).map_err(|_| changed())?;
        let tree = self.tree()?.with_signature(self.info.seq, signature);
        tree.root().verify(url.key()).map_err(|_| changed())?;
        Ok((url, tree))
    }

    /// A URL that stands in the files.
    pub(super) fn parse_url(&self, text: &str) -> Result<TreeUrl, CliError> {
        let parsed = text.parse();
        Ok(parsed.map_err(|source| DnsError::Url {
            path: self.info_path(),
            text: text.to_owned(),
            source,
        })?)
    }
}

/// The name of a node in a message.
pub(super) fn short(id: &NodeId) -> String {
    id.to_string().chars().take(8).collect()
}
