//! What makes a run end early.

use std::net::SocketAddr;

use tercet_machine::MonoTime;

use crate::simulation::{NatKey, NodeKey};

/// Why a simulation cannot go on. All but the first three are faults of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// Two nodes at one address.
    #[error("{addr} is taken by another node")]
    AddressInUse {
        /// The address.
        addr: SocketAddr,
    },
    /// The node was never added, or was removed.
    #[error("there is no {node:?}")]
    NoSuchNode {
        /// The node.
        node: NodeKey,
    },
    /// The NAT was never added.
    #[error("there is no {nat:?}")]
    NoSuchNat {
        /// The NAT.
        nat: NatKey,
    },
    /// A machine's deadline was not later than the timeout it had just handled: time would stand still.
    #[error("{node:?}: the deadline {deadline:?} is not after the timeout at {now:?}")]
    StaleDeadline {
        /// The node.
        node: NodeKey,
        /// The time of the timeout.
        now: MonoTime,
        /// The deadline afterwards.
        deadline: MonoTime,
    },
    /// A stream was opened where only datagrams travel.
    #[error("{node:?} opened a stream in a run on several threads")]
    Stream {
        /// The node.
        node: NodeKey,
    },
    /// A machine and its adapter kept each other busy without time passing.
    #[error("{node:?} put out more than {limit} outputs at one moment")]
    Runaway {
        /// The node.
        node: NodeKey,
        /// The limit.
        limit: usize,
    },
}
