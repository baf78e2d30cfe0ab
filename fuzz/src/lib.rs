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

mod discovery;
mod discv5;
mod dns;
mod eth;
mod identity;
mod input;
mod nodedb;
mod rlpx;

pub use discovery::{discv4_message, discv4_packet, discv4_session, kademlia_table, lookup};
pub use discv5::{discv5_message, discv5_packet, discv5_session};
pub use dns::dns_entry;
pub use eth::{chain_folder, eth_message, eth_status};
pub use identity::{enode_url, enr, enr_entries};
pub use nodedb::{nodedb_contact, nodedb_row};
pub use rlpx::{disconnect, hello, rlpx_ack, rlpx_auth, rlpx_frames, rlpx_ingress, rlpx_payload};

/// A fuzz target: the name of its program and of its corpus folder, and what it runs.
/// That says whether the input was accepted, so that a test can see that the seeds get
/// past the first check.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// Every target, in the order of the layers.
pub const TARGETS: &[Target] = &[
    ("enr", enr),
    ("enr_entries", enr_entries),
    ("enode_url", enode_url),
    ("nodedb_row", nodedb_row),
    ("nodedb_contact", nodedb_contact),
    ("discv4_packet", discv4_packet),
    ("discv4_message", discv4_message),
    ("discv4_session", discv4_session),
    ("discv5_packet", discv5_packet),
    ("discv5_message", discv5_message),
    ("discv5_session", discv5_session),
    ("kademlia_table", kademlia_table),
    ("lookup", lookup),
    ("dns_entry", dns_entry),
    ("rlpx_auth", rlpx_auth),
    ("rlpx_ack", rlpx_ack),
    ("rlpx_ingress", rlpx_ingress),
    ("rlpx_frames", rlpx_frames),
    ("rlpx_payload", rlpx_payload),
    ("hello", hello),
    ("disconnect", disconnect),
    ("eth_status", eth_status),
    ("eth_message", eth_message),
    ("chain_folder", chain_folder),
];
