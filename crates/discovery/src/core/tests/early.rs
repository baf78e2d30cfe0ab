//! Lookups asked for before this node knows anybody.

use std::collections::BTreeSet;

use super::*;

fn starting(bootnodes: impl Iterator<Item = u64>) -> Bench {
    let mut bench = Bench::unborn(CoreConfig {
        bootnodes: bootnodes.map(node).collect(),
        ..config(0)
    });
    bench.command(1, Command::Lookup(Target::from(public(77))));
    bench
}

/// Whom the lookup found, once it has ended.
fn found(bench: &Bench) -> Option<Vec<Node>> {
    match &bench.done[..] {
        [] => None,
        [(OpId(1), Ok(Reply::Found(found)))] => Some(found.closest.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_early_lookup_waits_for_the_boot_nodes_and_not_for_the_refresh() {
    let mut bench = starting(1..2);
    let mut targets = bench.serve(&[1]);
    // Node 1 does not ping back, which it is given a moment for.
    while targets.len() < 2 {
        bench.wait(Duration::from_millis(250));
        targets.extend(bench.serve(&[1]));
    }
    // The own id, then what was asked for; the refresh's random places come behind.
    assert_eq!(targets[..2], [0, 77].map(|n| WireTarget::from(public(n))));
    assert_eq!(found(&bench), Some(vec![node(1)]));
}

#[test]
fn a_lookup_in_vain_is_begun_once_more_behind_the_first_refresh() {
    // The one that lives is none of the 16 closest to the target, but of those closest to this node, so the refresh goes on.
    let all = 1..=17;
    let farthest = |id: tercet_enode::NodeId| {
        all.clone()
            .max_by(|a, b| id.cmp_distance(&public(*a).node_id(), &public(*b).node_id()))
    };
    let lives = farthest(public(77).node_id()).unwrap();
    assert_ne!(farthest(public(0).node_id()), Some(lives));
    let mut bench = starting(all.clone());
    while found(&bench).is_none() {
        // It only answers pings.
        bench
            .sent
            .retain(|(_, message, _)| message.kind() == MessageKind::Ping);
        bench.serve(&[lives]);
        assert!(bench.now.mono < MonoTime::from_secs(60), "it ends");
        bench.wait(Duration::from_millis(50));
    }
    assert!(bench.core.refresh.has_joined());
}

/// Dead nodes in the way, here the guests before it, keep a guest from some that its table has pinged, and that have pinged it back,
/// until a moment later.
#[test]
fn an_early_lookup_of_a_guest_finds_everybody() {
    for millis in [1, 5, 10, 15, 20, 30, 50] {
        guests_find_everybody(Duration::from_millis(millis));
    }
}

fn guests_find_everybody(delay: Duration) {
    const LIVING: u64 = 5;
    // With the dead among them no more than one answer names.
    const ALL: u64 = 16;
    let mut net = Net::new(LIVING, delay, address);
    let all_met = |net: &Net| {
        let full = |core: &DiscoveryCore| core.table().live_len() as u64 == LIVING - 1;
        net.cores.iter().all(full)
    };
    net.run(Duration::from_secs(60), all_met).expect("all meet");
    let core =
        |n, net: &Net, config| DiscoveryCore::new(config, record_at(n, address(n), 1), net.now);
    for guest in LIVING..ALL {
        let config = CoreConfig {
            guest: true,
            bootnodes: vec![node(0)],
            ..config(guest)
        };
        let at = guest as usize;
        net.cores.push(core(guest, &net, config));
        net.addrs.push(address(guest));
        net.command(at, guest, Command::Lookup(Target::from(public(3))));
        let ended = |net: &Net| !net.done.is_empty();
        net.run(Duration::from_secs(60), ended).expect("it ends");
        let Some((_, _, Ok(Reply::Found(found)))) = net.done.pop() else {
            panic!("{:?}", net.done)
        };
        let found: BTreeSet<NodeId> = found.closest.iter().map(Node::id).collect();
        let living: BTreeSet<NodeId> = (0..LIVING).map(|n| public(n).node_id()).collect();
        assert_eq!(found, living, "{guest}, {delay:?}");
        net.run(Duration::from_millis(500), |_| false);
        // It has gone, and whom it asked does not know yet.
        net.addrs[at] = address(1000 + guest);
        net.cores[at] = core(guest, &net, super::config(guest));
    }
}
