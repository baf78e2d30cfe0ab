//! Whole networks of machines.

use super::*;

fn loopback(n: u64) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 30300 + n as u16)
}

fn full(net: &Net) -> bool {
    net.cores
        .iter()
        .all(|core| core.table().live_len() == net.cores.len() - 1)
}

#[test]
fn two_nodes_find_each_other_in_a_few_round_trips() {
    let delay = Duration::from_millis(20);
    let mut net = Net::new(2, delay, address);
    // ping and pong, and the same the other way: three delays.
    assert_eq!(net.run(Duration::from_secs(1), full), Some(3 * delay));
    // The record, which each asks for once the other counts it as proven.
    let with_records = |net: &Net| {
        net.cores.iter().all(|core| {
            core.snapshot()
                .entries()
                .all(|entry| entry.node.record().is_some())
        })
    };
    assert!(net.run(5 * delay, with_records).is_some());
}

#[test]
fn eight_nodes_on_one_address_all_know_each_other_within_a_second() {
    let mut net = Net::new(8, Duration::from_millis(1), loopback);
    let took = net
        .run(Duration::from_secs(5), full)
        .expect("everybody knows everybody");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_lookup_finds_the_closest_of_sixty_nodes() {
    let mut net = Net::new(60, Duration::from_millis(10), address);
    let joined = |net: &Net| net.cores.iter().all(|core| core.refresh.has_joined());
    net.run(Duration::from_secs(60), joined)
        .expect("all refreshed");
    net.run(Duration::from_secs(30), |_| false);
    let target = Target::from(public(999));
    net.command(7, 1, Command::Lookup(target));
    net.run(Duration::from_secs(10), |net| !net.done.is_empty())
        .expect("the lookup ends");
    let Some((7, OpId(1), Ok(Reply::Found(found)))) = net.done.pop() else {
        panic!("{:?}", net.done)
    };
    let mut all: Vec<Node> = (0..60).filter(|n| *n != 7).map(node).collect();
    all.sort_by(|a, b| target.id().cmp_distance(&a.id(), &b.id()));
    let ids = |nodes: &[Node]| nodes.iter().map(Node::id).collect::<Vec<_>>();
    assert_eq!(ids(&found.closest), ids(&all[..16]));
}

#[test]
fn a_node_that_moved_is_resolved_through_the_network_and_an_unknown_one_is_not() {
    let mut net = Net::new(12, Duration::from_millis(1), address);
    net.run(Duration::from_secs(20), full)
        .expect("everybody knows everybody");
    let elsewhere = node_at(5, address(500));
    net.command(3, 1, Command::Resolve(elsewhere));
    net.command(3, 2, Command::Resolve(node(400)));
    let present = node_at(5, address(5))
        .with_record(record_at(5, address(5), 1))
        .unwrap();
    net.command(3, 3, Command::Resolve(present));
    net.run(Duration::from_secs(20), |net| net.done.len() == 3)
        .expect("all end");
    for (_, op, result) in &net.done {
        let Ok(Reply::Resolved(found)) = result else {
            panic!("{result:?}")
        };
        match op {
            OpId(1) => assert_eq!(
                found.as_ref().map(|node| *node.endpoint()),
                Some(*node(5).endpoint())
            ),
            _ => assert_eq!(*found, None, "{op:?}"),
        }
    }
}
