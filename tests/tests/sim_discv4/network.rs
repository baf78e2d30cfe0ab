//! discv4 machines in the simulated network, at message level: nothing is signed, a packet's hash is a counter, and the key
//! that recovery would yield travels beside the message.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tercet_discovery::TableSnapshot;
use tercet_discovery::v4::{Message, PacketHash};
use tercet_discovery::{
    Command, CoreConfig, CoreInput, CoreOutput, DiscoveryCore, Found, OpId, Protocols, Reply,
    RequestError, Target,
};
use tercet_enode::{Endpoint, Node, NodeId, NodeRecord, PublicKey, SecretKey};
use tercet_machine::{MachineRng, Now};
use tercet_nodedb::{MemoryStore, NodeStore, SeedQuery};
use tercet_sim::{Actions, Adapter, Event, LinkProfile, NodeKey, Packet, Place, Simulation};

/// A datagram before encoding.
#[derive(Clone)]
pub(crate) struct Datagram {
    key: PublicKey,
    hash: PacketHash,
    message: Message,
}

impl Packet for Datagram {
    /// The size it would have: hash, signature and type take 98 bytes, an IPv4 neighbour 79, other fields little.
    fn size(&self) -> usize {
        98 + match &self.message {
            Message::Ping(_) | Message::Pong(_) => 50,
            Message::FindNode(_) => 73,
            Message::Neighbors(neighbors) => 11 + 79 * neighbors.nodes.len(),
            Message::EnrRequest(_) => 6,
            Message::EnrResponse(response) => 36 + response.record.raw().len(),
        }
    }

    fn trace<H: Hasher>(&self, hasher: &mut H) {
        (self.hash, self.message.kind(), self.message.expiration()).hash(hasher);
        match &self.message {
            Message::Ping(ping) => ping.enr_seq.hash(hasher),
            Message::Pong(pong) => (pong.ping_hash, pong.enr_seq).hash(hasher),
            Message::FindNode(find) => find.target.id().hash(hasher),
            Message::Neighbors(neighbors) => {
                for node in &neighbors.nodes {
                    (node.key.to_compressed(), node.endpoint).hash(hasher);
                }
            }
            Message::EnrRequest(_) => {}
            Message::EnrResponse(response) => {
                (response.request_hash, response.record.raw()).hash(hasher);
            }
        }
    }
}

/// What stands around one machine: its database, the results of its operations, and what an observer of its socket sees.
pub(crate) struct Wire {
    key: PublicKey,
    index: u64,
    store: Arc<MemoryStore>,
    rng: MachineRng,
    done: BTreeMap<OpId, Result<Reply, RequestError>>,
    /// Messages sent, by type byte.
    pub(crate) sent: [u64; 7],
    /// During a lookup: how many answers lie between its start and the hearing of a node.
    depths: Option<BTreeMap<NodeId, u32>>,
}

impl Wire {
    fn hash(&self) -> PacketHash {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.index.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.sent.iter().sum::<u64>().to_be_bytes());
        PacketHash::new(bytes)
    }

    fn watch(&mut self, key: &PublicKey, message: &Message) {
        let (Some(depths), Message::Neighbors(neighbors)) = (&mut self.depths, message) else {
            return;
        };
        let depth = depths.get(&key.node_id()).copied().unwrap_or(0) + 1;
        for node in &neighbors.nodes {
            depths.entry(node.key.node_id()).or_insert(depth);
        }
    }
}

impl Adapter for Wire {
    type Machine = DiscoveryCore;
    type Packet = Datagram;

    fn deliver(&mut self, _: Now, event: Event<Datagram>) -> Option<CoreInput> {
        let Event::Datagram {
            from,
            packet: Datagram { key, hash, message },
        } = event
        else {
            return None;
        };
        self.watch(&key, &message);
        Some(CoreInput::V4Packet {
            from,
            key,
            hash,
            message,
        })
    }

