//! Two sockets on one port, and two readers.

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
use socket2::SockRef;

use super::*;

/// Nothing ever arrives on this core, nor does anybody run on it.
const NOWHERE: usize = CpuSet::MAX_CPU - 1;

/// Two readers' sockets on one port. This thread stays on its core; what it sends arrives there, at the first one's socket.
fn pair() -> (Sockets, Sockets, usize) {
    let here = sched_getcpu();
    let mut own = CpuSet::new();
    own.set(here);
    sched_setaffinity(None, &own).unwrap();
    let mut first = bind("127.0.0.1:0", None).unwrap();
    let cores = Cores {
        first: here,
        second: NOWHERE,
    };
    let second = first.beside(cores).unwrap();
    assert_eq!(first.local_addr(), second.local_addr());
    (first, second, here)
}

fn sender(to: &Sockets) -> std::net::UdpSocket {
    let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(to.local_addr()).unwrap();
    sender
}

/// Where what is sent from now on arrives: each reader's core.
fn arrive(first: (&Sockets, usize), second: (&Sockets, usize)) {
    for (sockets, core) in [first, second] {
        SockRef::from(sockets.main.port.plain())
            .set_cpu_affinity(core)
            .unwrap();
    }
}

/// The second reader runs on the core of the first one's socket and so reads from it, though it waits for its own.
#[tokio::test]
async fn who_runs_where_something_has_arrived_reads_it_and_nothing_is_overtaken() {
    let (mut first, mut second, _) = pair();
    let sender = sender(&first);
    for n in 0..200_u8 {
        sender.send(&[n]).unwrap();
    }
    let (mut metrics, mut next, mut taken) = (DiscoveryMetrics::default(), 0_u8, [0, 0]);
    tokio::select! {
        ready = first.readable() => ready.unwrap(),
        ready = second.readable() => ready.unwrap(),
    }
    while next < 200 {
        for (reader, taken) in [&mut second, &mut first].into_iter().zip(&mut taken) {
            reader.fill(&mut metrics, || ());
            while let Some((from, datagram)) = reader.take(&mut metrics) {
                assert_eq!((from, datagram[0]), (sender.local_addr().unwrap(), next));
                next += 1;
                *taken += 1;
            }
        }
    }
    assert!(taken[0] >= BATCH_SIZE, "{taken:?}");
    assert_eq!(metrics.datagrams_in, 200);
}

/// Otherwise the other reader could take later datagrams to the machine first.
#[tokio::test]
async fn nobody_else_reads_until_a_reader_has_entered() {
    let (mut first, mut second, _) = pair();
    sender(&first).send(&[1]).unwrap();
    let mut metrics = DiscoveryMetrics::default();
    tokio::select! {
        ready = first.readable() => ready.unwrap(),
        ready = second.readable() => ready.unwrap(),
    }
    let (one, other) = (Arc::clone(&first.main.port), Arc::clone(&second.main.port));
    let is_read = || one.is_read() || other.is_read();
    let read = second.fill(&mut metrics, is_read);
    let read = read.or_else(|| first.fill(&mut metrics, is_read));
    assert_eq!((read, is_read()), (Some(true), false));
}

#[tokio::test]
async fn a_flood_on_one_core_leaves_the_other_socket_its_part() {
    const FLOOD: usize = 20 * BATCH_SIZE;
    let (first, mut second, here) = pair();
    let sender = sender(&first);
    arrive((&first, NOWHERE), (&second, here));
    sender.send(&[1]).unwrap();
    arrive((&first, here), (&second, NOWHERE));
    for _ in 0..FLOOD {
        sender.send(&[0]).unwrap();
    }
    second.readable().await.unwrap();
    let mut metrics = DiscoveryMetrics::default();
    let mut found = false;
    for _ in 0..=OWN_FIRST {
        assert_eq!(second.fill(&mut metrics, || ()), Some(()));
        while let Some((_, datagram)) = second.take(&mut metrics) {
            found |= datagram[0] == 1;
        }
    }
    assert!(found);
    assert!(metrics.datagrams_in < FLOOD as u64, "{metrics:?}");
}

#[tokio::test]
async fn a_port_that_two_sockets_share_is_taken_for_everybody_else() {
    let (first, _second, _) = pair();
    let addr = first.local_addr();
    let error = Sockets::bind(addr, None).unwrap_err();
    assert!(matches!(error, StartError::Bind { addr: named, .. } if named == addr));
}

#[tokio::test]
async fn both_families_have_their_pair() {
    let Ok(mut first) = bind("127.0.0.1:0", Some("[::1]:0")) else {
        skip("this machine has no IPv6");
        return;
    };
    let cores = Cores {
        first: NOWHERE,
        second: NOWHERE,
    };
    let mut second = first.beside(cores).unwrap();
    assert_eq!(first.local_addr_v6(), second.local_addr_v6());
    let mut metrics = DiscoveryMetrics::default();
    for to in [first.local_addr(), first.local_addr_v6().unwrap()] {
        let mut sender = bind("127.0.0.1:0", Some("[::1]:0")).unwrap();
        sender.send(to, Bytes::from_static(b"?"), &mut metrics);
        sender.flush(&mut metrics);
        let (reader, (from, _)) = tokio::select! {
            received = receive(&mut first) => (0, received),
            received = receive(&mut second) => (1, received),
        };
        assert_eq!(from.is_ipv6(), to.is_ipv6());
        // Either answers from the port that was asked.
        let answering = if reader == 0 { &mut second } else { &mut first };
        answering.send(from, Bytes::from_static(b"!"), &mut metrics);
        answering.flush(&mut metrics);
        assert_eq!(receive(&mut sender).await.0, to);
    }
}

#[tokio::test]
async fn while_no_core_is_to_spare_bursts_are_sent_where_they_are_made() {
    let mut receiver = bind("127.0.0.1:0", None).unwrap();
    let mut sender = with_bursts("127.0.0.1:0", None).unwrap();
    let mut metrics = DiscoveryMetrics::default();
    for spare in [false, true] {
        sender.may_hand_over(spare);
        for n in 0..10 * INLINE as u8 {
            sender.send(receiver.local_addr(), vec![n].into(), &mut metrics);
        }
        flush(&mut sender, &mut metrics).await;
        for n in 0..10 * INLINE as u8 {
            assert_eq!(receive(&mut receiver).await.1, &[n][..]);
        }
        assert_eq!(metrics.datagrams_handed_over > 0, spare);
    }
}
