//! What is lost, overtaken or late, and what of it is held against a node's answer.

use tercet_discovery::v4::MessageKind;

use super::*;

/// What a contact that goes well carries, in order: the Ping, a Pong, its Ping, our Pong, the questions and answers for its record
/// (4, 5) and for neighbours (6 to 8).
const OF_ITS_PONG: usize = 1;
const OF_ITS_PING: usize = 2;
const ALL: usize = 9;

fn anybody() -> Ask {
    Ask::V4 {
        target: Target::new([1; 64]),
        record: false,
    }
}

fn is_neighbors(job: &Job) -> bool {
    matches!(job, Job::Packet { packet, .. } if packet.kind() == MessageKind::Neighbors)
}

#[test]
fn neighbours_that_overtake_each_other_are_all_taken() {
    let mut net = Net::new(40, Protocols::V4);
    net.slow = is_neighbors;
    // The last packet is checked before the first; between the two comes the record.
    net.ask(1, 0, near(0));
    let first = net.held.remove(0);
    net.release();
    net.wait(Duration::from_millis(40));
    assert!(net.told.is_empty(), "{:?}", net.told);
    net.wire.handle(net.now, WireInput::Done(first.run()));
    net.settle();
    let (_, record, named, extent) = net.whole_answer();
    assert_eq!(record.as_ref(), net.world.node(0).record());
    assert_eq!((named.len(), extent), (16, Extent::Full));
    assert_eq!(net.carried, ALL);
}

#[test]
fn what_is_being_checked_is_not_late() {
    let slow: [fn(&Job) -> bool; 2] = [
        is_neighbors,
        |job| matches!(job, Job::Packet { packet, .. } if packet.kind() == MessageKind::Pong),
    ];
    for slow in slow {
        let mut net = Net::new(40, Protocols::V4);
        net.slow = slow;
        net.ask(1, 0, near(0));
        net.wait(10 * PATIENCE);
        assert!(net.told.is_empty(), "{:?}", net.told);
        // What comes after the time is late, or a flood could hold the contact.
        let ignored = net.wire.counters().ignored;
        let (packet, _) = encode(&key(0), &neighbors());
        let (from, datagram) = (addr(0), BytesMut::from(&packet[..]));
        net.input(WireInput::Datagram { from, datagram });
        assert_eq!(net.wire.counters().ignored, ignored + 1);
        net.slow = |_| false;
        net.release();
        let (_, _, named, extent) = net.whole_answer();
        assert_eq!((named.len(), extent), (16, Extent::Full));
        assert_eq!(net.carried, ALL);
        net.wait(PATIENCE);
        assert_eq!(net.wire.deadline(), None);
    }
}

fn neighbors() -> V4Message {
    V4Message::Neighbors(tercet_discovery::v4::Neighbors {
        nodes: Vec::new(),
        expiration: START.unix.as_secs() + 20,
    })
}

#[test]
fn a_flood_in_the_name_of_an_asked_node_is_checked_in_part() {
    let mut net = Net::new(40, Protocols::V4);
    net.slow = is_neighbors;
    net.ask(1, 0, near(0));
    let (packet, _) = encode(&key(50), &neighbors());
    for _ in 0..100 {
        let (from, datagram) = (addr(0), BytesMut::from(&packet[..]));
        net.input(WireInput::Datagram { from, datagram });
    }
    assert_eq!(net.held.len(), 8);
    net.release();
    assert_eq!(net.answer().2.len(), 16);
}

#[test]
fn what_is_lost_is_asked_for_once_more() {
    for lost in OF_ITS_PING..ALL {
        let mut net = Net::new(40, Protocols::V4);
        net.lost = BTreeSet::from([lost]);
        net.ask(1, 0, near(0));
        net.wait(3 * PATIENCE);
        let (_, record, named, extent) = net.whole_answer();
        assert_eq!(record.as_ref(), net.world.node(0).record(), "{lost}");
        assert_eq!((named.len(), extent), (16, Extent::Full), "{lost}");
        net.wait(PATIENCE);
        assert_eq!(net.wire.deadline(), None);
    }
    // Who does not even answer a Ping is the crawl's to ask again.
    let mut net = Net::new(40, Protocols::V4);
    net.lost = BTreeSet::from([OF_ITS_PONG]);
    net.ask(1, 0, near(0));
    net.wait(PATIENCE);
    assert!(matches!(net.told[..], [CrawlInput::Silent { serial: 1 }]));
}

