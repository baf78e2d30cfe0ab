//! Requests that wait for a handshake, and those sent a moment ago that may come to need one: a WHOAREYOU names the packet it
//! is about, and what was in it has to be sent again.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tercet_enode::PublicKey;
use tercet_machine::{ExpiringMap, KeyedMap, KeyedState, MachineRng, MonoTime, shrink};

use super::PeerKey;
use super::counters::SessionDrop;
use crate::v5::message::RequestId;
use crate::v5::packet::CHALLENGE_DATA;
use crate::v5::session_io::Nonce;

/// How long a request waits for a handshake, and can be named by a WHOAREYOU: the handshake timeout of `discv5-wire.md`.
pub const REQUEST_LIFETIME: Duration = Duration::from_secs(1);

/// Most requests to one node that wait or were just sent.
pub const MAX_NODE_REQUESTS: usize = 16;

/// Most such requests in all.
pub const MAX_REQUESTS: usize = 4096;

/// How often a handshake packet is sent again when its challenge is repeated, which means that it was lost.
const MAX_REPEATS: u8 = 2;

/// How soon it may be sent again. Requests that were on their way when it was sent repeat the challenge too, and say nothing
/// about a loss; a round trip later they have all arrived.
const REPEAT_AFTER: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Not sent, or sent under keys the other side does not have.
    Waiting,
    /// Sent in the packet with this nonce.
    Sent(Nonce),
    /// Sent in a handshake packet, and again whenever that is.
    Carried,
    /// Sent after a handshake: no WHOAREYOU is answered about it, or two nodes could go on for ever.
    Spent,
}

#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) id: RequestId,
    pub(super) plaintext: Bytes,
    since: MonoTime,
    pub(super) state: State,
}

/// How far the handshake with a node is.
#[derive(Debug)]
pub(super) enum Attempt {
    /// There is none.
    None,
    /// A random packet was sent.
    Asked(Nonce),
    /// A WHOAREYOU about the packet with this nonce is being answered.
    Answering(Nonce),
    /// It was answered.
    Answered(Answer),
}

/// The answer to a WHOAREYOU, to be repeated if that is.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) nonce: Nonce,
    pub(super) challenge: [u8; CHALLENGE_DATA],
    pub(super) datagram: Bytes,
    pub(super) sent: MonoTime,
    pub(super) repeats: u8,
}

#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) key: Option<PublicKey>,
    pub(super) requests: VecDeque<Pending>,
    pub(super) attempt: Attempt,
}

/// What a WHOAREYOU leads to.
#[derive(Debug)]
pub(super) enum Named {
    /// To a handshake with this node, whose key is this if the requests say it.
    Begin(PeerKey, Option<PublicKey>),
    /// To the same answer again.
    Repeat(PeerKey, Bytes),
}

/// What became of a node's requests when the oldest was over.
#[derive(Debug)]
pub(super) struct Expired {
    pub(super) peer: PeerKey,
    /// How many had waited in vain.
    pub(super) waited: usize,
    /// Whether others wait for a handshake, so that another must be begun.
    pub(super) again: bool,
}

/// All nodes' requests.
#[derive(Debug)]
pub(super) struct Outboxes {
    boxes: ExpiringMap<PeerKey, Outbox>,
    by_nonce: KeyedMap<Nonce, PeerKey>,
    requests: usize,
}

impl Outboxes {
    pub(super) fn new(rng: &mut MachineRng) -> Self {
        Self {
            boxes: ExpiringMap::new(MAX_REQUESTS, KeyedState::new(rng)),
            by_nonce: KeyedMap::with_hasher(KeyedState::new(rng)),
            requests: 0,
        }
    }

    /// Adds a request. A full box loses the oldest one that was sent; one that waits is not pushed out.
    pub(super) fn push(
        &mut self,
        now: MonoTime,
        peer: PeerKey,
        key: Option<PublicKey>,
        (id, plaintext, state): (RequestId, Bytes, State),
    ) -> Result<(), SessionDrop> {
        let pending = Pending {
            id,
            plaintext,
            since: now,
            state,
        };
        let full = self.requests >= MAX_REQUESTS;
        let Some(outbox) = self.boxes.get_mut(now, &peer) else {
            if full {
                return Err(SessionDrop::QueueFull);
            }
            let outbox = Outbox {
                key,
                requests: VecDeque::from([pending]),
                attempt: Attempt::None,
            };
            self.note(&peer, state);
            self.requests += 1;
            self.boxes.insert(peer, outbox, now + REQUEST_LIFETIME);
            return Ok(());
        };
        if full || outbox.requests.len() >= MAX_NODE_REQUESTS {
            let sent = outbox
                .requests
                .iter()
                .position(|request| request.state != State::Waiting);
            let at = sent.ok_or(SessionDrop::QueueFull)?;
            if let Some(Pending {
                state: State::Sent(nonce),
                ..
            }) = outbox.requests.remove(at)
            {
                self.by_nonce.remove(&nonce);
            }
            self.requests -= 1;
        }
        outbox.key = outbox.key.or(key);
        outbox.requests.push_back(pending);
        self.requests += 1;
        self.note(&peer, state);
        Ok(())
    }

