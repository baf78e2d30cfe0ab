//! The discv4 state machine: who is bonded, what is asked of whom, which lookups run, when the table is
//! checked and refreshed. It sends and reads messages, never bytes: hashing, signing and recovering keys
//! stay in the codec, so a simulation can run thousands of these without a single curve operation.
//!
//! # How to drive it
//!
//! 1. [`V4Core::new`]; its deadline is due at once and starts the first refresh.
//! 2. For a datagram: [`V4Core::admit`] by source, then parse, then [`V4Core::screen`], and only then
//!    recover the key and [`handle`](Machine::handle) a [`V4Input::Packet`]. Without datagrams only the last
//!    step is needed.
//! 3. After every call drain [`poll`](Machine::poll):
//!    - [`V4Output::Send`]: deliver the message. If it has a `token`, hand back the packet's hash at once
//!      with [`V4Input::Sent`]: replies are matched by it. The receiver's `Packet` carries the same hash. Any
//!      unique 32 bytes will do where nothing is signed, a counter for instance.
//!    - [`V4Output::LoadSeeds`]: answer with [`V4Input::Seeds`], empty without a database.
//!    - [`V4Output::Write`]: what the database should remember; may be dropped.
//!    - [`V4Output::Done`]: the end of the operation with that [`OpId`]; every accepted command ends with exactly one.
//! 4. Call [`handle_timeout`](Machine::handle_timeout) at [`deadline`](Machine::deadline).

mod command;
mod contact;
mod exchange;
mod late;
mod lookups;
mod packets;
mod refresh;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use tercet_enode::{AddressClass, Node, NodeRecord, PublicKey};
use tercet_machine::{Machine, MachineRng, MonoTime, Now, Quota, RateLimiter, Subnet};
use tercet_nodedb::{Seed, Write};

pub use self::command::{Command, Found, OpId, PongInfo, Reply, RequestError};
pub use self::contact::{MAX_CONTACTS, MAX_INBOUND_CONTACTS, MAX_JOBS, MAX_WAITERS, Token};
pub use self::late::MAX_LATE;
pub use self::lookups::MAX_LOOKUPS;

use self::contact::Contacts;
use self::late::LateAnswers;
use self::lookups::Lookups;
use self::refresh::Refresh;
use super::bond::Bonds;
use super::codec::UnverifiedPacket;
use super::message::{Message, MessageKind, PacketHash};
use crate::kad::{RevalidationConfig, Table, TableSnapshot};

/// Packets a second one network (IPv4 /24, IPv6 /64) may send for long. A node in the middle of lookups
/// exchanges about five with each of its peers.
pub const SOURCE_RATE: u32 = 20;

/// Packets one network may send at once.
pub const SOURCE_BURST: u32 = 200;

/// Networks whose rate is kept, about 64 bytes each; see [`RateLimiter`] for what happens beyond.
const MAX_SOURCES: usize = 4096;

/// How often live nodes are copied to the database, in the long run: after a start at 1, 2, 4 … seconds, so that a node
/// that is killed early has still learnt something.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);

/// The first of those intervals.
const FIRST_SAVE: Duration = Duration::from_secs(1);

/// How long a node must have stayed in the table to be copied, in the long run; before, half of the time since the start.
const SAVE_MIN_AGE: Duration = Duration::from_secs(5 * 60);

/// What a core is made with.
#[derive(Clone, Debug)]
pub struct V4Config {
    /// First contacts, offered to the table at every refresh. Default: none.
    pub bootnodes: Vec<Node>,
    /// Networks to which all contact is restricted. Default: no restriction.
    pub netrestrict: Option<Vec<IpNet>>,
    /// Longest time between two refreshes; each is drawn from its upper half. Default 30 min.
    pub refresh_interval: Duration,
    /// When nodes in the table are checked.
    pub revalidation: RevalidationConfig,
    /// How long a reply is waited for. Default 500 ms.
    pub reply_timeout: Duration,
    /// Seed of all the core's randomness.
    pub seed: [u8; 32],
}

impl V4Config {
    /// The defaults with this seed.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            bootnodes: Vec::new(),
            netrestrict: None,
            refresh_interval: Duration::from_secs(30 * 60),
            revalidation: RevalidationConfig::default(),
            reply_timeout: Duration::from_millis(500),
            seed,
        }
    }
}

