//! Messages as bytes: `type(1) ‖ RLP list` whose first item is the request id (`discv5-wire.md`, "Protocol Messages").
//!
//! Decoding is total and strict, as in the other clients: canonical lengths and integers, exactly the fields there are, no
//! bytes behind the list. Only records are each for itself: one that is malformed is left out of its NODES.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};
use tercet_enode::{MAX_RECORD_SIZE, NodeRecord, UnverifiedRecord, canonical_ip};

use super::message::{Distances, Message, MessageKind, Request, RequestId, Response, WireMessage};
use super::packet::{MAX_PACKET, ORDINARY_OVERHEAD};

/// Longest message, in the clear: what an ordinary packet has room for, `1280 − (16 + 23 + 32 + 16) = 1193` bytes.
pub const MAX_MESSAGE: usize = MAX_PACKET - ORDINARY_OVERHEAD;

/// Most records that answer one FINDNODE.
pub const MAX_NODES: usize = 16;

/// Most NODES that answer one FINDNODE; geth reads no more.
pub const MAX_NODES_MESSAGES: usize = 5;

/// Why a plaintext is no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// There is nothing.
    #[error("the message is empty")]
    Empty,
    /// No message has this type byte.
    #[error("unknown message type {0:#04x}")]
    Type(u8),
    /// An item that is not canonical RLP, or has another form than the field needs.
    #[error("malformed RLP")]
    Rlp,
    /// Fields are missing.
    #[error("fields are missing")]
    Missing,
    /// Items after the last field, or bytes behind the list.
    #[error("surplus items or bytes")]
    Surplus,
    /// The request id has more than eight bytes.
    #[error("a request id of more than eight bytes")]
    RequestId,
    /// The address is neither 4 nor 16 bytes long.
    #[error("an address that is neither 4 nor 16 bytes long")]
    Address,
}

impl MessageKind {
    /// The kind a type byte names.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Ping),
            2 => Some(Self::Pong),
            3 => Some(Self::FindNode),
            4 => Some(Self::Nodes),
            5 => Some(Self::TalkRequest),
            6 => Some(Self::TalkResponse),
            _ => None,
        }
    }
}

/// Whether a plaintext is one of a response, by its first byte.
pub(super) fn is_response(plaintext: &[u8]) -> bool {
    let kind = plaintext
        .first()
        .and_then(|byte| MessageKind::from_byte(*byte));
    matches!(
        kind,
        Some(MessageKind::Pong | MessageKind::Nodes | MessageKind::TalkResponse)
    )
}

impl<R> Message<R> {
    /// What kind of message this is.
    #[must_use]
    pub const fn kind(&self) -> MessageKind {
        match self {
            Self::Request(_, Request::Ping { .. }) => MessageKind::Ping,
            Self::Request(_, Request::FindNode { .. }) => MessageKind::FindNode,
            Self::Request(_, Request::Talk { .. }) => MessageKind::TalkRequest,
            Self::Response(_, Response::Pong { .. }) => MessageKind::Pong,
            Self::Response(_, Response::Nodes { .. }) => MessageKind::Nodes,
            Self::Response(_, Response::Talk { .. }) => MessageKind::TalkResponse,
        }
    }

    /// The id of the request that this is, or that it answers.
    #[must_use]
    pub const fn request_id(&self) -> RequestId {
        match self {
            Self::Request(id, _) | Self::Response(id, _) => *id,
        }
    }
}

/// A record as it stands on the wire, its signature checked or not.
pub trait RawRecord {
    /// The encoding.
    fn raw(&self) -> &Bytes;
}

impl RawRecord for NodeRecord {
    fn raw(&self) -> &Bytes {
        self.raw()
    }
}

impl RawRecord for UnverifiedRecord {
    fn raw(&self) -> &Bytes {
        self.raw()
    }
}

