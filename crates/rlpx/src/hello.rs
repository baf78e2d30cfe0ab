//! Hello, the first message of both sides, and the ids of the base protocol.

use rlp::RlpStream;
use tercet_enode::PublicKey;

use crate::capability::{Capability, CapabilityName};
use crate::disconnect::DisconnectReason;
use crate::list::{Items, string};
use crate::payload::Payload;

/// Message ids of the base protocol.
pub mod p2p {
    /// First message of both sides.
    pub const HELLO: u64 = 0x00;
    /// Last message of a side, with the reason.
    pub const DISCONNECT: u64 = 0x01;
    /// Asks for a Pong. An empty list.
    pub const PING: u64 = 0x02;
    /// Answers a Ping. An empty list.
    pub const PONG: u64 = 0x03;
}

/// The version of the base protocol this crate speaks.
pub const P2P_VERSION: u64 = 5;

/// The first version whose messages are compressed (EIP-706).
pub const SNAPPY_VERSION: u64 = 5;

/// The lowest version accepted; versions above ours are accepted too (EIP-8).
pub const MIN_P2P_VERSION: u64 = 4;

/// What a node says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Version of the base protocol.
    pub p2p_version: u64,
    /// The client's name and version. In a received Hello control characters are replaced, so it can be printed.
    pub client_id: String,
    /// What the node speaks. In a received Hello entries that are no possible capability are left out: they match
    /// nothing.
    pub capabilities: Vec<Capability>,
    /// TCP port, unused: nodes send 0 and ignore it.
    pub listen_port: u16,
    /// The node's static key.
    pub public_key: PublicKey,
}

/// Why a Hello is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelloDecodeError {
    /// It is not the expected list.
    #[error("malformed Hello: {0}")]
    Rlp(#[from] rlp::DecoderError),
    /// The node id is no public key.
    #[error("the node id in Hello is not a public key")]
    Identity,
}

impl HelloDecodeError {
    /// The reason to send to the peer.
    #[must_use]
    pub fn reason(&self) -> DisconnectReason {
        match self {
            Self::Rlp(_) => DisconnectReason::ProtocolError,
            Self::Identity => DisconnectReason::InvalidIdentity,
        }
    }
}

impl Hello {
    /// A Hello of the version this crate speaks, with listen port 0.
    #[must_use]
    pub fn new(client_id: &str, capabilities: Vec<Capability>, public_key: PublicKey) -> Self {
        let client_id = client_id.to_owned();
        Self {
            p2p_version: P2P_VERSION,
            client_id,
            capabilities,
            listen_port: 0,
            public_key,
        }
    }

    /// The message's body.
    #[must_use]
    pub fn to_payload(&self) -> Payload {
        let mut stream = RlpStream::new_list(5);
        stream.append(&self.p2p_version);
        stream.append(&self.client_id.as_bytes());
        stream.begin_list(self.capabilities.len());
        for capability in &self.capabilities {
            stream.begin_list(2);
            stream.append(&capability.name.as_str().as_bytes());
            stream.append(&capability.version);
        }
        stream.append(&self.listen_port);
        stream.append(&self.public_key.to_bytes().as_slice());
        Payload::new(stream.out().freeze())
    }

    /// Reads the body of a Hello of any version. Further elements are ignored (EIP-8), as is a listen port that is
    /// none.
    ///
    /// # Errors
    /// [`HelloDecodeError`].
    pub fn decode(body: &[u8]) -> Result<Self, HelloDecodeError> {
        let mut items = Items::open(body)?;
        let p2p_version = items.required()?.as_val()?;
        let client_id = printable(string(&items.required()?)?);
        let mut capabilities = Vec::new();
        for entry in Items::open(items.required()?.as_raw())? {
            capabilities.extend(decode_capability(entry?.as_raw())?);
        }
        let listen_port = items.required()?.as_val().unwrap_or(0);
        let node_id = items.required()?;
        let public_key =
            PublicKey::from_slice(string(&node_id)?).map_err(|_| HelloDecodeError::Identity)?;
        Ok(Self {
            p2p_version,
            client_id,
            capabilities,
            listen_port,
            public_key,
        })
    }
}

/// `[name, version, …]`; `None` if the name or version is not possible.
fn decode_capability(entry: &[u8]) -> Result<Option<Capability>, rlp::DecoderError> {
    let mut items = Items::open(entry)?;
    let name = CapabilityName::new(string(&items.required()?)?).ok();
    let version = items.required()?.as_val().ok();
    Ok(name
        .zip(version)
        .map(|(name, version)| Capability { name, version }))
}

/// Text from a peer, safe to print: a terminal must not obey what a stranger calls his client.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
