//! When the table's nodes are checked, and who goes when.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tercet_enode::{Endpoint, Node, SecretKey};
use tercet_machine::{MachineRng, MonoTime};

use super::*;
use crate::engine::{Protocol, Protocols};

const SECOND: Duration = Duration::from_secs(1);
const LOCAL: u64 = 0;

/// A table whose farthest bucket is full of live nodes with this credit, and one more node that waits.
struct Full {
    table: Table,
    members: Vec<Node>,
    waiting: Node,
    now: MonoTime,
}

fn node(n: u64) -> Node {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    let key = SecretKey::generate(&mut MachineRng::from_seed(seed)).public_key();
    let [.., a, b] = n.to_be_bytes();
    let at = SocketAddr::from(([30, a, b, 1], 30303));
    Node::new(key, Endpoint::new(at.ip(), at.port(), 0))
}

impl Full {
    fn new(protocols: &[Protocol], credit: u32) -> Self {
        let local = node(LOCAL).id();
        let mut far = (1..)
            .map(node)
            .filter(|node| local.log_distance(&node.id()) == 256);
        let members: Vec<Node> = far.by_ref().take(BUCKET_SIZE).collect();
        let waiting = far.next().expect("there are many");
        let rng = MachineRng::from_seed([3; 32]);
        let mut table = Table::new(local, RevalidationConfig::default(), rng);
        let now = MonoTime::ZERO;
        for member in &members {
            for _ in 0..credit {
                for protocol in protocols {
                    table.add(now, member.clone(), Proof::Answer(*protocol));
                }
            }
        }
        let added = table.add(now, waiting.clone(), Proof::Hearsay);
        assert_eq!(added, Added::Waiting);
        Self {
            table,
            members,
            waiting,
            now,
        }
    }

    fn fails(&mut self, protocol: Protocol) -> CheckFailed {
        self.now = self.now + SECOND;
        let id = self.members[0].id();
        let fallback = Fallback {
            protocols: Protocols::ALL,
            endpoint: None,
        };
        self.table
            .on_check_failed(self.now, &id, protocol, fallback)
    }

    fn another_answers(&mut self) {
        self.now = self.now + SECOND;
        let proof = Proof::Answer(Protocol::V4);
        self.table.add(self.now, self.members[1].clone(), proof);
    }

    fn is_replaced(&self) -> bool {
        let holds = |node: &Node| self.table.get(&node.id()).is_some();
        assert_ne!(holds(&self.members[0]), holds(&self.waiting));
        holds(&self.waiting)
    }
}

#[test]
fn who_owes_two_answers_gives_way_to_one_who_waits() {
    let mut full = Full::new(&[Protocol::V4], 27);
    assert_eq!(full.fails(Protocol::V4), CheckFailed::Kept);
    full.another_answers();
    assert_eq!(full.fails(Protocol::V4), CheckFailed::Gone);
    assert!(full.is_replaced());
}

#[test]
fn where_nobody_answers_our_own_line_may_be_down_and_credit_counts() {
    let mut full = Full::new(&[Protocol::V4], 27);
    full.another_answers();
    for _ in 0..3 {
        assert_eq!(full.fails(Protocol::V4), CheckFailed::Kept);
    }
    assert_eq!(full.fails(Protocol::V4), CheckFailed::Gone);
}

#[test]
fn where_nobody_waits_credit_counts() {
    let mut full = Full::new(&[Protocol::V4], 27);
    // It takes the place of the first to go, and goes too.
    for id in [full.members[15].id(), full.waiting.id()] {
        full.table.remove(full.now, &id);
    }
    for _ in 0..3 {
        assert_eq!(full.fails(Protocol::V4), CheckFailed::Kept);
        full.another_answers();
    }
    assert_eq!(full.fails(Protocol::V4), CheckFailed::Gone);
}

#[test]
fn an_answer_pays_what_is_owed() {
    let mut full = Full::new(&[Protocol::V4], 27);
    for _ in 0..3 {
        assert_eq!(full.fails(Protocol::V4), CheckFailed::Kept);
        full.another_answers();
        let proof = Proof::Answer(Protocol::V4);
        full.table.add(full.now, full.members[0].clone(), proof);
    }
    assert!(!full.is_replaced());
}

#[test]
fn who_answered_over_both_owes_over_both_before_he_goes() {
    let mut full = Full::new(&[Protocol::V4, Protocol::V5], 27);
    for _ in 0..2 {
        assert_eq!(full.fails(Protocol::V5), CheckFailed::Kept);
        full.another_answers();
    }
    assert!(!full.is_replaced());
    assert_eq!(full.fails(Protocol::V4), CheckFailed::Gone);
    assert!(full.is_replaced());
}

