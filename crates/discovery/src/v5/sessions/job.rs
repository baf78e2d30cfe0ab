//! The curve work of a handshake, as a job that owns all it needs and can run on any thread. The machine hands it out and
//! takes its result back; what it means is decided there.

use std::net::SocketAddr;

use bytes::BytesMut;
use tercet_enode::{NodeId, NodeRecord, PublicKey, SecretKey, Signature, UnverifiedRecord};
use tercet_machine::MachineRng;

use super::PeerKey;
use super::counters::SessionDrop;
use crate::v5::codec::MessageError;
use crate::v5::crypto::{SessionKeys, sign_identity, verify_identity};
use crate::v5::message::WireMessage;
use crate::v5::packet::{CHALLENGE_DATA, Handshake, Kind, read};
use crate::v5::session::KeySet;

/// Curve work to be done before [`Sessions::complete`](super::Sessions::complete).
#[derive(Debug)]
pub struct HandshakeJob {
    pub(super) peer: PeerKey,
    pub(super) local: SecretKey,
    pub(super) challenge: [u8; CHALLENGE_DATA],
    pub(super) work: Work,
}

#[derive(Debug)]
pub(super) enum Work {
    /// Checks a handshake: one signature if it is forged, otherwise a key agreement and a record's signature more.
    Check {
        /// The record of the sender that is known.
        known: Option<NodeRecord>,
        /// The packet, unmasked.
        packet: BytesMut,
        /// How much of it is in front of the message.
        head: usize,
    },
    /// Answers a WHOAREYOU: an ephemeral key, a key agreement and a signature.
    Answer {
        key: PublicKey,
        enr_seq: u64,
        seed: [u8; 32],
    },
}

/// What became of a [`HandshakeJob`].
#[derive(Debug)]
pub struct HandshakeResult {
    pub(super) peer: PeerKey,
    pub(super) challenge: [u8; CHALLENGE_DATA],
    pub(super) outcome: Outcome,
}

#[derive(Debug)]
pub(super) enum Outcome {
    Failed(SessionDrop),
    Checked(Box<Checked>),
    Answered(Box<Answered>),
}

/// A handshake that holds.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) keys: KeySet,
    pub(super) record: NodeRecord,
    pub(super) message: Result<WireMessage, MessageError>,
}

/// What goes into the handshake packet.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) keys: KeySet,
    pub(super) key: PublicKey,
    pub(super) enr_seq: u64,
    pub(super) ephemeral: [u8; 33],
    pub(super) signature: Signature,
}

impl HandshakeJob {
    /// The other side's address, for a driver that keeps the order of each sender's packets.
    #[must_use]
    pub fn from(&self) -> SocketAddr {
        self.peer.addr
    }

    /// Whether it answers a WHOAREYOU, which this node has asked for by sending a packet.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        matches!(self.work, Work::Answer { .. })
    }

    /// Does the work: some 100 µs of one core.
    #[must_use]
    pub fn run(self) -> HandshakeResult {
        let Self {
            peer,
            local,
            challenge,
            work,
        } = self;
        let outcome = match work {
            Work::Check {
                known,
                mut packet,
                head,
            } => match check(&peer.id, &local, &challenge, known, &mut packet, head) {
                Ok(checked) => Outcome::Checked(Box::new(checked)),
                Err(reason) => Outcome::Failed(reason),
            },
            Work::Answer { key, enr_seq, seed } => Outcome::Answered(Box::new(answer(
                &peer.id, &local, &challenge, key, enr_seq, seed,
            ))),
        };
        HandshakeResult {
            peer,
            challenge,
            outcome,
        }
    }
}

/// The identity proof comes first: a forger makes us pay for that and for nothing else.
fn check(
    remote: &NodeId,
    local: &SecretKey,
    challenge: &[u8; CHALLENGE_DATA],
    known: Option<NodeRecord>,
    packet: &mut [u8],
    head: usize,
) -> Result<Checked, SessionDrop> {
    let packet = read(head, packet)?;
    let Kind::Handshake(handshake) = packet.kind else {
        return Err(SessionDrop::BadHeader);
    };
    let newer = newer_record(remote, known.as_ref(), &handshake)?;
    let key = match (&newer, &known) {
        (Some(newer), _) => newer.public_key(),
        (None, Some(known)) => known.public_key(),
        (None, None) => return Err(SessionDrop::NoRecord),
    };
    let local_id = local.node_id();
    let (signature, ephemeral) = (&handshake.signature, &handshake.ephemeral);
    if !verify_identity(&key, signature, challenge, ephemeral, &local_id) {
        return Err(SessionDrop::BadProof);
    }
    let newer = newer.map(UnverifiedRecord::verify).transpose();
    let record = match newer.map_err(|_| SessionDrop::BadRecord)? {
        Some(newer) => newer,
        None => known.ok_or(SessionDrop::NoRecord)?,
    };
    let ephemeral = PublicKey::from_compressed(ephemeral).map_err(|_| SessionDrop::BadProof)?;
    let keys = SessionKeys::derive(local, &ephemeral, remote, &local_id, challenge);
    let keys = KeySet::recipient(&keys);
    let plaintext = keys
        .opener()
        .open(packet.nonce, packet.head, packet.message)
        .map_err(|_| SessionDrop::Undecryptable)?;
    Ok(Checked {
        message: WireMessage::decode(plaintext),
        keys,
        record,
    })
}

/// The record in the packet, if it is newer than what is known; its key is the sender's, its signature still to be checked.
fn newer_record(
    remote: &NodeId,
    known: Option<&NodeRecord>,
    handshake: &Handshake<'_>,
) -> Result<Option<UnverifiedRecord>, SessionDrop> {
    if handshake.record.is_empty() {
        return Ok(None);
    }
    let record = UnverifiedRecord::decode(handshake.record).map_err(|_| SessionDrop::BadRecord)?;
    if record.id() != *remote {
        return Err(SessionDrop::BadRecord);
    }
    let is_newer = known.is_none_or(|known| record.seq() > known.seq());
    Ok(is_newer.then_some(record))
}

fn answer(
    remote: &NodeId,
    local: &SecretKey,
    challenge: &[u8; CHALLENGE_DATA],
    key: PublicKey,
    enr_seq: u64,
    seed: [u8; 32],
) -> Answered {
    let secret = SecretKey::generate(&mut MachineRng::from_seed(seed));
    let ephemeral = secret.public_key().to_compressed();
    let keys = SessionKeys::derive(&secret, &key, &local.node_id(), remote, challenge);
    Answered {
        keys: KeySet::initiator(&keys),
        key,
        enr_seq,
        signature: sign_identity(local, challenge, &ephemeral, remote),
        ephemeral,
    }
}
