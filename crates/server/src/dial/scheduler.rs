//! The dial scheduler: which static node is due, whether a candidate from
//! discovery may be dialed, how many dials may run.
//!
//! Slots: dials in flight for candidates are at most
//! `min(2 × (max_dialed − dialed), max_active) − active`, so that slots fill
//! quickly although most dials fail; what arrives beyond `max_dialed` is refused
//! at admission. Static nodes ignore `max_dialed` but not `max_active`.

use std::collections::VecDeque;
use std::time::Duration;

use rand::RngExt;
use tercet_enode::{AddressClass, Endpoint, Node, NodeAddress, NodeId};
use tercet_machine::{KeyedMap, KeyedState, MachineRng, MonoTime, TimerSet};

use super::backoff::Backoff;
use super::history::History;
use super::task::{DialKind, DialTarget, DialTask, ResolveTask, target_of};
use crate::admission::Netrestrict;
use crate::core::ConnId;
use crate::error::CommandError;
use crate::event::DialError;
use crate::limits::MAX_NAMED_NODES;

/// Candidates refused in a row after which discovery is left alone for
/// a second: in a small network the same few nodes come round at
/// once, and asking on would spin.
pub const MAX_CANDIDATE_RUN: u32 = 32;
/// How long discovery is left alone then.
const CANDIDATE_PAUSE: Duration = Duration::from_secs(1);
/// First wait after discovery could not resolve a static node.
const RESOLVE_FIRST: Duration = Duration::from_secs(60);
/// Longest such wait.
const RESOLVE_MAX: Duration = Duration::from_secs(3600);
/// A node the user named is never left alone for more than this many redial
/// intervals (about 5 min), whatever it said.
const STATIC_MAX_INTERVALS: u32 = 8;
/// Addresses on loopback and LAN are exempt from inbound throttles, so of the
/// 35 s only the 5 s of slack remain.
const LAN_SHARE: u32 = 7;

/// What the scheduler needs to know of the connections.
pub(crate) trait Known {
    /// The node is a peer, or about to be.
    fn connected(&self, id: &NodeId) -> bool;
    /// Peers we dialed.
    fn dialed(&self) -> usize;
    /// Dials in flight.
    fn active(&self) -> usize;
    /// A dial to the node is in flight.
    fn dialing(&self, id: &NodeId) -> bool;
}

/// Why a node is not dialed now, in the order the checks are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DialRefusal {
    /// It is this node.
    #[error("that is this node")]
    Itself,
    /// It has no TCP port.
    #[error("no TCP port")]
    NoPort,
    /// A dial to it is under way.
    #[error("already dialing")]
    AlreadyDialing,
    /// It is a peer.
    #[error("already connected")]
    AlreadyConnected,
    /// Its address is outside the allowed networks.
    #[error("address outside the allowed networks")]
    NotAllowed,
    /// It was dialed, or failed, too short a time ago.
    #[error("recently dialed")]
    RecentlyDialed,
    /// No dial slot is free.
    #[error("no free slot")]
    NoSlot,
}

/// The scheduler's fixed rules.
#[derive(Debug, Clone)]
pub(crate) struct DialRules {
    pub(crate) local: NodeId,
    pub(crate) max_dialed: usize,
    pub(crate) max_active: usize,
    pub(crate) redial: Duration,
    pub(crate) netrestrict: Netrestrict,
    /// Discovery is there to resolve static nodes.
    pub(crate) can_resolve: bool,
}

/// A node the user named.
#[derive(Debug)]
struct StaticNode {
    address: NodeAddress,
    /// Where discovery found it, when that was needed.
    resolved: Option<Endpoint>,
    resolve_wait: Duration,
    resolve_at: MonoTime,
    resolving: bool,
}

