//! The server's machine in virtual time.

mod dialing;
mod properties;
mod simultaneous;
mod world;

use std::net::SocketAddr;
use std::time::Duration;

use tercet_machine::{Machine, MonoTime};
use tercet_rlpx::DisconnectReason;

use self::world::{World, id, lan, public};
use super::*;

#[test]
fn strangers_are_closed_at_the_door_in_this_order() {
    let mut world = World::new(|config| {
        config.netrestrict = Netrestrict::new(&["8.0.0.0/8".parse().unwrap()]);
        config.limits.pending_per_subnet = 1;
    });
    assert_eq!(world.incoming(public(1, 1)), Ok(ConnId(1)));
    assert_eq!(world.incoming(lan(1)), Err(RefuseReason::NotAllowed));
    assert_eq!(
        world.incoming(public(1, 2)),
        Err(RefuseReason::PendingPerSubnet)
    );
    world.fails(ConnId(1), DialError::Handshake);
    assert_eq!(world.incoming(public(1, 2)), Err(RefuseReason::Throttled));
    world.advance(Duration::from_secs(30));
    assert!(world.incoming(public(1, 2)).is_ok());
}

#[test]
fn a_wide_network_cannot_take_all_places_for_set_ups() {
    // Each from a /64 of its own, so that the throttle lets it through, but all
    // from one /48.
    let mut world = World::new(|_| {});
    let from = |n: u16| -> SocketAddr { format!("[2a00:1:2:{n:x}::1]:30303").parse().unwrap() };
    for n in 0..4 {
        assert!(world.incoming(from(n)).is_ok());
    }
    assert_eq!(world.incoming(from(4)), Err(RefuseReason::PendingPerSubnet));
    assert!(world.incoming(public(1, 1)).is_ok());
}

#[test]
fn pending_set_ups_are_bounded_and_the_oldest_gives_way_once_it_stalls() {
    let mut world = World::new(|config| config.limits.max_pending = 3);
    for n in 0..3 {
        assert!(world.incoming(lan(n)).is_ok());
        world.advance(Duration::from_millis(1));
    }
    let free_at = world.core.accepts_from().unwrap();
    assert_eq!(free_at, MonoTime::ZERO + STALL);
    assert_eq!(
        world.incoming(lan(3)),
        Err(RefuseReason::Stalled),
        "not before it stalls"
    );
    world.advance(free_at - world.now.mono);
    let conn = world.incoming(lan(3)).unwrap();
    assert!(world.outputs.contains(&ServerOutput::Close(ConnId(1))));
    assert!(
        world.core.accepts_from().unwrap() > world.now.mono,
        "full again"
    );
    world.fails(conn, DialError::Handshake);
    assert_eq!(world.core.accepts_from(), Some(MonoTime::ZERO));
}

#[test]
fn refusals_before_and_after_hello_carry_their_reason() {
    let mut world = World::new(|config| config.limits.max_peers = 2);
    let first = world.inbound_peer(1).unwrap();
    assert_eq!(world.inbound_peer(2), Err(DisconnectReason::TooManyPeers));
    assert_eq!(
        world.inbound_peer(1),
        Err(DisconnectReason::AlreadyConnected)
    );
    world.ends(first, DropReason::Closed, None);
    assert_eq!(
        world.inbound_with(3, "other"),
        Err(DisconnectReason::UselessPeer)
    );
    assert_eq!(
        world.inbound_peer(0),
        Err(DisconnectReason::ConnectedToSelf)
    );
    assert!(world.inbound_peer(4).is_ok());
}

#[test]
fn the_second_checkpoint_repeats_the_first() {
    let mut world = World::new(|config| config.limits.max_peers = 2);
    let slow = world.incoming(lan(1)).unwrap();
    world.authenticates(slow, 1);
    assert!(world.outputs.contains(&ServerOutput::Hello(slow)));
    world.inbound_peer(2).unwrap();
    world.greets(slow, "q");
    let reason = DisconnectReason::TooManyPeers;
    assert!(
        world
            .outputs
            .contains(&ServerOutput::Reject { conn: slow, reason })
    );
}

#[test]
fn trusted_and_static_nodes_pass_limits_and_bans() {
    let mut world = World::new(|config| config.limits.max_peers = 0);
    assert_eq!(world.inbound_peer(1), Err(DisconnectReason::TooManyPeers));
    world.core.add_trusted(id(1)).unwrap();
    let conn = world.inbound_peer(1).unwrap();
    world.ends(conn, DropReason::Closed, Some(Rule::UnknownMessage));
    assert!(world.inbound_peer(1).is_ok(), "the user vouches for it");
    assert!(world.core.peers()[0].trusted);
    world.core.remove_trusted(&id(1));
    assert!(!world.core.peers()[0].trusted);
    world.add_static(2);
    assert!(world.inbound_peer(2).is_ok());
    assert!(world.core.peers()[1].static_node);
}

