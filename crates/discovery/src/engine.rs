//! What the core and its two protocol engines say to each other. The core has the table, the lookups and the callers; an
//! engine knows how its protocol asks one node one question. Engines are driven by function calls and report back through a
//! queue the core drains after every call.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use tercet_enode::{Node, NodeId, NodeRecord};
use tercet_machine::MonoTime;
use tercet_nodedb::Write;

pub(crate) use crate::core::{OpId, RequestError};
use crate::kad::Proof;
pub(crate) use crate::target::Target;
use crate::v5::{Distances, TalkMessage};

/// A protocol of the node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Protocol {
    /// discv4
    V4,
    /// discv5.1
    V5,
}

/// A set of protocols.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Protocols(u8);

impl Protocols {
    /// None.
    pub const NONE: Self = Self(0);
    /// Only discv4.
    pub const V4: Self = Self(1);
    /// Only discv5.
    pub const V5: Self = Self(2);
    /// Both.
    pub const ALL: Self = Self(3);

    const fn of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::V4 => Self::V4,
            Protocol::V5 => Self::V5,
        }
    }

    /// Whether `protocol` is in the set.
    #[must_use]
    pub const fn contains(self, protocol: Protocol) -> bool {
        self.0 & Self::of(protocol).0 != 0
    }

    /// Whether no protocol is.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set and `protocol`.
    #[must_use]
    pub const fn with(self, protocol: Protocol) -> Self {
        Self(self.0 | Self::of(protocol).0)
    }

    /// The set but for `protocol`.
    #[must_use]
    pub const fn without(self, protocol: Protocol) -> Self {
        Self(self.0 & !Self::of(protocol).0)
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub const fn but(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The newer protocol of the set.
    #[must_use]
    pub const fn preferred(self) -> Option<Protocol> {
        if self.contains(Protocol::V5) {
            Some(Protocol::V5)
        } else if self.contains(Protocol::V4) {
            Some(Protocol::V4)
        } else {
            None
        }
    }
}

impl From<Protocol> for Protocols {
    fn from(protocol: Protocol) -> Self {
        Self::of(protocol)
    }
}

impl std::fmt::Debug for Protocols {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = [Protocol::V4, Protocol::V5];
        f.debug_set()
            .entries(all.iter().filter(|protocol| self.contains(**protocol)))
            .finish()
    }
}

/// Names a lookup of the core.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct LookupId(pub(crate) u64);

/// On whose behalf an engine asks; it only hands this back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Asker {
    /// A lookup wants to know closer nodes.
    Lookup(LookupId),
    /// A lookup that is about to end asks over the other protocol.
    Second(LookupId),
    /// A caller.
    Op(OpId),
    /// The table wants to know whether the node lives.
    Check,
    /// The table wants the node's newer record.
    Newer,
    /// A caller who wants to know where the node is now.
    Resolve(OpId),
}

/// What an engine is to ask a node.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Question {
    /// [`Report::Pong`].
    Ping,
    /// Nodes close to a target: [`Report::Nodes`], one or more.
    Find(Target),
    /// Nodes at these distances; discv5 only. [`Report::Nodes`], one or more.
    Distances(Distances),
    /// The node's own record: [`Report::Record`].
    Record,
    /// A message of another protocol; discv5 only. [`Report::Talk`].
    Talk {
        /// The protocol's name.
        protocol: Bytes,
        /// Its message.
        payload: Bytes,
    },
}

/// What a pong says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PongInfo {
    /// From the ping to its pong.
    pub rtt: Duration,
    /// Sequence number of the node's record, if it says one.
    pub enr_seq: Option<u64>,
    /// This node's address as the other one sees it, if it says one. Its word alone.
    pub seen_as: Option<SocketAddr>,
}

/// What an engine has to tell.
///
/// Every question that was accepted ends with exactly one of [`Pong`](Self::Pong), [`Record`](Self::Record),
/// [`Talk`](Self::Talk), [`Failed`](Self::Failed) and, of [`Nodes`](Self::Nodes), the one that is `last`. Only an
/// [`Asker::Check`] may share another's ping: it ends with [`Alive`](Self::Alive) or [`Silent`](Self::Silent).
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Report {
    /// A node answered a ping at the endpoint it has: once for each pong, whoever asked. Comes before what the askers are told.
    Alive(Node),
    /// A node did not answer a ping at the endpoint it has: once for each ping, whoever asked.
    Silent(Node),
    /// The node answered a ping at the endpoint `node` has.
    Pong {
        asker: Asker,
        node: Node,
        info: PongInfo,
    },
    /// The node named nodes: those it may name (`check_relay`, ports, `netrestrict`, distances), none twice. More may come
    /// after the last, if the network let one packet overtake another.
    Nodes {
        asker: Asker,
        from: NodeId,
        nodes: Vec<Node>,
        last: bool,
    },
    /// The answer that has just ended looks as if its larger part had been overtaken: what it is for should not end before
    /// `until`.
    Linger { asker: Asker, until: MonoTime },
    /// The node's record, signed by it, and the node with the endpoint that may be believed.
    Record {
        asker: Asker,
        node: Node,
        record: NodeRecord,
    },
    /// The other protocol's answer.
    Talk { asker: Asker, payload: Bytes },
    /// No answer, or none that counts. The node is as it was given.
    Failed {
        asker: Asker,
        node: Node,
        error: RequestError,
    },
    /// The node came by itself. `Proof::Contact`: from an address it has proven; a discv5 session is such a proof.
    Heard { node: Node, proof: Proof },
    /// The node says that it has a record with this number; `node` has an older one, or none.
    Newer { node: Node, seq: u64 },
    /// A node whose endpoint is proven says that it sees this node at `seen_as`.
    Vote { voter: IpAddr, seen_as: SocketAddr },
    /// Somebody who came to this node's socket by himself has completed a round trip: whoever he heard of this node from, the
    /// address works, if nothing was sent to him before.
    Unsolicited { from: SocketAddr },
    /// A message of another protocol, to be answered by `CoreInput::TalkResponse`.
    TalkRequest(TalkMessage),
    /// What the database should remember.
    Write(Write),
}
