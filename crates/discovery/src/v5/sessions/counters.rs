//! What was dropped and why, as numbers.

use crate::v5::packet::PacketError;

/// Why a packet or a message went nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[non_exhaustive]
#[repr(usize)]
pub enum SessionDrop {
    /// A datagram that is no discv5 packet for this node: too short, too long, or another protocol.
    NotDiscv5,
    /// A header that is wrong in its version, flag or sizes.
    BadHeader,
    /// The sender says it is this node.
    OwnId,
    /// A WHOAREYOU about no packet that is waited for: late, repeated, or made up.
    UnaskedChallenge,
    /// A WHOAREYOU from another address than the packet went to.
    WrongAddress,
    /// A handshake to which there is no challenge: late, repeated, or made up.
    NoChallenge,
    /// A handshake to a challenge that has paid for as many as it may.
    TooManyTries,
    /// No challenge was sent, as the sender's subnet has as many open as it may.
    SubnetFull,
    /// A challenge or a waiting request had to make room for a newer one.
    Evicted,
    /// A handshake of a node of which no record is known, without a record.
    NoRecord,
    /// A handshake with a record that is malformed, of another node, or not signed by its key.
    BadRecord,
    /// A handshake whose proof of identity or ephemeral key does not hold.
    BadProof,
    /// A handshake whose message does not decrypt.
    Undecryptable,
    /// A handshake whose outcome is no longer of use.
    Superseded,
    /// A decrypted message that is none.
    BadMessage,
    /// A response to a node with which there is no session.
    NoSession,
    /// A request to a node without session whose key is not known.
    NoKey,
    /// A request that found its queue full.
    QueueFull,
    /// A request that waited for a handshake that did not come.
    Expired,
    /// A message that does not fit a packet.
    TooLong,
    /// A response over a session whose nonces are used up.
    WornOut,
}

const REASONS: usize = SessionDrop::WornOut as usize + 1;

impl From<PacketError> for SessionDrop {
    fn from(error: PacketError) -> Self {
        match error {
            PacketError::Protocol | PacketError::TooShort | PacketError::TooLong => Self::NotDiscv5,
            PacketError::Version | PacketError::Flag(_) | PacketError::AuthSize => Self::BadHeader,
        }
    }
}

/// What the sessions of a node have done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct SessionCounters {
    /// Messages received and understood.
    pub received: u64,
    /// Messages sent over a session, handshakes included.
    pub sent: u64,
    /// WHOAREYOUs sent, repeated ones not counted.
    pub challenges: u64,
    /// WHOAREYOUs sent again as they were.
    pub repeated: u64,
    /// Handshakes completed that the other side began.
    pub inbound: u64,
    /// Handshakes completed that this node began.
    pub outbound: u64,
    drops: [u64; REASONS],
}

impl SessionCounters {
    /// How often something was dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: SessionDrop) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or(0)
    }

    /// How often something was dropped in all.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().sum()
    }

    pub(super) fn count(&mut self, reason: SessionDrop) {
        if let Some(count) = self.drops.get_mut(reason as usize) {
            *count += 1;
        }
    }
}
