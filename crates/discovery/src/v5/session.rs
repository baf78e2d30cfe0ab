//! One session: the keys shared with a node at an address, ready to use.
//!
//! A session holds up to two key sets, so that no packet on its way is lost when a handshake replaces the keys, and so that two
//! handshakes that cross do not end with each side writing what the other cannot read. Rules:
//!
//! - The node that begins a handshake holds the new keys when it sends it, the other one when it receives it. So keys are
//!   *proven* for the beginner when something decrypts under them, for the other side at once.
//! - Requests are written under `current`: who cannot read one asks who that is, and the handshake heals what is wrong. Keys that
//!   become proven become current.
//! - Responses are written under the keys the other side wrote under last, as those it has for certain. Nobody asks about a response
//!   he cannot read, so that under keys whose handshake was lost none would ever arrive.
//! - But where this node challenged the other one and then sent a handshake of its own, and the answer to the challenge comes,
//!   the request in that is answered under the keys of this node's handshake: it reached the other side after that had
//!   answered, and go-ethereum and @chainsafe/discv5 keep the keys of the last handshake only.
//! - What was current before is kept to read: former keys until [`FORMER_LIFETIME`] after the new ones are proven; keys of a
//!   handshake that crossed with another (*rivals*) until the next handshake, because the other side may have chosen them. Of
//!   rivals, the node with the higher id follows what the other one writes, so that both end with the same.

use std::time::Duration;

use bytes::BytesMut;
use rand::{Rng, RngExt};
use tercet_enode::{NodeId, PublicKey};
use tercet_machine::MonoTime;

use super::crypto::{Cipher, SessionKeys};
use super::packet::Mask;
use super::session_io::Nonce;

/// How long former keys are still read: longer than a packet travels, shorter than two handshakes follow each other.
pub const FORMER_LIFETIME: Duration = Duration::from_secs(2);

/// Packets sealed under one key before a request begins a new handshake. The nonce is a 32-bit counter and 64 random bits, so
/// that it cannot repeat before 2^32; with half of that left, the handshake has all the time it needs.
pub const REKEY_AFTER: u32 = 1 << 31;

/// The keys of one handshake.
#[derive(Debug)]
pub(super) struct KeySet {
    seal: Cipher,
    open: Cipher,
    /// Packets sealed.
    sealed: u32,
    proven: bool,
}

impl KeySet {
    pub(super) fn initiator(keys: &SessionKeys) -> Self {
        Self {
            seal: Cipher::new(&keys.initiator),
            open: Cipher::new(&keys.recipient),
            sealed: 0,
            proven: false,
        }
    }

    pub(super) fn recipient(keys: &SessionKeys) -> Self {
        Self {
            seal: Cipher::new(&keys.recipient),
            open: Cipher::new(&keys.initiator),
            sealed: 0,
            proven: true,
        }
    }

    pub(super) fn opener(&self) -> &Cipher {
        &self.open
    }

    /// The next nonce and the cipher it is for; `None` once the counter is used up.
    pub(super) fn next<R: Rng + ?Sized>(&mut self, rng: &mut R) -> Option<(Nonce, &Cipher)> {
        let count = self.sealed;
        self.sealed = count.checked_add(1)?;
        let mut nonce = [0; 12];
        let (counter, random) = nonce.split_at_mut(4);
        counter.copy_from_slice(&count.to_be_bytes());
        random.copy_from_slice(&rng.random::<u64>().to_be_bytes());
        Some((Nonce::new(nonce), &self.seal))
    }
}

#[derive(Debug)]
struct Other {
    keys: KeySet,
    standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Replaced. Read until then; `None` while the new keys are unproven.
    Former { until: Option<MonoTime> },
    /// Of a handshake that crossed with the current one.
    Rival,
}

impl Standing {
    fn is_over(self, now: MonoTime) -> bool {
        matches!(self, Self::Former { until: Some(until) } if until <= now)
    }
}

/// Where the handshake of new keys was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    /// By this node.
    Here,
    /// By the other one.
    There {
        /// Place of the challenge that it answers in the order of this node's challenges and handshakes.
        challenged: u64,
    },
}

/// Under which circumstances something decrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// Under keys already proven.
    Known,
    /// Under keys of this node's own handshake, for the first time: it is complete.
    FirstProof,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) mask: Mask,
    pub(super) key: PublicKey,
    /// This node follows the other one's choice between rivals.
    follows: bool,
    current: KeySet,
    /// Place of the latest handshake in the order of this node's challenges and handshakes.
    renewed: u64,
    other: Option<Box<Other>>,
    /// Responses are written under the other keys: the other side wrote under them last, or will.
    answer_other: bool,
}

