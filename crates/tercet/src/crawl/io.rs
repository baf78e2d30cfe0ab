//! What goes into a crawl and comes out of it, as types.

use std::time::Duration;

use tercet_discovery::v5::Distances;
use tercet_discovery::{Protocol, Target};
use tercet_enode::{Endpoint, Node, NodeId, NodeRecord};

use crate::nodeset::KnownNode;

/// What happened.
#[derive(Debug, Clone)]
pub(crate) enum CrawlInput {
    /// A node to begin with, from an earlier crawl or the user.
    Known(KnownNode),
    /// A node came by itself, and is where its record says.
    Came(Node),
    /// A node answered.
    Answered {
        /// Which question.
        serial: u64,
        /// Its own record, if it gave it.
        record: Option<NodeRecord>,
        /// The other nodes it named.
        named: Vec<Node>,
        extent: Extent,
        /// One round trip.
        rtt: Duration,
    },
    /// A node did not answer.
    Silent {
        /// Which question.
        serial: u64,
    },
}

/// Nodes in a full answer of either protocol; over discv5 its own record is one of them.
pub(super) const FULL: usize = tercet_discovery::BUCKET_SIZE;

/// How much of what a node knows of what it was asked for an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it.
    All,
    /// As much as an answer holds: there may be more, farther from what was asked for.
    Full,
    /// Some of the answer is missing, or may be. From whom it does not name nothing follows.
    Part,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum CrawlOutput {
    /// Put this question, and say what came of it.
    Ask(Question),
    /// A node was visited.
    Met(Meeting),
    /// Everybody was asked and everything searched.
    Done,
}

/// One question to one node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Question {
    /// What the answer is given under.
    pub(crate) serial: u64,
    /// Whom, and where.
    pub(crate) node: Node,
    pub(crate) ask: Ask,
    /// How long to wait for each answer.
    pub(crate) patience: Duration,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ask {
    /// Over discv4: whom it knows near a target, and its own record if wanted.
    V4 {
        /// With its 64 bytes.
        target: Target,
        record: bool,
    },
    /// Over discv5: whom it knows at these distances; 0 is its own record.
    V5(Distances),
}

/// What a visit came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meeting {
    pub(crate) id: NodeId,
    pub(crate) protocol: Protocol,
    /// Where it answered, or was asked last.
    pub(crate) at: Option<Endpoint>,
    /// One round trip; `None` if it did not answer.
    pub(crate) rtt: Option<Duration>,
}

/// How far a crawl has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    /// Nodes heard of.
    pub(crate) seen: usize,
    /// Of those, how many answered a visit of this crawl.
    pub(crate) answered: usize,
    /// How many answered over discv4.
    pub(crate) answered_v4: usize,
    /// How many answered over discv5.
    pub(crate) answered_v5: usize,
    /// How many did not answer at all.
    pub(crate) silent: usize,
    /// How many were visited too recently.
    pub(crate) recent: usize,
    /// Searches done.
    pub(crate) searches: usize,
    /// Nodes left out because there was no room.
    pub(crate) left_out: usize,
    /// Visits to come.
    pub(crate) waiting: usize,
    /// Questions under way.
    pub(crate) asking: usize,
    /// How many may be.
    pub(crate) window: usize,
}

impl Progress {
    pub(super) fn count(&mut self, protocol: Protocol) {
        match protocol {
            Protocol::V4 => self.answered_v4 += 1,
            Protocol::V5 => self.answered_v5 += 1,
        }
    }
}
