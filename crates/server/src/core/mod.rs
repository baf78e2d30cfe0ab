//! The server's machine: the dial scheduler, admission and the set of
//! connections, put together by function calls. It decides; the run loop in
//! `driver.rs` connects, shakes hands and runs peers.
//!
//! # When both ends dial at once
//!
//! Two nodes that dial each other at the same moment make two connections, and
//! if each end kept the one it happened to finish first, each might keep the one
//! the other dropped. So the connection that was dialed by the node with the
//! smaller id is preferred, by both ends:
//!
//! - a connection to a node that is already a peer is refused with
//!   "already connected", unless it is the preferred one and the other is not;
//! - then the other one is disconnected with "already connected" and the
//!   preferred one runs as soon as its protocols have ended.
//!
//! Nothing is decided before Hello is exchanged on the preferred connection: a
//! dial that leads nowhere must not cost the connection that works. A dial that
//! has not proven its key yet is given up when its node becomes a peer, which is
//! safe because the other end cannot have admitted it.

mod admit;
mod conns;
mod io;

use std::collections::VecDeque;
use std::time::Duration;

use tercet_enode::{Node, NodeAddress, NodeId};
use tercet_machine::{KeyedSet, KeyedState, Machine, MachineRng, MonoTime, Now};
use tercet_rlpx::{Capability, DisconnectReason};

use self::conns::{Conn, Conns, Stage};
pub use self::io::{ConnId, ServerInput, ServerOutput};
use crate::admission::{Bans, Netrestrict, Throttle};
use crate::dial::{Backoff, DialKind, DialRefusal, DialRules, DialScheduler, DialTask, StaticWork};
use crate::error::CommandError;
use crate::event::{DialError, DropReason, RefuseReason, ServerEvent};
use crate::limits::{Limits, MAX_NAMED_NODES};
use crate::peer::{Direction, PeerInfo};
use crate::peers::penalty::Rule;

/// A peer that stayed this long wipes out its earlier failures.
const STABLE: Duration = Duration::from_secs(60);
/// When all places for inbound set-ups are taken, the oldest one must give way
/// after this long: an honest handshake takes two round trips.
pub const STALL: Duration = Duration::from_secs(2);

/// What the machine is told at its start.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// This node.
    pub local: NodeId,
    /// How many connections.
    pub limits: Limits,
    /// Between two inbound connections of a subnet.
    pub throttle: Duration,
    /// Between two dials of a node.
    pub redial: Duration,
    /// Allowed networks.
    pub netrestrict: Netrestrict,
    /// What our protocols announce, with their lengths.
    pub capabilities: Vec<(Capability, u64)>,
    /// Whether discovery can be asked where a static node is.
    pub can_resolve: bool,
}

/// See the module.
#[derive(Debug)]
pub struct ServerCore {
    config: CoreConfig,
    conns: Conns,
    dial: DialScheduler,
    throttle: Throttle,
    bans: Bans,
    trusted: KeyedSet<NodeId>,
    next_conn: u64,
    closing: bool,
    outputs: VecDeque<ServerOutput>,
}

impl ServerCore {
    /// A server without connections.
    pub fn new(config: CoreConfig, mut rng: MachineRng) -> Self {
        let hasher = KeyedState::new(&mut rng);
        let rules = DialRules {
            local: config.local,
            max_dialed: config.limits.max_dialed(),
            max_active: config.limits.max_pending,
            redial: config.redial,
            netrestrict: config.netrestrict.clone(),
            can_resolve: config.can_resolve,
        };
        Self {
            conns: Conns::default(),
            dial: DialScheduler::new(rules, rng.child("dial")),
            throttle: Throttle::new(config.throttle, hasher),
            bans: Bans::new(hasher),
            trusted: KeyedSet::with_hasher(hasher),
            next_conn: 0,
            closing: false,
            outputs: VecDeque::new(),
            config,
        }
    }

    /// A name for the next accepted connection.
    pub fn next_conn(&mut self) -> ConnId {
        let conn = self.unused_conn();
        self.next_conn = conn.0;
        conn
    }

