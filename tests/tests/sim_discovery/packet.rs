//! What travels between the nodes: messages of both protocols as they are before encoding, with what a codec would have found
//! out beside them. Nothing is signed or encrypted; what a handshake costs in packets is there all the same.

use std::hash::{Hash, Hasher};

use tercet_discovery::v4::{self, PacketHash};
use tercet_discovery::v5::{self, Request, Response};
use tercet_enode::{NodeId, NodeRecord, PublicKey};
use tercet_sim::Packet;

/// Hash, signature and type of a discv4 packet, in bytes.
const V4_OVERHEAD: usize = 98;
/// Masking IV, static header, source id and tag of a discv5 packet, in bytes.
const V5_OVERHEAD: usize = 16 + 23 + 32 + 16;
/// What a handshake packet carries beside: sizes, signature and ephemeral key.
const HANDSHAKE: usize = 2 + 64 + 33;

/// A datagram before encoding.
#[derive(Clone)]
pub(crate) enum Datagram {
    V4 {
        /// Who signed it: what recovery would yield.
        key: PublicKey,
        hash: PacketHash,
        message: v4::Message,
    },
    /// An ordinary discv5 packet: read by whoever has a session with its sender, noise to anybody else. Noise is what a
    /// node without a session begins with.
    V5 {
        id: NodeId,
        nonce: u64,
        message: Option<v5::Message>,
    },
    /// WHOAREYOU, answering the packet with this nonce.
    V5Challenge { nonce: u64 },
    /// Its answer, with the sender's record and its first message.
    V5Handshake {
        record: NodeRecord,
        message: v5::Message,
    },
}

impl Datagram {
    pub(crate) const fn is_v4(&self) -> bool {
        matches!(self, Self::V4 { .. })
    }
}

impl Packet for Datagram {
    fn size(&self) -> usize {
        match self {
            Self::V4 { message, .. } => V4_OVERHEAD + v4_size(message),
            Self::V5 { message, .. } => V5_OVERHEAD + message.as_ref().map_or(20, v5_size),
            Self::V5Challenge { .. } => 16 + 23 + 24,
            Self::V5Handshake { record, message } => {
                V5_OVERHEAD + HANDSHAKE + record.raw().len() + v5_size(message)
            }
        }
    }

    fn trace<H: Hasher>(&self, hasher: &mut H) {
        match self {
            Self::V4 { hash, message, .. } => {
                hash.hash(hasher);
                trace_v4(message, hasher);
            }
            Self::V5 { id, nonce, message } => {
                (id, nonce).hash(hasher);
                if let Some(message) = message {
                    trace_v5(message, hasher);
                }
            }
            Self::V5Challenge { nonce } => nonce.hash(hasher),
            Self::V5Handshake { record, message } => {
                trace_record(record, hasher);
                trace_v5(message, hasher);
            }
        }
    }
}

/// An IPv4 neighbour takes 79 bytes, other fields little.
fn v4_size(message: &v4::Message) -> usize {
    match message {
        v4::Message::Ping(_) | v4::Message::Pong(_) => 50,
        v4::Message::FindNode(_) => 73,
        v4::Message::Neighbors(neighbors) => 11 + 79 * neighbors.nodes.len(),
        v4::Message::EnrRequest(_) => 6,
        v4::Message::EnrResponse(response) => 36 + response.record.raw().len(),
    }
}

/// Type, request id and list take 13 bytes at most, with a total 16.
fn v5_size(message: &v5::Message) -> usize {
    match message {
        v5::Message::Request(_, Request::Ping { .. }) => 22,
        v5::Message::Request(_, Request::FindNode { distances }) => {
            16 + 3 * distances.as_slice().len()
        }
        v5::Message::Request(_, Request::Talk { protocol, payload }) => {
            20 + protocol.len() + payload.len()
        }
        v5::Message::Response(_, Response::Pong { .. }) => 42,
        v5::Message::Response(_, Response::Nodes { records, .. }) => {
            16 + records.iter().map(|r| r.raw().len()).sum::<usize>()
        }
        v5::Message::Response(_, Response::Talk { payload }) => 16 + payload.len(),
    }
}

fn trace_v4<H: Hasher>(message: &v4::Message, hasher: &mut H) {
    (message.kind(), message.expiration()).hash(hasher);
    match message {
        v4::Message::Ping(ping) => ping.enr_seq.hash(hasher),
        v4::Message::Pong(pong) => (pong.ping_hash, pong.enr_seq).hash(hasher),
        v4::Message::FindNode(find) => find.target.id().hash(hasher),
        v4::Message::Neighbors(neighbors) => {
            neighbors.nodes.len().hash(hasher);
            if let Some(last) = neighbors.nodes.last() {
                last.endpoint.hash(hasher);
            }
        }
        v4::Message::EnrRequest(_) => {}
        v4::Message::EnrResponse(response) => {
            response.request_hash.hash(hasher);
            trace_record(&response.record, hasher);
        }
    }
}

fn trace_v5<H: Hasher>(message: &v5::Message, hasher: &mut H) {
    match message {
        v5::Message::Request(id, request) => {
            id.hash(hasher);
            match request {
                Request::Ping { enr_seq } => enr_seq.hash(hasher),
                Request::FindNode { distances } => distances.hash(hasher),
                Request::Talk { protocol, payload } => (protocol, payload).hash(hasher),
            }
        }
        v5::Message::Response(id, response) => {
            id.hash(hasher);
            match response {
                Response::Pong { enr_seq, recipient } => (enr_seq, recipient).hash(hasher),
                Response::Nodes { total, records } => {
                    total.hash(hasher);
                    records.len().hash(hasher);
                    if let Some(last) = records.last() {
                        trace_record(last, hasher);
                    }
                }
                Response::Talk { payload } => payload.hash(hasher),
            }
        }
    }
}

/// A record is told by its number and the beginning of its node's id.
fn trace_record<H: Hasher>(record: &NodeRecord, hasher: &mut H) {
    let begin = record.id().as_bytes().first_chunk().copied();
    (begin.map(u64::from_be_bytes), record.seq()).hash(hasher);
}
