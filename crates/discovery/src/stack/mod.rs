//! The node's discovery as one machine at the level of datagrams, discv4 and discv5 side by side: what may come in, whose it
//! is, the codec of the one and the sessions of the other around one core, and the node's own record. Sockets, threads, the
//! database and the clock are left to the driver; in a simulation there are none.
//!
//! # How to drive it
//!
//! As any [`Machine`], with [`StackInput::Datagram`] for what arrives; everything happens inside then. Who has threads to
//! spare takes the dear part of each datagram out as a job:
//!
//! ```text
//!  datagram ─▶ admit ─▶ open ─▶ poll_job ─▶ StackJob::run ─▶ complete ─▶ poll_job ─▶ …
//!              source    cheap              any thread
//! ```
//!
//! From the cheapest check to the dearest: the source's network and its rate; one AES block for the protocol; for discv4 a hash,
//! layout, time and whether a reply is waited for, then the key; for discv5 a header, a session's cipher, for an answer whether
//! it is waited for, then the signatures of records that were not seen before. A datagram leads to one job at a time. Those of
//! one sender should wait for each other, so that what follows a handshake finds its session.
//!
//! After every call drain [`poll`](Machine::poll): it is an error to let outputs wait, as they are bounded only by what one call
//! can bring about.

mod io;
mod job;
mod own;
mod records;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::BytesMut;
use rand::RngExt;
use tercet_enode::{NodeId, NodeRecord, SecretKey, canonical_ip};
use tercet_machine::{Machine, MachineRng, MonoTime, Now, Outputs};

pub use self::io::{StackConfig, StackCounters, StackInput, StackOutput};
pub use self::job::{StackDone, StackJob};

use self::job::{Answer, Work, WorkResult};
use self::records::{RecordCache, Seen};
use crate::core::{CoreInput, CoreOutput, DiscoveryCore, Refused};
use crate::engine::{Protocol, Protocols};
use crate::kad::{Table, TableSnapshot};
use crate::local::{EntryError, LocalNode};
use crate::mux::Demux;
use crate::policy::Families;
use crate::v4::codec::{self, UnverifiedPacket};
use crate::v4::{self, Token};
use crate::v5::{
    self, Opened, Response, SessionCounters, SessionInput, SessionOutput, Sessions, SessionsConfig,
    WireMessage,
};

/// See the module's documentation.
#[derive(Debug)]
pub struct NodeStack {
    protocols: Protocols,
    demux: Demux,
    local: LocalNode,
    core: DiscoveryCore,
    sessions: Sessions,
    records: RecordCache,
    counters: StackCounters,
    jobs: VecDeque<StackJob>,
    /// While a discv4 packet is handled, what it is answered with, to be signed as a job.
    replies: Option<Vec<(SocketAddr, v4::Message)>>,
    out: Outputs<StackOutput>,
}

impl NodeStack {
    /// A stack for the node of `key`, whose record was last published with `stored_seq`; due at `now`.
    ///
    /// # Errors
    /// [`EntryError`] if there can be no such record.
    pub fn new(
        config: StackConfig,
        key: SecretKey,
        stored_seq: Option<u64>,
        now: Now,
    ) -> Result<Self, EntryError> {
        let mut rng = MachineRng::from_seed(config.core.seed);
        let local = own::local_node(&config, key.clone(), (stored_seq, now), &mut rng)?;
        let record = local.record().clone();
        let [v4, v6] = config.listen.map(|listen| listen.is_some());
        let mut core = config.core;
        core.seed = rng.random();
        core.families = Families { v4, v6 };
        let sessions = SessionsConfig {
            sessions: config.sessions,
            ..SessionsConfig::new(rng.random())
        };
        let mut stack = Self {
            protocols: core.protocols,
            demux: Demux::new(&record.id()),
            core: DiscoveryCore::new(core, record.clone(), now),
            sessions: Sessions::new(sessions, key, record.clone()),
            records: RecordCache::new(&mut rng.child("records")),
            counters: StackCounters::default(),
            jobs: VecDeque::new(),
            replies: None,
            out: Outputs::new(),
            local,
        };
        stack.store_seq(&record);
        Ok(stack)
    }

