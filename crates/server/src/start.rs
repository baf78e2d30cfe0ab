//! Starting a server: discovery, the TCP port, the node's record, the run loop.
#![allow(clippy::disallowed_methods)] // a driver: it starts the run loop's task

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tercet_discovery::{Discovery, DiscoveryConfig, FairMix};
use tercet_enode::{Endpoint, Node, NodeRecord};
use tercet_machine::{Clock, MachineRng};
use tercet_nodedb::NodeDb;
use tercet_rlpx::Hello;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::admission::Netrestrict;
use crate::config::{Nat, ServerConfig};
use crate::core::{CoreConfig, ServerCore};
use crate::driver::{Links, Local, ServerDriver};
use crate::error::StartError;
use crate::handle::{Server, ServerShared};
use crate::metrics::Counters;
use crate::protocol::Protocol;
use crate::setup::Dialer;

/// Commands that may wait.
const COMMANDS: usize = 64;
/// Events kept for a slow subscriber.
const EVENTS: usize = 1024;
/// How long a source of candidates may keep the others waiting: geth's value.
const PATIENCE: Duration = Duration::from_millis(100);
/// Largest Hello (RLPx).
const MAX_HELLO: usize = 2048;

pub(crate) async fn start(
    config: ServerConfig,
    protocols: Vec<Arc<dyn Protocol>>,
    db: NodeDb,
) -> Result<Server, StartError> {
    let hello = hello(&config, &protocols)?;
    let discovery = match discovery_config(&config, &protocols) {
        Some(settings) => Some(Discovery::start(settings, config.key.clone(), db.clone()).await?),
        None => None,
    };
    match bind(config, protocols, hello, &discovery, &db).await {
        Ok((server, driver)) => {
            tokio::spawn(driver.run());
            Ok(server)
        }
        Err(error) => {
            if let Some(discovery) = discovery {
                discovery.shutdown().await;
            }
            Err(error)
        }
    }
}

async fn bind(
    config: ServerConfig,
    protocols: Vec<Arc<dyn Protocol>>,
    hello: Hello,
    discovery: &Option<Discovery>,
    db: &NodeDb,
) -> Result<(Server, ServerDriver), StartError> {
    let listener = listen(config.listen).await?;
    let local_addr = local_addr(&listener, config.listen)?;
    let (node, record) = match discovery {
        Some(discovery) => {
            discovery.set_tcp_port(local_addr.port()).await?;
            (discovery.local_node(), discovery.local_record())
        }
        None => own_node(&config, local_addr, entries(&protocols), db)?,
    };
    let mut core = core(&config, &protocols, discovery.is_some())?;
    let clock = Clock::start();
    add_named(&mut core, &config, &clock);
    let (commands, received) = mpsc::channel(COMMANDS);
    let (peers, peers_seen) = watch::channel(Arc::from([]));
    let (sources, mix) = FairMix::with_handle(PATIENCE);
    let shared = ServerShared {
        commands,
        sources: mix,
        events: broadcast::channel(EVENTS).0,
        peers: peers_seen,
        counters: Arc::new(Counters::default()),
        cancel: CancellationToken::new(),
        done: CancellationToken::new(),
        discovery: discovery.clone(),
        node,
        record,
        local_addr,
    };
    let links = Links {
        commands: received,
        events: shared.events.clone(),
        peers,
        counters: Arc::clone(&shared.counters),
        cancel: shared.cancel.clone(),
        done: shared.done.clone(),
    };
    let dialer = Dialer {
        key: config.key.clone(),
        netrestrict: netrestrict(&config),
        dial: config.timeouts.dial,
        dns: config.timeouts.dns,
    };
    let (protocols, timeouts) = (protocols.into(), config.timeouts);
    let local = Local {
        dialer,
        hello,
        protocols,
        timeouts,
        clock,
    };
    let driver = ServerDriver::new(
        core,
        links,
        local,
        listener,
        discovery.clone(),
        sources,
        db.clone(),
    );
    Ok((
        Server {
            shared: Arc::new(shared),
        },
        driver,
    ))
}