/// What goes into a [`V4Core`].
#[derive(Clone, Debug)]
pub enum V4Input {
    /// A message arrived.
    Packet {
        /// The UDP source.
        from: SocketAddr,
        /// Who signed it.
        key: PublicKey,
        /// The packet's hash.
        hash: PacketHash,
        /// What it says.
        message: Message,
    },
    /// The hash of the packet made from the [`V4Output::Send`] with this token.
    Sent {
        /// The token of the output.
        token: Token,
        /// Hash of the packet.
        hash: PacketHash,
    },
    /// Answer to [`V4Output::LoadSeeds`].
    Seeds(Vec<Seed>),
    /// This node's record has changed.
    LocalRecord(NodeRecord),
    /// Something to do for a caller.
    Command {
        /// Chosen by the caller, unique among the operations under way.
        op: OpId,
        /// What to do.
        command: Command,
    },
    /// The node is about to stop: live nodes are written out.
    Close,
}

/// What comes out of a [`V4Core`].
#[derive(Clone, PartialEq, Debug)]
pub enum V4Output {
    /// Send a message.
    Send {
        /// The UDP destination.
        to: SocketAddr,
        /// What to send.
        message: Message,
        /// Set if the core needs the packet's hash: see [`V4Input::Sent`].
        token: Option<Token>,
    },
    /// Write to the database.
    Write(Write),
    /// Read seeds from the database.
    LoadSeeds {
        /// How many.
        count: usize,
        /// How long ago their last pong may be.
        max_age: Duration,
    },
    /// An operation has ended.
    Done {
        /// Which.
        op: OpId,
        /// How.
        result: Result<Reply, RequestError>,
    },
}

/// Why a packet was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Drop {
    /// The source's network sends too much.
    #[error("the source's network exceeds its rate")]
    Rate,
    /// The source is outside the networks this node is restricted to.
    #[error("the source is outside the permitted networks")]
    Restricted,
    /// Its time is over.
    #[error("expired")]
    Expired,
    /// A reply nobody waits for.
    #[error("unsolicited reply")]
    Unsolicited,
    /// A request from somebody who has not proven his address.
    #[error("no endpoint proof")]
    Unproven,
    /// Signed by this node's own key.
    #[error("from this node itself")]
    Own,
    /// Every place for an exchange is taken.
    #[error("too many exchanges")]
    Full,
}

/// Counts since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[allow(missing_docs)] // the names of `Drop`'s variants
pub struct V4Counters {
    /// Messages taken in.
    pub received: u64,
    /// Messages given out.
    pub sent: u64,
    /// Requests of ours that got no reply.
    pub timeouts: u64,
    pub dropped_rate: u64,
    pub dropped_restricted: u64,
    pub dropped_expired: u64,
    pub dropped_unsolicited: u64,
    pub dropped_unproven: u64,
    pub dropped_own: u64,
    pub dropped_full: u64,
}

