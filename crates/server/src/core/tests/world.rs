//! A server's machine with its clock, driven the way the run loop drives it.

use std::net::SocketAddr;
use std::time::Duration;

use tercet_enode::{Endpoint, Node, NodeAddress, NodeId, SecretKey};
use tercet_machine::check::START;
use tercet_machine::{Machine, MachineRng, Now};
use tercet_rlpx::{Capability, DisconnectReason};

use crate::admission::Netrestrict;
use crate::core::{ConnId, CoreConfig, ServerCore, ServerInput, ServerOutput};
use crate::dial::DialTask;
use crate::event::{DialError, DropReason, RefuseReason, ServerEvent};
use crate::limits::{Limits, Timeouts};
use crate::peers::penalty::Rule;

pub(super) struct World {
    pub(super) core: ServerCore,
    pub(super) now: Now,
    /// Of the last call.
    pub(super) outputs: Vec<ServerOutput>,
}

/// A key for each number; 0 is the server under test.
pub(super) fn key(n: u16) -> SecretKey {
    let mut bytes = [0x11; 32];
    bytes[..2].copy_from_slice(&n.to_be_bytes());
    SecretKey::from_bytes(&bytes).unwrap()
}

pub(super) fn id(n: u16) -> NodeId {
    key(n).node_id()
}

pub(super) fn lan(n: u16) -> SocketAddr {
    let [a, b] = n.to_be_bytes();
    SocketAddr::from(([192, 168, a, b], 30303))
}

/// Host `b` of public /24 number `a`.
pub(super) fn public(a: u8, b: u8) -> SocketAddr {
    SocketAddr::from(([8, 8, a, b], 30303))
}

pub(super) fn far(n: u16) -> SocketAddr {
    let [a, b] = n.to_be_bytes();
    SocketAddr::from(([8, a, b, 1], 30303))
}

pub(super) fn node(n: u16) -> Node {
    let addr = far(n);
    Node::new(
        key(n).public_key(),
        Endpoint::new(addr.ip(), addr.port(), addr.port()),
    )
}

pub(super) fn config() -> CoreConfig {
    CoreConfig {
        local: id(0),
        limits: Limits::default(),
        throttle: Timeouts::default().throttle,
        redial: Timeouts::default().redial,
        netrestrict: Netrestrict::default(),
        capabilities: vec![(Capability::new("q", 1).unwrap(), 8)],
        can_resolve: true,
    }
}

pub(super) fn core(config: CoreConfig) -> ServerCore {
    ServerCore::new(config, MachineRng::from_seed([42; 32]))
}

impl World {
    pub(super) fn new(change: impl FnOnce(&mut CoreConfig)) -> Self {
        let mut config = config();
        change(&mut config);
        Self {
            core: core(config),
            now: START,
            outputs: Vec::new(),
        }
    }

    pub(super) fn input(&mut self, input: ServerInput) {
        self.core.handle(self.now, input);
        self.drain();
    }

    pub(super) fn drain(&mut self) {
        self.outputs = std::iter::from_fn(|| self.core.poll()).collect();
    }

    /// Lets time pass, meeting every deadline; collects the dials on the way.
    pub(super) fn advance(&mut self, duration: Duration) -> Vec<(Now, ServerOutput)> {
        let end = self.now.after(duration);
        let mut seen = Vec::new();
        while let Some(deadline) = self.core.deadline().filter(|at| *at <= end.mono) {
            self.now = self.now.after(deadline - self.now.mono);
            self.core.handle_timeout(self.now);
            assert!(self.core.deadline().is_none_or(|next| next > self.now.mono));
            self.drain();
            seen.extend(self.outputs.drain(..).map(|output| (self.now, output)));
        }
        self.now = end;
        seen
    }

    pub(super) fn incoming(&mut self, addr: SocketAddr) -> Result<ConnId, RefuseReason> {
        let conn = self.core.next_conn();
        self.input(ServerInput::Incoming { conn, addr });
        if self.outputs.contains(&ServerOutput::Handshake(conn)) {
            return Ok(conn);
        }
        assert!(self.outputs.contains(&ServerOutput::Close(conn)));
        let refused = self.outputs.iter().find_map(|output| match output {
            ServerOutput::Event(ServerEvent::InboundRefused {
                reason, id: None, ..
            }) => Some(*reason),
            _ => None,
        });
        Err(refused.unwrap())
    }

    pub(super) fn authenticates(&mut self, conn: ConnId, n: u16) {
        let (key, addr) = (key(n).public_key(), lan(n));
        self.input(ServerInput::Authenticated { conn, key, addr });
    }

    pub(super) fn greets(&mut self, conn: ConnId, name: &str) {
        let capabilities = vec![Capability::new(name, 1).unwrap()];
        self.input(ServerInput::Greeted {
            conn,
            client_id: "test".to_owned(),
            capabilities,
        });
    }

    pub(super) fn fails(&mut self, conn: ConnId, error: DialError) {
        self.input(ServerInput::SetupFailed { conn, error });
    }

    pub(super) fn ends(&mut self, conn: ConnId, reason: DropReason, rule: Option<Rule>) {
        self.input(ServerInput::PeerEnded { conn, reason, rule });
    }

    /// Brings an inbound connection from the LAN as far as it gets.
    pub(super) fn inbound_peer(&mut self, n: u16) -> Result<ConnId, DisconnectReason> {
        self.inbound_with(n, "q")
    }

    pub(super) fn inbound_with(&mut self, n: u16, name: &str) -> Result<ConnId, DisconnectReason> {
        let conn = self.incoming(lan(n)).unwrap();
        self.authenticates(conn, n);
        self.finish(conn, name)
    }

    /// From the first checkpoint on.
    pub(super) fn finish(&mut self, conn: ConnId, name: &str) -> Result<ConnId, DisconnectReason> {
        if self.outputs.contains(&ServerOutput::Hello(conn)) {
            self.greets(conn, name);
        }
        for output in &self.outputs {
            match output {
                ServerOutput::Launch { conn: launched, .. } if *launched == conn => {
                    return Ok(conn);
                }
                ServerOutput::Reject {
                    conn: refused,
                    reason,
                } if *refused == conn => {
                    let reason = *reason;
                    self.input(ServerInput::RefusalDone(conn));
                    return Err(reason);
                }
                _ => {}
            }
        }
        panic!("neither launched nor refused: {:?}", self.outputs);
    }

    /// Offers a node from discovery; the dial if one was started.
    pub(super) fn candidate(&mut self, n: u16) -> Option<DialTask> {
        self.input(ServerInput::Candidate(node(n)));
        self.dial()
    }

    pub(super) fn dial(&self) -> Option<DialTask> {
        self.outputs.iter().find_map(|output| match output {
            ServerOutput::Dial(task) => Some(task.clone()),
            _ => None,
        })
    }

    pub(super) fn add_static(&mut self, n: u16) {
        let address = NodeAddress::Enode(node(n).enode_url());
        self.core.add_static(self.now, address).unwrap();
        self.drain();
    }

    /// Brings a dial to a peer.
    pub(super) fn connects(&mut self, task: &DialTask) -> Result<ConnId, DisconnectReason> {
        let (conn, key) = (task.conn, task.key);
        self.input(ServerInput::Authenticated {
            conn,
            key,
            addr: lan(1),
        });
        self.finish(conn, "q")
    }
}
