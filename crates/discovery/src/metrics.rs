//! What the service counts, as one plain value.

use crate::core::CoreCounters;
use crate::stack::StackCounters;
use crate::v5::{SessionCounters, TalkCounters};

/// Counts since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct DiscoveryMetrics {
    /// What the machine counted: messages of both protocols.
    pub core: CoreCounters,
    /// What was counted on the way from a datagram to a message.
    pub stack: StackCounters,
    /// What the discv5 sessions counted.
    pub sessions: SessionCounters,
    /// discv5 sessions at this moment.
    pub sessions_held: usize,
    /// Talk requests of others.
    pub talk: TalkCounters,
    /// Datagrams read.
    pub datagrams_in: u64,
    /// Bytes in them.
    pub bytes_in: u64,
    /// Datagrams given to the system.
    pub datagrams_out: u64,
    /// Bytes in them.
    pub bytes_out: u64,
    /// Datagrams handed to the threads that send bursts.
    pub datagrams_handed_over: u64,
    /// Signature checks and handshakes handed to other threads at this moment, 1024 at most.
    pub checks_under_way: usize,
    /// Packets dropped because that many were.
    pub pool_full: u64,
    /// Datagrams waiting at this moment for the work of an earlier one from the same source.
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
    /// Checks of the clock that have ended, see [`DiscoveryConfig::ntp_server`](crate::DiscoveryConfig::ntp_server).
    pub clock_checks: u64,
    /// Milliseconds to add to this host's clock to have the time server's, by the last check that was answered.
    pub clock_drift_millis: Option<i64>,
}

impl DiscoveryMetrics {
    /// Adds what was counted at sockets.
    pub(crate) const fn add_sockets(&mut self, more: &Self) {
        self.datagrams_in += more.datagrams_in;
        self.bytes_in += more.bytes_in;
        self.datagrams_out += more.datagrams_out;
        self.bytes_out += more.bytes_out;
        self.datagrams_handed_over += more.datagrams_handed_over;
        self.out_queue_full += more.out_queue_full;
        self.socket_errors += more.socket_errors;
    }
}