impl V4Counters {
    fn count(&mut self, drop: Drop) {
        *match drop {
            Drop::Rate => &mut self.dropped_rate,
            Drop::Restricted => &mut self.dropped_restricted,
            Drop::Expired => &mut self.dropped_expired,
            Drop::Unsolicited => &mut self.dropped_unsolicited,
            Drop::Unproven => &mut self.dropped_unproven,
            Drop::Own => &mut self.dropped_own,
            Drop::Full => &mut self.dropped_full,
        } += 1;
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct V4Core {
    config: V4Config,
    record: NodeRecord,
    table: Table,
    bonds: Bonds,
    contacts: Contacts,
    late: LateAnswers,
    lookups: Lookups,
    refresh: Refresh,
    /// Nodes being resolved, by operation.
    resolving: BTreeMap<OpId, Node>,
    limiter: RateLimiter<Subnet>,
    started: MonoTime,
    save_at: MonoTime,
    counters: V4Counters,
    out: VecDeque<V4Output>,
}

impl V4Core {
    /// A core for the node `record` describes, due at `now`.
    #[must_use]
    pub fn new(config: V4Config, record: NodeRecord, now: Now) -> Self {
        let mut rng = MachineRng::from_seed(config.seed);
        let limiter = RateLimiter::new(Quota::per_second(SOURCE_RATE, SOURCE_BURST), MAX_SOURCES);
        Self {
            table: Table::new(record.id(), config.revalidation, rng.child("table")),
            bonds: Bonds::new(&mut rng.child("bonds")),
            contacts: Contacts::new(&mut rng.child("contacts")),
            late: LateAnswers::default(),
            lookups: Lookups::new(rng.child("lookups")),
            refresh: Refresh::new(now.mono, rng.child("refresh")),
            resolving: BTreeMap::new(),
            limiter,
            started: now.mono,
            save_at: now.mono + FIRST_SAVE,
            counters: V4Counters::default(),
            out: VecDeque::new(),
            config,
            record,
        }
    }

    /// This node's record.
    #[must_use]
    pub const fn record(&self) -> &NodeRecord {
        &self.record
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
    pub const fn counters(&self) -> V4Counters {
        self.counters
    }

    /// Exchanges under way, at most [`MAX_CONTACTS`].
    #[must_use]
    pub fn contacts(&self) -> usize {
        self.contacts.len()
    }

    /// First check of a datagram, by its source alone: the permitted networks and the rate of the source's
    /// network. Loopback and LAN addresses have no limit.
    ///
    /// # Errors
    /// The reason to drop it; it has been counted.
    pub fn admit(&mut self, now: Now, from: IpAddr) -> Result<(), Drop> {
        let verdict = if !self.permits(from) {
            Err(Drop::Restricted)
        } else if !AddressClass::of(from).is_lan()
            && !self.limiter.check(now.mono, &Subnet::of(from))
        {
            Err(Drop::Rate)
        } else {
            Ok(())
        };
        self.counted(verdict)
    }

    /// Second check, before the key recovery that costs as much as everything else: its time, and for a
    /// reply whether anybody waits for it.
    ///
    /// # Errors
    /// The reason to drop it; it has been counted.
    pub fn screen(
        &mut self,
        now: Now,
        from: IpAddr,
        packet: &UnverifiedPacket,
    ) -> Result<(), Drop> {
        let kind = packet.kind();
        let expected = self.contacts.expects(from, kind, packet.answers())
            || (kind == MessageKind::Neighbors && self.late.expects(now.mono, from));
        let verdict = if packet.expiration().is_some_and(|at| is_expired(at, now)) {
            Err(Drop::Expired)
        } else if !expected {
            Err(Drop::Unsolicited)
        } else {
            Ok(())
        };
        self.counted(verdict)
    }

    fn counted(&mut self, verdict: Result<(), Drop>) -> Result<(), Drop> {
        if let Err(drop) = verdict {
            self.counters.count(drop);
        }
        verdict
    }

    fn permits(&self, ip: IpAddr) -> bool {
        self.config
            .netrestrict
            .as_ref()
            .is_none_or(|nets| nets.iter().any(|net| net.contains(&ip)))
    }

    fn send(&mut self, to: SocketAddr, message: Message, token: Option<Token>) {
        self.counters.sent += 1;
        self.out.push_back(V4Output::Send { to, message, token });
    }

    fn write(&mut self, write: Write) {
        self.out.push_back(V4Output::Write(write));
    }

    fn done(&mut self, op: OpId, result: Result<Reply, RequestError>) {
        self.out.push_back(V4Output::Done { op, result });
    }

    fn save(&mut self, now: MonoTime, min_age: Duration) {
        for node in self.table.take_settled(now, min_age) {
            self.write(Write::Node(node));
        }
    }
}

impl Machine for V4Core {
    type Input = V4Input;
    type Output = V4Output;

    fn handle(&mut self, now: Now, input: V4Input) {
        match input {
            V4Input::Packet {
                from,
                key,
                hash,
                message,
            } => {
                if let Err(drop) = self.handle_packet(now, from, key, hash, message) {
                    self.counters.count(drop);
                }
            }
            V4Input::Sent { token, hash } => self.contacts.on_sent(token, hash),
            V4Input::Seeds(seeds) => self.handle_seeds(now, seeds),
            V4Input::LocalRecord(record) => self.record = record,
            V4Input::Command { op, command } => self.handle_command(now, op, command),
            V4Input::Close => self.save(now.mono, Duration::ZERO),
        }
        self.drive_lookups(now);
    }

    fn handle_timeout(&mut self, now: Now) {
        while let Some((peer, slot)) = self.contacts.pop_expired(now.mono) {
            self.on_contact_timeout(now, peer, slot);
        }
        self.lookups.on_timeout(now.mono);
        self.on_refresh_timeout(now);
        while let Some(node) = self.table.next_check(now.mono) {
            self.check(now, node);
        }
        if self.save_at <= now.mono {
            let running = now.mono - self.started;
            self.save_at = now.mono + running.min(SAVE_INTERVAL);
            self.save(now.mono, SAVE_MIN_AGE.min(running / 2));
        }
        self.drive_lookups(now);
    }

    fn deadline(&self) -> Option<MonoTime> {
        [
            self.contacts.deadline(),
            self.lookups.deadline(),
            self.refresh.deadline(),
            self.table.deadline(),
            Some(self.save_at),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn poll(&mut self) -> Option<V4Output> {
        self.out.pop_front()
    }
}

/// Unix seconds compared as signed 64-bit numbers, as every client does: a value above `i64::MAX` lies in
/// the past.
fn is_expired(expiration: u64, now: Now) -> bool {
    expiration.cast_signed() < now.unix.as_secs().cast_signed()
}
