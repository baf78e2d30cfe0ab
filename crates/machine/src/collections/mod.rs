//! Collections with a bound and a policy for when it is reached.

mod expiring;
mod lru;
mod outputs;
mod queue;

pub use expiring::ExpiringMap;
pub use lru::BoundedLru;
pub use outputs::Outputs;
pub use queue::{BoundedQueue, Full};
