//! Every connection and the stage it is in. All counts are taken from the stages
//! when they are needed (there are at most a few hundred), so no counter can
//! disagree with them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use tercet_enode::{NodeId, PublicKey};
use tercet_machine::{MonoTime, Subnet};

use super::ConnId;
use crate::dial::{DialTask, Known};
use crate::peer::{Direction, PeerInfo};

/// One connection.
#[derive(Debug)]
pub(super) struct Conn {
    /// The remote address; unknown while a dial has not connected.
    pub(super) addr: Option<SocketAddr>,
    pub(super) direction: Direction,
    /// When it arrived or was dialed.
    pub(super) since: MonoTime,
    pub(super) stage: Stage,
}

/// How far a connection has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// Outbound: TCP and the encrypted handshake.
    Dialing(DialTask),
    /// Inbound: the encrypted handshake.
    Handshaking,
    /// Both: Hello, with a remote whose key is known; an inbound one has only
    /// claimed it until its Hello opens under it.
    Greeting {
        id: NodeId,
        key: PublicKey,
        task: Option<DialTask>,
    },
    /// Both: admitted, to run once the same node's other connection has ended.
    Waiting(Box<PeerInfo>),
    /// Both: refused; the Disconnect is on its way.
    Refused(Option<NodeId>),
    /// Both: a peer.
    Running(Box<PeerInfo>, MonoTime),
    /// Both: a peer that has been told to go.
    Leaving(Box<PeerInfo>, MonoTime),
}

impl Conn {
    /// Whose connection it is, once that is known.
    pub(super) fn id(&self) -> Option<NodeId> {
        match &self.stage {
            Stage::Dialing(_) | Stage::Handshaking => None,
            Stage::Greeting { id, .. } => Some(*id),
            Stage::Refused(id) => *id,
            Stage::Waiting(info) | Stage::Running(info, _) | Stage::Leaving(info, _) => {
                Some(info.id)
            }
        }
    }

    fn dials(&self, id: &NodeId) -> bool {
        match &self.stage {
            Stage::Dialing(task) => task.id == *id,
            Stage::Greeting {
                id: greeting,
                task: Some(_),
                ..
            } => greeting == id,
            _ => false,
        }
    }

    /// Inbound and not a peer yet.
    fn pending_inbound(&self) -> bool {
        self.direction == Direction::Inbound
            && matches!(
                self.stage,
                Stage::Handshaking | Stage::Greeting { .. } | Stage::Refused(_)
            )
    }

    /// Holds one of the slots.
    fn holds_slot(&self) -> bool {
        matches!(self.stage, Stage::Running(..) | Stage::Leaving(..))
    }
}

/// See the module. Ordered by id, which is by age.
#[derive(Debug, Default)]
pub(super) struct Conns {
    map: BTreeMap<ConnId, Conn>,
}

impl Conns {
    pub(super) fn insert(&mut self, conn: ConnId, state: Conn) {
        self.map.insert(conn, state);
    }

    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Conn> {
        self.map.remove(&conn)
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<&Conn> {
        self.map.get(&conn)
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Conn> {
        self.map.get_mut(&conn)
    }

    pub(super) fn ids(&self) -> Vec<ConnId> {
        self.map.keys().copied().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The peers that run, oldest first.
    pub(super) fn running(&self) -> impl Iterator<Item = (ConnId, &PeerInfo)> {
        self.map
            .iter()
            .filter_map(|(conn, state)| match &state.stage {
                Stage::Running(info, _) => Some((*conn, &**info)),
                _ => None,
            })
    }

    pub(super) fn running_mut(&mut self) -> impl Iterator<Item = &mut PeerInfo> {
        self.map
            .values_mut()
            .filter_map(|state| match &mut state.stage {
                Stage::Running(info, _) => Some(&mut **info),
                _ => None,
            })
    }

    /// The connection that holds a slot for the node.
    pub(super) fn holder(&self, id: &NodeId) -> Option<(ConnId, &Conn)> {
        self.of(id).find(|(_, state)| state.holds_slot())
    }

    /// The connection that waits for the node's other one to end.
    pub(super) fn waiting(&self, id: &NodeId) -> Option<ConnId> {
        let mut waiting = self
            .of(id)
            .filter(|(_, state)| matches!(state.stage, Stage::Waiting(_)));
        waiting.next().map(|(conn, _)| conn)
    }

    /// Dials to the node that have not proven anything yet.
    pub(super) fn unproven_dials(&self, id: &NodeId) -> Vec<ConnId> {
        let mut dials = Vec::new();
        for (conn, state) in &self.map {
            if matches!(&state.stage, Stage::Dialing(task) if task.id == *id) {
                dials.push(*conn);
            }
        }
        dials
    }

    /// Slots taken, in all.
    pub(super) fn peers(&self) -> usize {
        self.map.values().filter(|state| state.holds_slot()).count()
    }

    /// Slots taken by peers that dialed us.
    pub(super) fn inbound_peers(&self) -> usize {
        let inbound = |state: &&Conn| state.direction == Direction::Inbound && state.holds_slot();
        self.map.values().filter(inbound).count()
    }

    /// Inbound set-ups under way.
    pub(super) fn inbound_setups(&self) -> usize {
        self.map
            .values()
            .filter(|state| state.pending_inbound())
            .count()
    }

    /// Inbound set-ups under way from an address's subnet.
    pub(super) fn inbound_setups_near(&self, ip: IpAddr) -> usize {
        let subnet = Subnet::wide(ip);
        let near = |state: &&Conn| {
            state.pending_inbound()
                && state
                    .addr
                    .is_some_and(|addr| Subnet::wide(addr.ip()) == subnet)
        };
        self.map.values().filter(near).count()
    }

    /// The inbound set-up that has been under way for longest.
    pub(super) fn oldest_inbound_setup(&self) -> Option<(ConnId, MonoTime)> {
        let setups = self.map.iter().filter(|(_, state)| state.pending_inbound());
        setups
            .map(|(conn, state)| (*conn, state.since))
            .min_by_key(|(_, since)| *since)
    }

    fn of(&self, id: &NodeId) -> impl Iterator<Item = (ConnId, &Conn)> + use<'_> {
        let id = *id;
        let all = self.map.iter().map(|(conn, state)| (*conn, state));
        all.filter(move |(_, state)| state.id() == Some(id))
    }
}

impl Known for Conns {
    fn connected(&self, id: &NodeId) -> bool {
        self.holder(id).is_some() || self.waiting(id).is_some()
    }

    fn dialed(&self) -> usize {
        self.peers() - self.inbound_peers()
    }

    fn active(&self) -> usize {
        let active = |state: &&Conn| {
            matches!(
                state.stage,
                Stage::Dialing(_) | Stage::Greeting { task: Some(_), .. }
            )
        };
        self.map.values().filter(active).count()
    }

    fn dialing(&self, id: &NodeId) -> bool {
        self.map.values().any(|state| state.dials(id))
    }
}
