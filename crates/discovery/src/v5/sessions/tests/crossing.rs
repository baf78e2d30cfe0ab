//! Handshakes from both sides at once, in any order, with loss and repetition: afterwards, both can talk.

use super::*;
use proptest::collection::vec;
use proptest::prelude::{any, proptest};

/// What the wire does next.
#[derive(Debug, Clone)]
enum Turn {
    /// One node asks another.
    Ask(u8, u8),
    /// Some datagram arrives.
    Deliver(u8),
    /// It arrives and will arrive again.
    Repeat(u8),
    /// It is lost.
    Lose(u8),
    /// Time passes, in tens of milliseconds.
    Wait(u8),
    /// A node starts anew.
    Restart(u8),
}

fn turn() -> impl Strategy<Value = Turn> {
    proptest::prop_oneof![
        4 => (any::<u8>(), any::<u8>()).prop_map(|(from, to)| Turn::Ask(from, to)),
        10 => any::<u8>().prop_map(Turn::Deliver),
        1 => any::<u8>().prop_map(Turn::Repeat),
        2 => any::<u8>().prop_map(Turn::Lose),
        1 => (0_u8..80).prop_map(Turn::Wait),
        1 => any::<u8>().prop_map(Turn::Restart),
    ]
}

fn take(wire: &mut Wire, which: u8) -> Option<Datagram> {
    let at = usize::from(which) % wire.flying.len().max(1);
    wire.flying.remove(at)
}

fn play(wire: &mut Wire, turns: &[Turn]) {
    let count = wire.nodes.len();
    for (id, turn) in (1000..).zip(turns) {
        match *turn {
            Turn::Ask(from, to) => {
                let from = usize::from(from) % count;
                let to = (from + 1 + usize::from(to) % (count - 1)) % count;
                wire.request(from, to, ping(id));
            }
            Turn::Deliver(which) => {
                if let Some(datagram) = take(wire, which) {
                    wire.deliver(&datagram);
                }
            }
            Turn::Repeat(which) => {
                if let Some(datagram) = take(wire, which) {
                    wire.deliver(&datagram);
                    wire.flying.push_back(datagram);
                }
            }
            Turn::Lose(which) => drop(take(wire, which)),
            Turn::Wait(tens) => wire.wait(Duration::from_millis(10 * u64::from(tens))),
            Turn::Restart(which) => {
                let at = usize::from(which) % count;
                wire.nodes[at].machine = machine(at as u8);
            }
        }
    }
}

/// Once the wire is good again and what was left half done is over, every first request gets through, in as many packets as a
/// handshake has.
fn talks_again(wire: &mut Wire) {
    wire.run();
    wire.wait(REQUEST_LIFETIME);
    wire.run();
    wire.wait(REQUEST_LIFETIME.max(CHALLENGE_LIFETIME));
    for (from, to) in pairs(wire) {
        let (before, id) = (wire.sent, (from * 10 + to) as u64);
        wire.request(from, to, ping(id));
        wire.run();
        assert!(wire.pongs(from).contains(&id), "{from} to {to}");
        assert!(wire.sent - before <= 4, "{} packets", wire.sent - before);
    }
    for node in &wire.nodes {
        assert_eq!(node.machine.queued(), 0);
    }
}

/// What a requester waits for a response; see [`REPLY_TIMEOUT`](crate::v5::REPLY_TIMEOUT).
const RETRY: Duration = crate::v5::REPLY_TIMEOUT;

/// From the moment the wire is good on, with everything half done as it is and late packets still arriving: who asks again when
/// there is no response gets one, as soon as a challenge from before is over.
fn talks_at_once(wire: &mut Wire) {
    for (from, to) in pairs(wire) {
        let ids = (from * 10 + to) as u64 * 10..;
        let answered = ids.take(3).any(|id| {
            wire.request(from, to, ping(id));
            wire.run();
            wire.wait(RETRY);
            wire.run();
            wire.pongs(from).contains(&id)
        });
        assert!(answered, "{from} to {to}");
    }
}

fn pairs(wire: &Wire) -> Vec<(usize, usize)> {
    let count = wire.nodes.len();
    let all = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
    all.filter(|(from, to)| from != to).collect()
}

proptest! {
    #[test]
    fn two_nodes_talk_after_any_disorder(turns in vec(turn(), 0..60)) {
        for good in [talks_again, talks_at_once] {
            let mut wire = Wire::new(2);
            play(&mut wire, &turns);
            good(&mut wire);
        }
    }

    #[test]
    fn three_nodes_talk_after_any_disorder(turns in vec(turn(), 0..90)) {
        for good in [talks_again, talks_at_once] {
            let mut wire = Wire::new(3);
            play(&mut wire, &turns);
            good(&mut wire);
        }
    }
}

#[test]
fn a_response_is_written_under_keys_the_requester_has() {
    let mut wire = Wire::new(2);
    wire.request(0, 1, ping(1));
    wire.run();
    // B has begun another handshake, which A never saw, as it was lost: B holds keys A has not.
    let a = PeerKey {
        id: wire.nodes[0].key.node_id(),
        addr: wire.nodes[0].addr,
    };
    let sessions = &mut wire.nodes[1].machine.sessions;
    sessions.get_mut(&a).unwrap().wear(crate::v5::REKEY_AFTER);
    wire.request(1, 0, ping(2));
    for _ in 0..2 {
        let datagram = wire.next();
        wire.deliver(&datagram);
    }
    wire.flying.clear();
    for id in 3..6 {
        let before = wire.sent;
        wire.request(0, 1, ping(id));
        wire.run();
        assert!(wire.pongs(0).contains(&id));
        assert_eq!(wire.sent - before, 2);
        wire.wait(REQUEST_LIFETIME);
    }
    // What B asks makes the keys the same again.
    wire.request(1, 0, ping(6));
    wire.run();
    assert_eq!(wire.pongs(1), [6]);
    let before = wire.sent;
    wire.request(0, 1, ping(7));
    wire.request(1, 0, ping(8));
    wire.run();
    assert_eq!(wire.sent - before, 4);
}

/// Every order in which the datagrams of two crossing requests can arrive, without loss: both are answered.
fn every_order(choices: &mut Vec<usize>, count: &mut usize) {
    let mut wire = Wire::new(2);
    wire.request(0, 1, ping(1));
    wire.request(1, 0, ping(2));
    for &choice in choices.iter() {
        let datagram = wire.flying.remove(choice).unwrap();
        wire.deliver(&datagram);
    }
    if wire.flying.is_empty() {
        *count += 1;
        assert_eq!(
            (wire.pongs(0), wire.pongs(1)),
            (vec![1], vec![2]),
            "{choices:?}"
        );
        // And whatever keys were chosen, they do for more, in few packets.
        let before = wire.sent;
        for id in 3..6 {
            wire.request(0, 1, ping(id));
            wire.request(1, 0, ping(id));
            wire.run();
        }
        assert_eq!(wire.sent - before, 12, "{choices:?}");
        assert_eq!(
            (wire.pongs(0), wire.pongs(1)),
            (vec![1, 3, 4, 5], vec![2, 3, 4, 5])
        );
        return;
    }
    for choice in 0..wire.flying.len() {
        choices.push(choice);
        every_order(choices, count);
        choices.pop();
    }
}

#[test]
fn crossing_handshakes_end_well_in_every_order() {
    let mut count = 0;
    every_order(&mut Vec::new(), &mut count);
    assert!(count > 20, "{count} orders");
}
