//! Seeds are a fair choice wherever ids lie: a chi-squared test with fixed random numbers, over ids of which most are crowded
//! into 1/256 of the id space. The way others choose (seek to a random id, take the next entry) is put to the same test and
//! fails it, so the test can tell.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // a test may fail loudly

mod common;

use std::collections::BTreeMap;

use rand::RngExt as _;
use tercet_enode::{Node, NodeId};
use tercet_machine::MachineRng;
use tercet_nodedb::{NodeStore, Write};

use common::*;

const CROWD: usize = 60;
const OTHERS: usize = 40;
const ROUNDS: usize = 2000;
const COUNT: usize = 10;

/// 99.99% of fair choices among 100 stay below this (chi-squared with 99 degrees of freedom).
const FAIR: f64 = 161.3;

/// 60 nodes whose ids begin with the same byte, 40 from everywhere else.
fn clustered() -> Vec<Node> {
    let (mut crowd, mut others) = (Vec::new(), Vec::new());
    for number in 0.. {
        let node = bare(number, ip(1));
        match node.id().as_bytes()[0] {
            0x60 if crowd.len() < CROWD => crowd.push(node),
            0x60 => {}
            _ if others.len() < OTHERS => others.push(node),
            _ => {}
        }
        if crowd.len() == CROWD && others.len() == OTHERS {
            break;
        }
    }
    crowd.append(&mut others);
    crowd
}

fn fill(store: &dyn NodeStore, nodes: &[Node]) {
    for node in nodes {
        store
            .apply(T0, &[Write::Node(node.clone()), pong(node, T0)])
            .unwrap();
    }
}

/// How far the counts are from all being equal.
fn chi_squared(nodes: &[Node], chosen: impl IntoIterator<Item = NodeId>) -> f64 {
    let mut counts: BTreeMap<NodeId, f64> = nodes.iter().map(|node| (node.id(), 0.0)).collect();
    let mut total = 0.0;
    for id in chosen {
        *counts.get_mut(&id).unwrap() += 1.0;
        total += 1.0;
    }
    let expected = total / nodes.len() as f64;
    counts
        .values()
        .map(|count| (count - expected).powi(2) / expected)
        .sum()
}

#[test]
fn every_fit_node_is_as_likely_as_any_other() {
    let nodes = clustered();
    each_store(1000, |store| {
        fill(store, &nodes);
        let mut rng = MachineRng::from_seed([5; 32]);
        let query = query(COUNT, T0);
        let rounds: Vec<Vec<NodeId>> = (0..ROUNDS)
            .map(|_| {
                let seeds = store.seeds(&query, &mut rng).unwrap();
                seeds.iter().map(|seed| seed.node.id()).collect()
            })
            .collect();
        let all = chi_squared(&nodes, rounds.iter().flatten().copied());
        assert!(all < FAIR, "chi-squared {all}");
        // And at every place of the answer: who takes the first seeds only is not misled either.
        let first = chi_squared(&nodes, rounds.iter().map(|round| round[0]));
        let last = chi_squared(&nodes, rounds.iter().map(|round| round[COUNT - 1]));
        assert!(first < FAIR, "chi-squared of first places {first}");
        assert!(last < FAIR, "chi-squared of last places {last}");
    });
}

#[test]
fn the_test_tells_a_biased_choice() {
    let nodes = clustered();
    let ordered: BTreeMap<NodeId, ()> = nodes.iter().map(|node| (node.id(), ())).collect();
    let mut rng = MachineRng::from_seed([6; 32]);
    let chosen = (0..ROUNDS * COUNT).map(|_| {
        let mut target = [0; 32];
        rng.fill(&mut target);
        let next = ordered.range(NodeId::new(target)..).next();
        *next.or_else(|| ordered.first_key_value()).unwrap().0
    });
    let biased = chi_squared(&nodes, chosen.collect::<Vec<_>>());
    assert!(biased > 10.0 * FAIR, "chi-squared {biased}");
}

#[test]
fn equal_random_numbers_choose_equal_seeds() {
    let nodes = clustered();
    let mut answers = Vec::new();
    let chosen = std::cell::RefCell::new(&mut answers);
    each_store(1000, |store| {
        fill(store, &nodes);
        let mut rng = MachineRng::from_seed([7; 32]);
        let seeds = store.seeds(&query(COUNT, T0), &mut rng).unwrap();
        let ids: Vec<NodeId> = seeds.iter().map(|seed| seed.node.id()).collect();
        chosen.borrow_mut().push(ids);
    });
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
}
