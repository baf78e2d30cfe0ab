//! Node Discovery v4: messages, the packet codec with all the cryptography, and the state machine with
//! none.

mod bond;
pub mod codec;
mod core;
mod message;

pub use self::core::{
    Command, Drop, Found, MAX_CONTACTS, MAX_INBOUND_CONTACTS, MAX_JOBS, MAX_LATE, MAX_LOOKUPS,
    MAX_WAITERS, OpId, PongInfo, Reply, RequestError, SOURCE_BURST, SOURCE_RATE, Token, V4Config,
    V4Core, V4Counters, V4Input, V4Output,
};
pub use bond::{BOND_LIFETIME, MAX_BONDS, MAX_HEARD};
pub use message::{
    EnrRequest, EnrResponse, FindNode, MAX_NEIGHBORS_PER_PACKET, Message, MessageKind, Neighbor,
    Neighbors, PacketHash, Ping, Pong, Target, WireEndpoint,
};
