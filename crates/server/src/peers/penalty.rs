//! What misbehaviour costs: one table. Detection happens where the bytes are;
//! the price is decided here and nowhere else.
//!
//! Only what an authenticated peer does is in the table. Anything before the
//! handshake proves a key can be sent by anybody in anybody's name, so it is
//! closed and counted but never remembered.

use std::time::Duration;

use tercet_machine::MonoTime;
use tercet_rlpx::DisconnectReason;

/// A rule of the base protocol, or one a sub-protocol enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Rule {
    /// More pings than a burst of 5 refilled by one a second.
    #[error("ping flood")]
    PingFlood,
    /// A message id outside every negotiated range.
    #[error("message id outside every negotiated range")]
    UnknownMessage,
    /// A frame whose MAC is wrong.
    #[error("frame with a wrong MAC")]
    InvalidFrame,
    /// A frame without a proper message in it, or with one that does not
    /// decompress or is larger than allowed.
    #[error("malformed or oversized message")]
    InvalidMessage,
    /// A Hello that names another key than the handshake proved.
    #[error("Hello with another identity")]
    WrongIdentity,
    /// A sub-protocol found its own rules broken.
    #[error("sub-protocol breach")]
    SubprotocolBreach,
}

/// What breaking a rule costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Penalty {
    /// Added to the connection's score; at [`Score::LIMIT`] the peer is
    /// disconnected and banned as the rule says.
    pub points: u32,
    /// Sent to the peer when the connection ends for it; `None`: nothing can be
    /// sent, because the session's keys can no longer be relied on.
    pub disconnect: Option<DisconnectReason>,
    /// How long the identity is neither let in nor dialed.
    pub ban: Option<Duration>,
}

/// A broken rule with its price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// Its price.
    pub penalty: Penalty,
}

const MINUTE: Duration = Duration::from_secs(60);

impl Rule {
    /// The table.
    ///
    /// | rule | points | told | ban |
    /// |---|---|---|---|
    /// | ping flood | 1 | protocol breach | 5 min |
    /// | unknown message id | all | protocol breach | 5 min |
    /// | invalid frame | all | nothing | none: a damaged or meddled connection looks the same |
    /// | invalid message | all | protocol breach | 5 min |
    /// | wrong identity | all | unexpected identity | 30 min |
    /// | sub-protocol breach | all | what the protocol says, else sub-protocol error | 5 min |
    pub const fn penalty(self) -> Penalty {
        let all = Score::LIMIT;
        let (points, disconnect, ban) = match self {
            Self::PingFlood => (1, Some(DisconnectReason::ProtocolError), Some(5)),
            Self::UnknownMessage => (all, Some(DisconnectReason::ProtocolError), Some(5)),
            Self::InvalidFrame => (all, None, None),
            Self::InvalidMessage => (all, Some(DisconnectReason::ProtocolError), Some(5)),
            Self::WrongIdentity => (all, Some(DisconnectReason::UnexpectedIdentity), Some(30)),
            Self::SubprotocolBreach => (all, Some(DisconnectReason::SubprotocolError), Some(5)),
        };
        let ban = match ban {
            Some(minutes) => Some(Duration::from_secs(MINUTE.as_secs() * minutes)),
            None => None,
        };
        Penalty {
            points,
            disconnect,
            ban,
        }
    }

    /// The rule with its price.
    pub const fn violation(self) -> Violation {
        Violation {
            rule: self,
            penalty: self.penalty(),
        }
    }
}

/// Points a connection has collected. One point is forgotten each second, so
/// now and then a ping too many costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Score {
    points: u32,
    since: MonoTime,
}

impl Score {
    /// Points at which a connection ends.
    pub const LIMIT: u32 = 100;

    /// No points.
    pub const fn new(now: MonoTime) -> Self {
        Self {
            points: 0,
            since: now,
        }
    }

    /// Adds a violation's points; true when the limit is reached.
    pub fn add(&mut self, now: MonoTime, penalty: Penalty) -> bool {
        self.forget(now);
        self.points = self.points.saturating_add(penalty.points).min(Self::LIMIT);
        self.points == Self::LIMIT
    }

    /// The points at a time.
    pub fn points(mut self, now: MonoTime) -> u32 {
        self.forget(now);
        self.points
    }

    /// Takes off one point for each whole second; the rest of a second stays on
    /// the clock, so many small steps forget as much as one large one.
    fn forget(&mut self, now: MonoTime) {
        let seconds = (now - self.since).as_secs();
        self.points = self
            .points
            .saturating_sub(u32::try_from(seconds).unwrap_or(u32::MAX));
        self.since = self.since + Duration::from_secs(seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: [Rule; 6] = [
        Rule::PingFlood,
        Rule::UnknownMessage,
        Rule::InvalidFrame,
        Rule::InvalidMessage,
        Rule::WrongIdentity,
        Rule::SubprotocolBreach,
    ];

    fn at(seconds: u64) -> MonoTime {
        MonoTime::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn every_rule_but_ping_floods_ends_the_connection_at_once() {
        for rule in RULES {
            let ends = Score::new(at(0)).add(at(0), rule.penalty());
            assert_eq!(ends, rule != Rule::PingFlood, "{rule:?}");
        }
    }

    #[test]
    fn what_cannot_be_pinned_on_the_peer_is_not_banned() {
        assert_eq!(Rule::InvalidFrame.penalty().ban, None);
        assert_eq!(Rule::InvalidFrame.penalty().disconnect, None);
        assert_eq!(
            Rule::UnknownMessage.penalty().ban,
            Some(Duration::from_secs(300))
        );
    }

    #[test]
    fn one_point_a_second_is_forgotten_however_the_time_is_cut() {
        let mut score = Score::new(at(0));
        for _ in 0..50 {
            assert!(!score.add(at(0), Rule::PingFlood.penalty()));
        }
        let mut stepped = score;
        for half in 1..=20u64 {
            let now = MonoTime::ZERO + Duration::from_millis(half * 500);
            stepped.forget(now);
        }
        assert_eq!(stepped.points(at(10)), 40);
        assert_eq!(score.points(at(10)), 40);
        assert_eq!(score.points(at(1_000)), 0);
    }

    #[test]
    fn the_hundredth_point_is_the_limit() {
        let mut score = Score::new(at(0));
        for _ in 0..99 {
            assert!(!score.add(at(0), Rule::PingFlood.penalty()));
        }
        assert!(score.add(at(0), Rule::PingFlood.penalty()));
    }
}
