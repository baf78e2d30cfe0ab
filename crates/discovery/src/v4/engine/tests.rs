//! What an engine remembers has its bounds. How it behaves is tested through the core, which it was made for.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tercet_enode::NodeId;
use tercet_machine::MachineRng;
use tercet_machine::check::START as NOW;

use super::late::{Late, LateAnswers, MAX_LATE};
use crate::engine::{Asker, OpId};
use crate::v4::bond::{Bonds, PeerKey};
use crate::v4::{BOND_LIFETIME, MAX_BONDS, MAX_HEARD};

fn ip(n: u64) -> IpAddr {
    let [.., a, b, c] = n.to_be_bytes();
    Ipv4Addr::new(20 + a, b, c, 7).into()
}

fn seeded(n: u64) -> MachineRng {
    let mut seed = [2; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    MachineRng::from_seed(seed)
}

fn peer(n: u64) -> PeerKey {
    let id = NodeId::random(&mut seeded(n));
    PeerKey { id, ip: ip(n) }
}

#[test]
fn bonds_are_bounded_and_forged_pings_do_not_push_out_proofs() {
    let mut rng = MachineRng::from_seed([1; 32]);
    let mut bonds = Bonds::new(&mut rng);
    let now = NOW.unix;
    bonds.on_pong(peer(0), now);
    for n in 1..=2 * MAX_HEARD as u64 {
        bonds.on_ping(peer(n), now);
    }
    assert!(bonds.is_proven(&peer(0), now));
    assert!(
        !bonds.knows_us(&peer(1), now),
        "the oldest ping is forgotten"
    );
    assert!(bonds.knows_us(&peer(2 * MAX_HEARD as u64), now));
    for n in 1..=MAX_BONDS as u64 {
        bonds.on_pong(peer(n), now);
    }
    assert!(!bonds.is_proven(&peer(0), now));
    assert!(bonds.is_proven(&peer(1), now));
    assert!(!bonds.is_proven(&peer(1), now + BOND_LIFETIME));
    assert!(
        !bonds.is_proven(&peer(1), now - Duration::from_secs(1)),
        "a proof from the future is none"
    );
}

#[test]
fn unfinished_answers_are_bounded_and_the_oldest_gives_way() {
    let asker = Asker::Op(OpId(1));
    let mut late = LateAnswers::default();
    for n in 0..=MAX_LATE as u64 {
        late.push(
            NOW.mono,
            Late {
                peer: peer(n),
                asker,
                room: 4,
                deadline: NOW.mono + Duration::from_millis(500),
            },
        );
    }
    assert_eq!(late.len(), MAX_LATE);
    assert_eq!(late.take(NOW.mono, &peer(0), 4).1, []);
    assert_eq!(late.take(NOW.mono, &peer(1), 9), (4, vec![asker]));
    assert_eq!(late.len(), MAX_LATE - 1);
}
