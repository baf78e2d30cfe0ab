//! discv5 sessions without keys: who may speak to whom, and what it takes to get there. Stands between the core's messages
//! and the packets as `v5::Sessions` does: a request to somebody without a session begins with a packet he cannot read, he
//! challenges it, the answer brings the record and the request.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use tercet_discovery::CoreInput;
use tercet_discovery::v5::{Message, V5Peer};
use tercet_enode::{NodeId, NodeRecord};
use tercet_machine::MonoTime;

use crate::packet::Datagram;

/// How long a handshake may take before a further request begins another.
const PATIENCE: Duration = Duration::from_secs(1);
/// Challenges remembered; those of a flood push each other out.
const MAX_CHALLENGES: usize = 1024;
/// Requests remembered in case their session turns out to be gone at the other end.
const MAX_RECENT: usize = 16;

/// A node at an address, as 64 bits: no scenario has enough of them for two to meet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Remote(u64);

impl Remote {
    fn of(id: NodeId, at: SocketAddr) -> Self {
        let mut hasher = DefaultHasher::new();
        (id, at).hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// A handshake under way, with the requests that wait for it.
struct Opening {
    nonce: u64,
    began: MonoTime,
    requests: Vec<Message>,
}

type Hashed = BuildHasherDefault<DefaultHasher>;

/// One node's sessions.
#[derive(Default)]
pub(crate) struct Sessions {
    next_nonce: u64,
    open: HashSet<Remote, Hashed>,
    /// Opened by this node and not heard from yet: told to the machine when the first message comes.
    unconfirmed: HashSet<Remote, Hashed>,
    opening: HashMap<Remote, Opening, Hashed>,
    /// To whom each handshake under way goes.
    by_nonce: BTreeMap<u64, Remote>,
    challenged: VecDeque<Remote>,
    recent: VecDeque<(u64, Remote, Message)>,
    /// Handshakes begun.
    pub(crate) handshakes: u64,
}

/// What a packet leads to.
#[derive(Default)]
pub(crate) struct Outcome {
    /// To be sent back to where it came from.
    pub(crate) packets: Vec<Datagram>,
    /// For the machine, in order.
    pub(crate) inputs: Vec<CoreInput>,
}

impl Sessions {
    /// What a message to `peer` at `to` puts on the wire now.
    pub(crate) fn send(
        &mut self,
        now: MonoTime,
        own: NodeId,
        to: SocketAddr,
        peer: V5Peer,
        message: Message,
    ) -> Option<Datagram> {
        let remote = Remote::of(peer.id, to);
        let is_request = peer.key.is_some();
        if self.open.contains(&remote) {
            let nonce = self.nonce();
            if is_request {
                self.recent.truncate(MAX_RECENT - 1);
                self.recent.push_front((nonce, remote, message.clone()));
            }
            let (id, message) = (own, Some(message));
            return Some(Datagram::V5 { id, nonce, message });
        }
        // An answer without a session has nowhere to go.
        if !is_request {
            return None;
        }
        if let Some(opening) = self.opening.get_mut(&remote)
            && now - opening.began < PATIENCE
        {
            opening.requests.push(message);
            return None;
        }
        Some(self.begin(now, own, remote, vec![message]))
    }

    /// What a packet from `from` does, at a node with this record.
    pub(crate) fn receive(
        &mut self,
        own: &NodeRecord,
        from: SocketAddr,
        packet: Datagram,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        match packet {
            Datagram::V4 { .. } => {}
            Datagram::V5 { id, nonce, message } => {
                let remote = Remote::of(id, from);
                match message.filter(|_| self.open.contains(&remote)) {
                    Some(message) => {
                        if self.unconfirmed.remove(&remote) {
                            outcome.inputs.push(session(from, id, None));
                        }
                        outcome
                            .inputs
                            .push(CoreInput::V5Message { from, id, message });
                    }
                    None => {
                        self.challenged.truncate(MAX_CHALLENGES - 1);
                        self.challenged.push_front(remote);
                        outcome.packets.push(Datagram::V5Challenge { nonce });
                    }
                }
            }
            Datagram::V5Challenge { nonce } => outcome.packets = self.answer(own, nonce),
            Datagram::V5Handshake { record, message } => {
                let id = record.id();
                let remote = Remote::of(id, from);
                // Without a challenge there is nothing its signature could be about.
                if let Some(at) = self.challenged.iter().position(|known| *known == remote) {
                    self.challenged.remove(at);
                    self.open.insert(remote);
                    self.unconfirmed.remove(&remote);
                    outcome.inputs.push(session(from, id, Some(record)));
                    outcome
                        .inputs
                        .push(CoreInput::V5Message { from, id, message });
                }
            }
        }
        outcome
    }

    /// Answers a challenge to a packet of ours, wherever it comes from: only whom we sent the nonce to knows it.
    fn answer(&mut self, own: &NodeRecord, nonce: u64) -> Vec<Datagram> {
        let known = self.by_nonce.remove(&nonce);
        let opening = known.and_then(|remote| Some((remote, self.opening.remove(&remote)?)));
        if let Some((remote, opening)) = opening {
            if opening.nonce != nonce {
                self.opening.insert(remote, opening);
                return Vec::new();
            }
            self.open.insert(remote);
            self.unconfirmed.insert(remote);
            let mut requests = opening.requests.into_iter();
            let first = requests.next().map(|message| Datagram::V5Handshake {
                record: own.clone(),
                message,
            });
            let rest: Vec<Datagram> = requests
                .map(|message| Datagram::V5 {
                    id: own.id(),
                    nonce: self.nonce(),
                    message: Some(message),
                })
                .collect();
            return first.into_iter().chain(rest).collect();
        }
        // The other end has lost the session: the request is the first of a new one.
        let Some(at) = self.recent.iter().position(|recent| recent.0 == nonce) else {
            return Vec::new();
        };
        let Some((_, remote, message)) = self.recent.remove(at) else {
            return Vec::new();
        };
        self.handshakes += 1;
        self.unconfirmed.insert(remote);
        vec![Datagram::V5Handshake {
            record: own.clone(),
            message,
        }]
    }

    fn begin(
        &mut self,
        now: MonoTime,
        own: NodeId,
        remote: Remote,
        requests: Vec<Message>,
    ) -> Datagram {
        self.handshakes += 1;
        let nonce = self.nonce();
        let opening = Opening {
            nonce,
            began: now,
            requests,
        };
        if let Some(given_up) = self.opening.insert(remote, opening) {
            self.by_nonce.remove(&given_up.nonce);
        }
        self.by_nonce.insert(nonce, remote);
        Datagram::V5 {
            id: own,
            nonce,
            message: None,
        }
    }

    const fn nonce(&mut self) -> u64 {
        self.next_nonce += 1;
        self.next_nonce
    }
}

/// The machine's notice of a session; with a record if the other side began it.
fn session(from: SocketAddr, id: NodeId, record: Option<NodeRecord>) -> CoreInput {
    CoreInput::V5Session {
        from,
        id,
        inbound: record.is_some(),
        record,
    }
}
