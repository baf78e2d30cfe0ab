//! The lookup against a plain one that says the same rules in lists, whole ids and [`Subnet`]s.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;
use tercet_enode::{AddressClass, Endpoint, NodeRecord, SecretKey};
use tercet_machine::{MachineRng, Subnet};

use super::network::Network;
use super::*;
use crate::kad::filter::BUCKET_LIMITS;

mod plain;
use plain::Plain;

const KEYS: usize = 300;

static SECRETS: LazyLock<Vec<SecretKey>> = LazyLock::new(|| {
    let mut rng = MachineRng::from_seed([5; 32]);
    let keys = std::iter::repeat_with(|| SecretKey::generate(&mut rng));
    keys.take(KEYS).collect()
});

/// An address of few networks, so that limits are met: of IPv4, of IPv6 with four /64 in each /48, or free of limits.
fn address(salt: u32) -> IpAddr {
    let [kind, narrow, host, _] = salt.to_le_bytes();
    match kind % 8 {
        0 => [10, 0, 0, host % 4].into(),
        1..4 => [20, 0, narrow % 40, host % 4].into(),
        _ => {
            let (site, net) = (u16::from(narrow) % 24, u16::from(host) % 4);
            [0x2a02, 1, site, net, 0, 0, 0, u16::from(host) % 8].into()
        }
    }
}

/// A node with its record or without, and the record newer or older.
fn node(key: usize, salt: u32) -> Node {
    let key = &SECRETS[key % KEYS];
    let endpoint = Endpoint::new(address(salt), 30303, 30303);
    let node = Node::new(key.public_key(), endpoint);
    match salt >> 24 {
        seq @ 1..4 => {
            let record = NodeRecord::builder().seq(u64::from(seq)).sign(key);
            node.with_record(record.expect("it is small"))
                .expect("it is its own")
        }
        _ => node,
    }
}

/// How many of one network a bucket takes.
const fn limit(subnet: Subnet) -> usize {
    match subnet {
        Subnet::V4(_) => BUCKET_LIMITS.v4,
        Subnet::V6(_) => BUCKET_LIMITS.v6_narrow,
        Subnet::V6Wide(_) => BUCKET_LIMITS.v6_wide,
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// Nodes heard of from nobody.
    Learn(Vec<(usize, u32)>),
    /// Nodes named by one of those asked so far.
    Named(usize, Vec<(usize, u32)>),
    Ask(usize),
    Answer(usize),
    Fail(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let names = || vec((0..KEYS, any::<u32>()), 1..24);
    let which = any::<usize>;
    prop_oneof![
        1 => names().prop_map(Op::Learn),
        4 => (which(), names()).prop_map(|(from, names)| Op::Named(from, names)),
        4 => (1usize..6).prop_map(Op::Ask),
        3 => which().prop_map(Op::Answer),
        2 => which().prop_map(Op::Fail),
    ]
}

fn nodes(names: &[(usize, u32)]) -> Vec<Node> {
    names.iter().map(|(key, salt)| node(*key, *salt)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn it_does_what_a_plain_one_does(
        start in vec((0..KEYS, any::<u32>()), 0..80),
        ops in vec(op(), 1..120),
        target in prop_oneof![any::<[u8; 32]>().prop_map(NodeId::new), (0..KEYS).prop_map(|n| SECRETS[n].node_id())],
        local in (0..KEYS).prop_map(|n| SECRETS[n].node_id()),
        paths in prop_oneof![3 => Just(1usize), 1 => 2usize..5],
    ) {
        let mut lookup = Lookup::disjoint(local, target, nodes(&start), paths);
        let mut plain = Plain::new(local, target, nodes(&start), paths);
        let (mut asked, mut flying) = (Vec::new(), Vec::new());
        for op in ops {
            match op {
                Op::Learn(names) => {
                    lookup.learn(nodes(&names));
                    plain.learn(None, nodes(&names));
                }
                Op::Named(from, names) if !asked.is_empty() => {
                    let from: NodeId = asked[from % asked.len()];
                    lookup.learn_from(&from, nodes(&names));
                    plain.learn(Some(from), nodes(&names));
                }
                Op::Ask(times) => for _ in 0..times {
                    let next = lookup.next_query();
                    prop_assert_eq!(&next, &plain.next_query());
                    asked.extend(next.iter().map(Node::id));
                    flying.extend(next.iter().map(Node::id));
                },
                Op::Answer(which) if !flying.is_empty() => {
                    let id = flying.remove(which % flying.len());
                    lookup.on_answer(&id);
                    plain.end(&id, true);
                }
                Op::Fail(which) if !flying.is_empty() => {
                    let id = flying.remove(which % flying.len());
                    lookup.on_failure(&id);
                    plain.end(&id, false);
                }
                Op::Named(..) | Op::Answer(_) | Op::Fail(_) => {}
            }
            prop_assert_eq!(lookup.in_flight(), flying.len());
            prop_assert_eq!(lookup.is_done(), plain.is_done());
            let seen: Vec<Node> = lookup.seen().cloned().collect();
            prop_assert_eq!(&seen, &plain.seen());
            prop_assert_eq!(lookup.closest().cloned().collect::<Vec<_>>(), plain.closest());
            for count in [0, seen.len().saturating_sub(1), seen.len()] {
                prop_assert_eq!(lookup.has_seen_more_than(count), seen.len() > count);
            }
        }
    }

    #[test]
    fn networks_are_the_same_where_subnets_are(
        a in any::<u32>(),
        b in any::<u32>(),
        v6 in any::<[u8; 16]>(),
        flipped in 0usize..128,
    ) {
        let mut near = v6;
        near[flipped / 8] ^= 1 << (flipped % 8);
        for (a, b) in [(address(a), address(b)), (v6.into(), near.into()), (v6.into(), address(a))] {
            let (one, other) = (Network::of(a), Network::of(b));
            let free = |ip| AddressClass::of(ip).is_lan();
            prop_assert_eq!((one == Network::FREE, other == Network::FREE), (free(a), free(b)));
            if !free(a) {
                let limits = (limit(Subnet::of(a)), limit(Subnet::wide(a)));
                prop_assert_eq!(one.limits(&BUCKET_LIMITS), limits);
                prop_assert_eq!(one == other, !free(b) && Subnet::of(a) == Subnet::of(b));
                prop_assert_eq!(one.shares_wide(other), !free(b) && Subnet::wide(a) == Subnet::wide(b));
            }
        }
    }
}

/// Two to a cache line: what is written at the head of `candidates`.
#[test]
fn what_is_searched_is_half_a_cache_line() {
    assert_eq!(size_of::<Candidate>(), 32);
}