    /// The peers, oldest first.
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.conns.running().map(|(_, info)| info.clone()).collect()
    }

    /// How many more nodes from discovery are of use now.
    pub fn wanted_candidates(&self) -> usize {
        if self.closing {
            0
        } else {
            self.dial.wanted(&self.conns)
        }
    }

    /// From when on the listener should accept; until then connections wait in
    /// the system's backlog. `None` when it should not accept any more.
    pub fn accepts_from(&self) -> Option<MonoTime> {
        if self.closing {
            return None;
        }
        if self.conns.inbound_setups() < self.config.limits.max_pending {
            return Some(MonoTime::ZERO);
        }
        self.conns
            .oldest_inbound_setup()
            .map(|(_, since)| since + STALL)
    }

    /// Adds a node to stay connected to.
    pub fn add_static(&mut self, now: Now, address: NodeAddress) -> Result<(), CommandError> {
        let id = address.id();
        self.dial.add_static(now.mono, address)?;
        self.mark(&id, |info| info.static_node = true);
        self.advance(now.mono);
        Ok(())
    }

    /// Forgets a static node and disconnects it. False if it was neither static
    /// nor a peer.
    pub fn remove_static(&mut self, id: &NodeId) -> bool {
        let removed = self.dial.remove_static(id);
        self.mark(id, |info| info.static_node = false);
        self.disconnect(id, DisconnectReason::Requested) || removed
    }

    /// Lets a node in above the limits from now on.
    pub fn add_trusted(&mut self, id: NodeId) -> Result<(), CommandError> {
        if id == self.config.local {
            return Err(CommandError::Itself);
        }
        if !self.trusted.contains(&id) && self.trusted.len() >= MAX_NAMED_NODES {
            return Err(CommandError::Full);
        }
        self.trusted.insert(id);
        self.mark(&id, |info| info.trusted = true);
        Ok(())
    }

    /// Treats a node like any other from now on; a connected one stays. False if
    /// it was not trusted.
    pub fn remove_trusted(&mut self, id: &NodeId) -> bool {
        self.mark(id, |info| info.trusted = false);
        self.trusted.remove(id)
    }

    /// Whether a node is let in above the limits.
    pub fn is_trusted(&self, id: &NodeId) -> bool {
        self.trusted.contains(id)
    }

    /// Whether a node is one to stay connected to.
    pub fn is_static(&self, id: &NodeId) -> bool {
        self.dial.is_static(id)
    }

    /// Ends a peer's connection. False if there is none.
    pub fn disconnect(&mut self, id: &NodeId, reason: DisconnectReason) -> bool {
        let running = self.conns.running().find(|(_, info)| info.id == *id);
        let Some((conn, _)) = running else {
            return false;
        };
        self.leave(conn, reason);
        true
    }

    /// Disconnects every peer and dials no more. A connection that is at Hello
    /// is refused when that is over, so that its remote is told.
    pub fn shutdown(&mut self) {
        self.closing = true;
        for conn in self.conns.ids() {
            let Some(state) = self.conns.get(conn) else {
                continue;
            };
            match &state.stage {
                Stage::Dialing(_) | Stage::Handshaking => self.abandon(conn),
                Stage::Waiting(_) => self.reject(conn, RefuseReason::ShuttingDown),
                Stage::Running(..) => self.leave(conn, DisconnectReason::Quitting),
                Stage::Greeting { .. } | Stage::Refused(_) | Stage::Leaving(..) => {}
            }
        }
    }

    /// Gives up what is still at Hello: its remote has had time enough.
    pub fn abandon_setups(&mut self) {
        for conn in self.conns.ids() {
            let stage = self.conns.get(conn).map(|state| &state.stage);
            if matches!(stage, Some(Stage::Greeting { .. })) {
                self.abandon(conn);
            }
        }
    }

    /// True when no connection is left.
    pub fn is_empty(&self) -> bool {
        self.conns.is_empty()
    }

    /// Tells a running peer to go.
    fn leave(&mut self, conn: ConnId, reason: DisconnectReason) {
        let Some(state) = self.conns.get_mut(conn) else {
            return;
        };
        if let Stage::Running(info, since) = &state.stage {
            state.stage = Stage::Leaving(info.clone(), *since);
            self.outputs
                .push_back(ServerOutput::Disconnect { conn, reason });
        }
    }

    fn abandon(&mut self, conn: ConnId) {
        self.conns.remove(conn);
        self.outputs.push_back(ServerOutput::Close(conn));
    }

    fn on_setup_failed(&mut self, now: MonoTime, conn: ConnId, error: DialError) {
        let Some(state) = self.conns.remove(conn) else {
            return;
        };
        let id = state.id();
        if let (DialError::UnexpectedIdentity, Some(id)) = (&error, id) {
            self.punish(now, id, Rule::WrongIdentity);
        }
        match (state.stage, state.addr) {
            (
                Stage::Dialing(task)
                | Stage::Greeting {
                    task: Some(task), ..
                },
                _,
            ) => {
                self.on_dial_failed(now, &task, error);
            }
            (Stage::Handshaking | Stage::Greeting { task: None, .. }, Some(addr)) => {
                let reason = RefuseReason::of_failed_setup(&error);
                self.event(ServerEvent::InboundRefused { addr, id, reason });
            }
            _ => {}
        }
    }

    fn on_dial_failed(&mut self, now: MonoTime, task: &DialTask, error: DialError) {
        let (retry_after, resolve) = self.dial.handle_failed(now, task, &error);
        self.outputs.extend(resolve.map(ServerOutput::Resolve));
        self.event(ServerEvent::DialFailed {
            id: task.id,
            error,
            retry_after,
        });
    }

    fn on_peer_ended(
        &mut self,
        now: MonoTime,
        conn: ConnId,
        reason: DropReason,
        rule: Option<Rule>,
    ) {
        let Some(state) = self.conns.remove(conn) else {
            return;
        };
        let (Stage::Running(info, since) | Stage::Leaving(info, since)) = state.stage else {
            return;
        };
        let (id, age) = (info.id, now - since);
        self.dial
            .handle_dropped(now, id, Backoff::after_drop(&reason), age >= STABLE);
        self.event(ServerEvent::PeerDropped { id, reason, age });
        if let Some(rule) = rule {
            self.punish(now, id, rule);
        }
        if let Some(waiting) = self.conns.waiting(&id)
            && let Some(Stage::Waiting(info)) = self.conns.get(waiting).map(|state| &state.stage)
        {
            self.launch(now, waiting, info.clone());
        }
    }

    /// Bans as the penalty table says, unless the user vouches for the node.
    fn punish(&mut self, now: MonoTime, id: NodeId, rule: Rule) {
        let Some(duration) = rule.penalty().ban else {
            return;
        };
        if !self.trusted.contains(&id) && !self.dial.is_static(&id) {
            self.bans.ban(now, id, duration);
            self.event(ServerEvent::Banned { id, rule, duration });
        }
    }

    fn on_candidate(&mut self, now: MonoTime, node: &Node) -> Result<(), DialRefusal> {
        if self.closing || self.bans.contains(now, &node.id()) {
            return Ok(());
        }
        let task = self
            .dial
            .handle_candidate(now, self.unused_conn(), node, &self.conns)?;
        self.start(now, task);
        Ok(())
    }

    /// The name the next connection will have. Only taken when it is used, so
    /// that asking in vain leaves no trace.
    fn unused_conn(&self) -> ConnId {
        ConnId(self.next_conn + 1)
    }

    fn start(&mut self, now: MonoTime, task: DialTask) {
        self.next_conn = self.next_conn.max(task.conn.0);
        let addr = match &task.target {
            crate::dial::DialTarget::Addr(addr) => Some(*addr),
            crate::dial::DialTarget::Dns { .. } => None,
        };
        let (direction, stage) = (Direction::Outbound, Stage::Dialing(task.clone()));
        self.conns.insert(
            task.conn,
            Conn {
                addr,
                direction,
                since: now,
                stage,
            },
        );
        self.outputs.push_back(ServerOutput::Dial(task));
    }

    /// Starts what static nodes need.
    fn advance(&mut self, now: MonoTime) {
        self.dial.handle_timeout(now);
        while !self.closing {
            match self.dial.poll(now, self.unused_conn(), &self.conns) {
                Some(StaticWork::Dial(task)) => {
                    debug_assert_eq!(task.kind, DialKind::Static);
                    self.start(now, task);
                }
                Some(StaticWork::Resolve(task)) => {
                    self.outputs.push_back(ServerOutput::Resolve(task));
                }
                None => break,
            }
        }
    }

    fn mark(&mut self, id: &NodeId, change: impl Fn(&mut PeerInfo)) {
        self.conns
            .running_mut()
            .filter(|info| info.id == *id)
            .for_each(change);
    }

    fn event(&mut self, event: ServerEvent) {
        self.outputs.push_back(ServerOutput::Event(event));
    }
}

