//! Counters of one server. They belong to it, not to the process, so any number
//! of servers can run in one.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::event::{DropReason, RefuseReason, ServerEvent};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a server has counted since its start.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct ServerMetrics {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> ServerMetrics {
                ServerMetrics { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// TCP connections accepted.
    accepted,
    /// Inbound connections closed before any byte: network, throttle, pending cap.
    refused_at_door,
    /// Inbound connections refused after the handshake, with a Disconnect.
    refused,
    /// Inbound set-ups that failed by themselves.
    setup_failed,
    /// Dials started.
    dials,
    /// Dials that did not become a peer.
    dials_failed,
    /// Peers admitted that had dialed us.
    peers_in,
    /// Peers admitted that we had dialed.
    peers_out,
    /// Peers gone.
    dropped,
    /// Peers gone because they broke a rule.
    dropped_for_violation,
    /// Identities banned.
    banned,
    /// Messages read.
    messages_in,
    /// Their payload bytes, decompressed.
    bytes_in,
    /// Messages queued for writing.
    messages_out,
    /// Their payload bytes before compression.
    bytes_out,
    /// Pings not answered because there were too many.
    pings_dropped,
    /// Times a protocol's inbox was full and reading stopped.
    inbox_full,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn count(&self, event: &ServerEvent) {
        let counter = match event {
            ServerEvent::PeerAdded { info } if info.inbound() => &self.peers_in,
            ServerEvent::PeerAdded { .. } => &self.peers_out,
            ServerEvent::PeerDropped { reason, .. } => {
                if matches!(reason, DropReason::Violation(_)) {
                    Self::add(&self.dropped_for_violation, 1);
                }
                &self.dropped
            }
            ServerEvent::DialFailed { .. } => &self.dials_failed,
            ServerEvent::InboundRefused { reason, .. } => match reason {
                RefuseReason::NotAllowed
                | RefuseReason::Throttled
                | RefuseReason::PendingPerSubnet
                | RefuseReason::Stalled => &self.refused_at_door,
                RefuseReason::Handshake | RefuseReason::SetupTimeout | RefuseReason::RemoteLeft => {
                    &self.setup_failed
                }
                _ => &self.refused,
            },
            ServerEvent::Banned { .. } => &self.banned,
        };
        Self::add(counter, 1);
    }
}
