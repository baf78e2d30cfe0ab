//! What a devnet ends with: a table for people, one object for programs.

use std::time::Duration;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use serde::{Serialize, Serializer};

use super::facts::NodeFacts;

#[derive(Debug, Serialize)]
pub(super) struct DevnetReport {
    /// Every node has peers found by discovery, and every transaction reached every node.
    pub(super) ok: bool,
    pub(super) nodes: Vec<NodeReport>,
    /// From the start until every node had peers found by discovery and a path to all others.
    #[serde(serialize_with = "milliseconds")]
    pub(super) discovery_ms: Option<Duration>,
    /// From the first injected transaction until the last node held the last one.
    #[serde(serialize_with = "milliseconds")]
    pub(super) coverage_ms: Option<Duration>,
    pub(super) chain_head: HeadReport,
}

#[derive(Debug, Serialize)]
pub(super) struct HeadReport {
    pub(super) number: u64,
    pub(super) hash: String,
}

#[derive(Debug, Serialize)]
pub(super) struct NodeReport {
    pub(super) id: String,
    pub(super) enode: String,
    table: usize,
    peers_in: usize,
    peers_out: usize,
    #[serde(serialize_with = "milliseconds")]
    first_peer_ms: Option<Duration>,
    #[serde(serialize_with = "milliseconds")]
    last_peer_ms: Option<Duration>,
    txs: usize,
    duplicates: u64,
}

impl NodeReport {
    pub(super) fn new(id: String, enode: String, facts: &NodeFacts) -> Self {
        Self {
            id,
            enode,
            table: facts.table,
            peers_in: facts.peers_in,
            peers_out: facts.peers_out,
            first_peer_ms: facts.first_peer,
            last_peer_ms: facts.last_peer,
            txs: facts.txs,
            duplicates: facts.duplicates,
        }
    }
}

impl DevnetReport {
    pub(super) fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY);
        table.set_header([
            "node",
            "id",
            "table",
            "in",
            "out",
            "first peer",
            "last peer",
            "txs",
            "duplicates",
        ]);
        for (index, node) in self.nodes.iter().enumerate() {
            let short: String = node.id.chars().take(8).collect();
            table.add_row([
                index.to_string(),
                short,
                node.table.to_string(),
                node.peers_in.to_string(),
                node.peers_out.to_string(),
                seconds(node.first_peer_ms),
                seconds(node.last_peer_ms),
                node.txs.to_string(),
                node.duplicates.to_string(),
            ]);
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        format!(
            "{table}\n{}: {} nodes, peers found after {}, transactions everywhere after {}, head {} {}",
            if self.ok { "complete" } else { "not complete" },
            self.nodes.len(),
            seconds(self.discovery_ms),
            seconds(self.coverage_ms),
            self.chain_head.number,
            self.chain_head.hash,
        )
    }
}

/// Seconds for people, `-` where there is no time.
fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(
        || "-".to_owned(),
        |time| format!("{:.2} s", time.as_secs_f64()),
    )
}

/// Whole milliseconds, or null.
fn milliseconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
        .serialize(serializer)
}
