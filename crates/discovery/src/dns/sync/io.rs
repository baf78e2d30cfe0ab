//! What goes into the machine that reads lists, what comes out, and why something is not accepted.

use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use tercet_enode::NodeRecord;
use tercet_nodedb::{CacheKey, Write};

use super::list::Subtree;
use super::{MAX_ENTRIES, QUERY_TIMEOUT};
use crate::dns::label::EntryHash;
use crate::dns::root::TreeRoot;
use crate::dns::tree::EntryError;
use crate::dns::url::TreeUrl;

/// Names a lookup.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AskId(pub(super) u64);

/// How lists are read.
#[derive(Clone, Debug)]
pub struct SyncConfig {
    /// Follow links to other lists. Default: yes.
    pub follow_links: bool,
    /// Networks outside the Internet whose nodes are believed, for private networks and tests. Default: none.
    pub trusted: Vec<IpNet>,
    /// Hand out every record whatever address it has. Default: no.
    pub any_address: bool,
    /// Entries met in one pass through the nodes of a list, about 200 bytes each. Default: [`MAX_ENTRIES`].
    pub max_entries: usize,
    /// How long an answer is waited for. Default: [`QUERY_TIMEOUT`].
    pub timeout: Duration,
}

impl Default for SyncConfig {
    fn default() -> Self {
        Self {
            follow_links: true,
            trusted: Vec::new(),
            any_address: false,
            max_entries: MAX_ENTRIES,
            timeout: QUERY_TIMEOUT,
        }
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum SyncInput {
    /// Follow this list.
    Follow(TreeUrl),
    /// Follow it no more.
    Leave(TreeUrl),
    /// So many more nodes are wanted. Without wants, nothing is looked up.
    Want(u64),
    /// What the node database has under the key of a [`SyncOutput::Load`].
    Loaded(AskId, Option<Bytes>),
    /// The TXT records found, the character-strings of each put together.
    Answer(AskId, Result<Vec<Bytes>, LookupError>),
}

/// What is to be done.
#[derive(Clone, PartialEq, Debug)]
pub enum SyncOutput {
    /// Ask the node database, answer with [`SyncInput::Loaded`].
    Load(AskId, CacheKey),
    /// Look up the TXT records of this absolute name, answer with [`SyncInput::Answer`].
    Query(AskId, String),
    /// For the node database.
    Store(Write),
    /// A node of a list.
    Node(Box<NodeRecord>),
    /// A list's root was accepted.
    Root(TreeUrl, TreeRoot),
    /// A list links to another.
    Link(TreeUrl, TreeUrl),
    /// All entries of a list were met, so many in all. Begins again after [`REPEAT_AFTER`](super::REPEAT_AFTER).
    Complete(TreeUrl, usize),
    /// Something was not accepted. `None`: the root.
    Refused(TreeUrl, Option<EntryHash>, SyncError),
}

/// Why DNS gave no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// There is no such name, or no TXT record under it.
    #[error("there is no TXT record under this name")]
    NotFound,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The server failed or could not be reached.
    #[error("the DNS server failed or cannot be reached")]
    Failed,
}

/// Why a root or an entry was not accepted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// It could not be looked up.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// There is no root signed by the list's key.
    #[error("no TXT record is a root signed by the key in the list's URL")]
    NoRoot,
    /// The root's number is lower than one seen before.
    #[error("the root's number {found} is lower than {seen}, which was seen before")]
    Stale {
        /// The number in the root.
        found: u64,
        /// The highest seen.
        seen: u64,
    },
    /// No text under the name hashes to it.
    #[error("no TXT record has the content that its name promises")]
    WrongHash,
    /// What was signed is no entry.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// A link among the nodes, or a node among the links.
    #[error("an entry of the wrong kind in the tree of {0:?}")]
    WrongKind(Subtree),
    /// More than is followed.
    #[error("{0} entries more than are followed")]
    TooMany(usize),
    /// The node's address is not of the Internet.
    #[error("the node's record has no address, or one that is not of the Internet")]
    Address,
}

/// Counts since the start.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SyncCounters {
    /// Names looked up.
    pub queries: u64,
    /// Entries that the node database had.
    pub cached: u64,
    /// Nodes handed out.
    pub nodes: u64,
    /// Roots and entries not accepted.
    pub refused: u64,
}
