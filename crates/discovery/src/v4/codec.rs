//! The discv4 packet: `hash(32) ‖ signature(65) ‖ type(1) ‖ RLP list` (devp2p `discv4.md`, "Wire
//! Protocol"). All of the protocol's hashing and curve work is here, beside the state machine, so a
//! simulation can leave it out and a driver can check the cheap things first: [`UnverifiedPacket`]
//! costs one hash, [`UnverifiedPacket::verify`] a key recovery (some 30 µs).

use bytes::Bytes;
use tercet_enode::{
    Keccak256, KeyError, PublicKey, RecordError, RecoverableSignature, SecretKey, keccak256,
};

use super::message::{Body, BodyError, EnrResponse, Message, MessageKind, PacketHash};

/// Longest packet: fits the smallest IPv6 MTU (`discv4.md`).
pub const MAX_PACKET: usize = 1280;

/// Shortest packet: `32 hash + 65 signature + 1 type`.
pub const MIN_PACKET: usize = HASH + SIGNATURE + 1;

const HASH: usize = 32;
const SIGNATURE: usize = 65;

/// Why a datagram is not a discv4 packet.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Fewer bytes than hash, signature and type take.
    #[error("{len} bytes are fewer than the {MIN_PACKET} of the shortest packet")]
    TooShort {
        /// Bytes in the datagram.
        len: usize,
    },
    /// More bytes than any packet may have.
    #[error("{len} bytes are more than the {MAX_PACKET} of the longest packet")]
    TooLong {
        /// Bytes in the datagram.
        len: usize,
    },
    /// The hash in front is not that of the rest; with a shared socket, a packet of another protocol.
    #[error("the hash in front does not match the packet")]
    Hash,
    /// No message has this type byte.
    #[error("unknown message type {0:#04x}")]
    Type(u8),
    /// The message's fields do not decode.
    #[error("malformed {kind:?}")]
    Body {
        /// What the type byte says it is.
        kind: MessageKind,
        /// What is wrong with the list.
        source: rlp::DecoderError,
    },
    /// The record in an ENRResponse is malformed or not signed by its key.
    #[error("bad record in the response")]
    Record(#[source] RecordError),
    /// No key can be recovered from the signature.
    #[error("bad packet signature")]
    Signature(#[source] KeyError),
}

/// A decoded packet and who signed it.
#[derive(Clone, PartialEq, Debug)]
pub struct Packet {
    /// The sender's key, recovered from the signature.
    pub key: PublicKey,
    /// The packet's hash, which a reply quotes.
    pub hash: PacketHash,
    /// What it says.
    pub message: Message,
}

/// A packet whose hash and layout are right and whose sender is not known yet.
#[derive(Clone, Debug)]
pub struct UnverifiedPacket {
    hash: PacketHash,
    digest: [u8; 32],
    signature: RecoverableSignature,
    kind: MessageKind,
    body: Body,
}

impl UnverifiedPacket {
    /// Checks size, hash and layout of a datagram: one Keccak pass before anything else.
    ///
    /// # Errors
    /// What is wrong with the datagram, in the order of the checks.
    pub fn parse(datagram: &[u8]) -> Result<Self, DecodeError> {
        let len = datagram.len();
        if len > MAX_PACKET {
            return Err(DecodeError::TooLong { len });
        }
        let short = DecodeError::TooShort { len };
        let (hash, signed) = datagram
            .split_first_chunk::<HASH>()
            .ok_or_else(|| short.clone())?;
        let (signature, data) = signed
            .split_first_chunk::<SIGNATURE>()
            .ok_or_else(|| short.clone())?;
        let (kind, body) = data.split_first().ok_or(short)?;
        if keccak256(signed) != *hash {
            return Err(DecodeError::Hash);
        }
        let kind = MessageKind::from_byte(*kind).ok_or(DecodeError::Type(*kind))?;
        let body = Body::decode(kind, body).map_err(|error| match error {
            BodyError::Rlp(source) => DecodeError::Body { kind, source },
            BodyError::Record(source) => DecodeError::Record(source),
        })?;
        let signature =
            RecoverableSignature::from_bytes(signature).map_err(DecodeError::Signature)?;
        Ok(Self {
            hash: PacketHash::new(*hash),
            digest: keccak256(data),
            signature,
            kind,
            body,
        })
    }

    /// What the type byte says.
    #[must_use]
    pub const fn kind(&self) -> MessageKind {
        self.kind
    }

    /// [`Message::expiration`] of the content.
    #[must_use]
    pub const fn expiration(&self) -> Option<u64> {
        match &self.body {
            Body::Ready(message) => message.expiration(),
            Body::Record { .. } => None,
        }
    }

    /// [`Message::answers`] of the content.
    #[must_use]
    pub const fn answers(&self) -> Option<PacketHash> {
        match &self.body {
            Body::Ready(message) => message.answers(),
            Body::Record { request_hash, .. } => Some(*request_hash),
        }
    }

    /// Recovers the sender and checks the signature of an embedded record.
    ///
    /// # Errors
    /// [`DecodeError::Signature`] or [`DecodeError::Record`].
    pub fn verify(self) -> Result<Packet, DecodeError> {
        let key =
            PublicKey::recover(&self.digest, &self.signature).map_err(DecodeError::Signature)?;
        let message = match self.body {
            Body::Ready(message) => message,
            Body::Record {
                request_hash,
                record,
            } => {
                let record = record.verify().map_err(DecodeError::Record)?;
                Message::EnrResponse(EnrResponse {
                    request_hash,
                    record,
                })
            }
        };
        Ok(Packet {
            key,
            hash: self.hash,
            message,
        })
    }
}

/// The kind a datagram says it has and the request it says it answers, without a look at anything else.
pub(crate) fn peek(datagram: &[u8]) -> Option<(MessageKind, Option<PacketHash>)> {
    let data = datagram.get(HASH + SIGNATURE..)?;
    let (kind, body) = data.split_first()?;
    let kind = MessageKind::from_byte(*kind)?;
    Some((kind, Body::quoted(kind, body)))
}

/// Decodes and verifies a datagram in one step.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode(datagram: &[u8]) -> Result<Packet, DecodeError> {
    UnverifiedPacket::parse(datagram)?.verify()
}

/// Signs `message` and returns the datagram with its hash.
#[must_use]
pub fn encode(key: &SecretKey, message: &Message) -> (Bytes, PacketHash) {
    let body = message.encode_body();
    let kind = [message.kind() as u8];
    let mut digest = Keccak256::new();
    digest.update(&kind);
    digest.update(&body);
    let signature = key.sign_recoverable(&digest.finalize());
    let mut hash = Keccak256::new();
    hash.update(signature.as_bytes());
    hash.update(&kind);
    hash.update(&body);
    let hash = hash.finalize();
    let mut packet = Vec::with_capacity(MIN_PACKET + body.len());
    packet.extend_from_slice(&hash);
    packet.extend_from_slice(signature.as_bytes());
    packet.extend_from_slice(&kind);
    packet.extend_from_slice(&body);
    (Bytes::from(packet), PacketHash::new(hash))
}
