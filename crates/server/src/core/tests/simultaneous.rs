//! Two servers that dial each other at once, joined by queues whose messages are
//! delivered in any order between connections: exactly one connection is left,
//! and both ends have the same one.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use tercet_machine::Machine;
use tercet_machine::check::START;
use tercet_rlpx::{Capability, DisconnectReason};

use super::world::{config, core, id, key, lan};
use crate::core::{ConnId, ServerCore, ServerInput, ServerOutput};
use crate::event::{DialError, DropReason};

/// What goes over the wire.
#[derive(Debug, Clone, Copy)]
enum Wire {
    Auth,
    Ack,
    Hello,
    Disconnect(DisconnectReason),
    Fin,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// Waits for the ack, or not yet accepted.
    Shaking,
    Greeting,
    Waiting {
        gone: bool,
    },
    Running,
    Dead,
}

/// One of the two connections as one node sees it.
struct Side {
    conn: ConnId,
    state: End,
    inbox: VecDeque<Wire>,
}

struct Node {
    core: ServerCore,
    key: u16,
    /// By the number of the connection.
    sides: BTreeMap<usize, Side>,
}

/// Nodes 0 and 1; connection `n` is the one node `n` dialed.
struct Net {
    nodes: [Node; 2],
}

impl Net {
    fn new(keys: [u16; 2]) -> Self {
        let nodes = keys.map(|n| {
            let mut config = config();
            config.local = id(n);
            Node {
                core: core(config),
                key: n,
                sides: BTreeMap::new(),
            }
        });
        let mut net = Self { nodes };
        for dialer in 0..2 {
            let remote = net.nodes[1 - dialer].key;
            let url = super::world::node(remote).enode_url();
            let address = tercet_enode::NodeAddress::Enode(url);
            net.nodes[dialer].core.add_static(START, address).unwrap();
            net.settle(dialer);
        }
        net
    }

    fn send(&mut self, from: usize, link: usize, message: Wire) {
        let to = &mut self.nodes[1 - from];
        let conn = to.sides.get(&link).map(|side| side.conn);
        let conn = conn.unwrap_or_else(|| to.core.next_conn());
        let new = || Side {
            conn,
            state: End::Shaking,
            inbox: VecDeque::new(),
        };
        to.sides
            .entry(link)
            .or_insert_with(new)
            .inbox
            .push_back(message);
    }

    fn link_of(&self, node: usize, conn: ConnId) -> usize {
        let mut sides = self.nodes[node].sides.iter();
        *sides.find(|(_, side)| side.conn == conn).unwrap().0
    }

    fn set(&mut self, node: usize, link: usize, state: End) {
        self.nodes[node].sides.get_mut(&link).unwrap().state = state;
    }

    fn input(&mut self, node: usize, input: ServerInput) {
        self.nodes[node].core.handle(START, input);
        self.settle(node);
    }