    /// This node's record.
    #[must_use]
    pub const fn record(&self) -> &NodeRecord {
        self.local.record()
    }

    /// The table, to read.
    #[must_use]
    pub const fn table(&self) -> &Table {
        self.core.table()
    }

    /// A copy of the table for others.
    #[must_use]
    pub fn snapshot(&self) -> TableSnapshot {
        self.core.snapshot()
    }

    /// The core, to read.
    #[must_use]
    pub const fn core(&self) -> &DiscoveryCore {
        &self.core
    }

    /// The discv5 sessions, to read.
    #[must_use]
    pub const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// What has been counted here; the core and the sessions count apart.
    #[must_use]
    pub const fn counters(&self) -> StackCounters {
        self.counters
    }

    /// What the sessions have counted.
    #[must_use]
    pub const fn session_counters(&self) -> SessionCounters {
        *self.sessions.counters()
    }

    /// First check of a datagram, by its source; only of an address that was asked something and exceeds its rate by what it
    /// shows, if that is cheap.
    ///
    /// # Errors
    /// The reason to drop it; it has been counted.
    pub fn admit(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) -> Result<(), Refused> {
        let from = canonical(from);
        let Self {
            core,
            demux,
            sessions,
            protocols,
            ..
        } = self;
        core.admit_or(now, from, |core| match demux.protocol(datagram) {
            protocol if !protocols.contains(protocol) => false,
            Protocol::V4 => core.proves_v4(now, from, datagram),
            Protocol::V5 => sessions.proves(now, from, datagram),
        })
    }

    /// Takes in a datagram that was admitted, as far as that is cheap. See [`poll_job`](Self::poll_job) for the rest.
    pub fn open(&mut self, now: Now, from: SocketAddr, datagram: BytesMut) {
        let from = canonical(from);
        match self.demux.protocol(&datagram) {
            protocol if !self.protocols.contains(protocol) => self.counters.not_served += 1,
            Protocol::V4 => self.open_v4(now, from, &datagram),
            Protocol::V5 => {
                if let Opened::Verify(job) = self.sessions.open(now, from, datagram) {
                    let work = Work::Handshake(job);
                    self.jobs.push_back(StackJob { from, work });
                }
                self.drain(now);
            }
        }
    }

    /// Work that the last call of [`open`](Self::open) or [`complete`](Self::complete) left to be done.
    pub fn poll_job(&mut self) -> Option<StackJob> {
        self.jobs.pop_front()
    }

    /// Takes what a job came to.
    pub fn complete(&mut self, now: Now, StackDone { from, result }: StackDone) {
        match result {
            WorkResult::V4(checked) => match *checked {
                Ok(packet) => self.on_packet(now, from, packet),
                Err(error) => self.undecodable(from, &error),
            },
            WorkResult::Replies(signed) => {
                for (to, datagram) in signed {
                    self.out.push(StackOutput::Datagram { to, datagram });
                }
            }
            WorkResult::Handshake(result) => self.sessions.complete(now, *result),
            WorkResult::Records(answer) => self.on_records(now, from, answer),
        }
        self.drain(now);
    }

    fn open_v4(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) {
        match UnverifiedPacket::parse(datagram) {
            Ok(packet) => {
                if self.core.screen(now, from.ip(), &packet).is_ok() {
                    let work = Work::V4(Box::new(packet));
                    self.jobs.push_back(StackJob { from, work });
                }
                self.drain(now);
            }
            Err(error) => self.undecodable(from, &error),
        }
    }

    fn on_packet(&mut self, now: Now, from: SocketAddr, packet: codec::Packet) {
        self.replies = Some(Vec::new());
        let input = CoreInput::V4Packet {
            from,
            key: packet.key,
            hash: packet.hash,
            message: packet.message,
        };
        self.core.handle(now, input);
        self.drain(now);
        if let Some(replies) = self.replies.take().filter(|replies| !replies.is_empty()) {
            let work = Work::Replies(self.local.key().clone(), replies);
            self.jobs.push_back(StackJob { from, work });
        }
    }

