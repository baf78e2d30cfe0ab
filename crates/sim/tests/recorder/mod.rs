//! A machine that does what it is told and writes down what it is told: the scenarios' eyes and hands.

use std::net::SocketAddr;
use std::time::Duration;

use tercet_machine::{Machine, MonoTime, Now, TimerSet};
use tercet_sim::{Actions, Adapter, Event, NodeKey, Place, SimError, Simulation, StreamId};

#[derive(Debug, Clone)]
#[allow(dead_code)] // each test file uses some of them
pub(crate) enum Order {
    Send(SocketAddr, Vec<u8>),
    Connect(SocketAddr),
    Write(StreamId, Vec<u8>),
    Close(StreamId),
    Wake(Duration),
    /// Do nothing at this wake-up and leave the deadline as it is.
    Stall(Duration),
    /// Feed yourself for ever.
    Loop,
}

#[derive(Debug)]
pub(crate) enum Input {
    Order(Order),
    Event(Event<Vec<u8>>),
}

#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) log: Vec<(MonoTime, Event<Vec<u8>>)>,
    pub(crate) woken: Vec<Now>,
    orders: Vec<Order>,
    timers: TimerSet<u64>,
    stalled: bool,
}

impl Machine for Recorder {
    type Input = Input;
    type Output = Order;

    fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Event(event) => self.log.push((now.mono, event)),
            Input::Order(Order::Wake(after)) => {
                self.timers.set(self.timers.len() as u64, now.mono + after);
            }
            Input::Order(Order::Stall(after)) => {
                self.stalled = true;
                self.timers.set(0, now.mono + after);
            }
            Input::Order(order) => self.orders.insert(0, order),
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        self.woken.push(now);
        while !self.stalled && self.timers.pop_expired(now.mono).is_some() {}
    }

    fn deadline(&self) -> Option<MonoTime> {
        self.timers.deadline()
    }

    fn poll(&mut self) -> Option<Order> {
        self.orders.pop()
    }
}

#[derive(Default)]
pub(crate) struct Desk {
    /// Turns streams away.
    pub(crate) refuses: bool,
    pub(crate) opened: Vec<StreamId>,
}

impl Adapter for Desk {
    type Machine = Recorder;
    type Packet = Vec<u8>;

    fn deliver(&mut self, _: Now, event: Event<Vec<u8>>) -> Option<Input> {
        let refused = matches!(event, Event::StreamOpened { inbound: true, .. }) && self.refuses;
        (!refused).then_some(Input::Event(event))
    }

    fn act(&mut self, _: Now, order: Order, actions: &mut Actions<Vec<u8>, Input>) {
        match order {
            Order::Send(to, packet) => actions.send(to, packet),
            Order::Connect(to) => self.opened.push(actions.connect(to)),
            Order::Write(stream, bytes) => actions.write(stream, bytes),
            Order::Close(stream) => actions.close(stream),
            Order::Loop => actions.input(Input::Order(Order::Loop)),
            Order::Wake(_) | Order::Stall(_) => unreachable!("kept by the machine"),
        }
    }
}

pub(crate) type Sim = Simulation<Desk>;

pub(crate) fn addr(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 30303))
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A network of nodes at `addr(0)`, `addr(1)`, …
#[allow(dead_code)] // each test file uses some of them
pub(crate) fn network(seed: u64, nodes: u8) -> (Sim, Vec<NodeKey>) {
    let mut sim = Sim::new(seed);
    let keys = (0..nodes)
        .map(|host| add(&mut sim, Place::public(addr(host))).unwrap())
        .collect();
    (sim, keys)
}

pub(crate) fn add(sim: &mut Sim, place: Place) -> Result<NodeKey, SimError> {
    sim.add_node(place, Desk::default(), Recorder::default())
}

pub(crate) fn order(sim: &mut Sim, node: NodeKey, order: Order) {
    sim.input(node, Input::Order(order)).unwrap();
}

/// The first bytes of the datagrams a node received, in order.
#[allow(dead_code)] // each test file uses some of them
pub(crate) fn received(sim: &Sim, node: NodeKey) -> Vec<u8> {
    let log = &sim.machine(node).unwrap().log;
    log.iter()
        .filter_map(|(_, event)| match event {
            Event::Datagram { packet, .. } => packet.first().copied(),
            _ => None,
        })
        .collect()
}
