//! discv5 for a crawl: FINDNODE over sessions, the NODES of each answer gathered and its records checked.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tercet_discovery::v5::{
    Distances, HandshakeResult, MAX_NODES, MAX_NODES_MESSAGES, Message, Opened, Request, RequestId,
    Response, SessionInput, SessionOutput, Sessions, SessionsConfig, V5Peer, WireMessage,
};
use tercet_enode::{Node, NodeId, NodeRecord, SecretKey, UnverifiedRecord};
use tercet_machine::{KeyedMap, KeyedState, Machine as _, MachineRng, MonoTime, Now, TimerSet};

use super::records::Named;
use super::{Job, Shared};
use crate::crawl::io::{CrawlInput, Extent, FULL, Question};

/// Datagrams of one sender that wait while a handshake with it is being computed.
const MAX_LANE: usize = 8;

#[derive(Debug)]
struct Pending {
    id: NodeId,
    to: SocketAddr,
    distances: Distances,
    sent: MonoTime,
    patience: Duration,
    /// A handshake came first: the answer took two round trips.
    shaken: bool,
    /// What the first NODES said how many there are, and how many came.
    total: Option<u64>,
    received: u64,
    own: Option<NodeRecord>,
    named: Vec<Node>,
    /// Records that came, those not believed among them.
    seen: usize,
    /// Jobs under way for it.
    checking: usize,
    /// Time was up while something was being checked: no more is taken.
    late: bool,
    rtt: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct V5 {
    sessions: Sessions,
    pending: BTreeMap<u64, Pending>,
    /// Questions to each address without a session, to be waited for longer once a challenge comes.
    at: KeyedMap<SocketAddr, Vec<u64>>,
    deadlines: TimerSet<u64>,
    /// Senders a handshake is computed with, and what they sent since.
    lanes: KeyedMap<SocketAddr, VecDeque<BytesMut>>,
}

impl V5 {
    pub(super) fn new(rng: &mut MachineRng, key: SecretKey, record: NodeRecord) -> Self {
        let mut seed = [0; 32];
        rand::Rng::fill_bytes(&mut rng.child("sessions"), &mut seed);
        Self {
            sessions: Sessions::new(SessionsConfig::new(seed), key, record),
            pending: BTreeMap::new(),
            at: KeyedMap::with_hasher(KeyedState::new(rng)),
            deadlines: TimerSet::new(),
            lanes: KeyedMap::with_hasher(KeyedState::new(rng)),
        }
    }

    pub(super) fn covers(&self, datagram: &[u8]) -> bool {
        self.sessions.covers(datagram)
    }

    pub(super) fn ask(
        &mut self,
        shared: &mut Shared,
        now: Now,
        question: &Question,
        distances: Distances,
    ) {
        let (serial, node) = (question.serial, &question.node);
        let to = node.endpoint().udp_addr();
        self.pending.insert(
            serial,
            Pending {
                id: node.id(),
                to,
                distances: distances.clone(),
                sent: now.mono,
                patience: question.patience,
                shaken: false,
                total: None,
                received: 0,
                own: None,
                named: Vec::new(),
                seen: 0,
                checking: 0,
                late: false,
                rtt: None,
            },
        );
        self.at.entry(to).or_default().push(serial);
        self.deadlines.set(serial, now.mono + question.patience);
        let message = Message::Request(request_id(serial), Request::FindNode { distances });
        let key = Some(node.public_key());
        let peer = V5Peer { id: node.id(), key };
        self.sessions
            .handle(now, SessionInput::Send { to, peer, message });
        self.drain(shared, now);
    }

    pub(super) fn on_datagram(
        &mut self,
        shared: &mut Shared,
        now: Now,
        from: SocketAddr,
        datagram: BytesMut,
    ) {
        if let Some(lane) = self.lanes.get_mut(&from) {
            if lane.len() < MAX_LANE {
                lane.push_back(datagram);
            } else {
                shared.counters.flooded += 1;
            }
            return;
        }
        if let Opened::Verify(job) = self.sessions.open(now, from, datagram) {
            self.on_challenge(now.mono, from);
            self.lanes.insert(from, VecDeque::new());
            shared.job(Job::Handshake(job));
        }
        self.drain(shared, now);
    }

