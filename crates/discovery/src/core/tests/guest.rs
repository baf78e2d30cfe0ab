//! A node that only comes to ask keeps out of others' tables.

use super::*;

fn guest() -> Bench {
    Bench::new(CoreConfig {
        guest: true,
        ..config(0)
    })
}

#[test]
fn a_guest_proves_its_address_to_nobody_it_wants_a_pong_of() {
    let mut bench = guest();
    let at = address(1);
    // Not to a stranger…
    bench.ping_from(2, address(2), None);
    assert!(bench.sent.is_empty());
    // …and not to whom it pings, before the pong and after it.
    bench.command(1, Command::Ping(node(1), None));
    bench.ping_from(1, at, None);
    bench.answer_ping(1, at, None);
    bench.ping_from(1, at, None);
    assert!(matches!(bench.done[..], [(OpId(1), Ok(Reply::Pong(_)))]));
    assert_eq!(bench.take_sent(at), [MessageKind::Ping]);
    assert_eq!(bench.core.counters().v4.dropped_unsolicited, 3);
}

#[test]
fn a_guest_proves_its_address_where_it_wants_more() {
    let mut bench = guest();
    let at = address(1);
    bench.command(1, Command::RequestEnr(node(1), None));
    bench.answer_ping(1, at, None);
    bench.ping_from(1, at, None);
    let sent = [
        MessageKind::Ping,
        MessageKind::Pong,
        MessageKind::EnrRequest,
    ];
    assert_eq!(bench.take_sent(at), sent);
}

/// A peer that waits for a pong sends no other ping, so to whom it owes one a guest has to answer that.
#[test]
fn a_guest_answers_a_ping_once_it_wants_more() {
    let mut bench = guest();
    let at = address(1);
    bench.command(1, Command::Ping(node(1), None));
    bench.answer_ping(1, at, None);
    bench.ping_from(1, at, None);
    // Of this one it had wanted nothing before.
    bench.ping_from(2, address(2), None);
    let pings = [bench.hashes - 1, bench.hashes].map(hash);
    bench.sent.clear();
    bench.wait(Duration::from_millis(499));
    for (n, ping) in [1, 2].into_iter().zip(pings) {
        bench.command(10 + n, Command::RequestEnr(node(n), None));
        let [(to, Message::Pong(pong), _), (_, Message::EnrRequest(_), _)] = &bench.sent[..] else {
            panic!("{:?}", bench.sent)
        };
        assert_eq!((*to, pong.ping_hash), (address(n), ping));
        bench.sent.clear();
    }
}

#[test]
fn a_guest_begins_anew_where_nobody_waits_for_its_answer_any_more() {
    let mut bench = guest();
    let at = address(1);
    bench.ping_from(1, at, None);
    assert_eq!(bench.core.contacts(), 1);
    bench.wait(Duration::from_millis(500));
    assert_eq!(bench.core.contacts(), 0);
    bench.command(1, Command::RequestEnr(node(1), None));
    assert_eq!(bench.take_sent(at), [MessageKind::Ping]);
}

#[test]
fn pings_a_guest_leaves_unanswered_take_a_bounded_number_of_places() {
    let mut bench = guest();
    for n in 1..=crate::v4::MAX_CONTACTS as u64 {
        bench.ping_from(n, address(n), None);
    }
    assert_eq!(bench.core.contacts(), crate::v4::MAX_INBOUND_CONTACTS);
}

#[test]
fn a_guest_who_knows_nobody_goes_round_only_when_it_is_asked_to() {
    let mut bench = Bench::unborn(CoreConfig {
        guest: true,
        ..config(0)
    });
    let at = address(1);
    // Had it begun with whom it pings, that one would have its proof of address now.
    bench.command(1, Command::Ping(node(1), None));
    bench.answer_ping(1, at, None);
    bench.ping_from(1, at, None);
    bench.core.handle_timeout(bench.now);
    bench.drain();
    assert_eq!(bench.take_sent(at), [MessageKind::Ping]);
}
