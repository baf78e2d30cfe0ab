//! How an exchange with one peer runs: ping, pong, the remote's own ping, then what we wanted to ask.
//!
//! A peer answers FindNode and ENRRequest only once *it* has pinged *us* and seen our pong. geth sleeps
//! 500 ms after each first pong to let that happen. Here the remote's ping is an event: the questions go out
//! right behind our pong to it. A peer that knows us already sends no ping, so a short wait is the fallback.

use std::collections::VecDeque;
use std::time::Duration;

use tercet_enode::{Endpoint, Node};
use tercet_machine::Now;
use tercet_nodedb::Write;

use super::command::{OpId, RequestError};
use super::contact::{
    Contact, EnrSlot, EnrWant, FindSlot, Job, MAX_JOBS, MAX_WAITERS, PingSlot, Slot,
};
use super::late::Late;
use super::lookups::LookupId;
use super::{Drop, V4Core};
use crate::kad::BUCKET_SIZE;
use crate::v4::bond::PeerKey;
use crate::v4::message::{EnrRequest, FindNode, Message, Ping, WireEndpoint};

/// Life of an outgoing packet, as in every client.
const EXPIRATION: Duration = Duration::from_secs(20);

/// How long a peer that has answered our ping may take to send its own. Clients send it right behind the pong, so
/// this only has to outlast the jitter between two packets.
const GREETING_TIMEOUT: Duration = Duration::from_millis(250);

/// FindNode failures in a row that cost a node its place (geth).
const MAX_FIND_FAILURES: u32 = 5;

/// A bucket with fewer nodes than this loses none to FindNode failures (geth): if our own line is down, the
/// table survives it.
const MIN_BUCKET_TO_DROP: usize = 4;

impl V4Core {
    pub(super) fn expiration(now: Now) -> u64 {
        (now.unix + EXPIRATION).as_secs()
    }

    /// Queues a job at a peer and does what can be done at once.
    pub(super) fn submit(&mut self, now: Now, node: Node, job: Job) -> Result<(), RequestError> {
        let peer = PeerKey::of(&node);
        let contact = self.contacts.open(&node, false).ok_or(RequestError::Busy)?;
        if contact.jobs.len() >= MAX_JOBS {
            return Err(RequestError::Busy);
        }
        contact.jobs.push_back(job);
        self.advance(now, peer);
        Ok(())
    }

    /// Pings a node for a caller; joins a ping under way.
    pub(super) fn ping_for(&mut self, now: Now, node: Node, op: OpId) -> Result<(), RequestError> {
        let peer = PeerKey::of(&node);
        let contact = self.contacts.open(&node, false).ok_or(RequestError::Busy)?;
        if let Some(ping) = &mut contact.ping {
            if ping.ops.len() >= MAX_WAITERS {
                return Err(RequestError::Busy);
            }
            ping.ops.push(op);
        } else {
            contact.node = node;
            self.send_ping(now, peer, vec![op]);
        }
        Ok(())
    }

    /// Pings a node of the table to see whether it still lives.
    pub(super) fn check(&mut self, now: Now, node: Node) {
        let peer = PeerKey::of(&node);
        match self.contacts.open(&node, false) {
            Some(contact) if contact.ping.is_none() => {
                contact.node = node;
                self.send_ping(now, peer, Vec::new());
            }
            // A ping is under way; its end is the check's.
            Some(contact) if contact.node.endpoint() == node.endpoint() => {}
            Some(_) | None => self.table.on_check_skipped(now.mono, &peer.id),
        }
    }

    /// Pings back at once somebody who has not proven his address. `false` if there is no room.
    pub(super) fn ping_back(&mut self, now: Now, node: Node) -> bool {
        let peer = PeerKey::of(&node);
        let Some(contact) = self.contacts.open(&node, true) else {
            return false;
        };
        let moved = contact.node.endpoint().udp != node.endpoint().udp;
        if contact.ping.is_none() || moved {
            contact.node = node;
            let ops = contact.ping.take().map(|ping| ping.ops).unwrap_or_default();
            self.send_ping(now, peer, ops);
        }
        true
    }

