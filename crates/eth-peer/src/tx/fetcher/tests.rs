//! The fetcher in virtual time.

use super::*;
use alloy_primitives::U256;
use proptest::prelude::*;
use std::time::Duration;
use tercet_machine::MachineRng;
use tercet_machine::check::{self, Limits, Step};

struct Run {
    core: FetcherCore,
    now: Now,
    outputs: Vec<FetchOutput>,
}

fn core() -> FetcherCore {
    FetcherCore::new(KeyedState::new(&mut MachineRng::from_seed([5; 32])))
}

fn peer(n: u8) -> NodeId {
    NodeId::new([n; 32])
}

fn hash(n: u64) -> B256 {
    B256::from(U256::from(n))
}

fn entry(n: u64) -> Announcement {
    Announcement {
        hash: hash(n),
        kind: 2,
        size: 200,
    }
}

fn entries(range: std::ops::Range<u64>) -> Vec<Announcement> {
    range.map(entry).collect()
}

fn blob(n: u64) -> Announcement {
    Announcement {
        kind: 3,
        size: 131_000,
        ..entry(n)
    }
}

impl Run {
    fn new(peers: u8) -> Self {
        let mut run = Run {
            core: core(),
            now: check::START,
            outputs: Vec::new(),
        };
        for n in 0..peers {
            run.input(FetchInput::Joined(peer(n)));
        }
        run
    }

    fn input(&mut self, input: FetchInput) {
        self.core.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.core.poll() {
            self.outputs.push(output);
        }
    }

    fn announce(&mut self, from: u8, entries: Vec<Announcement>) {
        self.input(FetchInput::Announced(peer(from), entries));
    }

    fn arrive(&mut self, entries: Vec<Announcement>) {
        self.input(FetchInput::Arrived(entries));
    }

    /// Lets time pass, meeting every deadline on the way.
    fn advance(&mut self, by: Duration) {
        let end = self.now.mono + by;
        while let Some(at) = self.core.deadline().filter(|at| *at <= end) {
            self.now = self.now.after(at - self.now.mono);
            self.core.handle_timeout(self.now);
            self.drain();
        }
        self.now = self.now.after(end - self.now.mono);
    }

    fn millis(&mut self, millis: u64) {
        self.advance(Duration::from_millis(millis));
    }

    fn take(&mut self) -> Vec<FetchOutput> {
        std::mem::take(&mut self.outputs)
    }

