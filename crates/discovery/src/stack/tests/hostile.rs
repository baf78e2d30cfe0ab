//! What strangers send.

use rand::RngExt;
use tercet_enode::UnverifiedRecord;

use super::records::MAX_RECORDS;
use super::*;
use crate::gate::SOURCE_BURST;
use crate::v5::RequestId;

const MINUTE: Duration = Duration::from_secs(60);

fn ping(net: &mut Net, from: usize, to: usize, over: Protocol) -> Result<(), RequestError> {
    let [at, _] = net.stacks[to].0;
    let to = Node::new(
        net.stack(to).record().public_key(),
        Endpoint::new(at.ip(), at.port(), 0),
    );
    net.run(from, Command::Ping(to, Some(over))).map(|_| ())
}

fn handshakes(net: &Net, at: usize) -> u64 {
    let counters = net.stack(at).session_counters();
    counters.inbound + counters.outbound
}

/// Everything two nodes ever said to each other, with a bit wrong, from the right addresses: none of it changes anything.
#[test]
fn packets_that_were_tampered_with_leave_sessions_and_bonds_alone() {
    let mut net = Net::of(&[Protocols::ALL; 2]);
    let bonded = |net: &Net| net.lives(0, 1, Protocols::ALL) && net.lives(1, 0, Protocols::ALL);
    assert!(net.until(MINUTE, bonded));
    let before = handshakes(&net, 0) + handshakes(&net, 1);
    let mut rng = MachineRng::from_seed([9; 32]);
    let said = net.log.clone();
    assert!(said.len() > 10);
    for Flying { from, to, datagram } in said {
        for _ in 0..20 {
            let mut datagram = datagram.to_vec();
            let bit = rng.random_range(0..datagram.len() * 8);
            datagram[bit / 8] ^= 1 << (bit % 8);
            net.send(from, to, datagram.into());
        }
        net.wait(Duration::from_millis(100));
    }
    for (from, to) in [(0, 1), (1, 0)] {
        for over in [Protocol::V4, Protocol::V5] {
            assert_eq!(ping(&mut net, from, to, over), Ok(()));
        }
    }
    assert_eq!(handshakes(&net, 0) + handshakes(&net, 1), before);
    assert!(bonded(&net));
    assert!(net.stack(0).counters().undecodable > 0);
    assert!(net.stack(0).session_counters().dropped_total() > 0);
}

#[test]
fn garbage_of_any_length_is_counted_and_forgotten() {
    let mut net = Net::of(&[Protocols::ALL; 2]);
    assert!(net.until(MINUTE, |net| net.lives(0, 1, Protocols::ALL)));
    let mut rng = MachineRng::from_seed([9; 32]);
    let now = net.now;
    for len in (0..1400).chain([2000, 65_507]) {
        let datagram: Vec<u8> = (0..len).map(|_| rng.random()).collect();
        // Neighbours in a private network, so that none is refused for its rate.
        let from = SocketAddr::from(([192, 168, 0, (len % 250) as u8], 30303));
        let datagram = BytesMut::from(datagram.as_slice());
        net.stack_mut(0)
            .handle(now, StackInput::Datagram { from, datagram });
        assert_eq!(net.stack_mut(0).poll(), None, "{len} bytes were answered");
    }
    assert_eq!(net.stack(0).counters().undecodable, 1402);
    assert_eq!(ping(&mut net, 0, 1, Protocol::V5), Ok(()));
}

/// A flood in the name of a node's neighbours uses up what its network may send. Answers to what this node asks come in all
/// the same; a stranger of that network is not heard.
#[test]
fn a_flood_of_one_subnet_does_not_starve_answers() {
    for over in [Protocol::V4, Protocol::V5] {
        let protocols = Protocols::from(over);
        let mut net = Net::of(&[protocols; 2]);
        let near = SocketAddr::new([20, 1, 1, 8].into(), 30303);
        assert_eq!(Subnet::of(near.ip()), Subnet::of(address(1).ip()));
        net.wait(Duration::from_secs(10));
        for round in 0..5 {
            flood(&mut net);
            let now = net.now;
            let stranger = net.stack_mut(0).admit(now, near, &[]);
            assert_eq!(stranger, Err(Refused::Rate), "{over:?} {round}");
            assert_eq!(ping(&mut net, 0, 1, over), Ok(()), "{over:?} {round}");
        }
        assert!(net.stack(0).core().counters().refused_rate > 0);
    }
}

/// Junk from every host of the second node's network but itself, so much that nothing is left.
fn flood(net: &mut Net) {
    let now = net.now;
    for n in 0..2 * SOURCE_BURST {
        let from = SocketAddr::from(([20, 1, 1, 10 + (n % 200) as u8], 4000));
        let datagram = BytesMut::from(&[0xa5; 100][..]);
        net.stack_mut(0)
            .handle(now, StackInput::Datagram { from, datagram });
    }
}

#[test]
fn a_record_nobody_signed_is_left_out_of_an_answer() {
    let mut stack = stack(0, config(0, Protocols::V5));
    let (good, mut raw) = (record(1), record(2).raw().to_vec());
    // Within the signature.
    raw[10] ^= 1;
    let forged = UnverifiedRecord::decode(&raw).unwrap();
    let unverified = UnverifiedRecord::decode(good.raw()).unwrap();
    let records = vec![
        stack.records.look_up(forged.clone()),
        stack.records.look_up(unverified.clone()),
    ];
    let work = Work::Records(Answer {
        id: good.id(),
        request: RequestId::default(),
        total: 1,
        records,
    });
    let from = address(1);
    stack.complete(START, StackJob { from, work }.run());
    assert_eq!(stack.counters().records_bad, 1);
    assert!(matches!(stack.records.look_up(unverified), Seen::Before(_)));
    assert!(matches!(stack.records.look_up(forged), Seen::New(_)));
}

fn record(n: u64) -> NodeRecord {
    let at = address(n);
    NodeRecord::builder()
        .seq(1)
        .ip(at.ip())
        .udp(at.port())
        .sign(&key(n))
        .unwrap()
}

#[test]
fn records_kept_are_bounded_and_never_replaced_by_older_ones() {
    let mut records = RecordCache::new(&mut MachineRng::from_seed([1; 32]));
    let newer = record(0).to_builder().seq(2).sign(&key(0)).unwrap();
    records.insert(&newer);
    records.insert(&record(0));
    assert_eq!(records.get(&newer.id()), Some(&newer));
    for n in 1..=MAX_RECORDS as u64 {
        records.insert(&record(n));
    }
    assert_eq!(records.len(), MAX_RECORDS);
    assert_eq!(records.get(&newer.id()), None, "the oldest has gone");
}
