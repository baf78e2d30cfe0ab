//! Where dialers get nodes from. Every source is a [`Stream`](futures::Stream) of nodes, so that a walk through the network, a fixed list
//! and a DNS list are alike and everything that works on streams works on them:
//!
//! - [`RandomNodes`]: everybody an endless walk comes across.
//! - [`Source`]: a stream with a name and the trust it has; what it names is checked by that.
//! - [`FairMix`]: many sources as one, none of which can crowd out the others.
//! - [`filtered`]: nodes judged by an async function, several at once.
//! - [`prefetched`]: nodes kept ready while their consumer is busy.
//!
//! A node that was taken from a source and not handed on yet is held in the stream, never in the future of a caller: a
//! `next()` may be cancelled at any time. All of them end when what they draw from ends, and dropping one stops everything
//! behind it. A synchronous filter is `StreamExt::filter`.

mod filter;
mod mix;
mod random;
mod source;
#[cfg(test)]
mod tests;
mod walk;

pub use filter::{filtered, prefetched};
pub use mix::{FairMix, MAX_SOURCES, MixHandle, SourceError};
pub use random::{DEFAULT_LOOKUPS, RandomNodes};
pub use source::{NodeStream, Source, Sourced, Trust};
pub use walk::{MAX_GIVEN, MAX_PAUSE, MAX_READY, MIN_PAUSE, REPEAT_AFTER};
