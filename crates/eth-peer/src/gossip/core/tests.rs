//! The gossip in virtual time: who gets what, and what waits for slow peers.

use super::*;
use crate::chain::{DevAccount, DevTransfer, TransferKind};
use crate::limits::{MAX_ANNOUNCEMENTS, MAX_QUEUED_ITEMS, SESSION_CREDIT};
use crate::wire::{WireTransaction, decode_announcements, decode_transactions};
use alloy_consensus::{SignableTransaction, TxLegacy};
use alloy_primitives::{Signature, U256};
use proptest::prelude::*;
use std::time::Duration;
use tercet_enode::SecretKey;
use tercet_machine::check::{self, Limits, Step};

const NOW: Now = check::START;
const RANGE: BlockRange = BlockRange {
    earliest: 0,
    latest: 100,
    latest_hash: B256::ZERO,
};

fn id(n: u8) -> NodeId {
    NodeId::new([n; 32])
}

fn core() -> GossipCore {
    GossipCore::new(id(255), &mut MachineRng::from_seed([5; 32]))
}

/// A gossip with peers 0 to `count`, all told of an empty pool.
fn with_peers(count: u8) -> GossipCore {
    let mut core = core();
    for n in 0..count {
        join(&mut core, n, &[]);
    }
    core
}

fn join(core: &mut GossipCore, n: u8, pool: &[Announcement]) {
    let version = if n.is_multiple_of(2) {
        EthVersion::Eth69
    } else {
        EthVersion::Eth68
    };
    core.handle(
        NOW,
        GossipInput::Joined {
            peer: id(n),
            version,
            told: RANGE,
        },
    );
    assert_eq!(core.poll(), Some(GossipOutput::NeedPool(id(n))));
    core.handle(
        NOW,
        GossipInput::Pool {
            peer: id(n),
            entries: pool.into(),
        },
    );
}

/// The `n`th transfer of an account.
fn tx(account: u8, n: u64) -> Arc<PooledTransaction> {
    let key = SecretKey::from_bytes(&[account; 32]).unwrap();
    let mut account = DevAccount::new(key, n);
    let wire = account.transfer(DevTransfer {
        chain_id: 1,
        to: Address::ZERO,
        value: U256::ONE,
        kind: TransferKind::Legacy,
    });
    Arc::new(PooledTransaction::new(wire).unwrap())
}

/// Like a transfer, with `size` bytes of input. Cheaper to make: any signature
/// is somebody's.
fn sized(n: u64, size: usize) -> Arc<PooledTransaction> {
    let tx = TxLegacy {
        nonce: n,
        input: vec![1; size].into(),
        ..TxLegacy::default()
    };
    let signature = Signature::new(U256::from(1), U256::from(1), false);
    let wire = WireTransaction::new(tx.into_signed(signature).into());
    Arc::new(PooledTransaction::new(wire).unwrap())
}

fn entry(n: u64) -> Announcement {
    Announcement {
        hash: B256::from(U256::from(n)),
        kind: 0,
        size: 100,
    }
}

/// Messages by peer: transactions sent whole, hashes announced.
#[derive(Default)]
struct Sent {
    whole: BTreeMap<NodeId, Vec<B256>>,
    announced: BTreeMap<NodeId, Vec<B256>>,
    payloads: Vec<Payload>,
    other: Vec<GossipOutput>,
}

fn drain(core: &mut GossipCore) -> Sent {
    let mut sent = Sent::default();
    while let Some(output) = core.poll() {
        match output {
            GossipOutput::Send {
                peer,
                gossip: Gossip::Message { message, payload },
            } => match message {
                MessageId::Transactions => {
                    let txs = decode_transactions(payload.raw()).unwrap();
                    let hashes = txs.iter().map(WireTransaction::hash);
                    sent.whole.entry(peer).or_default().extend(hashes);
                    sent.payloads.push(payload);
                }
                MessageId::NewPooledTransactionHashes => {
                    let entries = decode_announcements(payload.raw()).unwrap().entries;
                    let hashes = entries.iter().map(|entry| entry.hash);
                    sent.announced.entry(peer).or_default().extend(hashes);
                }
                _ => sent.other.push(GossipOutput::Send {
                    peer,
                    gossip: Gossip::Message { message, payload },
                }),
            },
            other => sent.other.push(other),
        }
    }
    sent
}

