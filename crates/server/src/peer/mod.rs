//! One connection: its handle, its machine and its task.

mod core;
#[cfg(feature = "tokio")]
mod driver;
#[cfg(feature = "tokio")]
mod handle;
mod info;
#[cfg(feature = "tokio")]
mod io;
mod ping_loop;
mod read_loop;
mod write_watch;

pub use self::core::{Close, Fault, PeerCore, PeerInput, PeerOutput, PeerTimeouts};
#[cfg(feature = "tokio")]
pub(crate) use driver::{PeerEnd, PeerStart, run_peer};
#[cfg(feature = "tokio")]
pub use handle::Peer;
pub use info::{Direction, PeerInfo};
#[cfg(feature = "tokio")]
pub use io::{
    INBOX_BYTES, INBOX_MESSAGES, InboundPayload, Message, OUTBOX_BYTES, OUTBOX_MESSAGES,
    ProtocolIo, ProtocolSender, SendError,
};
pub use ping_loop::PING_BURST;

#[cfg(test)]
mod tests;
