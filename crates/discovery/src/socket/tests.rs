use egress::Wire;
use tokio::net::UdpSocket;

use super::*;

#[cfg(target_os = "linux")]
mod pair;

async fn receive(sockets: &mut Sockets) -> (SocketAddr, BytesMut) {
    let mut metrics = DiscoveryMetrics::default();
    loop {
        sockets.readable().await.unwrap();
        sockets.fill(&mut metrics, || ());
        if let Some(received) = sockets.take(&mut metrics) {
            return received;
        }
    }
}

/// As the driver does it, until all has been taken.
async fn flush(sockets: &mut Sockets, metrics: &mut DiscoveryMetrics) {
    sockets.flush(metrics);
    while sockets.queued() > 0 {
        sockets.sent().await;
        sockets.flush(metrics);
    }
}

fn bind(listen: &str, listen_v6: Option<&str>) -> Result<Sockets, StartError> {
    Sockets::bind(
        listen.parse().unwrap(),
        listen_v6.map(|addr| addr.parse().unwrap()),
    )
}

#[tokio::test]
async fn what_does_not_fit_the_queue_is_dropped_and_counted() {
    let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to = receiver.local_addr().unwrap();
    let mut sockets = bind("127.0.0.1:0", None).unwrap();
    let mut metrics = DiscoveryMetrics::default();
    for n in 0..MAX_QUEUED + 10 {
        let datagram = Bytes::from(vec![n as u8; 1 + n % 7]);
        sockets.send(to, datagram, &mut metrics);
    }
    assert_eq!((sockets.queued(), metrics.out_queue_full), (MAX_QUEUED, 10));
    flush(&mut sockets, &mut metrics).await;
    assert_eq!(
        (metrics.datagrams_out, metrics.socket_errors),
        (MAX_QUEUED as u64, 0)
    );
    let mut buffer = [0; 16];
    let (len, from) = receiver.recv_from(&mut buffer).await.unwrap();
    assert_eq!((&buffer[..len], from), (&[0][..], sockets.local_addr()));
}

#[tokio::test]
async fn a_burst_arrives_whole_and_in_order() {
    let mut receiver = bind("127.0.0.1:0", None).unwrap();
    let mut sender = bind("127.0.0.1:0", None).unwrap();
    let mut metrics = DiscoveryMetrics::default();
    // More than two reads, sizes that differ and some that are equal, an empty one among them.
    let burst: Vec<Bytes> = (0..100_usize)
        .map(|n| Bytes::from(vec![n as u8; n / 2 * 20]))
        .collect();
    for datagram in &burst {
        sender.send(receiver.local_addr(), datagram.clone(), &mut metrics);
    }
    flush(&mut sender, &mut metrics).await;
    for datagram in &burst {
        let (from, received) = receive(&mut receiver).await;
        assert_eq!((from, &received[..]), (sender.local_addr(), &datagram[..]));
    }
}

#[tokio::test]
async fn a_datagram_the_system_refuses_does_not_hold_up_the_rest() {
    let mut receiver = bind("127.0.0.1:0", None).unwrap();
    let mut sender = bind("127.0.0.1:0", None).unwrap();
    let mut metrics = DiscoveryMetrics::default();
    let to = receiver.local_addr();
    sender.send(to, Bytes::from_static(b"first"), &mut metrics);
    // No UDP datagram is that long.
    sender.send(to, Bytes::from(vec![0; 70_000]), &mut metrics);
    sender.send(to, Bytes::from_static(b"last"), &mut metrics);
    flush(&mut sender, &mut metrics).await;
    assert_eq!((metrics.datagrams_out, metrics.socket_errors), (2, 1));
    assert_eq!(receive(&mut receiver).await.1, &b"first"[..]);
    assert_eq!(receive(&mut receiver).await.1, &b"last"[..]);
}

