//! Node Discovery v4: messages, the packet codec with all the cryptography, and the engine of its exchanges with none.

mod bond;
pub mod codec;
pub(crate) mod engine;
mod message;

pub use bond::{BOND_LIFETIME, MAX_BONDS, MAX_HEARD};
pub use engine::{
    Drop, MAX_CONTACTS, MAX_INBOUND_CONTACTS, MAX_JOBS, MAX_LATE, MAX_WAITERS, Token, V4Counters,
};
pub use message::{
    EnrRequest, EnrResponse, FindNode, MAX_NEIGHBORS_PER_PACKET, Message, MessageKind, Neighbor,
    Neighbors, PacketHash, Ping, Pong, UnknownBytes, WireEndpoint, WireTarget,
};
