//! The requests of this node's that wait for an answer. Data only: what an answer is worth, `responses` decides.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use rand::RngExt;
use tercet_enode::{Node, NodeId};
use tercet_machine::{KeyedMap, KeyedState, MachineRng, MonoTime, TimerSet};

use crate::engine::{Asker, RequestError};
use crate::v5::{Distances, MessageKind, RequestId};

/// Requests under way. Each takes 2 KB with its node's record and its caller, 3 KB if it names every distance, and then up to
/// 9.5 KB more for the ids gathered. At 700 ms a timeout that is over 1,400 a second even if nobody answers.
pub const MAX_REQUESTS: usize = 1024;

/// Requests under way with one node: one of each lookup that can run, `16 + 3`, and a few for callers.
pub const MAX_REQUESTS_PER_NODE: usize = 32;

/// Names a request: ids are drawn until one is free for its node, so the address is no part of it and an answer from
/// elsewhere can be told from one nobody asked for.
pub(super) type Key = (NodeId, RequestId);

/// What has come of an answer in several messages.
#[derive(Clone, Debug)]
pub(super) struct Gathering {
    pub(super) distances: Distances,
    /// Messages that still may come; known from the first, before it the most that are taken.
    pub(super) packets: usize,
    /// Records that still may come.
    pub(super) records: usize,
    /// Nodes named so far.
    pub(super) seen: BTreeSet<NodeId>,
    /// A message has come.
    pub(super) begun: bool,
}

/// What was asked, and what is known of the answer.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Ping,
    /// Nodes, in one message or more.
    Nodes(Gathering),
    Record,
    Talk,
}

impl Asked {
    pub(super) const fn answered_by(&self) -> MessageKind {
        match self {
            Self::Ping => MessageKind::Pong,
            Self::Nodes(_) | Self::Record => MessageKind::Nodes,
            Self::Talk => MessageKind::TalkResponse,
        }
    }
}

/// A request under way.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) node: Node,
    /// Where it was sent, and where alone its answer may come from.
    pub(super) to: SocketAddr,
    pub(super) asker: Asker,
    pub(super) asked: Asked,
    pub(super) sent: MonoTime,
}

#[derive(Debug)]
pub(super) struct Requests {
    /// Boxed: each place of the map is new to the caches, each allocation is not.
    map: KeyedMap<Key, Box<Pending>>,
    per_node: KeyedMap<NodeId, usize>,
    timers: TimerSet<Key>,
    rng: MachineRng,
}

impl Requests {
    pub(super) fn new(mut rng: MachineRng) -> Self {
        Self {
            map: KeyedMap::with_hasher(KeyedState::new(&mut rng)),
            per_node: KeyedMap::with_hasher(KeyedState::new(&mut rng)),
            timers: TimerSet::new(),
            rng,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// Remembers a request until `deadline` and gives it a random id.
    pub(super) fn open(
        &mut self,
        pending: Pending,
        deadline: MonoTime,
    ) -> Result<RequestId, RequestError> {
        let id = pending.node.id();
        let with_node = self.per_node.get(&id).copied().unwrap_or(0);
        if self.map.len() >= MAX_REQUESTS || with_node >= MAX_REQUESTS_PER_NODE {
            return Err(RequestError::Busy);
        }
        let mut request = self.draw();
        while self.map.contains_key(&(id, request)) {
            request = self.draw();
        }
        self.per_node.insert(id, with_node + 1);
        self.timers.set((id, request), deadline);
        self.map.insert((id, request), Box::new(pending));
        Ok(request)
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Pending> {
        self.map.get(key).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Pending> {
        self.map.get_mut(key).map(Box::as_mut)
    }

    pub(super) fn extend(&mut self, key: Key, deadline: MonoTime) {
        self.timers.set(key, deadline);
    }

    pub(super) fn close(&mut self, key: &Key) -> Option<Pending> {
        let pending = self.map.remove(key)?;
        self.timers.cancel(key);
        if let Some(count) = self.per_node.get_mut(&key.0) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_node.remove(&key.0);
            }
        }
        Some(*pending)
    }

    pub(super) fn deadline(&self) -> Option<MonoTime> {
        self.timers.deadline()
    }

    /// Takes out a request whose time is over. Call until `None`.
    pub(super) fn pop_expired(&mut self, now: MonoTime) -> Option<Pending> {
        let key = self.timers.pop_expired(now)?;
        self.close(&key)
    }

    /// The id of some request under way with `node`.
    #[cfg(test)]
    pub(super) fn any_of(&self, node: NodeId) -> Option<RequestId> {
        let ids = self.map.keys().filter(|(id, _)| *id == node);
        ids.map(|(_, request)| *request).min()
    }

    /// Eight random bytes, the first of them not zero: some clients read an id as a number and echo it without leading zeros.
    fn draw(&mut self) -> RequestId {
        let number = self.rng.random::<u64>() | 1 << (u64::BITS - 1);
        RequestId::new(&number.to_be_bytes()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_being_read_as_a_number() {
        let mut requests = Requests::new(MachineRng::from_seed([1; 32]));
        for _ in 0..4096 {
            let id = requests.draw();
            assert_eq!(id.as_bytes().len(), 8);
            assert_ne!(id.as_bytes()[0], 0, "{id:?}");
        }
    }
}
