//! A message of another protocol on its way from the engine to whoever answers it, and the answer on its way back.

use std::net::SocketAddr;

use bytes::Bytes;
use tercet_enode::NodeId;

use super::message::RequestId;

/// A message of another protocol (TALKREQ). It is to be answered in any case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TalkMessage {
    /// The address it came from.
    pub from: SocketAddr,
    /// Who asks; proven by the session.
    pub id: NodeId,
    /// What the response quotes.
    pub request: RequestId,
    /// The protocol's name.
    pub protocol: Bytes,
    /// What it says.
    pub payload: Bytes,
}

/// An answer on its way to the node that asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TalkResponse {
    /// The address the request came from.
    pub to: SocketAddr,
    /// Who asked.
    pub id: NodeId,
    /// The request's id.
    pub request: RequestId,
    /// The answer, empty if there is none.
    pub payload: Bytes,
}

impl TalkMessage {
    /// The answer to it.
    #[must_use]
    pub const fn answer(&self, payload: Bytes) -> TalkResponse {
        TalkResponse {
            to: self.from,
            id: self.id,
            request: self.request,
            payload,
        }
    }
}