fn passed(core: &mut GossipCore, n: u8) -> Sent {
    core.handle(NOW, GossipInput::Passed(id(n)));
    drain(core)
}

#[test]
fn whole_to_the_square_root_and_announced_to_the_rest() {
    let mut core = with_peers(10);
    let one = tx(1, 0);
    core.handle(NOW, GossipInput::Local(Arc::clone(&one)));
    let sent = drain(&mut core);
    assert_eq!(sent.whole.len(), 4);
    assert_eq!(sent.announced.len(), 6);
    assert!(sent.whole.keys().all(|id| !sent.announced.contains_key(id)));
    // The sender's next goes the same way.
    core.handle(NOW, GossipInput::Local(tx(1, 1)));
    let next = drain(&mut core);
    assert!(next.whole.keys().eq(sent.whole.keys()));
    // All of it was encoded once.
    let first = sent.payloads[0].raw().as_ptr();
    assert!(
        sent.payloads
            .iter()
            .all(|payload| payload.raw().as_ptr() == first)
    );
    // Nobody is told twice.
    core.handle(NOW, GossipInput::Local(one));
    assert!(drain(&mut core).whole.is_empty());
}

#[test]
fn the_sender_and_those_who_announced_are_left_out() {
    let mut core = with_peers(3);
    let one = tx(1, 0);
    let all = vec![one.announcement()];
    core.handle(
        NOW,
        GossipInput::Announced {
            peer: id(1),
            all,
            unknown: vec![],
        },
    );
    let received = Received {
        entry: one.announcement(),
        verdict: Verdict::Added(one),
    };
    core.handle(
        NOW,
        GossipInput::Received {
            peer: id(0),
            transactions: vec![received],
            answer: None,
        },
    );
    let sent = drain(&mut core);
    let told: Vec<_> = sent
        .whole
        .keys()
        .chain(sent.announced.keys())
        .copied()
        .collect();
    assert_eq!(told, [id(2)]);
}

#[test]
fn large_transactions_and_blobs_are_only_announced() {
    let mut core = with_peers(4);
    let largest = sized(0, MAX_BROADCAST_SIZE - 200);
    assert!(largest.announcement().size as usize <= MAX_BROADCAST_SIZE);
    core.handle(NOW, GossipInput::Local(largest));
    assert_eq!(drain(&mut core).whole.len(), 2);
    let larger = sized(1, MAX_BROADCAST_SIZE);
    core.handle(NOW, GossipInput::Local(larger));
    let sent = drain(&mut core);
    assert_eq!((sent.whole.len(), sent.announced.len()), (0, 4));
    core.handle(NOW, GossipInput::Local(blob()));
    let sent = drain(&mut core);
    assert_eq!((sent.whole.len(), sent.announced.len()), (0, 4));
}

fn blob() -> Arc<PooledTransaction> {
    use alloy_consensus::{TxEip4844, TxEip4844WithSidecar};
    use alloy_eips::eip7594::{BlobTransactionSidecarEip7594, BlobTransactionSidecarVariant};
    let sidecar = BlobTransactionSidecarEip7594::new(vec![], vec![], vec![]);
    let sidecar = BlobTransactionSidecarVariant::Eip7594(sidecar);
    let tx = TxEip4844WithSidecar {
        tx: TxEip4844::default(),
        sidecar,
    };
    let signature = Signature::new(U256::from(1), U256::from(1), false);
    let wire = WireTransaction::new(tx.into_signed(signature).into());
    Arc::new(PooledTransaction::new(wire).unwrap())
}

#[test]
fn a_newcomer_is_told_of_the_pool_in_messages_of_4096() {
    let pool: Vec<_> = (0..3 * MAX_ANNOUNCEMENTS as u64).map(entry).collect();
    let mut core = core();
    join(&mut core, 0, &pool);
    let sent = drain(&mut core);
    assert_eq!(sent.announced[&id(0)].len(), 3 * MAX_ANNOUNCEMENTS);
    assert_eq!(core.peers[&id(0)].credit, SESSION_CREDIT - 3);
}

