//! A contact: who and where, with the record behind it if there is one; and what a person may type to name one.

use std::fmt;
use std::str::FromStr;

use crate::endpoint::Endpoint;
use crate::id::NodeId;
use crate::keys::PublicKey;
use crate::record::{NodeRecord, ParseRecordError};
use crate::url::{EnodeUrl, ParseEnodeError};

/// A node we can talk to. Its endpoint is where we reach it, which may differ from what its record says (the record may be
/// older, or the node behind a NAT). Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Node {
    public_key: PublicKey,
    endpoint: Endpoint,
    record: Option<NodeRecord>,
}

/// A record of one node was to be attached to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record is of node {found}, not of {expected}")]
pub struct WrongIdentity {
    /// The node's id.
    pub expected: NodeId,
    /// The id in the record.
    pub found: NodeId,
}

impl Node {
    /// A node without a record.
    #[must_use]
    pub fn new(public_key: PublicKey, endpoint: Endpoint) -> Self {
        Self {
            public_key,
            endpoint,
            record: None,
        }
    }

    /// The node a record describes; `None` if the record has no usable endpoint.
    #[must_use]
    pub fn from_record(record: NodeRecord) -> Option<Self> {
        let endpoint = record.endpoint()?;
        Some(Self {
            public_key: record.public_key(),
            endpoint,
            record: Some(record),
        })
    }

    /// The node's id.
    #[must_use]
    #[inline]
    pub const fn id(&self) -> NodeId {
        self.public_key.node_id()
    }

    /// The node's key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// Where to reach it.
    #[must_use]
    #[inline]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Where to reach it, then what else its record says of another family: at most two endpoints. The record's address of
    /// the family in use is left out, since the endpoint in use is what has been seen to work.
    pub fn endpoints(&self) -> impl Iterator<Item = Endpoint> + use<> {
        let first = self.endpoint;
        let record = self.record.as_ref().map(NodeRecord::endpoints);
        let others = record.into_iter().flatten();
        std::iter::once(first)
            .chain(others.filter(move |other| other.ip.is_ipv4() != first.ip.is_ipv4()))
    }

    /// Its record, if we have seen one.
    #[must_use]
    pub fn record(&self) -> Option<&NodeRecord> {
        self.record.as_ref()
    }

    /// The sequence number of its record, 0 without one.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.record.as_ref().map_or(0, NodeRecord::seq)
    }

    /// The node with a record attached and its endpoint unchanged.
    ///
    /// # Errors
    /// [`WrongIdentity`] if the record is another node's.
    pub fn with_record(self, record: NodeRecord) -> Result<Self, WrongIdentity> {
        if record.id() != self.id() {
            return Err(WrongIdentity {
                expected: self.id(),
                found: record.id(),
            });
        }
        Ok(Self {
            record: Some(record),
            ..self
        })
    }

    /// The node at another endpoint, its record unchanged.
    #[must_use]
    pub fn with_endpoint(self, endpoint: Endpoint) -> Self {
        Self { endpoint, ..self }
    }

    /// The node as an enode URL.
    #[must_use]
    pub fn enode_url(&self) -> EnodeUrl {
        EnodeUrl::new(self.public_key, &self.endpoint)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint { ip, udp, tcp } = self.endpoint;
        write!(
            f,
            "Node({:?} at {ip}, udp {udp}, tcp {tcp}, seq {})",
            self.id(),
            self.seq()
        )
    }
}

/// What a person types to name a node: an enode URL or a record.
///
/// ```
/// use tercet_enode::NodeAddress;
/// let error = "10.0.0.1:30303".parse::<NodeAddress>().unwrap_err();
/// assert_eq!(error.to_string(), "a node is named by \"enode://…\" or \"enr:…\"");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NodeAddress {
    /// `enode://…`
    Enode(EnodeUrl),
    /// `enr:…`
    Record(NodeRecord),
}

/// Why a text names no node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseNodeError {
    /// It begins neither with `enode://` nor with `enr:`.
    #[error("a node is named by \"enode://…\" or \"enr:…\"")]
    UnknownForm,
    /// A wrong enode URL.
    #[error(transparent)]
    Enode(#[from] ParseEnodeError),
    /// A wrong record.
    #[error(transparent)]
    Record(#[from] ParseRecordError),
}

impl NodeAddress {
    /// The node's id.
    #[must_use]
    #[inline]
    pub fn id(&self) -> NodeId {
        match self {
            Self::Enode(url) => url.id(),
            Self::Record(record) => record.id(),
        }
    }

    /// The node's key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        match self {
            Self::Enode(url) => url.public_key(),
            Self::Record(record) => record.public_key(),
        }
    }

    /// The node, or `None` if its DNS name must be resolved first or it has no endpoint at all.
    #[must_use]
    pub fn to_node(&self) -> Option<Node> {
        match self {
            Self::Enode(url) => url
                .endpoint()
                .map(|endpoint| Node::new(url.public_key(), endpoint)),
            Self::Record(record) => Node::from_record(record.clone()),
        }
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enode(url) => fmt::Display::fmt(url, f),
            Self::Record(record) => fmt::Display::fmt(record, f),
        }
    }
}

impl FromStr for NodeAddress {
    type Err = ParseNodeError;

    fn from_str(text: &str) -> Result<Self, ParseNodeError> {
        if text.starts_with("enode:") {
            Ok(Self::Enode(text.parse()?))
        } else if text.starts_with("enr:") {
            Ok(Self::Record(text.parse()?))
        } else {
            Err(ParseNodeError::UnknownForm)
        }
    }
}
