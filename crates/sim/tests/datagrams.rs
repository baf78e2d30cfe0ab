//! Datagrams: each property of a link on its own, partitions, churn, NATs, and that a run is repeated by its seed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a test fails by panicking

mod recorder;

use std::net::SocketAddr;
use std::time::Duration;

use recorder::{Input, Order, Sim, add, addr, millis, network, order, received};
use tercet_machine::MonoTime;
use tercet_sim::{Event, LinkProfile, NatKind, Place, START, SimError};

/// Sends datagrams `0..count` at once from the first node to the second over `link`.
fn volley(seed: u64, count: u8, link: LinkProfile) -> (Sim, Vec<u8>) {
    let (mut sim, nodes) = network(seed, 2);
    sim.set_default_link(link);
    for byte in 0..count {
        order(&mut sim, nodes[0], Order::Send(addr(1), vec![byte; 100]));
    }
    sim.run_for(Duration::from_secs(10)).unwrap();
    let received = received(&sim, nodes[1]);
    (sim, received)
}

#[test]
fn a_plain_link_delivers_in_order_after_its_latency() {
    let (sim, received) = volley(
        1,
        50,
        LinkProfile::default().latency(millis(35), millis(35)),
    );
    assert_eq!(received, (0..50).collect::<Vec<u8>>());
    let second = sim.nodes().nth(1).unwrap();
    for (at, event) in &sim.machine(second).unwrap().log {
        assert_eq!(*at, MonoTime::from_millis(35));
        assert!(matches!(event, Event::Datagram { from, .. } if *from == addr(0)));
    }
    assert_eq!(sim.counts().delivered, 50);
}

#[test]
fn each_way_has_its_own_latency_within_the_range_and_keeps_it() {
    let (mut sim, nodes) = network(2, 200);
    sim.set_default_link(LinkProfile::default().latency(millis(200), millis(100)));
    for to in 1..200 {
        order(&mut sim, nodes[0], Order::Send(addr(to), vec![1]));
        order(&mut sim, nodes[0], Order::Send(addr(to), vec![2]));
        order(
            &mut sim,
            nodes[usize::from(to)],
            Order::Send(addr(0), vec![to]),
        );
    }
    sim.run_for(Duration::from_secs(1)).unwrap();
    let mut times = Vec::new();
    for node in &nodes[1..] {
        assert_eq!(received(&sim, *node), [1, 2]);
        let log = &sim.machine(*node).unwrap().log;
        assert_eq!(log[0].0, log[1].0);
        times.push(log[0].0 - MonoTime::ZERO);
    }
    assert!(
        times
            .iter()
            .all(|at| (millis(100)..=millis(200)).contains(at))
    );
    let near = times.iter().filter(|at| **at < millis(150)).count();
    assert!(
        (70..130).contains(&near),
        "{near}: the range is used evenly"
    );
    // The way back is as long as the way there.
    for (at, event) in &sim.machine(nodes[0]).unwrap().log {
        let Event::Datagram { packet, .. } = event else {
            panic!("{event:?}")
        };
        assert_eq!(*at - MonoTime::ZERO, times[usize::from(packet[0]) - 1]);
    }
}

#[test]
fn a_lossy_link_loses_about_its_share() {
    let (sim, received) = volley(3, 200, LinkProfile::default().loss(0.25));
    assert_eq!(received.len() as u64 + sim.counts().lost, 200);
    assert!((30..70).contains(&sim.counts().lost), "{:?}", sim.counts());
    assert_eq!(volley(3, 50, LinkProfile::default().loss(1.0)).1, []);
    assert_eq!(
        volley(3, 50, LinkProfile::default().loss(f64::NAN)).1.len(),
        50
    );
}

#[test]
fn a_duplicating_link_delivers_some_twice() {
    let (sim, received) = volley(4, 200, LinkProfile::default().duplication(0.2));
    assert_eq!(received.len() as u64, 200 + sim.counts().duplicated);
    assert!(
        (20..60).contains(&sim.counts().duplicated),
        "{:?}",
        sim.counts()
    );
    let mut unique = received.clone();
    unique.dedup();
    assert_eq!(
        unique.len(),
        200,
        "both copies arrive together on a link of one latency"
    );
}

