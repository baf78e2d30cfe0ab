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

/// How the datagrams of two crossing requests arrive.
#[derive(Clone, Copy, PartialEq)]
enum Arrival {
    /// In any order.
    Any,
    /// In any that one direction leaves to the other.
    NoneOvertaken,
    /// So, and the second node keeps only the keys of the last handshake it sent or received.
    OneSetOfKeys,
}

fn after(choices: &[usize], arrival: Arrival) -> Wire {
    let mut wire = Wire::new(2);
    let first = PeerKey {
        id: wire.nodes[0].key.node_id(),
        addr: wire.nodes[0].addr,
    };
    wire.request(0, 1, ping(1));
    wire.request(1, 0, ping(2));
    for &choice in choices {
        let datagram = wire.flying.remove(choice).unwrap();
        wire.deliver(&datagram);
        if arrival == Arrival::OneSetOfKeys
            && let Some(session) = wire.nodes[1].machine.sessions.get_mut(&first)
        {
            session.keep_latest();
        }
    }
    wire
}

fn every_order(arrival: Arrival, choices: &mut Vec<usize>, ends: &mut Vec<Wire>) {
    let wire = after(choices, arrival);
    if wire.flying.is_empty() {
        ends.push(wire);
        return;
    }
    for choice in 0..wire.flying.len() {
        let from = wire.flying[choice].from;
        let overtakes = wire.flying.range(..choice).any(|other| other.from == from);
        if !overtakes || arrival == Arrival::Any {
            choices.push(choice);
            every_order(arrival, choices, ends);
            choices.pop();
        }
    }
}

fn ends(arrival: Arrival) -> Vec<Wire> {
    let mut ends = Vec::new();
    every_order(arrival, &mut Vec::new(), &mut ends);
    assert!(ends.len() > 10, "{} orders", ends.len());
    ends
}

#[test]
fn crossing_requests_are_answered_unless_one_datagram_overtakes_another() {
    for arrival in [Arrival::NoneOvertaken, Arrival::OneSetOfKeys] {
        for wire in ends(arrival) {
            assert_eq!((wire.pongs(0), wire.pongs(1)), (vec![1], vec![2]));
        }
    }
    let (mut all, mut answered) = (0, 0);
    for wire in ends(Arrival::Any) {
        all += 2;
        answered += wire.pongs(0).len() + wire.pongs(1).len();
    }
    // A response may come before the handshake it relies on.
    assert!(answered * 10 > all * 9, "{answered} of {all}");
}

#[test]
fn crossing_handshakes_leave_keys_that_do_in_every_order() {
    for mut wire in ends(Arrival::Any) {
        let before = wire.sent;
        for id in 3..6 {
            wire.request(0, 1, ping(id));
            wire.request(1, 0, ping(id));
            wire.run();
        }
        assert_eq!(wire.sent - before, 12);
        assert!(wire.pongs(0).ends_with(&[3, 4, 5]) && wire.pongs(1).ends_with(&[3, 4, 5]));
    }
}
