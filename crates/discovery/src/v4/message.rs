//! The six discv4 messages and their RLP bodies (devp2p `discv4.md`, EIP-8, EIP-868).
//! Signing, hashing and the packet frame are in `codec`; what a message means is in `core`.
//!
//! Decoding is total and forward compatible: surplus list elements are skipped, and what the
//! protocol does not rely on (`version`, `from`, a non-integer sequence number) never fails a packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rlp::{DecoderError, Rlp, RlpStream};
use tercet_enode::{
    Endpoint, Node, NodeId, NodeRecord, PublicKey, UnverifiedRecord, canonical_ip, keccak256,
};

use crate::target::Target;

/// Neighbours in one packet: the longest entry (IPv6) takes 91 bytes, and
/// `(1280 - 98 frame - 11 list headers and expiration) / 91 = 12`.
pub const MAX_NEIGHBORS_PER_PACKET: usize = 12;

/// The protocol version this node announces. Receivers ignore it (EIP-8).
const VERSION: u8 = 4;

/// Hash in front of a packet: what a reply quotes to say which request it answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PacketHash([u8; 32]);

impl PacketHash {
    /// Wraps the first 32 bytes of a packet.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes as they stand on the wire.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The kind of a message; the discriminant is the type byte on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum MessageKind {
    /// 0x01
    Ping = 1,
    /// 0x02
    Pong = 2,
    /// 0x03
    FindNode = 3,
    /// 0x04
    Neighbors = 4,
    /// 0x05 (EIP-868)
    EnrRequest = 5,
    /// 0x06 (EIP-868)
    EnrResponse = 6,
}

impl MessageKind {
    /// Whether it asks for a reply.
    #[must_use]
    pub const fn is_request(self) -> bool {
        matches!(self, Self::Ping | Self::FindNode | Self::EnrRequest)
    }

    pub(super) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Ping),
            2 => Some(Self::Pong),
            3 => Some(Self::FindNode),
            4 => Some(Self::Neighbors),
            5 => Some(Self::EnrRequest),
            6 => Some(Self::EnrResponse),
            _ => None,
        }
    }
}

/// An address as a packet states it. Never trusted: the UDP envelope is (`discv4.md`, Ping).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WireEndpoint {
    /// `None` where the packet carried something that is not 4 or 16 bytes long.
    pub ip: Option<IpAddr>,
    /// UDP port, 0 when unknown.
    pub udp: u16,
    /// TCP port, 0 when unknown.
    pub tcp: u16,
}

impl WireEndpoint {
    /// The endpoint with all three parts known.
    #[must_use]
    pub const fn new(ip: IpAddr, udp: u16, tcp: u16) -> Self {
        Self {
            ip: Some(ip),
            udp,
            tcp,
        }
    }

    fn decode_lenient(item: &Rlp<'_>) -> Self {
        let port = |index| item.val_at::<u16>(index).unwrap_or(0);
        let ip = item.at(0).ok().and_then(|ip| decode_ip(&ip));
        Self {
            ip,
            udp: port(1),
            tcp: port(2),
        }
    }

    fn append(&self, stream: &mut RlpStream) {
        stream.begin_list(3);
        append_ip(stream, self.ip);
        stream.append(&self.udp).append(&self.tcp);
    }
}

/// Asks for a [`Pong`]; proves nothing by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ping {
    /// What the sender believes its own endpoint is; only the TCP port is of use.
    pub from: WireEndpoint,
    /// Where the sender sent the packet.
    pub to: WireEndpoint,
    /// Unix seconds after which the packet is void.
    pub expiration: u64,
    /// Sequence number of the sender's record (EIP-868).
    pub enr_seq: Option<u64>,
}

/// Answers a [`Ping`]; proves that its sender receives at its address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pong {
    /// The UDP source of the ping as its receiver saw it.
    pub to: WireEndpoint,
    /// Hash of the ping packet.
    pub ping_hash: PacketHash,
    /// Unix seconds after which the packet is void.
    pub expiration: u64,
    /// Sequence number of the sender's record (EIP-868).
    pub enr_seq: Option<u64>,
}

