//! What callers may ask of the machine, and how it ends.

use bytes::Bytes;
use tercet_enode::{Node, NodeRecord};
use tercet_machine::Now;

use super::DiscoveryCore;
use super::lookups::Purpose;
use super::refresh::Waiter;
use crate::engine::{Asker, PongInfo, Protocol, Question, Target};
use crate::v5::Distances;

/// Operations that ask one node, under way at one time. A further one is [`RequestError::Busy`].
pub const MAX_OPS: usize = 1024;

/// Names an operation; chosen by the caller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct OpId(pub u64);

/// What one node is asked for with [`Command::FindNode`].
#[derive(Clone, PartialEq, Debug)]
pub enum FindTarget {
    /// Over discv4: the nodes it knows closest to a target, of which the bytes must be known.
    Near(Target),
    /// Over discv5: the nodes it knows at these distances from itself.
    Distances(Distances),
}

/// An operation.
#[derive(Clone, Debug)]
pub enum Command {
    /// Ping a node, over one protocol or the one that suits it: [`Reply::Pong`].
    Ping(Node, Option<Protocol>),
    /// Fetch a node's record from itself, over one protocol or the one that suits it: [`Reply::Record`].
    RequestEnr(Node, Option<Protocol>),
    /// Ask one node once for others: [`Reply::Nodes`].
    FindNode(Node, FindTarget),
    /// Send a node a message of another protocol over discv5: [`Reply::Talk`].
    Talk {
        /// Whom.
        node: Node,
        /// The protocol's name.
        protocol: Bytes,
        /// Its message.
        payload: Bytes,
    },
    /// Find the nodes closest to a target: [`Reply::Found`]. With an empty table seeds and boot nodes are taken in first.
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
    /// Nodes one node named: those it may name, none twice, in no order.
    Nodes(Vec<Node>),
    /// The other protocol's answer.
    Talk(Bytes),
    /// What the lookup found.
    Found(Found),
    /// The node with a higher sequence number or another endpoint than the one given; `None` if there is
    /// nothing newer.
    Resolved(Option<Node>),
    /// The refresh is over.
    Refreshed,
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
    /// No protocol that is switched on can ask this.
    #[error("no protocol that is switched on can ask this")]
    Unsupported,
    /// The message does not fit into a datagram.
    #[error("the message is too long for a datagram")]
    TooLong,
    /// Discovery has been shut down.
    #[error("discovery has been shut down")]
    Closed,
}

/// An operation that asks one node.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) question: Question,
    /// The protocol the caller chose.
    pub(super) only: Option<Protocol>,
    /// What has been named so far.
    pub(super) nodes: Vec<Node>,
}

impl DiscoveryCore {
    pub(super) fn handle_command(&mut self, now: Now, op: OpId, command: Command) {
        let accepted = match command {
            Command::Ping(node, only) => self.ask_for(now, op, &node, (Question::Ping, only)),
            Command::RequestEnr(node, only) => {
                self.ask_for(now, op, &node, (Question::Record, only))
            }
            Command::FindNode(node, target) => {
                let asked = match target {
                    FindTarget::Near(target) => (Question::Find(target), Some(Protocol::V4)),
                    FindTarget::Distances(distances) => {
                        (Question::Distances(distances), Some(Protocol::V5))
                    }
                };
                self.ask_for(now, op, &node, asked)
            }
            Command::Talk {
                node,
                protocol,
                payload,
            } => {
                let question = Question::Talk { protocol, payload };
                self.ask_for(now, op, &node, (question, Some(Protocol::V5)))
            }
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

    fn ask_for(
        &mut self,
        now: Now,
        op: OpId,
        node: &Node,
        (question, only): (Question, Option<Protocol>),
    ) -> Result<(), RequestError> {
        let node = &self.policy.reachable(node.clone());
        self.policy.usable(node)?;
        if self.ops.len() >= MAX_OPS {
            return Err(RequestError::Busy);
        }
        let operation = Operation {
            question: question.clone(),
            only,
            nodes: Vec::new(),
        };
        match only {
            Some(protocol) => self.ask_over(now, protocol, node, question, Asker::Op(op)),
            None => self.ask(now, node, question, Asker::Op(op)),
        }?;
        self.ops.insert(op, operation);
        Ok(())
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
        let node = self.policy.reachable(node);
        match self.policy.usable(&node) {
            Err(RequestError::Own) => return Err(RequestError::Own),
            Ok(()) => {
                self.ask(now, &node, Question::Record, Asker::Resolve(op))?;
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
}

fn is_newer(found: &Node, given: &Node) -> bool {
    found.seq() > given.seq() || found.endpoint() != given.endpoint()
}
