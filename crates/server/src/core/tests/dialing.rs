//! Dials in virtual time: slots, history, back-off that grows, static nodes.

use std::io::ErrorKind;
use std::time::Duration;

use tercet_enode::{EnodeUrl, NodeAddress};

use super::world::{World, far, id, key, node};
use crate::core::{Netrestrict, ServerInput, ServerOutput};
use crate::dial::{DialKind, DialTarget, MAX_CANDIDATE_RUN};
use crate::event::{DialError, DropReason, RefuseReason, ServerEvent};
use crate::limits::{Limits, Timeouts};

const REFUSED: DialError = DialError::Connect(ErrorKind::ConnectionRefused);

#[test]
fn the_default_slots_are_those_documented() {
    let limits = Limits::default();
    assert_eq!(
        (limits.max_peers, limits.dial_ratio, limits.max_pending),
        (50, 3, 50)
    );
    assert_eq!((limits.max_dialed(), limits.max_inbound()), (16, 34));
    let small = Limits {
        max_peers: 1,
        ..Limits::default()
    };
    assert_eq!((small.max_dialed(), small.max_inbound()), (1, 0));
    let none = Limits {
        dialing: false,
        ..Limits::default()
    };
    assert_eq!((none.max_dialed(), none.max_inbound()), (0, 50));
    assert_eq!(
        Limits {
            max_peers: 0,
            ..Limits::default()
        }
        .max_dialed(),
        0
    );
}

#[test]
fn candidates_fill_twice_the_free_slots_and_no_more() {
    let mut world = World::new(|_| {});
    assert_eq!(world.core.wanted_candidates(), 32);
    let tasks: Vec<_> = (1..=40).filter_map(|n| world.candidate(n)).collect();
    assert_eq!(tasks.len(), 32, "2 × 16");
    assert_eq!(world.core.wanted_candidates(), 0);
    let connected = tasks
        .iter()
        .filter(|task| world.connects(task).is_ok())
        .count();
    assert_eq!(connected, 16, "what came beyond the slots was refused");
    assert_eq!(world.core.wanted_candidates(), 0);
}

#[test]
fn pending_dials_are_bounded_whatever_the_slots() {
    let mut world = World::new(|config| {
        config.limits.max_peers = 3000;
        config.limits.max_pending = 7;
    });
    let started = (1..=40).filter(|n| world.candidate(*n).is_some()).count();
    assert_eq!(started, 7);
    for n in 100..140 {
        world.add_static(n);
        assert_eq!(world.dial(), None, "static dials wait for a place too");
    }
}

#[test]
fn a_candidate_that_fails_again_and_again_is_left_alone_for_longer_and_longer() {
    let mut world = World::new(|_| {});
    let mut task = world.candidate(1).unwrap();
    let mut waits = Vec::new();
    for _ in 0..9 {
        world.fails(task.conn, REFUSED);
        let began = world.now.mono;
        task = loop {
            world.advance(Duration::from_secs(1));
            if let Some(task) = world.candidate(1) {
                break task;
            }
        };
        waits.push((world.now.mono - began).as_secs());
    }
    assert_eq!(waits, [35, 70, 140, 280, 560, 1120, 2240, 3500, 3500]);
}

#[test]
fn a_connection_that_lasted_forgives_and_one_that_did_not_does_not() {
    let mut world = World::new(|_| {});
    let retry_after = |world: &World| {
        world.outputs.iter().find_map(|output| match output {
            ServerOutput::Event(ServerEvent::DialFailed { retry_after, .. }) => Some(*retry_after),
            _ => None,
        })
    };
    for expected in [35, 70, 140] {
        let task = world.candidate(1).unwrap();
        world.fails(task.conn, REFUSED);
        assert_eq!(retry_after(&world), Some(Duration::from_secs(expected)));
        world.advance(Duration::from_secs(expected));
    }
    let task = world.candidate(1).unwrap();
    world.connects(&task).unwrap();
    world.advance(Duration::from_secs(60));
    world.ends(task.conn, DropReason::Closed, None);
    world.advance(Duration::from_secs(35));
    let task = world.candidate(1).unwrap();
    world.fails(task.conn, REFUSED);
    assert_eq!(
        retry_after(&world),
        Some(Duration::from_secs(70)),
        "second in a row again"
    );
}

#[test]
fn every_dial_is_remembered_for_35_seconds_even_if_it_fails_at_once() {
    let mut world = World::new(|_| {});
    let task = world.candidate(1).unwrap();
    world.connects(&task).unwrap();
    world.ends(
        task.conn,
        DropReason::Local(tercet_rlpx::DisconnectReason::AlreadyConnected),
        None,
    );
    world.advance(Duration::from_millis(34_999));
    assert_eq!(world.candidate(1), None);
    world.advance(Duration::from_millis(1));
    assert!(world.candidate(1).is_some());
}

#[test]
fn nodes_that_cannot_or_need_not_be_dialed_are_not() {
    let mut world = World::new(|config| {
        config.netrestrict = Netrestrict::new(&["8.0.0.0/16".parse().unwrap()]);
    });
    assert_eq!(world.candidate(0), None, "ourselves");
    assert_eq!(world.candidate(0x0100), None, "outside the networks");
    world.input(ServerInput::Candidate(
        node(1).with_endpoint(tercet_enode::Endpoint::new(far(1).ip(), 30303, 0)),
    ));
    assert_eq!(world.dial(), None, "no TCP port");
    assert!(world.candidate(2).is_some());
    assert_eq!(world.candidate(2), None, "already dialing");
}

