//! Ethereum node discovery: the Kademlia table, lookups and the discv4 protocol.

mod kad;
pub mod v4;

pub use kad::{
    ALPHA, Added, BUCKET_LIMITS, BUCKET_SIZE, BUCKETS, BucketSnapshot, EntrySnapshot, Lookup,
    MAX_CANDIDATES, MAX_QUERIES, MAX_REPLACEMENTS, Proof, Refusal, RevalidationConfig,
    RevalidationList, SubnetLimits, TABLE_LIMITS, Table, TableSnapshot,
};
