//! The client over a real resolver. No task of its own: it moves while somebody polls, and costs nothing otherwise.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, Stream};
use futures::{FutureExt as _, StreamExt as _};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::{Resolver, TokioResolver};
use tercet_enode::{Node, NodeRecord};
use tercet_machine::{Clock, Machine as _, MachineRng};
use tercet_nodedb::NodeDb;
use tokio::time::{Instant, Sleep};

use super::label::EntryHash;
use super::root::TreeRoot;
use super::sync::{
    AskId, DnsSync, LookupError, SyncConfig, SyncCounters, SyncError, SyncInput, SyncOutput,
};
use super::url::TreeUrl;

/// Steps in one poll, after which other tasks get their turn.
const STEPS_AT_ONCE: usize = 256;
/// A list whose root was not accepted so often is not fetched.
const ROOT_TRIES: u32 = 3;
/// As [`DnsSync`] asks for an entry.
const ENTRY_TRIES: u32 = 3;

/// Where and how lists are looked up.
#[derive(Clone, Debug, Default)]
pub struct DnsConfig {
    /// The servers to ask, over UDP and TCP. Default: none, those of the system's configuration are asked.
    pub name_servers: Vec<SocketAddr>,
    /// How lists are read.
    pub sync: SyncConfig,
}

/// Why no client can be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DnsStartError {
    /// The resolver cannot be made.
    #[error("the resolver's configuration cannot be used")]
    Resolver(#[source] Box<NetError>),
    /// The system has no randomness to give.
    #[error("the system has no randomness")]
    Randomness,
}

type Lookup = BoxFuture<'static, (AskId, Result<Vec<Bytes>, LookupError>)>;

/// The machine, and what it does with the world.
struct Client {
    sync: DnsSync,
    resolver: TokioResolver,
    lookups: FuturesUnordered<Lookup>,
    sleep: Pin<Box<Sleep>>,
    clock: Clock,
    db: Option<NodeDb>,
}

impl Client {
    fn new(config: DnsConfig, db: Option<NodeDb>) -> Result<Self, DnsStartError> {
        let rng = MachineRng::from_system().map_err(|_| DnsStartError::Randomness)?;
        Ok(Self {
            resolver: resolver(&config)?,
            sync: DnsSync::new(config.sync, rng),
            lookups: FuturesUnordered::new(),
            sleep: Box::pin(tokio::time::sleep(std::time::Duration::ZERO)),
            clock: Clock::start(),
            db,
        })
    }

    fn input(&mut self, input: SyncInput) {
        self.sync.handle(self.clock.now(), input);
    }

