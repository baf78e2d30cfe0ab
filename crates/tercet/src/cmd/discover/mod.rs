//! What the commands that speak discovery have in common: their options, spelled as geth's devp2p spells them, and the service
//! they start with them. What is asked over it, each command says itself.

mod args;
mod target;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tercet_discovery::{Discovery, DiscoveryConfig, Protocol, Protocols, RequestError};
use tercet_enode::{Node, NodeRecord};
use tercet_nodedb::NodeDb;

pub(crate) use self::args::{DiscoverArgs, ExtAddr, ExtAddrError, TimeServer};
pub(crate) use self::target::TargetArg;
use crate::error::CliError;

/// How long the node that a person named is waited for. Longer than a lookup waits for one of many: a handshake through two
/// busy hosts and a lost packet's worth of patience.
const PATIENCE: Duration = Duration::from_secs(2);

/// A running discovery service and its database.
#[derive(Debug)]
pub(crate) struct Discoverer {
    pub(crate) service: Discovery,
    /// The nodes it began with.
    pub(crate) bootnodes: Vec<Node>,
    protocols: Protocols,
    db: NodeDb,
}

impl Discoverer {
    /// Starts the service for questions: on any free port, of the kind of address that `node` has, or else the first boot node.
    pub(crate) async fn for_asking(
        args: &DiscoverArgs,
        node: Option<&Node>,
    ) -> Result<Self, CliError> {
        let bootnodes = super::boot_nodes(args.network, args.bootnodes.as_ref()).await;
        let first = node.or(bootnodes.first());
        let towards = first.map_or(Ipv4Addr::UNSPECIFIED.into(), |node| node.endpoint().ip);
        let any = any_port_towards(towards);
        let listen = args.addr.map_or(any, |addr| addr.at(any.port()));
        let timeout = args.timeout.or(node.map(|_| PATIENCE));
        // Gone in a moment, it is not to be in others' tables, unless the user says where it is to be found.
        let guest = args.extaddr.is_none();
        Self::start(args, (listen, timeout, guest), bootnodes).await
    }

    /// Starts the service for others to ask.
    pub(crate) async fn for_serving(args: &DiscoverArgs, port: u16) -> Result<Self, CliError> {
        let bootnodes = super::boot_nodes(args.network, args.bootnodes.as_ref()).await;
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
        let listen = args.addr.map_or(any, |addr| addr.at(port));
        Self::start(args, (listen, args.timeout, false), bootnodes).await
    }

    async fn start(
        args: &DiscoverArgs,
        (listen, timeout, guest): (SocketAddr, Option<Duration>, bool),
        bootnodes: Vec<Node>,
    ) -> Result<Self, CliError> {
        let mut config = DiscoveryConfig::builder()
            .listen(listen)
            .v4(args.protocols().contains(Protocol::V4))
            .v5(args.protocols().contains(Protocol::V5))
            .guest(guest)
            .bootnodes(bootnodes.clone());
        if let Some(timeout) = timeout {
            config = config.reply_timeout(timeout).v5_reply_timeout(timeout);
        }
        if args.ipv6 {
            config = config.listen_v6(beside(listen));
        }
        if let Some(networks) = &args.netrestrict {
            config = config.netrestrict(networks.0.clone());
        }
        if let Some(outer) = &args.extaddr {
            config = outer.announce(config);
        }
        if let Some(server) = &args.ntp {
            config = config.ntp_server(server.as_str());
        }
        let config = config.build().map_err(CliError::DiscoveryConfig)?;
        let key = args.key.load()?.unwrap_or_else(super::new_key);
        let db = match args.nodedb.clone() {
            None => NodeDb::memory().map_err(CliError::Database)?,
            Some(path) => tokio::task::spawn_blocking(move || NodeDb::open(path))
                .await
                .map_err(CliError::Task)?
                .map(|(db, _)| db)
                .map_err(CliError::Database)?,
        };
        let service = Discovery::start(config, key, db.clone())
            .await
            .map_err(CliError::Discovery)?;
        Ok(Self {
            service,
            bootnodes,
            protocols: args.protocols(),
            db,
        })
    }

    /// Asks a node over the protocol it probably speaks, and if it is silent over the other one: a URL says nothing about that,
    /// and a record only that the node may speak discv5.
    pub(crate) async fn ask<T>(
        &self,
        node: &Node,
        question: impl AsyncFn(Protocol) -> Result<T, RequestError>,
    ) -> Result<(Protocol, T), CliError> {
        let mut order = [Protocol::V4, Protocol::V5];
        if node.record().is_some() {
            order.reverse();
        }
        let mut silent = RequestError::Unsupported;
        for protocol in order
            .into_iter()
            .filter(|one| self.protocols.contains(*one))
        {
            match question(protocol).await {
                Ok(answer) => return Ok((protocol, answer)),
                Err(error) => silent = error,
            }
            if silent != RequestError::Timeout {
                break;
            }
        }
        let address = node.endpoint().udp_addr();
        Err(CliError::Asked {
            address,
            source: silent,
        })
    }

    /// A node's record, from itself.
    pub(crate) async fn record(&self, node: &Node) -> Result<NodeRecord, CliError> {
        let request = async |protocol| self.service.request_enr_over(node.clone(), protocol).await;
        let (_, record) = self.ask(node, request).await?;
        Ok(record)
    }

    /// Fails where there is nobody to begin a search with.
    pub(crate) fn check_start(&self, args: &DiscoverArgs) -> Result<(), CliError> {
        if self.bootnodes.is_empty() && args.nodedb.is_none() {
            return Err(CliError::NoStart);
        }
        Ok(())
    }

    /// Ends the service and saves what it knows.
    pub(crate) async fn stop(self) -> Result<(), CliError> {
        self.service.shutdown().await;
        self.db.shutdown().await.map_err(CliError::Store)
    }
}

/// A local address of the family of `ip`, on a free port. Towards this machine only its loopback is opened.
pub(crate) fn any_port_towards(ip: IpAddr) -> SocketAddr {
    let local: IpAddr = match ip {
        IpAddr::V4(ip) if ip.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(ip) if ip.is_loopback() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(local, 0)
}

/// The IPv6 socket beside this one: on loopback if that is, and on the same port, which may be any.
fn beside(listen: SocketAddr) -> SocketAddr {
    let ip = if listen.ip().is_loopback() {
        Ipv6Addr::LOCALHOST
    } else {
        Ipv6Addr::UNSPECIFIED
    };
    SocketAddr::new(ip.into(), listen.port())
}

/// A protocol's name, as in the flags.
pub(crate) const fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::V4 => "v4",
        Protocol::V5 => "v5",
    }
}
