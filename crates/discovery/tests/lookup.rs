//! Lookups among liars: what one network, one answer and one captured way may take of a result.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a test fails by panicking

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::LazyLock;

use proptest::prelude::*;
use tercet_discovery::{
    ALPHA, BUCKET_LIMITS, BUCKET_SIZE, Lookup, MAX_CANDIDATES, MAX_NAMED, MAX_PATHS, MAX_PLACES,
    MAX_QUERIES,
};
use tercet_enode::{Endpoint, Node, NodeId, PublicKey, SecretKey};
use tercet_machine::MachineRng;

/// Keys to choose from: making them is what takes time.
static KEYS: LazyLock<Vec<PublicKey>> = LazyLock::new(|| {
    let mut rng = MachineRng::from_seed([9; 32]);
    (0..1000)
        .map(|_| SecretKey::generate(&mut rng).public_key())
        .collect()
});

fn at(key: PublicKey, ip: impl Into<IpAddr>) -> Node {
    Node::new(key, Endpoint::new(ip.into(), 30303, 30303))
}

/// A node with a /24 of its own.
fn honest(n: usize) -> Node {
    at(KEYS[n], [20, (n >> 8) as u8, n as u8, 7])
}

const LOCAL: NodeId = NodeId::new([1; 32]);

/// All keys, closest to `target` first.
fn by_distance(target: &NodeId) -> Vec<usize> {
    let mut order: Vec<usize> = (0..KEYS.len()).collect();
    order.sort_by(|a, b| target.cmp_distance(&KEYS[*a].node_id(), &KEYS[*b].node_id()));
    order
}

/// A network of which part belongs to one attacker: honest nodes name the sixteen closest they know, among them attackers;
/// the attacker's name ever closer nodes of his own.
struct World {
    target: NodeId,
    honest: Vec<Node>,
    attackers: Vec<Node>,
    named: usize,
}

impl World {
    /// The `owned` keys closest to the target, but for the target itself, are the attacker's, at the addresses that `place` gives.
    fn new(target: usize, owned: usize, place: impl Fn(usize) -> IpAddr) -> Self {
        let id = KEYS[target].node_id();
        let mut order = by_distance(&id);
        order.remove(0);
        // The farthest first: each next one is closer.
        let attackers = order[..owned].iter().rev();
        let attackers = attackers
            .enumerate()
            .map(|(n, key)| at(KEYS[*key], place(n)));
        // In no order that has to do with the target.
        let mut others: Vec<usize> = order[owned..].to_vec();
        others.push(target);
        others.sort_unstable();
        Self {
            target: id,
            attackers: attackers.collect(),
            honest: others.into_iter().map(honest).collect(),
            named: 0,
        }
    }

    /// The honest nodes that know least of the target.
    fn farthest(&self, count: usize) -> Vec<Node> {
        let mut nodes = self.honest.clone();
        nodes.sort_by(|a, b| self.target.cmp_distance(&b.id(), &a.id()));
        nodes.truncate(count);
        nodes
    }

    fn answer(&mut self, asked: &Node) -> Vec<Node> {
        if self.attackers.iter().any(|node| node.id() == asked.id()) {
            // Two answers' worth at once, in the hope of filling everything.
            let from = self.named.min(self.attackers.len() - 1);
            self.named += 2 * BUCKET_SIZE;
            return self.attackers[from..]
                .iter()
                .take(2 * BUCKET_SIZE)
                .cloned()
                .collect();
        }
        // What a table of this node would hold: sixteen of each distance.
        let mut held = BTreeMap::<u16, usize>::new();
        let table = self.honest.iter().filter(|node| {
            let count = held.entry(asked.id().log_distance(&node.id())).or_default();
            *count += 1;
            *count <= BUCKET_SIZE
        });
        let mut named: Vec<&Node> = table.chain(self.attackers.iter().take(4)).collect();
        named.sort_by(|a, b| self.target.cmp_distance(&a.id(), &b.id()));
        named.into_iter().take(BUCKET_SIZE).cloned().collect()
    }

