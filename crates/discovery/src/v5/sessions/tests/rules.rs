//! The handshake and what may not disturb it.

use super::*;

#[test]
fn a_request_without_a_session_begins_one() {
    let mut wire = Wire::new(2);
    wire.request(0, 1, ping(7));
    wire.request(0, 1, ping(8));
    assert_eq!(wire.flying.len(), 1, "one random packet for both");
    let random = wire.next();
    wire.deliver(&random);
    let whoareyou = wire.next();
    assert_eq!(whoareyou.bytes.len(), CHALLENGE_DATA);
    wire.deliver(&whoareyou);
    assert_eq!(wire.flying.len(), 2, "the handshake and the other request");
    wire.run();
    assert_eq!(wire.pongs(0), [7, 8]);
    assert_eq!(wire.sent, 6);
    let (a, b) = (wire.nodes[0].key.clone(), wire.nodes[1].key.clone());
    let sent = Some(record(&a, 1));
    assert_eq!(wire.nodes[0].established, [(b.node_id(), None, false)]);
    assert_eq!(wire.nodes[1].established, [(a.node_id(), sent, true)]);
    assert_eq!(wire.nodes[0].machine.queued(), 0, "answered and forgotten");
    assert_eq!(wire.nodes[1].machine.challenges(), 0);
    wire.request(1, 0, ping(9));
    wire.run();
    assert_eq!(wire.pongs(1), [9]);
    assert_eq!(wire.sent, 8, "a request and a response");
}

#[test]
fn a_record_is_sent_only_to_who_has_an_older_one() {
    for (knows, own_seq, sends) in [(false, 1, true), (true, 1, false), (true, 2, true)] {
        let mut wire = Wire::new(2);
        let key = wire.nodes[0].key.clone();
        let newest = record(&key, own_seq);
        let input = SessionInput::LocalRecord(newest.clone());
        wire.nodes[0].machine.handle(START, input);
        wire.nodes[1].knows = knows;
        wire.request(0, 1, ping(1));
        for _ in 0..2 {
            let datagram = wire.next();
            wire.deliver(&datagram);
        }
        let with_record = handshake_len(newest.raw().len(), 1 + 11);
        assert_eq!(wire.flying[0].bytes.len() == with_record, sends);
        wire.run();
        assert_eq!(wire.nodes[1].established[0].1, Some(newest));
    }
}

#[test]
fn a_challenge_is_repeated_as_it_was_for_its_second() {
    let mut wire = Wire::new(2);
    wire.request(0, 1, ping(1));
    let random = wire.next();
    wire.deliver(&random);
    let first = wire.next().bytes;
    wire.wait(Duration::from_millis(500));
    wire.deliver(&random);
    assert_eq!(wire.next().bytes, first);
    let counters = *wire.nodes[1].machine.counters();
    assert_eq!((counters.challenges, counters.repeated), (1, 1));
    wire.wait(Duration::from_millis(499));
    wire.flying.clear();
    wire.deliver(&random);
    assert_eq!(wire.next().bytes, first);
    wire.wait(Duration::from_millis(1));
    wire.flying.clear();
    wire.deliver(&random);
    assert_ne!(wire.next().bytes, first);
}

/// What somebody sends who sees neither key nor challenge: a handshake in A's name.
fn forged(wire: &Wire) -> Bytes {
    let (forger, record) = (secret(99), record(&wire.nodes[0].key, 1));
    let handshake = Handshake {
        src: wire.nodes[0].key.node_id(),
        signature: forger.sign(&[1; 32]),
        ephemeral: forger.public_key().to_compressed(),
        record: record.raw(),
    };
    let nonce = Nonce::new([3; 12]);
    let mut draft = Draft::new(&[4; 16], nonce, &Kind::Handshake(handshake));
    draft.message().extend_from_slice(&[0; 24]);
    draft.mask(&Mask::new(&wire.nodes[1].key.node_id()))
}

