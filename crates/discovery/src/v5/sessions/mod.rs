//! All discv5 sessions of a node as one machine: decrypts, challenges, shakes hands and encrypts. It knows no table and answers
//! no request; who asks for what is the engine's business.
//!
//! Datagrams take one of two ways. As [`SessionInput::Datagram`] everything happens inside. A driver with threads to spare calls
//! [`Sessions::open`] instead: it gets the curve work of a handshake, either side's, as a [`HandshakeJob`], runs that anywhere
//! and hands the result to [`Sessions::complete`]. A job that is lost costs its handshake and nothing else.
//!
//! What a stranger can make this machine do is bounded by [`MAX_CHALLENGES`], [`MAX_SUBNET_CHALLENGES`] and [`MAX_TRIES`];
//! what the node itself can, by [`MAX_QUEUED`] and [`MAX_NODE_QUEUED`]. Nothing that cannot be authenticated
//! changes a session.

mod challenges;
mod counters;
mod handshake;
mod job;
mod outbox;
mod proof;
mod send;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use tercet_enode::{NodeId, NodeRecord, SecretKey};
use tercet_machine::{BoundedLru, KeyedState, Machine, MachineRng, MonoTime, Now, Outputs};

use self::challenges::Challenges;
pub use self::challenges::{CHALLENGE_LIFETIME, MAX_CHALLENGES, MAX_SUBNET_CHALLENGES, MAX_TRIES};
pub use self::counters::{SessionCounters, SessionDrop};
pub use self::job::{HandshakeJob, HandshakeResult};
use self::job::{Outcome, Work};
use self::outbox::Outboxes;
pub use self::outbox::{
    MAX_NODE_REQUESTS as MAX_NODE_QUEUED, MAX_REQUESTS as MAX_QUEUED, REQUEST_LIFETIME,
};
use super::codec::MessageError;
use super::message::{Message, WireMessage};
use super::packet::{Handshake, Kind, Mask, Packet, WhoAreYou, read, unmask};
use super::session::{Read, Session};
use super::session_io::{Nonce, SessionInput, SessionOutput};

/// Sessions kept unless configured otherwise; the least recently used goes. Several times what a table holds (17 buckets of
/// 16), so that a lookup's strangers do not push out its neighbours. A session takes 1.0 KB, and 0.7 KB more while former keys
/// are kept: 3.5 MB in all.
pub const DEFAULT_SESSIONS: usize = 2048;

/// What a session belongs to: a node at an address. A node that moves shakes hands again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct PeerKey {
    pub(crate) id: NodeId,
    pub(crate) addr: SocketAddr,
}

/// What [`Sessions`] are made with.
#[derive(Clone, Debug)]
pub struct SessionsConfig {
    /// Seed of all nonces and ephemeral keys: secret, and never used twice.
    pub seed: [u8; 32],
    /// Most sessions, [`DEFAULT_SESSIONS`] by default.
    pub sessions: usize,
}

impl SessionsConfig {
    /// The defaults.
    #[must_use]
    pub const fn new(seed: [u8; 32]) -> Self {
        Self {
            seed,
            sessions: DEFAULT_SESSIONS,
        }
    }
}

/// What became of a datagram.
#[derive(Debug)]
#[must_use]
pub enum Opened {
    /// It was dealt with; see [`Machine::poll`].
    Done,
    /// Run this and hand the result to [`Sessions::complete`]. Later datagrams of the same sender should wait for it.
    Verify(Box<HandshakeJob>),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Sessions {
    key: SecretKey,
    record: NodeRecord,
    mask: Mask,
    rng: MachineRng,
    sessions: BoundedLru<PeerKey, Session>,
    challenges: Challenges,
    outboxes: Outboxes,
    /// Challenges sent and handshakes sent or received so far: what came before what, even where the clock stands still.
    order: u64,
    counters: SessionCounters,
    out: Outputs<SessionOutput>,
}

impl Sessions {
    /// No sessions yet. `record` is signed by `key`.
    #[must_use]
    pub fn new(config: SessionsConfig, key: SecretKey, record: NodeRecord) -> Self {
        let mut rng = MachineRng::from_seed(config.seed);
        let state = KeyedState::new(&mut rng);
        Self {
            mask: Mask::new(&key.node_id()),
            challenges: Challenges::new(&mut rng.child("challenges")),
            outboxes: Outboxes::new(&mut rng.child("outboxes")),
            sessions: BoundedLru::new(config.sessions, state),
            rng: rng.child("packets"),
            order: 0,
            counters: SessionCounters::default(),
            out: Outputs::new(),
            key,
            record,
        }
    }