    fn run(&mut self, lookup: &mut Lookup) -> usize {
        let mut asked = 0;
        while !lookup.is_done() {
            let mut turn: Vec<Node> = std::iter::from_fn(|| lookup.next_query()).collect();
            assert!(!turn.is_empty(), "not done and nobody to ask");
            asked += turn.len();
            for node in turn.drain(..) {
                let named = self.answer(&node);
                lookup.learn_from(&node.id(), named);
                lookup.on_answer(&node.id());
            }
        }
        asked
    }
}

fn share(found: &[Node], of: &[Node]) -> usize {
    let ids: BTreeSet<NodeId> = of.iter().map(Node::id).collect();
    found.iter().filter(|node| ids.contains(&node.id())).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn ever_closer_nodes_of_one_network_do_not_keep_the_target_out(
        target in 0usize..1000,
        owned in 20usize..500,
        v6 in any::<bool>(),
        start in 1usize..12,
    ) {
        let place = |n: usize| -> IpAddr {
            match v6 {
                true => [0x2a02, 1, 2, n as u16 % 2, 0, 0, 0, n as u16].into(),
                false => [45, 1, 2, n as u8].into(),
            }
        };
        let mut world = World::new(target, owned, place);
        // One honest node the lookup knows, and eleven attackers.
        let known = world.farthest(1);
        let begin: Vec<Node> = world.attackers.iter().take(start).cloned().chain(known).collect();
        let mut lookup = Lookup::new(LOCAL, world.target, begin);
        let asked = world.run(&mut lookup);
        prop_assert!(asked <= MAX_QUERIES);
        let found: Vec<Node> = lookup.closest().cloned().collect();
        prop_assert_eq!(found.first().map(Node::id), Some(world.target));
        let limit = if v6 { BUCKET_LIMITS.v6_wide } else { BUCKET_LIMITS.v4 };
        prop_assert!(share(&found, &world.attackers) <= limit, "{found:?}");
    }

    #[test]
    fn disjoint_paths_ask_nobody_twice_and_keep_three_in_flight_each(
        start in proptest::collection::vec(0usize..1000, 0..40),
        ends in proptest::collection::vec((0usize..20, any::<usize>()), 1..60),
        target in any::<[u8; 32]>(),
        paths in 0usize..12,
    ) {
        let count = paths.clamp(1, MAX_PATHS);
        let mut lookup = Lookup::disjoint(LOCAL, NodeId::new(target), start.into_iter().map(honest), paths);
        let (mut asked, mut flying, mut turn) = (BTreeSet::new(), Vec::new(), 0);
        while !lookup.is_done() {
            while let Some(node) = lookup.next_query() {
                prop_assert!(asked.insert(node.id()), "asked twice");
                flying.push(node.id());
            }
            prop_assert!(lookup.in_flight() <= ALPHA * count);
            prop_assert!(!flying.is_empty(), "not done and nothing to wait for");
            let (named, salt) = ends[turn % ends.len()];
            turn += 1;
            let id = flying.remove(salt % flying.len());
            if named == 0 {
                lookup.on_failure(&id);
            } else {
                lookup.learn_from(&id, (0..named).map(|n| honest(salt.wrapping_add(n * turn) % 1000)));
                lookup.on_answer(&id);
            }
            prop_assert!(lookup.seen().count() <= MAX_CANDIDATES);
        }
        prop_assert!(asked.len() <= MAX_QUERIES * count);
        let found: Vec<NodeId> = lookup.closest().map(Node::id).collect();
        prop_assert!(found.len() <= BUCKET_SIZE);
        let target = NodeId::new(target);
        prop_assert!(found.windows(2).all(|pair| target.cmp_distance(&pair[0], &pair[1]).is_lt()));
    }
}

