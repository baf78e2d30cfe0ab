//! A table as it is shown: its drawing, and what has changed since it was shown last.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use serde::Serialize;
use tercet_discovery::{BUCKET_SIZE, BUCKETS, Protocol, Protocols, TableSnapshot};
use tercet_enode::NodeId;

use crate::cmd::discover::name;
use crate::events::short;

/// The log distance of the farthest bucket: bits of an id.
const FARTHEST: usize = 256;

/// A table at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    places: BTreeMap<NodeId, Place>,
    waiting: BTreeMap<usize, usize>,
}

/// A node's place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// From 0, the nearest.
    bucket: usize,
    /// In the bucket, the one last heard of first.
    rank: usize,
    address: SocketAddr,
    protocols: Protocols,
}

/// What happened to a node in the table, and what the table is with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    #[serde(rename = "event")]
    kind: Kind,
    id: String,
    address: SocketAddr,
    /// The log distance of the bucket; the nearest bucket holds everything up to it.
    bucket: usize,
    /// The protocols over which it answers.
    protocols: Vec<&'static str>,
    nodes: usize,
    answering: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Removed,
    Added,
    Moved,
    Answering,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Added => "added",
            Self::Moved => "moved",
            Self::Answering => "answering",
        }
    }
}

impl View {
    pub(super) fn of(table: &TableSnapshot) -> Self {
        let mut view = Self::default();
        for (bucket, snapshot) in table.buckets.iter().enumerate() {
            view.waiting.insert(bucket, snapshot.replacements.len());
            for (rank, entry) in snapshot.entries.iter().enumerate() {
                let place = Place {
                    bucket,
                    rank,
                    address: entry.node.endpoint().udp_addr(),
                    protocols: entry.protocols,
                };
                view.places.insert(entry.node.id(), place);
            }
        }
        view
    }

    fn answering(&self) -> usize {
        let answering = |place: &&Place| !place.protocols.is_empty();
        self.places.values().filter(answering).count()
    }

    /// How many answer over this protocol.
    fn over(&self, protocol: Protocol) -> usize {
        let over = |place: &&Place| place.protocols.contains(protocol);
        self.places.values().filter(over).count()
    }

    /// What has changed, those that have gone first.
    pub(super) fn since(&self, before: &Self) -> Vec<Change> {
        let gone = before.places.iter();
        let gone = gone.filter(|(id, _)| !self.places.contains_key(*id));
        let gone = gone.map(|(id, place)| (Kind::Removed, id, place));
        let here = self.places.iter().filter_map(|(id, place)| {
            let kind = match before.places.get(id) {
                None => Kind::Added,
                Some(old) if old.address != place.address => Kind::Moved,
                Some(old) if old.protocols != place.protocols => Kind::Answering,
                Some(_) => return None,
            };
            Some((kind, id, place))
        });
        let (nodes, answering) = (self.places.len(), self.answering());
        let change = |(kind, id, place): (Kind, &NodeId, &Place)| Change {
            kind,
            id: id.to_string(),
            address: place.address,
            bucket: distance(place.bucket),
            protocols: names(place.protocols),
            nodes,
            answering,
        };
        gone.chain(here).map(change).collect()
    }

    /// The buckets that hold somebody, one a line, a sign for each node.
    pub(super) fn drawing(&self) -> String {
        let mut buckets: BTreeMap<usize, BTreeMap<usize, char>> = BTreeMap::new();
        for place in self.places.values() {
            let bucket = buckets.entry(place.bucket).or_default();
            bucket.insert(place.rank, sign(place.protocols));
        }
        let mut text = String::new();
        for bucket in 0..BUCKETS {
            let signs = buckets.get(&bucket).into_iter();
            let signs: String = signs.flat_map(BTreeMap::values).collect();
            let waiting = self.waiting.get(&bucket).copied().unwrap_or_default();
            if signs.is_empty() && waiting == 0 {
                continue;
            }
            let nearest = if bucket == 0 { "≤" } else { " " };
            let more = match waiting {
                0 => String::new(),
                waiting => format!("  {waiting} waiting"),
            };
            // Writing to a string does not fail.
            let _infallible = writeln!(
                text,
                "{nearest}{} {signs:·<width$}{more}",
                distance(bucket),
                width = BUCKET_SIZE
            );
        }
        let (nodes, answering) = (self.places.len(), self.answering());
        let (v4, v5) = (self.over(Protocol::V4), self.over(Protocol::V5));
        let both = (v4 + v5).saturating_sub(answering);
        let _infallible = write!(
            text,
            "{nodes} nodes, {answering} answer: {v4} over discv4 (4), {v5} over discv5 (5), {both} over both (#)"
        );
        text
    }
}

