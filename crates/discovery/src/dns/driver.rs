//! The client over a real resolver. No task of its own: it moves while somebody polls, and costs nothing otherwise.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
use tercet_enode::Node;
use tercet_machine::{Clock, Machine as _, MachineRng};
use tercet_nodedb::{CacheKey, NodeDb, Write};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::label::EntryHash;
use super::root::ROOT_PREFIX;
use super::sync::{
    AskId, DnsSync, LookupError, MAX_LISTS, SyncConfig, SyncCounters, SyncInput, SyncOutput,
    entry_key,
};
use super::url::TreeUrl;

/// Steps in one poll, after which other tasks get their turn.
const STEPS_AT_ONCE: usize = 256;

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
    /// More lists than are followed.
    #[error("{found} lists, {MAX_LISTS} are followed at most")]
    TooManyLists {
        /// How many.
        found: usize,
    },
}

/// Refusals in one poll, after which other tasks get their turn: checking a record's signature takes some 60 µs.
const TOLD_AT_ONCE: usize = 32;

type Lookup = BoxFuture<'static, (AskId, Result<Vec<Bytes>, LookupError>)>;

/// Where entries are that need not be looked up.
pub(super) enum Cache {
    /// Nowhere.
    None,
    /// In the node database, which takes new ones.
    Database(NodeDb),
    /// Here, which takes new ones but no roots: those are asked for.
    Known(BTreeMap<CacheKey, Bytes>),
}

impl Cache {
    pub(super) fn load(&self, key: &CacheKey) -> Option<Bytes> {
        match self {
            Self::None => None,
            // A database that cannot be read costs lookups.
            Self::Database(db) => db.cached(key).unwrap_or_else(|error| {
                tracing::debug!(%error, "nothing from the cache");
                None
            }),
            Self::Known(known) => known.get(key).cloned(),
        }
    }

    pub(super) fn store(&mut self, write: Write) {
        match (self, write) {
            (Self::Database(db), write) => {
                if let Err(error) = db.write(write) {
                    tracing::debug!(%error, "not kept in the cache");
                }
            }
            (Self::Known(known), Write::Cache { key, value })
                if !value.starts_with(ROOT_PREFIX.as_bytes()) =>
            {
                known.insert(key, value);
            }
            _ => {}
        }
    }

    pub(super) fn has(&self, entry: &EntryHash) -> bool {
        self.load(&entry_key(entry)).is_some()
    }

    /// How many entries are here.
    pub(super) fn known(&self) -> usize {
        match self {
            Self::Known(known) => known.len(),
            Self::None | Self::Database(_) => 0,
        }
    }
}

/// The machine, and what it does with the world.
pub(super) struct Client {
    sync: DnsSync,
    resolver: TokioResolver,
    lookups: FuturesUnordered<Lookup>,
    sleep: Pin<Box<Sleep>>,
    clock: Clock,
    cache: Cache,
}

impl Client {
    pub(super) fn new(config: DnsConfig, cache: Cache) -> Result<Self, DnsStartError> {
        let rng = MachineRng::from_system().map_err(|_| DnsStartError::Randomness)?;
        Ok(Self {
            resolver: resolver(&config)?,
            sync: DnsSync::new(config.sync, rng),
            lookups: FuturesUnordered::new(),
            sleep: Box::pin(tokio::time::sleep(std::time::Duration::ZERO)),
            clock: Clock::start(),
            cache,
        })
    }

    pub(super) const fn counters(&self) -> SyncCounters {
        self.sync.counters()
    }

    pub(super) const fn cache(&self) -> &Cache {
        &self.cache
    }

    pub(super) fn input(&mut self, input: SyncInput) {
        self.sync.handle(self.clock.now(), input);
    }

    /// The next thing to tell; does what the machine asks for on the way.
    pub(super) fn poll_told(&mut self, cx: &mut Context<'_>) -> Poll<SyncOutput> {
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
                let value = self.cache.load(&key);
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
                self.cache.store(write);
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
    // One answer in the time there is, and no repetition that no rate counts: the machine asks again by itself.
    options.timeout = config.sync.timeout;
    options.attempts = 0;
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
    counters: watch::Sender<SyncCounters>,
}

impl DnsNodes {
    /// Follows these lists, at most [`MAX_LISTS`]. With a database, entries are looked up once for all runs, and a list never goes back.
    ///
    /// # Errors
    /// [`DnsStartError`].
    pub fn new(
        lists: impl IntoIterator<Item = TreeUrl>,
        config: DnsConfig,
        db: Option<NodeDb>,
    ) -> Result<Self, DnsStartError> {
        let lists: BTreeSet<TreeUrl> = lists.into_iter().collect();
        if lists.len() > MAX_LISTS {
            return Err(DnsStartError::TooManyLists { found: lists.len() });
        }
        let mut client = Client::new(config, db.map_or(Cache::None, Cache::Database))?;
        for list in lists {
            client.input(SyncInput::Follow(list));
        }
        Ok(Self {
            client,
            ready: VecDeque::new(),
            wanted: 0,
            counters: watch::channel(SyncCounters::default()).0,
        })
    }