#[test]
fn a_network_with_nobody_new_is_not_asked_in_a_loop() {
    let mut world = World::new(|_| {});
    world.candidate(1).unwrap();
    for _ in 0..MAX_CANDIDATE_RUN {
        assert!(world.core.wanted_candidates() > 0);
        world.candidate(1);
    }
    assert_eq!(world.core.wanted_candidates(), 0);
    world.advance(Duration::from_secs(1));
    assert!(world.core.wanted_candidates() > 0);
}

#[test]
fn static_nodes_are_dialed_at_once_beyond_the_slots_and_again_after_a_drop() {
    let mut world = World::new(|config| config.limits.dialing = false);
    world.add_static(1);
    let task = world.dial().unwrap();
    assert_eq!(
        (task.kind, task.target.clone()),
        (DialKind::Static, DialTarget::Addr(far(1)))
    );
    world.connects(&task).unwrap();
    assert!(
        world.advance(Duration::from_secs(3600)).is_empty(),
        "connected: nothing to do"
    );
    let began = world.now.mono;
    world.ends(task.conn, DropReason::Closed, None);
    let (at, output) = world.advance(Duration::from_secs(60)).remove(0);
    assert!(matches!(output, ServerOutput::Dial(_)));
    // 35 s and up to a tenth more.
    let waited = at.mono - began;
    assert!((35.0..38.5).contains(&waited.as_secs_f64()), "{waited:?}");
    assert!(world.core.remove_static(&id(1)));
    assert!(!world.core.is_static(&id(1)));
}

#[test]
fn a_static_node_is_never_left_alone_for_more_than_some_minutes() {
    let mut world = World::new(|config| config.can_resolve = false);
    world.add_static(1);
    let mut task = world.dial().unwrap();
    for _ in 0..12 {
        let began = world.now.mono;
        world.fails(task.conn, REFUSED);
        let (at, output) = world.advance(Duration::from_secs(1000)).remove(0);
        let ServerOutput::Dial(next) = output else {
            panic!("{output:?}")
        };
        task = next;
        // 8 × 35 s and a tenth.
        assert!(at.mono - began <= Duration::from_secs(308));
        world.now = at;
    }
}

#[test]
fn questions_to_discovery_become_rarer_until_one_is_answered() {
    let mut world = World::new(|_| {});
    let url = EnodeUrl::without_host(key(1).public_key());
    world
        .core
        .add_static(world.now, NodeAddress::Enode(url))
        .unwrap();
    world.drain();
    let resolves =
        |output: &ServerOutput| matches!(output, ServerOutput::Resolve(task) if task.id() == id(1));
    assert!(world.outputs.iter().any(resolves));
    let mut waits = Vec::new();
    for _ in 0..8 {
        let began = world.now.mono;
        world.input(ServerInput::Resolved {
            id: id(1),
            found: None,
        });
        let seen = world.advance(Duration::from_secs(4000));
        let (at, _) = seen
            .into_iter()
            .find(|(_, output)| resolves(output))
            .unwrap();
        waits.push((at.mono - began).as_secs());
    }
    assert_eq!(waits, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
    world.input(ServerInput::Resolved {
        id: id(1),
        found: Some(node(1)),
    });
    assert_eq!(
        world.dial().map(|task| task.target),
        Some(DialTarget::Addr(far(1)))
    );
}

#[test]
fn a_static_node_that_moved_is_dialed_at_its_new_place_at_once() {
    let mut world = World::new(|_| {});
    world.add_static(1);
    let task = world.dial().unwrap();
    world.fails(task.conn, DialError::ConnectTimeout);
    assert!(
        world
            .outputs
            .iter()
            .any(|output| matches!(output, ServerOutput::Resolve(_)))
    );
    // The same place is no news.
    world.input(ServerInput::Resolved {
        id: id(1),
        found: Some(node(1)),
    });
    assert_eq!(world.dial(), None);
    let task = world
        .advance(Duration::from_secs(50))
        .into_iter()
        .find_map(|(_, output)| {
            if let ServerOutput::Dial(task) = output {
                Some(task)
            } else {
                None
            }
        });
    world.fails(task.unwrap().conn, DialError::ConnectTimeout);
    assert!(
        !world
            .outputs
            .iter()
            .any(|output| matches!(output, ServerOutput::Resolve(_))),
        "asked less than a minute ago"
    );
    let moved = node(1).with_endpoint(*node(9).endpoint());
    world.input(ServerInput::Resolved {
        id: id(1),
        found: Some(moved),
    });
    assert_eq!(
        world.dial().map(|task| task.target),
        Some(DialTarget::Addr(far(9)))
    );
}

#[test]
fn a_dial_gives_way_when_its_node_becomes_a_peer() {
    let mut world = World::new(|_| {});
    let task = world.candidate(1).unwrap();
    world.inbound_peer(1).unwrap();
    let closed = ServerOutput::Close(task.conn);
    assert!(world.outputs.contains(&closed));
    // Its result comes too late and changes nothing.
    world.input(ServerInput::Authenticated {
        conn: task.conn,
        key: task.key,
        addr: far(1),
    });
    assert!(world.outputs.is_empty());
    assert_eq!(world.core.peers().len(), 1);
}

#[test]
fn no_room_is_our_fault_and_costs_the_node_little() {
    let mut world = World::new(|config| config.limits.max_peers = 1);
    let (first, second) = (world.candidate(1).unwrap(), world.candidate(2).unwrap());
    world.connects(&first).unwrap();
    world.connects(&second).unwrap_err();
    let retry = Timeouts::default().redial;
    world.ends(first.conn, DropReason::Closed, None);
    world.advance(retry);
    assert!(world.candidate(2).is_some());
    assert_eq!(RefuseReason::TooManyPeers.to_string(), "too many peers");
}
