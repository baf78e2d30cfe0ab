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
