//! What a running node says. The enode URL and the ENR come first and alone, so that a script can take them.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;
use tercet_discovery::dns::SyncCounters;
use tercet_enode::NodeId;
use tercet_eth_peer::EthEvent;
use tercet_machine::UnixTime;
use tercet_server::{PeerInfo, ServerEvent};

use crate::events::{Event, short, stamp};

/// A change of the node's state.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum NodeEvent {
    Started(Box<Started>),
    /// The node's own record has changed.
    Record {
        enr: String,
        seq: u64,
    },
    Table {
        nodes: usize,
        live: usize,
    },
    PeerAdded {
        id: String,
        address: SocketAddr,
        inbound: bool,
        client: String,
        capabilities: Vec<String>,
        peers: usize,
    },
    PeerDropped {
        id: String,
        reason: String,
        age_s: f64,
        peers: usize,
    },
    Banned {
        id: String,
        rule: String,
        for_s: u64,
    },
    StatusAgreed {
        id: String,
        eth: u32,
    },
    Transactions {
        pool: usize,
        duplicates: u64,
    },
    /// How far the lists in DNS have been read.
    Dns {
        nodes: u64,
        queries: u64,
        cached: u64,
        refused: u64,
    },
    /// More happened than could be told.
    Missed {
        events: u64,
    },
    Stopping,
    Stopped,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Started {
    pub(super) id: String,
    pub(super) enode: String,
    pub(super) enr: String,
    pub(super) client: String,
    pub(super) tcp: SocketAddr,
    pub(super) udp: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) udp6: Option<SocketAddr>,
    pub(super) network: String,
    pub(super) network_id: u64,
    pub(super) genesis: String,
    pub(super) head: u64,
    pub(super) datadir: PathBuf,
    pub(super) database: String,
    pub(super) bootnodes: usize,
}

impl NodeEvent {
    pub(super) const fn dns(counters: SyncCounters) -> Self {
        Self::Dns {
            nodes: counters.nodes,
            queries: counters.queries,
            cached: counters.cached,
            refused: counters.refused,
        }
    }
}

impl Event for NodeEvent {
    /// Several lines for the first.
    fn text(&self, time: UnixTime) -> String {
        let time = stamp(time);
        let line = match self {
            Self::Started(started) => return started.text(&time),
            Self::Record { enr, .. } => format!("record changed: {enr}"),
            Self::Table { nodes, live } => format!("table: nodes {nodes}, answering {live}"),
            Self::PeerAdded {
                id,
                address,
                inbound,
                client,
                capabilities,
                peers,
            } => format!(
                "peer added: {} {} {address}, {client}, {}; {peers} now",
                short(id),
                if *inbound { "from" } else { "at" },
                capabilities.join(" "),
            ),
            Self::PeerDropped {
                id,
                reason,
                age_s,
                peers,
            } => {
                format!(
                    "peer dropped: {} after {age_s:.1} s: {reason}; {peers} now",
                    short(id)
                )
            }
            Self::Banned { id, rule, for_s } => {
                format!("banned: {} for {for_s} s: {rule}", short(id))
            }
            Self::StatusAgreed { id, eth } => {
                format!("status agreed: {} over eth/{eth}", short(id))
            }
            Self::Transactions { pool, duplicates } => {
                format!("transactions: {pool} in the pool, {duplicates} came more than once")
            }
            Self::Dns {
                nodes,
                queries,
                cached,
                refused,
            } => {
                format!(
                    "dns: nodes {nodes}; {queries} names looked up, {cached} entries known, {refused} refused"
                )
            }
            Self::Missed { events } => format!("too much at once: {events} events are not shown"),
            Self::Stopping => "stopping: telling peers, saving the table".to_owned(),
            Self::Stopped => "stopped".to_owned(),
        };
        format!("{time} {line}")
    }
}

impl Started {
    fn text(&self, time: &str) -> String {
        let udp = match self.udp {
            Some(udp) => {
                let udp6 = self.udp6.map(|udp6| format!(" and {udp6}"));
                let udp6 = udp6.unwrap_or_default();
                format!("UDP {udp}{udp6}, {} bootnodes", self.bootnodes)
            }
            None => "no discovery".to_owned(),
        };
        format!(
            "{}\n{}\n{time} {} listens on TCP {}, {udp}\n{time} {}, network {}, genesis {}, head {}\n{time} {} in {}",
            self.enode,
            self.enr,
            self.client,
            self.tcp,
            self.network,
            self.network_id,
            self.genesis,
            self.head,
            self.database,
            self.datadir.display(),
        )
    }
}

/// What a server event is worth saying; attempts that led to nothing are left to the log.
pub(super) fn from_server(event: &ServerEvent, peers: usize) -> Option<NodeEvent> {
    match event {
        ServerEvent::PeerAdded { info } => Some(added(info, peers)),
        ServerEvent::PeerDropped { id, reason, age } => Some(NodeEvent::PeerDropped {
            id: id.to_string(),
            reason: reason.to_string(),
            age_s: age.as_secs_f64(),
            peers,
        }),
        ServerEvent::Banned { id, rule, duration } => Some(NodeEvent::Banned {
            id: id.to_string(),
            rule: rule.to_string(),
            for_s: duration.as_secs(),
        }),
        _ => None,
    }
}

fn added(info: &PeerInfo, peers: usize) -> NodeEvent {
    NodeEvent::PeerAdded {
        id: info.id.to_string(),
        address: info.remote_addr,
        inbound: info.inbound(),
        client: info.client_id.clone(),
        capabilities: info.capabilities.iter().map(ToString::to_string).collect(),
        peers,
    }
}

/// What an eth event is worth saying by itself, and of which peer; transactions are counted instead.
pub(super) fn from_eth(event: &EthEvent) -> Option<(NodeId, NodeEvent)> {
    match event {
        EthEvent::StatusAgreed { peer, version, .. } => {
            let event = NodeEvent::StatusAgreed {
                id: peer.to_string(),
                eth: version.number(),
            };
            Some((*peer, event))
        }
        _ => None,
    }
}
