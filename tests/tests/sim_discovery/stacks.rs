//! A few dozen whole nodes at the level of datagrams: every signature and every cipher is real. For what the messages alone
//! do not show: floods of packets that cost work to refuse, and a node that has to find out where it is.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand::RngExt;
use tercet_discovery::v4::{Message, codec};
use tercet_discovery::{
    Command, NodeStack, OpId, Protocols, Reply, RequestError, StackConfig, StackInput, StackOutput,
};
use tercet_enode::{Node, NodeRecord, SecretKey};
use tercet_machine::Now;
use tercet_sim::{Actions, Adapter, Event, LinkProfile, NodeKey, Packet, Place, Simulation};

/// The bytes of a datagram.
#[derive(Clone)]
pub(crate) struct Datagram(pub(crate) Bytes);

impl Packet for Datagram {
    fn size(&self) -> usize {
        self.0.len()
    }

    fn trace<H: Hasher>(&self, hasher: &mut H) {
        self.0.hash(hasher);
    }
}

/// What stands around one stack.
pub(crate) struct Socket {
    pub(crate) done: BTreeMap<OpId, Result<Reply, RequestError>>,
    /// All its records after the first.
    pub(crate) records: Vec<NodeRecord>,
    /// A liar's key, and where he says that everybody is.
    lie: Option<(SecretKey, SocketAddr)>,
}

impl Socket {
    /// The datagram as a liar sends it: his pongs name another address than they should.
    fn twist(&self, datagram: Bytes) -> Bytes {
        let Some((key, place)) = &self.lie else {
            return datagram;
        };
        match codec::decode(&datagram).map(|packet| packet.message) {
            Ok(Message::Pong(mut pong)) => {
                (pong.to.ip, pong.to.udp) = (Some(place.ip()), place.port());
                codec::encode(key, &Message::Pong(pong)).0
            }
            _ => datagram,
        }
    }
}

impl Adapter for Socket {
    type Machine = NodeStack;
    type Packet = Datagram;

    fn deliver(&mut self, _: Now, event: Event<Datagram>) -> Option<StackInput> {
        match event {
            Event::Datagram { from, packet } => Some(StackInput::Datagram {
                from,
                datagram: BytesMut::from(&packet.0[..]),
            }),
            _ => None,
        }
    }

    fn act(&mut self, _: Now, output: StackOutput, actions: &mut Actions<Datagram, StackInput>) {
        match output {
            StackOutput::Datagram { to, datagram } => {
                actions.send(to, Datagram(self.twist(datagram)));
            }
            StackOutput::LoadSeeds { .. } => actions.input(StackInput::Seeds(vec![])),
            StackOutput::Done { op, result } => drop(self.done.insert(op, result)),
            StackOutput::Record(record) => self.records.push(record),
            _ => {}
        }
    }
}

/// A network of stacks whose first one is everybody's boot node.
pub(crate) struct Stacks {
    pub(crate) sim: Simulation<Socket>,
    pub(crate) nodes: Vec<NodeKey>,
    next_op: u64,
}

/// Where the node with this number is: each in a /16 of its own, as endpoint votes count providers.
pub(crate) fn address(index: usize) -> SocketAddr {
    SocketAddr::from(([20 + (index >> 8) as u8, index as u8, 1, 7], 30303))
}

impl Stacks {
    pub(crate) fn new(seed: u64) -> Self {
        let mut sim = Simulation::new(seed);
        let link = LinkProfile::default()
            .latency(Duration::from_millis(10), Duration::from_millis(60))
            .mtu(1280);
        sim.set_default_link(link);
        Self {
            sim,
            nodes: Vec::new(),
            next_op: 0,
        }
    }

    /// A node that knows its address. Returns its number.
    pub(crate) fn join(&mut self) -> usize {
        let at = address(self.nodes.len());
        self.add(Place::public(at), Some(at), Protocols::ALL, None)
    }

    /// A node at a place, told where it is or not; a liar if there is something to lie about.
    pub(crate) fn add(
        &mut self,
        place: Place,
        advertised: Option<SocketAddr>,
        protocols: Protocols,
        lie: Option<SocketAddr>,
    ) -> usize {
        let secret = SecretKey::generate(self.sim.rng());
        let mut config = StackConfig::new(self.sim.rng().random());
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 30303));
        config.listen = [Some(any), None];
        config.advertised = [advertised, None];
        config.core.protocols = protocols;
        // Nobody here lives or dies by a minute; less to sign.
        config.core.revalidation.slow = Duration::from_secs(60);
        config.core.bootnodes = self
            .nodes
            .first()
            .map(|_| self.node(0))
            .into_iter()
            .collect();
        let stack = NodeStack::new(config, secret.clone(), None, self.sim.now()).unwrap();
        let socket = Socket {
            done: BTreeMap::new(),
            records: Vec::new(),
            lie: lie.map(|lie| (secret, lie)),
        };
        self.nodes
            .push(self.sim.add_node(place, socket, stack).unwrap());
        self.nodes.len() - 1
    }

    pub(crate) fn stack(&self, index: usize) -> &NodeStack {
        self.sim.machine(self.nodes[index]).expect("it runs")
    }

    pub(crate) fn socket(&self, index: usize) -> &Socket {
        self.sim.adapter(self.nodes[index]).expect("it runs")
    }

    /// A node that advertises an address, as others know it.
    pub(crate) fn node(&self, index: usize) -> Node {
        Node::from_record(self.stack(index).record().clone()).expect("it has an endpoint")
    }

    pub(crate) fn run(&mut self, duration: Duration) {
        self.sim.run_for(duration).unwrap();
    }

    pub(crate) fn command(&mut self, index: usize, command: Command) -> OpId {
        let op = OpId(self.next_op);
        self.next_op += 1;
        let input = StackInput::Command { op, command };
        self.sim.input(self.nodes[index], input).unwrap();
        op
    }

    pub(crate) fn result(&self, index: usize, op: OpId) -> Option<&Result<Reply, RequestError>> {
        self.socket(index).done.get(&op)
    }
}
