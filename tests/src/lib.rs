//! What the whole-stack tests share: child processes that talk JSON lines, the
//! `tercet` program built once, the independent peers of the live tests, the node
//! of ours that meets them and a DNS server.
//! The scenarios themselves are in `tests/`.
//!
//! Everything waits for an event with a generous limit and panics, with what the
//! other side said last, when the limit passes. A child never outlives its owner.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test harness: it reads the clock for its limits and fails by panicking"
)]

mod chain;
mod child;
mod eth;
mod interop;
mod knot;
mod node;
pub mod peer;
mod workspace;

pub use chain::LiveChain;
pub use child::{Child, LIMIT};
pub use eth::EthNode;
pub use interop::{go_peer, js_peer};
pub use knot::knot;
pub use node::{
    Loopback, any_port, discovery, discovery_at, discovery_over, has, key, node, until_entry,
    until_live,
};
pub use workspace::{chain_folder, say, target_dir, tercet, workspace_dir};