#[test]
fn an_unanswered_question_of_a_lookup_counts_as_one_check() {
    let mut full = Full::new(&[Protocol::V4], 27);
    let id = full.members[0].id();
    let list = |full: &Full| full.table.snapshot().get(&id).map(|entry| entry.list);
    assert_eq!(list(&full), Some(RevalidationList::Slow));
    let failures = full.table.on_find_failed(full.now, &id, Protocol::V4);
    assert_eq!(failures, Some(1));
    assert_eq!(list(&full), Some(RevalidationList::Fast), "checked soon");
    full.another_answers();
    assert_eq!(full.fails(Protocol::V4), CheckFailed::Gone);
    assert!(full.is_replaced());
}

/// Checks a table asks for in a minute, of which each is answered or, by the nodes in `dead`, not.
fn checks(full: &mut Full, dead: impl Fn(&Node) -> bool) -> usize {
    let end = full.now + 60 * SECOND;
    let mut count = 0;
    while let Some(at) = full.table.deadline().filter(|at| *at <= end) {
        full.now = at;
        while let Some(node) = full.table.next_check(at) {
            count += 1;
            if dead(&node) {
                let fallback = Fallback {
                    protocols: Protocols::V4,
                    endpoint: None,
                };
                full.table
                    .on_check_failed(at, &node.id(), Protocol::V4, fallback);
            } else {
                full.table.add(at, node, Proof::Answer(Protocol::V4));
            }
        }
    }
    full.now = end;
    count
}

#[test]
fn the_slow_list_hurries_while_nodes_die_and_is_slow_while_they_do_not() {
    let mut full = Full::new(&[Protocol::V4], 1);
    let quiet = checks(&mut full, |_| false);
    // A check each 4.5 s on average.
    assert!((8..=20).contains(&quiet), "{quiet}");
    let ids: Vec<_> = full.members[1..4].iter().map(Node::id).collect();
    let gone = |full: &Full| ids.iter().all(|id| full.table.get(id).is_none());
    let first = checks(&mut full, |node| ids.contains(&node.id()));
    let second = checks(&mut full, |node| ids.contains(&node.id()));
    assert!(gone(&full));
    assert!(first + second > 3 * quiet, "{quiet} {first} {second}");
    // At its greatest haste a check each 0.28 s, and each answered one makes it slower.
    assert!(first.max(second) < 240, "{first} {second}");
    for _ in 0..3 {
        checks(&mut full, |_| false);
    }
    let calm = checks(&mut full, |_| false);
    assert!((8..=20).contains(&calm), "{calm}");
}

#[test]
fn who_has_gone_is_given_another_chance_where_there_is_room() {
    let mut full = Full::new(&[Protocol::V4], 1);
    let gone = full.members[0].clone();
    full.fails(Protocol::V4);
    full.fails(Protocol::V4);
    assert!(full.is_replaced());
    full.table.recall(full.now);
    assert_eq!(full.table.known(&gone.id()), None, "the bucket is full");
    full.table.remove(full.now, &full.waiting.id());
    for _ in 0..2 {
        full.table.recall(full.now);
        let standing = full.table.standing(&gone.id()).expect("it is back");
        assert!(standing.live.is_empty(), "to be proven anew");
        // It does not answer this time either, and is not forgotten for it.
        let fallback = Fallback::default();
        let failed = full
            .table
            .on_check_failed(full.now, &gone.id(), Protocol::V4, fallback);
        assert_eq!(failed, CheckFailed::Gone);
    }
    full.table
        .add(full.now, gone.clone(), Proof::Answer(Protocol::V4));
    full.table.recall(full.now);
    full.table.remove(full.now, &gone.id());
    full.table.recall(full.now);
    assert_eq!(full.table.known(&gone.id()), None, "it had come back");
}

#[test]
fn few_of_those_who_have_gone_are_remembered() {
    let mut table = empty();
    let now = MonoTime::ZERO;
    let nodes: Vec<Node> = (1..=MAX_DEPARTED as u64 + 1).map(node).collect();
    for node in &nodes {
        table.add(now, node.clone(), Proof::Answer(Protocol::V4));
        for _ in 0..2 {
            let fallback = Fallback::default();
            table.on_check_failed(now, &node.id(), Protocol::V4, fallback);
        }
    }
    assert!(table.is_empty());
    table.recall(now);
    assert_eq!(table.known(&nodes[0].id()), None, "the first is forgotten");
    assert!(
        table.known(&nodes[MAX_DEPARTED].id()).is_some()
            || table.bucket_len(&nodes[MAX_DEPARTED].id()) == BUCKET_SIZE
    );
}

