//! .
mod backend;
mod chain;
mod fork_id;
pub mod limits;
mod pool;
pub mod wire;
pub use backend::*;
pub use chain::*;
pub use fork_id::*;
pub use pool::*;
