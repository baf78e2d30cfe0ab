//! What readers of the table cost the task that owns it: a copy after each change, which shares with the copy before what has not
//! changed, against one of the whole table.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)] // a benchmark: it reads the clock, and a failure is to stop it

mod common;

use std::hint::black_box;

use common::{NOW, is_measured, quarter, time};
use criterion::Criterion;
use tercet_discovery::{Proof, Protocol, RevalidationConfig, Table, TableSnapshot};
use tercet_enode::{Node, NodeRecord, SecretKey};
use tercet_machine::MachineRng;

/// The whole table's time must be at least so many of ours.
const REQUIRED: f64 = 4.0;
const ROUNDS: usize = 20_000;

/// As many nodes as it takes to fill eight buckets, and those who wait behind them.
const NODES: u64 = 8000;

/// Those a lookup hears of: somebody in the farther half of all, mostly, who then waits for a place.
const STRANGERS: u64 = 512;

fn node(n: u64) -> Node {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    let key = SecretKey::generate(&mut MachineRng::from_seed(seed));
    let [.., a, b, c] = n.to_be_bytes();
    let record = NodeRecord::builder()
        .seq(1)
        .ip([20 + a, b, c, 1].into())
        .udp(30303)
        .tcp(30303)
        .sign(&key)
        .unwrap();
    Node::from_record(record).unwrap()
}

/// A full table whose nodes have answered.
fn table() -> Table {
    let rng = MachineRng::from_seed([1; 32]);
    let mut table = Table::new(node(0).id(), RevalidationConfig::default(), rng);
    for n in 1..=NODES {
        table.add(NOW.mono, node(n), Proof::Answer(Protocol::V5));
    }
    table
}

fn main() {
    let mut table = table();
    let strangers: Vec<Node> = (1..=STRANGERS).map(|n| node(NODES + n)).collect();
    let mut next = strangers.iter().cycle();
    let mut hear = |table: &mut Table| {
        table.add(NOW.mono, next.next().unwrap().clone(), Proof::Hearsay);
    };
    let mut criterion = Criterion::default().configure_from_args();
    let mut earlier = table.snapshot();
    criterion.bench_function("table/copy_after_a_change", |bench| {
        bench.iter(|| {
            hear(&mut table);
            earlier = table.snapshot_after(&earlier);
        });
    });
    criterion.bench_function("table/whole_copy", |bench| {
        bench.iter(|| {
            hear(&mut table);
            earlier = table.snapshot();
        });
    });
    criterion.final_summary();
    // Without this flag `cargo test` asks only whether the benchmark runs.
    if is_measured() {
        report(&mut table, hear);
    }
}

/// In turn, so that a slow moment of the machine meets both; with the end of the copy before, as the last reader pays for it.
fn report(table: &mut Table, mut hear: impl FnMut(&mut Table)) {
    let (mut after, mut whole) = (Vec::new(), Vec::new());
    let (mut earlier, mut apart) = (table.snapshot(), TableSnapshot::default());
    for _ in 0..ROUNDS {
        hear(table);
        after.push(time(|| earlier = black_box(table.snapshot_after(&earlier))));
        whole.push(time(|| apart = black_box(table.snapshot())));
    }
    let (after, whole) = (quarter(after), quarter(whole));
    let ratio = whole.as_secs_f64() / after.as_secs_f64();
    println!(
        "table: {} nodes, a copy after a change {after:?}, of everything {whole:?}: ratio {ratio:.1} (required {REQUIRED})",
        table.len()
    );
}
