//! What the driver counts, as one plain value.

use crate::core::CoreCounters;

/// Counts since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct DiscoveryMetrics {
    /// What the machine counted.
    pub core: CoreCounters,
    /// Datagrams read.
    pub datagrams_in: u64,
    /// Bytes in them.
    pub bytes_in: u64,
    /// Datagrams given to the system.
    pub datagrams_out: u64,
    /// Bytes in them.
    pub bytes_out: u64,
    /// Datagrams that are no discv4 packets.
    pub undecodable: u64,
    /// discv5 packets for this node, told apart without hashing them and dropped: the service answers discv4 alone.
    pub not_served: u64,
    /// Signature checks handed to other threads at this moment, 1024 at most.
    pub checks_under_way: usize,
    /// Packets dropped because that many were.
    pub pool_full: u64,
    /// Datagrams waiting at this moment for the check of an earlier one from the same source.
    pub lanes_waiting: usize,
    /// Datagrams dropped because 64 of their source were, or 1024 in all.
    pub lane_full: u64,
    /// Datagrams waiting to be sent at this moment.
    pub out_queued: usize,
    /// Datagrams dropped because 1024 were waiting to be sent.
    pub out_queue_full: u64,
    /// Datagrams the system refused to send, and failed reads.
    pub socket_errors: u64,
    /// Database writes refused because too many were waiting.
    pub database_busy: u64,
}
