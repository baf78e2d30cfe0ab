#![allow(clippy::disallowed_methods)] // reads virtual time

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use futures::{FutureExt, Stream};
use tercet_enode::{Endpoint, Node, NodeRecord, SecretKey};
use tercet_machine::MachineRng;
use tokio::time::{Instant, sleep};

use super::*;

fn at(ip: IpAddr) -> Node {
    let key = SecretKey::generate(&mut MachineRng::from_seed([3; 32])).public_key();
    Node::new(key, Endpoint::new(ip, 30303, 30303))
}

fn node(n: u8) -> Node {
    at([20, 1, n, 1].into())
}

fn number(node: &Node) -> u8 {
    match node.endpoint().ip {
        IpAddr::V4(ip) => ip.octets()[2],
        IpAddr::V6(_) => 0,
    }
}

fn list(label: &str, numbers: std::ops::Range<u8>) -> Source {
    Source::list(label, Trust::Remote, numbers.map(node).collect())
}

/// Yields a node after each wait.
fn slow(label: &str, wait: Duration) -> Source {
    let nodes = stream::unfold(0, move |n| async move {
        sleep(wait).await;
        Some((node(n), n + 1))
    });
    Source::new(label, Trust::Remote, nodes)
}

/// Counts itself down when it is dropped.
struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn endless(alive: &Arc<AtomicUsize>) -> impl Stream<Item = Node> + Send + 'static {
    alive.fetch_add(1, Ordering::SeqCst);
    let guard = Alive(Arc::clone(alive));
    stream::repeat_with(move || {
        let _held = &guard;
        node(1)
    })
}