    fn act(&mut self, now: Now, output: CoreOutput, actions: &mut Actions<Datagram, CoreInput>) {
        match output {
            CoreOutput::V4Send { to, message, token } => {
                self.sent[message.kind() as usize] += 1;
                let hash = self.hash();
                if let Some(token) = token {
                    actions.input(CoreInput::V4Sent { token, hash });
                }
                actions.send(
                    to,
                    Datagram {
                        key: self.key,
                        hash,
                        message,
                    },
                );
            }
            CoreOutput::Write(write) => drop(self.store.apply(now.unix, &[write]).unwrap()),
            CoreOutput::LoadSeeds { count, max_age } => {
                let query = SeedQuery {
                    count,
                    max_age,
                    now: now.unix,
                    exclude: vec![],
                };
                actions.input(CoreInput::Seeds(
                    self.store.seeds(&query, &mut self.rng).unwrap(),
                ));
            }
            CoreOutput::Done { op, result } => drop(self.done.insert(op, result)),
            _ => {}
        }
    }
}

/// A node of the network, running or not.
#[derive(Clone)]
pub(crate) struct Member {
    secret: SecretKey,
    pub(crate) node: Node,
    store: Arc<MemoryStore>,
    /// Its place in the simulation, while it runs.
    pub(crate) place: Option<NodeKey>,
}

/// A discv4 network whose first member is everybody's boot node.
pub(crate) struct Network {
    pub(crate) sim: Simulation<Wire>,
    pub(crate) members: Vec<Member>,
    next_op: u64,
}

fn link() -> LinkProfile {
    LinkProfile::default()
        .latency(Duration::from_millis(10), Duration::from_millis(100))
        .mtu(1280)
}

/// How a lookup went.
pub(crate) struct LookedUp {
    pub(crate) found: Found,
    /// FindNode messages the asker sent.
    pub(crate) queries: u64,
    /// Answers between the start and the hearing of the closest node.
    pub(crate) hops: u32,
    pub(crate) took: Duration,
}

impl Network {
    /// Links of 10 to 100 ms that lose one datagram in a hundred.
    pub(crate) fn new(seed: u64) -> Self {
        Self::over(seed, link().loss(0.01))
    }

    /// Links of 10 to 100 ms that hold up every second datagram for 50 ms: one full packet of neighbours in four is
    /// overtaken by the rest of its answer.
    pub(crate) fn reordering(seed: u64) -> Self {
        Self::over(seed, link().reordering(0.5, Duration::from_millis(50)))
    }

    fn over(seed: u64, link: LinkProfile) -> Self {
        let mut sim = Simulation::new(seed);
        sim.set_default_link(link);
        Self {
            sim,
            members: Vec::new(),
            next_op: 0,
        }
    }

    /// A new node with a key and a /24 of its own. Returns its index among the members.
    pub(crate) fn join(&mut self) -> usize {
        let index = self.members.len();
        let secret = SecretKey::generate(self.sim.rng());
        let [.., high, low] = (index as u32).to_be_bytes();
        let addr = SocketAddr::from(([20, high, low, 7], 30303));
        let endpoint = Endpoint::new(addr.ip(), addr.port(), addr.port());
        let node = Node::new(secret.public_key(), endpoint);
        let store = Arc::new(MemoryStore::new());
        self.members.push(Member {
            secret,
            node,
            store,
            place: None,
        });
        let bootnodes = if index == 0 {
            vec![]
        } else {
            vec![self.members[0].node.clone()]
        };
        self.start(index, bootnodes);
        index
    }