#[test]
fn a_breach_is_banned_for_as_long_as_the_table_says() {
    let mut world = World::new(|_| {});
    let conn = world.inbound_peer(1).unwrap();
    let rule = Rule::UnknownMessage;
    world.ends(conn, DropReason::Violation(rule), Some(rule));
    let duration = rule.penalty().ban.unwrap();
    let banned = ServerEvent::Banned {
        id: id(1),
        rule,
        duration,
    };
    assert!(world.outputs.contains(&ServerOutput::Event(banned)));
    assert_eq!(world.inbound_peer(1), Err(DisconnectReason::UselessPeer));
    assert_eq!(world.candidate(1), None, "nor is it dialed");
    world.advance(duration - Duration::from_millis(1));
    assert_eq!(world.inbound_peer(1), Err(DisconnectReason::UselessPeer));
    world.advance(Duration::from_millis(1));
    assert!(world.inbound_peer(1).is_ok());
}

#[test]
fn shutting_down_lets_everybody_go_and_admits_nobody() {
    let mut world = World::new(|_| {});
    let peer = world.inbound_peer(1).unwrap();
    let greeting = world.incoming(lan(2)).unwrap();
    world.authenticates(greeting, 2);
    let raw = world.incoming(lan(3)).unwrap();
    let dial = world.candidate(4).unwrap();
    world.core.shutdown();
    world.drain();
    let quitting = DisconnectReason::Quitting;
    assert!(world.outputs.contains(&ServerOutput::Disconnect {
        conn: peer,
        reason: quitting
    }));
    assert!(world.outputs.contains(&ServerOutput::Close(raw)));
    assert!(world.outputs.contains(&ServerOutput::Close(dial.conn)));
    assert_eq!(world.core.accepts_from(), None);
    assert_eq!(world.core.wanted_candidates(), 0);
    assert_eq!(world.core.deadline(), None);
    assert_eq!(world.incoming(lan(5)), Err(RefuseReason::ShuttingDown));
    world.greets(greeting, "q");
    let told = ServerOutput::Reject {
        conn: greeting,
        reason: quitting,
    };
    assert!(world.outputs.contains(&told));
    world.input(ServerInput::RefusalDone(greeting));
    world.ends(peer, DropReason::Local(quitting), None);
    assert!(world.core.is_empty());
}

#[test]
fn what_a_remote_says_of_itself_is_cut() {
    let mut world = World::new(|_| {});
    let conn = world.incoming(lan(1)).unwrap();
    world.authenticates(conn, 1);
    let capabilities: Vec<_> = (0..500).map(|n| Capability::new("q", n).unwrap()).collect();
    let client_id = "é".repeat(1000);
    world.input(ServerInput::Greeted {
        conn,
        client_id,
        capabilities,
    });
    let peer = &world.core.peers()[0];
    assert_eq!(peer.client_id, "é".repeat(128));
    assert_eq!(peer.capabilities.len(), 64);
    assert_eq!(peer.node.endpoint().tcp, 0, "its port is not one to dial");
}

#[test]
fn claiming_to_be_somebody_keeps_him_neither_out_nor_from_being_dialed() {
    let mut world = World::new(|_| {});
    // An impostor knows the key's public half only: he gets no further.
    let impostor = world.incoming(lan(9)).unwrap();
    world.authenticates(impostor, 1);
    assert!(world.outputs.contains(&ServerOutput::Hello(impostor)));
    assert!(world.candidate(1).is_some());
    world.inbound_peer(1).unwrap();
    world.fails(impostor, DialError::Hello);
    assert_eq!(world.core.peers().len(), 1);
    assert!(
        !world
            .outputs
            .iter()
            .any(|output| matches!(output, ServerOutput::Event(ServerEvent::Banned { .. })))
    );
}

#[test]
fn the_named_sets_are_bounded() {
    let mut world = World::new(|config| config.limits.max_pending = 1);
    for n in 1..=MAX_NAMED_NODES as u16 {
        world.add_static(n);
        world.core.add_trusted(id(n)).unwrap();
    }
    let one_more = NodeAddress::Enode(world::node(5000).enode_url());
    let full = Err(CommandError::Full);
    assert_eq!(world.core.add_static(world.now, one_more), full);
    assert_eq!(world.core.add_trusted(id(5000)), full);
    let again = NodeAddress::Enode(world::node(1).enode_url());
    assert_eq!(
        world.core.add_static(world.now, again),
        Ok(()),
        "named already"
    );
}
