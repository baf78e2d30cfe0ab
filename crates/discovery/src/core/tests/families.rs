//! A node with an address in each family.

use super::*;

#[test]
fn a_ping_says_where_this_node_is_in_the_family_it_goes_out_over() {
    let six: SocketAddr = "[2a00::7]:30306".parse().unwrap();
    let mut bench = Bench::new(config(0));
    let both = record_at(0, address(0), 2)
        .to_builder()
        .ip(six.ip())
        .udp6(30306);
    let both = both.sign(&key(0)).unwrap();
    bench.input(CoreInput::LocalRecord(both));
    let from = |bench: &mut Bench, op, at: SocketAddr| {
        bench.command(op, Command::Ping(node_at(op, at), None));
        match bench.sent.pop() {
            Some((to, Message::Ping(ping), _)) if to == at => (ping.from.ip, ping.from.udp),
            sent => panic!("{sent:?}"),
        }
    };
    let there: SocketAddr = "[2a01::1]:30303".parse().unwrap();
    let said = |at: SocketAddr| (Some(at.ip()), at.port());
    assert_eq!(from(&mut bench, 1, there), said(six));
    assert_eq!(from(&mut bench, 2, address(2)), said(address(0)));
    // With one family it says that one to everybody.
    bench.input(CoreInput::LocalRecord(record_at(0, address(0), 3)));
    assert_eq!(from(&mut bench, 3, there), said(address(0)));
}
