//! Node Discovery v5.1 (devp2p `discv5-wire.md`, `discv5-theory.md`): packets, sessions and the messages inside them. Who is
//! in the table and which lookups run belongs to the core that both protocols share.

mod codec;
pub mod crypto;
pub(crate) mod engine;
mod message;
pub mod packet;
mod session;
mod session_io;
mod sessions;
#[cfg(feature = "tokio")]
mod talk;
mod talk_io;

pub use codec::{MAX_MESSAGE, MAX_NODES, MAX_NODES_MESSAGES, MessageError, RawRecord, pack_nodes};
pub use engine::{Drop, MAX_REQUESTS, MAX_REQUESTS_PER_NODE, REPLY_TIMEOUT, V5Counters};
pub use message::{
    Distances, MAX_DISTANCES, MAX_REQUEST_ID, Message, MessageKind, Request, RequestId, Response,
    WireMessage,
};
pub use session::{FORMER_LIFETIME, REKEY_AFTER};
pub use session_io::{Nonce, SessionInput, SessionOutput, V5Peer};
pub use sessions::{
    CHALLENGE_LIFETIME, DEFAULT_SESSIONS, HandshakeJob, HandshakeResult, MAX_CHALLENGES,
    MAX_NODE_QUEUED, MAX_QUEUED, MAX_SUBNET_CHALLENGES, MAX_TRIES, Opened, REQUEST_LIFETIME,
    SessionCounters, SessionDrop, Sessions, SessionsConfig,
};
#[cfg(feature = "tokio")]
pub use talk::{
    MAX_TALK_PROTOCOLS, MAX_TALK_RESPONSE, MAX_TALKS, TalkCounters, TalkRegisterError,
    TalkRegistry, TalkRequest, TalkResponder, TalkTooLong,
};
pub use talk_io::{TalkMessage, TalkResponse};
