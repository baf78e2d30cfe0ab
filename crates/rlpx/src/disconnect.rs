//! Why a connection ends: the body of a Disconnect message, in all the encodings that are in use.

use std::fmt;

use crate::list::{Items, string};
use crate::payload::Payload;

/// The reason in a Disconnect message (RLPx "Disconnect", with the numbers of that table).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// 0x00: the user or program asked for it.
    Requested,
    /// 0x01: a TCP or other network error.
    NetworkError,
    /// 0x02: a malformed or unknown message, or a limit exceeded.
    ProtocolError,
    /// 0x03: no capability in common, or nothing the peer is good for.
    UselessPeer,
    /// 0x04: all slots are taken.
    TooManyPeers,
    /// 0x05: this node is connected already.
    AlreadyConnected,
    /// 0x06: an incompatible version of the p2p protocol.
    IncompatibleVersion,
    /// 0x07: the node id is missing or is no public key.
    InvalidIdentity,
    /// 0x08: the client shuts down.
    Quitting,
    /// 0x09: the node id in Hello is not the one of the handshake, or not the one that was dialled.
    UnexpectedIdentity,
    /// 0x0a: the two ends are the same node.
    ConnectedToSelf,
    /// 0x0b: nothing came for too long.
    ReadTimeout,
    /// 0x10: a sub-protocol had a reason of its own.
    SubprotocolError,
    /// Any other number: to be treated as [`SubprotocolError`](Self::SubprotocolError).
    Other(u8),
}

/// The body of a Disconnect message is none of the known encodings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed Disconnect: {0}")]
pub struct DisconnectError(#[from] rlp::DecoderError);

impl DisconnectReason {
    /// Reads the uncompressed body of a Disconnect message: the list `[reason, …]`, a bare integer, or nothing, which
    /// counts as 0. Zero may be written `0x80` or `0x00`.
    ///
    /// # Errors
    /// [`DisconnectError`] if the body is something else, or the reason is above 255.
    pub fn decode(body: &[u8]) -> Result<Self, DisconnectError> {
        let item = match body {
            [] => return Ok(Self::Requested),
            [0xc0..=0xff, ..] => match Items::open(body)?.next() {
                None => return Ok(Self::Requested),
                Some(item) => item?,
            },
            bare => rlp::Rlp::new(bare),
        };
        match string(&item)? {
            [] => Ok(Self::Requested),
            [reason] => Ok(Self::from(*reason)),
            _ => Err(rlp::DecoderError::RlpIsTooBig.into()),
        }
    }

    /// The body to send: the list `[reason]`.
    #[must_use]
    pub fn to_payload(self) -> Payload {
        let mut stream = rlp::RlpStream::new_list(1);
        stream.append(&u8::from(self));
        Payload::new(stream.out().freeze())
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Requested => "disconnect requested",
            Self::NetworkError => "network error",
            Self::ProtocolError => "breach of protocol",
            Self::UselessPeer => "useless peer",
            Self::TooManyPeers => "too many peers",
            Self::AlreadyConnected => "already connected",
            Self::IncompatibleVersion => "incompatible p2p protocol version",
            Self::InvalidIdentity => "invalid node identity",
            Self::Quitting => "client quitting",
            Self::UnexpectedIdentity => "unexpected identity",
            Self::ConnectedToSelf => "connected to self",
            Self::ReadTimeout => "read timeout",
            Self::SubprotocolError => "subprotocol error",
            Self::Other(_) => "unknown reason",
        }
    }
}

impl From<u8> for DisconnectReason {
    fn from(number: u8) -> Self {
        match number {
            0x00 => Self::Requested,
            0x01 => Self::NetworkError,
            0x02 => Self::ProtocolError,
            0x03 => Self::UselessPeer,
            0x04 => Self::TooManyPeers,
            0x05 => Self::AlreadyConnected,
            0x06 => Self::IncompatibleVersion,
            0x07 => Self::InvalidIdentity,
            0x08 => Self::Quitting,
            0x09 => Self::UnexpectedIdentity,
            0x0a => Self::ConnectedToSelf,
            0x0b => Self::ReadTimeout,
            0x10 => Self::SubprotocolError,
            other => Self::Other(other),
        }
    }
}

impl From<DisconnectReason> for u8 {
    fn from(reason: DisconnectReason) -> Self {
        match reason {
            DisconnectReason::Requested => 0x00,
            DisconnectReason::NetworkError => 0x01,
            DisconnectReason::ProtocolError => 0x02,
            DisconnectReason::UselessPeer => 0x03,
            DisconnectReason::TooManyPeers => 0x04,
            DisconnectReason::AlreadyConnected => 0x05,
            DisconnectReason::IncompatibleVersion => 0x06,
            DisconnectReason::InvalidIdentity => 0x07,
            DisconnectReason::Quitting => 0x08,
            DisconnectReason::UnexpectedIdentity => 0x09,
            DisconnectReason::ConnectedToSelf => 0x0a,
            DisconnectReason::ReadTimeout => 0x0b,
            DisconnectReason::SubprotocolError => 0x10,
            DisconnectReason::Other(other) => other,
        }
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:02x})", self.text(), u8::from(*self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{bytes, vectors};
    use proptest::prelude::*;

    #[test]
    fn disconnect_vectors_in_all_encodings() {
        let v = vectors();
        let encodings = v["rlpx"]["disconnect"]["encodings"].as_array().unwrap();
        assert_eq!(encodings.len(), 13);
        for case in encodings {
            let reason = DisconnectReason::from(case["reason"].as_u64().unwrap() as u8);
            assert!(!matches!(reason, DisconnectReason::Other(_)), "{reason}");
            let forms = ["rlp_list", "rlp_bare", "rlp_legacy_zero_byte"];
            for form in forms.iter().filter(|form| case[**form].is_string()) {
                assert_eq!(
                    DisconnectReason::decode(&bytes(&case[*form])),
                    Ok(reason),
                    "{form}"
                );
            }
            assert_eq!(reason.to_payload().raw()[..], bytes(&case["rlp_list"]));
            let message = bytes(&case["message_snappy_list"]);
            assert_eq!(reason.to_payload().compressed()[..], message[1..]);
        }
    }

    #[test]
    fn unusual_bodies() {
        use DisconnectReason::{Other, Quitting, Requested};
        for (body, reason) in [
            (&[][..], Requested),
            (&[0x00], Requested),
            (&[0xc0], Requested),
            (&[0xc2, 0x08, 0x80], Quitting),
            (&[0x08], Quitting),
            (&[0xc1, 0x0c], Other(0x0c)),
            (&[0xc2, 0x81, 0xff], Other(0xff)),
        ] {
            assert_eq!(DisconnectReason::decode(body), Ok(reason), "{body:02x?}");
        }
        for body in [
            &[0x82, 0x01, 0x00][..],
            &[0xc1, 0xc0],
            &[0xc1],
            &[0xc1, 0x81],
            &[0xf8],
        ] {
            assert!(DisconnectReason::decode(body).is_err(), "{body:02x?}");
        }
    }

    proptest! {
        #[test]
        fn every_number_round_trips(number: u8) {
            prop_assert_eq!(u8::from(DisconnectReason::from(number)), number);
            let reason = DisconnectReason::from(number);
            prop_assert_eq!(DisconnectReason::decode(reason.to_payload().raw()), Ok(reason));
        }

        #[test]
        fn decoding_is_total(body in prop::collection::vec(any::<u8>(), 0..20)) {
            let _ = DisconnectReason::decode(&body);
        }
    }
}
