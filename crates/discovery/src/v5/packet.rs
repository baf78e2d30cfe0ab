//! The discv5 packet (`discv5-wire.md`, "Packet Encoding"):
//! `masking-iv(16) ‖ AES-CTR(dest-id[..16], iv) over header ‖ AES-GCM message`. Layout and masking are here; keys are in
//! `crypto`, what is inside the message in `codec`, who may say what in `sessions`.

use aes::Aes128Enc;
use bytes::{BufMut, Bytes, BytesMut};
use cipher::{InnerIvInit, KeyInit, StreamCipher};
use tercet_enode::{NodeId, Signature};

use super::crypto::{Cipher, TAG};
use super::session_io::Nonce;

/// Longest packet: fits the smallest IPv6 MTU (`discv5-wire.md`).
pub const MAX_PACKET: usize = 1280;

/// Shortest packet: a WHOAREYOU, `16 iv + 23 static header + 24 authdata`.
pub const MIN_PACKET: usize = CHALLENGE_DATA;

/// What a handshake's cryptography says about the WHOAREYOU it answers: `masking-iv ‖ static-header ‖ authdata`, unmasked.
/// That is all of a WHOAREYOU.
pub const CHALLENGE_DATA: usize = IV + STATIC_HEADER + AUTH_WHOAREYOU;

/// Bytes of an ordinary packet that are not its message: `16 iv + 23 static header + 32 source id + 16 tag`.
pub const ORDINARY_OVERHEAD: usize = ORDINARY_HEAD + TAG;

/// Bytes in front of the message of an ordinary packet.
pub(super) const ORDINARY_HEAD: usize = IV + STATIC_HEADER + AUTH_ORDINARY;

const IV: usize = 16;
const PROTOCOL_ID: [u8; 6] = *b"discv5";
const VERSION: u16 = 1;
/// `protocol-id(6) ‖ version(2) ‖ flag(1) ‖ nonce(12) ‖ authdata-size(2)`
const STATIC_HEADER: usize = 6 + 2 + 1 + 12 + 2;
/// `src-id(32)`
const AUTH_ORDINARY: usize = 32;
/// `id-nonce(16) ‖ enr-seq(8)`
const AUTH_WHOAREYOU: usize = 16 + 8;
const SIGNATURE: usize = 64;
const EPHEMERAL_KEY: usize = 33;
/// `src-id(32) ‖ sig-size(1) ‖ eph-key-size(1) ‖ id-signature(64) ‖ eph-pubkey(33)`; a record may follow.
const AUTH_HANDSHAKE: usize = 32 + 1 + 1 + SIGNATURE + EPHEMERAL_KEY;

const FLAG_ORDINARY: u8 = 0;
const FLAG_WHOAREYOU: u8 = 1;
const FLAG_HANDSHAKE: u8 = 2;

/// Why a datagram is not a discv5 packet. None of these is ever answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// Fewer than [`MIN_PACKET`] bytes, or fewer than the header and a tag take.
    #[error("the datagram is too short")]
    TooShort,
    /// More than [`MAX_PACKET`] bytes.
    #[error("the datagram is too long")]
    TooLong,
    /// Not for this node, or of another protocol.
    #[error("the header does not name the protocol")]
    Protocol,
    /// Version 0, which never was. Later versions than ours are read as ours, as geth does.
    #[error("protocol version 0")]
    Version,
    /// No packet has this flag.
    #[error("unknown flag {0}")]
    Flag(u8),
    /// The size of the authentication data is not that of the packet's kind, or exceeds the datagram.
    #[error("wrong size of the authentication data")]
    AuthSize,
}

/// The masking key of one destination, its key schedule done.
#[derive(Clone)]
pub struct Mask(Aes128Enc);

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mask(..)")
    }
}

impl Mask {
    /// The mask of packets to `destination`.
    #[must_use]
    pub fn new(destination: &NodeId) -> Self {
        let (key, _) = split16(destination.as_bytes());
        Self(Aes128Enc::new(&(*key).into()))
    }

