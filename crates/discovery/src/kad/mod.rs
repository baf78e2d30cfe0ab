//! Kademlia without a protocol: the table, what may enter it, when its nodes are checked, and the
//! lookup. Knows nodes and time; packets, bonds and the database belong to the protocol machines.

mod bucket;
mod filter;
mod lookup;
mod revalidate;
mod row;
mod snapshot;
mod stock;
mod table;
#[cfg(test)]
mod tests;

pub use bucket::{BUCKET_SIZE, MAX_REPLACEMENTS, Proof};
pub use filter::{BUCKET_LIMITS, SubnetLimits, TABLE_LIMITS};
pub use lookup::{ALPHA, Lookup, MAX_CANDIDATES, MAX_NAMED, MAX_PATHS, MAX_PLACES, MAX_QUERIES};
pub use revalidate::{RevalidationConfig, RevalidationList};
pub use snapshot::{BucketSnapshot, EntrySnapshot, TableSnapshot};
pub use table::{Added, BUCKETS, CheckFailed, Fallback, MAX_DEPARTED, Refusal, Standing, Table};
