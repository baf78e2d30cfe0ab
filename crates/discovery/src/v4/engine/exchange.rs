//! How an exchange with one peer runs: ping, pong, the remote's own ping, then what we wanted to ask.
//!
//! A peer answers FindNode and ENRRequest only once *it* has pinged *us* and seen our pong. geth sleeps
//! 500 ms after each first pong to let that happen. Here the remote's ping is an event: the questions go out
//! right behind our pong to it. A peer that knows us already sends no ping, so a short wait is the fallback.

use std::collections::VecDeque;
use std::time::Duration;

use tercet_enode::{Endpoint, Node};
use tercet_machine::Now;

use super::contact::{EnrSlot, FindSlot, Job, MAX_JOBS, MAX_WAITERS, PingSlot, Slot, Unanswered};
use super::late::Late;
use super::{Drop, V4Engine};
use crate::engine::{Asker, Report, RequestError};
use crate::kad::BUCKET_SIZE;
use crate::v4::bond::PeerKey;
use crate::v4::message::{EnrRequest, FindNode, Message, Ping, Pong, WireEndpoint, WireTarget};

/// Life of an outgoing packet, as in every client.
const EXPIRATION: Duration = Duration::from_secs(20);

/// How long a peer waits for the answer to its ping: in geth and here 500 ms. Until then it sends no other, and counts whoever has not
/// answered as unproven.
const PEERS_PATIENCE: Duration = Duration::from_millis(500);

/// How long a peer that has answered our ping may take to send its own. Clients send it right behind the pong, so
/// this only has to outlast the jitter between two packets.
const GREETING_TIMEOUT: Duration = Duration::from_millis(250);

impl V4Engine {
    pub(super) fn expiration(now: Now) -> u64 {
        (now.unix + EXPIRATION).as_secs()
    }

    /// Queues a job at a peer and does what can be done at once.
    pub(super) fn submit(&mut self, now: Now, node: &Node, job: Job) -> Result<(), RequestError> {
        let peer = PeerKey::of(node);
        let contact = self.contacts.open(node, false).ok_or(RequestError::Busy)?;
        if contact.jobs.len() >= MAX_JOBS {
            return Err(RequestError::Busy);
        }
        contact.jobs.push_back(job);
        self.advance(now, peer);
        Ok(())
    }

    /// Pings a node for a caller; joins a ping under way.
    pub(super) fn ping_for(
        &mut self,
        now: Now,
        node: &Node,
        asker: Asker,
    ) -> Result<(), RequestError> {
        let peer = PeerKey::of(node);
        let contact = self.contacts.open(node, false).ok_or(RequestError::Busy)?;
        if let Some(ping) = &mut contact.ping {
            if ping.askers.len() >= MAX_WAITERS {
                return Err(RequestError::Busy);
            }
            ping.askers.push(asker);
        } else {
            contact.node = node.clone();
            self.send_ping(now, peer, vec![asker]);
        }
        Ok(())
    }

