//! Real damage to real files: whatever is found, the node starts, nothing is deleted, and the report says what happened.

#![cfg(feature = "rocksdb")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a test may fail loudly

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use proptest::prelude::*;
use tempfile::TempDir;
use tercet_nodedb::{NodeStore, Opened, RocksStore, UnusableReason, Write};

use common::*;

/// Nodes in each of the two tables of [`build`].
const TABLE: u32 = 200;
const ALL: usize = 2 * TABLE as usize;

/// A closed database of [`ALL`] nodes in two table files; the local number is in the second.
fn build() -> TempDir {
    static TEMPLATE: OnceLock<TempDir> = OnceLock::new();
    let template = TEMPLATE.get_or_init(build_template);
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(data(&folder)).unwrap();
    for file in files(template, "") {
        fs::copy(&file, data(&folder).join(file.file_name().unwrap())).unwrap();
    }
    folder
}

fn build_template() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for table in 0..2 {
        let (store, _) = RocksStore::open(folder.path()).unwrap();
        let numbers = table * TABLE..(table + 1) * TABLE;
        let mut writes: Vec<Write> = numbers
            .flat_map(|number| {
                let node = signed(number, ip(1), 1);
                [pong(&node, T0), Write::Node(node)]
            })
            .collect();
        writes.push(Write::LocalSeq {
            id: key(9999).node_id(),
            seq: 7,
        });
        store.apply(T0, &writes).unwrap();
        drop(store);
        // Opening turns the log into a table.
        drop(RocksStore::open(folder.path()).unwrap());
    }
    assert_eq!(files(&folder, ".sst").len(), 2);
    folder
}

fn data(folder: &TempDir) -> PathBuf {
    folder.path().join("db")
}

/// The database's files whose names contain this, in order.
fn files(folder: &TempDir, part: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(data(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file() && path.to_string_lossy().contains(part));
    files.sort();
    files
}

fn manifest(folder: &TempDir) -> PathBuf {
    files(folder, "MANIFEST").pop().unwrap()
}

fn truncate(path: &Path, to: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(to).unwrap();
}

fn half(path: &Path) {
    truncate(path, fs::metadata(path).unwrap().len() / 2);
}

fn overwrite(path: &Path, at: usize, with: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    let end = (at + with.len()).min(bytes.len());
    let at = at.min(end);
    bytes[at..end].copy_from_slice(&with[..end - at]);
    fs::write(path, bytes).unwrap();
}

/// Opens, checks that the store works, and that the next start finds nothing wrong any more.
fn open_and_use(folder: &TempDir) -> (Opened, usize) {
    let (store, report) = RocksStore::open(folder.path()).unwrap();
    assert_eq!(store.stats().unwrap().nodes, report.nodes);
    let counted = (0..2 * TABLE).filter(|number| {
        let node = store.node(&key(*number).node_id()).unwrap();
        let meta = store.meta(&key(*number).node_id(), ip(1)).unwrap();
        // Both halves or none.
        assert_eq!(node.is_some(), meta.last_pong.is_some());
        node.is_some()
    });
    assert_eq!(counted.count(), report.nodes);
    let fresh = signed(5000, ip(9), 1);
    store
        .apply(T0, &[Write::Node(fresh.clone()), pong(&fresh, T0)])
        .unwrap();
    drop(store);
    let (store, again) = RocksStore::open(folder.path()).unwrap();
    assert_eq!(again.opened, Opened::Existing, "{again}");
    assert_eq!((again.nodes, again.skipped), (report.nodes + 1, 0));
    assert_eq!(store.node(&fresh.id()).unwrap(), Some(fresh));
    (report.opened, report.nodes)
}

fn assert_repaired(folder: &TempDir, nodes: std::ops::RangeInclusive<usize>) {
    let (opened, left) = open_and_use(folder);
    assert!(matches!(opened, Opened::Repaired { .. }), "{opened:?}");
    assert!(nodes.contains(&left), "{left} nodes are left");
}

#[test]
fn a_good_database_is_opened_as_it_is() {
    let folder = build();
    assert_eq!(open_and_use(&folder), (Opened::Existing, ALL));
    let (store, _) = RocksStore::open(folder.path()).unwrap();
    assert_eq!(store.local_seq(&key(9999).node_id()).unwrap(), Some(7));
}

#[test]
fn a_damaged_manifest_costs_nothing() {
    let damages: [fn(&Path); 4] = [
        half,
        |path| truncate(path, 0),
        |path| overwrite(path, 0, &[0xff; 64]),
        |path| fs::remove_file(path).unwrap(),
    ];
    for damage in damages {
        let folder = build();
        damage(&manifest(&folder));
        assert_repaired(&folder, ALL..=ALL);
    }
}

#[test]
fn a_damaged_or_missing_current_costs_nothing() {
    let damages: [fn(&Path); 4] = [
        |path| truncate(path, 0),
        |path| fs::write(path, "MANIFEST-999999\n").unwrap(),
        |path| fs::write(path, [0xff; 300]).unwrap(),
        // RocksDB alone would begin a new database here and delete the tables.
        |path| fs::remove_file(path).unwrap(),
    ];
    for damage in damages {
        let folder = build();
        damage(&data(&folder).join("CURRENT"));
        assert_repaired(&folder, ALL..=ALL);
    }
}

#[test]
fn a_damaged_table_costs_that_table_at_most() {
    let damages: [fn(&Path); 5] = [
        half,
        |path| truncate(path, 0),
        // One bit, in a block of data: found by its checksum when the database is opened, not later.
        |path| overwrite(path, 20_000, &[0x55]),
        |path| overwrite(path, 0, &vec![0; 1 << 20]),
        |path| fs::remove_file(path).unwrap(),
    ];
    for damage in damages {
        for table in 0..2 {
            let folder = build();
            damage(&files(&folder, ".sst")[table]);
            let one = TABLE as usize;
            assert_repaired(&folder, one..=ALL);
        }
    }
}

#[test]
fn what_repair_cannot_read_is_kept_aside() {
    let folder = build();
    half(&files(&folder, ".sst")[0]);
    assert_repaired(&folder, TABLE as usize..=ALL);
    assert!(data(&folder).join("lost").is_dir());
}

#[test]
fn a_log_torn_by_a_kill_opens_without_repair() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = RocksStore::open(folder.path()).unwrap();
    for number in 0..2 * TABLE {
        let node = signed(number, ip(1), 1);
        store
            .apply(T0, &[Write::Node(node.clone()), pong(&node, T0)])
            .unwrap();
    }
    drop(store);
    let log = files(&folder, ".log").pop().unwrap();
    half(&log);
    let (opened, nodes) = open_and_use(&folder);
    assert_eq!(opened, Opened::Existing);
    assert!((ALL / 3..ALL * 2 / 3).contains(&nodes), "{nodes} of {ALL}");
}

