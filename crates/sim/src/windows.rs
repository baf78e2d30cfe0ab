//! A run on several threads, with the same result as on one.
//!
//! Whatever a node sends takes the shortest latency of all links at least. So what happens within a window of that length happens
//! to each node by itself: the nodes play their parts of it at once, and what they send is performed afterwards, in the order in
//! which one thread would have.

use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use tercet_machine::MonoTime;

use crate::adapter::{Action, Adapter, Event};
use crate::error::SimError;
use crate::node::{Node, Traffic};
use crate::simulation::{NodeKey, Pending, Simulation, time};

/// Fewer nodes than this are not worth a thread, which costs about as much as ten events.
const WORTH_A_THREAD: usize = 32;

/// The order of a wake-up that was set within its window: behind everything that was known before at the same time.
const SET_LATE: u64 = u64::MAX;

/// What happens to one node in a window.
struct Part<A: Adapter> {
    node: Box<Node<A>>,
    /// In order; with each its place among those at the same time.
    events: VecDeque<(MonoTime, u64, What<A::Packet>)>,
    deeds: Vec<Deed<A>>,
    timeouts: u64,
    fault: Option<SimError>,
}

enum What<P> {
    Wake,
    Datagram(Event<P>),
}

/// What came of one event.
struct Deed<A: Adapter> {
    at: MonoTime,
    order: u64,
    node: NodeKey,
    traffic: Traffic<A>,
    /// A wake-up after the window.
    wake: Option<MonoTime>,
}

impl<A> Simulation<A>
where
    A: Adapter + Send,
    A::Machine: Send,
    A::Packet: Send,
    <A::Machine as tercet_machine::Machine>::Input: Send,
{
    /// As [`run_for`](Self::run_for), on up to `threads` threads and with the same result. For networks of datagrams: with NATs or
    /// with links without latency, one thread does it all.
    ///
    /// # Errors
    /// What a machine did wrong; [`SimError::Stream`] if one opens a stream.
    pub fn run_for_on(&mut self, threads: usize, duration: Duration) -> Result<(), SimError> {
        let window = self.world.shortest_latency();
        if threads < 2 || window.is_zero() || self.world.has_nats() || !self.streams.is_empty() {
            return self.run_for(duration);
        }
        let end = self.now.mono + duration;
        while let Some(first) = self.agenda.next_at().filter(|at| *at <= end) {
            let until = (first + window).min(end + Duration::from_nanos(1));
            self.play(threads, until)?;
        }
        self.now = time(end);
        Ok(())
    }

    /// Everything before `until`.
    fn play(&mut self, threads: usize, until: MonoTime) -> Result<(), SimError> {
        let mut shares = self.deal_out(threads, until);
        let parts: usize = shares.iter().map(Vec::len).sum();
        if parts < WORTH_A_THREAD {
            shares
                .iter_mut()
                .flatten()
                .for_each(|part| part.play(until));
        } else {
            thread::scope(|scope| {
                let (own, others) = shares.split_at_mut(1);
                for share in others {
                    scope.spawn(move || share.iter_mut().for_each(|part| part.play(until)));
                }
                own.iter_mut().flatten().for_each(|part| part.play(until));
            });
        }
        let mut deeds = Vec::with_capacity(parts);
        let mut fault = None;
        for part in shares.into_iter().flatten() {
            deeds.extend(part.deeds);
            fault = fault.or(part.fault);
            self.counts.timeouts += part.timeouts;
            self.put_back(part.node);
        }
        if let Some(fault) = fault {
            return Err(fault);
        }
        deeds.sort_by_key(|deed| (deed.at, deed.order, deed.node));
        for deed in deeds {
            self.now = time(deed.at);
            for action in deed.traffic {
                self.perform(deed.node, action);
            }
            if let Some(at) = deed.wake {
                self.schedule(at, Pending::Wake(deed.node));
            }
        }
        Ok(())
    }

    /// Takes what happens before `until` out of the agenda, and the nodes it happens to. Each node has a thread of its own for
    /// the whole run: what it remembers would else travel between the cores, which takes longer than what is done with it.
    fn deal_out(&mut self, threads: usize, until: MonoTime) -> Vec<Vec<Part<A>>> {
        let mut shares: Vec<Vec<Part<A>>> =
            std::iter::repeat_with(Vec::new).take(threads).collect();
        let mut part_of = std::mem::take(&mut self.part_of);
        part_of.resize(self.nodes_len(), None);
        while self.agenda.next_at().is_some_and(|at| at < until) {
            let Some((at, order, pending)) = self.agenda.pop() else {
                break;
            };
            let (key, what) = match pending {
                Pending::Wake(node) => (node, What::Wake),
                Pending::Datagram(flight) => match self.arrive(at, flight) {
                    Some((node, event)) => (node, What::Datagram(event)),
                    None => continue,
                },
                // There are no streams here: see `run_for_on`.
                Pending::Stream(_) => continue,
            };
            let (Some(slot), Some(share)) = (
                part_of.get_mut(key.index()),
                shares.get_mut(key.index() % threads),
            ) else {
                continue;
            };
            *slot = slot.or_else(|| {
                share.push(Part::new(self.take_out(key)?));
                Some(share.len() - 1)
            });
            if let Some(part) = slot.and_then(|part| share.get_mut(part)) {
                part.events.push_back((at, order, what));
            }
        }
        for part in shares.iter().flatten() {
            if let Some(slot) = part_of.get_mut(part.node.key.index()) {
                *slot = None;
            }
        }
        self.part_of = part_of;
        shares
    }
}

impl<A: Adapter> Part<A> {
    fn new(node: Box<Node<A>>) -> Self {
        Self {
            node,
            events: VecDeque::new(),
            deeds: Vec::new(),
            timeouts: 0,
            fault: None,
        }
    }

    fn play(&mut self, until: MonoTime) {
        if let Err(fault) = self.try_play(until) {
            self.fault = Some(fault);
        }
    }

    fn try_play(&mut self, until: MonoTime) -> Result<(), SimError> {
        // A wake-up that was set in this window, for this window.
        let mut soon: Option<MonoTime> = None;
        loop {
            let known = self.events.front().map(|(at, ..)| *at);
            let next = match (known, soon) {
                (Some(known), Some(at)) if at < known => None,
                (Some(_), _) => self.events.pop_front(),
                (None, _) => None,
            };
            let (at, order, what) = match next {
                Some(next) => next,
                None => match soon.take() {
                    Some(at) => (at, SET_LATE, What::Wake),
                    None => return Ok(()),
                },
            };
            let now = time(at);
            let input = match what {
                What::Datagram(event) => self.node.receive(now, event),
                What::Wake => match self.node.wake(now)? {
                    Some(was_due) => {
                        self.timeouts += u64::from(was_due);
                        None
                    }
                    None => continue,
                },
            };
            let (mut traffic, mut streams) = (Vec::new(), 0);
            self.node.pump(now, input, &mut streams, &mut traffic)?;
            let node = self.node.key;
            let is_datagram = |action| matches!(action, &Action::Send { .. });
            if !traffic.iter().all(is_datagram) {
                return Err(SimError::Stream { node });
            }
            let armed = self.node.arm(at);
            soon = armed.filter(|at| *at < until).or(soon);
            self.deeds.push(Deed {
                at,
                order,
                node,
                traffic,
                wake: armed.filter(|at| *at >= until),
            });
        }
    }
}