#[test]
fn a_reordering_link_lets_later_datagrams_overtake() {
    let (_, received) = volley(5, 200, LinkProfile::default().reordering(0.1, millis(50)));
    assert_eq!(received.len(), 200);
    let held_up = received.iter().position(|byte| *byte == 199).unwrap() + 1;
    assert!(received[..held_up].is_sorted() && received[held_up..].is_sorted());
    assert!((5..50).contains(&(200 - held_up)), "{held_up}");
}

#[test]
fn datagrams_above_the_mtu_are_dropped() {
    assert_eq!(volley(6, 5, LinkProfile::default().mtu(100)).1.len(), 5);
    let (sim, received) = volley(6, 5, LinkProfile::default().mtu(99));
    assert_eq!((received.len(), sim.counts().oversized), (0, 5));
}

#[test]
fn a_link_of_its_own_differs_from_the_others() {
    let (mut sim, nodes) = network(7, 3);
    sim.set_link(nodes[1], nodes[0], LinkProfile::default().loss(1.0));
    for to in [1, 2] {
        order(&mut sim, nodes[0], Order::Send(addr(to), vec![to]));
    }
    sim.run_for(millis(100)).unwrap();
    assert_eq!(
        (received(&sim, nodes[1]), received(&sim, nodes[2])),
        (vec![], vec![2])
    );
}

#[test]
fn a_partition_cuts_both_ways_also_what_is_under_way_until_it_heals() {
    let (mut sim, nodes) = network(8, 4);
    let exchange = |sim: &mut Sim, byte| {
        for (from, to) in [(0, 1), (1, 0), (2, 3), (0, 3)] {
            order(sim, nodes[from], Order::Send(addr(to), vec![byte]));
        }
    };
    let arrived = |sim: &Sim| {
        nodes
            .iter()
            .map(|node| received(sim, *node))
            .collect::<Vec<_>>()
    };
    exchange(&mut sim, 1);
    sim.partition(&[nodes[0], nodes[3]]);
    exchange(&mut sim, 2);
    sim.run_for(millis(100)).unwrap();
    assert_eq!(arrived(&sim), [vec![], vec![], vec![], vec![1, 2]]);
    assert_eq!(sim.counts().parted, 6);
    sim.heal();
    exchange(&mut sim, 3);
    sim.run_for(millis(100)).unwrap();
    assert_eq!(arrived(&sim), [vec![3], vec![3], vec![], vec![1, 2, 3, 3]]);
}

#[test]
fn nodes_come_and_go() {
    let (mut sim, nodes) = network(9, 2);
    assert_eq!(
        add(&mut sim, Place::public(addr(1))),
        Err(SimError::AddressInUse { addr: addr(1) })
    );
    order(&mut sim, nodes[0], Order::Send(addr(1), vec![1]));
    order(&mut sim, nodes[1], Order::Wake(millis(5)));
    let (_, machine) = sim.remove_node(nodes[1]).unwrap();
    assert!(machine.log.is_empty());
    assert!(sim.remove_node(nodes[1]).is_none());
    sim.run_for(millis(100)).unwrap();
    assert_eq!((sim.counts().unroutable, sim.counts().timeouts), (1, 0));
    let error = sim
        .input(nodes[1], Input::Order(Order::Wake(millis(1))))
        .unwrap_err();
    assert_eq!(error, SimError::NoSuchNode { node: nodes[1] });

    // Another moves in at the same address.
    let next = add(&mut sim, Place::public(addr(1))).unwrap();
    assert_ne!(next, nodes[1]);
    order(&mut sim, nodes[0], Order::Send(addr(1), vec![2]));
    sim.run_for(millis(100)).unwrap();
    assert_eq!(received(&sim, next), [2]);
    assert_eq!(sim.nodes().collect::<Vec<_>>(), [nodes[0], next]);
    assert_eq!(sim.address(next), Some(addr(1)));
}

