//! A hundred thousand packets a second under forged sources, while somebody wants to look something up.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use rand::{Rng, RngExt};
use tercet_discovery::v4::{
    MAX_CONTACTS, Message, Neighbors, PacketHash, Ping, Pong, WireEndpoint, codec,
};
use tercet_discovery::v5::packet::{Draft, Handshake, Kind, Mask, WhoAreYou};
use tercet_discovery::v5::{MAX_CHALLENGES, Nonce};
use tercet_discovery::{Command, OpId, Reply, Target};
use tercet_enode::{NodeId, SecretKey, Signature};
use tercet_machine::{MachineRng, UnixTime};
use tercet_sim::{Counts, TraceHash};

use crate::stacks::{Datagram, Stacks, address};
use crate::{SECOND, twice};

const NODES: usize = 40;
const VICTIM: usize = 7;
/// Packets a second.
const RATE: u64 = 100_000;
/// Different packets of each kind; a flood repeats them.
const VARIETY: usize = 256;

/// Where the sources lie.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Sources {
    /// Anywhere.
    Anywhere,
    /// Anywhere, but so many of 200 in the name of an honest node, its port included.
    Named(u32),
    /// In as many networks as the victim keeps apart, so that each stays within its rate but for a little.
    Networks(u32),
}

#[derive(Debug, PartialEq)]
struct Flooded {
    trace: TraceHash,
    counts: Counts,
    refused: u64,
    /// Lookups during the flood that found the node they looked for: of a key, over both protocols, and of an id, over discv5.
    by_key: usize,
    by_id: usize,
    /// Lookups that had ended when the flood did, and a minute later.
    ended: [usize; 2],
    /// A lookup after all that found its node.
    after: bool,
    /// Pings of others that the victim answered meanwhile.
    answered: usize,
    most: Most,
}

/// The most of each that was held.
#[derive(Debug, PartialEq, Default, Clone, Copy)]
struct Most {
    contacts: usize,
    challenges: usize,
    sessions: usize,
    queued: usize,
}

/// Packets of every kind: signed pings, pongs, neighbours; noise, forged handshakes and challenges, of which every other is
/// in the name of an honest node.
fn ammunition(
    rng: &mut MachineRng,
    victim: NodeId,
    honest: &[NodeId],
    until: UnixTime,
) -> Vec<Bytes> {
    let mask = Mask::new(&victim);
    let mut packets = Vec::new();
    for n in 0..VARIETY {
        let key = SecretKey::generate(rng);
        let here = WireEndpoint::new(Ipv4Addr::new(9, 9, 9, 9).into(), 30303, 30303);
        let ping = Message::Ping(Ping {
            from: here,
            to: here,
            expiration: until.as_secs(),
            enr_seq: Some(1),
        });
        let pong = Message::Pong(Pong {
            to: here,
            ping_hash: PacketHash::new(rng.random()),
            expiration: until.as_secs(),
            enr_seq: Some(1),
        });
        let neighbors = Message::Neighbors(Neighbors {
            nodes: vec![],
            expiration: until.as_secs(),
        });
        for message in [ping, pong, neighbors] {
            packets.push(codec::encode(&key, &message).0);
        }
        let src = match n % 2 {
            0 => key.node_id(),
            _ => honest[n % honest.len()],
        };
        packets.push(noise(rng, &mask, &Kind::Ordinary { src }, 44));
        let signature = Signature::from_bytes(&std::array::from_fn::<u8, 64, _>(|_| rng.random()));
        let forged = Handshake {
            src,
            signature,
            ephemeral: key.public_key().to_compressed(),
            record: &[],
        };
        packets.push(noise(rng, &mask, &Kind::Handshake(forged), 60));
        let challenge = WhoAreYou {
            id_nonce: rng.random(),
            enr_seq: 0,
        };
        packets.push(noise(rng, &mask, &Kind::WhoAreYou(challenge), 0));
    }
    packets
}

fn noise(rng: &mut MachineRng, mask: &Mask, kind: &Kind<'_>, message: usize) -> Bytes {
    let nonce = Nonce::new(std::array::from_fn(|_| rng.random()));
    let mut draft = Draft::new(&std::array::from_fn(|_| rng.random()), nonce, kind);
    let mut bytes = vec![0; message];
    rng.fill_bytes(&mut bytes);
    draft.message().extend_from_slice(&bytes);
    draft.mask(mask)
}

impl Sources {
    fn draw(self, rng: &mut MachineRng) -> SocketAddr {
        let port = rng.random_range(1025..=u16::MAX);
        let bits = match self {
            Self::Named(part) if rng.random_range(0..200) < part => {
                return address(rng.random_range(0..NODES));
            }
            // From 64.0.0.0 to 95.255.255.255: global, and none of the nodes.
            Self::Anywhere | Self::Named(_) => rng.random_range(64 << 24..96 << 24),
            Self::Networks(count) => {
                let network = rng.random_range(0..count);
                (64 << 24) + (network << 8) + rng.random_range(1u32..255)
            }
        };
        SocketAddr::from((Ipv4Addr::from(bits), port))
    }
}

