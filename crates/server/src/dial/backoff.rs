//! How long a node is left alone after a connection to it failed or ended: a
//! class for each cause, and a delay that grows with failures in a row.
//!
//! Delays are counted in the redial interval (35 s by default: the 30 s others
//! throttle us for, and 5 s), so a configuration that shortens it scales all.

use std::time::Duration;

use tercet_rlpx::DisconnectReason;

use crate::event::{DialError, DropReason, RefuseReason};

/// How long, in kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backoff {
    /// One redial interval, however often: nobody failed.
    None,
    /// One interval (35 s), doubling.
    Short,
    /// Eight intervals (about 5 min), doubling.
    Medium,
    /// Fifty intervals (about 30 min), doubling.
    Long,
    /// For as long as it is remembered.
    Never,
}

impl Backoff {
    /// No delay exceeds a hundred intervals (about 1 h).
    pub const MAX_INTERVALS: u32 = 100;

    /// The class of a Disconnect, whoever sent it.
    pub fn after_disconnect(reason: DisconnectReason) -> Self {
        use DisconnectReason as R;
        match reason {
            R::Requested | R::NetworkError | R::Quitting | R::ReadTimeout => Self::Short,
            R::TooManyPeers => Self::Medium,
            R::AlreadyConnected => Self::None,
            R::ConnectedToSelf => Self::Never,
            // 0x02, 0x03, 0x06, 0x07, 0x09, 0x10, and unassigned numbers, which
            // count as 0x10.
            _ => Self::Long,
        }
    }

    /// The class of a peer's end.
    pub fn after_drop(reason: &DropReason) -> Self {
        match reason {
            DropReason::Local(reason)
            | DropReason::Remote(reason)
            | DropReason::Protocol { reason, .. } => Self::after_disconnect(*reason),
            DropReason::Violation(_) => Self::Long,
            DropReason::InboxStalled(_) => Self::Medium,
            DropReason::Closed
            | DropReason::Io(_)
            | DropReason::ReadTimeout
            | DropReason::WriteTimeout
            | DropReason::Internal => Self::Short,
        }
    }

    /// The class of a dial that did not become a peer.
    pub fn after_dial(error: &DialError) -> Self {
        match error {
            DialError::Refused(reason) => Self::after_disconnect(*reason),
            DialError::Rejected(reason) => Self::after_refusal(*reason),
            DialError::Connect(_)
            | DialError::ConnectTimeout
            | DialError::Dns
            | DialError::SetupTimeout
            | DialError::Io(_)
            | DialError::Internal => Self::Short,
            DialError::Handshake
            | DialError::Hello
            | DialError::UnexpectedIdentity
            | DialError::InvalidIdentity
            | DialError::NotAllowed => Self::Long,
        }
    }

    /// The class of a refusal of ours.
    fn after_refusal(reason: RefuseReason) -> Self {
        match reason {
            // Our slots were taken meanwhile; the node did nothing wrong.
            RefuseReason::TooManyPeers | RefuseReason::ShuttingDown => Self::Short,
            reason => match reason.disconnect_reason() {
                Some(reason) => Self::after_disconnect(reason),
                None => Self::Short,
            },
        }
    }

    /// The delay after the `failures`th failure in a row (counted from 1), or
    /// `None` for [`Backoff::Never`].
    pub fn delay(self, failures: u32, interval: Duration) -> Option<Duration> {
        let first = match self {
            Self::None => return Some(interval),
            Self::Short => 1,
            Self::Medium => 8,
            Self::Long => 50,
            Self::Never => return None,
        };
        // 2^7 = 128 passes the cap from any class.
        let doublings = failures.saturating_sub(1).min(7);
        let intervals = (first << doublings).min(Self::MAX_INTERVALS);
        Some(interval.saturating_mul(intervals))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INTERVAL: Duration = Duration::from_secs(35);

    #[test]
    fn delays_double_up_to_the_cap() {
        let seconds: Vec<u64> = (1..=9)
            .filter_map(|n| Backoff::Short.delay(n, INTERVAL))
            .map(|delay| delay.as_secs())
            .collect();
        assert_eq!(seconds, [35, 70, 140, 280, 560, 1120, 2240, 3500, 3500]);
        assert_eq!(
            Backoff::Medium.delay(1, INTERVAL),
            Some(Duration::from_secs(280))
        );
        assert_eq!(
            Backoff::Long.delay(1, INTERVAL),
            Some(Duration::from_secs(1750))
        );
        assert_eq!(Backoff::None.delay(50, INTERVAL), Some(INTERVAL));
        assert_eq!(Backoff::Never.delay(1, INTERVAL), None);
    }

    #[test]
    fn the_spec_table_of_reasons() {
        use DisconnectReason as R;
        for (code, class) in [
            (R::Requested, Backoff::Short),
            (R::NetworkError, Backoff::Short),
            (R::ProtocolError, Backoff::Long),
            (R::UselessPeer, Backoff::Long),
            (R::TooManyPeers, Backoff::Medium),
            (R::AlreadyConnected, Backoff::None),
            (R::IncompatibleVersion, Backoff::Long),
            (R::InvalidIdentity, Backoff::Long),
            (R::Quitting, Backoff::Short),
            (R::UnexpectedIdentity, Backoff::Long),
            (R::ConnectedToSelf, Backoff::Never),
            (R::ReadTimeout, Backoff::Short),
            (R::Other(0x0c), Backoff::Long),
            (R::SubprotocolError, Backoff::Long),
        ] {
            assert_eq!(Backoff::after_disconnect(code), class, "{code}");
        }
    }

    proptest! {
        #[test]
        fn delays_never_shrink_nor_pass_the_cap(n in 1u32..=u32::MAX - 1, seconds in 1u64..1000) {
            let interval = Duration::from_secs(seconds);
            for class in [Backoff::None, Backoff::Short, Backoff::Medium, Backoff::Long] {
                let (a, b) = (class.delay(n, interval), class.delay(n + 1, interval));
                prop_assert!(a <= b);
                prop_assert!(a >= Some(interval));
                prop_assert!(b <= Some(interval * Backoff::MAX_INTERVALS));
            }
        }
    }
}
