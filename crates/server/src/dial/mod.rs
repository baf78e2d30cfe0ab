//! Deciding whom to dial and when. The scheduler is pure; connecting, resolving
//! host names and asking discovery are the driver's, which reports back.

mod backoff;
mod history;
mod scheduler;
mod task;

pub use backoff::Backoff;
pub use scheduler::MAX_CANDIDATE_RUN;
pub(crate) use scheduler::{DialRefusal, DialRules, DialScheduler, Known, StaticWork};
pub use task::{DialKind, DialTarget, DialTask, ResolveTask};
