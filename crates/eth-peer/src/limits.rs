//! Every number the eth protocol is bounded by, named once, with where it comes
//! from. The machines and codecs refer to these; nothing here decides anything.

use std::time::Duration;

/// Largest eth message accepted, decompressed: 10 MiB (geth `maxMessageSize`).
pub const MAX_MESSAGE_SIZE: usize = 10 * 1024 * 1024;

/// A reply stops growing after the item that takes it past 2 MiB (geth
/// `softResponseLimit`). It may exceed this by that one item.
pub const SOFT_RESPONSE_SIZE: usize = 2 * 1024 * 1024;

/// Largest Status accepted. Both layouts need less than 200 bytes
/// (3 + 4 + 9 + 33 + 33 + 33 + 16 + 33); a Status of megabytes only costs memory.
pub const MAX_STATUS_SIZE: usize = 512;

/// Headers in one reply (geth `maxHeadersServe`).
pub const MAX_HEADERS_SERVED: usize = 1024;

/// Bodies in one reply (geth `maxBodiesServe`).
pub const MAX_BODIES_SERVED: usize = 1024;

/// Blocks whose receipts go in one reply (geth `maxReceiptsServe`).
pub const MAX_RECEIPTS_SERVED: usize = 1024;

/// Block hashes looked up for one request: twice the items served, so that a
/// list of unknown hashes is not free work (wire digest, section 7.4).
pub const MAX_BLOCK_LOOKUPS: usize = 2 * MAX_BODIES_SERVED;

/// Hashes asked for, and looked up, in one GetPooledTransactions (eth spec:
/// 256 recommended; geth `maxTxRetrievals`).
pub const MAX_POOLED_HASHES: usize = 256;

/// Transactions accepted in one Transactions message (geth).
pub const MAX_TRANSACTIONS: usize = 5000;

/// Announcements in one message that are taken up (eth spec: soft limit 4096).
/// What a larger message holds beyond them is counted and ignored.
pub const MAX_ANNOUNCEMENTS: usize = 4096;

/// Target size of one Transactions message that we build: 100 KiB (geth
/// `maxTxPacketSize`).
pub const TRANSACTIONS_PACKET_SIZE: usize = 100 * 1024;

/// Transactions larger than this are announced, never pushed (geth
/// `txMaxBroadcastSize`).
pub const MAX_BROADCAST_SIZE: usize = 4096;

/// Transactions one peer is remembered to know (geth `maxKnownTxs`).
pub const MAX_KNOWN_TRANSACTIONS: usize = 32_768;

/// Items waiting for one slow peer: announcements, and full transactions, each
/// (geth `maxQueuedTxAnns`, `maxQueuedTxs`).
pub const MAX_QUEUED_ITEMS: usize = 4096;

/// Bytes of full transactions waiting for one slow peer: 2 MiB. The oldest then
/// become announcements.
pub const MAX_QUEUED_BYTES: usize = 2 * 1024 * 1024;

/// Gossip messages handed to a session that it has not yet passed to the peer's
/// outbound queue. Small, so that a backlog is packed into few large messages.
pub const SESSION_CREDIT: usize = 4;

/// Replies that wait for one peer to read them; then no further request of that
/// peer is taken (design section 3).
pub const MAX_OUTSTANDING_REPLIES: usize = 4;

/// Requests of ours one peer may owe an answer for.
pub const MAX_OUTSTANDING_REQUESTS: usize = 16;

/// Ids of requests that were given up on, whose late answer is ignored rather
/// than punished.
pub const MAX_EXPIRED_REQUESTS: usize = 64;

/// Both Status messages must have passed within this (geth `handshakeTimeout`).
pub const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request for headers, bodies or receipts may take (wire digest
/// section 7.4: 5 to 30 s).
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// An announced transaction is requested only after this time without a direct
/// broadcast of it (geth `txArriveTimeout`). Blob transactions do not wait.
pub const ARRIVE_TIMEOUT: Duration = Duration::from_millis(500);

/// Waiting announcements that fall due this soon after the first one go out
/// with it (geth `txGatherSlack`).
pub const GATHER_SLACK: Duration = Duration::from_millis(100);

/// How long a peer has to answer GetPooledTransactions before another announcer
/// is asked (geth `txFetchTimeout`).
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest pause before a peer that let requests time out is asked again.
pub const MAX_FETCH_BACKOFF: Duration = Duration::from_secs(60);

/// Announced bytes after which a request takes no further hash: 128 KiB (geth
/// `maxTxRetrievalSize`).
pub const MAX_FETCH_SIZE: u64 = 128 * 1024;

/// Announced transactions tracked for one peer, waiting and queued together
/// (geth `maxTxAnnounces`). The excess is counted and ignored.
pub const MAX_TRACKED_ANNOUNCEMENTS: usize = 4096;

/// Consecutive requests a peer may leave unanswered or answer with nothing
/// before it is dropped as useless.
pub const MAX_USELESS_ANSWERS: u32 = 8;

/// Hashes the pool refused that are remembered, so that they are not fetched
/// from every announcer in turn (geth `maxTxUnderpricedSetSize`).
pub const MAX_REFUSED_TRANSACTIONS: usize = 32_768;

/// How long a refusal is remembered at least (geth
/// `maxTxUnderpricedTimeout`); it is forgotten before twice this has passed.
pub const REFUSED_MEMORY: Duration = Duration::from_secs(5 * 60);

/// How far the announced size may be off the delivered one, in bytes (geth).
pub const ANNOUNCED_SIZE_TOLERANCE: u64 = 8;

/// The head must move this many blocks before peers hear of it again, unless it
/// moved back (EIP-7642: at most every 32 blocks).
pub const RANGE_UPDATE_BLOCKS: u64 = 32;

/// Peers the gossip keeps state for.
pub const MAX_PEERS: usize = 1024;

/// Largest transaction without blobs: 128 KiB (geth `txMaxSize`).
pub const MAX_TRANSACTION_SIZE: usize = 128 * 1024;

/// Largest blob transaction without its sidecar: 1 MiB (wire digest section
/// 7.7, geth's blob pool).
pub const MAX_BLOB_TRANSACTION_SIZE: usize = 1024 * 1024;

/// Blobs in one transaction (EIP-7594).
pub const MAX_BLOBS_PER_TRANSACTION: usize = 6;

/// Smallest transaction there can be: the shortest known signature `r` is 21
/// bytes, so 1 + 8 + 22 + 33 bytes is never undercut by a valid one. A body that
/// claims more transactions than this allows is refused before it is decoded.
pub const MIN_TRANSACTION_SIZE: usize = 60;

/// Smallest receipt on the wire: `[type, status, gas, []]`, five bytes. Decoded
/// it takes over 300, so a list of them is decoded only up to a count the
/// caller knows from the block.
pub const MIN_RECEIPT_SIZE: usize = 5;