    /// A handshake with `from` has begun, so there is somebody: what it was asked is waited for once more as long.
    fn on_challenge(&mut self, now: MonoTime, from: SocketAddr) {
        for serial in self.at.get(&from).into_iter().flatten() {
            if let Some(pending) = self.pending.get_mut(serial)
                && !pending.shaken
            {
                pending.shaken = true;
                self.deadlines.set(*serial, now + pending.patience);
            }
        }
    }

    pub(super) fn on_handshake(
        &mut self,
        shared: &mut Shared,
        now: Now,
        from: SocketAddr,
        result: HandshakeResult,
    ) {
        self.sessions.complete(now, result);
        self.drain(shared, now);
        // One of those that waited may need a handshake of its own.
        let mut waited = self.lanes.remove(&from).unwrap_or_default();
        while let Some(datagram) = waited.pop_front() {
            self.on_datagram(shared, now, from, datagram);
            if let Some(lane) = self.lanes.get_mut(&from) {
                lane.extend(waited);
                return;
            }
        }
    }

    /// Records of an answer were checked.
    pub(super) fn on_records(
        &mut self,
        shared: &mut Shared,
        now: Now,
        serial: u64,
        records: Vec<NodeRecord>,
    ) {
        for record in &records {
            shared.records.insert(record);
        }
        let Some(pending) = self.pending.get_mut(&serial) else {
            return;
        };
        pending.checking -= 1;
        for record in records {
            pending.take(shared, record);
        }
        self.end_if_whole(shared, serial);
        self.drain(shared, now);
    }

    fn drain(&mut self, shared: &mut Shared, now: Now) {
        while let Some(output) = self.sessions.poll() {
            match output {
                SessionOutput::Send { to, datagram } => shared.send(to, datagram),
                SessionOutput::Unknown { from, id, nonce } => {
                    let known = shared.records.get(&id).cloned();
                    let challenge = SessionInput::Challenge {
                        from,
                        id,
                        nonce,
                        known,
                    };
                    self.sessions.handle(now, challenge);
                }
                SessionOutput::Established { from, record, .. } => {
                    self.on_established(shared, from, record);
                }
                SessionOutput::Message { from, id, message } => {
                    self.on_message(shared, now, from, id, message);
                }
            }
        }
    }

    /// Who comes by itself is one more node, if it is where its record says.
    fn on_established(&self, shared: &mut Shared, from: SocketAddr, record: Option<NodeRecord>) {
        let Some(record) = record else { return };
        shared.records.insert(&record);
        if let Some(node) = Node::from_record(record)
            && node.endpoint().udp_addr() == from
            && shared.records.may_name(from.ip(), &node)
        {
            shared.tell(CrawlInput::Came(node));
        }
    }

    fn on_message(
        &mut self,
        shared: &mut Shared,
        now: Now,
        from: SocketAddr,
        id: NodeId,
        message: WireMessage,
    ) {
        match message {
            Message::Response(request, Response::Nodes { total, records }) => {
                let serial =
                    u64::from_be_bytes(request.as_bytes().try_into().unwrap_or([u8::MAX; 8]));
                match self.pending.get_mut(&serial) {
                    Some(pending) if pending.id == id && pending.to == from => {
                        pending.on_nodes(shared, now.mono, serial, total, records);
                        self.end_if_whole(shared, serial);
                    }
                    _ => shared.counters.ignored += 1,
                }
            }
            Message::Response(..) => shared.counters.ignored += 1,
            Message::Request(request, asked) => {
                let response = answer(&shared.record, from, &asked);
                let peer = V5Peer { id, key: None };
                let message = Message::Response(request, response);
                self.sessions.handle(
                    now,
                    SessionInput::Send {
                        to: from,
                        peer,
                        message,
                    },
                );
            }
        }
    }

    fn end_if_whole(&mut self, shared: &mut Shared, serial: u64) {
        let ends =
            |pending: &Pending| pending.checking == 0 && (pending.late || pending.is_whole());
        if self.pending.get(&serial).is_some_and(ends) {
            self.end(shared, serial);
        }
    }