/// Asks for the nodes closest to a target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FindNode {
    /// What is looked for.
    pub target: WireTarget,
    /// Unix seconds after which the packet is void.
    pub expiration: u64,
}

/// One node in a [`Neighbors`] packet: a usable address and a key on the curve.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Neighbor {
    /// The node's key.
    pub key: PublicKey,
    /// Its address as the sender knows it.
    pub endpoint: Endpoint,
}

impl Neighbor {
    fn decode(item: &Rlp<'_>) -> Option<Self> {
        let ip = decode_ip(&item.at(0).ok()?)?;
        let udp = item.val_at::<u16>(1).ok()?;
        let tcp = item.val_at::<u16>(2).ok()?;
        let key = PublicKey::from_slice(item.at(3).ok()?.data().ok()?).ok()?;
        Some(Self {
            key,
            endpoint: Endpoint::new(ip, udp, tcp),
        })
    }

    fn append(&self, stream: &mut RlpStream) {
        stream.begin_list(4);
        append_ip(stream, Some(self.endpoint.ip));
        stream.append(&self.endpoint.udp).append(&self.endpoint.tcp);
        stream.append(&self.key.to_bytes().as_slice());
    }
}

impl From<&Node> for Neighbor {
    fn from(node: &Node) -> Self {
        Self {
            key: node.public_key(),
            endpoint: *node.endpoint(),
        }
    }
}

/// Answers a [`FindNode`], possibly in several packets that do not say how many there are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Neighbors {
    /// At most [`MAX_NEIGHBORS_PER_PACKET`] when sent by this node. Entries that make no sense (an
    /// address of odd length, a key off the curve) are left out when decoding.
    pub nodes: Vec<Neighbor>,
    /// Unix seconds after which the packet is void.
    pub expiration: u64,
}

impl Neighbors {
    /// Spreads `nodes` over as many packets as they need; one empty packet when there are none.
    pub fn split(nodes: &[Neighbor], expiration: u64) -> impl Iterator<Item = Self> + '_ {
        let empty = nodes.is_empty().then(|| Self {
            nodes: Vec::new(),
            expiration,
        });
        let full = nodes
            .chunks(MAX_NEIGHBORS_PER_PACKET)
            .map(move |chunk| Self {
                nodes: chunk.to_vec(),
                expiration,
            });
        empty.into_iter().chain(full)
    }
}

/// Asks for the receiver's record (EIP-868).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EnrRequest {
    /// Unix seconds after which the packet is void.
    pub expiration: u64,
}

/// Answers an [`EnrRequest`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EnrResponse {
    /// Hash of the request packet.
    pub request_hash: PacketHash,
    /// The record, its signature checked.
    pub record: NodeRecord,
}

/// What a [`FindNode`] asks for: 64 bytes that need not be a key, and their hash, which is the place in the id space.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct WireTarget {
    bytes: [u8; 64],
    id: NodeId,
}

impl WireTarget {
    /// The target with these 64 bytes; its id is their Keccak-256.
    #[must_use]
    pub fn new(bytes: [u8; 64]) -> Self {
        Self {
            bytes,
            id: NodeId::new(keccak256(&bytes)),
        }
    }

    /// The bytes sent.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.bytes
    }

    /// The place in the id space.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }
}

impl From<PublicKey> for WireTarget {
    fn from(key: PublicKey) -> Self {
        Self {
            bytes: key.to_bytes(),
            id: key.node_id(),
        }
    }
}

impl TryFrom<Target> for WireTarget {
    type Error = UnknownBytes;

    fn try_from(target: Target) -> Result<Self, UnknownBytes> {
        let bytes = *target.bytes().ok_or(UnknownBytes)?;
        Ok(Self {
            bytes,
            id: target.id(),
        })
    }
}

/// A target whose 64 bytes nobody knows: discv4 cannot name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the 64 bytes of the target are not known")]
pub struct UnknownBytes;