#[test]
fn a_slow_peer_gets_no_more_than_its_credit_and_then_large_messages() {
    let mut core = with_peers(1);
    let txs: Vec<_> = (0..50).map(|n| tx(1, n)).collect();
    for tx in &txs {
        core.handle(NOW, GossipInput::Local(Arc::clone(tx)));
    }
    let sent = drain(&mut core);
    assert_eq!(sent.payloads.len(), SESSION_CREDIT);
    assert_eq!(core.peers[&id(0)].queued().0, 50 - SESSION_CREDIT);
    // One message brings all that waited, in order.
    let rest = passed(&mut core, 0);
    assert_eq!(rest.payloads.len(), 1);
    let expected: Vec<_> = txs[SESSION_CREDIT..].iter().map(|tx| tx.hash()).collect();
    assert_eq!(rest.whole[&id(0)], expected);
}

/// A peer whose session takes nothing.
fn stalled() -> GossipCore {
    let mut core = with_peers(1);
    for n in 0..SESSION_CREDIT as u64 {
        core.handle(NOW, GossipInput::Local(tx(1, n)));
    }
    drain(&mut core);
    core
}

#[test]
fn whole_transactions_past_2_mib_become_announcements() {
    let mut core = stalled();
    for n in 0..600 {
        core.handle(NOW, GossipInput::Local(sized(n, 4000)));
    }
    let (whole, bytes, announced) = core.peers[&id(0)].queued();
    assert!(bytes <= crate::limits::MAX_QUEUED_BYTES);
    assert_eq!(whole + announced, 600);
    assert!(announced > 50, "{announced}");
    assert_eq!(core.taken_back(), 0);
}

#[test]
fn what_is_taken_back_from_a_slow_peer_is_told_later() {
    let mut core = stalled();
    // Announced only, for they are large.
    let count = MAX_QUEUED_ITEMS + 10;
    let txs: Vec<_> = (0..count as u64)
        .map(|n| sized(n, MAX_BROADCAST_SIZE))
        .collect();
    for tx in &txs {
        core.handle(NOW, GossipInput::Local(Arc::clone(tx)));
    }
    assert_eq!(core.taken_back(), 10);
    assert_eq!(core.peers[&id(0)].queued().2, MAX_QUEUED_ITEMS);
    assert!(!core.peers[&id(0)].known.contains(&txs[9].hash()));
    assert!(core.peers[&id(0)].known.contains(&txs[10].hash()));
    let mut told = passed(&mut core, 0).announced.remove(&id(0)).unwrap();
    assert_eq!(told.len(), MAX_QUEUED_ITEMS);
    // It has caught up: now the pool is gone through again.
    let sent = passed(&mut core, 0);
    assert_eq!(sent.other, [GossipOutput::NeedPool(id(0))]);
    let entries = txs.iter().map(|tx| tx.announcement()).collect();
    core.handle(
        NOW,
        GossipInput::Pool {
            peer: id(0),
            entries,
        },
    );
    let rest = drain(&mut core).announced.remove(&id(0)).unwrap();
    assert_eq!(rest.len(), 10);
    told.extend(rest);
    told.sort_unstable();
    let mut all: Vec<_> = txs.iter().map(|tx| tx.hash()).collect();
    all.sort_unstable();
    assert_eq!(told, all);
}

#[test]
fn a_range_is_told_after_32_blocks_or_when_it_moves_back() {
    let to = |latest| BlockRange {
        latest,
        latest_hash: B256::repeat_byte(1),
        ..RANGE
    };
    let mut core = with_peers(3);
    let mut told = |latest| {
        core.handle(NOW, GossipInput::Range(to(latest)));
        let sent = drain(&mut core);
        for n in 0..3 {
            core.handle(NOW, GossipInput::Passed(id(n)));
        }
        let peers = sent.other.iter().map(|output| match output {
            GossipOutput::Send {
                peer,
                gossip: Gossip::Message { message, payload },
            } => {
                assert_eq!(*message, MessageId::BlockRangeUpdate);
                assert_eq!(
                    BlockRange::decode_update(payload.raw()).unwrap(),
                    to(latest)
                );
                *peer
            }
            other => panic!("{other:?}"),
        });
        peers.collect::<Vec<_>>()
    };
    assert_eq!(told(131), []);
    // Only the two with eth/69.
    assert_eq!(told(132), [id(0), id(2)]);
    assert_eq!(told(163), []);
    assert_eq!(told(131), [id(0), id(2)]);
    assert_eq!(told(131), []);
}