    fn undecodable(&mut self, from: SocketAddr, error: &codec::DecodeError) {
        self.counters.undecodable += 1;
        tracing::trace!(%from, %error, "datagram dropped");
    }

    /// A message has come out of a session.
    fn on_message(&mut self, now: Now, from: SocketAddr, id: NodeId, message: WireMessage) {
        if self.core.screen_v5(from, id, &message).is_err() {
            return;
        }
        let message = match message {
            v5::Message::Request(request, ask) => v5::Message::Request(request, ask),
            v5::Message::Response(request, answer) => match answer {
                Response::Pong { enr_seq, recipient } => {
                    v5::Message::Response(request, Response::Pong { enr_seq, recipient })
                }
                Response::Talk { payload } => {
                    v5::Message::Response(request, Response::Talk { payload })
                }
                Response::Nodes { total, records } => {
                    let records: Vec<Seen> = records
                        .into_iter()
                        .map(|record| self.records.look_up(record))
                        .collect();
                    let answer = Answer {
                        id,
                        request,
                        total,
                        records,
                    };
                    self.check_records(now, from, answer);
                    return;
                }
            },
        };
        let input = CoreInput::V5Message { from, id, message };
        self.core.handle(now, input);
    }

    /// Hands out the check of an answer's records, unless every one was seen before.
    fn check_records(&mut self, now: Now, from: SocketAddr, answer: Answer<Vec<Seen>>) {
        let new = |seen: &&Seen| matches!(seen, Seen::New(_));
        let unseen = answer.records.iter().filter(new).count() as u64;
        self.counters.records_checked += unseen;
        self.counters.records_known += answer.records.len() as u64 - unseen;
        let work = Work::Records(answer);
        let job = StackJob { from, work };
        if unseen > 0 {
            self.jobs.push_back(job);
        } else if let WorkResult::Records(answer) = job.run().result {
            self.on_records(now, from, answer);
        }
    }

    /// The records of an answer have been checked. One that is not its node's own is left out; the rest is as good as it was.
    fn on_records(
        &mut self,
        now: Now,
        from: SocketAddr,
        answer: Answer<Vec<Result<NodeRecord, tercet_enode::RecordError>>>,
    ) {
        let mut records = Vec::with_capacity(answer.records.len());
        for checked in answer.records {
            match checked {
                Ok(record) => {
                    self.records.insert(&record);
                    records.push(record);
                }
                Err(error) => {
                    self.counters.records_bad += 1;
                    tracing::trace!(%from, %error, "record left out of an answer");
                }
            }
        }
        let total = answer.total;
        let nodes = Response::Nodes { total, records };
        let message = v5::Message::Response(answer.request, nodes);
        let id = answer.id;
        self.core
            .handle(now, CoreInput::V5Message { from, id, message });
    }

    /// Passes on what the parts put out, until they have nothing left.
    fn drain(&mut self, now: Now) {
        loop {
            if let Some(output) = self.core.poll() {
                self.on_core_output(now, output);
            } else if let Some(output) = self.sessions.poll() {
                self.on_session_output(now, output);
            } else {
                break;
            }
        }
    }

    fn on_core_output(&mut self, now: Now, output: CoreOutput) {
        match output {
            CoreOutput::V4Send { to, message, token } => self.on_v4_send(now, to, message, token),
            CoreOutput::V5Send { to, node, message } => {
                let peer = node;
                self.sessions
                    .handle(now, SessionInput::Send { to, peer, message });
            }
            CoreOutput::Write(write) => self.out.push(StackOutput::Write(write)),
            CoreOutput::LoadSeeds { count, max_age } => {
                self.out.push(StackOutput::LoadSeeds { count, max_age });
            }
            CoreOutput::Done { op, result } => {
                self.out.push(StackOutput::Done { op, result });
            }
            CoreOutput::Vote { voter, seen_as } => self.on_vote(now, voter, seen_as),
            CoreOutput::Unsolicited { from } => self.on_contact(now, from),
            CoreOutput::TalkRequest(message) => {
                self.out.push(StackOutput::TalkRequest(message));
            }
            CoreOutput::Expired => self.out.push(StackOutput::SuspectClock),
        }
    }

