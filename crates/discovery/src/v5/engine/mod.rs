//! discv5 between two nodes that have a session: what is asked of one node and what it answers, and what this node answers
//! others. Packets, keys and handshakes are left to the sessions; the table belongs to the core and is lent for each call.
//!
//! Every message comes out of a session, so its sender is known and receives at the address it sent from: nothing here
//! answers a forged source.
//!
//! After every call drain [`poll_send`](V5Engine::poll_send) and [`poll_report`](V5Engine::poll_report); call
//! [`handle_timeout`](V5Engine::handle_timeout) at [`deadline`](V5Engine::deadline).

mod answers;
mod counters;
mod homeless;
mod pending;
mod responses;
mod sessions;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tercet_enode::{Node, NodeId, NodeRecord, canonical_ip};
use tercet_machine::{MachineRng, MonoTime, Now, Outputs};
use tercet_nodedb::Write;

pub use self::counters::{Drop, V5Counters};
pub use self::pending::{MAX_REQUESTS, MAX_REQUESTS_PER_NODE};

use self::homeless::Homeless;
use self::pending::{Asked, Gathering, Pending, Requests};
use super::{
    Distances, MAX_MESSAGE, MAX_REQUEST_ID, Message, Request, RequestId, Response, TalkResponse,
    V5Peer, WireMessage,
};
use crate::engine::{Asker, Question, Report, RequestError};
use crate::kad::{BUCKET_SIZE, Table};
use crate::policy::Policy;

/// How long an answer is waited for: geth's 700 ms, which has to hold a handshake too.
pub const REPLY_TIMEOUT: Duration = Duration::from_millis(700);

/// Distances asked of one node in a lookup (geth).
const LOOKUP_DISTANCES: usize = 3;

/// NODES messages taken for one question of a lookup: @chainsafe/discv5 puts three records into each, whatever their size.
const LOOKUP_PACKETS: usize = BUCKET_SIZE.div_ceil(3);

/// Records taken for a question that names its distances: those of 16 full buckets, as nearly all others are empty.
const MAX_GATHERED: usize = 16 * BUCKET_SIZE;

/// Messages those may come in: a datagram holds at least three records.
const MAX_GATHERED_PACKETS: usize = MAX_GATHERED.div_ceil(3);

/// A message to send.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct V5Send {
    pub(crate) to: SocketAddr,
    pub(crate) peer: V5Peer,
    pub(crate) message: Message,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct V5Engine {
    policy: Policy,
    reply_timeout: Duration,
    record: NodeRecord,
    requests: Requests,
    homeless: Homeless,
    rng: MachineRng,
    counters: V5Counters,
    sends: Outputs<V5Send>,
    reports: Outputs<Report>,
}

impl V5Engine {
    /// An engine for the node `record` describes.
    pub(crate) fn new(
        policy: Policy,
        reply_timeout: Duration,
        record: NodeRecord,
        mut rng: MachineRng,
    ) -> Self {
        Self {
            policy,
            reply_timeout,
            record,
            requests: Requests::new(rng.child("requests")),
            homeless: Homeless::new(&mut rng.child("homeless")),
            rng: rng.child("answers"),
            counters: V5Counters::default(),
            sends: Outputs::new(),
            reports: Outputs::new(),
        }
    }

    /// This node's record has changed.
    pub(crate) fn handle_local_record(&mut self, record: NodeRecord) {
        self.record = record;
    }

    /// Asks a node. Once accepted, the question ends with exactly one report that names `asker`.
    ///
    /// # Errors
    /// [`RequestError::Own`], [`RequestError::NoAddress`], [`RequestError::Busy`] at either bound, [`RequestError::TooLong`].
    pub(crate) fn ask(
        &mut self,
        now: Now,
        node: &Node,
        question: Question,
        asker: Asker,
    ) -> Result<(), RequestError> {
        self.policy.usable(node)?;
        let (asked, request) = self.put(node, question);
        // Nothing else can be as long: all 256 distances take less.
        if let Request::Talk { .. } = &request {
            let longest = RequestId::new(&[0; MAX_REQUEST_ID]).unwrap_or_default();
            let message: Message = Message::Request(longest, request.clone());
            if message.encoded_len() > MAX_MESSAGE {
                return Err(RequestError::TooLong);
            }
        }
        let to = node.endpoint().udp_addr();
        let pending = Pending {
            node: node.clone(),
            to,
            asker,
            asked,
            sent: now.mono,
        };
        let deadline = now.mono + self.reply_timeout;
        let id = self.requests.open(pending, deadline)?;
        let peer = V5Peer {
            id: node.id(),
            key: Some(node.public_key()),
        };
        self.send(to, peer, Message::Request(id, request));
        Ok(())
    }

    /// Answers a [`Report::TalkRequest`], with nothing if `payload` does not fit into a datagram. Goes to the address the request
    /// came from.
    pub(crate) fn handle_talk_response(&mut self, response: TalkResponse) {
        let TalkResponse {
            to,
            id,
            request,
            payload,
        } = response;
        let response = Response::Talk { payload };
        let message: Message = Message::Response(request, response.clone());
        let fits = message.encoded_len() <= MAX_MESSAGE;
        let nothing = || Response::Talk {
            payload: Bytes::new(),
        };
        self.respond(to, id, request, if fits { response } else { nothing() });
    }

