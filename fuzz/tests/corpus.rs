//! Runs every fuzz target over its seeds and over thousands of changed seeds, the
//! same ones each time, so that a decoder that cannot bear a flipped bit fails an
//! ordinary test long before a fuzzer runs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use tercet_fuzz::TARGETS;

/// Changed inputs for each target, shared out among its seeds.
const CHANGED: usize = 3_000;
/// Up to so many bytes are put after a seed, or in its middle.
const LONGEST_INSERT: u64 = 40;

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn at(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let count = 1 + self.below(most);
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// One change of those that fuzzers find most with: what stands in a length or a
/// type byte is hit by flips and edge values, missing and surplus bytes by the rest.
fn change(data: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let position = random.at(data.len());
    match random.below(7) {
        0 if !data.is_empty() => data[position] ^= 1 << random.below(8),
        1 if !data.is_empty() => {
            let edges = [
                0x00, 0x01, 0x7f, 0x80, 0x81, 0xb7, 0xb8, 0xbf, 0xc0, 0xf7, 0xf8, 0xff,
            ];
            data[position] = edges[random.at(edges.len())];
        }
        2 => data.truncate(position),
        3 => data.extend(random.bytes(LONGEST_INSERT)),
        4 => drop(data.splice(position..position, random.bytes(LONGEST_INSERT))),
        5 if !data.is_empty() => {
            let end = position + 1 + random.at(data.len() - position);
            data.drain(position..end);
        }
        // The head of one seed on the tail of another.
        6 => {
            data.truncate(position);
            data.extend(&other[random.at(other.len())..]);
        }
        _ => data.push(0),
    }
}

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut seeds: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    seeds.sort();
    seeds
}

fn check(target: &str, run: fn(&[u8]) -> bool, seed: &str, data: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| run(data))).unwrap_or_else(|_| {
        let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{target} fails on {seed} ({} bytes): {hex}", data.len());
    })
}

fn bears_its_seeds_and_changes_of_them(target: &str) {
    let run = TARGETS.iter().find(|(name, _)| *name == target).unwrap().1;
    let seeds = seeds(target);
    let accepted = seeds
        .iter()
        .filter(|(name, data)| check(target, run, name, data));
    assert!(accepted.count() > 0, "{target} accepts none of its seeds");
    check(target, run, "nothing", &[]);
    let mut random = Random(0x7e5c_e7f0_5eed);
    for turn in 0..CHANGED {
        let (name, seed) = &seeds[turn % seeds.len()];
        let other = &seeds[random.at(seeds.len())].1;
        let mut data = seed.clone();
        for _ in 0..=random.below(3) {
            change(&mut data, other, &mut random);
        }
        check(target, run, &format!("{name}, change {turn}"), &data);
    }
}

/// One test a target, so that they share out the cores and a failure has its name.
macro_rules! tests {
    ($($target:ident)*) => {
        const TESTED: &[&str] = &[$(stringify!($target)),*];
        $(
            #[test]
            fn $target() {
                bears_its_seeds_and_changes_of_them(stringify!($target));
            }
        )*
    };
}

tests! {
    enr enr_entries enode_url nodedb_row nodedb_contact
    discv4_packet discv4_message discv4_session discv5_packet discv5_message discv5_session
    kademlia_table lookup dns_entry
    rlpx_auth rlpx_ack rlpx_ingress rlpx_frames rlpx_payload hello disconnect
    eth_status eth_message chain_folder
}

/// A program without a target, or seeds that nobody runs, would rot unseen.
#[test]
fn programs_seeds_and_targets_belong_together() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = |folder: &str| -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(root.join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let mut targets: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(TESTED, targets);
    targets.sort_unstable();
    assert_eq!(names("corpus"), targets);
    assert_eq!(names("fuzz_targets"), targets);
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    for target in targets {
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")),
            "{target} has no [[bin]]"
        );
    }
}