impl std::fmt::Debug for WireTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WireTarget").field(&self.id).finish()
    }
}

/// A discv4 message.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // each variant is named after the type it holds, which is documented
pub enum Message {
    Ping(Ping),
    Pong(Pong),
    FindNode(FindNode),
    Neighbors(Neighbors),
    EnrRequest(EnrRequest),
    EnrResponse(EnrResponse),
}

impl Message {
    /// The message's kind.
    #[must_use]
    pub const fn kind(&self) -> MessageKind {
        match self {
            Self::Ping(_) => MessageKind::Ping,
            Self::Pong(_) => MessageKind::Pong,
            Self::FindNode(_) => MessageKind::FindNode,
            Self::Neighbors(_) => MessageKind::Neighbors,
            Self::EnrRequest(_) => MessageKind::EnrRequest,
            Self::EnrResponse(_) => MessageKind::EnrResponse,
        }
    }

    /// Unix seconds after which the message is void; an [`EnrResponse`] has no such time.
    #[must_use]
    pub const fn expiration(&self) -> Option<u64> {
        match self {
            Self::Ping(ping) => Some(ping.expiration),
            Self::Pong(pong) => Some(pong.expiration),
            Self::FindNode(find) => Some(find.expiration),
            Self::Neighbors(neighbors) => Some(neighbors.expiration),
            Self::EnrRequest(request) => Some(request.expiration),
            Self::EnrResponse(_) => None,
        }
    }

    /// Hash of the request this message says it answers.
    #[must_use]
    pub const fn answers(&self) -> Option<PacketHash> {
        match self {
            Self::Pong(pong) => Some(pong.ping_hash),
            Self::EnrResponse(response) => Some(response.request_hash),
            _ => None,
        }
    }

    /// The RLP list that follows the type byte.
    pub(super) fn encode_body(&self) -> Vec<u8> {
        let mut stream = RlpStream::new();
        match self {
            Self::Ping(ping) => {
                stream.begin_list(4 + usize::from(ping.enr_seq.is_some()));
                stream.append(&VERSION);
                ping.from.append(&mut stream);
                ping.to.append(&mut stream);
                stream.append(&ping.expiration);
                append_seq(&mut stream, ping.enr_seq);
            }
            Self::Pong(pong) => {
                stream.begin_list(3 + usize::from(pong.enr_seq.is_some()));
                pong.to.append(&mut stream);
                stream.append(&pong.ping_hash.as_bytes().as_slice());
                stream.append(&pong.expiration);
                append_seq(&mut stream, pong.enr_seq);
            }
            Self::FindNode(find) => {
                stream.begin_list(2);
                stream.append(&find.target.as_bytes().as_slice());
                stream.append(&find.expiration);
            }
            Self::Neighbors(neighbors) => {
                stream.begin_list(2);
                stream.begin_list(neighbors.nodes.len());
                for node in &neighbors.nodes {
                    node.append(&mut stream);
                }
                stream.append(&neighbors.expiration);
            }
            Self::EnrRequest(request) => {
                stream.begin_list(1);
                stream.append(&request.expiration);
            }
            Self::EnrResponse(response) => {
                stream.begin_list(2);
                stream.append(&response.request_hash.as_bytes().as_slice());
                stream.append_raw(response.record.raw(), 1);
            }
        }
        stream.out().to_vec()
    }
}

/// A message whose embedded record, if it has one, is not verified yet.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Ready(Message),
    Record {
        request_hash: PacketHash,
        record: UnverifiedRecord,
    },
}

/// Why a body does not decode.
#[derive(Debug)]
pub(super) enum BodyError {
    Rlp(DecoderError),
    Record(tercet_enode::RecordError),
}

impl From<DecoderError> for BodyError {
    fn from(error: DecoderError) -> Self {
        Self::Rlp(error)
    }
}

