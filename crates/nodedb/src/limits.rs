//! The bounds and ages every store and the writer keep, in one place, with where each number comes from.

use std::time::Duration;

/// Most node ids a store keeps statistics or a contact for: 2^17 = 131,072.
///
/// About five times as many nodes as answer on Ethereum's main discovery network today, so an honest network never reaches
/// it. Every ping adds a row under an id its sender made up for free, so without a bound a flood would fill the disk for the 24 h that
/// expiry takes. When a store is full the rows that never answered leave first, the stalest first; see [`EVICTION_SHARE`].
pub const MAX_NODES: usize = 1 << 17;

/// A full store makes room for 1/16 of its bound at once (8,192 rows of 131,072), so that the scan which finds the
/// stalest rows is paid once for 8,192 new ids and not for each.
pub const EVICTION_SHARE: usize = 16;

/// Most addresses kept for one node id. Only the holder of the id's key can add one, so this bounds what one key costs.
/// The address that answered longest ago leaves first; the address of the stored contact stays.
pub const MAX_ADDRESSES: usize = 8;

/// Most node ids waiting for the writer thread; at 8 addresses and a 300-byte record each this is at most 4 MiB.
pub const MAX_PENDING: usize = 4096;

/// The writer commits without waiting for [`COMMIT_INTERVAL`] once this many ids wait: a quarter of [`MAX_PENDING`].
pub const COMMIT_EARLY: usize = MAX_PENDING / 4;

/// Longest time a write waits for others to join its commit. A killed process loses this much at most.
pub const COMMIT_INTERVAL: Duration = Duration::from_millis(500);

/// How long the writer waits before it repeats a commit the store refused (a full disk, say).
pub const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// What has not answered for this long is forgotten (geth's `dbNodeExpiration`).
pub const NODE_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Time between two expiry runs (geth's `dbCleanupCycle`); the first comes one cycle after expiry was started. A run is left out
/// unless answers have come for a whole cycle, so that nodes remembered from before a long pause have an hour to answer.
pub const EXPIRY_CYCLE: Duration = Duration::from_secs(60 * 60);

/// Most values in the cache: 2^14 = 16,384, one and a half times what the largest public list of nodes in DNS has.
pub const MAX_CACHED: usize = 1 << 14;

/// Most bytes in the cache, keys and values: 8 MiB, `16,384 × (32 + 480)`. A record of a node is 404 bytes as text.
pub const MAX_CACHED_BYTES: usize = 8 << 20;

/// Longest value the cache takes: 2 KiB. What is waiting to be written stays within `4,096 × 2 KiB = 8 MiB` by it.
pub const MAX_CACHED_VALUE: usize = 2 << 10;
