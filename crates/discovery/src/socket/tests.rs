use super::*;

async fn receive(sockets: &mut Sockets) -> (SocketAddr, BytesMut) {
    let mut metrics = DiscoveryMetrics::default();
    loop {
        sockets.readable().await.unwrap();
        if let Some(received) = sockets.try_receive(&mut metrics) {
            return received;
        }
    }
}

/// As the driver does it, until all has been taken.
async fn flush(sockets: &mut Sockets, metrics: &mut DiscoveryMetrics) {
    while sockets.queued() > 0 {
        sockets.writable().await.unwrap();
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
