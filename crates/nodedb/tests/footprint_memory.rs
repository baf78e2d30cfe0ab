//! What a node with a signed record costs in the memory store, as the store counts it and as the system does.
//!
//! One test, alone in its program, because the memory of the process is what it measures. Run it with `--nocapture` to see
//! the figures.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)] // a test may fail loudly, and measures time

mod common;

use tercet_machine::MachineRng;
use tercet_nodedb::{MemoryStore, NodeStore as _};

use common::footprint::*;
use common::*;

const NODES: u32 = 50_000;

#[test]
fn a_node_takes_a_kilobyte() {
    // The tables of the curve and the allocator's first pages are not the store's.
    warm_up();
    let before = resident();
    let store = MemoryStore::new();
    let (time, counted) = fill(&store, NODES);
    println!(
        "{:<50} {:>8.1} ms",
        "write 50,000 nodes",
        time.as_secs_f64() * 1e3
    );
    show("bytes as the store counts them", Some(counted));
    let process = grown(before);
    show("the process has grown by", process);
    if let Some(process) = process {
        let each = process / u64::from(NODES);
        println!("bytes for each node {each:>39}");
        assert!(each <= 1280, "{each} bytes for each node");
        let off = counted.abs_diff(process) as f64 / process as f64;
        assert!(off < 0.25, "counted {counted}, grown by {process}");
    }
    let mut rng = MachineRng::from_seed([9; 32]);
    let seeds = timed("choose 30 seeds", || {
        store.seeds(&query(30, T0), &mut rng).unwrap()
    });
    assert_eq!(seeds.len(), 30);
}