    /// Starts whatever the peer's state allows.
    pub(super) fn advance(&mut self, now: Now, peer: PeerKey) {
        let knows_us = self.bonds.knows_us(&peer, now.unix);
        let Some(contact) = self.contacts.get_mut(&peer) else {
            return;
        };
        contact.ready |= knows_us;
        if contact.jobs.is_empty() {
            self.contacts.tidy(&peer);
            return;
        }
        if !contact.ready {
            if contact.ping.is_none() && !contact.greeting {
                self.send_ping(now, peer, Vec::new());
            }
            return;
        }
        let mut waiting = VecDeque::new();
        while let Some(contact) = self.contacts.get_mut(&peer)
            && let Some(job) = contact.jobs.pop_front()
        {
            match (job, &mut contact.find, &mut contact.enr) {
                (Job::Find(lookup), None, _) => self.send_find(now, peer, lookup),
                (Job::Enr(want), _, None) => self.send_enr_request(now, peer, want),
                (Job::Enr(want), _, Some(enr)) if enr.wants.len() < MAX_WAITERS => {
                    enr.wants.push(want);
                }
                _ => waiting.push_back(job),
            }
        }
        if let Some(contact) = self.contacts.get_mut(&peer) {
            contact.jobs = waiting;
        }
    }

    fn send_ping(&mut self, now: Now, peer: PeerKey, ops: Vec<OpId>) {
        let token = self.contacts.token(peer);
        let Some(contact) = self.contacts.get_mut(&peer) else {
            return;
        };
        contact.ping = Some(PingSlot {
            token,
            hash: None,
            sent: now.mono,
            ops,
        });
        let to = *contact.node.endpoint();
        let from = self
            .record
            .endpoint()
            .map_or_else(WireEndpoint::default, wire);
        let message = Message::Ping(Ping {
            from,
            to: WireEndpoint::new(to.ip, to.udp, 0),
            expiration: Self::expiration(now),
            enr_seq: Some(self.record.seq()),
        });
        self.contacts
            .arm(peer, Slot::Ping, now.mono + self.config.reply_timeout);
        self.send(to.udp_addr(), message, Some(token));
    }

    fn send_find(&mut self, now: Now, peer: PeerKey, lookup: LookupId) {
        let Some(target) = self.lookups.target(lookup) else {
            return;
        };
        let deadline = now.mono + self.config.reply_timeout;
        let Some(contact) = self.contacts.get_mut(&peer) else {
            return;
        };
        contact.find = Some(FindSlot {
            lookup,
            received: None,
            deadline,
        });
        let to = contact.node.endpoint().udp_addr();
        self.contacts.arm(peer, Slot::Find, deadline);
        self.send(
            to,
            Message::FindNode(FindNode {
                target,
                expiration: Self::expiration(now),
            }),
            None,
        );
    }

    fn send_enr_request(&mut self, now: Now, peer: PeerKey, want: EnrWant) {
        let token = self.contacts.token(peer);
        let Some(contact) = self.contacts.get_mut(&peer) else {
            return;
        };
        contact.enr = Some(EnrSlot {
            token,
            hash: None,
            wants: vec![want],
        });
        let to = contact.node.endpoint().udp_addr();
        self.contacts
            .arm(peer, Slot::Enr, now.mono + self.config.reply_timeout);
        self.send(
            to,
            Message::EnrRequest(EnrRequest {
                expiration: Self::expiration(now),
            }),
            Some(token),
        );
    }

    /// The peer answered our ping: ask it now, or wait for its ping first.
    pub(super) fn await_greeting(&mut self, now: Now, peer: PeerKey) {
        let knows_us = self.bonds.knows_us(&peer, now.unix);
        if let Some(contact) = self.contacts.get_mut(&peer)
            && !contact.jobs.is_empty()
            && !contact.ready
            && !knows_us
        {
            contact.greeting = true;
            self.contacts
                .arm(peer, Slot::Greeting, now.mono + GREETING_TIMEOUT);
        }
        self.advance(now, peer);
    }

    /// The peer has pinged us and our pong is on its way: whatever waited for that goes out.
    pub(super) fn on_greeted(&mut self, now: Now, peer: PeerKey) {
        if let Some(contact) = self.contacts.get_mut(&peer) {
            contact.ready = true;
            if contact.greeting {
                contact.greeting = false;
                self.contacts.disarm(peer, Slot::Greeting);
            }
            self.advance(now, peer);
        }
    }

