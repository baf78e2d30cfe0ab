//! Transaction gossip: who gets a new transaction whole, who gets its hash, who
//! has it already, and what waits for a peer that reads slowly.

mod choice;
mod core;
mod peer;

pub use core::{Gossip, GossipCore, GossipInput, GossipOutput, Received, Verdict};
