//! The set of connected peers and what their behaviour costs them.

pub(crate) mod penalty;