impl Machine for ServerCore {
    type Input = ServerInput;
    type Output = ServerOutput;

    fn handle(&mut self, now: Now, input: ServerInput) {
        let mono = now.mono;
        match input {
            ServerInput::Incoming { conn, addr } => self.on_incoming(mono, conn, addr),
            ServerInput::Authenticated { conn, key, addr } => {
                self.on_authenticated(mono, conn, key, addr);
            }
            ServerInput::Greeted {
                conn,
                client_id,
                capabilities,
            } => {
                self.on_greeted(now, conn, client_id, capabilities);
            }
            ServerInput::SetupFailed { conn, error } => self.on_setup_failed(mono, conn, error),
            ServerInput::RefusalDone(conn) => {
                self.conns.remove(conn);
            }
            ServerInput::PeerEnded { conn, reason, rule } => {
                self.on_peer_ended(mono, conn, reason, rule);
            }
            ServerInput::Candidate(node) => {
                // A candidate that is not dialed is no event: discovery brings
                // the same nodes again and again.
                let _ = self.on_candidate(mono, &node);
            }
            ServerInput::Resolved { id, found } => {
                self.dial.handle_resolved(mono, id, found.as_ref());
            }
        }
        self.advance(mono);
    }

    fn handle_timeout(&mut self, now: Now) {
        self.advance(now.mono);
    }

    fn deadline(&self) -> Option<MonoTime> {
        if self.closing {
            None
        } else {
            self.dial.deadline()
        }
    }

    fn poll(&mut self) -> Option<ServerOutput> {
        self.outputs.pop_front()
    }
}

#[cfg(test)]
mod tests;
