//! The simulation: who is there, what is going to happen, in which order. Time jumps to the next event. Several threads at once
//! are `windows`' business.
//!
//! Everything that happens has a place in the order that its time, who brought it about and how many things he had brought about
//! before give it, so a run follows from its seed and the scenario's calls alone. Each delivery goes into a hash of its node's; a
//! scenario that is run twice must end with the same.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tercet_machine::{MachineRng, MonoTime, Now, UnixTime};

use crate::adapter::{Action, Adapter, Event, InputOf, StreamId};
use crate::agenda::Moment;
use crate::error::SimError;
use crate::link::LinkProfile;
use crate::nat::NatKind;
use crate::node::{Node, Traffic};
use crate::share::{Pending, Share};
use crate::stream::Stream;
use crate::trace::{Trace, TraceHash};
use crate::world::{Place, World};

/// A node; keys are given out in order and never again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeKey(u32);

impl NodeKey {
    /// How many nodes were added before this one.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A NAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NatKey(pub(crate) usize);

/// What happened in a run, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Datagrams that arrived.
    pub delivered: u64,
    /// Datagrams the link lost.
    pub lost: u64,
    /// Datagrams that arrived once more.
    pub duplicated: u64,
    /// Datagrams larger than the link's MTU.
    pub oversized: u64,
    /// Datagrams to an address nobody has.
    pub unroutable: u64,
    /// Datagrams a NAT let neither out nor in.
    pub filtered: u64,
    /// Datagrams between the two sides of a partition.
    pub parted: u64,
    /// Stream segments that arrived, openings and closings included.
    pub segments: u64,
    /// Timeouts handled.
    pub timeouts: u64,
}

impl Counts {
    pub(crate) const fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.oversized += other.oversized;
        self.unroutable += other.unroutable;
        self.filtered += other.filtered;
        self.parted += other.parted;
        self.segments += other.segments;
        self.timeouts += other.timeouts;
    }
}

/// Civil time at the start of every run, 2023-11-14.
pub const START: UnixTime = UnixTime::from_secs(1_700_000_000);
/// Both clocks at a moment of the run.
pub(crate) fn time(mono: MonoTime) -> Now {
    Now {
        mono,
        unix: START + (mono - MonoTime::ZERO),
    }
}

/// A network of machines in virtual time. See the crate's documentation for an example.
pub struct Simulation<A: Adapter> {
    seed: u64,
    pub(crate) now: Now,
    pub(crate) shares: Vec<Share<A>>,
    pub(crate) rng: MachineRng,
    pub(crate) trace: Trace,
    pub(crate) world: World,
    /// Nodes ever added.
    added: u32,
    pub(crate) streams: BTreeMap<StreamId, Stream>,
    next_stream: u64,
    pub(crate) counts: Counts,
    /// Things the scenario and the network have brought about.
    number: u64,
    /// What a node does at a moment. Kept for its memory.
    traffic: Traffic<A>,
}

