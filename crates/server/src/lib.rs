//! A devp2p server: whom to dial, whom to let in, and peers that run any sub-protocol.
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
pub use tercet_enode::{
    AddressClass, Endpoint, EnodeUrl, Node, NodeAddress, NodeId, NodeRecord, PublicKey, SecretKey,
};
pub use tercet_rlpx::{Capability, CapabilityError, CapabilityName, DisconnectReason, Payload};
