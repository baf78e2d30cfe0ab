//! Floods in the exact name, address and port, of a node this one asks.

use rand::{Rng, RngExt};
use tercet_enode::Signature;

use super::*;
use crate::core::FindTarget;
use crate::gate::{KEY_BURST, SOURCE_BURST};
use crate::target::Target;
use crate::v4::{Message, MessageKind, Neighbors, PacketHash, Ping, Pong, WireEndpoint, codec};
use crate::v5::packet::{Draft, Handshake, Kind, Mask, WhoAreYou};
use crate::v5::{Distances, Nonce};

const FORGED: usize = 3000;

/// What somebody can send who knows the ids and addresses of both nodes and sees nothing of what they say to each other.
fn ammunition(rng: &mut MachineRng, victim: NodeId, src: NodeId, until: u64) -> [Bytes; 6] {
    let mask = Mask::new(&victim);
    let stranger = SecretKey::generate(rng);
    let here = WireEndpoint::new(Ipv4Addr::new(9, 9, 9, 9).into(), 30303, 30303);
    let signed = |message| codec::encode(&stranger, &message).0;
    let noise = |rng: &mut MachineRng, kind: &Kind<'_>, len: usize| {
        let nonce = Nonce::new(rng.random());
        let mut draft = Draft::new(&rng.random(), nonce, kind);
        let mut message = vec![0; len];
        rng.fill_bytes(&mut message);
        draft.message().extend_from_slice(&message);
        draft.mask(&mask)
    };
    let handshake = Handshake {
        src,
        signature: Signature::from_bytes(&[7; 64]),
        ephemeral: stranger.public_key().to_compressed(),
        record: &[],
    };
    let challenge = WhoAreYou {
        id_nonce: rng.random(),
        enr_seq: 0,
    };
    [
        signed(Message::Ping(Ping {
            from: here,
            to: here,
            expiration: until,
            enr_seq: Some(9),
        })),
        signed(Message::Pong(Pong {
            to: here,
            ping_hash: PacketHash::new(rng.random()),
            expiration: until,
            enr_seq: Some(9),
        })),
        signed(Message::Neighbors(Neighbors {
            nodes: vec![],
            expiration: until,
        })),
        noise(rng, &Kind::Ordinary { src }, 44),
        noise(rng, &Kind::Handshake(handshake), 60),
        noise(rng, &Kind::WhoAreYou(challenge), 0),
    ]
}

/// Sends the first node so many of these in the name of the second.
fn flood(net: &mut Net, packets: &[Bytes], count: usize) {
    for packet in packets.iter().cycle().take(count) {
        let (from, datagram) = (address(1), BytesMut::from(packet.as_ref()));
        net.input(0, StackInput::Datagram { from, datagram });
    }
}

fn id(n: u64) -> NodeId {
    key(n).public_key().node_id()
}

/// What a command comes to if the flood is quicker than any answer.
fn run(net: &mut Net, command: Command) -> Result<Reply, RequestError> {
    let op = OpId(1 << 32);
    net.stacks[0].2.done.remove(&op);
    net.input(0, StackInput::Command { op, command });
    let mut rng = MachineRng::from_seed([8; 32]);
    let until = net.now.unix.as_secs() + 15;
    let packets = ammunition(&mut rng, id(0), id(1), until);
    flood(net, &packets, FORGED);
    let now = net.now;
    let refused = net.stack_mut(0).admit(now, address(1), &[]);
    assert_eq!(refused, Err(Refused::Rate), "nothing is left");
    assert!(net.until(Duration::from_secs(5), |net| {
        net.heard(0).done.contains_key(&op)
    }));
    net.stacks[0].2.done.remove(&op).unwrap()
}

/// Two nodes that know each other.
fn pair(over: Protocol) -> Net {
    let mut net = Net::of(&[over.into(); 2]);
    net.wait(Duration::from_secs(10));
    assert!(net.lives(0, 1, over.into()));
    net
}

fn second(net: &Net) -> Node {
    recorded(net.stack(1))
}