    /// The one request there must be.
    fn request(&mut self) -> (NodeId, u64, Vec<B256>) {
        let mut outputs = self.take();
        assert_eq!(outputs.len(), 1, "{outputs:?}");
        match outputs.remove(0) {
            FetchOutput::Request {
                peer,
                number,
                hashes,
            } => (peer, number, hashes),
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, from: NodeId, number: u64, hashes: &[B256]) {
        self.arrive(
            hashes
                .iter()
                .map(|hash| Announcement {
                    hash: *hash,
                    ..entry(0)
                })
                .collect(),
        );
        self.input(FetchInput::Answered(from, number, hashes.to_vec()));
    }
}

#[test]
fn waits_half_a_second_for_a_broadcast() {
    let mut run = Run::new(1);
    run.announce(0, entries(0..3));
    run.millis(499);
    assert_eq!(run.take(), []);
    run.millis(1);
    let (id, _, hashes) = run.request();
    assert_eq!((id, hashes), (peer(0), vec![hash(0), hash(1), hash(2)]));
}

#[test]
fn what_arrives_by_itself_is_not_fetched() {
    let mut run = Run::new(1);
    run.announce(0, entries(0..3));
    run.millis(300);
    run.arrive(entries(0..2));
    run.millis(300);
    assert_eq!(run.request().2, [hash(2)]);
}

#[test]
fn blob_transactions_do_not_wait() {
    let mut run = Run::new(1);
    run.announce(0, vec![blob(1), entry(2)]);
    assert_eq!(run.request().2, [hash(1)]);
}

#[test]
fn what_falls_due_shortly_after_goes_along() {
    let mut run = Run::new(1);
    run.announce(0, entries(0..1));
    run.millis(100);
    run.announce(0, entries(1..2));
    run.millis(1);
    run.announce(0, entries(2..3));
    run.millis(399);
    assert_eq!(run.request().2, [hash(0), hash(1)]);
}

#[test]
fn at_most_256_hashes_and_128_kib_a_request_and_one_request_a_peer() {
    let mut run = Run::new(1);
    run.announce(0, entries(0..600));
    run.millis(500);
    let (id, number, first) = run.request();
    assert_eq!(first.len(), 256);
    run.answer(id, number, &first);
    let (id, number, second) = run.request();
    assert_eq!(second.len(), 256);
    run.answer(id, number, &second);
    assert_eq!(run.request().2.len(), 88);

    let mut run = Run::new(1);
    let large = |n| Announcement {
        size: 50_000,
        ..entry(n)
    };
    run.announce(0, (0..10).map(large).collect());
    run.millis(500);
    // 50,000 and 100,000 are below 131,072, 150,000 is past it.
    assert_eq!(run.request().2.len(), 3);
}

#[test]
fn a_hash_is_asked_of_one_peer_only() {
    let mut run = Run::new(3);
    for from in 0..3 {
        run.announce(from, entries(0..10));
    }
    run.millis(500);
    assert_eq!(run.request().2.len(), 10);
    run.millis(4_000);
    assert_eq!(run.take(), []);
}

#[test]
fn after_a_timeout_another_announcer_is_asked() {
    let mut run = Run::new(2);
    run.announce(0, entries(0..2));
    run.announce(1, entries(0..2));
    run.millis(500);
    let (first, number, _) = run.request();
    run.millis(4_999);
    assert_eq!(run.take(), []);
    run.millis(1);
    let (second, _, hashes) = run.request();
    assert_ne!(first, second);
    assert_eq!(hashes, [hash(0), hash(1)]);
    // A late answer is an answer all the same.
    run.answer(first, number, &[hash(0), hash(1)]);
    run.millis(60_000);
    assert!(run.core.txs.is_empty());
}

#[test]
fn a_silent_peer_is_asked_less_and_less_and_then_dropped() {
    let mut run = Run::new(1);
    let mut asked = Vec::new();
    // Enough for eight requests.
    run.announce(0, entries(0..8 * MAX_POOLED_HASHES as u64));
    for _ in 0..1000 {
        run.millis(500);
        for output in run.take() {
            match output {
                FetchOutput::Request { .. } => asked.push(run.now.mono),
                FetchOutput::Useless(id) => {
                    assert_eq!(id, peer(0));
                    assert_eq!(asked.len(), MAX_USELESS_ANSWERS as usize);
                    let gaps = asked.windows(2).map(|pair| (pair[1] - pair[0]).as_secs());
                    // Five seconds of waiting and a pause that doubles up to 60.
                    assert!(gaps.eq([10, 15, 25, 45, 65, 65, 65]), "{asked:?}");
                    return;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    panic!("still asking after {} requests", asked.len());
}

#[test]
fn empty_answers_count_too() {
    let mut run = Run::new(1);
    for n in 0..u64::from(MAX_USELESS_ANSWERS) {
        run.announce(0, vec![blob(n)]);
        let (id, number, _) = run.request();
        run.answer(id, number, &[]);
    }
    assert_eq!(run.take(), [FetchOutput::Useless(peer(0))]);
}

#[test]
fn gaps_are_refusals_and_a_missing_tail_is_asked_for_again() {
    let mut run = Run::new(1);
    run.announce(0, entries(0..5));
    run.millis(500);
    let (id, number, _) = run.request();
    run.answer(id, number, &[hash(0), hash(2)]);
    // 1 is refused, 3 and 4 were cut off.
    let (_, number, hashes) = run.request();
    assert_eq!(hashes, [hash(3), hash(4)]);
    run.answer(id, number, &[]);
    run.millis(10_000);
    assert_eq!(run.take(), []);
    assert!(run.core.txs.is_empty());
    assert!(run.core.peers[&id].tracked.is_empty());
}

#[test]
fn refused_by_one_fetched_from_the_next() {
    let mut run = Run::new(2);
    run.announce(0, vec![blob(1)]);
    run.announce(1, vec![blob(1)]);
    let (id, number, _) = run.request();
    assert_eq!(id, peer(0));
    run.answer(id, number, &[]);
    assert_eq!(run.request().0, peer(1));
}

#[test]
fn whoever_announced_another_type_or_size_lied() {
    let mut run = Run::new(4);
    run.announce(0, vec![entry(1)]);
    run.announce(
        1,
        vec![Announcement {
            size: 208,
            ..entry(1)
        }],
    );
    run.announce(
        2,
        vec![Announcement {
            size: 209,
            ..entry(1)
        }],
    );
    run.announce(
        3,
        vec![Announcement {
            kind: 1,
            ..entry(1)
        }],
    );
    run.arrive(vec![entry(1)]);
    assert_eq!(
        run.take(),
        [FetchOutput::Lied(peer(2)), FetchOutput::Lied(peer(3))]
    );
}

#[test]
fn no_more_than_4096_announcements_of_a_peer() {
    let mut run = Run::new(2);
    let max = MAX_TRACKED_ANNOUNCEMENTS as u64;
    run.announce(0, entries(0..max + 10));
    assert_eq!(run.core.ignored(), 10);
    assert_eq!(run.core.txs.len(), max as usize);
    // Another peer has its own.
    run.announce(1, entries(max..max + 10));
    assert_eq!(run.core.ignored(), 10);
    // What is settled makes room.
    run.arrive(entries(0..5));
    run.announce(0, entries(max + 20..max + 30));
    assert_eq!(run.core.ignored(), 15);
}

#[test]
fn queues_do_not_grow_with_what_is_settled() {
    let mut run = Run::new(2);
    run.announce(1, vec![blob(u64::MAX)]);
    run.take();
    // Peer 1 never answers; what it announces meanwhile comes another way.
    for n in 0..20 {
        let range = n * 1000..(n + 1) * 1000;
        run.announce(1, range.clone().map(blob).collect());
        run.announce(0, entries(range.clone()));
        run.arrive(range.map(blob).collect());
        run.take();
        run.announce(1, vec![]);
        assert!(run.core.peers[&peer(1)].queue.len() <= 2 * MAX_TRACKED_ANNOUNCEMENTS);
    }
    assert!(run.core.waiting.len() <= 2 * run.core.txs.len() + MAX_TRACKED_ANNOUNCEMENTS);
}

#[test]
fn what_the_pool_refused_is_not_fetched_again() {
    let mut run = Run::new(2);
    run.announce(0, vec![blob(1)]);
    run.request();
    run.arrive(vec![blob(1)]);
    run.input(FetchInput::Refused(hash(1)));
    run.announce(1, vec![blob(1)]);
    assert_eq!(run.take(), []);
    run.advance(2 * crate::limits::REFUSED_MEMORY);
    run.take();
    run.announce(1, vec![blob(1)]);
    assert_eq!(run.request().0, peer(1));
}

#[test]
fn when_a_peer_leaves_others_are_asked() {
    let mut run = Run::new(2);
    run.announce(0, vec![blob(1), blob(2)]);
    run.announce(1, vec![blob(1)]);
    assert_eq!(run.request().0, peer(0));
    run.input(FetchInput::Left(peer(0)));
    let (id, _, hashes) = run.request();
    assert_eq!((id, hashes), (peer(1), vec![hash(1)]));
    assert_eq!(run.core.txs.len(), 1);
    // A peer that is not there changes nothing.
    run.announce(0, vec![blob(3)]);
    run.input(FetchInput::Answered(peer(0), 0, vec![hash(1)]));
    assert_eq!(run.take(), []);
}

fn input() -> impl Strategy<Value = FetchInput> {
    let some = || proptest::collection::vec(0u64..30, 0..8);
    let as_entries = |list: Vec<u64>| -> Vec<Announcement> {
        list.into_iter()
            .map(|n| if n % 5 == 0 { blob(n) } else { entry(n) })
            .collect()
    };
    prop_oneof![
        1 => (0u8..4).prop_map(|n| FetchInput::Joined(peer(n))),
        1 => (0u8..4).prop_map(|n| FetchInput::Left(peer(n))),
        6 => (0u8..4, some()).prop_map(move |(n, list)| {
            FetchInput::Announced(peer(n), as_entries(list))
        }),
        2 => some().prop_map(move |list| FetchInput::Arrived(as_entries(list))),
        3 => (0u8..4, 0u64..20, some()).prop_map(|(n, number, list)| {
            FetchInput::Answered(peer(n), number, list.into_iter().map(hash).collect())
        }),
        1 => (0u64..30).prop_map(|n| FetchInput::Refused(hash(n))),
    ]
}

fn step() -> impl Strategy<Value = Step<FetchInput>> {
    prop_oneof![
        3 => input().prop_map(Step::Input),
        1 => (0u64..6_000).prop_map(|millis| Step::Advance(Duration::from_millis(millis))),
    ]
}

proptest! {
    #[test]
    fn keeps_the_contract(steps in proptest::collection::vec(step(), 0..60)) {
        check::contract(core, &steps, Limits::default()).unwrap();
    }

    /// At every moment a hash is being fetched by one peer at most, that peer
    /// announced it, and the indices agree.
    #[test]
    fn the_books_stay_right(steps in proptest::collection::vec(step(), 0..80)) {
        let mut run = Run::new(4);
        for step in steps {
            match step {
                Step::Input(input) => run.input(input),
                Step::Advance(by) => run.advance(by),
            }
            let core = &run.core;
            let mut fetching = 0;
            for (hash, tracked) in &core.txs {
                prop_assert!(!tracked.announcers.is_empty());
                for (id, _) in &tracked.announcers {
                    prop_assert!(core.peers[id].tracked.contains(hash));
                }
                if let Stage::Fetching(id) = tracked.stage {
                    let request = core.peers[&id].request.as_ref();
                    prop_assert!(request.is_some_and(|(_, hashes)| hashes.contains(hash)));
                    fetching += 1;
                }
            }
            let tracked: usize = core.peers.values().map(|peer| peer.tracked.len()).sum();
            let announcers: usize = core.txs.values().map(|tx| tx.announcers.len()).sum();
            prop_assert_eq!(tracked, announcers);
            let asked: usize =
                core.peers.values().filter_map(|p| p.request.as_ref()).map(|(_, h)| h.len()).sum();
            prop_assert!(fetching <= asked);
        }
        // In the end everything is settled one way or the other.
        run.advance(Duration::from_secs(3_600));
        prop_assert!(run.core.txs.is_empty(), "{:?}", run.core.txs);
    }
}