impl<R: RawRecord> Message<R> {
    /// How many bytes [`encode`](Self::encode) appends. No message that fits a packet is longer than [`MAX_MESSAGE`].
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        1 + list_len(self.payload_len())
    }

    /// Appends the plaintext.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u8(self.kind() as u8);
        put_list(out, self.payload_len());
        put_bytes(out, self.request_id().as_bytes());
        match self {
            Self::Request(_, Request::Ping { enr_seq }) => put_uint(out, *enr_seq),
            Self::Request(_, Request::FindNode { distances }) => {
                put_list(out, distances_len(distances));
                for distance in distances.as_slice() {
                    put_uint(out, u64::from(*distance));
                }
            }
            Self::Request(_, Request::Talk { protocol, payload }) => {
                put_bytes(out, protocol);
                put_bytes(out, payload);
            }
            Self::Response(_, Response::Pong { enr_seq, recipient }) => {
                put_uint(out, *enr_seq);
                match canonical_ip(recipient.ip()) {
                    IpAddr::V4(ip) => put_bytes(out, &ip.octets()),
                    IpAddr::V6(ip) => put_bytes(out, &ip.octets()),
                }
                put_uint(out, u64::from(recipient.port()));
            }
            Self::Response(_, Response::Nodes { total, records }) => {
                put_uint(out, *total);
                put_list(out, records.iter().map(|record| record.raw().len()).sum());
                for record in records {
                    out.put_slice(record.raw());
                }
            }
            Self::Response(_, Response::Talk { payload }) => put_bytes(out, payload),
        }
    }

    fn payload_len(&self) -> usize {
        let id = bytes_len(self.request_id().as_bytes());
        id + match self {
            Self::Request(_, Request::Ping { enr_seq }) => uint_len(*enr_seq),
            Self::Request(_, Request::FindNode { distances }) => list_len(distances_len(distances)),
            Self::Request(_, Request::Talk { protocol, payload }) => {
                bytes_len(protocol) + bytes_len(payload)
            }
            Self::Response(_, Response::Pong { enr_seq, recipient }) => {
                let ip = match canonical_ip(recipient.ip()) {
                    IpAddr::V4(_) => 1 + 4,
                    IpAddr::V6(_) => 1 + 16,
                };
                uint_len(*enr_seq) + ip + uint_len(u64::from(recipient.port()))
            }
            Self::Response(_, Response::Nodes { total, records }) => {
                let records = records.iter().map(|record| record.raw().len()).sum();
                uint_len(*total) + list_len(records)
            }
            Self::Response(_, Response::Talk { payload }) => bytes_len(payload),
        }
    }
}

impl WireMessage {
    /// Reads a plaintext.
    ///
    /// # Errors
    /// See [`MessageError`].
    pub fn decode(plaintext: &[u8]) -> Result<Self, MessageError> {
        let (kind, body) = plaintext.split_first().ok_or(MessageError::Empty)?;
        let kind = MessageKind::from_byte(*kind).ok_or(MessageError::Type(*kind))?;
        let mut outer = Items(body);
        let mut items = outer.list()?;
        outer.end()?;
        let id = RequestId::new(items.bytes()?).ok_or(MessageError::RequestId)?;
        let message = match kind {
            MessageKind::Ping => {
                let enr_seq = items.uint()?;
                Self::Request(id, Request::Ping { enr_seq })
            }
            MessageKind::Pong => Self::Response(id, decode_pong(&mut items)?),
            MessageKind::FindNode => {
                let distances = decode_distances(items.list()?)?;
                Self::Request(id, Request::FindNode { distances })
            }
            MessageKind::Nodes => Self::Response(id, decode_nodes(&mut items)?),
            // Copied, as a slice would keep the receiver's whole buffer alive.
            MessageKind::TalkRequest => {
                let protocol = Bytes::copy_from_slice(items.bytes()?);
                let payload = Bytes::copy_from_slice(items.bytes()?);
                Self::Request(id, Request::Talk { protocol, payload })
            }
            MessageKind::TalkResponse => {
                let payload = Bytes::copy_from_slice(items.bytes()?);
                Self::Response(id, Response::Talk { payload })
            }
        };
        items.end()?;
        Ok(message)
    }
}