#[test]
fn a_forged_handshake_does_not_delete_a_challenge_nor_pay_for_ever() {
    for forgeries in [usize::from(MAX_TRIES) - 1, usize::from(MAX_TRIES) + 3] {
        let mut wire = Wire::new(2);
        wire.request(0, 1, ping(1));
        for _ in 0..2 {
            let datagram = wire.next();
            wire.deliver(&datagram);
        }
        let (forgery, from) = (forged(&wire), wire.nodes[0].addr);
        for _ in 0..forgeries {
            wire.inject(1, from, &forgery);
        }
        let paid = forgeries.min(usize::from(MAX_TRIES));
        assert_eq!(wire.dropped(1, SessionDrop::BadProof), paid as u64);
        wire.run();
        let holds = forgeries < usize::from(MAX_TRIES);
        assert_eq!(wire.pongs(0).len(), usize::from(holds));
        assert_eq!(wire.nodes[1].machine.challenges(), usize::from(!holds));
        assert_eq!(wire.dropped(1, SessionDrop::TooManyTries) > 0, !holds);
    }
}

#[test]
fn every_fault_of_a_handshake_is_counted() {
    type Spoil = fn(&mut Vec<u8>);
    let faults: [(SessionDrop, Spoil); 4] = [
        // Bytes of the signature, of the ephemeral key's tag, of the record's signature, and of the message.
        (SessionDrop::BadProof, |head| head[16 + 23 + 34 + 3] ^= 1),
        (SessionDrop::BadProof, |head| head[16 + 23 + 34 + 64] = 9),
        (SessionDrop::BadRecord, |head| {
            head[16 + 23 + 34 + 64 + 33 + 10] ^= 1;
        }),
        (SessionDrop::Undecryptable, |head| {
            *head.last_mut().unwrap() ^= 1;
        }),
    ];
    for (reason, spoil) in faults {
        let mut wire = Wire::new(2);
        wire.request(0, 1, ping(1));
        for _ in 0..2 {
            let datagram = wire.next();
            wire.deliver(&datagram);
        }
        let mut handshake = wire.next().bytes.to_vec();
        let mask = Mask::new(&wire.nodes[1].key.node_id());
        let head = unmask(&mask, &mut handshake).unwrap();
        spoil(&mut handshake);
        // Masks it again.
        let mut again = Draft::from_head(&[0; CHALLENGE_DATA]);
        again.message().clear();
        again.message().extend_from_slice(&handshake);
        let spoiled = again.with_head(head).mask(&mask);
        let from = wire.nodes[0].addr;
        wire.inject(1, from, &spoiled);
        assert_eq!(wire.dropped(1, reason), 1, "{reason:?}");
        assert_eq!(wire.nodes[1].machine.challenges(), 1);
        assert!(wire.nodes[1].machine.is_empty());
    }
}

#[test]
fn who_is_not_known_must_send_a_record() {
    let mut wire = Wire::new(2);
    // B says that it knows A's record, and then forgets: the handshake comes without one.
    wire.nodes[1].knows = true;
    wire.request(0, 1, ping(1));
    let random = wire.next();
    wire.deliver(&random);
    let whoareyou = wire.next();
    wire.deliver(&whoareyou);
    wire.nodes[1].machine = machine(1);
    wire.nodes[1].knows = false;
    wire.deliver(&random);
    let handshake = wire.next();
    wire.deliver(&handshake);
    assert_eq!(wire.dropped(1, SessionDrop::NoRecord), 1);
}

#[test]
fn an_unreadable_packet_does_not_touch_a_session() {
    let mut wire = Wire::new(2);
    wire.request(0, 1, ping(1));
    wire.run();
    let src = wire.nodes[0].key.node_id();
    let kind = Kind::Ordinary { src };
    let mut draft = Draft::new(&[1; 16], Nonce::new([2; 12]), &kind);
    draft.message().extend_from_slice(&[5; 40]);
    let garbage = draft.mask(&Mask::new(&wire.nodes[1].key.node_id()));
    let from = wire.nodes[0].addr;
    wire.inject(1, from, &garbage);
    assert_eq!(wire.nodes[1].machine.challenges(), 1, "it asks who that is");
    wire.run();
    assert_eq!(wire.dropped(0, SessionDrop::UnaskedChallenge), 1);
    wire.request(0, 1, ping(2));
    wire.request(1, 0, ping(3));
    wire.run();
    assert_eq!((wire.pongs(0), wire.pongs(1)), (vec![1, 2], vec![3]));
    assert_eq!(wire.nodes[0].machine.counters().outbound, 1);
}

