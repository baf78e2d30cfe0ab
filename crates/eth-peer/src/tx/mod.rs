//! What is known of transactions beside the pool: which peer has which, which
//! are on their way, and which were refused.

mod fetcher;
mod known;
mod refused;

pub(crate) use fetcher::{FetchInput, FetchOutput, FetcherCore};
pub(crate) use known::KnownTransactions;
