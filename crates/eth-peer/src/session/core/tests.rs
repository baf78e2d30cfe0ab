//! The session in virtual time: its rules one by one.

use super::*;
use crate::chain::{DevAccount, DevChain, DevChainConfig, DevTransfer, TransferKind};
use crate::limits::{
    MAX_EXPIRED_REQUESTS, MAX_OUTSTANDING_REQUESTS, MAX_TRANSACTIONS, REQUEST_TIMEOUT,
};
use crate::wire::{
    Announcement, encode_announcements, encode_pooled_transactions, encode_transactions,
};
use alloy_primitives::{Address, U256};
use proptest::prelude::*;
use std::time::Duration;
use tercet_machine::MachineRng;
use tercet_machine::check::{self, Limits, Step};

const NOW: Now = check::START;

type Core = SessionCore<u32>;

fn dev() -> (Arc<dyn ChainBackend>, Vec<DevAccount>) {
    let config = DevChainConfig {
        blocks: 2,
        ..DevChainConfig::default()
    };
    let (chain, _, accounts) = DevChain::build(&config).unwrap().into_parts();
    (Arc::new(chain), accounts)
}

fn core_with(version: EthVersion, chain: Arc<dyn ChainBackend>) -> Core {
    let state = KeyedState::new(&mut MachineRng::from_seed([5; 32]));
    SessionCore::new(NOW, version, 1337, chain, state)
}

/// A session that has agreed on Status.
fn active(version: EthVersion) -> Core {
    let (chain, _) = dev();
    let status = local_status(version, 1337, &*chain);
    let mut core = core_with(version, chain);
    let sent = SessionOutput::Send {
        message: MessageId::Status,
        payload: status.encode(),
    };
    assert_eq!(drain(&mut core), [sent]);
    assert_eq!(
        message(&mut core, 0, status.encode()),
        [SessionOutput::Agreed(status)]
    );
    core
}

fn drain(core: &mut Core) -> Vec<SessionOutput<u32>> {
    std::iter::from_fn(|| core.poll()).collect()
}

fn message(core: &mut Core, id: u64, payload: Vec<u8>) -> Vec<SessionOutput<u32>> {
    core.handle(
        NOW,
        SessionInput::Message {
            id,
            payload: payload.into(),
        },
    );
    drain(core)
}