#[test]
fn a_lost_session_is_made_again_with_all_that_was_asked() {
    let mut wire = Wire::new(2);
    wire.request(0, 1, ping(1));
    wire.run();
    wire.nodes[1].machine = machine(1);
    for id in 2..6 {
        wire.request(0, 1, ping(id));
    }
    wire.run();
    let mut pongs = wire.pongs(0);
    pongs.sort_unstable();
    assert_eq!(pongs, [1, 2, 3, 4, 5]);
    assert_eq!(wire.nodes[0].machine.queued(), 0);
}

#[test]
fn a_lost_handshake_packet_is_sent_again_when_the_challenge_is() {
    let mut wire = Wire::new(2);
    wire.request(0, 1, ping(1));
    for _ in 0..2 {
        let datagram = wire.next();
        wire.deliver(&datagram);
    }
    let lost = wire.next();
    wire.wait(Duration::from_millis(700));
    wire.request(0, 1, ping(2));
    let unread = wire.next();
    wire.deliver(&unread);
    let again = wire.next();
    wire.deliver(&again);
    assert_eq!(wire.flying[0].bytes, lost.bytes, "without curve work");
    wire.run();
    assert_eq!(wire.pongs(0), [1, 2]);
    // Who repeats it for ever is not followed.
    assert_eq!(wire.nodes[1].machine.counters().inbound, 1);
}

#[test]
fn a_handshake_that_was_given_up_is_followed_by_another() {
    let mut wire = Wire::new(2);
    wire.request(0, 1, ping(1));
    for _ in 0..2 {
        let datagram = wire.next();
        wire.deliver(&datagram);
    }
    drop(wire.next());
    wire.wait(Duration::from_millis(900));
    wire.request(0, 1, ping(2));
    // It arrives when the challenge is over, and calls forth a new one.
    wire.wait(Duration::from_millis(100));
    wire.run();
    assert_eq!(wire.pongs(0), [2]);
    assert_eq!(wire.nodes[1].machine.counters().challenges, 2);
    assert_eq!(wire.nodes[0].machine.queued(), 0);
    assert!(wire.nodes[0].machine.outboxes.is_clean());
}

#[test]
fn a_whoareyou_counts_once_and_only_from_where_the_packet_went() {
    let mut wire = Wire::new(2);
    wire.request(0, 1, ping(1));
    let random = wire.next();
    wire.deliver(&random);
    let whoareyou = wire.next();
    wire.inject(0, addr(5), &whoareyou.bytes);
    assert_eq!(wire.dropped(0, SessionDrop::WrongAddress), 1);
    assert!(wire.flying.is_empty());
    wire.deliver(&whoareyou);
    let handshake = wire.next();
    for _ in 0..10 {
        wire.deliver(&whoareyou);
    }
    assert!(wire.flying.is_empty(), "others may have been on their way");
    // Later on it means that the handshake was lost: the same packet again, at most twice.
    for repeats in [1, 1, 0] {
        wire.wait(Duration::from_millis(300));
        for _ in 0..10 {
            wire.deliver(&whoareyou);
        }
        assert_eq!(wire.flying.len(), repeats);
        assert!(wire.flying.drain(..).all(|it| it.bytes == handshake.bytes));
    }
    wire.deliver(&handshake);
    wire.run();
    assert_eq!(wire.pongs(0), [1]);
    wire.deliver(&handshake);
    assert_eq!(wire.dropped(1, SessionDrop::NoChallenge), 1);
}

#[test]
fn requests_that_wait_in_vain_expire_and_others_get_another_try() {
    let mut wire = Wire::new(2);
    wire.request(0, 1, ping(1));
    wire.flying.clear();
    wire.wait(Duration::from_millis(600));
    wire.request(0, 1, ping(2));
    assert!(wire.flying.is_empty(), "one handshake at a time");
    wire.wait(Duration::from_millis(400));
    assert_eq!(wire.dropped(0, SessionDrop::Expired), 1);
    assert_eq!(wire.flying.len(), 1, "another random packet");
    wire.run();
    assert_eq!(wire.pongs(0), [2]);
    wire.request(0, 1, ping(3));
    wire.flying.clear();
    wire.wait(REQUEST_LIFETIME);
    assert_eq!(wire.nodes[0].machine.queued(), 0);
    assert_eq!(wire.nodes[0].machine.deadline(), None);
}

