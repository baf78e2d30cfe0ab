use std::collections::BTreeMap;

use proptest::prelude::*;
use tercet_machine::MachineRng;

use super::*;

struct Number(u32);

impl Job for Number {
    type Done = u32;

    fn run(self) -> u32 {
        // Some take longer than others, so that they overtake each other where nothing keeps their order.
        (0..self.0 % 7 * 1000).fold(0_u32, |sum, n| std::hint::black_box(sum ^ n));
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
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// What is not dropped comes back once, and in the order in which its sender sent it.
    #[test]
    fn the_order_of_each_sender_is_kept(senders in proptest::collection::vec(0_u8..6, 1..400)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (mut pool, mut lanes) = (Pool::start(3).unwrap(), lanes());
        let (mut sent, mut came) = (BTreeMap::<_, Vec<u32>>::new(), BTreeMap::<_, Vec<u32>>::new());
        let mut finish = |pool: &mut Pool<Number>, lanes: &mut Lanes<u32>, (from, number)| {
            came.entry(from).or_default().push(number);
            if let Some(next) = lanes.next(from) {
                assert!(pool.submit(from, Number(next), true));
            }
        };
        for (number, from) in senders.into_iter().map(sender).enumerate() {
            let number = number as u32;
            match lanes.enter(from, number) {
                Entered::Now(number) => {
                    lanes.occupy(from);
                    prop_assert!(pool.submit(from, Number(number), true));
                }
                Entered::Waits => {}
                Entered::Full => continue,
            }
            sent.entry(from).or_default().push(number);
            while let Some(done) = pool.try_done() {
                finish(&mut pool, &mut lanes, done);
            }
        }
        while pool.under_way() > 0 {
            let done = runtime.block_on(pool.done());
            finish(&mut pool, &mut lanes, done);
        }
        prop_assert_eq!(sent, came);
        prop_assert_eq!((lanes.waiting(), lanes.busy.len()), (0, 0));
    }
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
