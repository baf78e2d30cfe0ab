//! What stands around one machine: its database, the results of its operations, and what an observer of its socket sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use tercet_discovery::v4;
use tercet_discovery::v5::{self, Request, Response};
use tercet_discovery::{CoreInput, CoreOutput, OpId, Reply, RequestError};
use tercet_enode::NodeId;
use tercet_machine::{MachineRng, MonoTime, Now};
use tercet_nodedb::{MemoryStore, NodeStore, SeedQuery};
use tercet_sim::{Actions, Adapter, Event};

use crate::node::{Input, Member, Output};
use crate::packet::Datagram;

/// What a node has sent.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub(crate) struct Sent {
    /// FindNode of both protocols.
    pub(crate) finds: u64,
    /// Everything it sent of itself: pings, questions, handshakes. Answers are not among it.
    pub(crate) asked: u64,
}

/// A finished operation.
pub(crate) struct Done {
    pub(crate) at: MonoTime,
    pub(crate) result: Result<Reply, RequestError>,
}

pub(crate) struct Wire {
    store: Option<Arc<MemoryStore>>,
    rng: MachineRng,
    pub(crate) done: BTreeMap<OpId, Done>,
    pub(crate) sent: Sent,
    /// During a lookup: how many answers lie between its start and the hearing of a node.
    pub(crate) depths: Option<BTreeMap<NodeId, u32>>,
}

impl Wire {
    pub(crate) fn new(store: Option<Arc<MemoryStore>>, rng: MachineRng) -> Self {
        Self {
            store,
            rng,
            done: BTreeMap::new(),
            sent: Sent::default(),
            depths: None,
        }
    }

    fn watch(&mut self, packet: &Datagram) {
        let Some(depths) = &mut self.depths else {
            return;
        };
        let (from, named): (NodeId, Vec<NodeId>) = match packet {
            Datagram::V4 {
                key,
                message: v4::Message::Neighbors(neighbors),
                ..
            } => {
                let named = neighbors.nodes.iter().map(|node| node.key.node_id());
                (key.node_id(), named.collect())
            }
            Datagram::V5 {
                id,
                message: Some(v5::Message::Response(_, Response::Nodes { records, .. })),
                ..
            } => (*id, records.iter().map(|record| record.id()).collect()),
            _ => return,
        };
        let depth = depths.get(&from).copied().unwrap_or(0) + 1;
        for id in named {
            depths.entry(id).or_insert(depth);
        }
    }

    fn count(&mut self, packet: &Datagram) {
        let (asks, finds) = match packet {
            Datagram::V4 { message, .. } => match message {
                v4::Message::FindNode(_) => (true, true),
                v4::Message::Ping(_) | v4::Message::EnrRequest(_) => (true, false),
                _ => (false, false),
            },
            Datagram::V5 { message, .. } => match message {
                None => (true, false),
                Some(message) => of_v5(message),
            },
            Datagram::V5Challenge { .. } => (false, false),
            Datagram::V5Handshake { message, .. } => of_v5(message),
        };
        self.sent.asked += u64::from(asks);
        self.sent.finds += u64::from(finds);
    }
}

/// Whether a message asks, and whether it asks for nodes near a target.
fn of_v5(message: &v5::Message) -> (bool, bool) {
    match message {
        v5::Message::Request(_, Request::FindNode { distances }) => {
            (true, distances.as_slice() != [0])
        }
        v5::Message::Request(..) => (true, false),
        v5::Message::Response(..) => (false, false),
    }
}

impl Adapter for Wire {
    type Machine = Member;
    type Packet = Box<Datagram>;

    fn deliver(&mut self, _: Now, event: Event<Box<Datagram>>) -> Option<Input> {
        let Event::Datagram { from, packet } = event else {
            return None;
        };
        self.watch(&packet);
        Some(Input::Datagram { from, packet })
    }

    fn act(&mut self, now: Now, output: Output, actions: &mut Actions<Box<Datagram>, Input>) {
        let output = match output {
            Output::Datagram { to, packet } => {
                self.count(&packet);
                actions.send(to, packet);
                return;
            }
            Output::Core(output) => *output,
        };
        match output {
            CoreOutput::Write(write) => {
                if let Some(store) = &self.store {
                    store.apply(now.unix, &[write]).unwrap();
                }
            }
            CoreOutput::LoadSeeds { count, max_age } => {
                let query = SeedQuery {
                    count,
                    max_age,
                    now: now.unix,
                    exclude: vec![],
                };
                let seeds = match &self.store {
                    Some(store) => store.seeds(&query, &mut self.rng).unwrap(),
                    None => vec![],
                };
                actions.input(Input::Core(Box::new(CoreInput::Seeds(seeds))));
            }
            CoreOutput::Done { op, result } => {
                let at = now.mono;
                self.done.insert(op, Done { at, result });
            }
            _ => {}
        }
    }
}
