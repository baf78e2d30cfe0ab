//! .
mod fork_id;
pub mod limits;
pub mod wire;
pub use fork_id::*;
