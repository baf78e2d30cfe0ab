//! Nodes behind a NAT that have to learn from others where they are, while some of those lie.

use std::net::SocketAddr;
use std::time::Duration;

use tercet_discovery::Protocols;
use tercet_enode::NodeRecord;
use tercet_sim::{NatKind, Place, TraceHash};

use crate::stacks::{Stacks, address};
use crate::{MINUTE, SECOND, twice};

const PUBLIC: usize = 30;
/// Of each ten of them so many lie, each of them something else.
const LIARS: usize = 3;

const OPEN: [u8; 4] = [140, 1, 0, 1];
const CLOSED: [u8; 4] = [141, 1, 0, 1];
/// Where a liar says that everybody is.
fn elsewhere(liar: usize) -> SocketAddr {
    SocketAddr::from(([150, 6, 6, liar as u8], 6666))
}

fn named(record: &NodeRecord) -> Option<SocketAddr> {
    Some(SocketAddr::new(record.ip4()?.into(), record.udp4()?))
}

#[derive(Debug, PartialEq)]
struct Story {
    trace: TraceHash,
    /// What the node behind the open NAT advertised after having asked many and before anybody had come to it.
    alone: Option<SocketAddr>,
    votes: u64,
    /// After strangers had come, and how often one that nothing had been sent to did.
    visited: Option<SocketAddr>,
    contacts: u64,
    /// Newcomers that know it, and the protocols over which they have met it.
    met: Vec<Protocols>,
    /// How many nodes knew that record then.
    known: usize,
    /// Two and a half hours after the NAT had closed.
    closed: Option<SocketAddr>,
    /// Everything the node behind the open NAT, and the one behind the other, ever advertised.
    ever: [Vec<Option<SocketAddr>>; 2],
    /// Votes the second one had.
    second_votes: u64,
}

fn play() -> Story {
    let mut net = Stacks::new(71);
    for index in 0..PUBLIC {
        let at = address(index);
        if index % 10 > 0 && index % 10 <= LIARS {
            // Over discv4, where a pong can be written anew.
            let lie = Some(elsewhere(index));
            net.add(Place::public(at), Some(at), Protocols::V4, lie);
        } else {
            net.join();
        }
        net.run(SECOND);
    }
    net.run(MINUTE);
    let nat = net.sim.add_nat(OPEN.into(), NatKind::FullCone);
    let restricted = net.sim.add_nat(CLOSED.into(), NatKind::PortRestricted);
    let inside = SocketAddr::from(([192, 168, 1, 2], 30303));
    let open = net.add(Place::behind(nat, inside), None, Protocols::ALL, None);
    let hidden = net.add(
        Place::behind(restricted, inside),
        None,
        Protocols::ALL,
        None,
    );
    net.run(3 * MINUTE);
    let alone = named(net.stack(open).record());
    let votes = net.stack(open).counters().votes;

    // Strangers: the network tells them of the node.
    let newcomers = |net: &mut Stacks, count: usize, every: Duration| {
        for _ in 0..count {
            net.join();
            net.run(every);
        }
    };
    newcomers(&mut net, 10, 12 * SECOND);
    let visited = named(net.stack(open).record());
    let id = net.stack(open).record().id();
    let met = (hidden + 1..net.nodes.len())
        .filter_map(|index| {
            net.stack(index)
                .table()
                .standing(&net.stack(open).record().id())
        })
        .map(|standing| standing.live)
        .collect();
    let contacts = net.stack(open).counters().contacts;
    net.run(10 * MINUTE);
    let seq = net.stack(open).record().seq();
    let known = (0..PUBLIC)
        .filter(|index| {
            let table = net.stack(*index).table();
            table.get(&id).is_some_and(|node| node.seq() == seq)
        })
        .count();
    // From now on only who was asked may answer.
    net.sim.set_nat_kind(nat, NatKind::PortRestricted);
    newcomers(&mut net, 15, 10 * MINUTE);
    let closed = named(net.stack(open).record());
    let ever = [open, hidden].map(|index| net.socket(index).records.iter().map(named).collect());
    Story {
        trace: net.sim.trace_hash(),
        alone,
        votes,
        visited,
        contacts,
        met,
        known,
        closed,
        ever,
        second_votes: net.stack(hidden).counters().votes,
    }
}

#[test]
fn a_node_behind_a_nat_advertises_where_it_is_found_for_as_long_as_it_is() {
    let story = twice(play);
    println!("{PUBLIC} public nodes, {LIARS} of ten lying: {story:#?}");

    assert!(
        story.votes >= 20 && story.second_votes >= 20,
        "they were told: {story:?}"
    );
    assert_eq!(story.alone, None, "nobody has come yet");
    let place = story.visited.expect("it advertises an address");
    assert_eq!(place.ip(), std::net::IpAddr::from(OPEN));
    assert!(
        story.known >= PUBLIC / 2,
        "others have the record: {story:?}"
    );
    assert_eq!(story.closed, None, "nobody came any more: {story:?}");
    let [open, hidden] = &story.ever;
    assert!(
        open.iter().flatten().all(|named| *named == place),
        "never anything else: {story:?}"
    );
    assert!(
        hidden.iter().all(Option::is_none),
        "never reachable: {story:?}"
    );
}