impl<A: Adapter> Simulation<A> {
    /// An empty network. Prints the seed, from which the run can be repeated.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        println!("simulation with seed {seed}");
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(seed.to_le_bytes()) {
            *to = from;
        }
        Self {
            seed,
            now: Now {
                mono: MonoTime::ZERO,
                unix: START,
            },
            shares: vec![Share::new()],
            rng: MachineRng::from_seed(bytes),
            trace: Trace::default(),
            world: World::new(seed),
            added: 0,
            streams: BTreeMap::new(),
            next_stream: 0,
            counts: Counts::default(),
            number: 0,
            traffic: Vec::new(),
        }
    }

    /// The seed of the run.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The generator of the run: for a scenario's own choices, and for the children its machines get.
    pub const fn rng(&mut self) -> &mut MachineRng {
        &mut self.rng
    }

    /// The time.
    #[must_use]
    pub const fn now(&self) -> Now {
        self.now
    }

    /// The hash over all deliveries so far.
    #[must_use]
    pub fn trace_hash(&self) -> TraceHash {
        let mut trace = self.trace.clone();
        for node in self.nodes().filter_map(|key| self.node(key)) {
            trace.record((node.key, node.trace.hash()));
        }
        trace.hash()
    }

    /// What happened so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Adds a NAT with a public address.
    pub fn add_nat(&mut self, ip: IpAddr, kind: NatKind) -> NatKey {
        self.world.add_nat(ip, kind)
    }

    /// Changes how a NAT maps and filters from now on; its mappings stay. Nothing happens if there is no such NAT.
    pub fn set_nat_kind(&mut self, nat: NatKey, kind: NatKind) {
        self.world.set_nat_kind(nat, kind);
    }

    /// Adds a node, also in the middle of a run. Its machine may have outputs and a deadline already.
    ///
    /// # Errors
    /// [`SimError::AddressInUse`], [`SimError::NoSuchNat`], or what the machine did wrong in its first outputs.
    pub fn add_node(
        &mut self,
        place: Place,
        adapter: A,
        machine: A::Machine,
    ) -> Result<NodeKey, SimError> {
        if let Some(nat) = place.nat.filter(|nat| !self.world.has_nat(*nat)) {
            return Err(SimError::NoSuchNat { nat });
        }
        let node = NodeKey(self.added);
        if !self.world.add(node, place) {
            return Err(SimError::AddressInUse { addr: place.addr });
        }
        self.added += 1;
        self.trace.record(("add", self.now.mono.as_nanos(), node));
        let share = self.share_of(node);
        if let Some(share) = self.shares.get_mut(share) {
            share.insert(Box::new(Node::new(node, adapter, machine)));
        }
        self.pump(node, None)?;
        Ok(node)
    }

    /// Takes a node out, as a killed process: datagrams to it find nobody, its streams are closed by its system.
    pub fn remove_node(&mut self, node: NodeKey) -> Option<(A, A::Machine)> {
        let share = self.share_of(node);
        let removed = self.shares.get_mut(share)?.remove(node)?;
        let heard = removed.trace.hash();
        self.trace
            .record(("remove", self.now.mono.as_nanos(), node, heard));
        self.close_streams_of(node);
        self.world.remove(node);
        Some((removed.adapter, removed.machine))
    }

    /// The links that have no profile of their own.
    pub fn set_default_link(&mut self, profile: LinkProfile) {
        self.world.default_link = profile;
    }

    /// The link between two nodes, in both directions.
    pub fn set_link(&mut self, a: NodeKey, b: NodeKey, profile: LinkProfile) {
        self.world.set_link(a, b, profile);
    }

    /// Cuts `island` off from all other nodes, also from those added later. One partition at a time.
    pub fn partition(&mut self, island: &[NodeKey]) {
        self.world.set_island(island);
    }

    /// Ends the partition.
    pub fn heal(&mut self) {
        self.world.set_island(&[]);
    }

    /// The nodes, in the order they were added.
    pub fn nodes(&self) -> impl Iterator<Item = NodeKey> {
        (0..self.added)
            .map(NodeKey)
            .filter(|key| self.node(*key).is_some())
    }

    /// A node's machine.
    #[must_use]
    pub fn machine(&self, node: NodeKey) -> Option<&A::Machine> {
        self.node(node).map(|node| &node.machine)
    }

    /// A node's adapter.
    #[must_use]
    pub fn adapter(&self, node: NodeKey) -> Option<&A> {
        self.node(node).map(|node| &node.adapter)
    }

    /// A node's adapter, for a scenario to collect what it kept.
    pub fn adapter_mut(&mut self, node: NodeKey) -> Option<&mut A> {
        self.node_mut(node).map(|node| &mut node.adapter)
    }

    /// Sends a datagram under a source address that need not be its sender's, or anybody's: it arrives after the shortest
    /// latency of the default link, if it is not lost. Nothing comes back to whoever sent it.
    pub fn spoof(&mut self, from: SocketAddr, to: SocketAddr, packet: A::Packet) {
        self.send_spoofed(from, to, packet);
    }

    /// The address a node was added at.
    #[must_use]
    pub fn address(&self, node: NodeKey) -> Option<SocketAddr> {
        self.world.place(node).map(|place| place.addr)
    }

    /// Gives a node's machine an input now: a command of the scenario.
    ///
    /// # Errors
    /// [`SimError::NoSuchNode`], or what the machine did wrong.
    pub fn input(&mut self, node: NodeKey, input: InputOf<A>) -> Result<(), SimError> {
        if self.node(node).is_none() {
            return Err(SimError::NoSuchNode { node });
        }
        self.pump(node, Some(input))
    }

    /// Lets the next event happen; `false` if there is none.
    ///
    /// # Errors
    /// What a machine did wrong.
    pub fn step(&mut self) -> Result<bool, SimError> {
        let next = |share: &&mut Share<A>| share.agenda.next();
        let earliest = self.shares.iter_mut().filter(|share| next(share).is_some());
        let Some((moment, what)) = earliest.min_by_key(next).and_then(|s| s.agenda.pop()) else {
            return Ok(false);
        };
        self.now = time(moment.at);
        match what {
            Pending::Wake(node) => self.on_wake(node)?,
            Pending::Datagram(flight) => self.on_datagram(flight)?,
            Pending::Stream(due) => self.on_stream(due)?,
        }
        Ok(true)
    }

    /// Runs for a span of virtual time.
    ///
    /// # Errors
    /// What a machine did wrong.
    pub fn run_for(&mut self, duration: Duration) -> Result<(), SimError> {
        self.run_until(duration, |_| false).map(drop)
    }

    /// Runs until `done`, asked after each event, or for at most `limit`; says whether it was `done`.
    ///
    /// # Errors
    /// What a machine did wrong.
    pub fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<bool, SimError> {
        let end = self.now.mono + limit;
        if done(self) {
            return Ok(true);
        }
        while self.next_at().is_some_and(|at| at <= end) {
            self.step()?;
            if done(self) {
                return Ok(true);
            }
        }
        self.now = time(end);
        Ok(false)
    }

    /// When the next thing happens.
    pub(crate) fn next_at(&self) -> Option<MonoTime> {
        let next = self.shares.iter().filter_map(|share| share.agenda.next());
        next.min().map(|moment| moment.at)
    }

    /// The share a node is in, or would be.
    pub(crate) fn share_of(&self, key: NodeKey) -> usize {
        let place = self.world.place(key);
        place.map_or(0, |place| Place::share(place.addr, self.shares.len()))
    }

    fn node(&self, key: NodeKey) -> Option<&Node<A>> {
        self.shares.get(self.share_of(key))?.node(key)
    }

    pub(crate) fn node_mut(&mut self, key: NodeKey) -> Option<&mut Node<A>> {
        let share = self.share_of(key);
        self.shares.get_mut(share)?.node_mut(key)
    }

    /// Puts down what the scenario or the network brings about.
    pub(crate) fn schedule(&mut self, at: MonoTime, what: Pending<A::Packet>) {
        let number = self.number;
        self.number += 1;
        let moment = Moment {
            at,
            cause: None,
            number,
        };
        self.put(moment, what);
    }

    /// Puts something where those are to whom it happens.
    pub(crate) fn put(&mut self, moment: Moment, what: Pending<A::Packet>) {
        let share = match &what {
            Pending::Wake(node) => self.share_of(*node),
            Pending::Datagram(flight) => Place::share(flight.to, self.shares.len()),
            Pending::Stream(_) => 0,
        };
        if let Some(share) = self.shares.get_mut(share) {
            share.agenda.push(moment, what);
        }
    }

    fn on_wake(&mut self, key: NodeKey) -> Result<(), SimError> {
        let now = self.now;
        let woken = self.node_mut(key).map(|node| node.wake(now)).transpose()?;
        match woken.flatten() {
            Some(was_due) => {
                self.counts.timeouts += u64::from(was_due);
                self.pump(key, None)
            }
            None => Ok(()),
        }
    }

    /// Brings an event to a node.
    pub(crate) fn dispatch(
        &mut self,
        key: NodeKey,
        event: Event<A::Packet>,
    ) -> Result<(), SimError> {
        let input = self.translate(key, event);
        self.pump(key, input)
    }

    /// Hands over an input, if there is one, does all that comes out of it, and sets the wake-up.
    pub(crate) fn pump(&mut self, key: NodeKey, input: Option<InputOf<A>>) -> Result<(), SimError> {
        let now = self.now;
        let mut traffic = std::mem::take(&mut self.traffic);
        let mut next_stream = self.next_stream;
        let Some(node) = self.node_mut(key) else {
            return Ok(());
        };
        let pumped = node.pump(now, input, &mut next_stream, &mut traffic);
        let wake = node.arm(now.mono);
        self.next_stream = next_stream;
        pumped?;
        for action in traffic.drain(..) {
            self.perform(key, action);
        }
        self.traffic = traffic;
        if let Some(moment) = wake {
            self.put(moment, Pending::Wake(key));
        }
        Ok(())
    }

    pub(crate) fn perform(&mut self, node: NodeKey, action: Action<A::Packet, InputOf<A>>) {
        match action {
            Action::Send { to, packet } => self.send(node, to, packet),
            Action::Connect { stream, to } => self.connect(node, stream, to),
            Action::Write { stream, bytes } => self.write(node, stream, bytes),
            Action::Close { stream } => self.close(node, stream),
            // Taken out by `pump`.
            Action::Input(_) => {}
        }
    }
}
