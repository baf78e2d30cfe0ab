//! A place in the id space as typed: a node, its public key, or its id.

use std::str::FromStr;

use tercet_discovery::{Protocols, Target};
use tercet_enode::{NodeAddress, NodeId, PublicKey};
use thiserror::Error;

use super::DiscoverArgs;
use crate::error::CliError;

/// Where a lookup goes.
#[derive(Debug, Clone)]
pub(crate) enum TargetArg {
    /// A node, of which more may be known.
    Node(NodeAddress),
    /// A public key.
    Key(PublicKey),
    /// A node id. The bytes behind it are not known, so only discv5 can be asked.
    Id(NodeId),
}

/// A text that names no place.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum TargetArgError {
    /// None of the forms.
    #[error(
        "a target is an enode URL, an ENR, a public key (128 hex digits) or a node id (64 hex digits)"
    )]
    Form,
    /// No node's address.
    #[error(transparent)]
    Node(<NodeAddress as FromStr>::Err),
    /// No key.
    #[error(transparent)]
    Key(<PublicKey as FromStr>::Err),
}

impl TargetArg {
    pub(crate) fn id(&self) -> NodeId {
        match self {
            Self::Node(address) => address.id(),
            Self::Key(key) => key.node_id(),
            Self::Id(id) => *id,
        }
    }

    /// The options to look for it with: over discv5 alone if only its id is known. discv4 could not be asked, and with it on the
    /// first nodes might be met over discv4 and not be asked at all.
    pub(crate) fn suited(&self, args: DiscoverArgs) -> Result<DiscoverArgs, CliError> {
        match self {
            Self::Id(_) if args.protocols() == Protocols::V4 => Err(CliError::IdOverV4),
            Self::Id(_) => Ok(args.over_v5()),
            Self::Node(_) | Self::Key(_) => Ok(args),
        }
    }

    pub(crate) fn target(&self) -> Target {
        match self {
            Self::Node(address) => address.public_key().into(),
            Self::Key(key) => (*key).into(),
            Self::Id(id) => (*id).into(),
        }
    }
}

impl FromStr for TargetArg {
    type Err = TargetArgError;

    fn from_str(text: &str) -> Result<Self, TargetArgError> {
        if text.starts_with("enode:") || text.starts_with("enr:") {
            return text.parse().map(Self::Node).map_err(TargetArgError::Node);
        }
        let digits = text.strip_prefix("0x").unwrap_or(text);
        match digits.len() {
            128 => digits.parse().map(Self::Key).map_err(TargetArgError::Key),
            64 => digits
                .parse()
                .map(Self::Id)
                .map_err(|_| TargetArgError::Form),
            _ => Err(TargetArgError::Form),
        }
    }
}