#[test]
fn time_jumps_to_the_next_wake_up_and_both_clocks_agree() {
    let (mut sim, nodes) = network(10, 1);
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    for after in [year, Duration::from_micros(1500), millis(3), millis(3)] {
        order(&mut sim, nodes[0], Order::Wake(after));
    }
    sim.run_for(2 * year).unwrap();
    let woken = &sim.machine(nodes[0]).unwrap().woken;
    let times: Vec<_> = woken.iter().map(|now| now.mono - MonoTime::ZERO).collect();
    assert_eq!(times, [Duration::from_micros(1500), millis(3), year]);
    assert!(
        woken
            .iter()
            .all(|now| now.unix == START + (now.mono - MonoTime::ZERO))
    );
    assert_eq!(sim.now().mono, MonoTime::ZERO + 2 * year);
    assert!(!sim.step().unwrap(), "nothing is left to happen");
}

#[test]
fn running_until_stops_at_the_event() {
    let (mut sim, nodes) = network(11, 2);
    for byte in 0..9 {
        order(&mut sim, nodes[0], Order::Send(addr(1), vec![byte]));
    }
    let three = |sim: &Sim| sim.counts().delivered == 3;
    assert!(sim.run_until(Duration::from_secs(9), three).unwrap());
    assert_eq!(received(&sim, nodes[1]), [0, 1, 2]);
    assert!(
        sim.run_until(Duration::from_secs(9), three).unwrap(),
        "asked before anything happens"
    );
    let never = sim.run_until(Duration::from_secs(9), |_| false).unwrap();
    assert_eq!((never, sim.counts().delivered), (false, 9));
}

#[test]
fn a_machine_that_stops_time_is_named() {
    let (mut sim, nodes) = network(12, 2);
    order(&mut sim, nodes[1], Order::Stall(millis(7)));
    let at = MonoTime::from_millis(7);
    let stale = SimError::StaleDeadline {
        node: nodes[1],
        now: at,
        deadline: at,
    };
    assert_eq!(sim.run_for(Duration::from_secs(1)), Err(stale));
    let runaway = sim.input(nodes[0], Input::Order(Order::Loop)).unwrap_err();
    assert!(
        matches!(runaway, SimError::Runaway { node, .. } if node == nodes[0]),
        "{runaway}"
    );
}

/// A scenario with every property of links at once.
fn busy(seed: u64) -> Sim {
    let (mut sim, nodes) = network(seed, 20);
    sim.set_default_link(
        LinkProfile::default()
            .latency(millis(5), millis(90))
            .loss(0.1)
            .duplication(0.1)
            .reordering(0.1, millis(40)),
    );
    for round in 0..20 {
        for (from, node) in nodes.iter().enumerate() {
            let to = addr(((from * 7 + round * 3) % 20) as u8);
            order(&mut sim, *node, Order::Send(to, vec![round as u8; 40]));
        }
        sim.run_for(millis(13)).unwrap();
    }
    sim.run_for(Duration::from_secs(1)).unwrap();
    sim
}

#[test]
fn a_seed_repeats_its_run_and_another_does_not() {
    let (first, again, other) = (busy(99), busy(99), busy(100));
    assert_eq!(
        (first.trace_hash(), first.counts()),
        (again.trace_hash(), again.counts())
    );
    assert_ne!(first.trace_hash(), other.trace_hash());
    assert_eq!(first.seed(), 99);
}

/// One byte of difference in one packet changes the hash.
#[test]
fn the_trace_covers_contents() {
    let hash = |byte: u8| {
        let (mut sim, nodes) = network(13, 2);
        order(&mut sim, nodes[0], Order::Send(addr(1), vec![0, byte]));
        sim.run_for(millis(100)).unwrap();
        sim.trace_hash()
    };
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
    assert_eq!(hash(1).to_string().len(), 16);
}

const INSIDE: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 5)),
    30303,
);
const OUTSIDE: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(80, 1, 2, 3));

