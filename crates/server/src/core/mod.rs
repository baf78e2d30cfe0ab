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

mod conns;
mod io;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tercet_enode::{AddressClass, Endpoint, Node, NodeAddress, NodeId, PublicKey};
use tercet_machine::{KeyedSet, KeyedState, Machine, MachineRng, MonoTime, Now};
use tercet_rlpx::{Capability, DisconnectReason, SharedCapabilities};

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
/// Announced capabilities kept of a remote.
const MAX_REMOTE_CAPABILITIES: usize = 64;
/// Bytes kept of a remote's client id.
const MAX_REMOTE_CLIENT_ID: usize = 256;

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

    fn on_incoming(&mut self, now: MonoTime, conn: ConnId, addr: SocketAddr) {
        if let Err(reason) = self.admit_incoming(now, addr) {
            self.outputs.push_back(ServerOutput::Close(conn));
            self.event(ServerEvent::InboundRefused {
                addr,
                id: None,
                reason,
            });
            return;
        }
        let (direction, stage) = (Direction::Inbound, Stage::Handshaking);
        self.conns.insert(
            conn,
            Conn {
                addr: Some(addr),
                direction,
                since: now,
                stage,
            },
        );
        self.outputs.push_back(ServerOutput::Handshake(conn));
    }

    /// The checks before any byte is exchanged.
    fn admit_incoming(&mut self, now: MonoTime, addr: SocketAddr) -> Result<(), RefuseReason> {
        let ip = addr.ip();
        if self.closing {
            return Err(RefuseReason::ShuttingDown);
        }
        if !self.config.netrestrict.allows(ip) {
            return Err(RefuseReason::NotAllowed);
        }
        let near = self.conns.inbound_setups_near(ip);
        if !AddressClass::of(ip).is_lan() && near >= self.config.limits.pending_per_subnet {
            return Err(RefuseReason::PendingPerSubnet);
        }
        if !self.throttle.admits(now, ip) {
            return Err(RefuseReason::Throttled);
        }
        if self.conns.inbound_setups() >= self.config.limits.max_pending {
            match self.conns.oldest_inbound_setup() {
                Some((oldest, since)) if since + STALL <= now => self.evict(oldest),
                _ => return Err(RefuseReason::Stalled),
            }
        }
        Ok(())
    }

    /// Makes room: the connection is closed as it is.
    fn evict(&mut self, conn: ConnId) {
        let Some(state) = self.conns.remove(conn) else {
            return;
        };
        self.outputs.push_back(ServerOutput::Close(conn));
        if let (Some(addr), false) = (state.addr, matches!(state.stage, Stage::Refused(_))) {
            let (id, reason) = (state.id(), RefuseReason::Stalled);
            self.event(ServerEvent::InboundRefused { addr, id, reason });
        }
    }

    /// First checkpoint: the key is known, nothing has been said.
    fn on_authenticated(&mut self, now: MonoTime, conn: ConnId, key: PublicKey, addr: SocketAddr) {
        let Some(state) = self.conns.get_mut(conn) else {
            return;
        };
        state.addr = Some(addr);
        let task = match std::mem::replace(&mut state.stage, Stage::Handshaking) {
            Stage::Dialing(task) => Some(task),
            Stage::Handshaking => None,
            other => {
                state.stage = other;
                return;
            }
        };
        let direction = state.direction;
        state.stage = Stage::Greeting { key, task };
        match self.check(now, conn, &key.node_id(), direction) {
            Ok(_) => self.outputs.push_back(ServerOutput::Hello(conn)),
            Err(reason) => self.refuse(now, conn, reason),
        }
    }

    /// Second checkpoint: both Hellos are exchanged.
    fn on_greeted(&mut self, now: Now, conn: ConnId, client_id: String, remote: Vec<Capability>) {
        let Some(state) = self.conns.get(conn) else {
            return;
        };
        let (Stage::Greeting { key, task }, Some(addr)) = (&state.stage, state.addr) else {
            return;
        };
        let (key, direction) = (*key, state.direction);
        let contact = task.as_ref().and_then(|task| task.node.clone());
        let shared = SharedCapabilities::match_capabilities(&self.config.capabilities, &remote);
        if shared.is_empty() {
            return self.refuse(now.mono, conn, RefuseReason::UselessPeer);
        }
        let replaced = match self.check(now.mono, conn, &key.node_id(), direction) {
            Ok(replaced) => replaced,
            Err(reason) => return self.refuse(now.mono, conn, reason),
        };
        let id = key.node_id();
        let info = Box::new(PeerInfo {
            id,
            node: contact.unwrap_or_else(|| contact_of(key, addr, direction)),
            remote_addr: addr,
            direction,
            trusted: self.trusted.contains(&id),
            static_node: self.dial.is_static(&id),
            client_id: cut(client_id, MAX_REMOTE_CLIENT_ID),
            capabilities: remote.into_iter().take(MAX_REMOTE_CAPABILITIES).collect(),
            protocols: shared.iter().map(|shared| shared.capability).collect(),
            connected_at: now.unix,
        });
        for dial in self.conns.unproven_dials(&id) {
            self.abandon(dial);
        }
        match replaced {
            None => self.launch(now.mono, conn, info),
            Some(other) => {
                if let Some(state) = self.conns.get_mut(conn) {
                    state.stage = Stage::Waiting(info);
                }
                self.leave(other, DisconnectReason::AlreadyConnected);
            }
        }
    }

    /// Whether a proven node may become a peer by this connection; with the
    /// connection that it replaces.
    fn check(
        &self,
        now: MonoTime,
        conn: ConnId,
        id: &NodeId,
        direction: Direction,
    ) -> Result<Option<ConnId>, RefuseReason> {
        if self.closing {
            return Err(RefuseReason::ShuttingDown);
        }
        if *id == self.config.local {
            return Err(RefuseReason::Itself);
        }
        let twice = self.conns.greets_twice(conn, id, direction);
        if twice || self.conns.waiting(id).is_some() {
            return Err(RefuseReason::AlreadyConnected);
        }
        if let Some((holder, state)) = self.conns.holder(id) {
            let leaves = matches!(state.stage, Stage::Leaving(..));
            let better = self.prefers(direction, id) && !self.prefers(state.direction, id);
            // It inherits the slot, so the limits do not matter.
            return if leaves || better {
                Ok(Some(holder))
            } else {
                Err(RefuseReason::AlreadyConnected)
            };
        }
        if self.trusted.contains(id) || self.dial.is_static(id) {
            return Ok(None);
        }
        if self.bans.contains(now, id) {
            return Err(RefuseReason::Banned);
        }
        let limits = &self.config.limits;
        let (all, inbound) = (self.conns.peers(), self.conns.inbound_peers());
        let full = match direction {
            Direction::Inbound => inbound >= limits.max_inbound(),
            Direction::Outbound => all - inbound >= limits.max_dialed(),
        };
        if full || all >= limits.max_peers {
            Err(RefuseReason::TooManyPeers)
        } else {
            Ok(None)
        }
    }

    /// Whether, of two connections with a node, the one in this direction stays:
    /// the one dialed by the smaller id.
    fn prefers(&self, direction: Direction, remote: &NodeId) -> bool {
        match direction {
            Direction::Outbound => self.config.local < *remote,
            Direction::Inbound => *remote < self.config.local,
        }
    }

    fn launch(&mut self, now: MonoTime, conn: ConnId, info: Box<PeerInfo>) {
        if let Some(state) = self.conns.get_mut(conn) {
            state.stage = Stage::Running(info.clone(), now);
            self.event(ServerEvent::PeerAdded {
                info: (*info).clone(),
            });
            self.outputs.push_back(ServerOutput::Launch { conn, info });
        }
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

    /// Refuses a proven remote and notes what follows from it.
    fn refuse(&mut self, now: MonoTime, conn: ConnId, reason: RefuseReason) {
        let task = match self.conns.get_mut(conn).map(|state| &mut state.stage) {
            Some(Stage::Greeting { task, .. }) => task.take(),
            _ => None,
        };
        self.reject(conn, reason);
        if let Some(task) = task {
            self.on_dial_failed(now, &task, DialError::Rejected(reason));
        }
    }

    /// Sends a remote away with a reason.
    fn reject(&mut self, conn: ConnId, cause: RefuseReason) {
        let Some(state) = self.conns.get_mut(conn) else {
            return;
        };
        let (id, addr, direction) = (state.id(), state.addr, state.direction);
        state.stage = Stage::Refused(id);
        match cause.disconnect_reason() {
            Some(reason) => {
                self.outputs
                    .push_back(ServerOutput::Reject { conn, reason });
            }
            None => self.abandon(conn),
        }
        if let (Direction::Inbound, Some(addr)) = (direction, addr) {
            self.event(ServerEvent::InboundRefused {
                addr,
                id,
                reason: cause,
            });
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
            id: task.id(),
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

/// The contact of a peer that was not known before it connected. An inbound
/// peer's port is the one its system picked for this connection, not one to dial.
fn contact_of(key: PublicKey, addr: SocketAddr, direction: Direction) -> Node {
    let tcp = if direction == Direction::Inbound {
        0
    } else {
        addr.port()
    };
    Node::new(key, Endpoint::new(addr.ip(), 0, tcp))
}

/// At most `max` bytes, cut between characters.
fn cut(mut text: String, max: usize) -> String {
    let end = (0..=max.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    text
}

#[cfg(test)]
mod tests;