/// The log distance of the nodes in a bucket; of the farthest in the nearest.
const fn distance(bucket: usize) -> usize {
    FARTHEST + 1 + bucket - BUCKETS
}

fn sign(protocols: Protocols) -> char {
    let over = |protocol| protocols.contains(protocol);
    match (over(Protocol::V4), over(Protocol::V5)) {
        (true, true) => '#',
        (true, false) => '4',
        (false, true) => '5',
        (false, false) => '?',
    }
}

fn names(protocols: Protocols) -> Vec<&'static str> {
    let all = [Protocol::V4, Protocol::V5].into_iter();
    all.filter(|one| protocols.contains(*one))
        .map(name)
        .collect()
}

impl Change {
    pub(super) fn text(&self) -> String {
        let kind = self.kind.name();
        let (id, address, bucket) = (short(&self.id), self.address, self.bucket);
        let over = match self.protocols.as_slice() {
            [] => "nothing yet".to_owned(),
            some => some.join(" "),
        };
        let (nodes, answering) = (self.nodes, self.answering);
        format!(
            "{kind}: {id} at {address}, bucket {bucket}, answers over {over}; nodes {nodes}, answering {answering}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(places: &[(u8, usize, usize, Protocols)]) -> View {
        let mut view = View::default();
        for (id, bucket, rank, protocols) in places {
            let place = Place {
                bucket: *bucket,
                rank: *rank,
                address: SocketAddr::from(([10, 0, 0, *id], 30303)),
                protocols: *protocols,
            };
            view.places.insert(NodeId::new([*id; 32]), place);
        }
        view
    }

    #[test]
    fn each_change_is_told_once_and_nothing_else() {
        let before = view(&[
            (1, 16, 0, Protocols::NONE),
            (2, 16, 1, Protocols::V4),
            (3, 0, 0, Protocols::V4),
        ]);
        let mut now = view(&[
            (2, 16, 0, Protocols::ALL),
            (3, 0, 0, Protocols::V4),
            (4, 15, 0, Protocols::V5),
        ]);
        let told: Vec<String> = now.since(&before).iter().map(Change::text).collect();
        assert_eq!(
            told,
            [
                "removed: 01010101 at 10.0.0.1:30303, bucket 256, answers over nothing yet; nodes 3, answering 3",
                "answering: 02020202 at 10.0.0.2:30303, bucket 256, answers over v4 v5; nodes 3, answering 3",
                "added: 04040404 at 10.0.0.4:30303, bucket 255, answers over v5; nodes 3, answering 3",
            ]
        );
        // Nodes that change places in their bucket are no news.
        let same = now.clone();
        now.places.get_mut(&NodeId::new([2; 32])).unwrap().rank = 3;
        assert!(now.since(&same).is_empty());
        let moved = now.places.get_mut(&NodeId::new([3; 32])).unwrap();
        moved.address.set_port(1);
        let json = serde_json::to_value(now.since(&same)).unwrap();
        assert_eq!(
            json,
            serde_json::json!([{"event": "moved", "id": "03".repeat(32), "address": "10.0.0.3:1", "bucket": 240,
                "protocols": ["v4"], "nodes": 3, "answering": 3}])
        );
    }

    #[test]
    fn buckets_that_hold_somebody_are_drawn() {
        let mut view = view(&[
            (1, 16, 1, Protocols::NONE),
            (2, 16, 0, Protocols::ALL),
            (3, 0, 0, Protocols::V4),
            (4, 7, 0, Protocols::V5),
        ]);
        view.waiting.insert(16, 3);
        assert_eq!(
            view.drawing(),
            "≤240 4···············\n 247 5···············\n 256 #?··············  3 waiting\n\
             4 nodes, 3 answer: 2 over discv4 (4), 2 over discv5 (5), 1 over both (#)"
        );
    }
}