    /// Follows this list no more, nor those only it leads to.
    pub fn leave(&mut self, list: TreeUrl) {
        self.client.input(SyncInput::Leave(list));
    }

    /// Counts since the start.
    #[must_use]
    pub const fn counters(&self) -> SyncCounters {
        self.client.counters()
    }

    /// The same for whoever wants to know once the stream has been given away.
    #[must_use]
    pub fn counters_watch(&self) -> watch::Receiver<SyncCounters> {
        self.counters.subscribe()
    }

    fn publish(&self) {
        let now = self.counters();
        self.counters.send_if_modified(|told| {
            let news = *told != now;
            *told = now;
            news
        });
    }
}

impl Stream for DnsNodes {
    type Item = Node;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Node>> {
        for _ in 0..TOLD_AT_ONCE {
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
            let told = self.client.poll_told(cx);
            self.publish();
            match ready!(told) {
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
        // A list of nobody to dial must not hold up its task.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl fmt::Debug for DnsNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsNodes")
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures::task::noop_waker_ref;
    use tercet_enode::{NodeRecord, SecretKey};

    use super::super::publish::Tree;
    use super::super::sync::root_key;
    use super::*;

    #[tokio::test]
    async fn a_server_that_fails_is_asked_once() {
        let server = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let config = DnsConfig {
            name_servers: vec![server.local_addr().unwrap()],
            ..DnsConfig::default()
        };
        let resolver = resolver(&config).unwrap();
        let mut asked = 0;
        let fail = async {
            let mut packet = [0; 512];
            loop {
                let (length, from) = server.recv_from(&mut packet).await.unwrap();
                asked += 1;
                // A response; the server failed (RFC 1035, 4.1.1).
                packet[2] |= 0x80;
                packet[3] = packet[3] & 0xf0 | 2;
                server.send_to(&packet[..length], from).await.unwrap();
            }
        };
        tokio::select! {
            () = fail => unreachable!("it answers for ever"),
            found = look_up(&resolver, "a.org.") => assert_eq!(found, Err(LookupError::Failed)),
        }
        assert_eq!(asked, 1);
    }

    #[tokio::test]
    async fn a_list_of_nobody_to_dial_does_not_hold_up_its_task() {
        let node = |n: u8| {
            let key = SecretKey::from_bytes(&[n; 32]).unwrap();
            let record = NodeRecord::builder().ip([10, 0, 0, n].into()).udp(30303);
            record.sign(&key).unwrap()
        };
        let (key, domain) = (SecretKey::from_bytes(&[9; 32]).unwrap(), "a.org");
        let list = TreeUrl::new(key.public_key(), domain.parse().unwrap());
        let signed = Tree::new((1..=200).map(node), []).unwrap().sign(1, &key);
        let root = Bytes::from(signed.root().to_string());
        let entries = signed.tree().entries();
        let entries = entries.map(|(hash, entry)| (entry_key(hash), entry.to_string().into()));
        let known = entries.chain([(root_key(&list), root)]).collect();
        // Where nobody answers: all there is, is known.
        let config = DnsConfig {
            name_servers: vec!["127.0.0.1:1".parse().unwrap()],
            ..DnsConfig::default()
        };
        let mut nodes = DnsNodes::new([list], config, None).unwrap();
        nodes.client.cache = Cache::Known(known);
        let mut polls = 0;
        while nodes.counters().refused < 200 {
            let before = nodes.counters().refused;
            let polled = nodes.poll_next_unpin(&mut Context::from_waker(noop_waker_ref()));
            assert!(polled.is_pending());
            let refused = nodes.counters().refused - before;
            assert!(refused <= TOLD_AT_ONCE as u64 + 8, "{refused} at once");
            polls += 1;
            assert!(polls < 100);
        }
    }
}
