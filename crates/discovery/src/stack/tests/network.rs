//! Nodes that find, ask and answer each other.

use super::*;
use crate::core::FindTarget;
use crate::v4::MessageKind;
use crate::v5::Distances;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn two_nodes_bond_over_every_protocol_they_share() {
    let cases = [
        (Protocols::V4, Protocols::V4, Protocols::V4),
        (Protocols::V5, Protocols::V5, Protocols::V5),
        (Protocols::ALL, Protocols::ALL, Protocols::ALL),
        (Protocols::ALL, Protocols::V4, Protocols::V4),
        (Protocols::V5, Protocols::ALL, Protocols::V5),
        (Protocols::V4, Protocols::V5, Protocols::NONE),
    ];
    for (first, second, shared) in cases {
        let mut net = Net::of(&[first, second]);
        let met = |net: &Net| net.lives(0, 1, shared) && net.lives(1, 0, shared);
        if shared.is_empty() {
            net.wait(MINUTE);
            assert!(met(&net), "{first:?} {second:?}");
            let dropped = |at| net.stack(at).counters().not_served;
            assert!(
                dropped(0) > 0,
                "the first was asked over the wrong protocol"
            );
        } else {
            assert!(net.until(MINUTE, met), "{first:?} {second:?}");
        }
        // Nothing was sent over a protocol that is switched off.
        for at in [0, 1] {
            let core = net.stack(at).core().counters();
            let spoken = [first, second][at];
            if !spoken.contains(Protocol::V4) {
                assert_eq!(core.v4.sent, 0);
            }
            if !spoken.contains(Protocol::V5) {
                assert_eq!(core.v5.sent, 0);
            }
        }
    }
}

/// A node drops what it is asked before the pong that proves who asks has come.
#[test]
fn a_question_does_not_overtake_the_pong_before_it() {
    let mut net = Net::new();
    for n in [0, 1] {
        net.add(n, config(n, Protocols::V4));
    }
    let ask = Command::RequestEnr(node(1), Some(Protocol::V4));
    assert!(matches!(net.run(0, ask), Ok(Reply::Record(_))));
    let sent = net.log.iter().filter(|flying| flying.from == address(0));
    let kinds: Vec<u8> = sent.map(|flying| flying.datagram[97]).collect();
    let [ping, pong, request] = [
        MessageKind::Ping,
        MessageKind::Pong,
        MessageKind::EnrRequest,
    ];
    assert_eq!(kinds, [ping as u8, pong as u8, request as u8]);
}

#[test]
fn nodes_of_discv5_alone_look_up_and_talk() {
    let mut net = Net::of(&[Protocols::V5; 5]);
    let full = |net: &Net| {
        net.stacks
            .iter()
            .all(|(_, stack, _)| stack.table().live_len() == 4)
    };
    assert!(net.until(2 * MINUTE, full));
    let target = net.stack(3).record().id();
    let Ok(Reply::Found(found)) = net.run(4, Command::Lookup(target.into())) else {
        panic!("a lookup ends with what it found")
    };
    assert_eq!(found.closest.first().map(Node::id), Some(target));
    assert_eq!(found.closest.len(), 4);
    let talk = Command::Talk {
        node: recorded(net.stack(1)),
        protocol: Bytes::from_static(b"echo"),
        payload: Bytes::from_static(b"abc"),
    };
    let answer = net.run(2, talk);
    assert_eq!(answer, Ok(Reply::Talk(Bytes::from_static(b"cba"))));
    let record = net.stack(1).record().clone();
    let ask = Command::RequestEnr(recorded(net.stack(1)), None);
    assert_eq!(net.run(2, ask), Ok(Reply::Record(record)));
    assert!(net.stacks.iter().all(|(_, stack, _)| {
        let counters = stack.core().counters();
        counters.v4.sent == 0 && stack.counters().undecodable == 0
    }));
}

/// Every record costs its signature check once, however often it is named.
#[test]
fn a_record_seen_before_is_not_checked_again() {
    let mut net = Net::of(&[Protocols::V5; 5]);
    net.wait(MINUTE);
    let everybody = |net: &Net| {
        let node = recorded(net.stack(0));
        Command::FindNode(node, FindTarget::Distances(Distances::new(1..=256)))
    };
    let first = everybody(&net);
    let Ok(Reply::Nodes(named)) = net.run(1, first) else {
        panic!("the first node names the others")
    };
    assert_eq!(named.len(), 3);
    let before = net.stack(1).counters();
    let again = everybody(&net);
    net.run(1, again).unwrap();
    let after = net.stack(1).counters();
    assert_eq!(after.records_checked, before.records_checked);
    assert!(after.records_known >= before.records_known + 3);
    // A changed one is.
    let now = net.now;
    net.stack_mut(2).set_tcp_port(now, 4).unwrap();
    net.drain(2);
    let seq = net.stack(2).record().seq();
    let id = net.stack(2).record().id();
    let known = |net: &Net| {
        net.stack(0)
            .table()
            .get(&id)
            .is_some_and(|node| node.seq() == seq)
    };
    assert!(
        net.until(2 * MINUTE, known),
        "the first fetches the new record"
    );
    let third = everybody(&net);
    net.run(1, third).unwrap();
    assert!(net.stack(1).counters().records_checked > after.records_checked);
}

