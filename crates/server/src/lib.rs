//! A devp2p server: whom to dial, whom to let in, and peers that run any
//! sub-protocol.
//!
//! All decisions are made by two machines without I/O: [`ServerCore`] (dial
//! scheduler, admission, the set of connections) and [`PeerCore`] (one
//! connection's ping loop and read loop). With the feature `tokio` a run loop
//! and a task for each peer drive them, behind the `Server` handle.
//!
//! ```
//! # #[cfg(feature = "tokio")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use tercet_nodedb::NodeDb;
//! use tercet_server::{SecretKey, Server, ServerConfig};
//!
//! let key = SecretKey::from_bytes(&[7; 32])?;
//! let config = ServerConfig::builder(key).listen("127.0.0.1:0".parse()?).max_peers(10).build()?;
//! let server = Server::start(config, Vec::new(), NodeDb::memory()?).await?;
//! assert!(server.enode().to_string().starts_with("enode://"));
//! assert!(server.peers().is_empty());
//! server.shutdown().await;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "tokio"))]
//! # fn main() {}
//! ```
//!
//! The README shows a protocol of one's own in 30 lines, and every bound.

mod admission;
#[cfg(feature = "tokio")]
mod config;
mod core;
mod dial;
#[cfg(feature = "tokio")]
mod driver;
mod error;
mod event;
#[cfg(feature = "tokio")]
mod handle;
mod limits;
#[cfg(feature = "tokio")]
mod metrics;
mod peer;
mod peers;
#[cfg(feature = "tokio")]
mod protocol;
#[cfg(feature = "tokio")]
mod setup;
#[cfg(feature = "tokio")]
mod start;

pub use admission::Netrestrict;
#[cfg(feature = "tokio")]
pub use config::{MAX_CLIENT_ID, Nat, ServerConfig, ServerConfigBuilder};
pub use core::{ConnId, CoreConfig, STALL, ServerCore, ServerInput, ServerOutput};
pub use dial::{Backoff, DialKind, DialTarget, DialTask, MAX_CANDIDATE_RUN, ResolveTask};
pub use error::CommandError;
#[cfg(feature = "tokio")]
pub use error::{ConfigError, StartError};
pub use event::{DialError, DropReason, RefuseReason, ServerEvent};
#[cfg(feature = "tokio")]
pub use handle::Server;
pub use limits::{Limits, MAX_NAMED_NODES, Timeouts};
#[cfg(feature = "tokio")]
pub use metrics::ServerMetrics;
pub use peer::{
    Close, Direction, Fault, PING_BURST, PeerCore, PeerInfo, PeerInput, PeerOutput, PeerTimeouts,
};
#[cfg(feature = "tokio")]
pub use peer::{
    INBOX_BYTES, INBOX_MESSAGES, InboundPayload, Message, OUTBOX_BYTES, OUTBOX_MESSAGES, Peer,
    ProtocolIo, ProtocolSender, SendError,
};
pub use peers::penalty::{Penalty, Rule, Score, Violation};
#[cfg(feature = "tokio")]
pub use protocol::{Protocol, ProtocolError, ProtocolFuture};
#[cfg(feature = "tokio")]
pub use tercet_discovery::{NodeStream, Source, SourceError, Trust};
pub use tercet_enode::{
    AddressClass, Endpoint, EnodeUrl, Node, NodeAddress, NodeId, NodeRecord, PublicKey, SecretKey,
};
pub use tercet_nodedb::NodeDb;
pub use tercet_rlpx::{Capability, CapabilityError, CapabilityName, DisconnectReason, Payload};

#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;
