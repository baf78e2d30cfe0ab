//! discv4 between this node and one other: who is bonded, what is asked of whom, which answers are still to come. It sends
//! and reads messages, never bytes; the table belongs to the core and is lent for each call.
//!
//! After every call drain [`poll_send`](V4Engine::poll_send) and [`poll_report`](V4Engine::poll_report); call
//! [`handle_timeout`](V4Engine::handle_timeout) at [`deadline`](V4Engine::deadline).

mod contact;
mod counters;
mod exchange;
mod late;
mod packets;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tercet_enode::{NodeId, NodeRecord};
use tercet_machine::{MachineRng, MonoTime, Now, Outputs};
use tercet_nodedb::{NodeMeta, Write};

pub use self::contact::{MAX_CONTACTS, MAX_INBOUND_CONTACTS, MAX_JOBS, MAX_WAITERS, Token};
pub use self::counters::{Drop, V4Counters};
pub use self::late::MAX_LATE;

use self::contact::Contacts;
use self::late::LateAnswers;
use super::bond::{Bond, Bonds, PeerKey};
use super::codec::UnverifiedPacket;
use super::message::{Message, MessageKind, PacketHash};
use crate::engine::{Asker, Question, Report, RequestError};
use crate::policy::Policy;

/// A message to send.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct V4Send {
    pub(crate) to: SocketAddr,
    pub(crate) message: Message,
    /// Set if the engine needs the packet's hash.
    pub(crate) token: Option<Token>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct V4Engine {
    policy: Policy,
    reply_timeout: Duration,
    /// It only comes to ask.
    guest: bool,
    record: NodeRecord,
    bonds: Bonds,
    contacts: Contacts,
    late: LateAnswers,
    counters: V4Counters,
    sends: Outputs<V4Send>,
    reports: Outputs<Report>,
}

impl V4Engine {
    /// An engine for the node `record` describes; a guest answers the pings of those alone whom it wants more of than a pong.
    pub(crate) fn new(
        policy: Policy,
        (reply_timeout, guest): (Duration, bool),
        record: NodeRecord,
        mut rng: MachineRng,
    ) -> Self {
        Self {
            policy,
            reply_timeout,
            guest,
            record,
            bonds: Bonds::new(&mut rng.child("bonds")),
            contacts: Contacts::new(&mut rng.child("contacts")),
            late: LateAnswers::default(),
            counters: V4Counters::default(),
            sends: Outputs::new(),
            reports: Outputs::new(),
        }
    }

    /// This node's record has changed.
    pub(crate) fn handle_local_record(&mut self, record: NodeRecord) {
        self.record = record;
    }

    /// What an earlier run knew about a node.
    pub(crate) fn restore(&mut self, node: &tercet_enode::Node, meta: &NodeMeta) {
        let bond = Bond {
            last_ping: meta.last_ping,
            last_pong: meta.last_pong,
            last_answer: None,
            find_failures: meta.find_failures,
        };
        self.bonds.restore(PeerKey::of(node), bond);
    }

    /// Asks a node. Once accepted, the question ends as [`Report`] says.
    ///
    /// # Errors
    /// [`RequestError::Own`], [`RequestError::NoAddress`], [`RequestError::Busy`] at a bound, [`RequestError::Unsupported`].
    pub(crate) fn ask(
        &mut self,
        now: Now,
        node: &tercet_enode::Node,
        question: Question,
        asker: Asker,
    ) -> Result<(), RequestError> {
        self.policy.usable(node)?;
        match question {
            Question::Ping if asker == Asker::Check => self.check(now, node),
            Question::Ping => self.ping_for(now, node, asker),
            Question::Find(target) => {
                let target = target
                    .try_into()
                    .map_err(|_unknown| RequestError::Unsupported)?;
                self.submit(now, node, contact::Job::Find { asker, target })
            }
            Question::Record => self.submit(now, node, contact::Job::Enr(asker)),
            Question::Distances(_) | Question::Talk { .. } => Err(RequestError::Unsupported),
        }
    }

    /// The hash of the packet made from the send with this token.
    pub(crate) fn handle_sent(&mut self, token: Token, hash: PacketHash) {
        self.contacts.on_sent(token, hash);
    }

    /// First check of a packet, before the key recovery that costs as much as everything else: its time, and for a reply
    /// whether anybody waits for it.
    ///
    /// # Errors
    /// The reason to drop it; it has been counted.
    pub(crate) fn screen(
        &mut self,
        now: Now,
        from: IpAddr,
        packet: &UnverifiedPacket,
    ) -> Result<(), Drop> {
        let expected = self.expects(now.mono, from, packet.kind(), packet.answers());
        let verdict = if packet.expiration().is_some_and(|at| is_expired(at, now)) {
            Err(Drop::Expired)
        } else if !expected {
            Err(Drop::Unsolicited)
        } else {
            Ok(())
        };
        self.counted(verdict)
    }

    /// Whether a message of this kind from this host, which quotes `answers`, can be of use. Requests always can.
    pub(crate) fn expects(
        &self,
        now: MonoTime,
        from: IpAddr,
        kind: MessageKind,
        answers: Option<PacketHash>,
    ) -> bool {
        self.contacts.expects(from, kind, answers)
            || (kind == MessageKind::Neighbors && self.late.expects(now, from))
    }

    /// Whether the ping of a node on this host, or of `id` there, is waited for to ask that node something.
    pub(crate) fn awaits_ping(&self, from: IpAddr, id: Option<&NodeId>) -> bool {
        self.contacts.awaits_ping(from, id)
    }

    /// Ends what has waited long enough.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        while let Some((peer, slot)) = self.contacts.pop_expired(now.mono) {
            self.on_contact_timeout(now, peer, slot);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        self.contacts.deadline()
    }

    /// What is to be sent, in order.
    pub(crate) fn poll_send(&mut self) -> Option<V4Send> {
        self.sends.pop()
    }

    /// What is to be told, in order.
    pub(crate) fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop()
    }

    /// What has been counted so far.
    pub(crate) const fn counters(&self) -> V4Counters {
        self.counters
    }

    /// Exchanges under way, at most [`MAX_CONTACTS`].
    pub(crate) fn contacts(&self) -> usize {
        self.contacts.len()
    }

    fn counted(&mut self, verdict: Result<(), Drop>) -> Result<(), Drop> {
        if let Err(drop) = verdict {
            self.counters.count(drop);
        }
        verdict
    }

    fn send(&mut self, to: SocketAddr, message: Message, token: Option<Token>) {
        self.counters.sent += 1;
        self.sends.push(V4Send { to, message, token });
    }

    fn report(&mut self, report: Report) {
        self.reports.push(report);
    }

    fn write(&mut self, write: Write) {
        self.report(Report::Write(write));
    }
}

/// Unix seconds compared as signed 64-bit numbers, as every client does: a value above `i64::MAX` lies in
/// the past.
fn is_expired(expiration: u64, now: Now) -> bool {
    expiration.cast_signed() < now.unix.as_secs().cast_signed()
}

#[cfg(test)]
mod access {
    //! What tests of the core look at.

    use super::*;

    impl V4Engine {
        pub(crate) fn late_len(&self) -> usize {
            self.late.len()
        }

        pub(crate) fn find_asker(&mut self, node: &tercet_enode::Node) -> Option<Asker> {
            let contact = self.contacts.get_mut(&PeerKey::of(node))?;
            contact.find.map(|find| find.asker)
        }
    }
}
