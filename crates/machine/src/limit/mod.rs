//! Limits on what strangers may use: rate, bytes, and places per subnet. What is done to those who exceed them is left to the
//! machines.

mod budget;
mod rate;
mod subnet;

pub use budget::{BudgetGuard, ByteBudget};
pub use rate::{Quota, RateLimiter, TokenBucket};
pub use subnet::{Subnet, SubnetLimit, SubnetQuota};