    /// The next thing to tell; does what the machine asks for on the way.
    fn poll_told(&mut self, cx: &mut Context<'_>) -> Poll<SyncOutput> {
        for _ in 0..STEPS_AT_ONCE {
            if let Some(output) = self.sync.poll() {
                match self.perform(output) {
                    Some(told) => return Poll::Ready(told),
                    None => continue,
                }
            }
            // Answers that have come go before their timeouts: nobody may have polled for a while.
            if let Poll::Ready(Some((id, answer))) = self.lookups.poll_next_unpin(cx) {
                self.input(SyncInput::Answer(id, answer));
                continue;
            }
            let Some(deadline) = self.sync.deadline() else {
                return Poll::Pending;
            };
            let at = Instant::from_std(self.clock.instant(deadline));
            if self.sleep.deadline() != at {
                self.sleep.as_mut().reset(at);
            }
            ready!(self.sleep.poll_unpin(cx));
            self.sync.handle_timeout(self.clock.now());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn perform(&mut self, output: SyncOutput) -> Option<SyncOutput> {
        match output {
            SyncOutput::Load(id, key) => {
                let value = self.db.as_ref().map(|db| db.cached(&key));
                // A database that cannot be read costs lookups.
                let value = value.and_then(|read| {
                    read.unwrap_or_else(|error| {
                        tracing::debug!(%error, "nothing from the cache");
                        None
                    })
                });
                self.input(SyncInput::Loaded(id, value));
                None
            }
            SyncOutput::Query(id, name) => {
                let resolver = self.resolver.clone();
                let lookup = async move { (id, look_up(&resolver, &name).await) };
                self.lookups.push(lookup.boxed());
                None
            }
            SyncOutput::Store(write) => {
                if let Some(Err(error)) = self.db.as_ref().map(|db| db.write(write)) {
                    tracing::debug!(%error, "not kept in the cache");
                }
                None
            }
            told => Some(told),
        }
    }
}

fn resolver(config: &DnsConfig) -> Result<TokioResolver, DnsStartError> {
    let failed = |error| DnsStartError::Resolver(Box::new(error));
    let mut builder = if config.name_servers.is_empty() {
        Resolver::builder_tokio().map_err(failed)?
    } else {
        let servers = config.name_servers.iter().map(|address| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut to| {
                to.port = address.port();
                to
            });
            NameServerConfig::new(address.ip(), true, connections.into())
        });
        let servers = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        Resolver::builder_with_config(servers, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    // Entries are kept in the node database, and roots must not be kept at all.
    options.cache_size = 0;
    // One answer in the time there is: the machine asks again by itself.
    options.timeout = config.sync.timeout;
    options.attempts = 1;
    builder.build().map_err(failed)
}

async fn look_up(resolver: &TokioResolver, name: &str) -> Result<Vec<Bytes>, LookupError> {
    match resolver.txt_lookup(name).await {
        Ok(found) => {
            let texts = found
                .answers()
                .iter()
                .filter_map(|record| match &record.data {
                    RData::TXT(text) => Some(Bytes::from(text.txt_data.concat())),
                    _ => None,
                });
            Ok(texts.collect())
        }
        Err(error) => {
            tracing::debug!(name, %error, "no answer");
            Err(match error {
                error if error.is_no_records_found() => LookupError::NotFound,
                NetError::Timeout => LookupError::Timeout,
                _ => LookupError::Failed,
            })
        }
    }
}

/// The nodes of lists in DNS, as a stream without end: a list that is through begins again after a while. It ends when no
/// list is left.
pub struct DnsNodes {
    client: Client,
    ready: VecDeque<Node>,
    wanted: u64,
}

impl DnsNodes {
    /// Follows these lists. With a database, entries are looked up once for all runs, and a list never goes back.
    ///
    /// # Errors
    /// [`DnsStartError`].
    pub fn new(
        lists: impl IntoIterator<Item = TreeUrl>,
        config: DnsConfig,
        db: Option<NodeDb>,
    ) -> Result<Self, DnsStartError> {
        let mut client = Client::new(config, db)?;
        for list in lists {
            client.input(SyncInput::Follow(list));
        }
        Ok(Self {
            client,
            ready: VecDeque::new(),
            wanted: 0,
        })
    }

    /// Follows this list no more, nor those only it leads to.
    pub fn leave(&mut self, list: TreeUrl) {
        self.client.input(SyncInput::Leave(list));
    }

    /// Counts since the start.
    #[must_use]
    pub const fn counters(&self) -> SyncCounters {
        self.client.sync.counters()
    }
}

impl Stream for DnsNodes {
    type Item = Node;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Node>> {
        loop {
            if let Some(node) = self.ready.pop_front() {
                return Poll::Ready(Some(node));
            }
            if self.client.sync.lists().len() == 0 {
                return Poll::Ready(None);
            }
            if self.wanted == 0 {
                self.wanted = 1;
                self.client.input(SyncInput::Want(1));
            }
            match ready!(self.client.poll_told(cx)) {
                SyncOutput::Node(record) => {
                    self.wanted = 0;
                    self.ready.extend(Node::from_record(*record));
                }
                SyncOutput::Root(list, root) => {
                    tracing::debug!(%list, seq = root.seq(), "a list's root");
                }
                SyncOutput::Refused(list, entry, error) => {
                    tracing::debug!(%list, ?entry, %error, "not accepted");
                }
                _ => {}
            }
        }
    }
}

impl fmt::Debug for DnsNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsNodes")
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

/// A whole list.
#[derive(Clone, PartialEq, Debug)]
pub struct FetchedList {
    /// Its root.
    pub root: TreeRoot,
    /// Its nodes, in no order.
    pub nodes: Vec<NodeRecord>,
    /// The lists it links to.
    pub links: Vec<TreeUrl>,
    /// Entries that are signed and make no sense, left out.
    pub spoiled: Vec<(EntryHash, SyncError)>,
}

/// Why a list could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No client can be started.
    #[error(transparent)]
    Start(#[from] DnsStartError),
    /// The root was not accepted, three times.
    #[error("no root at {}", list.domain())]
    Root {
        /// The list.
        list: TreeUrl,
        /// Why not.
        source: SyncError,
    },
    /// An entry could not be had, in three tries.
    #[error("the list at {} is not complete: nothing usable at {entry}", list.domain())]
    Incomplete {
        /// The list.
        list: TreeUrl,
        /// The entry.
        entry: EntryHash,
        /// Why not.
        source: SyncError,
    },
}

/// Fetches a whole list, without those it links to. `config` decides about servers and time; nodes come whatever their
/// address.
///
/// # Errors
/// [`FetchError`]. An entry that is signed and malformed is no error, but reported.
pub async fn fetch_list(list: TreeUrl, mut config: DnsConfig) -> Result<FetchedList, FetchError> {
    config.sync.follow_links = false;
    config.sync.any_address = true;
    let mut client = Client::new(config, None)?;
    client.input(SyncInput::Follow(list.clone()));
    client.input(SyncInput::Want(u64::MAX));
    let (mut fetched, mut root_tries) = (None::<FetchedList>, 0);
    let mut tries: BTreeMap<EntryHash, u32> = BTreeMap::new();
    loop {
        match std::future::poll_fn(|cx| client.poll_told(cx)).await {
            SyncOutput::Root(_, root) => {
                // Published anew on the way: the tree that changed begins again.
                let (mut nodes, mut links, mut spoiled) = (vec![], vec![], vec![]);
                if let Some(before) = fetched.take() {
                    if before.root.nodes() == root.nodes() {
                        nodes = before.nodes;
                        spoiled = before.spoiled;
                    }
                    if before.root.links() == root.links() {
                        links = before.links;
                    }
                }
                fetched = Some(FetchedList {
                    root,
                    nodes,
                    links,
                    spoiled,
                });
            }
            SyncOutput::Refused(list, None, source) => {
                root_tries += 1;
                if root_tries >= ROOT_TRIES {
                    return Err(FetchError::Root { list, source });
                }
            }
            SyncOutput::Refused(list, Some(entry), source) => match source {
                SyncError::Lookup(_) | SyncError::WrongHash => {
                    let tried = tries.entry(entry.clone()).or_default();
                    *tried += 1;
                    if *tried >= ENTRY_TRIES {
                        return Err(FetchError::Incomplete {
                            list,
                            entry,
                            source,
                        });
                    }
                }
                SyncError::TooMany(_) => {
                    return Err(FetchError::Incomplete {
                        list,
                        entry,
                        source,
                    });
                }
                _ => {
                    if let Some(fetched) = &mut fetched {
                        fetched.spoiled.push((entry, source));
                    }
                }
            },
            SyncOutput::Node(record) => {
                if let Some(fetched) = &mut fetched {
                    fetched.nodes.push(*record);
                }
            }
            SyncOutput::Link(_, link) => {
                if let Some(fetched) = &mut fetched {
                    fetched.links.push(link);
                }
            }
            SyncOutput::Complete(..) => {
                if let Some(fetched) = fetched.take() {
                    return Ok(fetched);
                }
            }
            SyncOutput::Load(..) | SyncOutput::Query(..) | SyncOutput::Store(_) => {}
        }
    }
}
