use proptest::prelude::*;

use super::*;

fn to(n: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, n], 1))
}

fn held(queue: &Queue) -> Vec<(SocketAddr, Vec<u8>)> {
    queue
        .iter()
        .map(|(to, bytes)| (to, bytes.to_vec()))
        .collect()
}

proptest! {
    /// Two queues, the second of which is moved behind the first now and then, do what two lists do.
    #[test]
    fn it_is_a_list(steps in proptest::collection::vec((0_u8..4, any::<u8>(), 0_usize..1300), 1..300)) {
        let (mut queues, mut lists) = ([(); 2].map(|()| Queue::default()), [(); 2].map(|()| Vec::new()));
        for (what, n, len) in steps {
            let at = usize::from(n % 2);
            match what {
                0 | 1 => {
                    let datagram = vec![n; len];
                    queues[at].push(to(n), &datagram);
                    lists[at].push((to(n), datagram));
                }
                2 => {
                    let count = usize::from(n % 8);
                    let out: Vec<_> = lists[at].drain(..count.min(lists[at].len())).collect();
                    let bytes = out.iter().map(|(_, datagram)| datagram.len()).sum::<usize>();
                    prop_assert_eq!(queues[at].take_out(count), (out.len(), bytes));
                }
                _ => {
                    let [first, second] = &mut queues;
                    first.append(second);
                    let [first, second] = &mut lists;
                    first.append(second);
                }
            }
            for (queue, list) in queues.iter().zip(&lists) {
                prop_assert_eq!(queue.len(), list.len());
                prop_assert_eq!(&held(queue), list);
            }
        }
    }
}

/// A queue that is never quite empty does not keep what has left, and one that is empty gives back what a flood took.
#[test]
fn its_memory_is_that_of_what_waits() {
    let mut queue = Queue::default();
    let datagram = [7; 1280];
    queue.push(to(1), &datagram);
    for _ in 0..10_000 {
        queue.push(to(1), &datagram);
        queue.take_out(1);
    }
    assert!(queue.bytes.capacity() < 8 * datagram.len());
    for _ in 0..1000 {
        queue.push(to(1), &datagram);
    }
    assert!(queue.bytes.capacity() > KEPT);
    queue.take_out(usize::MAX);
    assert_eq!((queue.len(), queue.bytes.capacity()), (0, 0));
}