#[test]
fn a_copy_shares_with_the_one_before_what_has_not_changed() {
    let mut full = Full::new(&[Protocol::V4], 1);
    let before = full.table.snapshot();
    let shared = |copy: &TableSnapshot| -> Vec<usize> {
        let same = |at: &usize| Arc::ptr_eq(&before.buckets[*at], &copy.buckets[*at]);
        (0..BUCKETS).filter(same).collect()
    };
    let copy = full.table.snapshot_after(&before);
    assert_eq!(shared(&copy), (0..BUCKETS).collect::<Vec<_>>());
    // All of them are in the last bucket.
    let id = full.members[3].id();
    full.table.remove(full.now, &id);
    let copy = full.table.snapshot_after(&before);
    assert_eq!(shared(&copy), (0..BUCKETS - 1).collect::<Vec<_>>());
    assert!(before.get(&id).is_some() && copy.get(&id).is_none());
    assert!(copy.get(&full.waiting.id()).is_some());
}

fn empty() -> Table {
    let rng = MachineRng::from_seed([3; 32]);
    Table::new(node(LOCAL).id(), RevalidationConfig::default(), rng)
}

#[test]
fn who_never_answered_is_forgotten_when_he_goes() {
    let mut table = empty();
    let now = MonoTime::ZERO;
    table.add(now, node(1), Proof::Hearsay);
    let fallback = Fallback::default();
    let failed = table.on_check_failed(now, &node(1).id(), Protocol::V4, fallback);
    assert_eq!(failed, CheckFailed::Gone);
    table.recall(now);
    assert!(table.is_empty());
}

#[test]
fn who_has_waited_comes_in_with_what_he_has_proven_and_is_checked_soon() {
    let mut table = empty();
    let now = MonoTime::ZERO;
    table.add_waiting(now, node(1), Proof::Answer(Protocol::V4));
    table.add_waiting(now, node(1), Proof::Answer(Protocol::V5));
    table.add_waiting(now, node(2), Proof::Hearsay);
    assert!(table.is_empty());
    table.fill(now);
    let copy = table.snapshot();
    let place = |n| {
        let entry = copy.get(&node(n).id()).expect("it has a place");
        (entry.protocols, entry.checks, entry.list)
    };
    let soon = RevalidationList::Fast;
    assert_eq!(place(1), (Protocols::ALL, 1, soon));
    assert_eq!(place(2), (Protocols::NONE, 0, soon));
}

#[test]
fn of_one_network_no_more_wait_than_may_come_in() {
    let mut table = empty();
    let far = (1..)
        .map(node)
        .filter(|far| node(LOCAL).id().log_distance(&far.id()) == 256);
    let here: Vec<Node> = far.take(4).collect();
    for (n, known) in here.into_iter().enumerate() {
        let at = Endpoint::new([30, 0, 0, n as u8].into(), 30303, 0);
        let added = table.add_waiting(MonoTime::ZERO, known.with_endpoint(at), Proof::Contact);
        let expected = if n < BUCKET_LIMITS.v4 {
            Added::Waiting
        } else {
            Added::Refused(Refusal::Subnet)
        };
        assert_eq!(added, expected, "{n}");
    }
}

#[test]
fn one_answer_owed_costs_nobody_his_place() {
    let mut full = Full::new(&[Protocol::V4], 1);
    assert_eq!(full.fails(Protocol::V4), CheckFailed::Kept);
    assert_eq!(full.fails(Protocol::V4), CheckFailed::Gone);
}

#[test]
fn however_many_die_the_slow_list_has_a_greatest_haste() {
    let mut full = Full::new(&[Protocol::V4], 1);
    for member in &full.members[..12] {
        for _ in 0..2 {
            let fallback = Fallback::default();
            full.table
                .on_check_failed(full.now, &member.id(), Protocol::V4, fallback);
        }
    }
    assert_eq!(full.table.len(), 5);
    // A check each 0.28 s at first, each making the gap longer by a 32nd: 66 in a minute.
    let count = checks(&mut full, |_| false);
    assert!((30..120).contains(&count), "{count}");
}

#[test]
fn who_does_not_answer_a_question_is_silent_over_that_protocol_there() {
    let mut table = empty();
    let (now, known) = (MonoTime::ZERO, node(1));
    let silent = |table: &Table| table.standing(&known.id()).map(|standing| standing.silent);
    table.add(now, known.clone(), Proof::Answer(Protocol::V4));
    let elsewhere = Endpoint::new([30, 9, 9, 9].into(), 30303, 0);
    for (endpoint, protocol) in [(&elsewhere, Protocol::V5), (known.endpoint(), Protocol::V4)] {
        table.on_unanswered(&known.id(), endpoint, protocol);
        assert_eq!(silent(&table), Some(Protocols::NONE));
    }
    table.on_unanswered(&known.id(), known.endpoint(), Protocol::V5);
    assert_eq!(silent(&table), Some(Protocols::V5));
}