    /// Whether a datagram is a discv5 packet under this mask: one AES block, whatever its length. A datagram of something
    /// else passes once in 2^48 times.
    #[must_use]
    pub fn covers(&self, datagram: &[u8]) -> bool {
        let Some((iv, rest)) = datagram.split_first_chunk::<IV>() else {
            return false;
        };
        let Some(mut start) = rest.first_chunk::<6>().copied() else {
            return false;
        };
        self.stream(iv).apply_keystream(&mut start);
        start == PROTOCOL_ID
    }

    fn stream(&self, iv: &[u8; IV]) -> ctr::Ctr128BE<&Aes128Enc> {
        let core = ctr::CtrCore::inner_iv_init(&self.0, &(*iv).into());
        cipher::StreamCipherCoreWrapper::from_core(core)
    }

    /// Masks or unmasks everything behind the iv in `head`, which is its own inverse.
    pub fn apply(&self, head: &mut [u8]) {
        if let Some((iv, header)) = head.split_first_chunk_mut::<IV>() {
            self.stream(iv).apply_keystream(header);
        }
    }
}

/// A WHOAREYOU: the answer to a packet that could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WhoAreYou {
    /// Random, never used twice.
    pub id_nonce: [u8; 16],
    /// Sequence number of the record the challenger has of the node it asks, 0 if none.
    pub enr_seq: u64,
}

/// The authentication data of a handshake packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handshake<'a> {
    /// Who sends it.
    pub src: NodeId,
    /// By the sender's key over the challenge.
    pub signature: Signature,
    /// Compressed; whether it is on the curve is not looked at yet.
    pub ephemeral: [u8; EPHEMERAL_KEY],
    /// The sender's record, or nothing.
    pub record: &'a [u8],
}

/// The kind of a packet, with its authentication data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind<'a> {
    /// Flag 0: a message under a session's key, or random bytes to call forth a WHOAREYOU.
    Ordinary {
        /// Who sends it.
        src: NodeId,
    },
    /// Flag 1.
    WhoAreYou(WhoAreYou),
    /// Flag 2.
    Handshake(Handshake<'a>),
}

/// An unmasked packet.
#[derive(Debug)]
pub struct Packet<'a> {
    /// The packet's own nonce; in a WHOAREYOU, that of the packet it is about.
    pub nonce: Nonce,
    /// What it is.
    pub kind: Kind<'a>,
    /// Everything in front of the message, unmasked: what the message's tag covers too, and of a WHOAREYOU the challenge data.
    pub head: &'a [u8],
    /// The encrypted message with its tag, at least 16 bytes; empty in a WHOAREYOU.
    pub message: &'a mut [u8],
}

/// Unmasks `datagram` in place and reads its header. After an error its bytes are no longer of use.
///
/// # Errors
/// See [`PacketError`]. A WHOAREYOU must have nothing behind its header, the others a tag at least.
pub fn parse<'a>(mask: &Mask, datagram: &'a mut [u8]) -> Result<Packet<'a>, PacketError> {
    unmask(mask, datagram).and_then(|head| read(head, datagram))
}

/// Reads a packet that [`unmask`] has unmasked and whose head has `head` bytes.
pub(super) fn read(head: usize, datagram: &mut [u8]) -> Result<Packet<'_>, PacketError> {
    let (head, message) = datagram
        .split_at_mut_checked(head)
        .ok_or(PacketError::TooShort)?;
    let head: &[u8] = head;
    let (_, header) = head
        .split_first_chunk::<IV>()
        .ok_or(PacketError::TooShort)?;
    let (fixed, auth) = header
        .split_first_chunk::<STATIC_HEADER>()
        .ok_or(PacketError::TooShort)?;
    let [_, _, _, _, _, _, _, _, flag, nonce @ .., _, _] = fixed;
    let kind = match *flag {
        FLAG_ORDINARY => read_ordinary(auth),
        FLAG_WHOAREYOU => read_whoareyou(auth),
        FLAG_HANDSHAKE => read_handshake(auth),
        flag => return Err(PacketError::Flag(flag)),
    }
    .ok_or(PacketError::AuthSize)?;
    let enough = match kind {
        Kind::WhoAreYou(_) => message.is_empty(),
        Kind::Ordinary { .. } | Kind::Handshake(_) => message.len() >= TAG,
    };
    if !enough {
        return Err(PacketError::TooShort);
    }
    Ok(Packet {
        nonce: Nonce::new(*nonce),
        kind,
        head,
        message,
    })
}