fn play(sources: Sources, seconds: u64) -> Flooded {
    let mut net = Stacks::new(61);
    for _ in 0..NODES {
        net.join();
        net.run(SECOND / 2);
    }
    net.run(120 * SECOND);
    let victim = net.node(VICTIM);
    let until = net.sim.now().unix + Duration::from_secs(15);
    let honest: Vec<NodeId> = (0..NODES).map(|index| net.node(index).id()).collect();
    let packets = ammunition(net.sim.rng(), victim.id(), &honest, until);
    let mut lookups: Vec<(OpId, NodeId)> = Vec::new();
    let mut pings: Vec<(usize, OpId)> = Vec::new();
    let mut most = Most::default();
    for milli in 0..seconds * 1000 {
        for _ in 0..RATE / 1000 {
            let rng = net.sim.rng();
            let packet = Datagram(packets[rng.random_range(0..packets.len())].clone());
            let from = sources.draw(rng);
            net.sim.spoof(from, victim.endpoint().udp_addr(), packet);
        }
        net.run(Duration::from_millis(1));
        let stack = net.stack(VICTIM);
        most.contacts = most.contacts.max(stack.core().contacts());
        most.challenges = most.challenges.max(stack.sessions().challenges());
        most.sessions = most.sessions.max(stack.sessions().len());
        most.queued = most.queued.max(stack.sessions().queued());
        // Ten lookups in the first half, five of each kind, and as many pings of others.
        if milli % (seconds * 50) == 0 && milli < seconds * 500 {
            let turn = lookups.len();
            let wanted = &net.node(turn * 3 % VICTIM + VICTIM + 1);
            let target = match turn % 2 {
                0 => Target::from(wanted.public_key()),
                _ => Target::from(wanted.id()),
            };
            let id = wanted.id();
            lookups.push((net.command(VICTIM, Command::Lookup(target)), id));
            let other = NODES - 1 - turn;
            let ping = Command::Ping(victim.clone(), None);
            pings.push((other, net.command(other, ping)));
        }
    }
    let found = |net: &Stacks, (op, id): &(OpId, NodeId)| {
        matches!(net.result(VICTIM, *op), Some(Ok(Reply::Found(found)))
            if found.closest.first().map(|node| node.id()) == Some(*id))
    };
    let found_now: Vec<bool> = lookups.iter().map(|lookup| found(&net, lookup)).collect();
    let by_turn = |turn| {
        let turns = found_now.iter().skip(turn).step_by(2);
        turns.filter(|found| **found).count()
    };
    let ended = |net: &Stacks| {
        let ended = |(op, _): &&(OpId, NodeId)| net.result(VICTIM, *op).is_some();
        lookups.iter().filter(ended).count()
    };
    let answered = |(other, op): &&(usize, OpId)| matches!(net.result(*other, *op), Some(Ok(_)));
    let answered = pings.iter().filter(answered).count();
    let refused = net.stack(VICTIM).core().counters().refused_rate;
    let ended_now = ended(&net);
    net.run(60 * SECOND);
    let ended = [ended_now, ended(&net)];
    let wanted = net.node(NODES / 2);
    let lookup = net.command(VICTIM, Command::Lookup(Target::from(wanted.public_key())));
    net.run(10 * SECOND);
    Flooded {
        trace: net.sim.trace_hash(),
        counts: net.sim.counts(),
        refused,
        by_key: by_turn(0),
        by_id: by_turn(1),
        ended,
        after: found(&net, &(lookup, wanted.id())),
        answered,
        most,
    }
}

fn check(flooded: &Flooded) {
    let most = flooded.most;
    assert!(most.contacts <= MAX_CONTACTS, "{flooded:?}");
    assert!(most.challenges <= MAX_CHALLENGES, "{flooded:?}");
    assert!(
        most.sessions < NODES,
        "nobody forged a session: {flooded:?}"
    );
    assert_eq!(flooded.ended[1], 10, "{flooded:?}");
    assert!(flooded.after, "it leaves nothing behind: {flooded:?}");
}

#[test]
fn lookups_end_well_in_a_flood_from_everywhere() {
    let flooded = twice(|| play(Sources::Anywhere, 10));
    println!("{RATE} forged packets a second for ten seconds, from anywhere: {flooded:#?}");
    check(&flooded);
    assert_eq!((flooded.by_key, flooded.by_id), (5, 5), "{flooded:?}");
    assert!(flooded.refused > 900_000, "{flooded:?}");
}

/// Each honest node is at an address of its own, which is 40 of them: in its name come 12, 250, or 2,000 packets a second.
#[test]
fn lookups_end_well_in_a_flood_in_the_names_of_those_who_are_asked() {
    for part in [1, 20, 160] {
        let flooded = twice(|| play(Sources::Named(part), 5));
        println!(
            "{RATE} forged packets a second for five seconds, {part} of 200 in an honest node's name: {flooded:#?}"
        );
        check(&flooded);
        assert_eq!((flooded.by_key, flooded.by_id), (5, 5), "{flooded:?}");
    }
}

#[test]
fn lookups_end_well_in_a_flood_from_as_many_networks_as_are_kept_apart() {
    let flooded = twice(|| play(Sources::Networks(4000), 2));
    println!("{RATE} forged packets a second for two seconds, from 4000 networks: {flooded:#?}");
    check(&flooded);
    assert!(
        flooded.refused < 100_000,
        "most of it is looked at: {flooded:?}"
    );
}