    fn on_v4_send(&mut self, now: Now, to: SocketAddr, message: v4::Message, token: Option<Token>) {
        let is_ping = matches!(message, v4::Message::Ping(_));
        match (&mut self.replies, token) {
            // Nobody waits to hear the hash of a reply.
            (Some(replies), None) => replies.push((to, message)),
            // A question is asked because the pong before it proves this end. It must not overtake it: whoever has no proof yet
            // drops the question.
            (Some(replies), Some(_)) if !is_ping => {
                for (to, reply) in std::mem::take(replies) {
                    self.send_v4(now, to, &reply, None);
                }
                self.send_v4(now, to, &message, token);
            }
            _ => self.send_v4(now, to, &message, token),
        }
    }

    fn send_v4(&mut self, now: Now, to: SocketAddr, message: &v4::Message, token: Option<Token>) {
        let (datagram, hash) = codec::encode(self.local.key(), message);
        if let Some(token) = token {
            self.core.handle(now, CoreInput::V4Sent { token, hash });
        }
        self.out.push(StackOutput::Datagram { to, datagram });
    }

    fn on_session_output(&mut self, now: Now, output: SessionOutput) {
        match output {
            SessionOutput::Send { to, datagram } => {
                self.out.push(StackOutput::Datagram { to, datagram });
            }
            SessionOutput::Message { from, id, message } => {
                self.on_message(now, from, id, message);
            }
            SessionOutput::Established {
                from,
                id,
                record,
                inbound,
            } => {
                if let Some(record) = &record {
                    self.records.insert(record);
                }
                let input = CoreInput::V5Session {
                    from,
                    id,
                    record,
                    inbound,
                };
                self.core.handle(now, input);
            }
            SessionOutput::Unknown { from, id, nonce } => {
                let known = self.newest_record(&id);
                let challenge = SessionInput::Challenge {
                    from,
                    id,
                    nonce,
                    known,
                };
                self.sessions.handle(now, challenge);
            }
        }
    }

    /// What is known of a node's record: what the table has, or an answer brought lately.
    fn newest_record(&self, id: &NodeId) -> Option<NodeRecord> {
        let tabled = self.core.table().known(id).and_then(|node| node.record());
        let seen = self.records.get(id);
        tabled
            .into_iter()
            .chain(seen)
            .max_by_key(|record| record.seq())
            .cloned()
    }
}

impl Machine for NodeStack {
    type Input = StackInput;
    type Output = StackOutput;

    fn handle(&mut self, now: Now, input: StackInput) {
        match input {
            StackInput::Datagram { from, datagram } => {
                if self.admit(now, from, &datagram).is_ok() {
                    self.open(now, from, datagram);
                    while let Some(job) = self.poll_job() {
                        self.complete(now, job.run());
                    }
                }
            }
            StackInput::Command { op, command } => {
                self.core.handle(now, CoreInput::Command { op, command });
            }
            StackInput::TalkResponse(response) => {
                self.core.handle(now, CoreInput::TalkResponse(response));
            }
            StackInput::Seeds(seeds) => self.core.handle(now, CoreInput::Seeds(seeds)),
            StackInput::Close => self.core.handle(now, CoreInput::Close),
        }
        self.drain(now);
    }

    fn handle_timeout(&mut self, now: Now) {
        self.core.handle_timeout(now);
        self.sessions.handle_timeout(now);
        self.local_timeout(now);
        self.drain(now);
    }

    fn deadline(&self) -> Option<MonoTime> {
        [
            self.core.deadline(),
            self.sessions.deadline(),
            self.local.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn poll(&mut self) -> Option<StackOutput> {
        self.out.pop()
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(canonical_ip(address.ip()), address.port())
}
