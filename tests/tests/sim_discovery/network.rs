//! A network of such nodes: who they are, when they run, and what they are told to do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tercet_discovery::{
    Command, CoreConfig, CoreInput, DiscoveryCore, Found, OpId, Protocols, Reply, Target,
};
use tercet_enode::{Endpoint, Node, NodeId, NodeRecord, SecretKey};
use tercet_nodedb::MemoryStore;
use tercet_sim::{LinkProfile, NodeKey, Place, Simulation};

use crate::liar::{Conspiracy, Liar, Tactic};
use crate::node::{Codec, Honest, Input, Member};
use crate::wire::{Sent, Wire};

/// Longest time a lookup is given. It asks 128 nodes at most, three at a time, each for half a second or so.
const LOOKUP_LIMIT: Duration = Duration::from_secs(60);

/// A node of the network, running or not.
#[derive(Clone)]
pub(crate) struct Peer {
    secret: SecretKey,
    /// With its record.
    pub(crate) node: Node,
    pub(crate) protocols: Protocols,
    pub(crate) honest: bool,
    store: Option<Arc<MemoryStore>>,
    /// Its place in the simulation, while it runs.
    pub(crate) place: Option<NodeKey>,
}

/// What all nodes of a network have in common.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) link: LinkProfile,
    /// Which protocols a node speaks, by its number.
    pub(crate) protocols: fn(usize) -> Protocols,
    /// Nodes have a database that survives them.
    pub(crate) databases: bool,
    /// Nodes limit what one network may send them.
    pub(crate) limited: bool,
    /// Threads the nodes are shared out to.
    pub(crate) threads: usize,
}

impl Setup {
    /// Nodes of all kinds without a database, over links of 10 to 100 ms that lose one datagram in a hundred.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            link: link().loss(0.01),
            protocols: mixed,
            databases: false,
            limited: false,
            threads: 1,
        }
    }
}

pub(crate) fn link() -> LinkProfile {
    LinkProfile::default()
        .latency(Duration::from_millis(10), Duration::from_millis(100))
        .mtu(1280)
}

/// Of ten nodes one speaks discv4 alone, one discv5 alone, the others both.
pub(crate) const fn mixed(index: usize) -> Protocols {
    match index % 10 {
        4 => Protocols::V4,
        5 => Protocols::V5,
        _ => Protocols::ALL,
    }
}

/// How a lookup went.
pub(crate) struct LookedUp {
    pub(crate) found: Found,
    pub(crate) sent: Sent,
    /// Answers between the start and the hearing of the closest node.
    pub(crate) hops: u32,
    pub(crate) took: Duration,
}

/// A network whose first node is everybody's boot node.
pub(crate) struct Network {
    pub(crate) sim: Simulation<Wire>,
    pub(crate) peers: Vec<Peer>,
    setup: Setup,
    next_op: u64,
}

impl Network {
    pub(crate) fn new(setup: Setup) -> Self {
        let mut sim = Simulation::new(setup.seed);
        sim.set_default_link(setup.link);
        Self {
            sim,
            peers: Vec::new(),
            setup,
            next_op: 0,
        }
    }

    /// A new node with a key and a /24 of its own, which starts with nothing but the boot node. Returns its index.
    pub(crate) fn join(&mut self) -> usize {
        let [_, top, high, low] = (self.peers.len() as u32).to_be_bytes();
        let at = SocketAddr::from(([20 + top, high, low, 7], 30303));
        let index = self.enroll(at, (self.setup.protocols)(self.peers.len()));
        let boot = (index > 0).then(|| self.peers[0].node.clone());
        self.start(index, boot.into_iter().collect());
        index
    }

    /// A node that does not run yet.
    pub(crate) fn enroll(&mut self, at: SocketAddr, protocols: Protocols) -> usize {
        let secret = SecretKey::generate(self.sim.rng());
        self.enlist(secret, at, protocols)
    }

    /// The same with a key of the scenario's choice.
    pub(crate) fn enlist(
        &mut self,
        secret: SecretKey,
        at: SocketAddr,
        protocols: Protocols,
    ) -> usize {
        let seq = self.sim.now().unix.as_millis();
        let node = node(&secret, at, seq);
        let store = self.setup.databases.then(|| Arc::new(MemoryStore::new()));
        self.peers.push(Peer {
            secret,
            node,
            protocols,
            honest: true,
            store,
            place: None,
        });
        self.peers.len() - 1
    }

    /// Starts a node that does not run, with what its database remembers.
    pub(crate) fn start(&mut self, index: usize, bootnodes: Vec<Node>) {
        let now = self.sim.now();
        let peer = &self.peers[index];
        let at = peer.node.endpoint().udp_addr();
        let seq = now.unix.as_millis();
        // A signature costs as much as a hundred datagrams.
        let node = match &peer.node {
            enlisted if enlisted.seq() == seq => enlisted.clone(),
            _ => node(&peer.secret, at, seq),
        };
        let record = node.record().expect("it has one").clone();
        let mut config = CoreConfig::new(self.sim.rng().random());
        config.bootnodes = bootnodes;
        config.protocols = peer.protocols;
        let core = DiscoveryCore::new(config, record.clone(), now);
        let codec = Codec::new(index as u64, record, peer.protocols);
        let node = Honest::new(core, codec, self.setup.limited);
        self.place(index, Member::Honest(Box::new(node)));
    }