fn decode_pong(items: &mut Items<'_>) -> Result<Response<UnverifiedRecord>, MessageError> {
    let enr_seq = items.uint()?;
    let ip = items.bytes()?;
    let ip = match (<[u8; 4]>::try_from(ip), <[u8; 16]>::try_from(ip)) {
        (Ok(v4), _) => IpAddr::V4(Ipv4Addr::from(v4)),
        (_, Ok(v6)) => IpAddr::V6(Ipv6Addr::from(v6)),
        _ => return Err(MessageError::Address),
    };
    let port = u16::try_from(items.uint()?).map_err(|_| MessageError::Rlp)?;
    let recipient = SocketAddr::new(canonical_ip(ip), port);
    Ok(Response::Pong { enr_seq, recipient })
}

/// What is no distance is left out, as in geth; so a node that asks for more gets what there is.
fn decode_distances(mut items: Items<'_>) -> Result<Distances, MessageError> {
    let mut failed = None;
    let distances = Distances::new(std::iter::from_fn(|| {
        if items.0.is_empty() {
            return None;
        }
        items.uint().map_err(|error| failed = Some(error)).ok()
    }));
    match failed {
        Some(error) => Err(error),
        None => Ok(distances),
    }
}

fn decode_nodes(items: &mut Items<'_>) -> Result<Response<UnverifiedRecord>, MessageError> {
    let total = items.uint()?;
    let mut list = items.list()?;
    let mut records = Vec::new();
    while !list.0.is_empty() {
        records.extend(UnverifiedRecord::decode(list.raw_list()?).ok());
    }
    Ok(Response::Nodes { total, records })
}

/// Spreads `records` over as few NODES as they need, so that each fits a packet: one empty message when there are none, at
/// most [`MAX_NODES`] records in at most [`MAX_NODES_MESSAGES`] messages. A record goes into the first message that has
/// room for it.
///
/// A packet of 1280 bytes leaves 1193 for the message ([`MAX_MESSAGE`]). Type (1), list header (3), request id (1 to 9),
/// total (1) and the header of the list of records (3) take 17 at most, so that 1176 are left for records: three of the
/// longest possible (300 bytes), nine of a usual one (130). Of 16 records of 300 bytes five messages carry 15, and the last
/// is left out.
#[must_use]
pub fn pack_nodes(id: RequestId, records: impl IntoIterator<Item = NodeRecord>) -> Vec<Message> {
    // With list headers of three bytes; a message that is shorter needs less.
    let overhead = 1 + 3 + bytes_len(id.as_bytes()) + 1 + 3;
    let room = MAX_MESSAGE - overhead;
    let mut bins: Vec<(usize, Vec<NodeRecord>)> = Vec::new();
    for record in records.into_iter().take(MAX_NODES) {
        let len = record.raw().len();
        debug_assert!(len <= MAX_RECORD_SIZE);
        if let Some((used, bin)) = bins.iter_mut().find(|(used, _)| used + len <= room) {
            *used += len;
            bin.push(record);
        } else if bins.len() < MAX_NODES_MESSAGES {
            bins.push((len, vec![record]));
        }
    }
    if bins.is_empty() {
        bins.push((0, Vec::new()));
    }
    let total = bins.len() as u64;
    bins.into_iter()
        .map(|(_, records)| Message::Response(id, Response::Nodes { total, records }))
        .collect()
}

fn distances_len(distances: &Distances) -> usize {
    let each = distances.as_slice().iter();
    each.map(|distance| uint_len(u64::from(*distance))).sum()
}

/// First byte of a short string, and from here on of short lists (the Ethereum yellow paper, appendix B).
const STRING: u8 = 0x80;
const LIST: u8 = 0xc0;
/// Longest payload whose length is in the first byte.
const SHORT: usize = 55;

/// The items of an RLP list, canonical or refused.
struct Items<'a>(&'a [u8]);