    /// Whether a datagram is a discv5 packet to this node; see [`Mask::covers`].
    #[must_use]
    pub fn covers(&self, datagram: &[u8]) -> bool {
        self.mask.covers(datagram)
    }

    /// Takes in a datagram, up to the curve work of a handshake.
    pub fn open(&mut self, now: Now, from: SocketAddr, datagram: BytesMut) -> Opened {
        self.expire(now.mono);
        match self.try_open(now.mono, from, datagram) {
            Ok(None) => Opened::Done,
            Ok(Some(job)) => Opened::Verify(Box::new(job)),
            Err(reason) => {
                self.counters.count(reason);
                Opened::Done
            }
        }
    }

    /// Takes the result of a job that [`open`](Self::open) gave out.
    pub fn complete(&mut self, now: Now, result: HandshakeResult) {
        self.expire(now.mono);
        let HandshakeResult {
            peer,
            challenge,
            outcome,
        } = result;
        let done = match outcome {
            Outcome::Failed(reason) => Err(reason),
            Outcome::Checked(checked) => self.on_checked(now.mono, peer, &challenge, *checked),
            Outcome::Answered(answered) => self.on_answered(now.mono, peer, &challenge, *answered),
        };
        if let Err(reason) = done {
            self.counters.count(reason);
        }
    }

    /// What happened so far.
    #[must_use]
    pub const fn counters(&self) -> &SessionCounters {
        &self.counters
    }

    /// How many sessions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// How many challenges wait for their handshake.
    #[must_use]
    pub fn challenges(&self) -> usize {
        self.challenges.len()
    }

    /// How many requests wait for a handshake or were sent within [`REQUEST_LIFETIME`] and not answered.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.outboxes.len()
    }

    fn try_open(
        &mut self,
        now: MonoTime,
        from: SocketAddr,
        mut datagram: BytesMut,
    ) -> Result<Option<HandshakeJob>, SessionDrop> {
        let head = unmask(&self.mask, &mut datagram)?;
        let packet = read(head, &mut datagram)?;
        match packet.kind {
            Kind::Ordinary { src } => {
                let peer = self.peer(src, from)?;
                self.on_ordinary(now, peer, packet)?;
                Ok(None)
            }
            Kind::WhoAreYou(WhoAreYou { enr_seq, .. }) => {
                let challenge = packet.head.try_into().map_err(|_| SessionDrop::BadHeader)?;
                self.on_whoareyou(now, from, packet.nonce, challenge, enr_seq)
            }
            Kind::Handshake(Handshake { src, .. }) => {
                let peer = self.peer(src, from)?;
                let challenge = match self.challenges.try_once(now, &peer) {
                    None => return Err(SessionDrop::NoChallenge),
                    Some(Err(())) => return Err(SessionDrop::TooManyTries),
                    Some(Ok(challenge)) => challenge,
                };
                Ok(Some(HandshakeJob {
                    peer,
                    local: self.key.clone(),
                    challenge: challenge.data,
                    work: Work::Check {
                        known: challenge.known.clone(),
                        packet: datagram,
                        head,
                    },
                }))
            }
        }
    }

