//! The devnet while it runs, on stderr: bars on a terminal, a plain line for each new state elsewhere.

use std::io::Write as _;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::facts::NodeFacts;

/// Plain lines come at most this often, unless a goal is reached.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// The four things to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    /// Nodes with entries in their table, and all entries.
    tables: (usize, usize),
    /// Nodes with peers, and all connections.
    peers: (usize, usize),
    /// Nodes with an agreed Status, and all agreements.
    status: (usize, usize),
    /// Transactions at all nodes.
    txs: usize,
}

impl Counts {
    fn of(facts: &[NodeFacts]) -> Self {
        let count = |value: fn(&NodeFacts) -> usize| {
            let values = facts.iter().map(value);
            (
                values.clone().filter(|value| *value > 0).count(),
                values.sum(),
            )
        };
        Self {
            tables: count(|facts| facts.table),
            // Each connection has one end that dialed.
            peers: (
                count(|facts| facts.peers_in + facts.peers_out).0,
                count(|facts| facts.peers_out).1,
            ),
            status: count(|facts| facts.agreed.len()),
            txs: count(|facts| facts.txs).1,
        }
    }
}

#[derive(Debug)]
pub(super) struct Screen {
    nodes: usize,
    bars: Option<Bars>,
    shown: Option<Counts>,
    next_line: Duration,
}

#[derive(Debug)]
struct Bars {
    tables: ProgressBar,
    peers: ProgressBar,
    status: ProgressBar,
    txs: ProgressBar,
}

impl Screen {
    /// For `nodes` nodes that are to hold `txs` transactions each.
    pub(super) fn new(nodes: usize, txs: usize, progress: &MultiProgress) -> Self {
        let bars = (!progress.is_hidden()).then(|| {
            let bar = |name: &'static str, length: usize| {
                let bar = progress.add(ProgressBar::new(length as u64).with_prefix(name));
                // The template is fixed and known to be valid; the default style is as good as none.
                if let Ok(style) =
                    ProgressStyle::with_template("{prefix:>12} [{bar:30}] {pos}/{len} {msg}")
                {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar
            };
            Bars {
                tables: bar("tables", nodes),
                peers: bar("peers", nodes),
                status: bar("status", nodes),
                txs: bar("transactions", nodes * txs),
            }
        });
        Self {
            nodes,
            bars,
            shown: None,
            next_line: Duration::ZERO,
        }
    }

    /// Shows the state at `time` after the start.
    pub(super) fn show(&mut self, time: Duration, facts: &[NodeFacts]) {
        let counts = Counts::of(facts);
        if self.shown == Some(counts) {
            return;
        }
        if let Some(bars) = &self.bars {
            bars.tables.set_position(counts.tables.0 as u64);
            bars.tables
                .set_message(format!("nodes, {} entries", counts.tables.1));
            bars.peers.set_position(counts.peers.0 as u64);
            bars.peers
                .set_message(format!("nodes, {} connections", counts.peers.1));
            bars.status.set_position(counts.status.0 as u64);
            bars.status
                .set_message(format!("nodes, {} agreed", counts.status.1));
            bars.txs.set_position(counts.txs as u64);
        } else if time >= self.next_line {
            self.line(time, counts);
        } else {
            return;
        }
        self.shown = Some(counts);
    }

    /// Says something beside the numbers, which are brought up to date first.
    pub(super) fn say(&mut self, time: Duration, facts: &[NodeFacts], what: &str) {
        self.next_line = Duration::ZERO;
        self.show(time, facts);
        match &self.bars {
            Some(bars) => bars.txs.suspend(|| print(time, what)),
            None => print(time, what),
        }
    }

    /// Leaves the bars as they stand; what follows is printed below them.
    pub(super) fn finish(self) {
        if let Some(Bars {
            tables,
            peers,
            status,
            txs,
        }) = self.bars
        {
            for bar in [tables, peers, status, txs] {
                bar.abandon();
            }
            // The cursor stands behind the last bar.
            note("");
        }
    }

    fn line(&mut self, time: Duration, counts: Counts) {
        self.next_line = time + LINE_INTERVAL;
        let Counts {
            tables,
            peers,
            status,
            txs,
        } = counts;
        print(
            time,
            &format!(
                "tables {}/{n} nodes, {} entries; peers {}/{n} nodes, {} connections; status {}/{n} nodes; transactions {txs}",
                tables.0,
                tables.1,
                peers.0,
                peers.1,
                status.0,
                n = self.nodes,
            ),
        );
    }
}

/// One line on stderr, outside of any progress.
pub(super) fn note(what: &str) {
    // As with progress: with stderr closed there is nobody to tell.
    let _closed = writeln!(std::io::stderr(), "{what}");
}

fn print(time: Duration, what: &str) {
    note(&format!("{:7.2} s  {what}", time.as_secs_f64()));
}
