//! RLPx, the encrypted transport of Ethereum's peer-to-peer network: handshake, frames, snappy, Hello, Disconnect,
//! and the sharing of one connection among capabilities. Finding and choosing peers, and what the capabilities say to
//! each other, are left to others.
//!
//! The protocol itself is here without any I/O ([`Initiator`], [`Responder`], [`FrameReader`], [`FrameWriter`]);
//! feature `tokio` adds the stream over any `AsyncRead + AsyncWrite`:
//!
//! ```
//! # #[cfg(feature = "tokio")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! use tercet_enode::SecretKey;
//! use tercet_rlpx::{Capability, Hello, Payload, accept, connect};
//!
//! let (alice, bob) = (SecretKey::generate(&mut rand::rng()), SecretKey::generate(&mut rand::rng()));
//! let echo = vec![Capability::new("echo", 1)?];
//! let (hello_alice, hello_bob) = (
//!     Hello::new("alice/v1", echo.clone(), alice.public_key()),
//!     Hello::new("bob/v1", echo, bob.public_key()),
//! );
//! let (here, there) = tokio::io::duplex(4096); // or a TCP connection
//!
//! let dial = async {
//!     let mut stream = connect(here, &alice, bob.public_key()).await?.hello(hello_alice).await?;
//!     stream.queue(0x10, &Payload::from(b"hi".to_vec()))?;
//!     stream.flush().await?;
//!     Ok::<_, Box<dyn std::error::Error>>(stream)
//! };
//! let listen = async {
//!     let caller = accept(there, &bob).await?;
//!     assert_eq!(caller.remote_key(), alice.public_key()); // or `caller.reject(reason)`
//!     let mut stream = caller.hello(hello_bob).await?;
//!     Ok::<_, Box<dyn std::error::Error>>(stream.read().await?)
//! };
//! let (dialled, heard) = tokio::join!(dial, listen);
//! assert_eq!(dialled?.remote_hello().client_id, "bob/v1");
//! assert_eq!(heard?.payload, b"hi"[..]);
//! # Ok(()) })
//! # }
//! # #[cfg(not(feature = "tokio"))]
//! # fn main() {}
//! ```

mod capability;
mod disconnect;
mod ecies;
mod frame;
mod handshake;
mod hello;
mod list;
mod mac;
mod mux;
mod payload;
mod secrets;
mod snappy;
#[cfg(feature = "tokio")]
mod stream;
#[cfg(test)]
mod vectors;

pub use capability::{Capability, CapabilityError, CapabilityName, FIRST_OFFSET};
pub use disconnect::{DisconnectError, DisconnectReason};
pub use ecies::EciesError;
pub use frame::{
    Egress, FrameError, FrameReader, FrameWriter, Ingress, MAX_FRAME, Message, QueueError,
    SealError, TagMismatch, WRITE_BUFFER,
};
pub use handshake::{
    AuthError, Initiator, MAX_HANDSHAKE_PACKET, Responder, SIZE_PREFIX, handshake_packet_len,
};
pub use hello::{Hello, HelloDecodeError, MIN_P2P_VERSION, P2P_VERSION, SNAPPY_VERSION, p2p};
pub use mux::{SharedCapabilities, SharedCapability};
pub use payload::Payload;
pub use secrets::Session;
pub use snappy::SnappyError;
#[cfg(feature = "tokio")]
pub use stream::{
    Authenticated, DISCONNECT_TIMEOUT, HandshakeError, HelloError, Interest, RlpxStream,
    SETUP_TIMEOUT, StreamError, StreamEvent, accept, connect,
};

#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;
