//! Properties that hold for any sequence of events, and the machine contract.

use std::time::Duration;

use proptest::prelude::*;
use tercet_machine::check::{self, Step, contract};
use tercet_rlpx::{Capability, DisconnectReason};

use super::world::{World, config, core, far, key, lan, node};
use crate::core::{ConnId, ServerInput};
use crate::dial::Known;
use crate::event::{DialError, DropReason};
use crate::peers::penalty::Rule;

fn inputs() -> impl Strategy<Value = ServerInput> {
    let conn = || (1u64..30).prop_map(ConnId);
    let n = || 0u16..12;
    prop_oneof![
        (conn(), n()).prop_map(|(conn, n)| ServerInput::Incoming { conn, addr: lan(n) }),
        (conn(), n()).prop_map(|(conn, n)| ServerInput::Incoming { conn, addr: far(n) }),
        (conn(), n()).prop_map(|(conn, n)| ServerInput::Authenticated {
            conn,
            key: key(n).public_key(),
            addr: far(n),
        }),
        (conn(), any::<bool>()).prop_map(|(conn, useful)| ServerInput::Greeted {
            conn,
            client_id: String::new(),
            capabilities: vec![Capability::new(if useful { "q" } else { "r" }, 1).unwrap()],
        }),
        (conn(), any::<bool>()).prop_map(|(conn, late)| ServerInput::SetupFailed {
            conn,
            error: if late {
                DialError::SetupTimeout
            } else {
                DialError::UnexpectedIdentity
            },
        }),
        conn().prop_map(ServerInput::RefusalDone),
        (conn(), any::<bool>()).prop_map(|(conn, bad)| ServerInput::PeerEnded {
            conn,
            reason: DropReason::Remote(DisconnectReason::TooManyPeers),
            rule: bad.then_some(Rule::UnknownMessage),
        }),
        n().prop_map(|n| ServerInput::Candidate(node(n))),
        (n(), any::<bool>()).prop_map(|(n, found)| ServerInput::Resolved {
            id: key(n).node_id(),
            found: found.then(|| node(n)),
        }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step<ServerInput>>> {
    let step = prop_oneof![
        8 => inputs().prop_map(Step::Input),
        1 => (0u64..100_000).prop_map(|ms| Step::Advance(Duration::from_millis(ms))),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_machine_keeps_the_contract_under_any_inputs(steps in steps()) {
        let make = || {
            let mut config = config();
            config.limits.max_pending = 5;
            let mut core = core(config);
            for n in [1, 2] {
                let address = tercet_enode::NodeAddress::Enode(node(n).enode_url());
                core.add_static(check::START, address).unwrap();
            }
            core
        };
        // Two starts of static nodes, or two events for one input, at most a few.
        let limits = check::Limits { queued: 16, ..check::Limits::default() };
        contract(make, &steps, limits).unwrap();
    }

    /// Peers come and go by either way, each node by one way only, so that no
    /// connection inherits another's slot.
    #[test]
    fn slots_are_never_exceeded(
        max_peers in 0usize..12,
        moves in prop::collection::vec((0u8..6, any::<prop::sample::Index>()), 0..150),
    ) {
        let mut world = World::new(|config| {
            config.limits.max_peers = max_peers;
            config.limits.max_pending = 5;
        });
        let limits = world.core.config.limits.clone();
        let (mut next, mut open) = (1u16, Vec::new());
        for (action, index) in moves {
            next += 1;
            match action {
                0 => open.extend(world.incoming(lan(next)).ok().map(|conn| (conn, next))),
                1 => open.extend(world.candidate(next).map(|task| (task.conn, next))),
                2 => { world.advance(Duration::from_millis(700)); }
                _ if open.is_empty() => {}
                3 => {
                    let (conn, n) = *index.get(&open);
                    world.authenticates(conn, n);
                }
                4 => world.greets(index.get(&open).0, "q"),
                _ => {
                    let (conn, _) = open.swap_remove(index.index(open.len()));
                    world.ends(conn, DropReason::Closed, None);
                    world.fails(conn, DialError::SetupTimeout);
                    world.input(ServerInput::RefusalDone(conn));
                }
            }
            let conns = &world.core.conns;
            prop_assert!(conns.peers() <= max_peers);
            prop_assert!(conns.inbound_peers() <= limits.max_inbound());
            prop_assert!(conns.dialed() <= limits.max_dialed());
            prop_assert!(conns.active() <= limits.max_pending);
            prop_assert!(conns.inbound_setups() <= limits.max_pending);
        }
    }
}