    /// Does what a node's machine wants.
    fn settle(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].core.poll() {
            match output {
                ServerOutput::Dial(task) => {
                    let (conn, state) = (task.conn, End::Shaking);
                    let side = Side {
                        conn,
                        state,
                        inbox: VecDeque::new(),
                    };
                    self.nodes[node].sides.insert(node, side);
                    self.send(node, node, Wire::Auth);
                }
                ServerOutput::Handshake(_) | ServerOutput::Resolve(_) | ServerOutput::Event(_) => {}
                ServerOutput::Close(conn) => {
                    let link = self.link_of(node, conn);
                    self.set(node, link, End::Dead);
                    self.send(node, link, Wire::Fin);
                }
                ServerOutput::Hello(conn) => {
                    let link = self.link_of(node, conn);
                    self.set(node, link, End::Greeting);
                    self.send(node, link, Wire::Hello);
                }
                ServerOutput::Reject { conn, reason } => {
                    let link = self.link_of(node, conn);
                    self.set(node, link, End::Dead);
                    self.send(node, link, Wire::Disconnect(reason));
                    self.nodes[node]
                        .core
                        .handle(START, ServerInput::RefusalDone(conn));
                }
                ServerOutput::Launch { conn, .. } => {
                    let link = self.link_of(node, conn);
                    let state = self.nodes[node].sides[&link].state;
                    self.set(node, link, End::Running);
                    if state == (End::Waiting { gone: true }) {
                        self.end(node, link, DropReason::Closed);
                    }
                }
                ServerOutput::Disconnect { conn, reason } => {
                    let link = self.link_of(node, conn);
                    self.send(node, link, Wire::Disconnect(reason));
                    self.end(node, link, DropReason::Local(reason));
                }
            }
        }
    }

    fn end(&mut self, node: usize, link: usize, reason: DropReason) {
        self.set(node, link, End::Dead);
        let conn = self.nodes[node].sides[&link].conn;
        let ended = ServerInput::PeerEnded {
            conn,
            reason,
            rule: None,
        };
        self.nodes[node].core.handle(START, ended);
    }

    /// Delivers the next message of one inbox; false if there is none.
    fn deliver(&mut self, node: usize, link: usize) -> bool {
        let remote = self.nodes[1 - node].key;
        let Some(side) = self.nodes[node].sides.get_mut(&link) else {
            return false;
        };
        let Some(message) = side.inbox.pop_front() else {
            return false;
        };
        let (conn, state) = (side.conn, side.state);
        let proven = |conn| {
            let (key, addr) = (key(remote).public_key(), lan(remote));
            ServerInput::Authenticated { conn, key, addr }
        };
        match (message, state) {
            (_, End::Dead) => {}
            (Wire::Auth, _) => {
                self.input(
                    node,
                    ServerInput::Incoming {
                        conn,
                        addr: lan(remote),
                    },
                );
                self.send(node, link, Wire::Ack);
                self.input(node, proven(conn));
            }
            (Wire::Ack, _) => self.input(node, proven(conn)),
            (Wire::Hello, End::Greeting) => {
                self.set(node, link, End::Waiting { gone: false });
                let capabilities = vec![Capability::new("q", 1).unwrap()];
                let client_id = String::new();
                self.input(
                    node,
                    ServerInput::Greeted {
                        conn,
                        client_id,
                        capabilities,
                    },
                );
            }
            (Wire::Hello, _) => {}
            (Wire::Disconnect(_) | Wire::Fin, End::Waiting { .. }) => {
                self.set(node, link, End::Waiting { gone: true });
            }
            (Wire::Disconnect(reason), End::Running) => {
                self.end(node, link, DropReason::Remote(reason));
                self.settle(node);
            }
            (Wire::Fin, End::Running) => {
                self.end(node, link, DropReason::Closed);
                self.settle(node);
            }
            (Wire::Disconnect(reason), End::Shaking | End::Greeting) => {
                self.set(node, link, End::Dead);
                let error = DialError::Refused(reason);
                self.input(node, ServerInput::SetupFailed { conn, error });
            }
            (Wire::Fin, End::Shaking | End::Greeting) => {
                self.set(node, link, End::Dead);
                let error = DialError::Io(std::io::ErrorKind::UnexpectedEof);
                self.input(node, ServerInput::SetupFailed { conn, error });
            }
        }
        true
    }

    fn running(&self, node: usize) -> Vec<usize> {
        let sides = self.nodes[node].sides.iter();
        sides
            .filter(|(_, side)| side.state == End::Running)
            .map(|(link, _)| *link)
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn one_connection_is_left_and_both_ends_have_the_same(
        swap in any::<bool>(),
        picks in prop::collection::vec(0usize..4, 40),
    ) {
        let mut net = Net::new(if swap { [2, 1] } else { [1, 2] });
        for pick in picks.into_iter().chain((0..40).map(|n| n % 4)).chain([0, 1, 2, 3].repeat(10)) {
            net.deliver(pick / 2, pick % 2);
        }
        let (a, b) = (net.running(0), net.running(1));
        prop_assert_eq!(&a, &b);
        prop_assert_eq!(a.len(), 1);
        prop_assert_eq!(net.nodes[0].core.peers().len(), 1);
        prop_assert_eq!(net.nodes[1].core.peers().len(), 1);
    }
}