/// Adds the nodes the user named. One that cannot be kept is no reason not to
/// start: a list shared by many nodes has this one in it, too.
fn add_named(core: &mut ServerCore, config: &ServerConfig, clock: &Clock) {
    for id in &config.trusted_nodes {
        if let Err(error) = core.add_trusted(*id) {
            tracing::warn!(node = %id, %error, "trusted node left out");
        }
    }
    for address in &config.static_nodes {
        if let Err(error) = core.add_static(clock.now(), address.clone()) {
            tracing::warn!(node = %address.id(), %error, "static node left out");
        }
    }
}

/// Our Hello. It must fit, and no capability may be in it twice, or two
/// protocols would wait for the same messages.
fn hello(config: &ServerConfig, protocols: &[Arc<dyn Protocol>]) -> Result<Hello, StartError> {
    let mut capabilities: Vec<_> = protocols.iter().map(|p| p.capability()).collect();
    capabilities.sort();
    if let Some([twice, _]) = capabilities.array_windows().find(|[a, b]| a == b) {
        return Err(StartError::DuplicateProtocol(*twice));
    }
    let hello = Hello::new(&config.client_id, capabilities, config.key.public_key());
    let size = hello.to_payload().len();
    if size > MAX_HELLO {
        Err(StartError::HelloTooLarge { size })
    } else {
        Ok(hello)
    }
}

async fn listen(addr: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(addr)
        .await
        .map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => StartError::TcpInUse(addr),
            _ => StartError::Tcp { addr, source },
        })
}

fn local_addr(listener: &TcpListener, addr: SocketAddr) -> Result<SocketAddr, StartError> {
    listener
        .local_addr()
        .map_err(|source| StartError::Tcp { addr, source })
}

/// This node without discovery: its address as far as it is configured, else
/// loopback, and a record that nobody fetches but everybody can be given.
fn own_node(
    config: &ServerConfig,
    listen: SocketAddr,
    entries: Vec<(Vec<u8>, Bytes)>,
    db: &NodeDb,
) -> Result<(Node, NodeRecord), StartError> {
    let ip = match config.nat {
        Nat::ExtIp(ip) => ip,
        Nat::None if listen.ip().is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Nat::None => listen.ip(),
    };
    let seq = db
        .local_seq(&config.key.node_id())
        .ok()
        .flatten()
        .unwrap_or(1);
    let mut record = NodeRecord::builder().seq(seq).ip(ip).tcp(listen.port());
    for (key, value) in &entries {
        record = record.insert_raw(key, value);
    }
    let record = record.sign(&config.key)?;
    let node = Node::new(config.key.public_key(), Endpoint::new(ip, 0, listen.port()));
    // The record is this key's own, so it is never refused.
    let node = node.clone().with_record(record.clone()).unwrap_or(node);
    Ok((node, record))
}

fn netrestrict(config: &ServerConfig) -> Netrestrict {
    config
        .netrestrict
        .as_deref()
        .map(Netrestrict::new)
        .unwrap_or_default()
}

fn core(
    config: &ServerConfig,
    protocols: &[Arc<dyn Protocol>],
    can_resolve: bool,
) -> Result<ServerCore, StartError> {
    let settings = CoreConfig {
        local: config.key.node_id(),
        limits: config.limits.clone(),
        throttle: config.timeouts.throttle,
        redial: config.timeouts.redial,
        netrestrict: netrestrict(config),
        capabilities: protocols
            .iter()
            .map(|p| (p.capability(), p.length()))
            .collect(),
        can_resolve,
    };
    let rng = MachineRng::from_system().map_err(|_| StartError::NoRandomness)?;
    Ok(ServerCore::new(settings, rng))
}

/// What the protocols add to the node's record.
fn entries(protocols: &[Arc<dyn Protocol>]) -> Vec<(Vec<u8>, Bytes)> {
    protocols
        .iter()
        .flat_map(|protocol| protocol.record_entries())
        .collect()
}

/// Discovery's configuration with what the server knows: the announced address,
/// the TCP port unless the system is to choose it, the allowed networks and the
/// protocols' entries.
fn discovery_config(
    config: &ServerConfig,
    protocols: &[Arc<dyn Protocol>],
) -> Option<DiscoveryConfig> {
    let mut settings = config.discovery.clone()?;
    if let Nat::ExtIp(ip) = config.nat {
        settings.advertised_ip = Some(ip);
    }
    if config.netrestrict.is_some() {
        settings.netrestrict = config.netrestrict.clone();
    }
    settings.tcp_port = config.listen.port();
    settings.entries.extend(entries(protocols));
    Some(settings)
}
