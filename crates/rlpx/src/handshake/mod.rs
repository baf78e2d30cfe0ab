//! The RLPx handshake as typestate: each stage consumes the last, so no stage can be skipped or repeated.
//!
//! ```text
//! dialler   Initiator ──auth──▶            ◀──ack── finish() ─▶ Session
//! listener  Responder::open(auth) ─▶ remote_key() known ─▶ accept() ──ack──▶ Session
//! ```
//!
//! Packets are whole here; reading them from a socket, and the time that may take, belongs to `stream`. Both formats
//! of EIP-8 packets (any version, any further elements, any padding) are accepted. The fixed-size format from before
//! EIP-8 is neither sent nor accepted on the wire: no client in use sends it (geth and reth removed it too), and
//! guessing between formats would let anybody make us do a second curve multiplication a packet.

mod initiator;
mod messages;
mod responder;

use rand::CryptoRng;
use tercet_enode::{KeyError, PublicKey, SecretKey};

use crate::ecies::{self, EciesError};

pub use initiator::Initiator;
pub use responder::Responder;

/// A handshake nonce.
pub(crate) type Nonce = [u8; 32];

/// Length of the size prefix of a handshake packet.
pub const SIZE_PREFIX: usize = 2;

/// Longest size a handshake packet may declare (as in geth); with its prefix a packet is at most 2050 bytes.
pub const MAX_HANDSHAKE_PACKET: usize = 2048;

/// Padding of a packet: 100 to 299 bytes. EIP-8 asks for at least 100, so that no packet has the size of an old one.
const MIN_PADDING: usize = 100;
/// Padding lengths to choose from.
const PADDING_SPAN: u32 = 200;

/// Why a handshake packet is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The declared size is above 2048 or below that of an empty encrypted message.
    #[error("a handshake packet of {declared} bytes, 113 to 2048 are possible")]
    Size {
        /// Size in the prefix, or bytes given.
        declared: usize,
    },
    /// The packet does not decrypt with our key.
    #[error(transparent)]
    Ecies(#[from] EciesError),
    /// The decrypted body is not the expected list.
    #[error("malformed handshake body: {0}")]
    Rlp(#[from] rlp::DecoderError),
    /// A public key in the body is no point of the curve, or its signature yields none.
    #[error("handshake body: {0}")]
    Key(#[from] KeyError),
    /// The node to dial is ourselves.
    #[error("the remote has our own key")]
    OwnKey,
}

/// Length of a whole handshake packet, its prefix included, from the prefix.
///
/// # Errors
/// [`AuthError::Size`] unless the packet could be one: to be checked before anything is allocated for it.
pub fn handshake_packet_len(prefix: [u8; SIZE_PREFIX]) -> Result<usize, AuthError> {
    let declared = usize::from(u16::from_be_bytes(prefix));
    if !(ecies::OVERHEAD..=MAX_HANDSHAKE_PACKET).contains(&declared) {
        return Err(AuthError::Size { declared });
    }
    Ok(SIZE_PREFIX + declared)
}

/// What a packet is encrypted with besides its recipient: fresh for every packet.
struct Envelope {
    key: SecretKey,
    iv: [u8; 16],
    padding: usize,
}

impl Envelope {
    fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut iv = [0; 16];
        rng.fill_bytes(&mut iv);
        let padding = MIN_PADDING + (rng.next_u32() % PADDING_SPAN) as usize;
        Self {
            key: SecretKey::generate(rng),
            iv,
            padding,
        }
    }

    /// `body` as a packet for `remote`: size, then the encrypted body and padding, authenticated with the size.
    fn seal(&self, remote: &PublicKey, mut body: Vec<u8>) -> Vec<u8> {
        body.resize(body.len() + self.padding, 0);
        // Our bodies are below 200 bytes and the padding below 300, far from 65535.
        let size = u16::try_from(body.len() + ecies::OVERHEAD)
            .unwrap_or(u16::MAX)
            .to_be_bytes();
        let mut packet = size.to_vec();
        ecies::encrypt(remote, &self.key, &self.iv, &body, &size, &mut packet);
        packet
    }
}

/// Opens a whole packet: the decrypted body with its padding.
fn open(key: &SecretKey, packet: &[u8]) -> Result<Vec<u8>, AuthError> {
    let size = AuthError::Size {
        declared: packet.len(),
    };
    let (prefix, message) = packet
        .split_first_chunk::<SIZE_PREFIX>()
        .ok_or(size.clone())?;
    if handshake_packet_len(*prefix)? != packet.len() {
        return Err(size);
    }
    Ok(ecies::decrypt(key, message, prefix)?)
}

/// What the initiator signs: the static shared secret, masked with its nonce.
fn token(key: &SecretKey, remote: &PublicKey, nonce: &Nonce) -> zeroize::Zeroizing<[u8; 32]> {
    let mut token = key.ecdh_x(remote);
    for (to, from) in token.iter_mut().zip(nonce) {
        *to ^= from;
    }
    token
}

#[cfg(test)]
pub(crate) mod tests;