impl<'a> Items<'a> {
    fn end(&self) -> Result<(), MessageError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(MessageError::Surplus)
        }
    }

    /// The payload of the next item, and whether it is a list.
    fn next(&mut self) -> Result<(bool, &'a [u8]), MessageError> {
        let (first, rest) = self.0.split_first().ok_or(MessageError::Missing)?;
        if *first < STRING {
            let (item, rest) = self.0.split_at_checked(1).ok_or(MessageError::Missing)?;
            self.0 = rest;
            return Ok((false, item));
        }
        let is_list = *first >= LIST;
        let size = usize::from(*first - if is_list { LIST } else { STRING });
        let (len, rest) = if size <= SHORT {
            (size, rest)
        } else {
            long_len(size - SHORT, rest)?
        };
        let (payload, rest) = rest.split_at_checked(len).ok_or(MessageError::Rlp)?;
        if !is_list && matches!(payload, [byte] if *byte < STRING) {
            return Err(MessageError::Rlp);
        }
        self.0 = rest;
        Ok((is_list, payload))
    }

    fn bytes(&mut self) -> Result<&'a [u8], MessageError> {
        match self.next()? {
            (false, payload) => Ok(payload),
            (true, _) => Err(MessageError::Rlp),
        }
    }

    fn list(&mut self) -> Result<Self, MessageError> {
        match self.next()? {
            (true, payload) => Ok(Items(payload)),
            (false, _) => Err(MessageError::Rlp),
        }
    }

    /// The next item, a list, with its header.
    fn raw_list(&mut self) -> Result<&'a [u8], MessageError> {
        let before = self.0;
        self.list()?;
        let len = before.len() - self.0.len();
        before.get(..len).ok_or(MessageError::Rlp)
    }

    fn uint(&mut self) -> Result<u64, MessageError> {
        let bytes = self.bytes()?;
        if bytes.len() > 8 || bytes.first() == Some(&0) {
            return Err(MessageError::Rlp);
        }
        Ok(be_uint(bytes))
    }
}

/// The length in the `size` bytes after the first one, which must need them all.
fn long_len(size: usize, rest: &[u8]) -> Result<(usize, &[u8]), MessageError> {
    let (len, rest) = rest.split_at_checked(size).ok_or(MessageError::Rlp)?;
    // No packet is as long as three bytes can say.
    if size > 2 || len.first() == Some(&0) {
        return Err(MessageError::Rlp);
    }
    match usize::try_from(be_uint(len)) {
        Ok(len) if len > SHORT => Ok((len, rest)),
        _ => Err(MessageError::Rlp),
    }
}

fn be_uint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

/// Bytes of a non-negative number without leading zeros.
fn significant(value: u64) -> usize {
    8 - (value.leading_zeros() / 8) as usize
}

fn uint_len(value: u64) -> usize {
    if value < u64::from(STRING) {
        1
    } else {
        1 + significant(value)
    }
}

fn bytes_len(bytes: &[u8]) -> usize {
    match bytes {
        [byte] if *byte < STRING => 1,
        _ => header_len(bytes.len()) + bytes.len(),
    }
}

fn list_len(payload: usize) -> usize {
    header_len(payload) + payload
}

fn header_len(payload: usize) -> usize {
    if payload <= SHORT {
        1
    } else {
        1 + significant(payload as u64)
    }
}

fn put_header(out: &mut BytesMut, base: u8, len: usize) {
    if len <= SHORT {
        // At most 55.
        out.put_u8(base + len as u8);
    } else {
        let size = significant(len as u64);
        out.put_u8(base + (SHORT + size) as u8);
        out.put_uint(len as u64, size);
    }
}

fn put_list(out: &mut BytesMut, payload: usize) {
    put_header(out, LIST, payload);
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    if !matches!(bytes, [byte] if *byte < STRING) {
        put_header(out, STRING, bytes.len());
    }
    out.put_slice(bytes);
}

fn put_uint(out: &mut BytesMut, value: u64) {
    if value != 0 && value < u64::from(STRING) {
        out.put_u8(value as u8);
    } else {
        let size = significant(value);
        out.put_u8(STRING + size as u8);
        out.put_uint(value, size);
    }
}