#[test]
fn a_node_behind_a_nat_is_reached_as_far_as_its_kind_allows() {
    // Does a stranger reach it? Does it after the node behind the NAT has sent to another host?
    for (kind, stranger) in [
        (NatKind::FullCone, true),
        (NatKind::RestrictedCone, false),
        (NatKind::PortRestricted, false),
        (NatKind::Symmetric, false),
    ] {
        let (mut sim, nodes) = network(14, 2);
        let nat = sim.add_nat(OUTSIDE, kind);
        let inner = add(&mut sim, Place::behind(nat, INSIDE)).unwrap();
        order(&mut sim, inner, Order::Send(addr(0), vec![1]));
        sim.run_for(millis(100)).unwrap();
        let seen = match &sim.machine(nodes[0]).unwrap().log[..] {
            [(_, Event::Datagram { from, .. })] => *from,
            other => panic!("{other:?}"),
        };
        assert_eq!(seen.ip(), OUTSIDE);
        order(&mut sim, nodes[0], Order::Send(seen, vec![2]));
        order(&mut sim, nodes[1], Order::Send(seen, vec![3]));
        order(&mut sim, nodes[1], Order::Send(INSIDE, vec![4]));
        sim.run_for(millis(100)).unwrap();
        let expected = if stranger { vec![2, 3] } else { vec![2] };
        assert_eq!(received(&sim, inner), expected, "{kind:?}");
        assert_eq!(sim.counts().filtered, u64::from(!stranger));
        assert_eq!(
            sim.counts().unroutable,
            1,
            "the private address leads nowhere"
        );
    }
}

#[test]
fn neighbours_behind_one_nat_talk_directly_but_not_through_its_outside() {
    let mut sim = Sim::new(15);
    let nat = sim.add_nat(OUTSIDE, NatKind::FullCone);
    let a = add(&mut sim, Place::behind(nat, INSIDE)).unwrap();
    let other = SocketAddr::from(([192, 168, 1, 6], 30303));
    let b = add(&mut sim, Place::behind(nat, other)).unwrap();
    let far = add(&mut sim, Place::public(addr(1))).unwrap();
    order(&mut sim, a, Order::Send(other, vec![1]));
    order(&mut sim, b, Order::Send(addr(1), vec![2]));
    sim.run_for(millis(100)).unwrap();
    assert_eq!((received(&sim, b), received(&sim, far)), (vec![1], vec![2]));
    order(
        &mut sim,
        a,
        Order::Send(SocketAddr::new(OUTSIDE, 1025), vec![3]),
    );
    sim.run_for(millis(100)).unwrap();
    assert_eq!(received(&sim, b), [1], "no hairpin");
    // The same private address behind another NAT is another place.
    let second = sim.add_nat([80, 1, 2, 4].into(), NatKind::FullCone);
    assert!(add(&mut sim, Place::behind(second, INSIDE)).is_ok());
    assert_eq!(
        add(&mut sim, Place::behind(nat, INSIDE)),
        Err(SimError::AddressInUse { addr: INSIDE })
    );
    let unknown = Sim::new(1).add_nat(OUTSIDE, NatKind::FullCone);
    assert_eq!(
        add(&mut Sim::new(2), Place::behind(unknown, INSIDE)),
        Err(SimError::NoSuchNat { nat: unknown })
    );
}

#[test]
fn a_forged_source_is_what_the_receiver_sees_and_whoever_has_it_gets_the_answer() {
    let (mut sim, nodes) = network(21, 3);
    sim.partition(&[nodes[0]]);
    sim.spoof(addr(1), addr(2), vec![7]);
    sim.spoof(addr(1), addr(9), vec![8]);
    sim.run_for(Duration::from_secs(1)).unwrap();
    assert_eq!(received(&sim, nodes[2]), [7]);
    let log = &sim.machine(nodes[2]).unwrap().log;
    assert!(matches!(log[0].1, Event::Datagram { from, .. } if from == addr(1)));
    assert_eq!(received(&sim, nodes[1]), Vec::<u8>::new());
    assert_eq!((sim.counts().delivered, sim.counts().unroutable), (1, 1));
}
