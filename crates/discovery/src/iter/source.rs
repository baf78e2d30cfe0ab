//! A stream of nodes with a name and the trust it has. Which source is asked when, `mix` decides.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use futures::stream::{self, BoxStream, StreamExt};
use tercet_enode::{AddressClass, Node};

/// Nodes as they come.
pub type NodeStream = BoxStream<'static, Node>;

/// Whose word the nodes of a source are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trust {
    /// Somebody out in the Internet: a DNS list, an RPC of strangers. It may name only addresses of the Internet: one who
    /// could name loopback and LAN addresses would make this node connect to whatever listens behind its firewall.
    Remote,
    /// The user, or discovery, which has checked each node by who named it. It may name anybody.
    Own,
}

impl Trust {
    /// Whether such a source may name this node. Both addresses of a node's record count: either may be dialed.
    #[must_use]
    pub fn admits(self, node: &Node) -> bool {
        let global = |ip: IpAddr| AddressClass::of(ip) == AddressClass::Global;
        match self {
            Self::Own => true,
            Self::Remote => {
                let record = node.record();
                let v4 = record.and_then(|record| record.ip4()).map(IpAddr::V4);
                let v6 = record.and_then(|record| record.ip6()).map(IpAddr::V6);
                global(node.endpoint().ip) && v4.into_iter().chain(v6).all(global)
            }
        }
    }
}

/// A node and the name of the source it came from.
#[derive(Clone, Debug)]
pub struct Sourced {
    /// The source's name.
    pub source: Arc<str>,
    /// The node.
    pub node: Node,
}

/// A source of nodes: hands out what its stream yields and its [`Trust`] admits, and ends with the stream.
pub struct Source {
    label: Arc<str>,
    trust: Trust,
    nodes: NodeStream,
    refused: u64,
}

/// Nodes refused in one poll, after which others get their turn.
const REFUSED_AT_ONCE: usize = 64;

impl Source {
    /// A source with a name, which need not be unique, for logs and for taking it out again.
    pub fn new(
        label: impl Into<Arc<str>>,
        trust: Trust,
        nodes: impl Stream<Item = Node> + Send + 'static,
    ) -> Self {
        Self {
            label: label.into(),
            trust,
            nodes: nodes.boxed(),
            refused: 0,
        }
    }

    /// A fixed list.
    pub fn list(label: impl Into<Arc<str>>, trust: Trust, nodes: Vec<Node>) -> Self {
        Self::new(label, trust, stream::iter(nodes))
    }

    /// Its name.
    #[must_use]
    pub const fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// How many nodes it named that it may not name.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }
}

impl Stream for Source {
    type Item = Node;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Node>> {
        let this = self.get_mut();
        for _ in 0..REFUSED_AT_ONCE {
            match this.nodes.poll_next_unpin(cx) {
                Poll::Ready(Some(node)) if !this.trust.admits(&node) => this.refused += 1,
                other => return other,
            }
        }
        // A list of nothing else must not hold up its task.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("label", &self.label)
            .field("trust", &self.trust)
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}