impl Session {
    pub(super) fn new(
        order: u64,
        local: &NodeId,
        remote: &NodeId,
        key: PublicKey,
        keys: KeySet,
    ) -> Self {
        Self {
            mask: Mask::new(remote),
            key,
            follows: local > remote,
            current: keys,
            renewed: order,
            other: None,
            answer_other: false,
        }
    }

    /// The keys of another handshake with the same node at the same address.
    pub(super) fn replace(&mut self, now: MonoTime, order: u64, keys: KeySet, begun: Begun) {
        let new_proven = keys.proven;
        let renewed = std::mem::replace(&mut self.renewed, order);
        let old = std::mem::replace(&mut self.current, keys);
        self.answer_other = match begun {
            // Before the other side has it, it has only older keys.
            Begun::Here => true,
            // The request in it is under the new keys, unless ours is on its way and replaces them.
            Begun::There { challenged } => !old.proven && challenged < renewed,
        };
        let standing = match (old.proven, new_proven) {
            // Our handshake is under way and the other side's has come.
            (false, true) => Standing::Rival,
            (true, true) => Standing::Former {
                until: Some(now + FORMER_LIFETIME),
            },
            (true, false) => Standing::Former { until: None },
            // Two of ours: what was proven before stays readable.
            (false, false) if self.other.is_some() => return,
            (false, false) => Standing::Former { until: None },
        };
        self.other = Some(Box::new(Other {
            keys: old,
            standing,
        }));
    }

    /// Decrypts `message` in place under whichever keys fit. What fits none is left as it was.
    pub(super) fn open<'a>(
        &mut self,
        now: MonoTime,
        nonce: Nonce,
        head: &[u8],
        message: &'a mut [u8],
    ) -> Option<(Read, &'a [u8])> {
        let len = message.len().checked_sub(super::crypto::TAG)?;
        if self.current.open.open(nonce, head, message).is_ok() {
            self.answer_other = false;
            let read = self.on_current_read(now);
            return message.get(..len).map(|plaintext| (read, plaintext));
        }
        let other = self.other.as_mut()?;
        if other.standing.is_over(now) {
            self.other = None;
            return None;
        }
        other.keys.open.open(nonce, head, message).ok()?;
        let first = !std::mem::replace(&mut other.keys.proven, true);
        let swaps = other.standing == Standing::Rival && (first || self.follows);
        if swaps {
            std::mem::swap(&mut self.current, &mut other.keys);
        }
        self.answer_other = !swaps;
        let read = if first { Read::FirstProof } else { Read::Known };
        message.get(..len).map(|plaintext| (read, plaintext))
    }

    /// What `message` decrypts to, in place, under whichever keys fit; changes nothing of the session.
    pub(super) fn peek<'a>(
        &self,
        now: MonoTime,
        nonce: Nonce,
        head: &[u8],
        message: &'a mut [u8],
    ) -> Option<&'a [u8]> {
        let len = message.len().checked_sub(super::crypto::TAG)?;
        let other = self.other.as_ref();
        let other = other.filter(|other| !other.standing.is_over(now));
        let ciphers = std::iter::once(&self.current).chain(other.map(|other| &other.keys));
        for keys in ciphers {
            if keys.open.open(nonce, head, message).is_ok() {
                return message.get(..len);
            }
        }
        None
    }

    fn on_current_read(&mut self, now: MonoTime) -> Read {
        if std::mem::replace(&mut self.current.proven, true) {
            return Read::Known;
        }
        if let Some(other) = &mut self.other
            && let Standing::Former { until } = &mut other.standing
        {
            *until = Some(now + FORMER_LIFETIME);
        }
        Read::FirstProof
    }

    /// Whether it is time for new keys.
    pub(super) fn is_worn(&self) -> bool {
        self.current.sealed >= REKEY_AFTER
    }

    /// What a request is written under.
    pub(super) fn current(&mut self) -> (&Mask, &mut KeySet) {
        (&self.mask, &mut self.current)
    }

    /// What a response is written under.
    pub(super) fn answering(&mut self, now: MonoTime) -> (&Mask, &mut KeySet) {
        let keys = match &mut self.other {
            Some(other) if self.answer_other && !other.standing.is_over(now) => &mut other.keys,
            _ => &mut self.current,
        };
        (&self.mask, keys)
    }

    /// As clients do that hold one set of keys.
    #[cfg(test)]
    pub(super) fn keep_latest(&mut self) {
        self.other = None;
    }

    #[cfg(test)]
    pub(super) fn wear(&mut self, sealed: u32) {
        self.current.sealed = sealed;
    }
}

/// Bytes nobody can read, in place of a message: what calls forth a WHOAREYOU.
pub(super) fn put_random<R: Rng + ?Sized>(out: &mut BytesMut, rng: &mut R) {
    // As long as a ping's ciphertext, so that it does not stand out: 8 bytes and up, and a tag.
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    out.extend_from_slice(&bytes);
}