    /// Pings a node of the table to see whether it still lives. A ping under way there will do.
    pub(super) fn check(&mut self, now: Now, node: &Node) -> Result<(), RequestError> {
        let peer = PeerKey::of(node);
        let contact = self.contacts.open(node, false).ok_or(RequestError::Busy)?;
        if contact.ping.is_none() {
            contact.node = node.clone();
            self.send_ping(now, peer, Vec::new());
        } else if contact.node.endpoint() != node.endpoint() {
            return Err(RequestError::Busy);
        }
        Ok(())
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
            let askers = contact.ping.take().map(|ping| ping.askers);
            self.send_ping(now, peer, askers.unwrap_or_default());
        }
        true
    }

    /// Answers a peer's ping, after which it may count this node as proven.
    pub(super) fn send_pong(&mut self, now: Now, peer: PeerKey, ping: Unanswered) {
        let Unanswered { from, hash, tcp } = ping;
        let pong = Pong {
            to: WireEndpoint::new(from.ip(), from.port(), tcp),
            ping_hash: hash,
            expiration: Self::expiration(now),
            enr_seq: Some(self.record.seq()),
        };
        self.send(from, Message::Pong(pong), None);
        self.bonds.on_ping(peer, now.unix);
    }

    /// A guest leaves the ping of a peer unanswered of which it wants a pong at most. Should it want more while the peer still waits, it
    /// answers then: a ping of its own would not make the peer send another.
    pub(super) fn leave_unanswered(&mut self, now: Now, node: &Node, ping: Unanswered) {
        if let Some(contact) = self.contacts.open(node, true) {
            contact.unanswered = Some(ping);
            contact.greeting = true;
            let until = now.mono + PEERS_PATIENCE;
            self.contacts.arm(PeerKey::of(node), Slot::Greeting, until);
        }
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
        if let Some(ping) = contact.unanswered.take() {
            contact.greeting = false;
            contact.ready = true;
            self.contacts.disarm(peer, Slot::Greeting);
            self.send_pong(now, peer, ping);
        } else if !contact.ready {
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
                (Job::Find { asker, target }, None, _) => {
                    self.send_find(now, peer, asker, target);
                }
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

    fn send_ping(&mut self, now: Now, peer: PeerKey, askers: Vec<Asker>) {
        let token = self.contacts.token(peer);
        let Some(contact) = self.contacts.get_mut(&peer) else {
            return;
        };
        contact.ping = Some(PingSlot {
            token,
            hash: None,
            sent: now.mono,
            askers,
        });
        let to = *contact.node.endpoint();
        // In the family it goes out over, if this node is anywhere in it: whoever has that one alone has no use for the other.
        let same_family = |own: &Endpoint| own.ip.is_ipv4() == to.ip.is_ipv4();
        let from = self.record.endpoints().find(same_family);
        let from = from.or(self.record.endpoint());
        let from = from.map_or_else(WireEndpoint::default, wire);
        let message = Message::Ping(Ping {
            from,
            to: WireEndpoint::new(to.ip, to.udp, 0),
            expiration: Self::expiration(now),
            enr_seq: Some(self.record.seq()),
        });
        self.contacts
            .arm(peer, Slot::Ping, now.mono + self.reply_timeout);
        self.send(to.udp_addr(), message, Some(token));
    }

    fn send_find(&mut self, now: Now, peer: PeerKey, asker: Asker, target: WireTarget) {
        let deadline = now.mono + self.reply_timeout;
        let Some(contact) = self.contacts.get_mut(&peer) else {
            return;
        };
        contact.find = Some(FindSlot {
            asker,
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

    fn send_enr_request(&mut self, now: Now, peer: PeerKey, want: Asker) {
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
            .arm(peer, Slot::Enr, now.mono + self.reply_timeout);
        self.send(
            to,
            Message::EnrRequest(EnrRequest {
                expiration: Self::expiration(now),
            }),
            Some(token),
        );
    }

    /// The peer answered our ping: ask it now, or wait for its ping first. The wait begins even if there is nothing to ask
    /// yet: what comes up meanwhile need not begin with another ping.
    pub(super) fn await_greeting(&mut self, now: Now, peer: PeerKey) {
        let knows_us = self.bonds.knows_us(&peer, now.unix);
        if let Some(contact) = self.contacts.get_mut(&peer)
            && !contact.ready
            && !knows_us
            && contact.unanswered.is_none()
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
                    contact.ready = contact.unanswered.take().is_none();
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
                    self.fail(peer, enr.wants, RequestError::Timeout);
                }
            }
        }
        self.advance(now, peer);
    }

    fn on_ping_timeout(&mut self, _now: Now, peer: PeerKey) {
        let Some(contact) = self.contacts.get_mut(&peer) else {
            return;
        };
        let Some(ping) = contact.ping.take() else {
            return;
        };
        let unasked = contact.asked.take();
        let node = contact.node.clone();
        let jobs = if contact.ready {
            VecDeque::new()
        } else {
            std::mem::take(&mut contact.jobs)
        };
        self.counters.timeouts += 1;
        if unasked.is_some() {
            self.counters.count(Drop::Unproven);
        }
        self.report(Report::Silent(node));
        let waiting = jobs.into_iter().map(|job| match job {
            Job::Find { asker, .. } | Job::Enr(asker) => asker,
        });
        let askers = ping.askers.into_iter().chain(waiting).collect();
        self.fail(peer, askers, RequestError::Timeout);
    }

    /// A FindNode has ended.
    pub(super) fn on_find_end(&mut self, now: Now, peer: PeerKey, find: FindSlot) {
        let FindSlot {
            asker,
            received,
            deadline,
        } = find;
        let Some(received) = received else {
            self.counters.timeouts += 1;
            self.bonds.on_find_failure(peer);
            self.fail(peer, vec![asker], RequestError::Timeout);
            return;
        };
        self.late.push(
            now.mono,
            Late {
                peer,
                asker,
                room: BUCKET_SIZE.saturating_sub(received),
                deadline,
            },
        );
        self.bonds.on_answer(peer, now.unix);
        self.report(Report::Nodes {
            asker,
            from: peer.id,
            nodes: Vec::new(),
            last: true,
        });
    }

    /// Tells those who asked a peer that nothing came of it.
    pub(super) fn fail(&mut self, peer: PeerKey, askers: Vec<Asker>, error: RequestError) {
        let Some(contact) = self.contacts.get_mut(&peer) else {
            return;
        };
        let node = contact.node.clone();
        for asker in askers {
            let node = node.clone();
            self.report(Report::Failed { asker, node, error });
        }
    }
}

fn wire(endpoint: Endpoint) -> WireEndpoint {
    WireEndpoint::new(endpoint.ip, endpoint.udp, endpoint.tcp)
}