#[tokio::test(start_paused = true)]
async fn sources_take_turns_and_the_mix_ends_with_them() {
    let mut mix = FairMix::new(Duration::from_millis(100));
    mix.add(list("a", 0..4));
    mix.add(list("b", 10..12));
    let got: Vec<(String, u8)> = mix
        .by_ref()
        .map(|found| (found.source.to_string(), number(&found.node)))
        .collect()
        .await;
    let expected = [("a", 0), ("b", 10), ("a", 1), ("b", 11), ("a", 2), ("a", 3)];
    assert_eq!(got, expected.map(|(source, n)| (source.to_owned(), n)));
    assert!(mix.next().await.is_none(), "it stays ended");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_never_delivers_costs_half_as_much_each_time() {
    let mut mix = FairMix::new(Duration::from_millis(100));
    mix.add(Source::new("dead", Trust::Remote, stream::pending()));
    mix.add(list("a", 0..8));
    let mut waits = vec![];
    for _ in 0..8 {
        let began = Instant::now();
        assert_eq!(&*mix.next().await.unwrap().source, "a");
        waits.push(began.elapsed().as_millis());
    }
    // Others step in for it, and have turns of their own.
    let steps: Vec<u128> = waits.iter().step_by(2).copied().collect();
    assert!(
        waits[0] >= 100 && steps.windows(2).all(|pair| pair[1] <= pair[0] / 2 + 1),
        "{waits:?}"
    );
    assert!(
        waits.iter().skip(1).step_by(2).all(|wait| *wait == 0),
        "{waits:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_source_gets_its_share_beside_a_fast_one() {
    let mut mix = FairMix::new(Duration::from_millis(100));
    mix.add(slow("slow", Duration::from_millis(80)));
    mix.add(Source::new("fast", Trust::Own, stream::repeat(node(9))));
    let got: Vec<Sourced> = mix.take(40).collect().await;
    let slow = got.iter().filter(|found| &*found.source == "slow").count();
    assert_eq!(slow, 20);
}

#[tokio::test(start_paused = true)]
async fn sources_come_and_go_while_it_runs() {
    let (mut mix, handle) = FairMix::with_handle(Duration::ZERO);
    assert!(mix.next().now_or_never().is_none(), "one may still come");
    handle.add(list("a", 0..3)).unwrap();
    handle.add(list("b", 10..30)).unwrap();
    let first: Vec<u8> = mix
        .by_ref()
        .take(2)
        .map(|found| number(&found.node))
        .collect()
        .await;
    assert_eq!(first, [0, 10]);
    handle.remove("b").unwrap();
    drop(handle);
    let rest: Vec<u8> = mix.map(|found| number(&found.node)).collect().await;
    assert_eq!(rest, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn bounds_of_a_mix_are_reached() {
    let (mut mix, handle) = FairMix::with_handle(Duration::ZERO);
    for _ in 0..16 {
        handle.add(list("a", 0..1)).unwrap();
    }
    assert_eq!(handle.add(list("a", 0..1)), Err(SourceError::Busy));
    for _ in 0..MAX_SOURCES {
        assert!(mix.add(list("b", 0..1)));
    }
    assert!(!mix.add(list("c", 0..1)));
    drop(mix);
    assert_eq!(handle.add(list("a", 0..1)), Err(SourceError::Closed));
}

#[tokio::test]
async fn a_remote_source_names_nobody_but_the_internet() {
    let private: [IpAddr; 7] = [
        [127, 0, 0, 1].into(),
        [192, 168, 1, 1].into(),
        [100, 64, 0, 1].into(),
        [224, 0, 0, 1].into(),
        [0, 0, 0, 0].into(),
        [0xfd00, 0, 0, 0, 0, 0, 0, 1].into(),
        [0, 0, 0, 0, 0, 0xffff, 0x0a00, 1].into(),
    ];
    let nodes: Vec<Node> = private.map(at).into_iter().chain([node(5)]).collect();
    let mut remote = Source::list("dns", Trust::Remote, nodes.clone());
    assert_eq!(remote.by_ref().collect::<Vec<_>>().await, [node(5)]);
    assert_eq!(remote.refused(), 7);
    let own = Source::list("own", Trust::Own, nodes.clone());
    assert_eq!(own.collect::<Vec<_>>().await, nodes);

    // Its other address counts as well.
    let key = SecretKey::generate(&mut MachineRng::from_seed([4; 32]));
    let record = NodeRecord::builder()
        .ip([20, 1, 1, 1].into())
        .ip([0xfd00, 0, 0, 0, 0, 0, 0, 1].into())
        .udp(30303)
        .sign(&key)
        .unwrap();
    assert!(!Trust::Remote.admits(&Node::from_record(record).unwrap()));

    // A long list of nothing else ends, too.
    let bad = vec![at([10, 0, 0, 1].into()); 1000];
    assert_eq!(Source::list("bad", Trust::Remote, bad).count().await, 0);
}

#[tokio::test(start_paused = true)]
async fn nodes_are_judged_several_at_once_and_it_ends_with_its_upstream() {
    let busy = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let judge = |node: Node| {
        let (busy, most) = (Arc::clone(&busy), Arc::clone(&most));
        async move {
            most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(Duration::from_millis(10)).await;
            busy.fetch_sub(1, Ordering::SeqCst);
            number(&node).is_multiple_of(2).then_some(node)
        }
    };
    let nodes = list("a", 0..20);
    let mut got: Vec<u8> = filtered(nodes, 4, judge)
        .map(|node| number(&node))
        .collect()
        .await;
    got.sort_unstable();
    assert_eq!(got, (0..20).step_by(2).collect::<Vec<u8>>());
    assert_eq!(most.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_wait_loses_no_node() {
    let nodes = slow("slow", Duration::from_millis(30)).take(5);
    let mut mix = FairMix::new(Duration::from_millis(100));
    mix.add(Source::new("slow", Trust::Own, nodes));
    let mixed = mix.map(|found| found.node);
    let mut nodes = std::pin::pin!(filtered(mixed, 2, |node| async move {
        sleep(Duration::from_millis(5)).await;
        Some(node)
    }));
    let mut got = vec![];
    // Most waits are given up before anything comes.
    for _ in 0..100 {
        if let Ok(found) = tokio::time::timeout(Duration::from_millis(7), nodes.next()).await {
            got.extend(found.as_ref().map(number));
        }
    }
    assert_eq!(got, [0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn what_was_prefetched_is_handed_out_and_dropping_stops_the_rest() {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let source = list("a", 0..20).inspect(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let ready = prefetched(source, 4);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(taken.load(Ordering::SeqCst), 5, "four ready, one in hand");
    let got: Vec<u8> = ready.map(|node| number(&node)).collect().await;
    assert_eq!(got, (0..20).collect::<Vec<u8>>());

    let alive = Arc::new(AtomicUsize::new(0));
    let mut mix = FairMix::new(Duration::ZERO);
    mix.add(Source::new("a", Trust::Own, endless(&alive)));
    let mut ready = prefetched(mix.map(|found| found.node), 4);
    assert!(ready.next().await.is_some());
    drop(ready);
    // The runtime drops an aborted task in its own time; virtual time passes when it has nothing else to do.
    sleep(Duration::from_millis(1)).await;
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}
