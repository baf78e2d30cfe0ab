//! One folder and two processes: the second is told, and a killed one loses only what it had not committed.
//!
//! The second process is this test program again, told by its environment to play a part.

#![cfg(feature = "rocksdb")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail loudly

mod common;

use std::error::Error;
use std::io::{BufRead as _, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use std::sync::atomic::{AtomicBool, Ordering};

use tercet_nodedb::{NodeDb, OpenError, Opened, Write};

use common::*;

const FOLDER: &str = "TERCET_NODEDB_TEST_FOLDER";

/// Starts this program again to run one test on a folder.
fn start(part: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", part, "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn part() -> Option<PathBuf> {
    let folder = std::env::var_os(FOLDER).map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: a part that other tests start in a process of its own");
    }
    folder
}

#[test]
fn part_open() {
    let Some(folder) = part() else { return };
    match NodeDb::open(&folder) {
        Ok((_, report)) => println!("PART opened {report}"),
        Err(error) => println!("PART refused {error}"),
    }
}

/// Writes nodes for ever, and says how many are sure to be there.
#[test]
fn part_write() {
    let Some(folder) = part() else { return };
    let (db, _) = NodeDb::open(&folder).unwrap();
    for number in 0.. {
        let node = signed(number, ip(1), 1);
        let at = T0;
        let writes = [pong(&node, at), Write::Node(node)];
        for write in writes {
            db.write(write).unwrap();
        }
        if number % 20 == 19 {
            db.flush_blocking().unwrap();
            println!("PART sure {}", number + 1);
        }
    }
}

/// The lines a part printed for us, from a pipe that must stay open until it ends.
struct Said(Lines<BufReader<ChildStdout>>);

impl Said {
    fn by(child: &mut Child) -> Self {
        Self(BufReader::new(child.stdout.take().unwrap()).lines())
    }

    fn next(&mut self) -> String {
        loop {
            let line = self.0.next().unwrap().unwrap();
            // The test harness may have begun the line with its own words.
            if let Some((_, said)) = line.split_once("PART ") {
                return said.to_owned();
            }
        }
    }
}

/// What a part says that ends by itself.
fn run(part: &str, folder: &Path) -> String {
    let mut child = start(part, folder);
    let mut output = Said::by(&mut child);
    let said = output.next();
    output.0.for_each(|line| drop(line.unwrap()));
    assert!(child.wait().unwrap().success());
    said
}

#[test]
fn a_folder_in_use_is_refused_within_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let (db, report) = NodeDb::open(folder.path()).unwrap();
    assert_eq!(report.opened, Opened::Created);
    let error = NodeDb::open(folder.path()).unwrap_err();
    assert!(
        matches!(&error, OpenError::Locked { path } if path == folder.path()),
        "{error}"
    );
    // Free as soon as it is closed, whoever still has a handle.
    db.close().unwrap();
    let (_, report) = NodeDb::open(folder.path()).unwrap();
    assert_eq!(report.opened, Opened::Existing);
}

#[test]
fn a_closed_folder_is_free_while_other_processes_are_started() {
    let folder = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let mut child = Command::new(std::env::current_exe().unwrap());
                let child = child.arg("--list").stdout(Stdio::null());
                assert!(child.status().unwrap().success());
            }
        });
        let opened =
            (0..50).try_for_each(|_| NodeDb::open(folder.path())?.0.close().map_err(Into::into));
        stop.store(true, Ordering::Relaxed);
        opened
            .map_err(|error: Box<dyn Error>| error.to_string())
            .unwrap();
    });
}

#[test]
fn a_folder_in_use_is_refused_to_another_process_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (db, _) = NodeDb::open(folder.path()).unwrap();
    db.write(Write::Node(signed(1, ip(1), 1))).unwrap();
    let said = run("part_open", folder.path());
    let path = folder.path().display();
    assert_eq!(
        said,
        format!("refused the node database {path} is in use by another process")
    );
    // It did not take it for damaged: nothing was moved or repaired.
    db.close().unwrap();
    let said = run("part_open", folder.path());
    assert_eq!(said, "opened node database with 1 nodes");
}

#[test]
fn a_killed_process_keeps_what_it_committed() {
    let folder = tempfile::tempdir().unwrap();
    let mut next = 0;
    for round in 1..=3 {
        let mut child = start("part_write", folder.path());
        let mut output = Said::by(&mut child);
        let sure = (0..=4 * round).map(|_| output.next()).last().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let sure: u32 = sure.strip_prefix("sure ").unwrap().parse().unwrap();
        next = sure.max(next);

        let (db, report) = NodeDb::open(folder.path()).unwrap();
        assert_eq!(report.opened, Opened::Existing, "{report}");
        assert_eq!(report.skipped, 0);
        assert!(report.nodes >= next as usize);
        for number in 0..next {
            let node = signed(number, ip(1), 1);
            assert_eq!(db.node(&node.id()).unwrap(), Some(node));
        }
        // What it started from next time is there.
        let mut rng = tercet_machine::MachineRng::from_seed([8; 32]);
        assert_eq!(db.seeds(&query(30, T0), &mut rng).unwrap().len(), 30);
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let error = NodeDb::open(file.join("nodes")).unwrap_err();
    assert!(matches!(error, OpenError::Folder { .. }), "{error:?}");
    let error = NodeDb::open(&file).unwrap_err();
    assert!(matches!(error, OpenError::Folder { .. }), "{error:?}");
}
