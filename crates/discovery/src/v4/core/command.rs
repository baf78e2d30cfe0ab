//! What callers may ask of the machine, and how it ends.

use std::time::Duration;

use tercet_enode::{Node, NodeRecord};
use tercet_machine::Now;

use super::V4Core;
use super::contact::{EnrWant, Job};
use super::lookups::Purpose;
use super::refresh::Waiter;
use crate::v4::message::{Target, WireEndpoint};

/// Names an operation; chosen by the caller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct OpId(pub u64);

/// An operation.
#[derive(Clone, Debug)]
pub enum Command {
    /// Ping a node: [`Reply::Pong`].
    Ping(Node),
    /// Fetch a node's record from itself: [`Reply::Record`].
    RequestEnr(Node),
    /// Find the nodes closest to a target: [`Reply::Found`]. With an empty table a refresh comes first.
    Lookup(Target),
    /// The same for a random target, to meet nodes anywhere.
    LookupRandom,
    /// Find something newer about a node than what is given: [`Reply::Resolved`].
    Resolve(Node),
    /// Refresh the table now, or wait for the refresh under way: [`Reply::Refreshed`].
    Refresh,
}

/// An operation's result.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Reply {
    /// The node answered.
    Pong(PongInfo),
    /// Its record, signed by it.
    Record(NodeRecord),
    /// What the lookup found.
    Found(Found),
    /// The node with a higher sequence number or another endpoint than the one given; `None` if there is
    /// nothing newer.
    Resolved(Option<Node>),
    /// The refresh is over.
    Refreshed,
}

/// What a pong says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PongInfo {
    /// From the ping to its pong.
    pub rtt: Duration,
    /// Sequence number of the node's record, if it says one.
    pub enr_seq: Option<u64>,
    /// This node's address as the other one sees it. Its word alone.
    pub seen_as: WireEndpoint,
}

/// What a lookup found.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Found {
    /// The closest nodes that answered, closest first, at most 16.
    pub closest: Vec<Node>,
    /// Everybody heard of and not known to be dead, closest first, at most
    /// [`MAX_CANDIDATES`](crate::kad::MAX_CANDIDATES).
    pub seen: Vec<Node>,
}

/// Why a request came to nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No reply in time.
    #[error("no reply in time")]
    Timeout,
    /// Too much is under way already; try again later.
    #[error("too many requests are under way")]
    Busy,
    /// The node has no UDP address to send to, or one that is not permitted.
    #[error("the node has no UDP address that may be used")]
    NoAddress,
    /// The node is this node.
    #[error("the node is this node itself")]
    Own,
    /// It answered with another node's record.
    #[error("the answer holds another node's record")]
    WrongRecord,
    /// Discovery has been shut down.
    #[error("discovery has been shut down")]
    Closed,
}

impl V4Core {
    pub(super) fn handle_command(&mut self, now: Now, op: OpId, command: Command) {
        let accepted = match command {
            Command::Ping(node) => self
                .usable(&node)
                .and_then(|()| self.ping_for(now, node, op)),
            Command::RequestEnr(node) => self
                .usable(&node)
                .and_then(|()| self.submit(now, node, Job::Enr(EnrWant::Op(op)))),
            Command::Lookup(target) => self.look_up(now, op, target),
            Command::LookupRandom => {
                let target = self.lookups.random_target();
                self.look_up(now, op, target)
            }
            Command::Resolve(node) => self.resolve(now, op, node),
            Command::Refresh => self.wait_for_refresh(now, Waiter::Op(op)),
        };
        if let Err(error) = accepted {
            self.done(op, Err(error));
        }
    }

    fn look_up(&mut self, now: Now, op: OpId, target: Target) -> Result<(), RequestError> {
        if self.table.is_empty() {
            return self.wait_for_refresh(now, Waiter::Lookup(op, target));
        }
        self.start_lookup(target, Purpose::Op(op))
    }

    /// Asks the node itself first; if it is not there, the table and then the network.
    fn resolve(&mut self, now: Now, op: OpId, node: Node) -> Result<(), RequestError> {
        if self.resolving.len() >= super::MAX_LOOKUPS {
            return Err(RequestError::Busy);
        }
        match self.usable(&node) {
            Err(RequestError::Own) => return Err(RequestError::Own),
            Ok(()) => {
                self.submit(now, node.clone(), Job::Enr(EnrWant::Resolve(op)))?;
                self.resolving.insert(op, node);
            }
            // Nowhere to ask it: that is what the search is for.
            Err(_) => {
                self.resolving.insert(op, node);
                self.search(op);
            }
        }
        Ok(())
    }

    /// The node itself has answered a resolve.
    pub(super) fn on_resolve_answer(&mut self, op: OpId, fresh: Node) {
        if let Some(given) = self.resolving.remove(&op) {
            let newer = (fresh.seq() > given.seq()).then_some(fresh);
            self.done(op, Ok(Reply::Resolved(newer)));
        }
    }

    /// The node does not answer a resolve where it was.
    pub(super) fn search(&mut self, op: OpId) {
        let Some(given) = self.resolving.get(&op).cloned() else {
            return;
        };
        if let Some(known) = self.table.get(&given.id())
            && is_newer(known, &given)
        {
            let known = known.clone();
            self.resolving.remove(&op);
            self.done(op, Ok(Reply::Resolved(Some(known))));
            return;
        }
        if let Err(error) =
            self.start_lookup(Target::from(given.public_key()), Purpose::Resolve(op))
        {
            self.resolving.remove(&op);
            self.done(op, Err(error));
        }
    }

    /// The search for a node has ended.
    pub(super) fn on_searched(&mut self, op: OpId, found: Option<Node>) {
        if let Some(given) = self.resolving.remove(&op) {
            let newer = found.filter(|node| is_newer(node, &given));
            self.done(op, Ok(Reply::Resolved(newer)));
        }
    }

    /// Whether packets may be sent to a node.
    pub(super) fn usable(&self, node: &Node) -> Result<(), RequestError> {
        let endpoint = node.endpoint();
        if node.id() == self.record.id() {
            Err(RequestError::Own)
        } else if endpoint.udp == 0
            || endpoint.ip.is_unspecified()
            || endpoint.ip.is_multicast()
            || !self.permits(endpoint.ip)
        {
            Err(RequestError::NoAddress)
        } else {
            Ok(())
        }
    }
}

fn is_newer(found: &Node, given: &Node) -> bool {
    found.seq() > given.seq() || found.endpoint() != given.endpoint()
}