#[test]
fn answers_over_discv4_come_in() {
    let mut net = pair(Protocol::V4);
    for _ in 0..3 {
        let to = second(&net);
        let pong = run(&mut net, Command::Ping(to.clone(), None));
        assert!(matches!(pong, Ok(Reply::Pong(_))), "{pong:?}");
        let record = run(&mut net, Command::RequestEnr(to.clone(), None));
        assert!(matches!(record, Ok(Reply::Record(_))), "{record:?}");
        // Of the forged every sixth says it names neighbours; their keys are tried.
        let near = FindTarget::Near(Target::from(key(5).public_key()));
        let nodes = run(&mut net, Command::FindNode(to, near));
        assert!(matches!(nodes, Ok(Reply::Nodes(_))), "{nodes:?}");
        net.wait(Duration::from_secs(1));
    }
}

#[test]
fn answers_over_discv5_come_in_with_a_session_and_without() {
    let mut net = pair(Protocol::V5);
    for round in 0..4 {
        if round == 2 {
            // It has lost its sessions: it answers with a WHOAREYOU first.
            net.stacks[1].1 = stack(1, config(1, Protocols::V5));
        }
        let to = second(&net);
        let pong = run(&mut net, Command::Ping(to.clone(), None));
        assert!(matches!(pong, Ok(Reply::Pong(_))), "{round} {pong:?}");
        let near = FindTarget::Distances(Distances::new([0, 256]));
        let nodes = run(&mut net, Command::FindNode(to, near));
        assert!(matches!(nodes, Ok(Reply::Nodes(_))), "{round} {nodes:?}");
    }
}

#[test]
fn nothing_but_answers_comes_in() {
    for over in [Protocol::V4, Protocol::V5] {
        let mut net = pair(over);
        let to = second(&net);
        run(&mut net, Command::Ping(to, None)).unwrap();
        // Requests of the very node in whose name the flood is are refused with it, whatever they prove.
        let before = net.stack(0).core().counters().refused_rate;
        let first = recorded(net.stack(0));
        let silence = net.run(1, Command::Ping(first, None));
        assert_eq!(silence, Err(RequestError::Timeout), "{over:?}");
        assert!(net.stack(0).core().counters().refused_rate > before);
    }
}

/// Neighbors prove nothing before their key is recovered, so that only so many are.
#[test]
fn keys_are_tried_within_bounds() {
    let mut net = pair(Protocol::V4);
    let near = FindTarget::Near(Target::from(key(5).public_key()));
    let command = Command::FindNode(second(&net), near);
    let op = OpId(1 << 32);
    net.input(0, StackInput::Command { op, command });
    let mut rng = MachineRng::from_seed([8; 32]);
    let until = net.now.unix.as_secs() + 15;
    let [_, _, neighbors, ..] = ammunition(&mut rng, id(0), id(1), until);
    let sent = SOURCE_BURST as usize + 2 * KEY_BURST as usize;
    flood(&mut net, &[neighbors], sent);
    let counters = net.stack(0).core().counters();
    assert_eq!(counters.proven, u64::from(KEY_BURST));
    assert!(counters.refused_rate > 0);
}

/// Whoever speaks discv4 alone answers a question once his own ping was answered, and that shows nothing before its key is recovered.
#[test]
fn a_first_bond_over_discv4_is_made() {
    let mut net = Net::new();
    for n in [0, 1] {
        net.add(n, config(n, Protocols::V4));
    }
    let mut rng = MachineRng::from_seed([8; 32]);
    let until = net.now.unix.as_secs() + 15;
    let packets = ammunition(&mut rng, id(0), id(1), until);
    let op = OpId(1 << 32);
    let command = Command::RequestEnr(node(1), None);
    net.input(0, StackInput::Command { op, command });
    let mut millis = 0;
    while !net.heard(0).done.contains_key(&op) {
        // In its own burst everything comes in.
        let count = if millis == 0 { FORGED } else { 20 };
        flood(&mut net, &packets, count);
        net.wait(Duration::from_millis(1));
        millis += 1;
    }
    let record = net.stacks[0].2.done.remove(&op);
    assert!(matches!(record, Some(Ok(Reply::Record(_)))), "{record:?}");
    let counters = net.stack(0).core().counters();
    assert!(counters.proven > 3, "{counters:?}");
    // Of the forged pings those of its own burst were answered and no other.
    let pongs = net.log.iter().filter(|flying| flying.from == address(0));
    let pongs = pongs.filter(|flying| flying.datagram[97] == MessageKind::Pong as u8);
    let burst = (SOURCE_BURST as usize + 100) / 6 + 10;
    assert!(pongs.clone().count() < burst, "{}", pongs.count());
}
