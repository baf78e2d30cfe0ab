//! What the core and its two protocol engines say to each other. The core has the table, the lookups and the callers; an
//! engine knows how its protocol asks one node one question. Engines are driven by function calls and report back through a
//! queue the core drains after every call.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use tercet_enode::{Node, NodeId, NodeRecord};
use tercet_nodedb::Write;

use crate::kad::Proof;
pub(crate) use crate::v4::{OpId, RequestError, Target};
use crate::v5::{Distances, RequestId};

/// A protocol of the node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Protocol {
    /// discv4
    V4,
    /// discv5.1
    V5,
}

/// Names a lookup of the core.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct LookupId(pub(crate) u64);

/// On whose behalf an engine asks; it only hands this back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Asker {
    /// A lookup wants to know closer nodes.
    Lookup(LookupId),
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

/// What an engine has to tell. Every question that was accepted ends with exactly one of those that name an [`Asker`] (with
/// [`Report::Nodes`], the one that is `last`).
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Report {
    /// The node answered a ping at the endpoint `node` has.
    Pong {
        asker: Asker,
        node: Node,
        info: PongInfo,
    },
    /// The node named nodes: those it may name (`check_relay`, ports, `netrestrict`, distances), none twice.
    Nodes {
        asker: Asker,
        from: NodeId,
        nodes: Vec<Node>,
        last: bool,
    },
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
    /// Somebody to whom nothing was sent before has come to this node's socket and completed a round trip: whoever it heard
    /// of this node from, the address works.
    Unsolicited { from: SocketAddr },
    /// A message of another protocol, to be answered by `DiscoveryInput::TalkResponse`.
    TalkRequest {
        from: SocketAddr,
        id: NodeId,
        request: RequestId,
        protocol: Bytes,
        payload: Bytes,
    },
    /// What the database should remember.
    Write(Write),
}