/// A node that has lost its sessions is told that its record is known and does not send it.
#[test]
fn a_challenge_says_which_record_is_known() {
    let mut net = Net::of(&[Protocols::V5; 2]);
    assert!(net.until(MINUTE, |net| net.lives(0, 1, Protocols::V5)));
    let longest = |net: &Net, since: usize| {
        let from = address(1);
        let sent = net.log[since..].iter().filter(|flying| flying.from == from);
        sent.map(|flying| flying.datagram.len()).max().unwrap()
    };
    let with_record = longest(&net, 0);
    // The same node with the same record, and no memory but that.
    let since = net.log.len();
    let mut again = config(1, Protocols::V5);
    again.core.bootnodes = vec![recorded(net.stack(0))];
    again.core.seed = [77; 32];
    let known = net.stack(0).record().clone();
    let stack = NodeStack::new(again, key(1), None, START).unwrap();
    assert_eq!(stack.record(), net.stack(1).record());
    net.stacks[1].1 = stack;
    net.drain(1);
    let made = net.stack(0).session_counters().inbound;
    assert!(net.until(MINUTE, |net| net.stack(0).session_counters().inbound > made));
    assert_eq!(*net.stack(0).record(), known);
    let without = longest(&net, since);
    let record = net.stack(1).record().raw().len();
    assert!(
        without + record <= with_record,
        "{without} + {record} > {with_record}"
    );
}

/// The split form does the same, job by job, and a job that is lost costs its datagram alone.
#[test]
fn jobs_may_be_run_anywhere_and_lost() {
    let mut net = Net::of(&[Protocols::ALL; 2]);
    let mut lost = 0;
    let mut apart = stack(9, {
        let mut config = config(9, Protocols::ALL);
        config.core.bootnodes = vec![recorded(net.stack(0))];
        config
    });
    let here = address(9);
    for _ in 0..1000 {
        if apart.deadline().is_some_and(|due| due <= net.now.mono) {
            apart.handle_timeout(net.now);
        }
        while let Some(output) = apart.poll() {
            match output {
                StackOutput::Datagram { to, datagram } => net.send(here, to, datagram),
                StackOutput::LoadSeeds { .. } => apart.handle(net.now, StackInput::Seeds(vec![])),
                _ => {}
            }
        }
        let since = net.log.len();
        net.wait(DELAY);
        let arrived: Vec<Flying> = net.log[since..]
            .iter()
            .filter(|flying| flying.to == here)
            .cloned()
            .collect();
        for Flying { from, datagram, .. } in arrived {
            assert_eq!(apart.admit(net.now, from, &datagram), Ok(()));
            apart.open(net.now, from, BytesMut::from(datagram.as_ref()));
            while let Some(job) = apart.poll_job() {
                assert_eq!(job.from(), from);
                lost += 1;
                if lost > 3 {
                    let done = std::thread::spawn(move || job.run()).join().unwrap();
                    assert_eq!(done.from(), from);
                    apart.complete(net.now, done);
                }
            }
        }
    }
    let id = net.stack(0).record().id();
    let standing = apart.table().standing(&id).unwrap();
    assert_eq!(standing.live, Protocols::ALL);
}

/// What a discv4 packet costs twice, the sender's key and the signature of the reply, is work for any thread; nothing is signed
/// where the datagrams are moved.
#[test]
fn a_reply_is_signed_as_a_job_of_the_packet_it_answers() {
    let mut node = stack(1, config(1, Protocols::V4));
    let from = address(2);
    let ping = v4::Message::Ping(v4::Ping {
        from: v4::WireEndpoint::default(),
        to: v4::WireEndpoint::default(),
        expiration: START.unix.as_secs() + 20,
        enr_seq: None,
    });
    let (ping, _) = codec::encode(&key(2), &ping);
    node.open(START, from, BytesMut::from(&ping[..]));
    let recovery = node.poll_job().unwrap();
    assert!(!recovery.is_last() && node.poll_job().is_none());
    node.complete(START, recovery.run());
    let sent = |node: &mut NodeStack| -> Vec<MessageKind> {
        std::iter::from_fn(|| node.poll())
            .filter_map(|output| match output {
                StackOutput::Datagram { to, datagram } => {
                    assert_eq!(to, from);
                    Some(UnverifiedPacket::parse(&datagram).unwrap().kind())
                }
                _ => None,
            })
            .collect()
    };
    assert!(!sent(&mut node).contains(&MessageKind::Pong));
    let signature = node.poll_job().unwrap();
    assert!(signature.is_last() && !signature.is_asked() && node.poll_job().is_none());
    assert_eq!(signature.from(), from);
    node.complete(START, signature.run());
    assert_eq!(sent(&mut node), [MessageKind::Pong]);
    assert!(node.poll_job().is_none());
}
