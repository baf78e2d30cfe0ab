//! What happens to datagrams in a simulation: leaving, the chances of the way, arriving.

use std::net::SocketAddr;

use tercet_machine::MonoTime;

use crate::adapter::{Adapter, Event, InputOf, Packet};
use crate::agenda::Moment;
use crate::error::SimError;
use crate::share::Pending;
use crate::simulation::{Counts, NodeKey, Simulation};
use crate::world::{Place, Unreachable, World};

/// A datagram under way.
#[derive(Clone)]
pub(crate) struct Flight<P> {
    /// `None` if the source is forged: then no partition and no NAT is known to be in the way.
    sender: Option<NodeKey>,
    /// Where the sender was: it may be gone when the datagram arrives.
    place: Option<Place>,
    /// The source as the receiver sees it.
    from: SocketAddr,
    pub(crate) to: SocketAddr,
    packet: P,
}

/// Numbers a datagram takes of its sender's: one for each time it can arrive.
pub(crate) const NUMBERS: u64 = 2;

/// A datagram that has left its sender.
pub(crate) struct Sent<P> {
    pub(crate) at: MonoTime,
    pub(crate) sender: NodeKey,
    /// The first of the sender's numbers that are its.
    pub(crate) number: u64,
    /// The source after the sender's NAT.
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) packet: P,
}

/// Decides what becomes of a datagram under way; it goes to `put` as often as it will arrive, with the moment.
///
/// All its chances follow from the run's seed, its sender and its number: so they are the same in whatever order the datagrams
/// of different nodes are looked at.
pub(crate) fn send<P: Packet>(
    world: &World,
    counts: &mut Counts,
    sent: Sent<P>,
    mut put: impl FnMut(Moment, Flight<P>),
) {
    let Sent {
        at,
        sender,
        number,
        from,
        to,
        packet,
    } = sent;
    let place = world.place(sender);
    // The receiver is settled on arrival; whoever has the address at sending decides which link is taken.
    let receiver = world.arrive(at, place, from, to).ok();
    if receiver.is_some_and(|receiver| world.parted(sender, receiver)) {
        counts.parted += 1;
        return;
    }
    let link = world.link(sender, receiver);
    if packet.size() > link.mtu {
        counts.oversized += 1;
        return;
    }
    let mut chances = world.chances(sender, number);
    if link.loses(&mut chances) {
        counts.lost += 1;
        return;
    }
    let position = world.position(sender, receiver);
    let flight = Flight {
        sender: Some(sender),
        place,
        from,
        to,
        packet,
    };
    let moment = |number, delay| Moment {
        at: at + delay,
        cause: Some(sender),
        number,
    };
    if link.duplicates(&mut chances) {
        counts.duplicated += 1;
        let again = moment(number + 1, link.delay(position, &mut chances));
        put(again, flight.clone());
    }
    put(moment(number, link.delay(position, &mut chances)), flight);
}

/// Who receives a datagram at its arrival, and what; `None`, and counted, if nobody does.
pub(crate) fn arrive<P>(
    world: &World,
    counts: &mut Counts,
    now: MonoTime,
    flight: Flight<P>,
) -> Option<(NodeKey, Event<P>)> {
    let Flight {
        sender,
        place,
        from,
        to,
        packet,
    } = flight;
    match world.arrive(now, place, from, to) {
        Err(Unreachable::NoRoute) => counts.unroutable += 1,
        Err(Unreachable::Filtered) => counts.filtered += 1,
        Ok(node) if sender.is_some_and(|sender| world.parted(sender, node)) => counts.parted += 1,
        Ok(node) => {
            counts.delivered += 1;
            return Some((node, Event::Datagram { from, packet }));
        }
    }
    None
}

impl<A: Adapter> Simulation<A> {
    pub(crate) fn send(&mut self, sender: NodeKey, to: SocketAddr, packet: A::Packet) {
        let at = self.now.mono;
        let Some(from) = self.world.leave(at, sender, to) else {
            self.counts.filtered += 1;
            return;
        };
        let Some(number) = self.node_mut(sender).map(|node| node.take_numbers(NUMBERS)) else {
            return;
        };
        let sent = Sent {
            at,
            sender,
            number,
            from,
            to,
            packet,
        };
        let shares = &mut self.shares;
        let count = shares.len();
        send(&self.world, &mut self.counts, sent, |moment, flight| {
            if let Some(share) = shares.get_mut(Place::share(flight.to, count)) {
                share.agenda.push(moment, Pending::Datagram(flight));
            }
        });
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
        match arrive(&self.world, &mut self.counts, self.now.mono, flight) {
            Some((node, event)) => self.dispatch(node, event),
            None => Ok(()),
        }
    }

    /// Turns an event into an input, if the node is there and its adapter takes it.
    pub(crate) fn translate(
        &mut self,
        key: NodeKey,
        event: Event<A::Packet>,
    ) -> Option<InputOf<A>> {
        let now = self.now;
        self.node_mut(key).and_then(|node| node.receive(now, event))
    }
}
