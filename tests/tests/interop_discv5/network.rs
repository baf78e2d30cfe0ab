//! One network of all clients and both protocols around one node that all others begin with: every node finds every other that
//! speaks a protocol of its own. Then ours have it in their tables, and it has ours. Whom of each other two others keep is theirs to
//! decide: go-ethereum drops a node of JavaScript's that is late with one answer, and nobody would bring it back.
//!
//! Nothing is left to timers: the one in the middle tells only of whom it has checked, so that is waited for, and then each
//! node looks up each other one, once.

use tercet_discovery::{Discovery, Protocol, Protocols};
use tercet_enode::{Node, NodeId, NodeRecord, SecretKey};
use tercet_tests::peer::{Client, Peer};
use tercet_tests::{Loopback, discovery_over, has, key, until_entry};

/// What a member is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Ours.
    Tercet,
    /// Ours with one protocol.
    TercetOver(Protocol),
    /// Another implementation.
    Other(Client),
}

const MEMBERS: [Kind; 8] = [
    Kind::Tercet,
    Kind::TercetOver(Protocol::V5),
    Kind::TercetOver(Protocol::V4),
    Kind::Other(Client::Go),
    Kind::Other(Client::GoBoth),
    Kind::Other(Client::GoV4),
    Kind::Other(Client::Js),
    Kind::Other(Client::Rust),
];

enum Member {
    Ours(Discovery, Protocols),
    Theirs(Peer),
}

impl Member {
    async fn start(
        kind: Kind,
        on: Loopback,
        key: &SecretKey,
        first: Option<&NodeRecord>,
    ) -> Option<Self> {
        let listen = on.any_port();
        let protocols = match kind {
            Kind::Other(client) => {
                return Peer::start(
                    client,
                    &listen,
                    key,
                    first.map_or(&[], std::slice::from_ref),
                )
                .map(Self::Theirs);
            }
            Kind::Tercet => Protocols::ALL,
            Kind::TercetOver(protocol) => Protocols::from(protocol),
        };
        let first = first.cloned().and_then(Node::from_record);
        let bootnodes = first.into_iter().collect();
        let ours = discovery_over(protocols, &listen, key, bootnodes).await;
        Some(Self::Ours(ours, protocols))
    }

    const fn is_ours(&self) -> bool {
        matches!(self, Self::Ours(..))
    }

    /// Whether it can go where the record says. go-ethereum's own has no `udp6`, which two others would need.
    fn reaches(&self, record: &NodeRecord) -> bool {
        match self {
            Self::Theirs(peer) if matches!(peer.client(), Client::Js | Client::Rust) => {
                record.ip6().is_none() || record.udp6().is_some()
            }
            _ => true,
        }
    }

    fn record(&self) -> NodeRecord {
        match self {
            Self::Ours(ours, _) => ours.local_record(),
            Self::Theirs(peer) => peer.record().clone(),
        }
    }

    fn speaks(&self, protocol: Protocol) -> bool {
        match self {
            Self::Ours(_, protocols) => protocols.contains(protocol),
            Self::Theirs(peer) => peer.speaks(protocol),
        }
    }

    /// Makes itself known to the first node. Not all clients do so by themselves.
    async fn greet(&mut self, first: &NodeRecord) {
        match self {
            Self::Ours(ours, _) => {
                let node = Node::from_record(first.clone()).unwrap();
                ours.ping(node).await.unwrap();
            }
            Self::Theirs(peer) if peer.speaks(Protocol::V5) => {
                peer.ping(first).unwrap();
            }
            // Its first refresh asks its bootnodes.
            Self::Theirs(_) => {}
        }
    }

    async fn await_live(&mut self, node: &NodeRecord, over: Protocol) {
        match self {
            Self::Ours(ours, _) => {
                until_entry(ours, node.id(), |entry| entry.protocols.contains(over)).await;
            }
            Self::Theirs(peer) => peer.await_live(node, over),
        }
    }

    async fn lookup(&mut self, node: &NodeRecord, over: Protocol) -> Vec<NodeId> {
        match self {
            Self::Ours(ours, _) => {
                let found = ours.lookup(node.public_key()).await.unwrap();
                found.iter().map(Node::id).collect()
            }
            Self::Theirs(peer) => peer.lookup(node, over),
        }
    }
}

/// The protocols over which the first can ask the other.
fn common(one: &Member, other: &Member) -> Vec<Protocol> {
    let both = |protocol: &Protocol| one.speaks(*protocol) && other.speaks(*protocol);
    let protocols = [Protocol::V5, Protocol::V4].into_iter();
    let reached = one.reaches(&other.record());
    protocols.filter(|_| reached).filter(both).collect()
}

/// All members, the first of them of the kind `first`; without those that it has no protocol in common with.
async fn network(first: Kind, on: Loopback) -> Option<Vec<Member>> {
    let kinds = MEMBERS.into_iter().filter(|&kind| kind != first);
    if !has(&on.any_port()) {
        return None;
    }
    let middle = Member::start(first, on, &key(80), None).await?;
    let begin = middle.record();
    let mut members = vec![middle];
    for (kind, seed) in kinds.zip(81..) {
        let mut member = Member::start(kind, on, &key(seed), Some(&begin)).await?;
        let common = common(&members[0], &member);
        if common.is_empty() {
            continue;
        }
        member.greet(&begin).await;
        let record = member.record();
        // Over each protocol it tells only of those that have answered it over that one.
        for over in common {
            members[0].await_live(&record, over).await;
        }
        members.push(member);
    }
    Some(members)
}

pub(crate) async fn every_node_finds_every_other(first: Kind, on: Loopback) {
    let Some(mut members) = network(first, on).await else {
        return;
    };
    let mut pairs: Vec<_> = (0..members.len())
        .flat_map(|one| (0..members.len()).map(move |other| (one, other)))
        .filter(|(one, other)| one != other)
        .filter_map(|(one, other)| {
            let common = common(&members[one], &members[other]);
            common.first().map(|&over| (one, other, over))
        })
        .collect();
    // Who speaks only discv4 goes first. Ours asks over discv5 whoever speaks it, where nobody names such a node: it is the
    // one to make itself known.
    pairs.sort_by_key(|&(one, ..)| members[one].speaks(Protocol::V5));
    for &(one, other, over) in &pairs {
        let wanted = members[other].record();
        if over == Protocol::V4 && members[one].speaks(Protocol::V5) {
            members[one].await_live(&wanted, over).await;
        }
        let found = members[one].lookup(&wanted, over).await;
        assert!(
            found.contains(&wanted.id()),
            "{one} looks for {other}: {found:?}"
        );
    }
    for &(one, other, over) in &pairs {
        if members[one].is_ours() || members[other].is_ours() {
            let wanted = members[other].record();
            members[one].await_live(&wanted, over).await;
        }
    }
    for member in &members {
        if let Member::Ours(ours, _) = member {
            ours.shutdown().await;
        }
    }
}