    pub(super) fn get(&mut self, now: MonoTime, peer: &PeerKey) -> Option<&mut Outbox> {
        self.boxes.get_mut(now, peer)
    }

    /// Notes that a random packet was sent.
    pub(super) fn asked(&mut self, now: MonoTime, peer: &PeerKey, nonce: Nonce) {
        if let Some(outbox) = self.boxes.get_mut(now, peer) {
            outbox.attempt = Attempt::Asked(nonce);
            self.by_nonce.insert(nonce, *peer);
        }
    }

    /// The nonce of the attempt to be made once more, if one was made: no WHOAREYOU has come, or its answer was lost on the way to a
    /// thread. The other side may have challenged that packet, and repeats the challenge when it gets another one; with the same nonce
    /// it can be answered.
    pub(super) fn ask_again(&mut self, now: MonoTime, peer: &PeerKey) -> Option<Nonce> {
        let outbox = self.boxes.get_mut(now, peer)?;
        match outbox.attempt {
            Attempt::Asked(nonce) | Attempt::Answering(nonce) => {
                outbox.attempt = Attempt::Asked(nonce);
                Some(nonce)
            }
            Attempt::None | Attempt::Answered(_) => None,
        }
    }

    /// A WHOAREYOU about the packet `nonce` came from `from`. Whatever was sent to that node is now known to be unread.
    pub(super) fn named(
        &mut self,
        now: MonoTime,
        nonce: Nonce,
        from: SocketAddr,
        challenge: &[u8; CHALLENGE_DATA],
    ) -> Result<Named, SessionDrop> {
        let peer = *self
            .by_nonce
            .get(&nonce)
            .ok_or(SessionDrop::UnaskedChallenge)?;
        if peer.addr != from {
            return Err(SessionDrop::WrongAddress);
        }
        let outbox = self
            .boxes
            .get_mut(now, &peer)
            .ok_or(SessionDrop::UnaskedChallenge)?;
        let mut unread = Vec::new();
        let named = match &mut outbox.attempt {
            Attempt::Answering(_) => return Err(SessionDrop::UnaskedChallenge),
            Attempt::Answered(answer) if answer.nonce == nonce => {
                let early = now < answer.sent + REPEAT_AFTER;
                if answer.challenge != *challenge || early || answer.repeats >= MAX_REPEATS {
                    return Err(SessionDrop::UnaskedChallenge);
                }
                answer.repeats += 1;
                answer.sent = now;
                Named::Repeat(peer, answer.datagram.clone())
            }
            // About a request that came later: the other side has given up that handshake. What went with one is not
            // remembered by its nonce, so that a request leads to one handshake at most.
            Attempt::Answered(answer) => {
                unread.push(answer.nonce);
                Named::Begin(peer, outbox.key)
            }
            Attempt::None => Named::Begin(peer, outbox.key),
            Attempt::Asked(asked) => {
                unread.extend((*asked != nonce).then_some(*asked));
                Named::Begin(peer, outbox.key)
            }
        };
        let begins = matches!(named, Named::Begin(..));
        if begins {
            // The one it names goes into the handshake: to the front.
            let is_named = |request: &Pending| request.state == State::Sent(nonce);
            if let Some(at) = outbox.requests.iter().position(is_named)
                && let Some(request) = outbox.requests.remove(at)
            {
                outbox.requests.push_front(request);
            }
            outbox.attempt = Attempt::Answering(nonce);
        }
        for request in &mut outbox.requests {
            // One of them is in the packet that is repeated.
            if begins || request.state != State::Carried {
                unread.extend(request.leave());
            }
        }
        for unread in unread.iter().filter(|unread| **unread != nonce) {
            self.by_nonce.remove(unread);
        }
        Ok(named)
    }

    /// Whether the packet with this nonce was sent to this address and may still be answered by a WHOAREYOU.
    pub(super) fn names(&self, nonce: Nonce, to: SocketAddr) -> bool {
        self.by_nonce
            .get(&nonce)
            .is_some_and(|peer| peer.addr == to)
    }

