//! A whole list at once, for whoever wants to keep or publish it: everything or an error.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tercet_enode::NodeRecord;

use super::driver::{Cache, Client, DnsConfig, DnsStartError};
use super::label::EntryHash;
use super::publish::Tree;
use super::root::TreeRoot;
use super::sync::{SyncError, SyncInput, SyncOutput, entry_key};
use super::tree::TreeEntry;
use super::url::{Domain, TreeUrl};

/// A list whose root was not accepted so often is not fetched.
const ROOT_TRIES: u32 = 3;

/// A whole list.
#[derive(Clone, PartialEq, Debug)]
pub struct FetchedList {
    /// Its root.
    pub root: TreeRoot,
    /// Its nodes. Of several records of one node, which no publisher should have, the newest comes last.
    pub nodes: Vec<NodeRecord>,
    /// The lists it links to, in the order it names them.
    pub links: Vec<TreeUrl>,
    /// Entries that are signed and make no sense, left out.
    pub spoiled: Vec<(EntryHash, SyncError)>,
}

/// What an earlier fetch has left, so that the next one asks for what has changed.
#[derive(Clone, Default, Debug)]
pub struct KnownList {
    /// No root with a lower number is accepted. Default: 0.
    pub seq: u64,
    /// Entries that are in here are not looked up. Default: none.
    pub tree: Option<Tree>,
}

/// How far a fetch is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct FetchProgress {
    /// Nodes met.
    pub nodes: usize,
    /// Names looked up.
    pub queries: u64,
    /// Entries that were known.
    pub known: u64,
}

/// Why a list could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No client can be started.
    #[error(transparent)]
    Start(#[from] DnsStartError),
    /// The root was not accepted, three times.
    #[error("no root at {domain}")]
    Root {
        /// Where the list is.
        domain: Domain,
        /// Why not.
        source: SyncError,
    },
    /// An entry could not be had: in three tries of each of two passes under one root, the second of which brought nothing new.
    #[error("the list at {domain} is not complete: nothing usable at {entry}")]
    Incomplete {
        /// Where the list is.
        domain: Domain,
        /// The entry.
        entry: EntryHash,
        /// Why not.
        source: SyncError,
    },
}

/// Fetches a whole list, without those it links to. `config` decides about servers and time; nodes come whatever their
/// address. `progress` is called with every change. The text of every entry is kept until the end, 1 KiB at most each: a list
/// that is published anew on the way, or servers that fail for a while, cost what is missing and not all that was had.
///
/// # Errors
/// [`FetchError`]. An entry that is signed and malformed is no error, but reported.
pub async fn fetch_list(
    list: TreeUrl,
    mut config: DnsConfig,
    known: KnownList,
    mut progress: impl FnMut(FetchProgress),
) -> Result<FetchedList, FetchError> {
    config.sync.follow_links = false;
    config.sync.any_address = true;
    let entries = known.tree.iter().flat_map(Tree::entries);
    let entries = entries.map(|(hash, entry)| (entry_key(hash), Bytes::from(entry.to_string())));
    let mut client = Client::new(config, Cache::Known(entries.collect()))?;
    client.input(SyncInput::Follow(list.clone()));
    client.input(SyncInput::Want(u64::MAX));
    let mut fetch = Fetch::new(list.domain().clone(), known.seq);
    loop {
        let told = std::future::poll_fn(|cx| client.poll_told(cx)).await;
        match fetch.on_told(told, client.cache())? {
            Next::More => {}
            Next::Again => {
                client.input(SyncInput::Leave(list.clone()));
                client.input(SyncInput::Follow(list.clone()));
            }
            Next::Whole(fetched) => return Ok(fetched),
        }
        let counters = client.counters();
        progress(FetchProgress {
            nodes: fetch.fetched.as_ref().map_or(0, |list| list.nodes.len()),
            queries: counters.queries,
            known: counters.cached,
        });
    }
}

/// What to do after something was told.
#[derive(Debug)]
enum Next {
    /// Listen on.
    More,
    /// Begin another pass: the list is to be followed as if for the first time.
    Again,
    Whole(FetchedList),
}

/// A list that is being fetched.
struct Fetch {
    domain: Domain,
    /// No lower root is taken.
    seq: u64,
    fetched: Option<FetchedList>,
    root_tries: u32,
    /// Entries that could not be had so far in this pass; some may have come in a later try.
    failed: BTreeMap<EntryHash, SyncError>,
    /// The root of the pass before and how many entries were known at its end.
    before: Option<(TreeRoot, usize)>,
}

