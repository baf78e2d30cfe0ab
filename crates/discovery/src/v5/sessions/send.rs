//! What this node sends: responses over the session that is there, requests over it or behind the handshake they begin.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use rand::RngExt;
use tercet_enode::PublicKey;
use tercet_machine::MonoTime;

use super::outbox::{Attempt, State};
use super::{PeerKey, SessionDrop, Sessions};
use crate::v5::codec::MAX_MESSAGE;
use crate::v5::message::{Message, RequestId};
use crate::v5::packet::{Draft, Kind, Mask, ORDINARY_OVERHEAD, handshake_len};
use crate::v5::session::put_random;
use crate::v5::session_io::{Nonce, V5Peer};

impl Sessions {
    pub(super) fn handle_send(
        &mut self,
        now: MonoTime,
        to: SocketAddr,
        peer: V5Peer,
        message: &Message,
    ) -> Result<(), SessionDrop> {
        let key = self.peer(peer.id, to)?;
        if message.encoded_len() > MAX_MESSAGE {
            return Err(SessionDrop::TooLong);
        }
        match message {
            Message::Response(..) => self.send_response(now, &key, message),
            Message::Request(id, _) => {
                let plaintext = encode(message);
                self.send_request(now, key, peer.key, *id, plaintext)
            }
        }
    }

    fn send_response(
        &mut self,
        now: MonoTime,
        peer: &PeerKey,
        message: &Message,
    ) -> Result<(), SessionDrop> {
        let src = self.key.node_id();
        let session = self.sessions.get_mut(peer).ok_or(SessionDrop::NoSession)?;
        let (mask, keys) = session.answering(now);
        let iv = self.rng.random();
        let (nonce, cipher) = keys.next(&mut self.rng).ok_or(SessionDrop::WornOut)?;
        let len = ORDINARY_OVERHEAD + message.encoded_len();
        let mut draft = Draft::with_capacity(len, &iv, nonce, &Kind::Ordinary { src });
        message.encode(draft.message());
        let datagram = draft.seal(mask, cipher);
        self.counters.sent += 1;
        self.send(peer.addr, datagram);
        Ok(())
    }

    fn send_request(
        &mut self,
        now: MonoTime,
        peer: PeerKey,
        key: Option<PublicKey>,
        id: RequestId,
        plaintext: Bytes,
    ) -> Result<(), SessionDrop> {
        let session = self.sessions.peek(&peer);
        if session.is_some_and(|session| !session.is_worn()) {
            let nonce = self.send_plaintext(&peer, &plaintext)?;
            // Where there is no room to remember it, it is sent all the same.
            let sent = (id, plaintext, State::Sent(nonce));
            let _ = self.outboxes.push(now, peer, key, sent);
            return Ok(());
        }
        let key = key.or(session.map(|session| session.key));
        let key = Some(key.ok_or(SessionDrop::NoKey)?);
        let waiting = (id, plaintext, State::Waiting);
        self.outboxes.push(now, peer, key, waiting)?;
        self.begin(now, peer);
        Ok(())
    }

    /// Sends a packet nobody can read, unless a handshake is on its way: its answer is a WHOAREYOU.
    pub(super) fn begin(&mut self, now: MonoTime, peer: PeerKey) {
        let attempt = self.outboxes.get(now, &peer).map(|outbox| &outbox.attempt);
        if !matches!(attempt, Some(Attempt::None | Attempt::Answered(_))) {
            return;
        }
        self.outboxes.abandon(now, &peer);
        let nonce = Nonce::new(self.rng.random());
        self.outboxes.asked(now, &peer, nonce);
        self.send_random(peer, nonce);
    }

    /// Does so once more, for requests that wait still.
    pub(super) fn begin_again(&mut self, now: MonoTime, peer: PeerKey) {
        match self.outboxes.ask_again(now, &peer) {
            Some(nonce) => self.send_random(peer, nonce),
            None => self.begin(now, peer),
        }
    }

    fn send_random(&mut self, peer: PeerKey, nonce: Nonce) {
        let src = self.key.node_id();
        let iv = self.rng.random();
        let mut draft =
            Draft::with_capacity(2 * ORDINARY_OVERHEAD, &iv, nonce, &Kind::Ordinary { src });
        put_random(draft.message(), &mut self.rng);
        let datagram = draft.mask(&Mask::new(&peer.id));
        self.send(peer.addr, datagram);
    }

    /// Sends what waits for the session that is now there.
    pub(super) fn flush(&mut self, now: MonoTime, peer: PeerKey) {
        for plaintext in self.outboxes.waiting(now, &peer) {
            if let Err(reason) = self.send_plaintext(&peer, &plaintext) {
                self.counters.count(reason);
            }
        }
    }

    fn send_plaintext(&mut self, peer: &PeerKey, plaintext: &[u8]) -> Result<Nonce, SessionDrop> {
        let src = self.key.node_id();
        let (nonce, datagram) = self.seal(peer, &Kind::Ordinary { src }, plaintext)?;
        self.counters.sent += 1;
        self.send(peer.addr, datagram);
        Ok(nonce)
    }

    pub(super) fn seal(
        &mut self,
        peer: &PeerKey,
        kind: &Kind<'_>,
        plaintext: &[u8],
    ) -> Result<(Nonce, Bytes), SessionDrop> {
        let session = self.sessions.get_mut(peer).ok_or(SessionDrop::NoSession)?;
        let (mask, keys) = session.current();
        let iv = self.rng.random();
        let (nonce, cipher) = keys.next(&mut self.rng).ok_or(SessionDrop::WornOut)?;
        let record = match kind {
            Kind::Handshake(handshake) => handshake.record.len(),
            Kind::Ordinary { .. } | Kind::WhoAreYou(_) => 0,
        };
        let len = handshake_len(record, plaintext.len());
        let mut draft = Draft::with_capacity(len, &iv, nonce, kind);
        draft.message().extend_from_slice(plaintext);
        Ok((nonce, draft.seal(mask, cipher)))
    }
}

pub(super) fn encode(message: &Message) -> Bytes {
    let mut plaintext = BytesMut::with_capacity(message.encoded_len());
    message.encode(&mut plaintext);
    plaintext.freeze()
}
