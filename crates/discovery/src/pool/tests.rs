use std::collections::BTreeMap;

use proptest::prelude::*;
use tercet_machine::MachineRng;

use super::*;

struct Number(u32);

impl Job for Number {
    type Done = u32;

    fn run(self) -> u32 {
        self.0
    }
}

/// A job that its test lets finish.
struct Held(u32, std::sync::mpsc::Receiver<()>);

impl Job for Held {
    type Done = u32;

    fn run(self) -> u32 {
        // An error means that the test is over.
        let _ = self.1.recv();
        self.0
    }
}

fn sender(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 30303))
}

fn lanes() -> Lanes<u32> {
    Lanes::new(KeyedState::new(&mut MachineRng::from_seed([1; 32])))
}

proptest! {
    /// What is not dropped comes back once and in the order in which its sender sent it, in whatever order checks end.
    #[test]
    fn the_order_of_each_sender_is_kept(
        steps in proptest::collection::vec((0_u8..6, any::<bool>(), any::<prop::sample::Index>()), 1..400),
    ) {
        let mut lanes = lanes();
        let mut under_way: Vec<(SocketAddr, u32)> = Vec::new();
        let (mut sent, mut came) = (BTreeMap::<_, Vec<u32>>::new(), BTreeMap::<_, Vec<u32>>::new());
        let mut finish = |lanes: &mut Lanes<u32>, under_way: &mut Vec<_>, at| {
            let (from, number): (SocketAddr, u32) = under_way.swap_remove(at);
            came.entry(from).or_default().push(number);
            under_way.extend(lanes.next(from).map(|next| (from, next)));
        };
        for (number, (from, ends, which)) in steps.into_iter().enumerate() {
            let (from, number) = (sender(from), number as u32);
            match lanes.enter(from, number) {
                Entered::Now(number) => {
                    lanes.occupy(from);
                    under_way.push((from, number));
                }
                Entered::Waits => {}
                Entered::Full => continue,
            }
            sent.entry(from).or_default().push(number);
            if ends {
                let at = which.index(under_way.len());
                finish(&mut lanes, &mut under_way, at);
            }
        }
        while !under_way.is_empty() {
            finish(&mut lanes, &mut under_way, 0);
        }
        prop_assert_eq!(sent, came);
        prop_assert_eq!((lanes.waiting(), lanes.busy.len()), (0, 0));
    }
}

#[tokio::test]
async fn checks_run_beside_each_other() {
    let mut pool = Pool::start(2).unwrap();
    let mut ends = Vec::new();
    for number in 0..2 {
        let (end, held) = std::sync::mpsc::sync_channel(1);
        assert!(pool.submit(sender(number), Held(number.into(), held), true));
        ends.push(end);
    }
    // The second ends while the first is still under way.
    for number in [1, 0] {
        assert_eq!(pool.try_done(), None);
        ends[usize::from(number)].send(()).unwrap();
        assert_eq!(pool.done().await, (sender(number), number.into()));
    }
    assert_eq!(pool.under_way(), 0);
}

#[test]
fn a_dropped_pool_leaves_no_thread() {
    let mut pool = Pool::start(2).unwrap();
    let shared = Arc::downgrade(&pool.shared);
    for number in 0..100 {
        assert!(pool.submit(sender(1), Number(number), true));
    }
    drop(pool);
    assert!(shared.upgrade().is_none());
}

#[test]
fn a_full_pool_keeps_places_for_answers() {
    // Without threads nothing is ever done.
    let mut pool = Pool::start(0).unwrap();
    let mut fill = |asked| {
        let mut taken = 0;
        while pool.submit(sender(1), Number(0), asked) {
            taken += 1;
        }
        taken
    };
    assert_eq!(fill(false), MAX_UNASKED);
    assert_eq!(fill(true), MAX_JOBS - MAX_UNASKED);
}

#[test]
fn what_waits_is_bounded_for_each_and_for_all() {
    let mut lanes = lanes();
    let mut waiting = 0;
    for n in 0..=(MAX_WAITING / MAX_WAITING_EACH) as u8 {
        let from = sender(n);
        assert_eq!(lanes.enter(from, 0), Entered::Now(0));
        lanes.occupy(from);
        for _ in 0..=MAX_WAITING_EACH {
            waiting += usize::from(lanes.enter(from, 1) == Entered::Waits);
        }
        assert_eq!(
            waiting,
            MAX_WAITING.min((usize::from(n) + 1) * MAX_WAITING_EACH)
        );
    }
    assert_eq!(lanes.waiting(), MAX_WAITING);
}
