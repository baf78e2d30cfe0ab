//! Ethereum node discovery: the Kademlia table, lookups, discv4 and discv5, as machines without I/O, and with feature `tokio`
//! as a service on one UDP socket for each IP family. RLPx, dialling and what a peer is good for are left to the crates above.
//!
//! ```text
//!  sockets ── driver ── threads for curve work, database, talk handlers, handles      feature `tokio`
//!               │
//!           NodeStack          datagrams: protocol, codec, sessions, the node's own record
//!               │
//!         DiscoveryCore        messages: one table, lookups, refresh, what callers ask
//!           │       │
//!        discv4   discv5       how one node is asked one question
//! ```
//!
//! The table and the lookup know no protocol:
//!
//! ```
//! use tercet_discovery::{Added, Lookup, Proof, Protocol, RevalidationConfig, Table};
//! use tercet_enode::{Endpoint, Node, SecretKey};
//! use tercet_machine::{MachineRng, MonoTime};
//!
//! let mut rng = MachineRng::from_seed([7; 32]);
//! let mut node = |n| Node::new(SecretKey::generate(&mut rng).public_key(), Endpoint::new([10, 0, 0, n].into(), 30303, 30303));
//! let (own, other) = (node(1), node(2));
//! let mut table = Table::new(own.id(), RevalidationConfig::default(), MachineRng::from_seed([8; 32]));
//! assert_eq!(table.add(MonoTime::ZERO, other.clone(), Proof::Answer(Protocol::V4)), Added::Inserted);
//!
//! let start = table.closest(&own.id(), 16, |_, live| !live.is_empty());
//! let mut lookup = Lookup::new(own.id(), own.id(), start.into_iter().cloned());
//! assert_eq!(lookup.next_query(), Some(other.clone()));
//! lookup.on_answer(&other.id());
//! assert!(lookup.is_done());
//! ```

#[cfg(feature = "tokio")]
mod config;
mod core;
pub mod dns;
#[cfg(feature = "tokio")]
mod driver;
mod engine;
#[cfg(feature = "tokio")]
mod error;
mod gate;
#[cfg(feature = "tokio")]
mod handle;
#[cfg(feature = "tokio")]
mod iter;
mod kad;
mod local;
#[cfg(feature = "tokio")]
mod metrics;
mod mux;
#[cfg(feature = "tokio")]
mod ntp;
mod policy;
#[cfg(feature = "tokio")]
mod pool;
mod reach;
#[cfg(feature = "tokio")]
mod socket;
mod stack;
mod target;
#[cfg(all(feature = "tokio", feature = "serde"))]
mod text;
pub mod v4;
pub mod v5;
mod vote;

#[cfg(feature = "tokio")]
pub use config::{ConfigError, DiscoveryConfig, DiscoveryConfigBuilder};
pub use core::{
    Command, CoreConfig, CoreCounters, CoreInput, CoreOutput, DiscoveryCore, FindTarget, Found,
    MAX_CLAIMS, MAX_LOOKUPS, MAX_OPS, MAX_REPEATS, OpId, Refused, Reply, RequestError,
    SUSPICION_COOLDOWN, SUSPICIOUS,
};
pub use engine::{PongInfo, Protocol, Protocols};
#[cfg(feature = "tokio")]
pub use error::{StartError, TalkError};
pub use gate::{SOURCE_BURST, SOURCE_RATE};
#[cfg(feature = "tokio")]
pub use handle::{Discovery, MAX_REQUESTS};
#[cfg(feature = "tokio")]
pub use iter::{
    DEFAULT_LOOKUPS, FairMix, MAX_GIVEN, MAX_PAUSE, MAX_READY, MAX_SOURCES, MIN_PAUSE, MixHandle,
    NodeStream, REPEAT_AFTER, RandomNodes, Source, SourceError, Sourced, Trust, filtered,
    prefetched,
};
pub use kad::{
    ALPHA, Added, BUCKET_LIMITS, BUCKET_SIZE, BUCKETS, BucketSnapshot, CheckFailed, EntrySnapshot,
    Fallback, Lookup, MAX_CANDIDATES, MAX_DEPARTED, MAX_NAMED, MAX_PATHS, MAX_PLACES, MAX_QUERIES,
    MAX_REPLACEMENTS, Proof, Refusal, RevalidationConfig, RevalidationList, Standing, SubnetLimits,
    TABLE_LIMITS, Table, TableSnapshot,
};
pub use local::EntryError;
#[cfg(feature = "tokio")]
pub use metrics::DiscoveryMetrics;
pub use policy::Families;
#[cfg(feature = "tokio")]
pub use socket::MAX_QUEUED;
pub use stack::{
    NodeStack, StackConfig, StackCounters, StackDone, StackInput, StackJob, StackOutput,
};
pub use target::Target;

#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;