#[test]
fn a_range_waits_for_a_slow_peer() {
    let mut core = stalled();
    let range = BlockRange {
        latest: 200,
        latest_hash: B256::repeat_byte(1),
        ..RANGE
    };
    core.handle(
        NOW,
        GossipInput::Range(BlockRange {
            latest: 150,
            ..range
        }),
    );
    core.handle(NOW, GossipInput::Range(range));
    assert!(drain(&mut core).other.is_empty());
    let sent = passed(&mut core, 0);
    let payload = range.encode_update().into();
    let gossip = Gossip::Message {
        message: MessageId::BlockRangeUpdate,
        payload,
    };
    assert_eq!(
        sent.other,
        [GossipOutput::Send {
            peer: id(0),
            gossip
        }]
    );
}

#[test]
fn announced_transactions_are_fetched_and_gossiped_on() {
    let mut core = with_peers(2);
    let one = tx(1, 0);
    let all = vec![one.announcement()];
    let unknown = all.clone();
    core.handle(
        NOW,
        GossipInput::Announced {
            peer: id(0),
            all,
            unknown,
        },
    );
    let later = NOW.after(crate::limits::ARRIVE_TIMEOUT);
    core.handle_timeout(later);
    let sent = drain(&mut core);
    let hashes = vec![one.hash()];
    let gossip = Gossip::Fetch { number: 0, hashes };
    assert_eq!(
        sent.other,
        [GossipOutput::Send {
            peer: id(0),
            gossip
        }]
    );
    let hash = one.hash();
    let received = Received {
        entry: one.announcement(),
        verdict: Verdict::Added(one),
    };
    core.handle(
        later,
        GossipInput::Received {
            peer: id(0),
            transactions: vec![received],
            answer: Some(0),
        },
    );
    let sent = drain(&mut core);
    assert!(!sent.whole.contains_key(&id(0)) && !sent.announced.contains_key(&id(0)));
    let told = sent
        .whole
        .get(&id(1))
        .or(sent.announced.get(&id(1)))
        .unwrap();
    assert_eq!(*told, [hash]);
    assert_eq!(core.deadline(), None);
}

#[test]
fn a_liar_is_dropped() {
    let mut core = with_peers(2);
    let one = tx(1, 0);
    let all = vec![Announcement {
        kind: 2,
        ..one.announcement()
    }];
    let unknown = all.clone();
    core.handle(
        NOW,
        GossipInput::Announced {
            peer: id(0),
            all,
            unknown,
        },
    );
    let received = Received {
        entry: one.announcement(),
        verdict: Verdict::Duplicate,
    };
    core.handle(
        NOW,
        GossipInput::Received {
            peer: id(1),
            transactions: vec![received],
            answer: None,
        },
    );
    let reason = DisconnectReason::UselessPeer;
    assert_eq!(
        drain(&mut core).other,
        [GossipOutput::Drop {
            peer: id(0),
            reason
        }]
    );
}

#[test]
fn the_number_of_peers_is_bounded() {
    let mut core = core();
    let peer = |n: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
        NodeId::new(bytes)
    };
    for n in 0..=MAX_PEERS {
        let version = EthVersion::Eth69;
        core.handle(
            NOW,
            GossipInput::Joined {
                peer: peer(n),
                version,
                told: RANGE,
            },
        );
    }
    let reason = DisconnectReason::TooManyPeers;
    let last = drain(&mut core).other.pop();
    assert_eq!(
        last,
        Some(GossipOutput::Drop {
            peer: peer(MAX_PEERS),
            reason
        })
    );
    assert_eq!(core.peers.len(), MAX_PEERS);
}

