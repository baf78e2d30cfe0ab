//! The bodies of the two handshake packets. Only the fields both sides need are kept; versions and further elements
//! are ignored (EIP-8).

use rlp::{DecoderError, Rlp, RlpStream};
use tercet_enode::{PublicKey, RecoverableSignature};

use super::{AuthError, Nonce};
use crate::list::{Items, string};

/// The handshake version we state. Receivers ignore it.
const VERSION: u8 = 4;

/// `[signature, initiator's static key, initiator's nonce, version, …]`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AuthBody {
    pub(super) signature: RecoverableSignature,
    pub(super) public_key: PublicKey,
    pub(super) nonce: Nonce,
}

/// `[recipient's ephemeral key, recipient's nonce, version, …]`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AckBody {
    pub(super) ephemeral: PublicKey,
    pub(super) nonce: Nonce,
}

impl AuthBody {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut stream = RlpStream::new_list(4);
        stream.append(&self.signature.as_bytes().as_slice());
        stream.append(&self.public_key.to_bytes().as_slice());
        stream.append(&self.nonce.as_slice());
        stream.append(&VERSION);
        stream.out().into()
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, AuthError> {
        let mut items = Items::open(body)?;
        Ok(Self {
            signature: RecoverableSignature::from_bytes(fixed(&items.required()?)?)?,
            public_key: PublicKey::from_bytes(fixed(&items.required()?)?)?,
            nonce: *fixed(&items.required()?)?,
        })
    }
}

impl AckBody {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut stream = RlpStream::new_list(3);
        stream.append(&self.ephemeral.to_bytes().as_slice());
        stream.append(&self.nonce.as_slice());
        stream.append(&VERSION);
        stream.out().into()
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, AuthError> {
        let mut items = Items::open(body)?;
        Ok(Self {
            ephemeral: PublicKey::from_bytes(fixed(&items.required()?)?)?,
            nonce: *fixed(&items.required()?)?,
        })
    }
}

/// The item's bytes, of which there must be exactly `N`.
fn fixed<'a, const N: usize>(item: &Rlp<'a>) -> Result<&'a [u8; N], DecoderError> {
    let bytes = string(item)?;
    bytes.try_into().map_err(|_| {
        if bytes.len() < N {
            DecoderError::RlpIsTooShort
        } else {
            DecoderError::RlpIsTooBig
        }
    })
}