impl Body {
    /// Decodes the list at the front of `data`; bytes behind it are ignored (EIP-8).
    /// The hash of the request in a reply that quotes it, without a look at the rest.
    pub(super) fn quoted(kind: MessageKind, data: &[u8]) -> Option<PacketHash> {
        let at = match kind {
            MessageKind::Pong => 1,
            MessageKind::EnrResponse => 0,
            _ => return None,
        };
        decode_hash(&Rlp::new(data).at(at).ok()?).ok()
    }

    pub(super) fn decode(kind: MessageKind, data: &[u8]) -> Result<Self, BodyError> {
        let list = Rlp::new(data);
        if !list.is_list() {
            return Err(DecoderError::RlpExpectedToBeList.into());
        }
        // Refuses a list that claims more bytes than there are.
        list.payload_info()?;
        let message = match kind {
            MessageKind::Ping => {
                list.at(0)?;
                Message::Ping(Ping {
                    from: WireEndpoint::decode_lenient(&list.at(1)?),
                    to: WireEndpoint::decode_lenient(&list.at(2)?),
                    expiration: list.val_at(3)?,
                    enr_seq: decode_seq(&list, 4),
                })
            }
            MessageKind::Pong => Message::Pong(Pong {
                to: WireEndpoint::decode_lenient(&list.at(0)?),
                ping_hash: decode_hash(&list.at(1)?)?,
                expiration: list.val_at(2)?,
                enr_seq: decode_seq(&list, 3),
            }),
            MessageKind::FindNode => {
                let target: [u8; 64] = exact(list.at(0)?.data()?)?;
                Message::FindNode(FindNode {
                    target: WireTarget::new(target),
                    expiration: list.val_at(1)?,
                })
            }
            MessageKind::Neighbors => {
                let entries = list.at(0)?;
                if !entries.is_list() {
                    return Err(DecoderError::RlpExpectedToBeList.into());
                }
                let nodes = entries
                    .iter()
                    .filter_map(|entry| Neighbor::decode(&entry))
                    .collect();
                Message::Neighbors(Neighbors {
                    nodes,
                    expiration: list.val_at(1)?,
                })
            }
            MessageKind::EnrRequest => Message::EnrRequest(EnrRequest {
                expiration: list.val_at(0)?,
            }),
            MessageKind::EnrResponse => {
                let request_hash = decode_hash(&list.at(0)?)?;
                let record =
                    UnverifiedRecord::decode(list.at(1)?.as_raw()).map_err(BodyError::Record)?;
                return Ok(Self::Record {
                    request_hash,
                    record,
                });
            }
        };
        Ok(Self::Ready(message))
    }
}

fn decode_ip(item: &Rlp<'_>) -> Option<IpAddr> {
    let data = item.data().ok()?;
    let ip = match (<[u8; 4]>::try_from(data), <[u8; 16]>::try_from(data)) {
        (Ok(v4), _) => IpAddr::V4(Ipv4Addr::from(v4)),
        (_, Ok(v6)) => IpAddr::V6(Ipv6Addr::from(v6)),
        _ => return None,
    };
    Some(canonical_ip(ip))
}

fn append_ip(stream: &mut RlpStream, ip: Option<IpAddr>) {
    match ip {
        Some(IpAddr::V4(v4)) => stream.append(&v4.octets().as_slice()),
        Some(IpAddr::V6(v6)) => stream.append(&v6.octets().as_slice()),
        None => stream.append_empty_data(),
    };
}

/// EIP-868's number where there is one. Two EIP-8 vectors carry a list in its place, which an
/// older sender may do, so anything but an integer counts as absent.
fn decode_seq(list: &Rlp<'_>, index: usize) -> Option<u64> {
    list.val_at(index).ok()
}

fn append_seq(stream: &mut RlpStream, seq: Option<u64>) {
    if let Some(seq) = seq {
        stream.append(&seq);
    }
}

fn decode_hash(item: &Rlp<'_>) -> Result<PacketHash, DecoderError> {
    Ok(PacketHash(exact(item.data()?)?))
}

fn exact<const N: usize>(data: &[u8]) -> Result<[u8; N], DecoderError> {
    data.try_into().map_err(|_| DecoderError::RlpInvalidLength)
}