#[test]
fn another_try_meets_the_challenge_that_is_still_open() {
    for comes in [false, true] {
        let mut wire = Wire::new(2);
        wire.request(0, 1, ping(1));
        let random = wire.next();
        // The packet is long on its way; the next one will not be.
        wire.wait(Duration::from_millis(50));
        wire.deliver(&random);
        let whoareyou = wire.next();
        wire.wait(Duration::from_millis(850));
        wire.request(0, 1, ping(2));
        wire.wait(Duration::from_millis(100));
        assert_eq!(wire.dropped(0, SessionDrop::Expired), 1);
        // Whether the WHOAREYOU was lost or comes late.
        if comes {
            wire.deliver(&whoareyou);
        }
        wire.run();
        assert_eq!(wire.pongs(0), [2]);
        assert_eq!(wire.nodes[1].machine.counters().challenges, 1);
        wire.wait(REQUEST_LIFETIME);
        assert!(wire.nodes[0].machine.outboxes.is_clean());
    }
}

#[test]
fn a_whoareyou_or_its_answer_that_is_too_late_leads_to_nothing() {
    // As on a machine that stands still for a second: what lies unread is about a request that has been given up.
    let mut wire = Wire::new(2);
    wire.request(0, 1, ping(1));
    let random = wire.next();
    wire.deliver(&random);
    wire.now = wire.now.after(REQUEST_LIFETIME);
    wire.run();
    assert_eq!(wire.dropped(0, SessionDrop::Expired), 1);
    assert_eq!(wire.dropped(0, SessionDrop::UnaskedChallenge), 1);

    let mut wire = Wire::new(2);
    wire.request(0, 1, ping(1));
    for _ in 0..2 {
        let datagram = wire.next();
        wire.deliver(&datagram);
    }
    wire.now = wire.now.after(CHALLENGE_LIFETIME);
    wire.run();
    assert_eq!(wire.dropped(1, SessionDrop::NoChallenge), 1);
    assert!(wire.nodes[1].machine.is_empty());
}

#[test]
fn keys_are_replaced_long_before_a_nonce_can_repeat() {
    let mut wire = Wire::new(2);
    wire.request(0, 1, ping(1));
    wire.run();
    let b = PeerKey {
        id: wire.nodes[1].key.node_id(),
        addr: wire.nodes[1].addr,
    };
    let worn = crate::v5::REKEY_AFTER;
    let session = |wire: &mut Wire, sealed| {
        let sessions = &mut wire.nodes[0].machine.sessions;
        sessions.get_mut(&b).unwrap().wear(sealed);
    };
    session(&mut wire, worn - 1);
    wire.request(0, 1, ping(2));
    wire.run();
    assert_eq!(wire.nodes[1].machine.counters().inbound, 1);
    wire.request(0, 1, ping(3));
    wire.run();
    assert_eq!(wire.pongs(0), [1, 2, 3]);
    assert_eq!(wire.nodes[1].machine.counters().inbound, 2, "new keys");
    // Responses go on under worn keys until the counter is used up, and never beyond.
    session(&mut wire, u32::MAX - 1);
    wire.request(1, 0, ping(4));
    wire.request(1, 0, ping(5));
    wire.run();
    assert_eq!(wire.pongs(1), [4]);
    assert_eq!(wire.dropped(0, SessionDrop::WornOut), 1);
}

#[test]
fn former_keys_are_read_for_a_moment() {
    for (after, readable) in [(Duration::ZERO, true), (crate::v5::FORMER_LIFETIME, false)] {
        let mut wire = Wire::new(2);
        wire.request(0, 1, ping(1));
        wire.run();
        wire.request(0, 1, ping(2));
        let late = wire.next();
        let a = PeerKey {
            id: wire.nodes[1].key.node_id(),
            addr: wire.nodes[1].addr,
        };
        let sessions = &mut wire.nodes[0].machine.sessions;
        sessions.get_mut(&a).unwrap().wear(crate::v5::REKEY_AFTER);
        wire.request(0, 1, ping(3));
        wire.run();
        wire.wait(after);
        wire.deliver(&late);
        let counters = wire.nodes[1].machine.counters();
        assert_eq!(counters.challenges == 2, readable, "{counters:?}");
    }
}

