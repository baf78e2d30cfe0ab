//! Setting a connection up: resolving, connecting, shaking hands, Hello, and
//! sending away. Each stage is a future that the run loop spawns and whose
//! result it gives to the machine, which decides on the next.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tercet_enode::{PublicKey, SecretKey};
use tercet_rlpx::{
    AuthError, Authenticated, DisconnectReason, HandshakeError, Hello, HelloDecodeError,
    HelloError, RlpxStream, StreamError,
};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::admission::Netrestrict;
use crate::dial::DialTarget;
use crate::event::{DialError, RefuseReason};

/// What every dial needs.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    pub(crate) key: SecretKey,
    pub(crate) netrestrict: Netrestrict,
    pub(crate) dial: Duration,
    pub(crate) dns: Duration,
}

/// A stream whose remote has proven its key.
pub(crate) type Proven = (Authenticated<TcpStream>, SocketAddr);

impl Dialer {
    /// Connects and shakes hands with the node that holds `remote`.
    pub(crate) async fn dial(
        &self,
        target: DialTarget,
        remote: PublicKey,
    ) -> Result<Proven, DialError> {
        let addrs = self.addresses(target).await?;
        let connecting = timeout(self.dial, connect_first(&addrs)).await;
        let (stream, addr) = match connecting {
            Err(_) => return Err(DialError::ConnectTimeout),
            Ok(Err(error)) => return Err(DialError::Connect(error.kind())),
            Ok(Ok(connected)) => connected,
        };
        no_delay(&stream);
        let proven = tercet_rlpx::connect(stream, &self.key, remote).await;
        Ok((proven.map_err(handshake_error)?, addr))
    }

    /// The addresses to try. Those a host name leads to are checked here, because
    /// only now they are known.
    async fn addresses(&self, target: DialTarget) -> Result<Vec<SocketAddr>, DialError> {
        let (host, port) = match target {
            DialTarget::Addr(addr) => return Ok(vec![addr]),
            DialTarget::Dns { host, port } => (host, port),
        };
        // The system's configuration is read for each lookup: it changes when
        // the machine moves to another network.
        let resolver =
            hickory_resolver::Resolver::builder_tokio().and_then(|builder| builder.build());
        let resolver = resolver.map_err(|error| {
            tracing::warn!(%error, "the system's resolver configuration cannot be used");
            DialError::Dns
        })?;
        let found = match timeout(self.dns, resolver.lookup_ip(host.as_str())).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::debug!(host, %error, "cannot resolve");
                return Err(DialError::Dns);
            }
            Err(_) => return Err(DialError::Dns),
        };
        let all: Vec<SocketAddr> = found.iter().map(|ip| SocketAddr::new(ip, port)).collect();
        let allowed: Vec<SocketAddr> = all
            .iter()
            .copied()
            .filter(|addr| self.netrestrict.allows(addr.ip()))
            .collect();
        match (all.is_empty(), allowed.is_empty()) {
            (true, _) => Err(DialError::Dns),
            (false, true) => Err(DialError::NotAllowed),
            (false, false) => Ok(allowed),
        }
    }
}

/// Shakes hands on an accepted connection.
pub(crate) async fn accept(
    stream: TcpStream,
    key: &SecretKey,
    addr: SocketAddr,
) -> Result<Proven, DialError> {
    no_delay(&stream);
    let proven = tercet_rlpx::accept(stream, key).await;
    Ok((proven.map_err(handshake_error)?, addr))
}

/// Exchanges Hellos.
pub(crate) async fn greet(
    stream: Authenticated<TcpStream>,
    hello: Hello,
) -> Result<RlpxStream<TcpStream>, DialError> {
    stream.hello(hello).await.map_err(hello_error)
}

/// Sends a remote away before Hello, or after.
pub(crate) enum Refused {
    BeforeHello(Box<Authenticated<TcpStream>>),
    AfterHello(Box<RlpxStream<TcpStream>>),
}

impl Refused {
    /// Tells the remote why, within rlpx's limit of 2 s.
    pub(crate) async fn tell(self, reason: DisconnectReason) {
        let told = match self {
            Self::BeforeHello(stream) => stream.reject(reason).await,
            Self::AfterHello(stream) => stream.disconnect(reason).await,
        };
        if let Err(error) = told {
            tracing::debug!(%error, "a refused remote could not be told {reason}");
        }
    }
}

/// The first address that takes a connection; the last error otherwise.
async fn connect_first(addrs: &[SocketAddr]) -> io::Result<(TcpStream, SocketAddr)> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for addr in addrs {
        match TcpStream::connect(addr).await {
            Ok(stream) => return Ok((stream, *addr)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Writes leave as whole batches already; waiting to fill segments only delays
/// them. Not being able to say so to the system costs latency, nothing else.
fn no_delay(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch off Nagle's algorithm");
    }
}

fn handshake_error(error: HandshakeError) -> DialError {
    match error {
        HandshakeError::Io(error) => DialError::Io(error.kind()),
        HandshakeError::Closed => DialError::Io(io::ErrorKind::UnexpectedEof),
        HandshakeError::Timeout => DialError::SetupTimeout,
        HandshakeError::Auth(AuthError::OwnKey) => DialError::Rejected(RefuseReason::Itself),
        _ => DialError::Handshake,
    }
}

fn hello_error(error: HelloError) -> DialError {
    match error {
        HelloError::Stream(StreamError::Io(error)) => DialError::Io(error.kind()),
        HelloError::Stream(StreamError::Closed) => DialError::Io(io::ErrorKind::UnexpectedEof),
        HelloError::Timeout => DialError::SetupTimeout,
        HelloError::Disconnected(reason) => DialError::Refused(reason),
        HelloError::UnexpectedIdentity { .. } => DialError::UnexpectedIdentity,
        HelloError::Malformed(HelloDecodeError::Identity) => DialError::InvalidIdentity,
        HelloError::OwnHelloTooLarge { .. } | HelloError::Queue(_) => DialError::Internal,
        _ => DialError::Hello,
    }
}
