//! One function for each thing that reads bytes from the network or from disk. A
//! function feeds the decoder and asserts what has to hold for every input: no
//! panic, bounds kept, and what was accepted means the same when encoded again.
//!
//! The libFuzzer programs in `fuzz_targets/` and the ordinary tests in `tests/`
//! call the same functions; both start from the seeds in `corpus/`. To fuzz one:
//! `cargo +nightly fuzz run --features libfuzzer enr`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken invariant is reported by panicking"
)]

mod identity;

pub use identity::{enode_url, enr};

/// A fuzz target: the name of its program and of its corpus folder, and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, in the order of the layers.
pub const TARGETS: &[Target] = &[("enr", enr), ("enode_url", enode_url)];
