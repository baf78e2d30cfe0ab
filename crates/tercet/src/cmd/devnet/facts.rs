//! What is known about the nodes of a devnet, and what they still lack. Pure: the observers fill it in, the screen and the
//! report read it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use tercet_enode::NodeId;

/// One node, as its observer last saw it. Times count from the devnet's start.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct NodeFacts {
    /// Entries in its discovery table.
    pub(super) table: usize,
    /// Connected peers that dialed it.
    pub(super) peers_in: usize,
    /// Connected peers it dialed.
    pub(super) peers_out: usize,
    /// Peers with which a Status is agreed.
    pub(super) agreed: Vec<NodeId>,
    /// When the first peer was connected.
    pub(super) first_peer: Option<Duration>,
    /// When the last peer so far was connected.
    pub(super) last_peer: Option<Duration>,
    /// Injected transactions it holds.
    pub(super) txs: usize,
    /// When it held the last of them.
    pub(super) last_tx: Option<Duration>,
    /// Transactions it received although it held them.
    pub(super) duplicates: u64,
}

/// What a devnet is to reach.
#[derive(Debug, Clone)]
pub(super) struct Goal {
    /// The nodes, the one all others know first.
    pub(super) nodes: Vec<NodeId>,
    /// Transactions injected.
    pub(super) txs: usize,
}

/// What one node lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    /// An entry in the discovery table.
    Table,
    /// A peer that discovery found: any other than the node it was told about.
    Peers { connected: usize },
    /// A Status with any peer.
    Status { connected: usize },
    /// A way to the first node over agreed connections.
    Path,
    /// Transactions.
    Transactions { seen: usize, of: usize },
}

impl Goal {
    /// The first thing each node lacks before transactions can be injected.
    pub(super) fn lacks_peers(&self, facts: &[NodeFacts]) -> Lacks {
        let reached = self.reached(facts);
        let lack = |(index, facts): (usize, &NodeFacts)| {
            let connected = facts.peers_in + facts.peers_out;
            let lack = if facts.table == 0 {
                Some(Lack::Table)
            } else if connected == 0 {
                Some(Lack::Peers { connected })
            } else if facts.agreed.is_empty() {
                Some(Lack::Status { connected })
            } else if !self.discovered(index, facts) {
                Some(Lack::Peers { connected })
            } else {
                self.nodes
                    .get(index)
                    .is_none_or(|id| !reached.contains(id))
                    .then_some(Lack::Path)
            };
            lack.map(|lack| (index, lack))
        };
        Lacks(facts.iter().enumerate().filter_map(lack).collect())
    }

    /// The nodes without all transactions.
    pub(super) fn lacks_txs(&self, facts: &[NodeFacts]) -> Lacks {
        let lack = |(index, facts): (usize, &NodeFacts)| {
            (facts.txs < self.txs).then_some((
                index,
                Lack::Transactions {
                    seen: facts.txs,
                    of: self.txs,
                },
            ))
        };
        Lacks(facts.iter().enumerate().filter_map(lack).collect())
    }

    /// Whether the node has a peer it can only have met by discovery. The first node was told about nobody, so every
    /// peer counts; with two nodes there is nobody else to meet.
    fn discovered(&self, index: usize, facts: &NodeFacts) -> bool {
        let told = if index == 0 || self.nodes.len() == 2 {
            None
        } else {
            self.nodes.first()
        };
        facts.agreed.iter().any(|peer| Some(peer) != told)
    }

    /// The nodes that a transaction of the first one can reach.
    fn reached(&self, facts: &[NodeFacts]) -> HashSet<NodeId> {
        let peers: HashMap<NodeId, &[NodeId]> = self
            .nodes
            .iter()
            .copied()
            .zip(facts.iter().map(|facts| facts.agreed.as_slice()))
            .collect();
        let mut reached: HashSet<NodeId> = self.nodes.first().copied().into_iter().collect();
        let mut next: Vec<NodeId> = reached.iter().copied().collect();
        while let Some(id) = next.pop() {
            for peer in peers.get(&id).into_iter().copied().flatten() {
                if reached.insert(*peer) {
                    next.push(*peer);
                }
            }
        }
        reached
    }
}

/// Which node lacks what; nodes are numbered from 0 as in the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lacks(Vec<(usize, Lack)>);

impl Lacks {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Lacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More would not fit a line.
        const SHOWN: usize = 5;
        for (position, (index, lack)) in self.0.iter().take(SHOWN).enumerate() {
            if position > 0 {
                f.write_str("; ")?;
            }
            write!(f, "node {index} {lack}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more nodes"),
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table => f.write_str("has an empty discovery table"),
            Self::Peers { connected: 0 } => f.write_str("has no peers"),
            Self::Peers { connected } => {
                write!(f, "has {connected} peers, none of them found by discovery")
            }
            Self::Status { connected } => {
                write!(f, "has {connected} peers, but no Status is agreed")
            }
            Self::Path => f.write_str("has no path of agreed connections to node 0"),
            Self::Transactions { seen, of } => write!(f, "has {seen} of {of} transactions"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId::new([n; 32])
    }

    fn node(peers: &[u8]) -> NodeFacts {
        NodeFacts {
            table: 1,
            peers_out: peers.len(),
            agreed: peers.iter().copied().map(id).collect(),
            ..NodeFacts::default()
        }
    }

    fn goal(nodes: u8) -> Goal {
        Goal {
            nodes: (0..nodes).map(id).collect(),
            txs: 3,
        }
    }

    #[test]
    fn a_mesh_lacks_nothing_and_a_star_lacks_discovery() {
        assert!(
            goal(3)
                .lacks_peers(&[node(&[1, 2]), node(&[0, 2]), node(&[0, 1])])
                .is_empty()
        );
        assert!(goal(2).lacks_peers(&[node(&[1]), node(&[0])]).is_empty());
        let star = goal(3).lacks_peers(&[node(&[1, 2]), node(&[0]), node(&[0])]);
        assert_eq!(
            star.0,
            [
                (1, Lack::Peers { connected: 1 }),
                (2, Lack::Peers { connected: 1 })
            ]
        );
    }

    #[test]
    fn two_halves_have_no_path() {
        let halves = [node(&[1]), node(&[0, 1]), node(&[3]), node(&[2])];
        let lacks = goal(4).lacks_peers(&halves);
        assert_eq!(lacks.0, [(2, Lack::Path), (3, Lack::Path)]);
    }

    #[test]
    fn each_lack_is_said_in_words() {
        let connected = NodeFacts {
            table: 1,
            peers_in: 2,
            ..NodeFacts::default()
        };
        let facts = [
            NodeFacts::default(),
            NodeFacts {
                table: 1,
                ..NodeFacts::default()
            },
            connected,
        ];
        let text = goal(3).lacks_peers(&facts).to_string();
        assert_eq!(
            text,
            "node 0 has an empty discovery table; node 1 has no peers; node 2 has 2 peers, but no Status is agreed"
        );
        let text = goal(7)
            .lacks_txs(&vec![NodeFacts::default(); 7])
            .to_string();
        assert!(
            text.starts_with("node 0 has 0 of 3 transactions; ")
                && text.ends_with("; and 2 more nodes"),
            "{text}"
        );
        assert!(
            goal(1)
                .lacks_txs(&[NodeFacts {
                    txs: 3,
                    ..NodeFacts::default()
                }])
                .is_empty()
        );
    }
}
