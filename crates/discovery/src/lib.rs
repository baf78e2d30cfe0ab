//! Ethereum node discovery: the Kademlia table, lookups and the discv4 protocol, as machines without I/O, and with feature
//! `tokio` as a service on a UDP socket. RLPx, dialling and what a peer is good for are left to the crates above.

#[cfg(feature = "tokio")]
mod config;
#[cfg(feature = "tokio")]
mod driver;
#[cfg(feature = "tokio")]
mod error;
#[cfg(feature = "tokio")]
mod handle;
#[cfg(feature = "tokio")]
mod iter;
mod kad;
#[cfg(feature = "tokio")]
mod local;
#[cfg(feature = "tokio")]
mod metrics;
#[cfg(feature = "tokio")]
mod socket;
#[cfg(all(feature = "tokio", feature = "serde"))]
mod text;
pub mod v4;
#[cfg(feature = "tokio")]
mod walk;

#[cfg(feature = "tokio")]
pub use config::{ConfigError, DiscoveryConfig, DiscoveryConfigBuilder};
#[cfg(feature = "tokio")]
pub use driver::MAX_OPS;
#[cfg(feature = "tokio")]
pub use error::StartError;
#[cfg(feature = "tokio")]
pub use handle::{Discovery, MAX_REQUESTS};
#[cfg(feature = "tokio")]
pub use iter::RandomNodes;
pub use kad::{
    ALPHA, Added, BUCKET_LIMITS, BUCKET_SIZE, BUCKETS, BucketSnapshot, EntrySnapshot, Lookup,
    MAX_CANDIDATES, MAX_QUERIES, MAX_REPLACEMENTS, Proof, Refusal, RevalidationConfig,
    RevalidationList, SubnetLimits, TABLE_LIMITS, Table, TableSnapshot,
};
#[cfg(feature = "tokio")]
pub use local::EntryError;
#[cfg(feature = "tokio")]
pub use metrics::DiscoveryMetrics;
#[cfg(feature = "tokio")]
pub use socket::MAX_QUEUED;
pub use v4::{PongInfo, RequestError, Target};
#[cfg(feature = "tokio")]
pub use walk::{MAX_GIVEN, MAX_PAUSE, MAX_READY, MIN_PAUSE, REPEAT_AFTER};
