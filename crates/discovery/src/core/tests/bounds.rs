//! Every bound is reached once, the machine's contract is checked, and the documented numbers are the ones in the code.

use tercet_machine::Subnet;
use tercet_machine::check::{self, Limits, Step};

use super::*;
use crate::gate::SOURCE_BURST;
use crate::v4::{FindNode, Neighbor, Neighbors};
use crate::v4::{MAX_CONTACTS, MAX_INBOUND_CONTACTS, MAX_JOBS, MAX_WAITERS};

#[test]
fn pings_from_strangers_leave_room_for_this_nodes_own_work() {
    let mut bench = Bench::new(config(0));
    for n in 1..=MAX_INBOUND_CONTACTS as u64 + 10 {
        bench.ping_from(n, address(n), None);
    }
    assert_eq!(bench.core.contacts(), MAX_INBOUND_CONTACTS);
    assert_eq!(bench.core.counters().v4.dropped_full, 10);
    for n in 1000..1000 + MAX_CONTACTS as u64 {
        bench.command(n, Command::Ping(node(n), None));
    }
    assert_eq!(bench.core.contacts(), MAX_CONTACTS);
    let busy = bench
        .done
        .iter()
        .filter(|(_, result)| matches!(result, Err(RequestError::Busy)))
        .count();
    assert_eq!(busy, MAX_INBOUND_CONTACTS);
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.core.contacts(), 0, "and everything is given back");
}

#[test]
fn waiters_and_jobs_at_one_peer_are_bounded() {
    let mut bench = Bench::new(config(0));
    for op in 0..=MAX_WAITERS as u64 {
        bench.command(op, Command::Ping(node(1), None));
    }
    assert!(
        matches!(bench.done[..], [(OpId(op), Err(RequestError::Busy))] if op == MAX_WAITERS as u64)
    );
    bench.done.clear();
    for op in 100..=100 + MAX_JOBS as u64 {
        bench.command(op, Command::RequestEnr(node(2), None));
    }
    assert!(
        matches!(bench.done[..], [(OpId(op), Err(RequestError::Busy))] if op == 100 + MAX_JOBS as u64)
    );
}

#[test]
fn lookups_resolves_and_waiters_for_a_refresh_are_bounded() {
    let mut bench = Bench::new(config(0));
    bench.bond(1);
    for op in 0..=MAX_LOOKUPS as u64 {
        bench.command(op, Command::LookupRandom);
    }
    assert!(
        matches!(bench.done.last(), Some((OpId(op), Err(RequestError::Busy))) if *op == MAX_LOOKUPS as u64)
    );

    let mut bench = Bench::new(config(0));
    for op in 0..=MAX_LOOKUPS as u64 {
        bench.command(op, Command::Resolve(node(op + 1)));
    }
    assert!(
        matches!(bench.done[..], [(OpId(op), Err(RequestError::Busy))] if op == MAX_LOOKUPS as u64)
    );

    let mut core_config = config(0);
    core_config.bootnodes = vec![node(1)];
    let mut bench = Bench::unborn(core_config);
    for op in 0..=64 {
        bench.command(op, Command::Refresh);
    }
    assert!(matches!(
        bench.done[..],
        [(OpId(64), Err(RequestError::Busy))]
    ));
    bench.wait(Duration::from_secs(2));
    assert_eq!(bench.done.len(), 65);
}

/// What the gate knows of who was asked it knows from what goes out, whichever part sends it.
#[test]
fn whoever_is_asked_is_heard_through_a_flood_of_its_network() {
    let mut bench = Bench::new(config(0));
    let in_network = |n: u32| SocketAddr::from(([20, 0, 1, (n % 200) as u8 + 10], 30303));
    let asked = address(0);
    assert_eq!(Subnet::of(asked.ip()), Subnet::of(in_network(0).ip()));
    for n in 0..2 * SOURCE_BURST {
        let _verdict = bench.core.admit(bench.now, in_network(n));
    }
    assert_eq!(bench.core.admit(bench.now, asked), Err(Refused::Rate));
    let refused = bench.core.counters().refused_rate;
    assert_eq!(refused, u64::from(SOURCE_BURST) + 1);
    bench.command(1, Command::Ping(node_at(1, asked), None));
    assert_eq!(bench.core.admit(bench.now, asked), Ok(()));
}

#[test]
fn to_answer_is_not_to_ask() {
    let both = CoreConfig {
        protocols: Protocols::ALL,
        ..config(0)
    };
    let mut bench = Bench::new(both);
    let stranger = SocketAddr::from(([20, 0, 1, 9], 30303));
    let ping = v5::Request::Ping { enr_seq: 1 };
    bench.input(CoreInput::V5Message {
        from: stranger,
        id: public(1).node_id(),
        message: v5::Message::Request(v5::RequestId::default(), ping),
    });
    assert!(matches!(bench.said[..], [CoreOutput::V5Send { to, .. }] if to == stranger));
    for n in 10..210 {
        let from = SocketAddr::from(([20, 0, 1, n], 30303));
        assert_eq!(bench.core.admit(bench.now, from), Ok(()));
    }
    assert_eq!(bench.core.admit(bench.now, stranger), Err(Refused::Rate));
}

/// A script in which a small crowd does everything the protocol knows, rightly and wrongly.
fn script() -> Vec<Step<CoreInput>> {
    let mut steps = vec![
        Step::Advance(Duration::from_millis(1)),
        Step::Input(CoreInput::Seeds(vec![])),
    ];
    let expiration = START.unix.as_secs() + 10_000;
    let packet = |n: u64, message| {
        Step::Input(CoreInput::V4Packet {
            from: address(n),
            key: public(n),
            hash: hash(n),
            message,
        })
    };
    for n in 1..30 {
        let ping = Ping {
            from: WireEndpoint::default(),
            to: WireEndpoint::default(),
            expiration,
            enr_seq: Some(n),
        };
        steps.push(packet(n, Message::Ping(ping)));
        let pong = Pong {
            to: WireEndpoint::default(),
            ping_hash: hash(n),
            expiration,
            enr_seq: None,
        };
        steps.push(packet(n, Message::Pong(pong)));
        steps.push(packet(
            n,
            Message::FindNode(FindNode {
                target: WireTarget::from(public(n)),
                expiration,
            }),
        ));
        let nodes = (n..n + 12).map(|n| Neighbor::from(&node(n))).collect();
        steps.push(packet(
            n,
            Message::Neighbors(Neighbors { nodes, expiration }),
        ));
        let command = match n % 5 {
            0 => Command::Ping(node(n), None),
            1 => Command::RequestEnr(node(n), None),
            2 => Command::LookupRandom,
            3 => Command::Resolve(node(n)),
            _ => Command::Refresh,
        };
        steps.push(Step::Input(CoreInput::Command {
            op: OpId(n),
            command,
        }));
        steps.push(Step::Advance(Duration::from_millis(n * n * 7)));
    }
    steps.push(Step::Advance(Duration::from_secs(3600)));
    steps.push(Step::Input(CoreInput::Close));
    steps
}

#[test]
fn the_machine_keeps_its_contract() {
    let report = check::contract(
        || DiscoveryCore::new(config(0), record_at(0, address(0), 1), check::START),
        &script(),
        Limits {
            queued: 128,
            ..Limits::default()
        },
    );
    let report = report.unwrap_or_else(|violation| panic!("{violation}"));
    assert!(report.outputs > 100, "{report:?}");
}