#[test]
fn who_only_pongs_is_there_but_has_said_nothing() {
    let mut net = Net::new(40, Protocols::V4);
    // Nothing but the Pongs arrives: the first, and after our Pong and two questions and another Ping the second.
    net.lost = (OF_ITS_PING..1000).collect();
    net.lost.remove(&6);
    net.ask(1, 0, near(0));
    net.wait(6 * PATIENCE);
    let (_, record, named, extent) = net.whole_answer();
    assert!(record.is_none() && named.is_empty());
    assert_eq!(extent, Extent::Part);
    // A Ping, two questions; and all of it once more.
    assert!(net.carried <= 12, "{}", net.carried);
    assert_eq!(net.wire.deadline(), None);
}

#[test]
fn few_neighbours_are_all_if_nothing_can_be_missing() {
    // How many others there are, and how many questions it takes to know that these are all.
    for (others, questions) in [(1, 2), (4, 2), (5, 1), (9, 1), (12, 2), (13, 1), (15, 1)] {
        let mut net = Net::new(others + 1, Protocols::V4);
        net.ask(1, 0, anybody());
        assert!(net.told.is_empty());
        net.wait(LINGER);
        assert_eq!(net.told.len(), usize::from(questions == 1), "{others}");
        net.wait(PATIENCE + LINGER);
        let (_, _, named, extent) = net.whole_answer();
        assert_eq!((named.len(), extent), (others, Extent::All));
        let packets = others.div_ceil(12);
        assert_eq!(net.carried, 4 + questions * (1 + packets), "{others}");
    }
}

const LINGER: Duration = Duration::from_millis(50);

#[test]
fn who_names_the_crawler_itself_may_know_more() {
    let mut net = Net::new(40, Protocols::V4);
    net.slow = is_neighbors;
    net.ask(1, 0, near(0));
    net.held.clear();
    // A full answer of which one node is not believed is a full answer.
    let mut nodes: Vec<_> = (1..16)
        .map(|number| net.world.node(number).into())
        .collect();
    let own = Node::new(key(OWN_KEY).public_key(), *net.world.node(0).endpoint());
    nodes.push(tercet_discovery::v4::Neighbor::from(&own));
    let expiration = START.unix.as_secs() + 20;
    for message in tercet_discovery::v4::Neighbors::split(&nodes, expiration) {
        let (packet, _) = encode(&key(0), &V4Message::Neighbors(message));
        let (from, datagram) = (addr(0), BytesMut::from(&packet[..]));
        net.input(WireInput::Datagram { from, datagram });
    }
    net.release();
    let (_, _, named, extent) = net.whole_answer();
    assert_eq!((named.len(), extent), (15, Extent::Full));
}

#[test]
fn over_discv5_records_that_are_being_checked_are_not_late() {
    let mut net = Net::new(40, Protocols::V5);
    net.slow = |job| matches!(job, Job::Records { .. });
    net.ask(1, 0, everything());
    net.wait(10 * PATIENCE);
    assert!(net.told.is_empty(), "{:?}", net.told);
    net.release();
    let (_, _, named, extent) = net.whole_answer();
    assert_eq!((named.len(), extent), (15, Extent::Full));
}

#[test]
fn over_discv5_an_answer_of_which_a_packet_is_lost_is_a_part() {
    // The handshake is three datagrams and the question with it; then come the answers.
    let mut net = Net::new(40, Protocols::V5);
    net.ask(1, 0, everything());
    let (all, packets) = (net.answer().2.len(), net.carried - 3);
    assert!(packets > 1);
    for lost in 3..3 + packets {
        let mut net = Net::new(40, Protocols::V5);
        net.lost = BTreeSet::from([lost]);
        net.ask(1, 0, everything());
        net.wait(2 * PATIENCE);
        let (_, _, named, extent) = net.whole_answer();
        assert!(named.len() < all && extent == Extent::Part, "{lost}");
    }
    let mut net = Net::new(6, Protocols::V5);
    net.ask(1, 0, everything());
    assert_eq!(net.whole_answer().3, Extent::All);
}
