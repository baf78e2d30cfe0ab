//! The entries of a list (EIP-1459): branches, links to other lists, nodes. Each is one text in one TXT record. Fetching and
//! trusting them is left to `sync`, putting them together to `publish`.

use std::fmt;
use std::str::FromStr;

use tercet_enode::{NodeRecord, ParseRecordError};

use super::label::{EntryHash, HashError};
use super::url::{TreeUrl, TreeUrlError};

const BRANCH_PREFIX: &str = "enrtree-branch:";
const LINK_PREFIX: &str = "enrtree://";
const NODE_PREFIX: &str = "enr:";

/// Longest text that is read: 1 KiB. A node is 404 characters at most, a link 264, and publishers keep branches below 512
/// bytes so that answers fit one datagram. It bounds what an entry costs in memory and in the cache, and a branch to 48
/// children (of 20 characters and a comma).
pub const MAX_TEXT: usize = 1024;

/// An entry below the root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TreeEntry {
    /// Entries further down.
    Branch(Vec<EntryHash>),
    /// Another list; in the tree of links only.
    Link(TreeUrl),
    /// A node's record, signed by it; in the tree of nodes only.
    Node(NodeRecord),
}

/// Why a text is not an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// It begins like none of the three kinds.
    #[error("neither \"{BRANCH_PREFIX}\" nor \"{LINK_PREFIX}\" nor \"{NODE_PREFIX}\"")]
    Unknown,
    /// Longer than any that is read.
    #[error("{found} characters, {MAX_TEXT} are read at most")]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// A branch names a child that is no hash.
    #[error("child {number} of the branch: {source}")]
    Child {
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        source: HashError,
    },
    /// The link leads nowhere.
    #[error(transparent)]
    Link(#[from] TreeUrlError),
    /// The node's record is none, or its signature does not hold.
    #[error(transparent)]
    Node(#[from] ParseRecordError),
}

impl FromStr for TreeEntry {
    type Err = EntryError;

    fn from_str(text: &str) -> Result<Self, EntryError> {
        if text.len() > MAX_TEXT {
            return Err(EntryError::TooLong { found: text.len() });
        }
        if let Some(children) = text.strip_prefix(BRANCH_PREFIX) {
            return branch(children).map(Self::Branch);
        }
        if text.starts_with(LINK_PREFIX) {
            return Ok(Self::Link(text.parse()?));
        }
        if text.starts_with(NODE_PREFIX) {
            return Ok(Self::Node(text.parse()?));
        }
        Err(EntryError::Unknown)
    }
}

fn branch(children: &str) -> Result<Vec<EntryHash>, EntryError> {
    if children.is_empty() {
        return Ok(Vec::new());
    }
    let child = |(index, text): (usize, &str)| {
        text.parse().map_err(|source| EntryError::Child {
            number: index + 1,
            source,
        })
    };
    children.split(',').enumerate().map(child).collect()
}

impl fmt::Display for TreeEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branch(children) => {
                f.write_str(BRANCH_PREFIX)?;
                for (index, child) in children.iter().enumerate() {
                    if index > 0 {
                        f.write_str(",")?;
                    }
                    write!(f, "{child}")?;
                }
                Ok(())
            }
            Self::Link(url) => write!(f, "{url}"),
            Self::Node(record) => write!(f, "{record}"),
        }
    }
}