#[test]
fn a_database_of_garbage_still_starts() {
    let folder = build();
    for file in files(&folder, "") {
        fs::write(file, [0xa5; 1000]).unwrap();
    }
    let (_, nodes) = open_and_use(&folder);
    assert_eq!(nodes, 0);
}

#[test]
fn a_kill_before_the_version_was_written_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    raw(&folder, |_| {});
    assert_eq!(open_and_use(&folder), (Opened::Existing, 0));
}

/// Changes the closed database with RocksDB alone.
fn raw(folder: &TempDir, change: impl FnOnce(&rocksdb::DB)) {
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    change(&rocksdb::DB::open(&options, data(folder)).unwrap());
}

#[test]
fn another_version_is_set_aside_whole() {
    for (version, name) in [
        (Some(7_u64.to_be_bytes().to_vec()), "db.version-7.1"),
        (Some(0_u64.to_be_bytes().to_vec()), "db.version-0.1"),
        (Some(b"9".to_vec()), "db.unknown-version.1"),
        (None, "db.unknown-version.1"),
    ] {
        let folder = build();
        raw(&folder, |db| match &version {
            Some(version) => db.put("version", version).unwrap(),
            None => db.delete("version").unwrap(),
        });
        let (opened, nodes) = open_and_use(&folder);
        assert_eq!(nodes, 0);
        let Opened::SetAside { to, reason } = opened else {
            panic!("{opened:?}");
        };
        assert!(matches!(reason, UnusableReason::Schema { .. }));
        assert_eq!(to, folder.path().join(name));
        // It is whole: put back with the right version it is the database it was.
        fs::remove_dir_all(data(&folder)).unwrap();
        fs::rename(to, data(&folder)).unwrap();
        raw(&folder, |db| {
            db.put("version", 1_u64.to_be_bytes()).unwrap();
        });
        assert_eq!(open_and_use(&folder), (Opened::Existing, ALL));
    }
}

#[test]
fn every_database_set_aside_gets_a_name_of_its_own() {
    let folder = build();
    for number in 1..=3 {
        raw(&folder, |db| {
            db.put("version", 7_u64.to_be_bytes()).unwrap();
        });
        let (_, report) = RocksStore::open(folder.path()).unwrap();
        let Opened::SetAside { to, .. } = &report.opened else {
            panic!("{report}");
        };
        assert_eq!(*to, folder.path().join(format!("db.version-7.{number}")));
        let line = report.to_string();
        assert!(
            line.contains("version 7") && line.contains("db.version-7"),
            "{line}"
        );
        assert!(!line.contains('\n'));
    }
}

