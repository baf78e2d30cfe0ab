//! The state machine behind both protocols: one table, when it is checked and refreshed, which lookups run, what callers
//! asked for. How one node is asked one question is the engines' business, `v4::engine` and `v5::engine`; bytes, keys and
//! sessions are the codecs'. So a simulation can run thousands of these without a single curve operation.
//!
//! # How to drive it
//!
//! 1. [`DiscoveryCore::new`]; its deadline is due at once and starts the first refresh.
//! 2. For a datagram: [`DiscoveryCore::admit`] by source. Then, for discv4, parse, [`DiscoveryCore::screen`], and only then
//!    recover the key and [`handle`](Machine::handle) a [`CoreInput::V4Packet`]. Without datagrams only the last step is
//!    needed.
//!    For a discv5 session that was made: a [`CoreInput::V5Session`]. For a message out of a session:
//!    [`DiscoveryCore::screen_v5`], then verify the signatures of its records, then a [`CoreInput::V5Message`].
//! 3. After every call drain [`poll`](Machine::poll):
//!    - [`CoreOutput::V4Send`]: deliver the message. If it has a `token`, hand back the packet's hash at once with
//!      [`CoreInput::V4Sent`]: replies are matched by it. The receiver's `V4Packet` carries the same hash. Any unique 32 bytes
//!      will do where nothing is signed, a counter for instance.
//!    - [`CoreOutput::V5Send`]: deliver the message over the session with that node, after a handshake if there is none.
//!    - [`CoreOutput::TalkRequest`]: answer with [`CoreInput::TalkResponse`] in any case, sometime.
//!    - [`CoreOutput::LoadSeeds`]: answer with [`CoreInput::Seeds`], empty without a database.
//!    - [`CoreOutput::Write`]: what the database should remember; may be dropped.
//!    - [`CoreOutput::Done`]: the end of the operation with that [`OpId`]; every accepted command ends with exactly one.
//! 4. Call [`handle_timeout`](Machine::handle_timeout) at [`deadline`](Machine::deadline).

mod ask;
mod clock;
mod command;
mod io;
mod lookups;
mod newer;
mod refresh;
mod reports;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tercet_enode::{Node, NodeId, NodeRecord};
use tercet_machine::{BoundedLru, KeyedState, Machine, MachineRng, MonoTime, Now, Outputs};
use tercet_nodedb::Write;

pub use self::ask::MAX_REPEATS;
pub use self::clock::{SUSPICION_COOLDOWN, SUSPICIOUS};
pub use self::command::{Command, FindTarget, Found, MAX_OPS, OpId, Reply, RequestError};
pub use self::io::{CoreConfig, CoreCounters, CoreInput, CoreOutput, Refused};
pub use self::lookups::MAX_LOOKUPS;
pub use self::newer::MAX_CLAIMS;

use self::ask::Repeats;
use self::clock::Suspicion;
use self::command::Operation;
use self::lookups::Lookups;
use self::newer::Claims;
use self::refresh::Refresh;
use crate::engine::{Protocol, Report};
use crate::gate::Gate;
use crate::kad::{Table, TableSnapshot};
use crate::policy::Policy;
use crate::v4::codec::UnverifiedPacket;
use crate::v4::engine::V4Engine;
use crate::v4::{self, MessageKind};
use crate::v5::engine::{V5Engine, V5Send};
use crate::v5::{self, WireMessage};

/// Hosts that are remembered as asked, about 100 bytes each.
const MAX_INVITED: usize = 4096;

/// How often live nodes are copied to the database, in the long run: after a start at 1, 2, 4 … seconds, so that a node
/// that is killed early has still learnt something.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);

/// The first of those intervals.
const FIRST_SAVE: Duration = Duration::from_secs(1);

/// How long a node must have stayed in the table to be copied, in the long run; before, half of the time since the start.
const SAVE_MIN_AGE: Duration = Duration::from_secs(5 * 60);

