//! The node's own record in a network: what others see, what it says then, and when it stops saying so.

use super::*;
use crate::reach::{SILENCE, TEST_TIME, TRIAL_TIME};

const MINUTE: Duration = Duration::from_secs(60);

/// A node that listens on "any" and was told nothing of where it is.
pub(super) fn unaware(protocols: Protocols) -> StackConfig {
    let mut config = config(0, protocols);
    config.advertised = [None, None];
    config.min_voices = 3;
    config
}

/// A first node that knows nothing of itself, and others that come to it.
fn visited(first: StackConfig, others: u64) -> Net {
    let protocols = first.core.protocols;
    let mut net = Net::new();
    net.add(0, first);
    for n in 1..=others {
        let mut config = config(n, protocols);
        config.core.bootnodes = vec![node(0)];
        net.add(n, config);
    }
    net
}

fn published(net: &Net) -> Option<SocketAddr> {
    let record = net.stack(0).record();
    Some(SocketAddr::new(record.ip4()?.into(), record.udp4()?))
}

#[test]
fn votes_and_visits_put_the_address_into_the_record_and_silence_takes_it_out() {
    let mut net = visited(unaware(Protocols::ALL), 6);
    assert_eq!(published(&net), None);
    let first = net.stack(0).record().seq();
    let found = |net: &Net| published(net) == Some(address(0));
    assert!(net.until(MINUTE, found));
    let record = net.stack(0).record().clone();
    assert_eq!(record.seq(), first + 1);
    let heard = net.heard(0);
    assert_eq!(heard.records, std::slice::from_ref(&record));
    assert_eq!(
        heard.seqs,
        [first, record.seq()],
        "both are in the database"
    );
    let counters = net.stack(0).counters();
    assert!(counters.votes >= 3 && counters.contacts >= 2);
    // Everybody learns of it.
    let id = record.id();
    let known = |net: &Net| {
        let others = net.stacks[1..].iter();
        others
            .map(|(_, stack, _)| stack.table().get(&id).and_then(Node::record))
            .all(|known| known == Some(&record))
    };
    assert!(net.until(5 * MINUTE, known));
    // Then nobody comes any more.
    net.stacks.truncate(1);
    net.wait(2 * SILENCE + MINUTE);
    assert_eq!(published(&net), None);
    assert_eq!(net.stack(0).record().seq(), first + 2);
    assert_eq!(net.heard(0).seqs.last(), Some(&(first + 2)));
}

/// Where everybody was asked something once nobody can come any more without having been.
#[test]
fn a_network_without_newcomers_takes_no_address_away() {
    let mut net = visited(unaware(Protocols::ALL), 6);
    let found = |net: &Net| published(net) == Some(address(0));
    assert!(net.until(MINUTE, found));
    net.wait(4 * SILENCE);
    assert!(found(&net));
    assert_eq!(net.heard(0).records.len(), 1, "it never changed");
}

/// Behind a NAT that lets in only who was sent something, all see the same address and nobody else can reach it.
#[test]
fn those_who_were_invited_are_no_evidence() {
    let mut first = unaware(Protocols::ALL);
    first.core.bootnodes = (1..=6).map(node).collect();
    let mut net = visited(first, 6);
    for n in 1..=6 {
        // They do not know it until it comes.
        net.stacks.remove(1);
        net.add(n, config(n, Protocols::ALL));
    }
    net.wait(5 * MINUTE);
    let counters = net.stack(0).counters();
    assert!(counters.votes >= 6, "{counters:?}");
    assert_eq!((counters.contacts, published(&net)), (0, None));
}

#[test]
fn a_node_of_discv5_alone_tries_its_address_and_withdraws_it_if_nobody_comes() {
    let mut net = Net::new();
    for n in 1..=4 {
        net.add(n, config(n, Protocols::V5));
    }
    let mut first = unaware(Protocols::V5);
    first.core.bootnodes = (0..4).map(|at| recorded(net.stack(at))).collect();
    net.add(0, first);
    net.stacks.rotate_right(1);
    let voted = |net: &Net| net.stack(0).counters().votes >= 3;
    assert!(net.until(MINUTE, voted));
    assert_eq!(published(&net), None);
    net.wait(TEST_TIME + MINUTE);
    assert_eq!(published(&net), Some(address(0)));
    // Others are there and answer, but nobody comes by himself.
    net.stacks.truncate(1);
    net.wait(TRIAL_TIME);
    assert_eq!(published(&net), None);
    let seqs = &net.heard(0).seqs;
    assert!(seqs.windows(2).all(|two| two[0] < two[1]) && seqs.len() == 3);
}

#[test]
fn an_address_given_by_hand_stands_whatever_others_see() {
    let by_hand: SocketAddr = "30.0.0.1:30303".parse().unwrap();
    let mut first = unaware(Protocols::ALL);
    first.advertised = [Some(SocketAddr::new(by_hand.ip(), 0)), None];
    let mut net = visited(first, 6);
    net.wait(5 * MINUTE);
    assert!(net.stack(0).counters().votes >= 6);
    assert_eq!(published(&net), Some(by_hand));
    assert!(net.heard(0).records.is_empty());
    // A mapping that has changed says another.
    let now = net.now;
    let moved = Some("30.0.0.2:4".parse().unwrap());
    assert_eq!(net.stack_mut(0).set_advertised(now, moved), Ok(true));
    assert_eq!(published(&net), moved.map(SocketAddr::V4));
    // Without one, what others see counts; they have said so all the time, and visited.
    assert_eq!(net.stack_mut(0).set_advertised(now, None), Ok(true));
    assert_eq!(published(&net), Some(address(0)));
}

#[test]
fn every_change_by_the_owner_is_signed_stored_and_published_once() {
    let mut net = visited(unaware(Protocols::ALL), 0);
    let (now, seq) = (net.now, net.stack(0).record().seq());
    let snap = || (b"snap".to_vec(), Bytes::from_static(&[0xc0]));
    let (key, value) = snap();
    assert_eq!(net.stack_mut(0).set_entry(now, key, value), Ok(true));
    let (key, value) = snap();
    assert_eq!(net.stack_mut(0).set_entry(now, key, value), Ok(false));
    assert_eq!(net.stack_mut(0).set_tcp_port(now, 7), Ok(true));
    assert_eq!(net.stack_mut(0).remove_entry(now, b"snap"), Ok(true));
    let refused = net.stack_mut(0).remove_entry(now, b"ip");
    assert_eq!(refused, Err(EntryError::Reserved));
    net.drain(0);
    assert_eq!(net.heard(0).seqs, [seq, seq + 1, seq + 2, seq + 3]);
    let published: Vec<u64> = net.heard(0).records.iter().map(NodeRecord::seq).collect();
    assert_eq!(published, [seq + 1, seq + 2, seq + 3]);
    let record = net.stack(0).record();
    assert_eq!((record.snap(), record.tcp4()), (false, Some(7)));
    assert_eq!(net.stack(0).core().record(), record);
}