impl StaticNode {
    fn target(&self) -> Option<DialTarget> {
        match self.resolved {
            Some(endpoint) => endpoint.tcp_addr().map(DialTarget::Addr),
            None => target_of(&self.address),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct DialScheduler {
    rules: DialRules,
    statics: KeyedMap<NodeId, StaticNode>,
    /// When each static node that is neither ready nor connected comes up again.
    timers: TimerSet<NodeId>,
    ready: VecDeque<NodeId>,
    history: History,
    refused_in_a_row: u32,
    pause_until: Option<MonoTime>,
    rng: MachineRng,
}

impl DialScheduler {
    pub(crate) fn new(rules: DialRules, mut rng: MachineRng) -> Self {
        let hasher = KeyedState::new(&mut rng);
        Self {
            rules,
            statics: KeyedMap::with_hasher(hasher),
            timers: TimerSet::new(),
            ready: VecDeque::new(),
            history: History::new(hasher),
            refused_in_a_row: 0,
            pause_until: None,
            rng,
        }
    }

    /// Adds a node to stay connected to; it is due at once. Naming a node
    /// again replaces its address.
    pub(crate) fn add_static(
        &mut self,
        now: MonoTime,
        address: NodeAddress,
    ) -> Result<(), CommandError> {
        let id = address.id();
        if id == self.rules.local {
            return Err(CommandError::Itself);
        }
        if let Some(DialTarget::Addr(addr)) = target_of(&address)
            && !self.rules.netrestrict.allows(addr.ip())
        {
            return Err(CommandError::NotAllowed);
        }
        if !self.statics.contains_key(&id) && self.statics.len() >= MAX_NAMED_NODES {
            return Err(CommandError::Full);
        }
        let node = StaticNode {
            address,
            resolved: None,
            resolve_wait: RESOLVE_FIRST,
            resolve_at: now,
            resolving: false,
        };
        self.statics.insert(id, node);
        self.make_ready(id);
        Ok(())
    }

    /// Forgets a static node; false when it was none.
    pub(crate) fn remove_static(&mut self, id: &NodeId) -> bool {
        self.timers.cancel(id);
        self.ready.retain(|ready| ready != id);
        self.statics.remove(id).is_some()
    }

    pub(crate) fn is_static(&self, id: &NodeId) -> bool {
        self.statics.contains_key(id)
    }

    /// Moves static nodes whose time has come to the ready list.
    pub(crate) fn handle_timeout(&mut self, now: MonoTime) {
        while let Some(id) = self.timers.pop_expired(now) {
            self.make_ready(id);
        }
        if self.pause_until.is_some_and(|until| until <= now) {
            self.pause_until = None;
            self.refused_in_a_row = 0;
        }
    }

    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        [self.timers.deadline(), self.pause_until]
            .into_iter()
            .flatten()
            .min()
    }

    /// How many more candidates discovery should deliver now.
    pub(crate) fn wanted(&self, known: &impl Known) -> usize {
        if self.pause_until.is_some() {
            return 0;
        }
        self.free_slots(known)
    }

    fn free_slots(&self, known: &impl Known) -> usize {
        let open = self.rules.max_dialed.saturating_sub(known.dialed()) * 2;
        open.min(self.rules.max_active)
            .saturating_sub(known.active())
    }

    /// A node from discovery: dialed now or not at all.
    pub(crate) fn handle_candidate(
        &mut self,
        now: MonoTime,
        conn: ConnId,
        node: &Node,
        known: &impl Known,
    ) -> Result<DialTask, DialRefusal> {
        let checked = self.check_candidate(now, node, known);
        match checked {
            Ok(_) => self.refused_in_a_row = 0,
            Err(_) => {
                self.refused_in_a_row += 1;
                if self.refused_in_a_row >= MAX_CANDIDATE_RUN {
                    self.pause_until = Some(now + CANDIDATE_PAUSE);
                }
            }
        }
        let target = checked?;
        self.history
            .on_started(now, node.id(), self.interval(&target));
        Ok(DialTask {
            conn,
            id: node.id(),
            key: node.public_key(),
            node: Some(node.clone()),
            target,
            kind: DialKind::Dynamic,
        })
    }

    fn check_candidate(
        &self,
        now: MonoTime,
        node: &Node,
        known: &impl Known,
    ) -> Result<DialTarget, DialRefusal> {
        let target = node.endpoint().tcp_addr().map(DialTarget::Addr);
        let target = self.check(now, &node.id(), target, known)?;
        if self.free_slots(known) == 0 {
            return Err(DialRefusal::NoSlot);
        }
        Ok(target)
    }

    /// The checks every dial passes, in the order of [`DialRefusal`].
    fn check(
        &self,
        now: MonoTime,
        id: &NodeId,
        target: Option<DialTarget>,
        known: &impl Known,
    ) -> Result<DialTarget, DialRefusal> {
        if *id == self.rules.local {
            return Err(DialRefusal::Itself);
        }
        let target = target.ok_or(DialRefusal::NoPort)?;
        if known.dialing(id) {
            return Err(DialRefusal::AlreadyDialing);
        }
        if known.connected(id) {
            return Err(DialRefusal::AlreadyConnected);
        }
        if let DialTarget::Addr(addr) = &target
            && !self.rules.netrestrict.allows(addr.ip())
        {
            return Err(DialRefusal::NotAllowed);
        }
        if self.history.not_before(now, id).is_some() {
            return Err(DialRefusal::RecentlyDialed);
        }
        Ok(target)
    }

    /// The next static node's work, while the dials in flight leave room.
    /// Call until it returns `None`.
    pub(crate) fn poll(
        &mut self,
        now: MonoTime,
        conn: ConnId,
        known: &impl Known,
    ) -> Option<StaticWork> {
        while known.active() < self.rules.max_active {
            let id = self.ready.pop_front()?;
            let Some(node) = self.statics.get(&id) else {
                continue;
            };
            let (key, target) = (node.address.public_key(), node.target());
            let contact = node.address.to_node();
            match self.check(now, &id, target, known) {
                Ok(target) => {
                    self.history.on_started(now, id, self.interval(&target));
                    let (node, kind) = (contact, DialKind::Static);
                    return Some(StaticWork::Dial(DialTask {
                        conn,
                        id,
                        key,
                        node,
                        target,
                        kind,
                    }));
                }
                Err(DialRefusal::NoPort) => {
                    if let Some(task) = self.try_resolve(now, id) {
                        return Some(StaticWork::Resolve(task));
                    }
                    self.wait_for_resolve(now, id);
                }
                // It comes back when that connection or dial ends.
                Err(DialRefusal::AlreadyDialing | DialRefusal::AlreadyConnected) => {}
                Err(DialRefusal::RecentlyDialed) => {
                    let at = self.history.not_before(now, &id).unwrap_or(now);
                    self.timers.set(id, at);
                }
                // A network that is not allowed may be left by a newly resolved
                // address.
                Err(_) => self.timers.set(id, now + self.rules.redial),
            }
        }
        None
    }

    /// A dial did not become a peer. Returns how long the node is left alone
    /// and, for a static node that cannot be reached, the question to discovery.
    pub(crate) fn handle_failed(
        &mut self,
        now: MonoTime,
        task: &DialTask,
        error: &DialError,
    ) -> (Duration, Option<ResolveTask>) {
        let id = task.id;
        let delay = self.back_off(now, id, Backoff::after_dial(error), Some(&task.target));
        let unreachable = matches!(
            error,
            DialError::Connect(_)
                | DialError::ConnectTimeout
                | DialError::Dns
                | DialError::Handshake
                | DialError::SetupTimeout
        );
        let resolve = if unreachable {
            self.try_resolve(now, id)
        } else {
            None
        };
        (delay, resolve)
    }

    /// A peer is gone, whoever had dialed. `stable`: it had been connected for
    /// long enough that what failed before no longer counts.
    pub(crate) fn handle_dropped(
        &mut self,
        now: MonoTime,
        id: NodeId,
        class: Backoff,
        stable: bool,
    ) -> Duration {
        if stable {
            self.history.on_stable(now, &id);
        }
        let target = self.statics.get(&id).and_then(StaticNode::target);
        self.back_off(now, id, class, target.as_ref())
    }

    /// Discovery's answer about a static node: a newer place is dialed at once,
    /// once; without one the next question waits twice as long.
    pub(crate) fn handle_resolved(&mut self, now: MonoTime, id: NodeId, found: Option<&Node>) {
        let Some(node) = self.statics.get_mut(&id) else {
            return;
        };
        node.resolving = false;
        let known = node.target();
        let newer = found
            .filter(|found| found.endpoint().tcp_addr().map(DialTarget::Addr) != known)
            .filter(|found| found.endpoint().tcp_addr().is_some());
        match newer {
            Some(found) => {
                node.resolved = Some(*found.endpoint());
                node.resolve_wait = RESOLVE_FIRST;
                self.history.on_moved(&id);
                self.make_ready(id);
            }
            None => {
                node.resolve_at = now + node.resolve_wait;
                node.resolve_wait = (node.resolve_wait * 2).min(RESOLVE_MAX);
                if known.is_none() {
                    self.wait_for_resolve(now, id);
                }
            }
        }
    }

    /// The task for a static node whose next question is due.
    fn try_resolve(&mut self, now: MonoTime, id: NodeId) -> Option<ResolveTask> {
        if !self.rules.can_resolve {
            return None;
        }
        let node = self.statics.get_mut(&id)?;
        if node.resolving || node.resolve_at > now {
            return None;
        }
        node.resolving = true;
        let key = node.address.public_key();
        Some(ResolveTask {
            key,
            known: node.address.to_node(),
        })
    }

    /// An id without an address can only wait for the next question.
    fn wait_for_resolve(&mut self, now: MonoTime, id: NodeId) {
        let Some(node) = self.statics.get(&id) else {
            return;
        };
        if !node.resolving {
            self.timers
                .set(id, node.resolve_at.max(now + self.rules.redial));
        }
    }

    /// Notes the failure, and when a static node comes up again.
    fn back_off(
        &mut self,
        now: MonoTime,
        id: NodeId,
        class: Backoff,
        target: Option<&DialTarget>,
    ) -> Duration {
        let interval = target.map_or(self.rules.redial, |target| self.interval(target));
        let longest = if self.is_static(&id) {
            STATIC_MAX_INTERVALS
        } else {
            u32::MAX
        };
        let longest = interval.saturating_mul(longest);
        let until = self.history.on_failed(now, id, class, interval, longest);
        if self.is_static(&id) {
            // Up to a tenth more, so that nodes which lost the same peer at the
            // same moment do not all come back at the same moment.
            let jitter = (until - now).mul_f64(self.rng.random_range(0.0..0.1));
            self.timers.set(id, until + jitter);
        }
        until - now
    }

    fn interval(&self, target: &DialTarget) -> Duration {
        match target {
            DialTarget::Addr(addr) if AddressClass::of(addr.ip()).is_lan() => {
                self.rules.redial / LAN_SHARE
            }
            DialTarget::Addr(_) | DialTarget::Dns { .. } => self.rules.redial,
        }
    }

    fn make_ready(&mut self, id: NodeId) {
        self.timers.cancel(&id);
        if self.statics.contains_key(&id) && !self.ready.contains(&id) {
            self.ready.push_back(id);
        }
    }
}

/// What a static node needs next.
#[derive(Debug, PartialEq)]
pub(crate) enum StaticWork {
    Dial(DialTask),
    Resolve(ResolveTask),
}