fn step(txs: Vec<Arc<PooledTransaction>>) -> impl Strategy<Value = Step<GossipInput>> {
    let one = prop::sample::select(txs.clone());
    let some = proptest::collection::vec(prop::sample::select(txs.clone()), 0..4);
    let entries = |txs: Vec<Arc<PooledTransaction>>| -> Vec<Announcement> {
        txs.iter().map(|tx| tx.announcement()).collect()
    };
    let verdict = |tx: &Arc<PooledTransaction>, n: u8| match n {
        0 => Verdict::Added(Arc::clone(tx)),
        1 => Verdict::Duplicate,
        _ => Verdict::Refused,
    };
    let input = prop_oneof![
        2 => (0u8..5).prop_map(|n| {
            GossipInput::Joined { peer: id(n), version: EthVersion::Eth69, told: RANGE }
        }),
        1 => (0u8..5).prop_map(|n| GossipInput::Left(id(n))),
        4 => (0u8..5).prop_map(|n| GossipInput::Passed(id(n))),
        4 => (0u8..5, some.clone()).prop_map(move |(n, txs)| {
            let all = entries(txs);
            GossipInput::Announced { peer: id(n), unknown: all.clone(), all }
        }),
        4 => (0u8..5, some.clone(), 0u8..3, any::<Option<u8>>()).prop_map(move |(n, txs, v, a)| {
            let received = |tx: &Arc<PooledTransaction>| Received {
                entry: tx.announcement(),
                verdict: verdict(tx, v),
            };
            let transactions = txs.iter().map(received).collect();
            GossipInput::Received { peer: id(n), transactions, answer: a.map(u64::from) }
        }),
        4 => one.prop_map(GossipInput::Local),
        1 => (0u8..5, some).prop_map(move |(n, txs)| {
            GossipInput::Pool { peer: id(n), entries: entries(txs).into() }
        }),
        1 => (0u64..300).prop_map(|latest| GossipInput::Range(BlockRange { latest, ..RANGE })),
    ];
    prop_oneof![
        5 => input.prop_map(Step::Input),
        1 => (0u64..6_000).prop_map(|millis| Step::Advance(Duration::from_millis(millis))),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step<GossipInput>>> {
    let txs = (0..12).map(|n| tx(n as u8 % 4 + 1, n)).collect();
    proptest::collection::vec(step(txs), 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn keeps_the_contract(steps in steps()) {
        check::contract(core, &steps, Limits::default()).unwrap();
    }

    /// No peer is sent more than its credit, nor a transaction that it sent
    /// itself before, nor the same one twice.
    #[test]
    fn never_an_echo_and_never_past_the_credit(steps in steps()) {
        let mut core = core();
        let mut credit: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut knows: BTreeMap<NodeId, std::collections::BTreeSet<B256>> = BTreeMap::new();
        for step in steps {
            let Step::Input(input) = step else { continue };
            let input = match input {
                GossipInput::Passed(peer) => match credit.get_mut(&peer) {
                    Some(left) if *left < SESSION_CREDIT => {
                        *left += 1;
                        GossipInput::Passed(peer)
                    }
                    _ => continue,
                },
                other => other,
            };
            match &input {
                GossipInput::Joined { peer, .. } if !credit.contains_key(peer) => {
                    credit.insert(*peer, SESSION_CREDIT);
                    knows.insert(*peer, Default::default());
                }
                GossipInput::Left(peer) => {
                    credit.remove(peer);
                    knows.remove(peer);
                }
                GossipInput::Announced { peer, all, .. } => {
                    knows.entry(*peer).or_default().extend(all.iter().map(|entry| entry.hash));
                }
                GossipInput::Received { peer, transactions, .. } => {
                    let hashes = transactions.iter().map(|received| received.entry.hash);
                    knows.entry(*peer).or_default().extend(hashes);
                }
                _ => {}
            }
            // What waits already may still go out after the peer sent it.
            let waiting: usize = core.peers.values().map(|p| p.queued().0 + p.queued().2).sum();
            core.handle(NOW, input);
            while let Some(output) = core.poll() {
                let GossipOutput::Send { peer, gossip } = output else { continue };
                let left = credit.get_mut(&peer).expect("sent to a peer that is not there");
                prop_assert!(*left > 0, "past the credit");
                *left -= 1;
                let Gossip::Message { message, payload } = gossip else { continue };
                let hashes: Vec<B256> = match message {
                    MessageId::Transactions => {
                        let txs = decode_transactions(payload.raw()).unwrap();
                        txs.iter().map(WireTransaction::hash).collect()
                    }
                    MessageId::NewPooledTransactionHashes => {
                        let entries = decode_announcements(payload.raw()).unwrap().entries;
                        entries.iter().map(|entry| entry.hash).collect()
                    }
                    _ => continue,
                };
                let known = knows.entry(peer).or_default();
                for hash in hashes {
                    prop_assert!(known.insert(hash) || waiting > 0, "told twice");
                }
            }
        }
    }
}
