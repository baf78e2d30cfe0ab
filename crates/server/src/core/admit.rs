//! Letting connections in: the door, the two checkpoints, and sending away.

use std::net::SocketAddr;
use std::sync::Arc;

use tercet_enode::{AddressClass, Endpoint, Node, NodeId, PublicKey};
use tercet_machine::{MonoTime, Now};
use tercet_rlpx::{Capability, DisconnectReason, SharedCapabilities};

use super::conns::{Conn, Stage};
use super::{ConnId, STALL, ServerCore, ServerOutput};
use crate::event::{DialError, RefuseReason, ServerEvent};
use crate::peer::{Direction, PeerInfo};

/// Announced capabilities kept of a remote.
const MAX_REMOTE_CAPABILITIES: usize = 64;
/// Bytes kept of a remote's client id.
const MAX_REMOTE_CLIENT_ID: usize = 256;

impl ServerCore {
    pub(super) fn on_incoming(&mut self, now: MonoTime, conn: ConnId, addr: SocketAddr) {
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

    /// First checkpoint: the key is known, nothing has been said. An inbound key
    /// is only claimed yet, so nothing is remembered of it and nobody else is
    /// turned away for it.
    pub(super) fn on_authenticated(
        &mut self,
        now: MonoTime,
        conn: ConnId,
        key: PublicKey,
        addr: SocketAddr,
    ) {
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
        let id = key.node_id();
        state.stage = Stage::Greeting { id, key, task };
        match self.check(now, &id, direction) {
            Ok(_) => self.outputs.push_back(ServerOutput::Hello(conn)),
            Err(reason) => self.refuse(now, conn, reason),
        }
    }

    /// Second checkpoint: both Hellos are exchanged.
    pub(super) fn on_greeted(
        &mut self,
        now: Now,
        conn: ConnId,
        client_id: String,
        remote: Vec<Capability>,
    ) {
        let Some(state) = self.conns.get(conn) else {
            return;
        };
        let (Stage::Greeting { id, key, task }, Some(addr)) = (&state.stage, state.addr) else {
            return;
        };
        let (id, key, direction) = (*id, *key, state.direction);
        let contact = task.as_ref().and_then(|task| task.node.clone());
        let shared = SharedCapabilities::match_capabilities(&self.config.capabilities, &remote);
        if shared.is_empty() {
            return self.refuse(now.mono, conn, RefuseReason::UselessPeer);
        }
        let replaced = match self.check(now.mono, &id, direction) {
            Ok(replaced) => replaced,
            Err(reason) => return self.refuse(now.mono, conn, reason),
        };
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

    /// Whether a node may become a peer by this connection; with the
    /// connection that it replaces.
    fn check(
        &self,
        now: MonoTime,
        id: &NodeId,
        direction: Direction,
    ) -> Result<Option<ConnId>, RefuseReason> {
        if self.closing {
            return Err(RefuseReason::ShuttingDown);
        }
        if *id == self.config.local {
            return Err(RefuseReason::Itself);
        }
        if self.conns.waiting(id).is_some() {
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

    pub(super) fn launch(&mut self, now: MonoTime, conn: ConnId, info: Box<PeerInfo>) {
        if let Some(state) = self.conns.get_mut(conn) {
            state.stage = Stage::Running(info.clone(), now);
            self.event(ServerEvent::PeerAdded {
                info: Arc::new((*info).clone()),
            });
            self.outputs.push_back(ServerOutput::Launch { conn, info });
        }
    }

    /// Refuses a remote and notes what follows from it.
    pub(super) fn refuse(&mut self, now: MonoTime, conn: ConnId, reason: RefuseReason) {
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
    pub(super) fn reject(&mut self, conn: ConnId, cause: RefuseReason) {
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