/// Unmasks the header in place and returns the length of everything in front of the message.
pub(super) fn unmask(mask: &Mask, datagram: &mut [u8]) -> Result<usize, PacketError> {
    if datagram.len() < MIN_PACKET {
        return Err(PacketError::TooShort);
    }
    if datagram.len() > MAX_PACKET {
        return Err(PacketError::TooLong);
    }
    let (iv, rest) = datagram
        .split_first_chunk_mut::<IV>()
        .ok_or(PacketError::TooShort)?;
    let mut stream = mask.stream(iv);
    // Nearly every packet is an ordinary one: its whole header at once. The shortest packet has less than that and no message.
    let first = rest.len().min(STATIC_HEADER + AUTH_ORDINARY);
    let (start, _) = rest
        .split_at_mut_checked(first)
        .ok_or(PacketError::TooShort)?;
    stream.apply_keystream(start);
    let fixed = start
        .first_chunk::<STATIC_HEADER>()
        .ok_or(PacketError::TooShort)?;
    let (protocol, fixed) = fixed
        .split_first_chunk::<6>()
        .ok_or(PacketError::TooShort)?;
    let [v0, v1, flag, .., size0, size1] = fixed else {
        return Err(PacketError::TooShort);
    };
    if *protocol != PROTOCOL_ID {
        return Err(PacketError::Protocol);
    }
    if u16::from_be_bytes([*v0, *v1]) < VERSION {
        return Err(PacketError::Version);
    }
    let size = usize::from(u16::from_be_bytes([*size0, *size1]));
    let right_size = match *flag {
        FLAG_ORDINARY => size == AUTH_ORDINARY,
        FLAG_WHOAREYOU => size == AUTH_WHOAREYOU,
        FLAG_HANDSHAKE => size >= AUTH_HANDSHAKE,
        flag => return Err(PacketError::Flag(flag)),
    };
    let header = STATIC_HEADER + size;
    if !right_size || header > rest.len() {
        return Err(PacketError::AuthSize);
    }
    if let Some(more) = rest.get_mut(first..header) {
        stream.apply_keystream(more);
    }
    Ok(IV + header)
}

fn read_ordinary(auth: &[u8]) -> Option<Kind<'_>> {
    let src = NodeId::new(auth.try_into().ok()?);
    Some(Kind::Ordinary { src })
}

fn read_whoareyou(auth: &[u8]) -> Option<Kind<'_>> {
    let (id_nonce, seq) = auth.split_first_chunk::<16>()?;
    Some(Kind::WhoAreYou(WhoAreYou {
        id_nonce: *id_nonce,
        enr_seq: u64::from_be_bytes(seq.try_into().ok()?),
    }))
}

fn read_handshake(auth: &[u8]) -> Option<Kind<'_>> {
    let (src, auth) = auth.split_first_chunk::<32>()?;
    let ([signature_size, key_size], auth) = auth.split_first_chunk::<2>()?;
    // Scheme "v4" has these sizes and no others.
    if usize::from(*signature_size) != SIGNATURE || usize::from(*key_size) != EPHEMERAL_KEY {
        return None;
    }
    let (signature, auth) = auth.split_first_chunk::<SIGNATURE>()?;
    let (ephemeral, record) = auth.split_first_chunk::<EPHEMERAL_KEY>()?;
    Some(Kind::Handshake(Handshake {
        src: NodeId::new(*src),
        signature: Signature::from_bytes(signature),
        ephemeral: *ephemeral,
        record,
    }))
}

/// A packet being written: its head unmasked, the message behind it still in the clear. [`seal`](Self::seal) makes the
/// datagram, in the same buffer.
#[derive(Debug)]
pub struct Draft {
    buffer: BytesMut,
    head: usize,
    nonce: Nonce,
}