    /// The requests that wait for a session that is now there.
    pub(super) fn waiting(&mut self, now: MonoTime, peer: &PeerKey) -> Vec<Bytes> {
        let Some(outbox) = self.boxes.get_mut(now, peer) else {
            return Vec::new();
        };
        let mut waiting = Vec::new();
        for request in &mut outbox.requests {
            if request.state == State::Waiting {
                request.state = State::Spent;
                waiting.push(request.plaintext.clone());
            }
        }
        waiting
    }

    /// Gives up the handshake this node has begun, as the other side's was quicker.
    pub(super) fn abandon(&mut self, now: MonoTime, peer: &PeerKey) {
        if let Some(outbox) = self.boxes.get_mut(now, peer) {
            let attempt = std::mem::replace(&mut outbox.attempt, Attempt::None);
            if let Some(nonce) = attempt.nonce() {
                self.by_nonce.remove(&nonce);
            }
        }
    }

    /// A response came: its request need not be sent again.
    pub(super) fn answered(&mut self, now: MonoTime, peer: &PeerKey, id: RequestId) {
        let Some(outbox) = self.boxes.get_mut(now, peer) else {
            return;
        };
        let Some(at) = outbox.requests.iter().position(|request| request.id == id) else {
            return;
        };
        if let Some(request) = outbox.requests.remove(at) {
            self.requests -= 1;
            if let State::Sent(nonce) = request.state {
                self.by_nonce.remove(&nonce);
            }
        }
        if outbox.requests.is_empty()
            && let Some(mut outbox) = self.boxes.remove(peer)
        {
            self.forget_attempt(&mut outbox);
        }
    }

    /// The next node whose oldest request is over.
    pub(super) fn expire(&mut self, now: MonoTime) -> Option<Expired> {
        let (peer, mut outbox) = self.boxes.pop_expired(now)?;
        let (mut waited, before) = (0, outbox.requests.len());
        outbox.requests.retain(|request| {
            let over = request.since + REQUEST_LIFETIME <= now;
            match request.state {
                State::Waiting if over => waited += 1,
                State::Sent(nonce) if over => drop(self.by_nonce.remove(&nonce)),
                _ => {}
            }
            !over
        });
        shrink(&mut self.by_nonce);
        self.requests -= before - outbox.requests.len();
        let ends = outbox.requests.iter().map(|request| request.since).min();
        let waits = |request: &Pending| request.state == State::Waiting;
        let again = outbox.requests.iter().any(waits);
        if ends.is_none() {
            self.forget_attempt(&mut outbox);
        }
        if let Some(oldest) = ends {
            self.boxes.insert(peer, outbox, oldest + REQUEST_LIFETIME);
        }
        Some(Expired {
            peer,
            waited,
            again,
        })
    }

    pub(super) fn deadline(&self) -> Option<MonoTime> {
        self.boxes.deadline()
    }

    /// Requests that wait or were just sent.
    pub(super) fn len(&self) -> usize {
        self.requests
    }

    #[cfg(test)]
    pub(super) fn is_clean(&self) -> bool {
        self.boxes.is_empty() && self.by_nonce.is_empty() && self.requests == 0
    }

    fn note(&mut self, peer: &PeerKey, state: State) {
        if let State::Sent(nonce) = state {
            self.by_nonce.insert(nonce, *peer);
        }
    }

    fn forget_attempt(&mut self, outbox: &mut Outbox) {
        let attempt = std::mem::replace(&mut outbox.attempt, Attempt::None);
        if let Some(nonce) = attempt.nonce() {
            self.by_nonce.remove(&nonce);
        }
    }
}

impl Outbox {
    /// Chooses what goes into a handshake packet with room for `room` bytes: the first that waits and is not longer.
    pub(super) fn carry(&mut self, room: usize) -> Option<Bytes> {
        let request = self
            .requests
            .iter_mut()
            .find(|request| request.state == State::Waiting && request.plaintext.len() <= room)?;
        request.state = State::Carried;
        Some(request.plaintext.clone())
    }
}

impl Pending {
    fn nonce(&self) -> Option<Nonce> {
        match self.state {
            State::Sent(nonce) => Some(nonce),
            State::Waiting | State::Carried | State::Spent => None,
        }
    }

    /// Waits again; returns the nonce it had been sent with.
    fn leave(&mut self) -> Option<Nonce> {
        let nonce = self.nonce();
        self.state = State::Waiting;
        nonce
    }
}

impl Attempt {
    fn nonce(&self) -> Option<Nonce> {
        match self {
            Self::None => None,
            Self::Asked(nonce) | Self::Answering(nonce) => Some(*nonce),
            Self::Answered(answer) => Some(answer.nonce),
        }
    }
}