    pub(super) fn on_contact_timeout(&mut self, now: Now, peer: PeerKey, slot: Slot) {
        match slot {
            Slot::Ping => self.on_ping_timeout(now, peer),
            Slot::Greeting => {
                if let Some(contact) = self.contacts.get_mut(&peer) {
                    contact.greeting = false;
                    contact.ready = true;
                }
            }
            Slot::Find => {
                if let Some(find) = self
                    .contacts
                    .get_mut(&peer)
                    .and_then(|contact| contact.find.take())
                {
                    self.on_find_end(now, peer, find);
                }
            }
            Slot::Enr => {
                if let Some(enr) = self
                    .contacts
                    .get_mut(&peer)
                    .and_then(|contact| contact.enr.take())
                {
                    self.counters.timeouts += 1;
                    for want in enr.wants {
                        self.on_enr_failure(want, RequestError::Timeout);
                    }
                }
            }
        }
        self.advance(now, peer);
        if self.table.is_empty() {
            self.refresh.hurry(now.mono);
        }
    }

    fn on_ping_timeout(&mut self, now: Now, peer: PeerKey) {
        let Some(contact) = self.contacts.get_mut(&peer) else {
            return;
        };
        let Some(ping) = contact.ping.take() else {
            return;
        };
        if contact.asked.take().is_some() {
            self.counters.count(Drop::Unproven);
        }
        let endpoint = *contact.node.endpoint();
        let jobs = if contact.ready {
            VecDeque::new()
        } else {
            std::mem::take(&mut contact.jobs)
        };
        self.counters.timeouts += 1;
        for op in ping.ops {
            self.done(op, Err(RequestError::Timeout));
        }
        match self.table.get(&peer.id) {
            Some(node) if *node.endpoint() == endpoint => {
                self.table.on_check_failed(now.mono, &peer.id);
            }
            // It has moved meanwhile; what is there now has not been checked.
            Some(_) => self.table.on_check_skipped(now.mono, &peer.id),
            None => {}
        }
        for job in jobs {
            match job {
                Job::Find(lookup) => self.lookups.on_failure(lookup, &peer.id),
                Job::Enr(want) => self.on_enr_failure(want, RequestError::Timeout),
            }
        }
    }

    /// A FindNode has ended. Failures are counted in the database; too many in a row drop the node.
    pub(super) fn on_find_end(&mut self, now: Now, peer: PeerKey, find: FindSlot) {
        let PeerKey { id, ip } = peer;
        let FindSlot {
            lookup,
            received,
            deadline,
        } = find;
        if let Some(received) = received {
            self.late.push(
                now.mono,
                Late {
                    peer,
                    lookup,
                    room: BUCKET_SIZE.saturating_sub(received),
                    deadline,
                },
            );
            self.lookups.on_answer(lookup, &id);
            self.on_answered(now, peer);
            return;
        }
        self.counters.timeouts += 1;
        self.lookups.on_failure(lookup, &id);
        let count = self.bonds.on_find_failure(peer);
        self.write(Write::FindFailures { id, ip, count });
        if count >= MAX_FIND_FAILURES && self.table.bucket_len(&id) >= MIN_BUCKET_TO_DROP {
            self.table.remove(now.mono, &id);
        }
    }

    /// It answers questions, so it counts us as proven; a row of failures has ended.
    pub(super) fn on_answered(&mut self, now: Now, peer: PeerKey) {
        if self.bonds.on_answer(peer, now.unix) {
            let PeerKey { id, ip } = peer;
            self.write(Write::FindFailures { id, ip, count: 0 });
        }
    }

    pub(super) fn on_enr_failure(&mut self, want: EnrWant, error: RequestError) {
        match want {
            EnrWant::Table => {}
            EnrWant::Op(op) => self.done(op, Err(error)),
            EnrWant::Resolve(op) => self.search(op),
        }
    }

    /// Fetches the record of a node in the table that says it has a newer one than we know.
    pub(super) fn pull_record(&mut self, peer: PeerKey, enr_seq: Option<u64>) {
        let Some(known) = self.table.get(&peer.id) else {
            return;
        };
        if enr_seq.is_none_or(|seq| seq <= known.seq()) || PeerKey::of(known) != peer {
            return;
        }
        let known = known.clone();
        let job = Job::Enr(EnrWant::Table);
        if let Some(contact) = self.contacts.open(&known, false)
            && !is_wanted(contact, job)
            && contact.jobs.len() < MAX_JOBS
        {
            contact.jobs.push_back(job);
        }
    }
}

fn is_wanted(contact: &Contact, job: Job) -> bool {
    contact.enr.is_some() || contact.jobs.contains(&job)
}

fn wire(endpoint: Endpoint) -> WireEndpoint {
    WireEndpoint::new(endpoint.ip, endpoint.udp, endpoint.tcp)
}
