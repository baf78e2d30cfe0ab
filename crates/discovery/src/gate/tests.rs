//! What is let in, address by address.

use std::net::IpAddr;

use tercet_enode::NodeId;
use tercet_machine::check::START;

use super::*;
use crate::policy::Families;

fn gate(netrestrict: Option<&str>) -> Gate {
    let nets = netrestrict.map(|net| vec![net.parse().unwrap()]);
    let policy = Policy::new(NodeId::new([1; 32]), nets.as_deref(), Families::BOTH);
    Gate::new(policy, &mut MachineRng::from_seed([1; 32]))
}

fn at(ip: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(ip.into(), 30303)
}

/// Sends `count` datagrams; how many were let in.
fn passed(gate: &mut Gate, now: Now, count: u32, from: impl Fn(u32) -> SocketAddr) -> u32 {
    (0..count)
        .map(|n| u32::from(gate.admit(now, from(n)).is_ok()))
        .sum()
}

fn in_one_network(n: u32) -> SocketAddr {
    let [.., last] = n.to_be_bytes();
    at([20, 0, 0, last])
}

#[test]
fn a_network_has_its_burst_and_then_its_rate() {
    let mut gate = gate(None);
    let sent = 2 * SOURCE_BURST;
    assert_eq!(passed(&mut gate, START, sent, in_one_network), SOURCE_BURST);
    let later = START.after(Duration::from_secs(2));
    assert_eq!(
        passed(&mut gate, later, sent, in_one_network),
        2 * SOURCE_RATE
    );
    // Another network has its own, and this machine's neighbours have no limit.
    assert_eq!(gate.admit(later, at([20, 0, 1, 1])), Ok(()));
    for near in [at([127, 0, 0, 1]), at([192, 168, 1, 1])] {
        assert_eq!(passed(&mut gate, later, sent, |_| near), sent);
    }
}

#[test]
fn a_flood_in_its_network_takes_nothing_from_an_address_that_was_asked() {
    let mut gate = gate(None);
    let (asked, other) = (at([20, 0, 0, 7]), at([20, 0, 0, 8]));
    gate.on_asked(START, asked);
    passed(&mut gate, START, 2 * SOURCE_BURST, in_one_network);
    assert_eq!(gate.admit(START, other), Err(Refused::Rate));
    // The flood itself held one datagram in its name; the rest of its own allowance is there.
    let left = passed(&mut gate, START, 2 * ASKED_BURST, |_| asked);
    assert!((ASKED_BURST - 2..ASKED_BURST).contains(&left), "{left}");
    assert_eq!(gate.admit(START, asked), Err(Refused::Rate));
    // Another port of the host is another address.
    let port = SocketAddr::new(asked.ip(), 30304);
    assert_eq!(gate.admit(START, port), Err(Refused::Rate));
}

#[test]
fn an_allowance_ends_and_is_renewed_by_asking_again() {
    let mut gate = gate(None);
    let asked = at([20, 0, 0, 7]);
    let just_before = START.after(ASKED_LIFETIME - Duration::from_millis(1));
    gate.on_asked(START, asked);
    passed(&mut gate, just_before, 2 * SOURCE_BURST, in_one_network);
    assert_eq!(gate.admit(just_before, asked), Ok(()));
    let end = START.after(ASKED_LIFETIME);
    passed(&mut gate, end, 2 * SOURCE_BURST, in_one_network);
    assert_eq!(gate.admit(end, asked), Err(Refused::Rate));
    gate.on_asked(end, asked);
    assert_eq!(gate.admit(end, asked), Ok(()));
}

#[test]
fn addresses_asked_long_ago_are_forgotten() {
    let mut gate = gate(None);
    for n in 0..100 {
        gate.on_asked(START, at([20, 0, n, 7]));
    }
    assert_eq!(gate.asked.len(), 100);
    gate.on_asked(START.after(ASKED_LIFETIME), at([21, 0, 0, 7]));
    assert_eq!(gate.asked.len(), 1);
}

#[test]
fn the_addresses_asked_are_bounded() {
    let mut gate = gate(None);
    let host = |n: usize| {
        let [.., a, b, c] = n.to_be_bytes();
        at([20 + a, b, c, 1])
    };
    for n in 0..=MAX_ASKED {
        gate.on_asked(START, host(n));
    }
    assert_eq!(gate.asked.len(), MAX_ASKED);
    assert!(!gate.is_awaited(START.mono, host(0)));
    assert!(gate.is_awaited(START.mono, host(1)));
}

#[test]
fn a_site_counts_as_few_of_its_networks() {
    let mut gate = gate(None);
    let network = |site: u16, n: u32| {
        let [.., high, low] = n.to_be_bytes();
        let network = u16::from_be_bytes([high, low]);
        at([0x2a00, 1, site, network, 0, 0, 0, 1])
    };
    // One /64 is limited as a /24 is.
    let one = passed(&mut gate, START, 2 * SOURCE_BURST, |_| network(1, 0));
    assert_eq!(one, SOURCE_BURST);
    // Each of them from a /64 of its own.
    let sent = 2 * SITE * SOURCE_BURST;
    let many = passed(&mut gate, START, sent, |n| network(2, n));
    assert_eq!(many, SITE * SOURCE_BURST);
    // What was refused took no place.
    assert!(gate.networks.len() as u32 <= SITE * SOURCE_BURST + 1);
    assert_eq!(gate.admit(START, network(3, 0)), Ok(()));
}

#[test]
fn outside_the_permitted_networks_nobody_is_let_in() {
    let mut gate = gate(Some("20.0.0.0/24"));
    assert_eq!(gate.admit(START, at([20, 0, 0, 1])), Ok(()));
    for outside in [at([20, 0, 1, 1]), at([127, 0, 0, 1])] {
        gate.on_asked(START, outside);
        assert_eq!(gate.admit(START, outside), Err(Refused::Restricted));
    }
}

/// A flood from so many networks that all places are taken: whoever comes new shares one allowance with the flood, whoever
/// was asked does not.
#[test]
fn a_flood_from_everywhere_takes_nothing_from_an_address_that_was_asked() {
    let mut gate = gate(None);
    let network = |n: u32| {
        let [_, a, b, c] = n.to_be_bytes();
        at([30 + a, b, c, 1])
    };
    let sources = MAX_SOURCES as u32 + 2 * SOURCE_BURST;
    let asked = at([20, 0, 0, 7]);
    gate.on_asked(START, asked);
    passed(&mut gate, START, sources, network);
    let newcomer = at([21, 0, 0, 1]);
    assert_eq!(gate.admit(START, newcomer), Err(Refused::Rate));
    assert_eq!(gate.admit(START, asked), Ok(()));
}