/// See the module's documentation.
#[derive(Debug)]
pub struct DiscoveryCore {
    config: CoreConfig,
    policy: Policy,
    record: NodeRecord,
    table: Table,
    v4: V4Engine,
    v5: V5Engine,
    /// Hosts that were asked something: who comes from there was invited.
    invited: BoundedLru<IpAddr, ()>,
    /// How many of them were new, of IPv4 and of IPv6, and not taken yet.
    strangers: [u64; 2],
    lookups: Lookups,
    refresh: Refresh,
    ops: BTreeMap<OpId, Operation>,
    /// Nodes being resolved, by operation.
    resolving: BTreeMap<OpId, Node>,
    repeats: Repeats,
    claims: Claims,
    /// The same of nodes that have no place in the table, apart, so that they push nobody out.
    homeless: Claims,
    suspicion: Suspicion,
    gate: Gate,
    saving: Saving,
    counters: CoreCounters,
    out: Outputs<CoreOutput>,
}

#[derive(Debug)]
struct Saving {
    started: MonoTime,
    next: MonoTime,
}

impl DiscoveryCore {
    /// A core for the node `record` describes, due at `now`.
    #[must_use]
    pub fn new(mut config: CoreConfig, record: NodeRecord, now: Now) -> Self {
        // A guest who knows nobody goes round when it is asked to. By itself it would begin with the first who answers it, and give him
        // the proof of address for which he takes it for a node.
        let first_refresh = if config.guest && config.bootnodes.is_empty() {
            now.mono + config.refresh_interval
        } else {
            now.mono
        };
        let mut rng = MachineRng::from_seed(config.seed);
        let policy = Policy::new(record.id(), config.netrestrict.as_deref(), config.families);
        for node in &mut config.bootnodes {
            *node = policy.reachable(node.clone());
        }
        Self {
            table: Table::new(record.id(), config.revalidation, rng.child("table")),
            v4: V4Engine::new(
                policy.clone(),
                (config.reply_timeout, config.guest),
                record.clone(),
                rng.child("v4"),
            ),
            v5: V5Engine::new(
                policy.clone(),
                config.v5_reply_timeout,
                record.clone(),
                rng.child("v5"),
            ),
            invited: BoundedLru::new(MAX_INVITED, KeyedState::new(&mut rng.child("invited"))),
            strangers: [0; 2],
            lookups: Lookups::new(rng.child("lookups")),
            refresh: Refresh::new(first_refresh, rng.child("refresh")),
            ops: BTreeMap::new(),
            resolving: BTreeMap::new(),
            repeats: Repeats::default(),
            claims: Claims::new(&mut rng.child("claims")),
            homeless: Claims::new(&mut rng.child("homeless")),
            suspicion: Suspicion::default(),
            gate: Gate::new(policy.clone(), &mut rng.child("gate")),
            saving: Saving {
                started: now.mono,
                next: now.mono + FIRST_SAVE,
            },
            counters: CoreCounters::default(),
            out: Outputs::new(),
            config,
            policy,
            record,
        }
    }

    /// This node's record.
    #[must_use]
    pub const fn record(&self) -> &NodeRecord {
        &self.record
    }

    /// How many hosts of IPv4 and of IPv6 were asked for the first time since the last call.
    pub(crate) fn take_strangers(&mut self) -> [u64; 2] {
        std::mem::take(&mut self.strangers)
    }

    /// The table, to read.
    #[must_use]
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// Whether the first refresh is over.
    #[must_use]
    pub const fn has_joined(&self) -> bool {
        self.refresh.has_joined()
    }

    /// A copy of the table for others.
    #[must_use]
    pub fn snapshot(&self) -> TableSnapshot {
        self.table.snapshot()
    }

    /// What has been counted so far.
    #[must_use]
    pub const fn counters(&self) -> CoreCounters {
        CoreCounters {
            v4: self.v4.counters(),
            v5: self.v5.counters(),
            ..self.counters
        }
    }

    /// discv4 exchanges under way, at most [`MAX_CONTACTS`](crate::v4::MAX_CONTACTS).
    #[must_use]
    pub fn contacts(&self) -> usize {
        self.v4.contacts()
    }

