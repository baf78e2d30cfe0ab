//! Handshakes, messages and lost sessions with each client at the level of datagrams.

use std::collections::BTreeSet;

use bytes::Bytes;
use tercet_discovery::v5::{Distances, Request, RequestId, Response};
use tercet_enode::NodeRecord;
use tercet_tests::peer::{Client, Peer, ping, read_pong};
use tercet_tests::{Loopback, key};

use crate::wire::{Wire, at};

/// Fits a datagram with the 32 bytes that the clients put before it.
const LONG: [u8; 1100] = [9; 1100];

fn ask_ping(wire: &mut Wire, peer: &Peer, id: &[u8]) -> Vec<Response> {
    let enr_seq = wire.record.seq();
    wire.ask(peer.record(), id, Request::Ping { enr_seq })
}

fn pong(wire: &Wire, peer: &Peer) -> Vec<Response> {
    vec![Response::Pong {
        enr_seq: peer.record().seq(),
        recipient: wire.addr(),
    }]
}

fn ask_nodes(wire: &mut Wire, peer: &Peer, id: &[u8], distances: &[u64]) -> Vec<NodeRecord> {
    let distances = Distances::new(distances.iter().copied());
    let answer = wire.ask(peer.record(), id, Request::FindNode { distances });
    let records = answer.into_iter().flat_map(|part| match part {
        Response::Nodes { records, .. } => records,
        other => panic!("{other:?}"),
    });
    records.collect()
}

fn ask_talk(wire: &mut Wire, peer: &Peer, id: &[u8], protocol: &str, payload: &[u8]) -> Bytes {
    let request = Request::Talk {
        protocol: Bytes::copy_from_slice(protocol.as_bytes()),
        payload: Bytes::copy_from_slice(payload),
    };
    let answer = wire.ask(peer.record(), id, request);
    match &answer[..] {
        [Response::Talk { payload }] => payload.clone(),
        other => panic!("{other:?}"),
    }
}

/// A record that looks as one of an execution client's: with lists in it.
fn neighbour(on: Loopback, number: u8) -> NodeRecord {
    let mut addr = on.any_port()[0];
    addr.set_port(30_000 + u16::from(number));
    at(addr)
        .seq(1 + u64::from(number))
        .tcp(30_000)
        .eth([1, 2, 3, 4], 5)
        .snap()
        .insert_raw(b"zz", &[[0xb8, 100].as_slice(), &[number; 100]].concat())
        .sign(&key(100 + number))
        .unwrap()
}

pub(crate) fn we_begin(client: Client, on: Loopback) {
    let Some(peer) = Peer::start(client, &on.any_port(), &key(1), &[]) else {
        return;
    };
    let mut wire = Wire::new(key(2), on);
    let first = ask_ping(&mut wire, &peer, &[1; 8]);
    assert_eq!(first, pong(&wire, &peer));
    assert_eq!(wire.established, [(peer.id(), false)]);
    let own = ask_nodes(&mut wire, &peer, &[2; 8], &[0]);
    assert_eq!(own, [peer.record().clone()]);
    let answer = ask_talk(&mut wire, &peer, &[3; 8], "tercet", b"how are you");
    assert_eq!(
        answer,
        [wire.record.id().as_bytes(), b"how are you".as_slice()].concat()
    );
    assert_eq!(ask_talk(&mut wire, &peer, &[4; 8], "none", b"?"), "");
    let answer = ask_talk(&mut wire, &peer, &[5; 8], "tercet", &LONG);
    assert_eq!(answer[32..], LONG);
    assert_eq!(wire.established.len(), 1);
}

pub(crate) fn they_begin(client: Client, on: Loopback) {
    let Some(mut peer) = Peer::start(client, &on.any_port(), &key(3), &[]) else {
        return;
    };
    let mut wire = Wire::new(key(4), on);
    let record = wire.record.clone();
    let expected = (record.seq(), peer.addr());
    assert_eq!(wire.serve(|| peer.ping(&record)), Ok(expected));
    assert_eq!(wire.established, [(peer.id(), true)]);
    assert_eq!(wire.known[&peer.id()], *peer.record());
    let own = wire.serve(|| peer.find_node(&record, &[0]));
    assert_eq!(own, Ok(vec![record.clone()]));
    for payload in [b"how are you".as_slice(), b"", &LONG] {
        let answer = wire.serve(|| peer.talk(&record, "any", payload));
        assert_eq!(answer, Ok(payload.to_vec()));
    }

    wire.told = (0..16).map(|number| neighbour(on, number)).collect();
    let distance = |told: &NodeRecord| record.id().log_distance(&told.id());
    let distances: BTreeSet<u16> = wire.told.iter().map(distance).collect();
    let distances: Vec<u16> = distances.into_iter().collect();
    let found = wire.serve(|| peer.find_node(&record, &distances)).unwrap();
    let told = match client {
        // Outside a lookup it goes no further than the first of several messages.
        Client::Rust => &wire.told[..found.len()],
        _ => &wire.told[..],
    };
    assert!(found.len() >= 3);
    let sorted = |records: &[NodeRecord]| {
        let mut texts: Vec<_> = records.iter().map(ToString::to_string).collect();
        texts.sort();
        texts
    };
    assert_eq!(sorted(&found), sorted(told));
    assert_eq!(wire.established.len(), 1);
}

