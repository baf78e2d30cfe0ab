//! Both sides of a handshake, from the WHOAREYOU on: asking who somebody is, answering when asked, and taking in what came of it. The
//! curve work in between is `job`'s.

use std::net::SocketAddr;

use bytes::Bytes;
use rand::RngExt;
use tercet_enode::{NodeRecord, PublicKey};
use tercet_machine::MonoTime;

use super::job::{Answered, Checked, Work};
use super::outbox::{Answer, Attempt, Named};
use super::send::encode;
use super::{HandshakeJob, PeerKey, SessionDrop, Sessions};
use crate::v5::message::{Message, Request, RequestId};
use crate::v5::packet::{
    CHALLENGE_DATA, Draft, Handshake, Kind, MAX_PACKET, Mask, WhoAreYou, handshake_len,
};
use crate::v5::session::{Begun, KeySet, Session};
use crate::v5::session_io::Nonce;

impl Sessions {
    pub(super) fn handle_challenge(
        &mut self,
        now: MonoTime,
        peer: PeerKey,
        nonce: Nonce,
        known: Option<NodeRecord>,
    ) -> Result<(), SessionDrop> {
        if self.challenge_again(now, peer)? {
            return Ok(());
        }
        let known = known.filter(|record| record.id() == peer.id);
        let kind = Kind::WhoAreYou(WhoAreYou {
            id_nonce: self.rng.random(),
            enr_seq: known.as_ref().map_or(0, NodeRecord::seq),
        });
        let draft = Draft::with_capacity(CHALLENGE_DATA, &self.rng.random(), nonce, &kind);
        // Always that long: it is the head of a WHOAREYOU.
        let Ok(data) = draft.head().try_into() else {
            return Err(SessionDrop::BadHeader);
        };
        let order = self.next_order();
        if self.challenges.insert(now, peer, data, known, order) {
            self.counters.count(SessionDrop::Evicted);
        }
        self.counters.challenges += 1;
        self.send_challenge(peer, &data);
        Ok(())
    }

    /// Sends the challenge that waits for this peer's handshake again, if there is one.
    ///
    /// To the same bytes, whatever packet led to it, as go-ethereum does and expects: a peer that has several requests on their way
    /// would else begin a handshake for each, and the two ends could be left with the keys of different ones. So a node that has restarted
    /// within the second of a challenge is told of a packet it does not know any more, and heard when it asks again a second later.
    pub(super) fn challenge_again(
        &mut self,
        now: MonoTime,
        peer: PeerKey,
    ) -> Result<bool, SessionDrop> {
        if let Some(challenge) = self.challenges.get(now, &peer) {
            let data = challenge.data;
            self.counters.repeated += 1;
            self.send_challenge(peer, &data);
            return Ok(true);
        }
        if !self.challenges.has_room(peer.addr.ip()) {
            return Err(SessionDrop::SubnetFull);
        }
        Ok(false)
    }

    /// Masks the challenge, to the same bytes each time.
    fn send_challenge(&mut self, peer: PeerKey, data: &[u8; CHALLENGE_DATA]) {
        let datagram = Draft::from_head(data).mask(&Mask::new(&peer.id));
        self.send(peer.addr, datagram);
    }

    pub(super) fn on_whoareyou(
        &mut self,
        now: MonoTime,
        from: SocketAddr,
        nonce: Nonce,
        challenge: [u8; CHALLENGE_DATA],
        enr_seq: u64,
    ) -> Result<Option<HandshakeJob>, SessionDrop> {
        let (peer, key) = match self.outboxes.named(now, nonce, from, &challenge)? {
            Named::Begin(peer, key) => (peer, key),
            Named::Repeat(peer, datagram) => {
                self.send(peer.addr, datagram);
                self.flush(now, peer);
                return Ok(None);
            }
        };
        let known = || self.sessions.peek(&peer).map(|session| session.key);
        let Some(key) = key.or_else(known) else {
            self.outboxes.abandon(now, &peer);
            return Err(SessionDrop::NoKey);
        };
        let work = Work::Answer {
            key,
            enr_seq,
            seed: self.rng.random(),
        };
        Ok(Some(HandshakeJob {
            peer,
            local: self.key.clone(),
            challenge,
            work,
        }))
    }

    /// The other side's handshake holds.
    pub(super) fn on_checked(
        &mut self,
        now: MonoTime,
        peer: PeerKey,
        challenge: &[u8; CHALLENGE_DATA],
        checked: Checked,
    ) -> Result<(), SessionDrop> {
        let challenged = self.challenges.met(now, &peer, challenge);
        let challenged = challenged.ok_or(SessionDrop::Superseded)?;
        let begun = Begun::There { challenged };
        self.install(now, peer, checked.record.public_key(), checked.keys, begun);
        self.counters.inbound += 1;
        self.established(peer, Some(checked.record), true);
        self.outboxes.abandon(now, &peer);
        let understood = self.on_message(now, peer, checked.message);
        self.flush(now, peer);
        understood
    }

    /// The answer to a WHOAREYOU is ready.
    pub(super) fn on_answered(
        &mut self,
        now: MonoTime,
        peer: PeerKey,
        challenge: &[u8; CHALLENGE_DATA],
        answered: Answered,
    ) -> Result<(), SessionDrop> {
        let own = if answered.enr_seq < self.record.seq() {
            self.record.raw().clone()
        } else {
            Bytes::new()
        };
        let outbox = self
            .outboxes
            .get(now, &peer)
            .ok_or(SessionDrop::Superseded)?;
        let Attempt::Answering(nonce) = outbox.attempt else {
            return Err(SessionDrop::Superseded);
        };
        let room = MAX_PACKET - handshake_len(own.len(), 0);
        let plaintext = outbox.carry(room);
        self.install(now, peer, answered.key, answered.keys, Begun::Here);
        // A TALKREQ may be too long to go beside a record: a ping of our own takes its place, whose pong nobody waits for.
        let plaintext = plaintext.unwrap_or_else(|| self.filler());
        let handshake = Handshake {
            src: self.key.node_id(),
            signature: answered.signature,
            ephemeral: answered.ephemeral,
            record: &own,
        };
        let kind = Kind::Handshake(handshake);
        let datagram = self
            .seal(&peer, &kind, &plaintext)
            .map(|(_, datagram)| datagram)?;
        if let Some(outbox) = self.outboxes.get(now, &peer) {
            outbox.attempt = Attempt::Answered(Answer {
                nonce,
                challenge: *challenge,
                datagram: datagram.clone(),
                sent: now,
                repeats: 0,
            });
        }
        self.counters.sent += 1;
        self.send(peer.addr, datagram);
        self.flush(now, peer);
        Ok(())
    }

    fn filler(&mut self) -> Bytes {
        let id = self.rng.random::<u64>().to_be_bytes();
        let enr_seq = self.record.seq();
        let ping: Message = Message::Request(
            RequestId::new(&id).unwrap_or_default(),
            Request::Ping { enr_seq },
        );
        encode(&ping)
    }

    fn install(
        &mut self,
        now: MonoTime,
        peer: PeerKey,
        key: PublicKey,
        keys: KeySet,
        begun: Begun,
    ) {
        let order = self.next_order();
        match self.sessions.get_mut(&peer) {
            Some(session) => session.replace(now, order, keys, begun),
            None => {
                let session = Session::new(order, &self.key.node_id(), &peer.id, key, keys);
                self.sessions.insert(peer, session);
            }
        }
    }
}