    /// Starts a member that does not run, with what its database remembers.
    pub(crate) fn start(&mut self, index: usize, bootnodes: Vec<Node>) {
        let Member {
            secret,
            node,
            store,
            place,
        } = &self.members[index];
        assert!(place.is_none(), "it runs already");
        let Endpoint { ip, udp, tcp } = *node.endpoint();
        let record = NodeRecord::builder()
            .seq(self.sim.now().unix.as_millis())
            .ip(ip)
            .udp(udp)
            .tcp(tcp)
            .sign(secret)
            .unwrap();
        let wire = Wire {
            key: secret.public_key(),
            index: index as u64,
            store: Arc::clone(store),
            rng: self.sim.rng().child("seeds"),
            done: BTreeMap::new(),
            sent: [0; 7],
            depths: None,
        };
        let mut config = CoreConfig::new(self.sim.rng().random());
        config.bootnodes = bootnodes;
        config.protocols = Protocols::V4;
        let core = DiscoveryCore::new(config, record, self.sim.now());
        let at = Place::public(SocketAddr::new(ip, udp));
        self.members[index].place = Some(self.sim.add_node(at, wire, core).unwrap());
    }

    /// Kills a member.
    pub(crate) fn kill(&mut self, index: usize) {
        let place = self.members[index].place.take().expect("it runs");
        self.sim.remove_node(place).expect("it runs");
    }

    pub(crate) fn run(&mut self, duration: Duration) {
        self.sim.run_for(duration).unwrap();
    }

    /// Indices of the members that run.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.members.len())
            .filter(|index| self.members[*index].place.is_some())
            .collect()
    }

    pub(crate) fn table(&self, index: usize) -> TableSnapshot {
        let place = self.members[index].place.expect("it runs");
        self.sim.machine(place).expect("it runs").snapshot()
    }

    /// A member's first refresh is over when a refresh it was asked to wait for is.
    pub(crate) fn ask_to_join(&mut self, index: usize) -> OpId {
        self.command(index, Command::Refresh)
    }

    pub(crate) fn is_done(&self, index: usize, op: OpId) -> bool {
        let wire = self.members[index]
            .place
            .and_then(|place| self.sim.adapter(place));
        wire.is_some_and(|wire| wire.done.contains_key(&op))
    }

    /// Runs a lookup to its end, alone.
    pub(crate) fn lookup(&mut self, index: usize, target: Target) -> LookedUp {
        let place = self.members[index].place.expect("it runs");
        let began = self.sim.now().mono;
        let wire = self.sim.adapter_mut(place).expect("it runs");
        wire.depths = Some(BTreeMap::new());
        let before = wire.sent[3];
        let op = self.command(index, Command::Lookup(target));
        let done =
            |sim: &Simulation<Wire>| sim.adapter(place).is_some_and(|w| w.done.contains_key(&op));
        assert!(
            self.sim.run_until(Duration::from_secs(60), done).unwrap(),
            "a lookup ends"
        );
        let took = self.sim.now().mono - began;
        let wire = self.sim.adapter_mut(place).expect("it runs");
        let queries = wire.sent[3] - before;
        let depths = wire.depths.take().unwrap_or_default();
        let found = match wire.done.remove(&op) {
            Some(Ok(Reply::Found(found))) => found,
            other => panic!("{other:?}"),
        };
        let closest = found.closest.first().map(Node::id);
        let hops = closest.and_then(|id| depths.get(&id).copied()).unwrap_or(0);
        LookedUp {
            found,
            queries,
            hops,
            took,
        }
    }

    /// The running members nearest to a target, but for one.
    pub(crate) fn truly_closest(&self, target: &Target, but: usize, count: usize) -> Vec<NodeId> {
        let mut ids: Vec<NodeId> = self
            .running()
            .into_iter()
            .filter(|index| *index != but)
            .map(|index| self.members[index].node.id())
            .collect();
        ids.sort_by(|a, b| target.id().cmp_distance(a, b));
        ids.truncate(count);
        ids
    }

    fn command(&mut self, index: usize, command: Command) -> OpId {
        let op = OpId(self.next_op);
        self.next_op += 1;
        let place = self.members[index].place.expect("it runs");
        self.sim
            .input(place, CoreInput::Command { op, command })
            .unwrap();
        op
    }
}