    /// discv5 requests under way, at most [`MAX_REQUESTS`](crate::v5::MAX_REQUESTS).
    #[must_use]
    pub fn requests(&self) -> usize {
        self.v5.requests()
    }

    /// First check of a datagram, by its source alone: the permitted networks, and the rate of the source's network or, if
    /// something was asked of the source within the last seconds, its own. Loopback and LAN addresses have no limit.
    ///
    /// # Errors
    /// The reason to drop it; it has been counted.
    pub fn admit(&mut self, now: Now, from: SocketAddr) -> Result<(), Refused> {
        self.admit_or(now, from, |_| false)
    }

    /// As [`admit`](Self::admit), but of an address that was asked something what `proves` to be an answer is let in beyond its
    /// rate. `from` is canonical.
    pub(crate) fn admit_or(
        &mut self,
        now: Now,
        from: SocketAddr,
        proves: impl FnOnce(&mut Self) -> bool,
    ) -> Result<(), Refused> {
        let mut verdict = self.gate.admit(now, from);
        if verdict == Err(Refused::Rate) && self.gate.is_asked(now.mono, from) && proves(self) {
            self.counters.proven += 1;
            verdict = Ok(());
        }
        match verdict {
            Err(Refused::Rate) => self.counters.refused_rate += 1,
            Err(Refused::Restricted) => self.counters.refused_restricted += 1,
            Ok(()) => {}
        }
        verdict
    }

    /// Whether a discv4 packet from an asked address can be an answer that is waited for: it quotes the request, or, where
    /// answers do not, its key may be tried; or the ping that has to come before an answer.
    pub(crate) fn proves_v4(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) -> bool {
        let Some((kind, answers)) = v4::codec::peek(datagram) else {
            return false;
        };
        if kind == MessageKind::Ping {
            return self.v4.awaits_ping(from.ip(), None) && self.gate.try_ping(now.mono, from);
        }
        !kind.is_request()
            && self.v4.expects(now.mono, from.ip(), kind, answers)
            && (answers.is_some() || self.gate.try_key(now.mono, from))
    }

    /// Whether to answer a ping: where a flood comes in the name of its address, only one that is waited for.
    fn may_answer_ping(&self, now: Now, from: SocketAddr, id: &NodeId) -> bool {
        !self.gate.is_flooded(now.mono, from) || self.v4.awaits_ping(from.ip(), Some(id))
    }

    /// Second check of a discv4 packet, before the key recovery that costs as much as everything else: its time, and for a
    /// reply whether anybody waits for it.
    ///
    /// # Errors
    /// The reason to drop it; it has been counted.
    pub fn screen(
        &mut self,
        now: Now,
        from: IpAddr,
        packet: &UnverifiedPacket,
    ) -> Result<(), v4::Drop> {
        let verdict = self.v4.screen(now, from.to_canonical(), packet);
        self.judge(now, verdict);
        verdict
    }

    /// First check of a discv5 message that has come out of a session, before the signatures of its records are paid for.
    ///
    /// # Errors
    /// The reason to drop it; it has been counted.
    pub fn screen_v5(
        &mut self,
        from: SocketAddr,
        id: NodeId,
        message: &WireMessage,
    ) -> Result<(), v5::Drop> {
        self.v5.screen(from, id, message)
    }

    fn judge(&mut self, now: Now, verdict: Result<(), v4::Drop>) {
        match verdict {
            Err(v4::Drop::Expired) => self.suspicion.on_expired(),
            Ok(()) => self.suspicion.on_valid(),
            Err(_) => {}
        }
        self.voice_suspicion(now);
    }

    fn voice_suspicion(&mut self, now: Now) {
        if self.suspicion.take(now.mono) {
            self.out.push(CoreOutput::Expired);
        }
    }

    fn write(&mut self, write: Write) {
        self.out.push(CoreOutput::Write(write));
    }

    fn done(&mut self, op: OpId, result: Result<Reply, RequestError>) {
        self.out.push(CoreOutput::Done { op, result });
    }

    fn save(&mut self, now: MonoTime, min_age: Duration) {
        for node in self.table.take_settled(now, min_age) {
            self.write(Write::Node(node));
        }
    }