    /// First check of a message, before the signatures of its records are paid for: for a response whether it is one that
    /// somebody waits for, from where it was asked and within its total.
    ///
    /// # Errors
    /// The reason to drop it; it has been counted.
    pub(crate) fn screen(
        &mut self,
        from: SocketAddr,
        id: NodeId,
        message: &WireMessage,
    ) -> Result<(), Drop> {
        let from = canonical(from);
        let verdict = self.admit(from, id, message);
        self.counted(verdict)
    }

    /// A message arrived, its records verified.
    ///
    /// # Errors
    /// The reason it was dropped; it has been counted.
    pub(crate) fn handle_message(
        &mut self,
        now: Now,
        table: &Table,
        from: SocketAddr,
        id: NodeId,
        message: Message,
    ) -> Result<(), Drop> {
        self.counters.received += 1;
        let from = canonical(from);
        let verdict = self.admit(from, id, &message);
        self.counted(verdict)?;
        match message {
            Message::Request(request, ask) => {
                self.on_request(table, (from, id), request, ask);
            }
            Message::Response(request, answer) => {
                self.on_response(now, table, (id, request), answer);
            }
        }
        Ok(())
    }

    /// Ends the requests whose time is over.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        while let Some(pending) = self.requests.pop_expired(now.mono) {
            self.on_silence(pending);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        self.requests.deadline()
    }

    /// What is to be sent, in order.
    pub(crate) fn poll_send(&mut self) -> Option<V5Send> {
        self.sends.pop()
    }

    /// What is to be told, in order.
    pub(crate) fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop()
    }

    /// Requests under way, at most [`MAX_REQUESTS`].
    pub(crate) fn requests(&self) -> usize {
        self.requests.len()
    }

    /// What has been counted so far.
    pub(crate) const fn counters(&self) -> V5Counters {
        self.counters
    }

    fn put(&self, node: &Node, question: Question) -> (Asked, Request) {
        match question {
            Question::Ping => {
                let enr_seq = self.record.seq();
                (Asked::Ping, Request::Ping { enr_seq })
            }
            Question::Record => {
                let distances = Distances::new([0]);
                (Asked::Record, Request::FindNode { distances })
            }
            Question::Talk { protocol, payload } => {
                (Asked::Talk, Request::Talk { protocol, payload })
            }
            Question::Find(target) => {
                let distances = lookup_distances(target.id().log_distance(&node.id()));
                gathering(distances, LOOKUP_PACKETS, BUCKET_SIZE)
            }
            Question::Distances(distances) => {
                gathering(distances, MAX_GATHERED_PACKETS, MAX_GATHERED)
            }
        }
    }

    fn admit<R>(&self, from: SocketAddr, id: NodeId, message: &Message<R>) -> Result<(), Drop> {
        if id == self.record.id() {
            return Err(Drop::Own);
        }
        if !self.policy.permits(from.ip()) {
            return Err(Drop::Restricted);
        }
        match message {
            Message::Request(..) => Ok(()),
            Message::Response(request, answer) => self.expects(from, (id, *request), answer),
        }
    }

    fn counted(&mut self, verdict: Result<(), Drop>) -> Result<(), Drop> {
        if let Err(drop) = verdict {
            self.counters.count(drop);
        }
        verdict
    }

    fn respond(&mut self, to: SocketAddr, id: NodeId, request: RequestId, response: Response) {
        let peer = V5Peer { id, key: None };
        self.send(to, peer, Message::Response(request, response));
    }

    fn send(&mut self, to: SocketAddr, peer: V5Peer, message: Message) {
        self.counters.sent += 1;
        self.sends.push(V5Send { to, peer, message });
    }

    fn report(&mut self, report: Report) {
        self.reports.push(report);
    }

    fn write(&mut self, write: Write) {
        self.report(Report::Write(write));
    }
}

fn gathering(distances: Distances, packets: usize, records: usize) -> (Asked, Request) {
    let gathering = Gathering {
        distances: distances.clone(),
        packets,
        records,
        seen: std::collections::BTreeSet::new(),
        begun: false,
    };
    (Asked::Nodes(gathering), Request::FindNode { distances })
}

/// The distances at which a node at `distance` from the target knows the target's neighbours, nearest first as in geth:
/// `d, d+1, d−1, …` within 1 to 256.
fn lookup_distances(distance: u16) -> Distances {
    let d = u64::from(distance);
    let around = (1..=256).flat_map(|step| [d.checked_add(step), d.checked_sub(step)]);
    let possible = std::iter::once(Some(d)).chain(around).flatten();
    Distances::new(
        possible
            .filter(|d| (1..=256).contains(d))
            .take(LOOKUP_DISTANCES),
    )
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(canonical_ip(address.ip()), address.port())
}

/// Whether the record says that its node is at `address`, in either family.
fn names(record: &NodeRecord, address: SocketAddr) -> bool {
    let mut endpoints = record.endpoints();
    endpoints.any(|endpoint| endpoint.udp_addr() == address)
}