#[tokio::test]
async fn a_socket_for_both_families_shows_ipv4_senders_as_such() {
    let Ok(mut sockets) = bind("[::]:0", None) else {
        skip("this machine has no IPv6");
        return;
    };
    let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = sockets.local_addr().port();
    if sender.send_to(b"hello", ("127.0.0.1", port)).await.is_err() {
        skip("IPv6 sockets do not take IPv4 here");
        return;
    }
    let (from, datagram) = receive(&mut sockets).await;
    assert_eq!(
        (from, &datagram[..]),
        (sender.local_addr().unwrap(), &b"hello"[..])
    );
    let mut metrics = DiscoveryMetrics::default();
    sockets.send(from, Bytes::from_static(b"back"), &mut metrics);
    flush(&mut sockets, &mut metrics).await;
    let mut buffer = [0; 16];
    let (len, _) = sender.recv_from(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..len], b"back");
}

#[tokio::test]
async fn a_socket_for_each_family_on_one_port() {
    let Ok(mut sockets) = bind("127.0.0.1:0", Some("[::1]:0")) else {
        skip("this machine has no IPv6");
        return;
    };
    let port = sockets.local_addr().port();
    assert_eq!(sockets.local_addr_v6().map(|addr| addr.port()), Some(port));
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let peer = UdpSocket::bind(local).await.unwrap();
        let addr = peer.local_addr().unwrap();
        peer.send_to(b"hello", (addr.ip(), port)).await.unwrap();
        let (from, _) = receive(&mut sockets).await;
        assert_eq!(from, addr);
        let mut metrics = DiscoveryMetrics::default();
        sockets.send(from, Bytes::from_static(b"back"), &mut metrics);
        flush(&mut sockets, &mut metrics).await;
        let mut buffer = [0; 16];
        let (_, answered) = peer.recv_from(&mut buffer).await.unwrap();
        assert_eq!(answered, SocketAddr::new(addr.ip(), port));
    }
}

fn skip(why: &str) {
    println!("skipped: {why}");
    assert!(
        std::env::var_os("CI").is_none(),
        "not skipped where CI is set: {why}"
    );
}

/// Prints what a datagram costs, from one socket to another, in batches and one by one. The figures are for people: nothing
/// fails by them.
#[tokio::test]
#[allow(clippy::disallowed_methods)] // it reads the clock to print the time
async fn what_a_batch_saves() {
    const BURST: usize = 64;
    const ROUNDS: usize = 200;

    let mut metrics = DiscoveryMetrics::default();
    let (mut sender, mut receiver) = (
        bind("127.0.0.1:0", None).unwrap(),
        bind("127.0.0.1:0", None).unwrap(),
    );
    let plain = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let plain_receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (to, plain_to) = (receiver.local_addr(), plain_receiver.local_addr().unwrap());
    let datagram = Bytes::from(vec![7; 200]);
    let (mut batches, mut singles) = (Vec::new(), Vec::new());
    // In turn, so that a slow moment of the machine meets both.
    for _ in 0..ROUNDS {
        let start = std::time::Instant::now();
        for _ in 0..BURST {
            sender.send(to, datagram.clone(), &mut metrics);
        }
        flush(&mut sender, &mut metrics).await;
        for _ in 0..BURST {
            assert_eq!(receive(&mut receiver).await.1, datagram);
        }
        batches.push(start.elapsed());
        let start = std::time::Instant::now();
        for _ in 0..BURST {
            plain.send_to(&datagram, plain_to).await.unwrap();
        }
        let mut buffer = [0; 1281];
        for _ in 0..BURST {
            let (len, _) = plain_receiver.recv_from(&mut buffer).await.unwrap();
            assert_eq!(BytesMut::from(&buffer[..len]), datagram);
        }
        singles.push(start.elapsed());
    }
    let [batch, single] = [batches, singles].map(|mut times| {
        times.sort();
        times[ROUNDS / 4].as_secs_f64() * 1e6 / BURST as f64
    });
    println!(
        "a datagram sent and received: {batch:.2} µs in batches, {single:.2} µs one by one: ratio {:.2}",
        single / batch
    );
}