#[test]
fn a_path_that_met_the_attacker_does_not_take_the_others_with_it() {
    // A hundred networks, so the limits by network do not help: only the ways do. Attackers answer with attackers only.
    let mut world = World::new(777, 100, |n| [60, 1, n as u8, 1].into());
    let poisoned: Vec<Node> = world.attackers.clone();
    let run = |paths: usize, world: &mut World| {
        let honest_ones = world.farthest(2);
        let begin: Vec<Node> = world.attackers[..1]
            .iter()
            .cloned()
            .chain(honest_ones)
            .collect();
        let mut lookup = Lookup::disjoint(LOCAL, world.target, begin, paths);
        let mut asked_on = BTreeMap::<NodeId, usize>::new();
        while !lookup.is_done() {
            let turn: Vec<Node> = std::iter::from_fn(|| lookup.next_query()).collect();
            for node in turn {
                *asked_on.entry(node.id()).or_default() += 1;
                let named = world.answer(&node);
                lookup.learn_from(&node.id(), named);
                lookup.on_answer(&node.id());
            }
        }
        assert!(asked_on.values().all(|times| *times == 1));
        let found: Vec<Node> = lookup.closest().cloned().collect();
        (found.first().map(Node::id), share(&found, &poisoned))
    };
    let (nearest, captured) = run(1, &mut world);
    assert!(nearest != Some(world.target) && captured == BUCKET_SIZE);
    world.named = 0;
    let (nearest, _) = run(3, &mut world);
    assert_eq!(nearest, Some(world.target));
}

#[test]
fn one_answer_takes_a_quarter_of_the_places() {
    let target = KEYS[0].node_id();
    let order = by_distance(&target);
    let nodes: Vec<Node> = order.iter().map(|n| honest(*n)).collect();
    let mut lookup = Lookup::new(LOCAL, target, nodes[600..640].to_vec());
    let asked = lookup.next_query().unwrap();
    // In three parts, as the packets of one answer come.
    for part in nodes[100..160].chunks(20) {
        lookup.learn_from(&asked.id(), part.to_vec());
    }
    lookup.on_answer(&asked.id());
    lookup.learn_from(&asked.id(), nodes[90..100].to_vec());
    let seen: Vec<Node> = lookup.seen().cloned().collect();
    assert_eq!(seen.len(), 40 + MAX_NAMED);
    // Of those it named the closest stay, also those of the part that came late.
    let kept: Vec<NodeId> = nodes[90..90 + MAX_NAMED].iter().map(Node::id).collect();
    assert_eq!(
        seen[..MAX_NAMED].iter().map(Node::id).collect::<Vec<_>>(),
        kept
    );
}

#[test]
fn a_node_named_at_a_wrong_place_is_asked_at_the_right_one() {
    let target = KEYS[0].node_id();
    let wrong = |n: u8| at(KEYS[0], [99, 1, n, 1]);
    let mut lookup = Lookup::new(LOCAL, target, [honest(1), honest(2)]);
    let (liar, friend) = (lookup.next_query().unwrap(), lookup.next_query().unwrap());
    lookup.learn_from(&liar.id(), [wrong(0)]);
    lookup.on_answer(&liar.id());
    assert_eq!(lookup.next_query(), Some(wrong(0)));
    lookup.learn_from(&friend.id(), [honest(0)]);
    lookup.on_answer(&friend.id());
    lookup.on_failure(&target);
    assert_eq!(lookup.next_query(), Some(honest(0)));
    lookup.on_answer(&target);
    assert!(lookup.is_done());
    assert_eq!(lookup.closest().next(), Some(&honest(0)));

    // But not for ever.
    let mut lookup = Lookup::new(LOCAL, target, [honest(1)]);
    let liar = lookup.next_query().unwrap();
    let mut tried = 0;
    for n in 0..20 {
        lookup.learn_from(&liar.id(), [wrong(n)]);
        while let Some(node) = lookup.next_query() {
            tried += 1;
            lookup.on_failure(&node.id());
        }
    }
    assert_eq!(tried, MAX_PLACES);
}