pub(crate) fn a_request_id_is_echoed(client: Client, on: Loopback) {
    let Some(peer) = Peer::start(client, &on.any_port(), &key(5), &[]) else {
        return;
    };
    let mut wire = Wire::new(key(6), on);
    for len in 0..=8 {
        let mut id = vec![7; len];
        match (client, id.first_mut()) {
            // It takes an id for a number: zeros before it are lost, and none at all is not read.
            (Client::Js, None) => continue,
            (Client::Js, Some(_)) | (_, None) => {}
            (_, Some(first)) => *first = 0,
        }
        let answer = ask_ping(&mut wire, &peer, &id);
        assert_eq!(answer, pong(&wire, &peer), "{id:?}");
    }
}

pub(crate) fn we_lose_the_session(client: Client, on: Loopback) {
    let Some(mut peer) = Peer::start(client, &on.any_port(), &key(7), &[]) else {
        return;
    };
    let mut wire = Wire::new(key(8), on);
    ask_ping(&mut wire, &peer, &[1; 8]);
    wire.forget_sessions();
    assert_eq!(ask_ping(&mut wire, &peer, &[2; 8]), pong(&wire, &peer));
    wire.forget_sessions();
    let (record, addr) = (wire.record.clone(), peer.addr());
    let answer = wire.serve(|| peer.ping(&record));
    assert_eq!(answer, Ok((record.seq(), addr)));
    assert!(wire.established.len() >= 3, "{:?}", wire.established);
}

pub(crate) fn they_lose_the_session(client: Client, on: Loopback) {
    let Some(mut peer) = Peer::start(client, &on.any_port(), &key(9), &[]) else {
        return;
    };
    let mut wire = Wire::new(key(10), on);
    ask_ping(&mut wire, &peer, &[1; 8]);
    peer.restart();
    assert_eq!(ask_ping(&mut wire, &peer, &[2; 8]), pong(&wire, &peer));
    peer.restart();
    let (record, addr) = (wire.record.clone(), peer.addr());
    let answer = wire.serve(|| peer.ping(&record));
    assert_eq!(answer, Ok((record.seq(), addr)));
    assert_eq!(wire.established.len(), 3);
}

pub(crate) fn both_begin_at_once(client: Client, on: Loopback) {
    let Some(mut peer) = Peer::start(client, &on.any_port(), &key(11), &[]) else {
        return;
    };
    let mut wire = Wire::new(key(12), on);
    let call = peer.begin(ping(&wire.record));
    // Its first packet is here and not read yet when ours goes out.
    wire.wait();
    let id = RequestId::new(&[1; 8]).unwrap();
    let enr_seq = wire.record.seq();
    wire.send(peer.record(), id, Request::Ping { enr_seq });
    assert_eq!(wire.responses(id), pong(&wire, &peer));
    let theirs = wire.serve(|| peer.result(call)).unwrap();
    assert_eq!(read_pong(&theirs), (enr_seq, peer.addr()));
    assert_eq!(ask_ping(&mut wire, &peer, &[2; 8]), pong(&wire, &peer));
}

pub(crate) fn a_new_record_is_fetched(client: Client, on: Loopback) {
    let Some(mut peer) = Peer::start(client, &on.any_port(), &key(13), &[]) else {
        return;
    };
    let mut wire = Wire::new(key(14), on);
    ask_ping(&mut wire, &peer, &[1; 8]);
    // Ours: it hears of it from a ping or a pong.
    wire.set("tercet", &[0x07]);
    ask_ping(&mut wire, &peer, &[2; 8]);
    let own = Request::FindNode {
        distances: Distances::new([0]),
    };
    wire.until(|wire| wire.asked.contains(&own));
    // Its own: the pong says so.
    let newer = peer.set("tercet", b"a string");
    assert_eq!(ask_ping(&mut wire, &peer, &[3; 8]), pong(&wire, &peer));
    assert_eq!(ask_nodes(&mut wire, &peer, &[4; 8], &[0]), [newer]);
}

/// Rounds enough that what goes wrong once in 256 times, as with a byte that happens to be zero, most likely shows.
const ROUNDS: u64 = 300;

pub(crate) fn many_handshakes_and_requests(client: Client, on: Loopback) {
    let Some(mut peer) = Peer::start(client, &on.any_port(), &key(15), &[]) else {
        return;
    };
    let mut wire = Wire::new(key(16), on);
    let record = wire.record.clone();
    // As the service draws them: the first byte is never zero.
    let id = |round: u64| (round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 63).to_be_bytes();
    for round in 0..ROUNDS {
        wire.forget_sessions();
        let (id, next) = (id(2 * round), id(2 * round + 1));
        if round % 2 == 0 {
            assert_eq!(
                ask_ping(&mut wire, &peer, &id),
                pong(&wire, &peer),
                "{round}"
            );
        } else {
            let pong = wire.serve(|| peer.ping(&record));
            assert_eq!(pong, Ok((record.seq(), peer.addr())), "{round}");
        }
        let own = ask_nodes(&mut wire, &peer, &next, &[0]);
        assert_eq!(own, [peer.record().clone()], "{round}");
        let talk = wire.serve(|| peer.talk(&record, "any", &id));
        assert_eq!(talk, Ok(id.to_vec()), "{round}");
    }
}