    /// Starts a node that does not run as a liar.
    pub(crate) fn start_liar(&mut self, index: usize, tactic: Tactic, plan: &Arc<Conspiracy>) {
        let now = self.sim.now();
        let rng = self.sim.rng().child("liar");
        let peer = &mut self.peers[index];
        peer.honest = false;
        let record = peer.node.record().expect("it has one").clone();
        let codec = Codec::new(index as u64, record, peer.protocols);
        let liar = Liar::new(codec, tactic, Arc::clone(plan), rng, now);
        self.place(index, Member::Liar(Box::new(liar)));
    }

    fn place(&mut self, index: usize, member: Member) {
        let rng = self.sim.rng().child("seeds");
        let peer = &mut self.peers[index];
        assert!(peer.place.is_none(), "it runs already");
        let wire = Wire::new(peer.store.clone(), rng);
        let at = Place::public(peer.node.endpoint().udp_addr());
        peer.place = Some(self.sim.add_node(at, wire, member).unwrap());
    }

    /// Kills a node.
    pub(crate) fn kill(&mut self, index: usize) {
        let place = self.peers[index].place.take().expect("it runs");
        self.sim.remove_node(place).expect("it runs");
    }

    pub(crate) fn run(&mut self, duration: Duration) {
        self.sim.run_for_on(self.setup.threads, duration).unwrap();
    }

    /// Indices of the honest nodes that run.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.peers.len())
            .filter(|index| self.peers[*index].honest && self.peers[*index].place.is_some())
            .collect()
    }

    pub(crate) fn core(&self, index: usize) -> &DiscoveryCore {
        let place = self.peers[index].place.expect("it runs");
        let member = self.sim.machine(place).expect("it runs");
        member.core().expect("it is honest")
    }

    pub(crate) fn wire(&mut self, index: usize) -> &mut Wire {
        let place = self.peers[index].place.expect("it runs");
        self.sim.adapter_mut(place).expect("it runs")
    }

    pub(crate) fn is_done(&self, index: usize, op: OpId) -> bool {
        let wire = self.peers[index]
            .place
            .and_then(|place| self.sim.adapter(place));
        wire.is_some_and(|wire| wire.done.contains_key(&op))
    }

    /// Runs lookups to their end, all at once. What they cost is told apart only if each is by a node of its own.
    pub(crate) fn lookups(&mut self, lookups: &[(usize, Target)]) -> Vec<LookedUp> {
        let began = self.sim.now().mono;
        let mut started = Vec::new();
        for (index, target) in lookups {
            let wire = self.wire(*index);
            wire.depths = Some(BTreeMap::new());
            let before = wire.sent;
            let op = self.command(*index, Command::Lookup(*target));
            started.push((*index, op, before));
        }
        let mut left = LOOKUP_LIMIT;
        while !started
            .iter()
            .all(|(index, op, _)| self.is_done(*index, *op))
        {
            assert!(!left.is_zero(), "a lookup ends");
            self.run(Duration::from_millis(100));
            left = left.saturating_sub(Duration::from_millis(100));
        }
        let mut results = Vec::new();
        for (index, op, before) in started {
            let wire = self.wire(index);
            let done = wire.done.remove(&op).expect("it is done");
            let depths = wire.depths.take().unwrap_or_default();
            let sent = Sent {
                finds: wire.sent.finds - before.finds,
                asked: wire.sent.asked - before.asked,
            };
            let found = match done.result {
                Ok(Reply::Found(found)) => found,
                other => panic!("{other:?}"),
            };
            let closest = found.closest.first().map(Node::id);
            let hops = closest.and_then(|id| depths.get(&id).copied()).unwrap_or(0);
            let took = done.at - began;
            results.push(LookedUp {
                found,
                sent,
                hops,
                took,
            });
        }
        results
    }

    /// The running honest nodes nearest to a target that speak a protocol of the asker's, but for him.
    pub(crate) fn truly_closest(&self, target: &Target, asker: usize, count: usize) -> Vec<NodeId> {
        let spoken = self.peers[asker].protocols;
        let mut ids: Vec<NodeId> = self
            .running()
            .into_iter()
            .filter(|index| *index != asker)
            .map(|index| &self.peers[index])
            .filter(|peer| !peer.protocols.and(spoken).is_empty())
            .map(|peer| peer.node.id())
            .collect();
        ids.sort_by(|a, b| target.id().cmp_distance(a, b));
        ids.truncate(count);
        ids
    }

    pub(crate) fn command(&mut self, index: usize, command: Command) -> OpId {
        let op = OpId(self.next_op);
        self.next_op += 1;
        let place = self.peers[index].place.expect("it runs");
        let input = CoreInput::Command { op, command };
        self.sim.input(place, Input::Core(Box::new(input))).unwrap();
        op
    }
}

/// A node with a signed record.
pub(crate) fn node(secret: &SecretKey, at: SocketAddr, seq: u64) -> Node {
    let Endpoint { ip, udp, tcp } = Endpoint::new(at.ip(), at.port(), at.port());
    let record = NodeRecord::builder().seq(seq).ip(ip).udp(udp).tcp(tcp);
    Node::from_record(record.sign(secret).unwrap()).expect("it has an endpoint")
}
