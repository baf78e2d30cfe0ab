//! `tercet node`: one node.

pub(crate) mod options;