impl Draft {
    /// A packet of `kind`. Write its message into [`message`](Self::message).
    #[must_use]
    pub fn new(iv: &[u8; 16], nonce: Nonce, kind: &Kind<'_>) -> Self {
        Self::with_capacity(MAX_PACKET, iv, nonce, kind)
    }

    /// As [`new`](Self::new), with room for `capacity` bytes in all.
    pub(super) fn with_capacity(
        capacity: usize,
        iv: &[u8; 16],
        nonce: Nonce,
        kind: &Kind<'_>,
    ) -> Self {
        let mut buffer = BytesMut::with_capacity(capacity);
        let (flag, auth) = match kind {
            Kind::Ordinary { .. } => (FLAG_ORDINARY, AUTH_ORDINARY),
            Kind::WhoAreYou(_) => (FLAG_WHOAREYOU, AUTH_WHOAREYOU),
            Kind::Handshake(handshake) => (FLAG_HANDSHAKE, AUTH_HANDSHAKE + handshake.record.len()),
        };
        buffer.put_slice(iv);
        buffer.put_slice(&PROTOCOL_ID);
        buffer.put_u16(VERSION);
        buffer.put_u8(flag);
        buffer.put_slice(nonce.as_bytes());
        // A record has at most 300 bytes.
        buffer.put_u16(u16::try_from(auth).unwrap_or(u16::MAX));
        match kind {
            Kind::Ordinary { src } => buffer.put_slice(src.as_bytes()),
            Kind::WhoAreYou(challenge) => {
                buffer.put_slice(&challenge.id_nonce);
                buffer.put_u64(challenge.enr_seq);
            }
            Kind::Handshake(handshake) => {
                buffer.put_slice(handshake.src.as_bytes());
                buffer.put_slice(&[SIGNATURE as u8, EPHEMERAL_KEY as u8]);
                buffer.put_slice(handshake.signature.as_bytes());
                buffer.put_slice(&handshake.ephemeral);
                buffer.put_slice(handshake.record);
            }
        }
        let head = buffer.len();
        Self {
            buffer,
            head,
            nonce,
        }
    }

    /// A packet that is all head, unmasked: a WHOAREYOU to be sent again.
    pub(super) fn from_head(head: &[u8; CHALLENGE_DATA]) -> Self {
        Self {
            buffer: BytesMut::from(head.as_slice()),
            head: head.len(),
            nonce: Nonce::new([0; 12]),
        }
    }

    /// The same bytes with another border between head and message.
    #[cfg(test)]
    pub(super) fn with_head(self, head: usize) -> Self {
        Self { head, ..self }
    }

    /// Everything in front of the message, unmasked.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        self.buffer.get(..self.head).unwrap_or_default()
    }

    /// Where the message is to be appended.
    pub fn message(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Encrypts the message, masks the header, and gives out the datagram.
    #[must_use]
    pub fn seal(mut self, mask: &Mask, cipher: &Cipher) -> Bytes {
        if let Some((head, message)) = self.buffer.split_at_mut_checked(self.head) {
            let tag = cipher.seal(self.nonce, head, message);
            self.buffer.put_slice(&tag);
        }
        self.mask(mask)
    }

    /// Masks the header and gives out the datagram, its message (if any) as it stands: a WHOAREYOU, or random bytes.
    #[must_use]
    pub fn mask(mut self, mask: &Mask) -> Bytes {
        if let Some(head) = self.buffer.get_mut(..self.head) {
            mask.apply(head);
        }
        self.buffer.freeze()
    }
}

/// How long a handshake packet with a record of `record` bytes and a message of `message` bytes is.
pub(super) const fn handshake_len(record: usize, message: usize) -> usize {
    IV + STATIC_HEADER + AUTH_HANDSHAKE + record + message + TAG
}

/// The first 16 of 32 bytes and the rest.
fn split16(bytes: &[u8; 32]) -> (&[u8; 16], &[u8; 16]) {
    let (halves, _) = bytes.as_chunks::<16>();
    match halves {
        [first, second] => (first, second),
        _ => (&[0; 16], &[0; 16]),
    }
}
