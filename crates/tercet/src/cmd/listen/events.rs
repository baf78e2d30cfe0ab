//! What a listening node says.

use std::net::SocketAddr;

use serde::Serialize;
use tercet_machine::UnixTime;

use super::view::Change;
use crate::cmd::discover::Discoverer;
use crate::events::{Event, stamp};

#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum ListenEvent {
    Started(Box<Started>),
    /// The node's own record has changed.
    Record {
        enr: String,
        seq: u64,
    },
    Stopping,
    Stopped,
    /// Names itself.
    #[serde(untagged)]
    Table(Change),
}

#[derive(Debug, Serialize)]
pub(super) struct Started {
    id: String,
    enode: String,
    enr: String,
    udp: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    udp6: Option<SocketAddr>,
    bootnodes: usize,
}

impl Started {
    pub(super) fn of(discoverer: &Discoverer) -> Self {
        let node = discoverer.service.local_node();
        Self {
            id: node.id().to_string(),
            enode: node.enode_url().to_string(),
            enr: discoverer.service.local_record().to_string(),
            udp: discoverer.service.local_addr(),
            udp6: discoverer.service.local_addr_v6(),
            bootnodes: discoverer.bootnodes.len(),
        }
    }

    fn text(&self, time: &str) -> String {
        let (udp, bootnodes) = (self.udp, self.bootnodes);
        let udp6 = self.udp6.map(|udp6| format!(" and {udp6}"));
        let udp6 = udp6.unwrap_or_default();
        format!(
            "{}\n{}\n{time} listens on UDP {udp}{udp6}, {bootnodes} bootnodes",
            self.enode, self.enr
        )
    }
}

impl Event for ListenEvent {
    fn text(&self, time: UnixTime) -> String {
        let time = stamp(time);
        let line = match self {
            Self::Started(started) => return started.text(&time),
            Self::Record { enr, .. } => format!("record changed: {enr}"),
            Self::Stopping => "stopping: saving the table".to_owned(),
            Self::Stopped => "stopped".to_owned(),
            Self::Table(change) => change.text(),
        };
        format!("{time} {line}")
    }
}