impl Fetch {
    const fn new(domain: Domain, seq: u64) -> Self {
        Self {
            domain,
            seq,
            fetched: None,
            root_tries: 0,
            failed: BTreeMap::new(),
            before: None,
        }
    }

    fn on_told(&mut self, told: SyncOutput, cache: &Cache) -> Result<Next, FetchError> {
        match (told, &mut self.fetched) {
            (SyncOutput::Root(_, root), _) => self.on_root(root)?,
            // With a root in hand, that another look at it failed is of no account.
            (SyncOutput::Refused(_, None, source), None) => {
                self.root_tries += 1;
                if self.root_tries >= ROOT_TRIES {
                    return Err(self.no_root(source));
                }
            }
            (SyncOutput::Refused(_, Some(entry), source), _) => self.on_refused(entry, source)?,
            (SyncOutput::Node(record), Some(fetched)) => fetched.nodes.push(*record),
            (SyncOutput::Complete(..), _) => return self.on_complete(cache),
            _ => {}
        }
        Ok(Next::More)
    }

    fn on_root(&mut self, root: TreeRoot) -> Result<(), FetchError> {
        let (found, seen) = (root.seq(), self.seq);
        if found < seen {
            return Err(self.no_root(SyncError::Stale { found, seen }));
        }
        self.seq = found;
        // Published anew on the way: the tree that changed begins again.
        let (mut nodes, mut spoiled) = (vec![], vec![]);
        if let Some(before) = self.fetched.take()
            && before.root.nodes() == root.nodes()
        {
            nodes = before.nodes;
            spoiled = before.spoiled;
        }
        self.fetched = Some(FetchedList {
            root,
            nodes,
            links: Vec::new(),
            spoiled,
        });
        Ok(())
    }

    fn on_refused(&mut self, entry: EntryHash, source: SyncError) -> Result<(), FetchError> {
        match source {
            SyncError::Lookup(_) | SyncError::WrongHash => {
                self.failed.insert(entry, source);
            }
            SyncError::TooMany(_) => return Err(self.incomplete(entry, source)),
            _ => {
                if let Some(fetched) = &mut self.fetched {
                    fetched.spoiled.push((entry, source));
                }
            }
        }
        Ok(())
    }

    /// Everything was met that could be had. If something is missing, perhaps because the list was published anew meanwhile,
    /// the root is looked at again, and the pass after that asks for nothing it has.
    fn on_complete(&mut self, cache: &Cache) -> Result<Next, FetchError> {
        let Some(mut fetched) = self.fetched.take() else {
            return Ok(Next::More);
        };
        let mut failed = std::mem::take(&mut self.failed);
        failed.retain(|entry, _| !cache.has(entry));
        let Some((entry, source)) = failed.pop_first() else {
            fetched.nodes.sort_by_key(NodeRecord::seq);
            fetched.links = links(fetched.root.links(), cache);
            return Ok(Next::Whole(fetched));
        };
        let met = Some((fetched.root, cache.known()));
        if self.before == met {
            return Err(self.incomplete(entry, source));
        }
        self.before = met;
        self.root_tries = 0;
        Ok(Next::Again)
    }

    fn incomplete(&self, entry: EntryHash, source: SyncError) -> FetchError {
        FetchError::Incomplete {
            domain: self.domain.clone(),
            entry,
            source,
        }
    }

    fn no_root(&self, source: SyncError) -> FetchError {
        let domain = self.domain.clone();
        FetchError::Root { domain, source }
    }
}

/// The links of a tree that was met whole, from left to right: they came in random order, and the signature is over this one.
fn links(root: &EntryHash, cache: &Cache) -> Vec<TreeUrl> {
    let (mut links, mut seen, mut open) = (Vec::new(), BTreeSet::new(), vec![root.clone()]);
    while let Some(hash) = open.pop() {
        let text = cache.load(&entry_key(&hash)).unwrap_or_default();
        match std::str::from_utf8(&text).map(str::parse) {
            _ if !seen.insert(hash) => {}
            Ok(Ok(TreeEntry::Branch(children))) => open.extend(children.into_iter().rev()),
            Ok(Ok(TreeEntry::Link(link))) => links.push(link),
            _ => {}
        }
    }
    links
}

#[cfg(test)]
mod tests;