/// A socket that its test lets send.
struct Held {
    port: Arc<Port>,
    end: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Wire for Held {
    fn send(&self, queue: &Queue) -> io::Result<usize> {
        // An error means that it is not held any more.
        let _ = self.end.lock().unwrap().recv();
        self.port.send(queue)
    }

    fn wait(&self) -> bool {
        self.port.wait()
    }
}

/// As many datagrams as this are not a burst, whatever this machine has of cores.
const INLINE: usize = 8;

fn with_bursts(listen: &str, listen_v6: Option<&str>) -> Result<Sockets, StartError> {
    let mut sockets = bind(listen, listen_v6)?;
    sockets.main.inline = INLINE;
    if let Some(six) = &mut sockets.six {
        six.inline = INLINE;
    }
    Ok(sockets)
}

/// Bursts are handed over, and a few datagrams are sent at once only when no burst is under way.
#[tokio::test]
async fn bursts_and_single_datagrams_arrive_in_order() {
    let mut receiver = bind("127.0.0.1:0", None).unwrap();
    let mut sender = with_bursts("127.0.0.1:0", None).unwrap();
    let mut metrics = DiscoveryMetrics::default();
    let (mut sent, mut in_bursts) = (0_u16, 0);
    // In all as much as the smallest usual buffer of a receiver holds.
    for size in [60, 1, INLINE, INLINE + 1, 2, 1, 40, 3, 30, 1, 1] {
        for _ in 0..size {
            let datagram = Bytes::copy_from_slice(&sent.to_be_bytes());
            sender.send(receiver.local_addr(), datagram, &mut metrics);
            sent += 1;
        }
        sender.flush(&mut metrics);
        in_bursts += if size > INLINE { size } else { 0 };
    }
    flush(&mut sender, &mut metrics).await;
    for number in 0..sent {
        assert_eq!(receive(&mut receiver).await.1, &number.to_be_bytes()[..]);
    }
    assert_eq!(
        (metrics.datagrams_out, metrics.out_queue_full),
        (sent.into(), 0)
    );
    assert!(metrics.datagrams_handed_over >= in_bursts as u64);
    // When all has been sent, a single one is sent at once.
    let before = metrics.datagrams_handed_over;
    sender.send(receiver.local_addr(), Bytes::new(), &mut metrics);
    sender.flush(&mut metrics);
    assert_eq!(
        (sender.queued(), metrics.datagrams_handed_over),
        (0, before)
    );
}

/// The driver takes part in sending, as the thread does not keep up with so much at once.
#[tokio::test]
async fn a_flood_arrives_in_order_at_each_receiver() {
    let mut receivers: Vec<Sockets> = (0..8).map(|_| bind("127.0.0.1:0", None).unwrap()).collect();
    let to: Vec<SocketAddr> = receivers.iter().map(Sockets::local_addr).collect();
    let mut sender = with_bursts("127.0.0.1:0", None).unwrap();
    let mut metrics = DiscoveryMetrics::default();
    for n in 0..1000_u16 {
        let datagram = Bytes::copy_from_slice(&n.to_be_bytes());
        sender.send(to[usize::from(n) % to.len()], datagram, &mut metrics);
        if n % 90 == 0 {
            sender.flush(&mut metrics);
        }
    }
    flush(&mut sender, &mut metrics).await;
    assert_eq!((metrics.datagrams_out, metrics.out_queue_full), (1000, 0));
    for n in 0..1000_u16 {
        let receiver = &mut receivers[usize::from(n) % to.len()];
        assert_eq!(receive(receiver).await.1, &n.to_be_bytes()[..]);
    }
}

#[tokio::test]
async fn what_a_thread_has_not_sent_counts_to_the_bound() {
    let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to = receiver.local_addr().unwrap();
    let mut sockets = bind("127.0.0.1:0", None).unwrap();
    let (end, held) = std::sync::mpsc::sync_channel(0);
    let wire = Held {
        port: Arc::clone(&sockets.main.port),
        end: std::sync::Mutex::new(held),
    };
    sockets.main.egress = Egress::start(Arc::new(wire)).unwrap();
    sockets.main.inline = INLINE;
    let mut metrics = DiscoveryMetrics::default();
    for n in 0..MAX_QUEUED + 10 {
        sockets.send(to, Bytes::from(vec![n as u8; 1 + n % 7]), &mut metrics);
        if n == 19 {
            sockets.flush(&mut metrics);
        }
    }
    assert_eq!((sockets.queued(), metrics.out_queue_full), (MAX_QUEUED, 10));
    assert_eq!(
        (metrics.datagrams_out, metrics.datagrams_handed_over),
        (0, 20)
    );
    drop(end);
    flush(&mut sockets, &mut metrics).await;
    assert_eq!(
        (metrics.datagrams_out, metrics.socket_errors),
        (MAX_QUEUED as u64, 0)
    );
    // There is room again.
    sockets.send(to, Bytes::new(), &mut metrics);
    assert_eq!((sockets.queued(), metrics.out_queue_full), (1, 10));
}

#[tokio::test]
async fn a_closed_socket_has_sent_what_it_was_given() {
    let mut receiver = bind("127.0.0.1:0", None).unwrap();
    let mut sender = with_bursts("127.0.0.1:0", None).unwrap();
    let mut metrics = DiscoveryMetrics::default();
    for n in 0..100 {
        sender.send(receiver.local_addr(), Bytes::from(vec![n; 9]), &mut metrics);
        if n == 50 {
            sender.flush(&mut metrics);
        }
    }
    sender.close(&mut metrics);
    assert_eq!((metrics.datagrams_out, sender.queued()), (100, 0));
    for n in 0..100 {
        assert_eq!(receive(&mut receiver).await.1, &[n; 9][..]);
    }
}

#[tokio::test]
async fn a_burst_loses_no_more_than_what_the_system_refuses() {
    let mut receiver = bind("127.0.0.1:0", None).unwrap();
    let mut sender = with_bursts("127.0.0.1:0", None).unwrap();
    let mut metrics = DiscoveryMetrics::default();
    for n in 0..100_u8 {
        // No UDP datagram is that long.
        let len = if n % 10 == 3 { 70_000 } else { 9 };
        sender.send(
            receiver.local_addr(),
            Bytes::from(vec![n; len]),
            &mut metrics,
        );
    }
    flush(&mut sender, &mut metrics).await;
    assert_eq!((metrics.datagrams_out, metrics.socket_errors), (90, 10));
    for n in (0..100).filter(|n| n % 10 != 3) {
        assert_eq!(receive(&mut receiver).await.1, &[n; 9][..]);
    }
}

#[tokio::test]
async fn bursts_of_both_families_arrive_whole() {
    let Ok(mut sender) = with_bursts("127.0.0.1:0", Some("[::1]:0")) else {
        skip("this machine has no IPv6");
        return;
    };
    let mut receiver = bind("127.0.0.1:0", Some("[::1]:0")).unwrap();
    let to = [receiver.local_addr(), receiver.local_addr_v6().unwrap()];
    let from = [sender.local_addr(), sender.local_addr_v6().unwrap()];
    let mut metrics = DiscoveryMetrics::default();
    for n in 0..100 {
        sender.send(to[n % 2], Bytes::from(vec![n as u8; 9]), &mut metrics);
    }
    flush(&mut sender, &mut metrics).await;
    assert_eq!(
        (metrics.datagrams_out, metrics.datagrams_handed_over),
        (100, 100)
    );
    let mut next = [0, 1];
    for _ in 0..100 {
        let (sent_by, datagram) = receive(&mut receiver).await;
        let family = usize::from(sent_by.is_ipv6());
        assert_eq!(
            (sent_by, &datagram[..]),
            (from[family], &[next[family]; 9][..])
        );
        next[family] += 2;
    }
}