/// What the session ends with after this message.
fn end(core: &mut Core, id: u64, payload: Vec<u8>) -> SessionError {
    match message(core, id, payload).pop() {
        Some(SessionOutput::Close(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn ask(core: &mut Core, ask: Ask, token: u32) -> Vec<SessionOutput<u32>> {
    core.handle(NOW, SessionInput::Ask { ask, token });
    drain(core)
}

fn transfer(n: usize) -> WireTransaction {
    let mut account = dev().1[n].clone();
    account.transfer(DevTransfer {
        chain_id: 1337,
        to: Address::ZERO,
        value: U256::ONE,
        kind: TransferKind::Legacy,
    })
}

#[test]
fn status_within_five_seconds() {
    let mut core = core_with(EthVersion::Eth69, dev().0);
    drain(&mut core);
    assert_eq!(core.deadline(), Some(NOW.mono + Duration::from_secs(5)));
    core.handle_timeout(NOW.after(Duration::from_millis(4_999)));
    assert_eq!(drain(&mut core), []);
    core.handle_timeout(NOW.after(Duration::from_secs(5)));
    let error = SessionError::StatusTimeout;
    assert_eq!(error.reason(), DisconnectReason::ReadTimeout);
    assert_eq!(drain(&mut core), [SessionOutput::Close(error)]);
    assert_eq!(core.deadline(), None);
    // Nothing more is said.
    assert_eq!(message(&mut core, 3, vec![0xc0]), []);
}

#[test]
fn nothing_before_status_and_no_second_one() {
    let mut core = core_with(EthVersion::Eth69, dev().0);
    assert_eq!(end(&mut core, 2, vec![0xc0]), SessionError::NotStatus(2));
    let mut core = active(EthVersion::Eth68);
    assert_eq!(end(&mut core, 0, vec![0xc0]), SessionError::SecondStatus);
}

#[test]
fn a_status_that_does_not_fit_ends_the_session() {
    let (chain, _) = dev();
    let ours = local_status(EthVersion::Eth69, 1337, &*chain);
    let Status::Eth69(ours) = ours else {
        panic!("{ours:?}")
    };
    let zero = BlockRange {
        latest_hash: B256::ZERO,
        ..ours.range
    };
    let reversed = BlockRange {
        earliest: 3,
        ..ours.range
    };
    let mut fork_id = ours.fork_id;
    fork_id.hash.0[0] ^= 1;
    let cases = [
        (
            crate::wire::Status69 {
                network_id: 1,
                ..ours
            },
            true,
        ),
        (
            crate::wire::Status69 {
                version: 70,
                ..ours
            },
            false,
        ),
        (
            crate::wire::Status69 {
                genesis: B256::ZERO,
                ..ours
            },
            true,
        ),
        (crate::wire::Status69 { fork_id, ..ours }, true),
        (
            crate::wire::Status69 {
                range: zero,
                ..ours
            },
            false,
        ),
        (
            crate::wire::Status69 {
                range: reversed,
                ..ours
            },
            false,
        ),
    ];
    for (status, honest) in cases {
        let mut core = core_with(EthVersion::Eth69, Arc::clone(&chain));
        let error = end(&mut core, 0, Status::Eth69(status).encode());
        assert!(matches!(error, SessionError::Status(_)), "{error}");
        assert_eq!(error.is_breach(), !honest, "{error}");
        assert_eq!(error.reason(), DisconnectReason::SubprotocolError);
    }
}

#[test]
fn a_total_difficulty_beyond_reason_ends_the_session() {
    let (chain, _) = dev();
    let Status::Eth68(ours) = local_status(EthVersion::Eth68, 1337, &*chain) else {
        panic!()
    };
    for (bits, accepted) in [(160, true), (161, false)] {
        let mut core = core_with(EthVersion::Eth68, Arc::clone(&chain));
        drain(&mut core);
        let total_difficulty = U256::ONE << (bits - 1);
        let status = Status::Eth68(crate::wire::Status68 {
            total_difficulty,
            ..ours
        });
        let outputs = message(&mut core, 0, status.encode());
        assert_eq!(outputs == [SessionOutput::Agreed(status)], accepted);
    }
}

#[test]
fn messages_of_other_versions_and_of_proof_of_work_end_the_session() {
    for (version, id) in [
        (EthVersion::Eth69, 0x01),
        (EthVersion::Eth69, 0x07),
        (EthVersion::Eth69, 0x0d),
        (EthVersion::Eth69, 0x12),
        (EthVersion::Eth68, 0x01),
        (EthVersion::Eth68, 0x07),
        (EthVersion::Eth68, 0x11),
    ] {
        let mut core = active(version);
        assert_eq!(
            end(&mut core, id, vec![0xc0]),
            SessionError::UnknownMessage(id, version)
        );
    }
}

#[test]
fn messages_over_10_mib_end_the_session() {
    let mut core = active(EthVersion::Eth69);
    let payload = vec![0; MAX_MESSAGE_SIZE + 1];
    assert_eq!(
        end(&mut core, 2, payload),
        SessionError::TooLarge(MAX_MESSAGE_SIZE + 1)
    );
}

#[test]
fn unreadable_messages_end_the_session() {
    for id in [0x02, 0x03, 0x05, 0x08, 0x09, 0x0f, 0x11] {
        let mut core = active(EthVersion::Eth69);
        let error = end(&mut core, id, vec![0xc1]);
        assert!(
            matches!(error, SessionError::Decode { .. }),
            "{id}: {error}"
        );
        assert!(error.is_breach());
    }
}

#[test]
fn requests_are_handed_on() {
    let mut core = active(EthVersion::Eth69);
    let request = HashRequest {
        request_id: 1,
        hashes: vec![B256::ZERO],
    };
    let outputs = message(&mut core, 0x05, request.encode());
    assert_eq!(outputs, [SessionOutput::Serve(Query::Bodies(request))]);
}

#[test]
fn transactions_are_distinct_without_blobs_and_not_too_many() {
    let mut core = active(EthVersion::Eth69);
    let (one, two) = (transfer(0), transfer(1));
    let both = encode_transactions([one.item(), two.item()].into_iter());
    let outputs = message(&mut core, 0x02, both);
    assert_eq!(
        outputs,
        [SessionOutput::Transactions(vec![one.clone(), two])]
    );

    let twice = encode_transactions([one.item(), one.item()].into_iter());
    assert_eq!(
        end(&mut core, 0x02, twice),
        SessionError::DuplicateTransaction
    );

    let mut core = active(EthVersion::Eth69);
    let many = encode_transactions(std::iter::repeat_n(one.item(), MAX_TRANSACTIONS + 1));
    assert!(matches!(
        end(&mut core, 0x02, many),
        SessionError::Decode { .. }
    ));

    let mut core = active(EthVersion::Eth69);
    let blob = blob_transaction();
    assert!(blob.is_blob());
    let payload = encode_transactions([blob.item()].into_iter());
    assert_eq!(end(&mut core, 0x02, payload), SessionError::BlobBroadcast);
}

/// Well-formed, though nobody could have signed it.
fn blob_transaction() -> WireTransaction {
    use alloy_consensus::{SignableTransaction, TxEip4844, TxEip4844WithSidecar};
    use alloy_eips::eip7594::{BlobTransactionSidecarEip7594, BlobTransactionSidecarVariant};
    let sidecar = BlobTransactionSidecarEip7594::new(vec![], vec![], vec![]);
    let tx = TxEip4844WithSidecar {
        tx: TxEip4844::default(),
        sidecar: BlobTransactionSidecarVariant::Eip7594(sidecar),
    };
    let signature = alloy_primitives::Signature::new(U256::ONE, U256::ONE, false);
    WireTransaction::new(tx.into_signed(signature).into())
}

#[test]
fn answers_go_to_the_request_they_answer() {
    let mut core = active(EthVersion::Eth69);
    let outputs = ask(&mut core, Ask::Bodies(vec![B256::ZERO; 2]), 77);
    let [
        SessionOutput::Send {
            message: MessageId::GetBlockBodies,
            payload,
        },
    ] = &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    let id = request_id(payload).unwrap();
    let reply = RawReply {
        request_id: id,
        items: vec![Bytes::from_static(&[0xc0])],
    };
    let payload = RawReply::encode(id, &reply.items);
    let outputs = message(&mut core, 0x06, payload.clone());
    assert_eq!(outputs, [SessionOutput::Answer { token: 77, reply }]);
    // Once.
    let unrequested = SessionError::UnrequestedAnswer(MessageId::BlockBodies);
    assert_eq!(end(&mut core, 0x06, payload), unrequested);
}

#[test]
fn answers_of_another_kind_id_or_length_end_the_session() {
    let asked = |core: &mut Core| ask(core, Ask::Bodies(vec![B256::ZERO; 2]), 1);
    let empty = |id| RawReply::encode::<Bytes>(id, &[]);
    let mut core = active(EthVersion::Eth69);
    asked(&mut core);
    let unrequested = SessionError::UnrequestedAnswer(MessageId::Receipts);
    assert_eq!(end(&mut core, 0x10, empty(1)), unrequested);

    let mut core = active(EthVersion::Eth69);
    asked(&mut core);
    let unrequested = SessionError::UnrequestedAnswer(MessageId::BlockBodies);
    assert_eq!(end(&mut core, 0x06, empty(2)), unrequested);

    let mut core = active(EthVersion::Eth69);
    asked(&mut core);
    let three = RawReply::encode(1, &vec![Bytes::from_static(&[0xc0]); 3]);
    let error = end(&mut core, 0x06, three);
    let source = DecodeError::TooMany { max: 2 };
    assert_eq!(
        error,
        SessionError::Decode {
            message: MessageId::BlockBodies,
            source
        }
    );
}

#[test]
fn pooled_transactions_must_have_been_asked_for() {
    let (one, two) = (transfer(0), transfer(1));
    let answer = |items: &[&Bytes]| encode_pooled_transactions(1, items.iter().copied());
    let asked = Ask::PooledTransactions(vec![one.hash(), B256::ZERO]);
    let mut core = active(EthVersion::Eth69);
    ask(&mut core, asked.clone(), 5);
    let outputs = message(&mut core, 0x0a, answer(&[one.item()]));
    assert_eq!(
        outputs,
        [SessionOutput::Pooled {
            token: 5,
            transactions: vec![one.clone()]
        }]
    );

    let mut core = active(EthVersion::Eth69);
    ask(&mut core, asked.clone(), 5);
    let error = end(&mut core, 0x0a, answer(&[two.item()]));
    assert_eq!(error, SessionError::UnrequestedTransaction);

    let mut core = active(EthVersion::Eth69);
    ask(&mut core, asked, 5);
    let error = end(&mut core, 0x0a, answer(&[one.item(), one.item()]));
    assert_eq!(error, SessionError::DuplicateTransaction);
}

#[test]
fn a_late_answer_is_ignored_once() {
    let mut core = active(EthVersion::Eth69);
    ask(&mut core, Ask::Bodies(vec![B256::ZERO]), 9);
    core.handle_timeout(NOW.after(REQUEST_TIMEOUT));
    assert_eq!(
        drain(&mut core),
        [SessionOutput::Failed {
            token: 9,
            busy: false
        }]
    );
    let late = RawReply::encode::<Bytes>(1, &[]);
    assert_eq!(message(&mut core, 0x06, late.clone()), []);
    let unrequested = SessionError::UnrequestedAnswer(MessageId::BlockBodies);
    assert_eq!(end(&mut core, 0x06, late), unrequested);
}

#[test]
fn a_peer_owes_16_answers_at_most_and_64_late_ones_are_remembered() {
    let mut core = active(EthVersion::Eth69);
    let mut now = NOW;
    for round in 0..5u32 {
        for n in 0..MAX_OUTSTANDING_REQUESTS as u32 {
            core.handle(
                now,
                SessionInput::Ask {
                    ask: Ask::Bodies(vec![]),
                    token: n,
                },
            );
            assert!(matches!(drain(&mut core)[..], [SessionOutput::Send { .. }]));
        }
        core.handle(
            now,
            SessionInput::Ask {
                ask: Ask::Bodies(vec![]),
                token: 99,
            },
        );
        assert_eq!(
            drain(&mut core),
            [SessionOutput::Failed {
                token: 99,
                busy: true
            }]
        );
        now = now.after(REQUEST_TIMEOUT);
        core.handle_timeout(now);
        assert_eq!(
            drain(&mut core).len(),
            MAX_OUTSTANDING_REQUESTS,
            "round {round}"
        );
    }
    // 80 were given up on; the first 16 are forgotten.
    let first_remembered = (5 * MAX_OUTSTANDING_REQUESTS - MAX_EXPIRED_REQUESTS) as u64 + 1;
    let late = |id| RawReply::encode::<Bytes>(id, &[]);
    assert_eq!(message(&mut core, 0x06, late(first_remembered)), []);
    let unrequested = SessionError::UnrequestedAnswer(MessageId::BlockBodies);
    assert_eq!(
        end(&mut core, 0x06, late(first_remembered - 1)),
        unrequested
    );
}

#[test]
fn ranges_are_checked_and_not_too_frequent() {
    let range = BlockRange {
        earliest: 1,
        latest: 2,
        latest_hash: B256::repeat_byte(1),
    };
    let mut core = active(EthVersion::Eth69);
    for _ in 0..32 {
        let outputs = message(&mut core, 0x11, range.encode_update());
        assert_eq!(outputs, [SessionOutput::Range(range)]);
    }
    assert_eq!(
        end(&mut core, 0x11, range.encode_update()),
        SessionError::RangeFlood
    );

    let mut core = active(EthVersion::Eth69);
    let reversed = BlockRange {
        earliest: 3,
        ..range
    };
    assert_eq!(
        end(&mut core, 0x11, reversed.encode_update()),
        SessionError::BlockRange(3, 2)
    );
}

#[test]
fn announcements_are_handed_on() {
    let entry = Announcement {
        hash: B256::repeat_byte(1),
        kind: 2,
        size: 100,
    };
    let mut core = active(EthVersion::Eth69);
    let outputs = message(&mut core, 0x08, encode_announcements([entry].iter()));
    let announced = Announcements {
        entries: vec![entry],
        ignored: 0,
    };
    assert_eq!(outputs, [SessionOutput::Announced(announced)]);
}

fn step() -> impl Strategy<Value = Step<SessionInput<u32>>> {
    let status = local_status(EthVersion::Eth69, 1337, &*dev().0).encode();
    let bytes = proptest::collection::vec(any::<u8>(), 0..80);
    prop_oneof![
        1 => Just(Step::Input(SessionInput::Message { id: 0, payload: status.into() })),
        1 => (0u64..24, bytes).prop_map(|(id, payload)| {
            Step::Input(SessionInput::Message { id, payload: payload.into() })
        }),
        3 => (0u64..20, 0usize..3).prop_map(|(id, kind)| {
            let id_of = [0x04, 0x06, 0x10][kind];
            let payload = RawReply::encode::<Bytes>(id, &[]).into();
            Step::Input(SessionInput::Message { id: id_of, payload })
        }),
        3 => (0usize..4, any::<u32>()).prop_map(|(count, token)| {
            let hashes = vec![B256::ZERO; count];
            Step::Input(SessionInput::Ask { ask: Ask::Bodies(hashes), token })
        }),
        1 => (0u64..20_000).prop_map(|millis| Step::Advance(Duration::from_millis(millis))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn keeps_the_contract(steps in proptest::collection::vec(step(), 0..40)) {
        let (chain, _) = dev();
        let make = || core_with(EthVersion::Eth69, Arc::clone(&chain));
        check::contract(make, &steps, Limits::default()).unwrap();
    }
}
