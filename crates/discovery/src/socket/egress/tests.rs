use std::collections::VecDeque;
use std::net::SocketAddr;

use super::*;

/// Does as it is told, attempt by attempt; without further orders it takes whatever it is given.
#[derive(Default)]
struct Told {
    orders: Mutex<VecDeque<Order>>,
    /// The first byte of each datagram.
    sent: Mutex<Vec<u8>>,
    waits: Mutex<usize>,
}

enum Order {
    Take(usize),
    Refuse,
    /// Take nothing, and so it stays for as long as one waits, or not.
    Full {
        stays: bool,
    },
}

impl Told {
    fn new(orders: impl IntoIterator<Item = Order>) -> Self {
        Self {
            orders: Mutex::new(orders.into_iter().collect()),
            ..Self::default()
        }
    }
}

impl Wire for Told {
    fn send(&self, queue: &Queue) -> io::Result<usize> {
        let mut orders = self.orders.lock().unwrap();
        let taken = match orders.front() {
            Some(Order::Full { .. }) => return Err(io::ErrorKind::WouldBlock.into()),
            Some(Order::Refuse) => {
                orders.pop_front();
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            Some(Order::Take(count)) => *count,
            None => queue.len(),
        };
        orders.pop_front();
        let sent = queue.iter().take(taken).map(|(_, bytes)| bytes[0]);
        self.sent.lock().unwrap().extend(sent);
        Ok(taken)
    }

    fn wait(&self) -> bool {
        *self.waits.lock().unwrap() += 1;
        match self.orders.lock().unwrap().pop_front() {
            Some(Order::Full { stays }) => !stays,
            _ => panic!("waits for no reason"),
        }
    }
}

fn datagrams(count: u8) -> Queue {
    let to = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut queue = Queue::default();
    for n in 0..count {
        queue.push(to, &vec![n; 1 + usize::from(n)]);
    }
    queue
}

/// With these datagrams in the lane of their receiver.
fn shared(datagrams: Queue) -> Shared {
    let shared = Shared::default();
    let mut state = shared.lock();
    for (to, datagram) in datagrams.iter() {
        state.lane(Which::of(to)).queue.push(to, datagram);
    }
    drop(state);
    shared
}

/// What a thread that has been closed with `count` datagrams in its queue leaves behind.
fn closed(wire: &Told, count: u8) -> State {
    let shared = shared(datagrams(count));
    shared.lock().closed = true;
    shared.work(wire);
    shared.state.into_inner().unwrap()
}

#[test]
fn what_is_queued_is_sent_after_the_close() {
    let wire = Told::default();
    let left = closed(&wire, 100);
    assert_eq!(*wire.sent.lock().unwrap(), (0..100).collect::<Vec<u8>>());
    assert_eq!((left.under_way(), left.sent.datagrams), (0, 100));
    assert_eq!(left.sent.bytes, (1..=100).sum::<u64>());
}

#[test]
fn a_full_system_is_waited_for_and_a_refused_datagram_is_counted() {
    let full = || Order::Full { stays: false };
    let wire = Told::new([full(), Order::Take(2), full(), full(), Order::Refuse]);
    let left = closed(&wire, 6);
    assert_eq!(*wire.sent.lock().unwrap(), [0, 1, 3, 4, 5]);
    assert_eq!(*wire.waits.lock().unwrap(), 3);
    assert_eq!((left.under_way(), left.sent.datagrams), (0, 5));
    assert_eq!(left.sent.refused, 1);
}

#[test]
fn a_system_that_stays_full_does_not_keep_the_thread_from_ending() {
    let wire = Told::new([Order::Take(1), Order::Full { stays: true }]);
    let left = closed(&wire, 3);
    assert_eq!(*wire.sent.lock().unwrap(), [0]);
    assert_eq!((left.under_way(), left.sent.datagrams), (2, 1));
}

#[tokio::test]
async fn before_the_close_it_is_waited_for_as_long_as_it_takes() {
    let wire = Arc::new(Told::new((0..50).map(|_| Order::Full { stays: true })));
    let mut egress = Egress::start(Arc::clone(&wire)).unwrap();
    let mut metrics = DiscoveryMetrics::default();
    egress.submit(&mut datagrams(3));
    while egress.collect(&mut metrics) > 0 {
        egress.done().await;
    }
    assert_eq!((metrics.datagrams_out, metrics.bytes_out), (3, 1 + 2 + 3));
    egress.close();
    assert_eq!(*wire.waits.lock().unwrap(), 50);
}

/// Somebody in each lane.
fn receivers() -> [SocketAddr; 2] {
    let to = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let (first, others) = (to(1), (2..).map(to));
    let second = others
        .filter(|other| Which::of(*other).0 != Which::of(first).0)
        .take(1);
    [first, second.last().unwrap()]
}

#[test]
fn a_helper_sends_from_the_lane_that_nobody_sends_from() {
    let [first, second] = receivers();
    let mut datagrams = Queue::default();
    for n in 0..20 {
        datagrams.push(if n % 4 == 0 { second } else { first }, &[n]);
    }
    let (shared, wire) = (shared(datagrams), Told::default());
    let mut batch = Queue::default();
    // As the thread does; it takes the longer one.
    let taken = Shared::take(&mut shared.lock(), &mut batch).unwrap();
    assert_eq!((taken.0, batch.len()), (Which::of(first).0, 15));
    let mut helper = Queue::default();
    shared.help(&wire, &mut helper);
    assert_eq!(*wire.sent.lock().unwrap(), [0, 4, 8, 12, 16]);
    assert_eq!((helper.len(), shared.lock().under_way()), (0, 15));
    // What comes for the receiver of the lane that is taken waits, as more of his is under way.
    shared.lock().lane(taken).queue.push(first, &[20]);
    shared.help(&wire, &mut helper);
    assert_eq!(shared.lock().under_way(), 16);
    shared.report(taken, Sent::default(), 0);
    shared.help(&wire, &mut helper);
    assert_eq!(shared.lock().under_way(), 0);
    assert_eq!(*wire.sent.lock().unwrap(), [0, 4, 8, 12, 16, 20]);
}

#[test]
fn a_helper_puts_back_what_the_system_does_not_take() {
    let shared = shared(datagrams(5));
    let wire = Told::new([Order::Take(2), Order::Full { stays: false }]);
    shared.help(&wire, &mut Queue::default());
    assert_eq!(*wire.sent.lock().unwrap(), [0, 1]);
    assert_eq!(shared.lock().under_way(), 3);
    shared.lock().closed = true;
    shared.work(&wire);
    assert_eq!(*wire.sent.lock().unwrap(), [0, 1, 2, 3, 4]);
    let left = shared.state.into_inner().unwrap();
    assert_eq!((left.under_way(), left.sent.datagrams), (0, 5));
}

#[test]
fn each_lane_has_about_half_of_all_receivers() {
    let (mut second, mut all) = (0, 0);
    for (a, port) in (0..=255).flat_map(|a| (30_300..30_310).map(move |port| (a, port))) {
        let four = SocketAddr::from(([10, 1, a, 7], port));
        let six = SocketAddr::from(([0x2a00, 1, 2, u16::from(a), 0, 0, 0, 1], port));
        second += usize::from(Which::of(four).0) + usize::from(Which::of(six).0);
        all += 2;
    }
    assert!(
        second * 5 > all * 2 && second * 5 < all * 3,
        "{second} of {all}"
    );
}
