//! What 100,000 nodes with signed records cost on disk: memory as RocksDB counts it and as the system does, files, time.
//!
//! One test, alone in its program, because the memory of the process is part of what it measures. Run it with `--nocapture`
//! to see the figures.

#![cfg(feature = "rocksdb")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)] // a test may fail loudly, and measures time

mod common;

use std::fs;
use std::path::Path;

use tercet_machine::MachineRng;
use tercet_nodedb::{NodeStore, RocksStore};

use common::footprint::*;
use common::*;

const NODES: u32 = 100_000;
const MEMORY: u64 = 16 * MIB;
/// Files of the whole folder, all kinds; "few".
const FILES: usize = 24;

/// Files of a folder and those below it, and their bytes.
fn files(folder: &Path) -> (usize, u64) {
    let mut sum = (0, 0);
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (count, bytes) = match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path()),
            false => (1, entry.metadata().unwrap().len()),
        };
        sum = (sum.0 + count, sum.1 + bytes);
    }
    sum
}

#[test]
fn a_hundred_thousand_nodes_take_16_mib_and_few_files() {
    // The tables of the curve and the allocator's first pages are not the store's.
    warm_up();
    let record = signed(1, ip(1), 1_700_000_000_000);
    println!(
        "bytes of a record {:>44}",
        record.record().unwrap().raw().len()
    );
    let folder = tempfile::tempdir().unwrap();
    let before = resident();
    let (store, _) = RocksStore::open(folder.path()).unwrap();
    let (time, most) = fill(&store, NODES);
    println!(
        "{:<52} {:>8.1} ms",
        "write 100,000 nodes",
        time.as_secs_f64() * 1e3
    );
    show("most RocksDB held while writing", Some(most));
    assert!(most <= MEMORY, "{most} bytes");
    drop(store);

    let (store, report) = timed("open and read everything", || {
        RocksStore::open(folder.path()).unwrap()
    });
    assert_eq!((report.nodes, report.skipped), (NODES as usize, 0));
    let mut rng = MachineRng::from_seed([9; 32]);
    let seeds = timed("choose 30 seeds", || {
        store.seeds(&query(30, T0), &mut rng).unwrap()
    });
    assert_eq!(seeds.len(), 30);
    timed("read 1,000 contacts", || {
        for number in 0..1000 {
            let id = key(number * 97).node_id();
            assert!(store.node(&id).unwrap().is_some());
        }
    });
    assert_eq!(
        timed("look for what is too old", || store
            .expire(T0, DAY)
            .unwrap()),
        0
    );

    let stats = store.stats().unwrap();
    show("RocksDB holds after reading", Some(stats.memory_bytes));
    assert!(stats.memory_bytes <= MEMORY, "{} bytes", stats.memory_bytes);
    let process = grown(before);
    show("the process has grown by", process);
    if let Some(process) = process {
        assert!(process <= MEMORY, "{process} bytes");
    }
    let (count, bytes) = files(folder.path());
    show("files", Some(bytes));
    println!(
        "number of files, of which tables {:>25} {:>6}",
        count, stats.table_files
    );
    assert!(count <= FILES, "{count} files");

    let forgotten = timed("forget everybody", || {
        store.expire(T0 + 2 * DAY, DAY).unwrap()
    });
    assert_eq!(forgotten, NODES as usize);
    assert_eq!(store.stats().unwrap().rows, 0);
}