    fn end(&mut self, shared: &mut Shared, serial: u64) {
        self.deadlines.cancel(&serial);
        let Some(pending) = self.pending.remove(&serial) else {
            return;
        };
        if let Some(serials) = self.at.get_mut(&pending.to) {
            serials.retain(|other| *other != serial);
            if serials.is_empty() {
                self.at.remove(&pending.to);
            }
        }
        let extent = pending.extent();
        shared.tell(match pending.rtt {
            None => CrawlInput::Silent { serial },
            Some(rtt) => CrawlInput::Answered {
                serial,
                record: pending.own,
                named: pending.named,
                extent,
                rtt,
            },
        });
    }

    pub(super) fn handle_timeout(&mut self, shared: &mut Shared, now: Now) {
        self.sessions.handle_timeout(now);
        self.drain(shared, now);
        while let Some(serial) = self.deadlines.pop_expired(now.mono) {
            match self.pending.get_mut(&serial) {
                // What came in time counts, however late it is checked.
                Some(pending) if pending.checking > 0 => pending.late = true,
                _ => self.end(shared, serial),
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<MonoTime> {
        [self.sessions.deadline(), self.deadlines.deadline()]
            .into_iter()
            .flatten()
            .min()
    }
}

impl Pending {
    fn is_whole(&self) -> bool {
        self.total.is_some_and(|total| self.received >= total)
    }

    fn extent(&self) -> Extent {
        match self.is_whole() {
            false => Extent::Part,
            true if self.seen < FULL => Extent::All,
            true => Extent::Full,
        }
    }

    fn on_nodes(
        &mut self,
        shared: &mut Shared,
        now: MonoTime,
        serial: u64,
        total: u64,
        records: Vec<UnverifiedRecord>,
    ) {
        let total = *self
            .total
            .get_or_insert(total.clamp(1, MAX_NODES_MESSAGES as u64));
        if self.late || self.received >= total {
            shared.counters.ignored += 1;
            return;
        }
        self.received += 1;
        self.seen += records.len();
        let trips = if self.shaken { 2 } else { 1 };
        self.rtt.get_or_insert((now - self.sent) / trips);
        let mut new = Vec::new();
        // A message has room for fewer than MAX_NODES of any size but the smallest.
        for record in records.into_iter().take(MAX_NODES) {
            let distance = self.id.log_distance(&record.id());
            if !self.distances.as_slice().contains(&distance) {
                shared.counters.refused += 1;
                continue;
            }
            match shared.records.sort(record) {
                Named::Known(record) => self.take(shared, record),
                Named::New(record) => new.push(record),
            }
        }
        if !new.is_empty() {
            self.checking += 1;
            shared.job(Job::Records {
                serial,
                records: new,
            });
        }
    }

    /// Takes a record that holds.
    fn take(&mut self, shared: &mut Shared, record: NodeRecord) {
        if record.id() == self.id {
            self.own = Some(record);
            return;
        }
        let is_new = |node: &Node| {
            self.named.len() < MAX_NODES && self.named.iter().all(|other| other.id() != node.id())
        };
        match Node::from_record(record) {
            Some(node) if shared.records.may_name(self.to.ip(), &node) && is_new(&node) => {
                self.named.push(node);
            }
            _ => shared.counters.refused += 1,
        }
    }
}

fn request_id(serial: u64) -> RequestId {
    RequestId::new(&serial.to_be_bytes()).unwrap_or_default()
}

fn answer(own: &NodeRecord, from: SocketAddr, asked: &Request) -> Response {
    match asked {
        Request::Ping { .. } => Response::Pong {
            enr_seq: own.seq(),
            recipient: from,
        },
        Request::FindNode { distances } => Response::Nodes {
            total: 1,
            records: if distances.as_slice().contains(&0) {
                vec![own.clone()]
            } else {
                Vec::new()
            },
        },
        Request::Talk { .. } => Response::Talk {
            payload: Bytes::new(),
        },
    }
}
