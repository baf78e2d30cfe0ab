//! What happens to datagrams in a simulation: leaving, the chances of the way, arriving.

use std::net::SocketAddr;

use tercet_machine::MonoTime;

use crate::adapter::{Adapter, Event, Packet};
use crate::error::SimError;
use crate::simulation::{NodeKey, Pending, Simulation};
use crate::world::{Place, Unreachable};

/// A datagram under way.
#[derive(Clone)]
pub(crate) struct Flight<P> {
    /// `None` if the source is forged: then no partition and no NAT is known to be in the way.
    sender: Option<NodeKey>,
    /// Where the sender was: it may be gone when the datagram arrives.
    place: Option<Place>,
    /// The source as the receiver sees it.
    from: SocketAddr,
    to: SocketAddr,
    packet: P,
}

impl<A: Adapter> Simulation<A> {
    pub(crate) fn send(&mut self, sender: NodeKey, to: SocketAddr, packet: A::Packet) {
        let now = self.now.mono;
        let place = self.world.place(sender);
        let Some(from) = self.world.leave(now, sender, to) else {
            self.counts.filtered += 1;
            return;
        };
        // The receiver is settled on arrival; whoever has the address at sending decides which link is taken.
        let receiver = self.world.arrive(now, place, from, to).ok();
        if receiver.is_some_and(|receiver| self.world.parted(sender, receiver)) {
            self.counts.parted += 1;
            return;
        }
        let link = self.world.link(sender, receiver);
        let position = self.world.position(sender, receiver);
        if packet.size() > link.mtu {
            self.counts.oversized += 1;
            return;
        }
        if link.loses(&mut self.rng) {
            self.counts.lost += 1;
            return;
        }
        let flight = Flight {
            sender: Some(sender),
            place,
            from,
            to,
            packet,
        };
        if link.duplicates(&mut self.rng) {
            self.counts.duplicated += 1;
            let at = now + link.delay(position, &mut self.rng);
            self.schedule(at, Pending::Datagram(flight.clone()));
        }
        let at = now + link.delay(position, &mut self.rng);
        self.schedule(at, Pending::Datagram(flight));
    }

    pub(crate) fn send_spoofed(&mut self, from: SocketAddr, to: SocketAddr, packet: A::Packet) {
        let link = self.world.default_link;
        if packet.size() > link.mtu {
            self.counts.oversized += 1;
        } else if link.loses(&mut self.rng) {
            self.counts.lost += 1;
        } else {
            let at = self.now.mono + link.delay(0.0, &mut self.rng);
            let flight = Flight {
                sender: None,
                place: None,
                from,
                to,
                packet,
            };
            self.schedule(at, Pending::Datagram(flight));
        }
    }

    pub(crate) fn on_datagram(&mut self, flight: Flight<A::Packet>) -> Result<(), SimError> {
        match self.arrive(self.now.mono, flight) {
            Some((node, event)) => self.dispatch(node, event),
            None => Ok(()),
        }
    }

    /// Who receives a datagram at its arrival, and what; `None`, and counted, if nobody does.
    pub(crate) fn arrive(
        &mut self,
        now: MonoTime,
        flight: Flight<A::Packet>,
    ) -> Option<(NodeKey, Event<A::Packet>)> {
        let Flight {
            sender,
            place,
            from,
            to,
            packet,
        } = flight;
        match self.world.arrive(now, place, from, to) {
            Err(Unreachable::NoRoute) => self.counts.unroutable += 1,
            Err(Unreachable::Filtered) => self.counts.filtered += 1,
            Ok(node) if sender.is_some_and(|sender| self.world.parted(sender, node)) => {
                self.counts.parted += 1;
            }
            Ok(node) => {
                self.counts.delivered += 1;
                return Some((node, Event::Datagram { from, packet }));
            }
        }
        None
    }
}
