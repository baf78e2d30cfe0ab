//! Lists of nodes in DNS (EIP-1459): their entries, how they are read, and how a list is made, signed and written for
//! publishing.

#[cfg(feature = "tokio")]
mod driver;
#[cfg(feature = "tokio")]
mod fetch;
mod label;
mod publish;
mod root;
mod sync;
mod tree;
mod url;

#[cfg(feature = "tokio")]
pub use driver::{DnsConfig, DnsNodes, DnsStartError};
#[cfg(feature = "tokio")]
pub use fetch::{FetchError, FetchProgress, FetchedList, KnownList, fetch_list};
pub use label::{EntryHash, HashError, MAX_HASH, MIN_HASH, PUBLISHED_HASH};
pub use publish::{ENTRY_TTL, MAX_CHILDREN, PublishError, ROOT_TTL, SignedTree, Tree};
pub use root::{RootError, TreeRoot, parse_signature};
pub use sync::{
    AskId, DnsSync, LookupError, MAX_ASKS, MAX_ENTRIES, MAX_LEAF_FAILURES, MAX_LINKS, MAX_LISTS,
    MAX_ROOT_WAIT, QUERY_TIMEOUT, REPEAT_AFTER, ROOT_INTERVAL, Subtree, SyncConfig, SyncCounters,
    SyncError, SyncInput, SyncOutput,
};
pub use tree::{EntryError, MAX_TEXT, TreeEntry};
pub use url::{Domain, DomainError, TreeUrl, TreeUrlError};