#[test]
fn a_node_that_answered_is_where_it_answered_on_every_path() {
    let target = KEYS[0].node_id();
    let wrong = at(KEYS[0], [99, 1, 1, 1]);
    // One path each for the liar and the friend; whichever asks the target first, the other one has heard another place.
    for (first, second) in [(&wrong, &honest(0)), (&honest(0), &wrong)] {
        let mut lookup = Lookup::disjoint(LOCAL, target, [honest(1), honest(2)], 2);
        let (one, two) = (lookup.next_query().unwrap(), lookup.next_query().unwrap());
        lookup.learn_from(&one.id(), [first.clone()]);
        lookup.learn_from(&two.id(), [second.clone()]);
        for asked in [&one, &two] {
            lookup.on_answer(&asked.id());
        }
        let asked = lookup.next_query().unwrap();
        assert_eq!(&asked, first);
        assert_eq!(lookup.next_query(), None, "it may still answer");
        if asked == wrong {
            lookup.on_failure(&target);
            assert_eq!(lookup.next_query(), Some(honest(0)));
        }
        lookup.on_answer(&target);
        assert_eq!(lookup.next_query(), None);
        assert_eq!(lookup.closest().next(), Some(&honest(0)));

        // Nor does it move when it is named again, on either path.
        for liar in [&one, &two] {
            lookup.learn_from(&liar.id(), [wrong.clone()]);
        }
        assert!(lookup.is_done());
        assert_eq!(lookup.closest().next(), Some(&honest(0)));
    }

    // Named at the wrong place on the first path, after it has answered on the second.
    let mut lookup = Lookup::disjoint(LOCAL, target, [honest(1), honest(2)], 2);
    let (one, two) = (lookup.next_query().unwrap(), lookup.next_query().unwrap());
    lookup.learn_from(&two.id(), [honest(0)]);
    lookup.on_answer(&two.id());
    assert_eq!(lookup.next_query(), Some(honest(0)));
    lookup.on_answer(&target);
    lookup.learn_from(&one.id(), [wrong]);
    lookup.on_answer(&one.id());
    assert!(lookup.is_done());
    assert_eq!(lookup.closest().next(), Some(&honest(0)));
}

proptest! {
    #[test]
    fn a_node_is_asked_at_few_places_once_each_and_not_after_it_answered(
        start in proptest::collection::vec((0usize..12, 0u8..5), 0..12),
        ends in proptest::collection::vec((0usize..6, any::<usize>()), 1..60),
        paths in 1usize..4,
    ) {
        // Few nodes, each in many places.
        let somewhere = |n: usize, place: u8| at(KEYS[n % 12], [20, place % 5, n as u8 % 12, 1]);
        let start = start.into_iter().map(|(n, place)| somewhere(n, place));
        let mut lookup = Lookup::disjoint(LOCAL, KEYS[0].node_id(), start, paths);
        let mut asked: BTreeMap<NodeId, BTreeSet<IpAddr>> = BTreeMap::new();
        let mut answered: BTreeMap<NodeId, Node> = BTreeMap::new();
        let (mut flying, mut turn) = (Vec::<Node>::new(), 0);
        while !lookup.is_done() {
            while let Some(node) = lookup.next_query() {
                let places = asked.entry(node.id()).or_default();
                prop_assert!(places.insert(node.endpoint().ip), "asked twice at one place");
                prop_assert!(places.len() <= MAX_PLACES);
                prop_assert!(flying.iter().all(|other| other.id() != node.id()), "asked twice at a time");
                prop_assert!(!answered.contains_key(&node.id()), "asked after it answered");
                flying.push(node);
            }
            prop_assert!(!flying.is_empty(), "not done and nothing to wait for");
            let (named, salt) = ends[turn % ends.len()];
            turn += 1;
            let node = flying.remove(salt % flying.len());
            if named == 0 {
                lookup.on_failure(&node.id());
            } else {
                let named = (0..named).map(|n| somewhere(salt.wrapping_add(n * turn), (salt >> n) as u8));
                lookup.learn_from(&node.id(), named);
                lookup.on_answer(&node.id());
                answered.insert(node.id(), node);
            }
        }
        for found in lookup.closest() {
            prop_assert_eq!(Some(found), answered.get(&found.id()), "found where it answered");
        }
    }
}