    fn peer(&self, id: NodeId, addr: SocketAddr) -> Result<PeerKey, SessionDrop> {
        if id == self.key.node_id() {
            return Err(SessionDrop::OwnId);
        }
        Ok(PeerKey { id, addr })
    }

    fn on_ordinary(
        &mut self,
        now: MonoTime,
        peer: PeerKey,
        packet: Packet<'_>,
    ) -> Result<(), SessionDrop> {
        let opened = self
            .sessions
            .get_mut(&peer)
            .and_then(|session| session.open(now, packet.nonce, packet.head, packet.message));
        let Some((read, plaintext)) = opened else {
            return self.on_unreadable(now, peer, packet.nonce);
        };
        if read == Read::FirstProof {
            self.counters.outbound += 1;
            self.outboxes.abandon(now, &peer);
            self.established(peer, None, false);
        }
        self.on_message(now, peer, WireMessage::decode(plaintext))
    }

    /// Asks who it is. The session, if there is one, stays: the packet may be anybody's.
    fn on_unreadable(
        &mut self,
        now: MonoTime,
        peer: PeerKey,
        nonce: Nonce,
    ) -> Result<(), SessionDrop> {
        if !self.challenge_again(now, peer)? {
            let PeerKey { id, addr: from } = peer;
            self.out.push(SessionOutput::Unknown { from, id, nonce });
        }
        Ok(())
    }

    fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    fn established(&mut self, peer: PeerKey, record: Option<NodeRecord>, inbound: bool) {
        let PeerKey { id, addr: from } = peer;
        self.out.push(SessionOutput::Established {
            from,
            id,
            record,
            inbound,
        });
    }

    fn on_message(
        &mut self,
        now: MonoTime,
        peer: PeerKey,
        message: Result<WireMessage, MessageError>,
    ) -> Result<(), SessionDrop> {
        let message = message.map_err(|_| SessionDrop::BadMessage)?;
        if let Message::Response(id, _) = &message {
            self.outboxes.answered(now, &peer, *id);
        }
        self.counters.received += 1;
        let PeerKey { id, addr: from } = peer;
        self.out.push(SessionOutput::Message { from, id, message });
        Ok(())
    }

    fn send(&mut self, to: SocketAddr, datagram: Bytes) {
        self.out.push(SessionOutput::Send { to, datagram });
    }

    /// Everything that is over at `now`. Every call begins with it, so that a late timeout changes nothing.
    fn expire(&mut self, now: MonoTime) {
        self.challenges.expire(now);
        while let Some(expired) = self.outboxes.expire(now) {
            for _ in 0..expired.waited {
                self.counters.count(SessionDrop::Expired);
            }
            if expired.again {
                self.begin_again(now, expired.peer);
            }
        }
    }
}

impl Machine for Sessions {
    type Input = SessionInput;
    type Output = SessionOutput;

    fn handle(&mut self, now: Now, input: SessionInput) {
        self.expire(now.mono);
        let done = match input {
            SessionInput::Datagram { from, datagram } => {
                if let Opened::Verify(job) = self.open(now, from, datagram) {
                    self.complete(now, job.run());
                }
                Ok(())
            }
            SessionInput::Send { to, peer, message } => {
                self.handle_send(now.mono, to, peer, &message)
            }
            SessionInput::Challenge {
                from,
                id,
                nonce,
                known,
            } => match self.peer(id, from) {
                Ok(peer) => self.handle_challenge(now.mono, peer, nonce, known),
                Err(reason) => Err(reason),
            },
            SessionInput::LocalRecord(record) => {
                self.record = record;
                Ok(())
            }
        };
        if let Err(reason) = done {
            self.counters.count(reason);
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        self.expire(now.mono);
    }

    fn deadline(&self) -> Option<MonoTime> {
        let deadlines = [self.challenges.deadline(), self.outboxes.deadline()];
        deadlines.into_iter().flatten().min()
    }

    fn poll(&mut self) -> Option<SessionOutput> {
        self.out.pop()
    }
}