    /// Takes in what the engines have to tell, asks what the lookups want to know, until nothing is left to do; then hands
    /// out what the engines send.
    fn settle(&mut self, now: Now) {
        loop {
            while let Some((protocol, report)) = self.poll_report() {
                self.on_report(now, protocol, report);
            }
            if !self.drive_lookups(now) {
                break;
            }
        }
        while let Some(send) = self.v4.poll_send() {
            let v4::engine::V4Send { to, message, token } = send;
            if message.kind().is_request() {
                self.gate.on_asked(now, to);
            }
            self.out.push(CoreOutput::V4Send { to, message, token });
        }
        while let Some(send) = self.v5.poll_send() {
            let V5Send { to, peer, message } = send;
            if matches!(message, v5::Message::Request(..)) {
                self.gate.on_asked(now, to);
            }
            let node = peer;
            self.out.push(CoreOutput::V5Send { to, node, message });
        }
        self.voice_suspicion(now);
    }

    fn poll_report(&mut self) -> Option<(Protocol, Report)> {
        let v4 = self.v4.poll_report().map(|report| (Protocol::V4, report));
        v4.or_else(|| self.v5.poll_report().map(|report| (Protocol::V5, report)))
    }
}

impl Machine for DiscoveryCore {
    type Input = CoreInput;
    type Output = CoreOutput;

    fn handle(&mut self, now: Now, input: CoreInput) {
        match input {
            CoreInput::V4Packet {
                from,
                key,
                hash,
                message,
            } => {
                let is_ping = message.kind() == MessageKind::Ping;
                if is_ping && !self.may_answer_ping(now, from, &key.node_id()) {
                    self.counters.refused_rate += 1;
                } else if self.config.protocols.contains(Protocol::V4) {
                    let verdict =
                        self.v4
                            .handle_packet(now, &self.table, from, (key, hash), message);
                    self.judge(now, verdict);
                }
            }
            CoreInput::V4Sent { token, hash } => self.v4.handle_sent(token, hash),
            CoreInput::V5Session {
                from,
                id,
                record,
                inbound,
            } => {
                if self.config.protocols.contains(Protocol::V5) {
                    self.v5
                        .handle_session(&self.table, from, id, record, inbound);
                }
            }
            CoreInput::V5Message { from, id, message } => {
                if self.config.protocols.contains(Protocol::V5) {
                    // What is dropped has been counted; there is nothing to tell anybody.
                    let _dropped = self.v5.handle_message(now, &self.table, from, id, message);
                }
            }
            CoreInput::TalkResponse(response) => self.v5.handle_talk_response(response),
            CoreInput::Seeds(seeds) => self.handle_seeds(now, seeds),
            CoreInput::LocalRecord(record) => {
                self.v4.handle_local_record(record.clone());
                self.v5.handle_local_record(record.clone());
                self.record = record;
            }
            CoreInput::Command { op, command } => self.handle_command(now, op, command),
            CoreInput::Close => self.save(now.mono, Duration::ZERO),
        }
        self.settle(now);
    }

    fn handle_timeout(&mut self, now: Now) {
        self.v4.handle_timeout(now);
        self.v5.handle_timeout(now);
        self.lookups.on_timeout(now.mono);
        self.on_refresh_timeout(now);
        while let Some(node) = self.table.next_check(now.mono) {
            self.check(now, &node);
        }
        let saving = &mut self.saving;
        if saving.next <= now.mono {
            let running = now.mono - saving.started;
            saving.next = now.mono + running.min(SAVE_INTERVAL);
            self.save(now.mono, SAVE_MIN_AGE.min(running / 2));
        }
        self.settle(now);
    }

    fn deadline(&self) -> Option<MonoTime> {
        [
            self.v4.deadline(),
            self.v5.deadline(),
            self.lookups.deadline(),
            self.refresh.deadline(),
            self.table.deadline(),
            Some(self.saving.next),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn poll(&mut self) -> Option<CoreOutput> {
        self.out.pop()
    }
}