#[test]
fn what_does_not_fit_beside_a_record_goes_after_the_handshake() {
    let mut wire = Wire::new(2);
    let talk = |len| {
        let id = RequestId::new(&[1]).unwrap();
        let (protocol, payload) = (Bytes::from_static(b"p"), Bytes::from(vec![7; len]));
        Message::Request(id, Request::Talk { protocol, payload })
    };
    // type, list header, id, protocol, payload header
    let longest = MAX_MESSAGE - (1 + 3 + 1 + 1 + 3);
    wire.request(0, 1, talk(longest + 1));
    assert_eq!(wire.dropped(0, SessionDrop::TooLong), 1);
    assert!(wire.flying.is_empty());
    wire.request(0, 1, talk(longest));
    wire.run();
    let heard = &wire.nodes[1].heard;
    assert_eq!(heard.len(), 2);
    assert!(matches!(
        heard[0].1,
        Message::Request(_, Request::Ping { .. })
    ));
    let Message::Request(_, Request::Talk { payload, .. }) = &heard[1].1 else {
        panic!("{heard:?}")
    };
    assert_eq!(payload.len(), longest);
}

#[test]
fn what_cannot_be_sent_is_dropped() {
    let mut wire = Wire::new(2);
    let (to, key) = (wire.nodes[1].addr, wire.nodes[1].key.clone());
    let (own, stranger) = (
        peer(&wire.nodes[0].key),
        V5Peer {
            id: key.node_id(),
            key: None,
        },
    );
    for (peer, message, reason) in [
        (own, ping(1), SessionDrop::OwnId),
        (stranger, ping(1), SessionDrop::NoKey),
        (stranger, pong(RequestId::default()), SessionDrop::NoSession),
    ] {
        let input = SessionInput::Send { to, peer, message };
        wire.nodes[0].machine.handle(START, input);
        assert_eq!(wire.dropped(0, reason), 1);
    }
    wire.drain(0);
    assert_eq!(wire.sent, 0);
}

#[test]
fn packets_that_are_none_are_never_answered() {
    let mut wire = Wire::new(2);
    let (own, other) = (wire.nodes[1].key.node_id(), wire.nodes[0].key.node_id());
    let mask = Mask::new(&own);
    let make = |src, message: usize, spoil: &dyn Fn(&mut BytesMut)| {
        let kind = Kind::Ordinary { src };
        let mut draft = Draft::new(&[1; 16], Nonce::new([2; 12]), &kind);
        draft.message().extend_from_slice(&vec![5; message]);
        spoil(draft.message());
        draft.mask(&mask)
    };
    let fine = |_: &mut BytesMut| {};
    let cases: [(Bytes, SessionDrop); 10] = [
        (make(own, 30, &fine), SessionDrop::OwnId),
        (make(other, 15, &fine), SessionDrop::NotDiscv5),
        (make(other, 1280 - 71 + 1, &fine), SessionDrop::NotDiscv5),
        (make(other, 30, &|p| p[16] = b'x'), SessionDrop::NotDiscv5),
        (make(other, 30, &|p| p[23] = 0), SessionDrop::BadHeader),
        (make(other, 30, &|p| p[24] = 3), SessionDrop::BadHeader),
        (make(other, 30, &|p| p[24] = 1), SessionDrop::BadHeader),
        (make(other, 30, &|p| p[24] = 2), SessionDrop::BadHeader),
        (make(other, 30, &|p| p[38] = 31), SessionDrop::BadHeader),
        (Bytes::from(vec![0; 62]), SessionDrop::NotDiscv5),
    ];
    for (number, (datagram, reason)) in cases.into_iter().enumerate() {
        let before = wire.dropped(1, reason);
        wire.inject(1, addr(0), &datagram);
        assert_eq!(wire.dropped(1, reason), before + 1, "case {number}");
    }
    assert_eq!(wire.sent, 0);
    // A later version is read as ours.
    wire.inject(1, addr(0), &make(other, 30, &|p| p[22] = 1));
    assert_eq!(wire.sent, 1);
    // An empty datagram, and everything shorter than a packet, under any mask.
    for len in 0..MIN {
        wire.inject(1, addr(0), &vec![0; len]);
    }
    assert_eq!(wire.sent, 1);
}

const MIN: usize = crate::v5::packet::MIN_PACKET;

#[test]
fn a_find_node_travels_like_any_other_request() {
    let mut wire = Wire::new(2);
    let id = RequestId::new(&[0, 0, 9]).unwrap();
    let distances = Distances::new([256, 0, 255]);
    let request = Request::FindNode { distances };
    wire.request(0, 1, Message::Request(id, request.clone()));
    wire.run();
    assert_eq!(wire.nodes[1].heard[0].1, Message::Request(id, request));
}
