//! The responders on sockets of this machine's loopback, one socket and one task each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tercet_discovery::Protocols;
use tercet_machine::Clock;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::{Responder, World};

/// A running network; it ends when this is dropped.
pub struct Network {
    pub world: Arc<World>,
    pub answered: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Network {
    /// Starts `count` nodes; `speaks` says over what each answers.
    pub async fn start(count: usize, speaks: impl Fn(usize) -> Protocols) -> Self {
        let mut sockets = Vec::new();
        for number in 0..count {
            // 127.0.0.0/8 is all this machine's: one port each would leave too few for a large network beside other programs.
            let host = [127, 77, (number >> 8) as u8, (number & 0xff) as u8];
            sockets.push(UdpSocket::bind(SocketAddr::from((host, 0))).await.unwrap());
        }
        let addrs: Vec<SocketAddr> = sockets
            .iter()
            .map(|socket| socket.local_addr().unwrap())
            .collect();
        let world = World::new(&addrs);
        let answered = Arc::new(AtomicU64::new(0));
        let clock = Clock::start();
        let mut tasks = JoinSet::new();
        for (number, socket) in sockets.into_iter().enumerate() {
            let mut node = Responder::new(&world, number, speaks(number));
            let answered = Arc::clone(&answered);
            tasks.spawn(async move {
                let mut buffer = [0; 1281];
                loop {
                    let Ok((len, from)) = socket.recv_from(&mut buffer).await else {
                        return;
                    };
                    let before = node.answered;
                    for reply in node.take(clock.now(), from, &buffer[..len]) {
                        let _ = socket.send_to(&reply, from).await;
                    }
                    answered.fetch_add(node.answered - before, Ordering::Relaxed);
                }
            });
        }
        Self {
            world,
            answered,
            _tasks: tasks,
        }
    }
}