#[test]
fn a_foreign_rocksdb_is_set_aside() {
    let folder = build();
    // Column families survive a repair, and we cannot open a database that has them.
    raw(&folder, |_| {});
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    let mut db = rocksdb::DB::open(&options, data(&folder)).unwrap();
    db.create_cf("theirs", &options).unwrap();
    db.put_cf(&db.cf_handle("theirs").unwrap(), "key", "value")
        .unwrap();
    db.flush_cf(&db.cf_handle("theirs").unwrap()).unwrap();
    drop(db);
    let (opened, nodes) = open_and_use(&folder);
    let Opened::SetAside { to, reason } = opened else {
        panic!("{opened:?}");
    };
    assert!(matches!(reason, UnusableReason::Damaged { .. }));
    assert_eq!(to, folder.path().join("db.damaged.1"));
    assert!(to.join("CURRENT").is_file());
    assert_eq!(nodes, 0);
}

#[test]
fn entries_that_make_no_sense_are_dropped_and_counted() {
    let folder = build();
    let entry = |kind: u8, number: u32| {
        let mut entry = vec![kind];
        entry.extend(key(number).node_id().as_bytes());
        entry
    };
    raw(&folder, |db| {
        let contact = db.get(entry(b'n', 1)).unwrap().unwrap();
        let row = db.get(entry(b's', 1)).unwrap().unwrap();
        for (key, value) in [
            // A contact, a row and a local number that cannot be decoded. The first two also cost their other halves.
            (entry(b'n', 10), b"garbage".to_vec()),
            (entry(b's', 20), vec![0xc2, 0xc0]),
            (entry(b'l', 9999), vec![1, 2, 3]),
            // Another node's contact under this id; and a contact and a row that are alone.
            (entry(b'n', 30), contact.clone()),
            (entry(b'n', 7001), contact.clone()),
            (entry(b's', 7002), row),
            // Keys of no kind, and of no length.
            (b"a".to_vec(), vec![]),
            (b"zebra".to_vec(), vec![]),
            (b"n".to_vec(), contact.clone()),
            (b"s short".to_vec(), vec![]),
        ] {
            db.put(key, value).unwrap();
        }
    });
    let (store, report) = RocksStore::open(folder.path()).unwrap();
    assert_eq!(report.opened, Opened::Existing);
    // Gone: 10's contact, 20's row and then its contact, 30's contact. 7002's row loses its contact.
    assert_eq!(report.nodes, ALL - 3);
    let stats = store.stats().unwrap();
    assert_eq!((stats.nodes, stats.skipped), (ALL - 3, report.skipped));
    for number in [10, 20, 30, 7001, 7002] {
        assert_eq!(store.node(&key(number).node_id()).unwrap(), None);
    }
    // A row whose contact is lost keeps its statistics.
    assert_eq!(
        store.meta(&key(10).node_id(), ip(1)).unwrap().last_pong,
        Some(T0)
    );
    assert_eq!(store.local_seq(&key(9999).node_id()).unwrap(), None);
    // 10 and 30: contact, and the row that lost it; 20: row, and the contact that lost it; 7001 one; 7002 one; the local number; four keys.
    assert_eq!(report.skipped, 2 + 2 + 2 + 1 + 1 + 1 + 4);
    drop(store);
    let (_, again) = RocksStore::open(folder.path()).unwrap();
    assert_eq!((again.nodes, again.skipped), (ALL - 3, 0));
}

#[test]
fn a_forged_record_is_skipped_when_it_is_read() {
    let folder = build();
    let id = key(1).node_id();
    let mut entry = vec![b'n'];
    entry.extend(id.as_bytes());
    raw(&folder, |db| {
        let mut contact = db.get(&entry).unwrap().unwrap();
        // The record is the last item; its last bytes are an entry its signature covers.
        *contact.last_mut().unwrap() ^= 1;
        db.put(&entry, contact).unwrap();
    });
    let (store, report) = RocksStore::open(folder.path()).unwrap();
    assert_eq!((report.nodes, report.skipped), (ALL, 0));
    assert_eq!(store.node(&id).unwrap(), None);
    assert_eq!(store.stats().unwrap().skipped, 1);
    let mut rng = tercet_machine::MachineRng::from_seed([4; 32]);
    let seeds = store.seeds(&query(ALL, T0), &mut rng).unwrap();
    assert_eq!(seeds.len(), ALL - 1);
    // The node itself may come back at any time.
    store
        .apply(T0, &[Write::Node(signed(1, ip(1), 2))])
        .unwrap();
    assert!(store.node(&id).unwrap().is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any file, cut or overwritten anywhere.
    #[test]
    fn any_damage_leaves_a_node_that_starts(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        garbage in prop::option::of(prop::collection::vec(any::<u8>(), 1..2000)),
    ) {
        let folder = build();
        let all = files(&folder, "");
        let file = &all[which.index(all.len())];
        let length = fs::metadata(file).unwrap().len() as usize;
        let at = at.index(length.max(1));
        match garbage {
            Some(garbage) => overwrite(file, at, &garbage),
            None => truncate(file, at as u64),
        }
        open_and_use(&folder);
    }
}
