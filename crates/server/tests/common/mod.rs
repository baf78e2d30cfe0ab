//! What the tests over real sockets share: servers on loopback, a protocol made
//! of a closure, waiting for events.
#![allow(dead_code, unreachable_pub)] // each test binary uses its own part
#![allow(clippy::unwrap_used, clippy::expect_used)] // tests

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tercet_nodedb::NodeDb;
use tercet_rlpx::{Authenticated, Hello, RlpxStream};
use tercet_server::{
    Capability, NodeAddress, Payload, Peer, Protocol, ProtocolError, ProtocolFuture, ProtocolIo,
    SecretKey, Server, ServerConfig, ServerConfigBuilder, ServerEvent, Timeouts,
};
use tokio::net::TcpStream;
use tokio::sync::broadcast;

/// Far more than anything here takes; a test that needs it has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

type Run = dyn Fn(Peer, ProtocolIo) -> ProtocolFuture + Send + Sync;

/// A protocol whose run is a closure.
pub struct Closure {
    capability: Capability,
    length: u64,
    run: Box<Run>,
}

impl Protocol for Closure {
    fn capability(&self) -> Capability {
        self.capability
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn run(self: Arc<Self>, peer: Peer, io: ProtocolIo) -> ProtocolFuture {
        (self.run)(peer, io)
    }
}

pub fn protocol<F>(
    name: &str,
    length: u64,
    run: impl Fn(Peer, ProtocolIo) -> F + Send + Sync + 'static,
) -> Arc<dyn Protocol>
where
    F: Future<Output = Result<(), ProtocolError>> + Send + 'static,
{
    let run = move |peer, io| -> ProtocolFuture { Box::pin(run(peer, io)) };
    Arc::new(Closure {
        capability: capability(name),
        length,
        run: Box::new(run),
    })
}

/// Sends every message back with its id.
pub fn echo(name: &str) -> Arc<dyn Protocol> {
    protocol(name, 8, |_, mut io| async move {
        while let Some(message) = io.recv().await {
            let payload = Payload::new(message.payload.bytes().clone());
            if io.sender().send(message.id, payload).await.is_err() {
                break;
            }
        }
        Ok(())
    })
}

/// Does nothing until the connection ends.
pub fn quiet(name: &str) -> Arc<dyn Protocol> {
    protocol(name, 8, |_, mut io| async move {
        while io.recv().await.is_some() {}
        Ok(())
    })
}

/// Never reads what it is sent.
pub fn deaf(name: &str) -> Arc<dyn Protocol> {
    protocol(name, 8, |_, io| async move {
        std::future::pending::<()>().await;
        drop(io);
        Ok(())
    })
}

pub fn capability(name: &str) -> Capability {
    Capability::new(name, 1).unwrap()
}

pub fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32]).unwrap()
}

/// Back-off short enough to be waited for.
pub fn quick() -> Timeouts {
    Timeouts {
        redial: Duration::from_millis(70),
        ..Timeouts::default()
    }
}

pub fn config(key: SecretKey) -> ServerConfigBuilder {
    ServerConfig::builder(key)
        .listen(loopback())
        .timeouts(quick())
}

pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub async fn start(config: ServerConfigBuilder, protocols: Vec<Arc<dyn Protocol>>) -> Server {
    Server::start(
        config.build().unwrap(),
        protocols,
        NodeDb::memory().unwrap(),
    )
    .await
    .unwrap()
}

pub fn address(server: &Server) -> NodeAddress {
    NodeAddress::Enode(server.enode())
}

/// Waits for the first event that `pick` takes.
pub async fn event<T>(
    events: &mut broadcast::Receiver<ServerEvent>,
    mut pick: impl FnMut(ServerEvent) -> Option<T>,
) -> T {
    let wait = async {
        loop {
            if let Some(picked) = pick(events.recv().await.unwrap()) {
                return picked;
            }
        }
    };
    soon(wait).await
}

pub async fn peer_added(
    events: &mut broadcast::Receiver<ServerEvent>,
) -> Arc<tercet_server::PeerInfo> {
    event(events, |event| match event {
        ServerEvent::PeerAdded { info } => Some(info),
        _ => None,
    })
    .await
}

pub async fn peer_dropped(
    events: &mut broadcast::Receiver<ServerEvent>,
) -> tercet_server::DropReason {
    event(events, |event| match event {
        ServerEvent::PeerDropped { reason, .. } => Some(reason),
        _ => None,
    })
    .await
}

pub async fn soon<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("nothing happened")
}

/// Lets the other tasks run until something is so.
pub async fn until(so: impl Fn() -> bool) {
    let wait = async {
        while !so() {
            tokio::task::yield_now().await;
        }
    };
    soon(wait).await;
}

/// Connects to a server without being one: the raw transport with a key of one's
/// choice, after the handshake.
pub async fn shake_hands(server: &Server, key: &SecretKey) -> Authenticated<TcpStream> {
    let stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let remote = server.local_node().public_key();
    soon(tercet_rlpx::connect(stream, key, remote))
        .await
        .unwrap()
}

/// The same after Hello.
pub async fn greet(server: &Server, key: &SecretKey, names: &[&str]) -> RlpxStream<TcpStream> {
    let stream = shake_hands(server, key).await;
    soon(stream.hello(hello(key, names))).await.unwrap()
}

pub fn hello(key: &SecretKey, names: &[&str]) -> Hello {
    let capabilities = names.iter().map(|name| capability(name)).collect();
    Hello::new("test", capabilities, key.public_key())
}

pub fn payload(bytes: &'static [u8]) -> Payload {
    Payload::new(Bytes::from_static(bytes))
}
