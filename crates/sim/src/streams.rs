//! What happens to streams in a simulation: opening, delivery in order, closing, and giving up.

use std::net::SocketAddr;

use tercet_machine::MonoTime;

use crate::adapter::{Adapter, Event, StreamId};
use crate::error::SimError;
use crate::share::Pending;
use crate::simulation::{NodeKey, Simulation};
use crate::stream::{MAX_TRIES, RETRANSMISSION, Segment, Side, Stream};

/// A stream's event in the heap.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Due {
    /// The head of the direction that ends at a side.
    Head(StreamId, Side),
    /// A node learns that a stream is no more.
    Gone(StreamId, NodeKey),
}

impl<A: Adapter> Simulation<A> {
    pub(crate) fn connect(&mut self, opener: NodeKey, id: StreamId, to: SocketAddr) {
        let now = self.now.mono;
        let place = self.world.place(opener);
        let way = self.world.leave(now, opener, to).and_then(|from| {
            let acceptor = self.world.arrive(now, place, from, to).ok()?;
            (acceptor != opener && !self.world.parted(opener, acceptor)).then_some((from, acceptor))
        });
        match way {
            Some((from, acceptor)) => {
                self.streams
                    .insert(id, Stream::new((opener, from), (acceptor, to)));
                self.push(id, Side::Acceptor, Segment::Open);
            }
            None => {
                let link = self.world.default_link;
                let position = self.world.position(opener, None);
                let mut way = || link.delay(position, &mut self.rng);
                let back = now + way() + way();
                self.schedule(back, Pending::Stream(Due::Gone(id, opener)));
            }
        }
    }

    pub(crate) fn write(&mut self, node: NodeKey, id: StreamId, bytes: Vec<u8>) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Some(side) = stream
            .side_of(node)
            .filter(|side| !stream.closed_by_end(*side))
        else {
            return;
        };
        if stream.pipe_to(side.other()).has_room_for(bytes.len()) {
            self.push(id, side.other(), Segment::Data(bytes));
        } else {
            self.reset(id);
        }
    }

    pub(crate) fn close(&mut self, node: NodeKey, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Some(side) = stream.side_of(node) else {
            return;
        };
        if stream.closed_by_end(side) {
            return;
        }
        if stream.closed_by_end(side.other()) {
            // Both ends have closed: nobody is left to be told.
            self.streams.remove(&id);
        } else {
            self.push(id, side.other(), Segment::Close);
        }
    }

    pub(crate) fn close_streams_of(&mut self, node: NodeKey) {
        let ends: Vec<_> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.side_of(node).is_some())
            .map(|(id, _)| *id)
            .collect();
        for id in ends {
            self.close(node, id);
        }
    }

    pub(crate) fn on_stream(&mut self, due: Due) -> Result<(), SimError> {
        match due {
            Due::Head(id, side) => self.on_head(id, side),
            Due::Gone(id, node) => self
                .bring(node, Event::StreamClosed { stream: id })
                .map(drop),
        }
    }

    fn on_head(&mut self, id: StreamId, side: Side) -> Result<(), SimError> {
        let now = self.now.mono;
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        if self.world.parted(stream.opener, stream.acceptor) {
            let pipe = stream.pipe_to(side);
            pipe.tries += 1;
            if pipe.tries > MAX_TRIES {
                self.reset(id);
            } else {
                self.schedule(now + RETRANSMISSION, Pending::Stream(Due::Head(id, side)));
            }
            return Ok(());
        }
        let (node, gone) = (stream.node(side), stream.closed_by_end(side));
        let Some((segment, next)) = stream.pipe_to(side).pop() else {
            return Ok(());
        };
        if let Some(next) = next {
            self.schedule(next.max(now), Pending::Stream(Due::Head(id, side)));
        }
        // What arrives at an end that has closed is dropped.
        if gone {
            return Ok(());
        }
        match segment {
            Segment::Open => self.on_open(id, side),
            Segment::Data(bytes) => self
                .bring(node, Event::StreamData { stream: id, bytes })
                .map(drop),
            Segment::Close => {
                self.streams.remove(&id);
                self.bring(node, Event::StreamClosed { stream: id })
                    .map(drop)
            }
        }
    }

    /// The opening arrives: first at the acceptor, who may refuse, then back at the opener.
    fn on_open(&mut self, id: StreamId, side: Side) -> Result<(), SimError> {
        let Some(stream) = self.streams.get(&id) else {
            return Ok(());
        };
        let node = stream.node(side);
        let inbound = side == Side::Acceptor;
        let remote = if inbound {
            stream.opener_addr
        } else {
            stream.acceptor_addr
        };
        self.counts.segments += 1;
        self.trace
            .record((self.now.mono.as_nanos(), id, node, "open"));
        let input = self.translate(
            node,
            Event::StreamOpened {
                stream: id,
                remote,
                inbound,
            },
        );
        match (input, inbound) {
            (Some(input), true) => {
                // Before anything the acceptor writes.
                self.push(id, Side::Opener, Segment::Open);
                self.pump(node, Some(input))
            }
            (input, false) => self.pump(node, input),
            (None, true) => {
                self.push(id, Side::Opener, Segment::Close);
                Ok(())
            }
        }
    }

    /// Ends a stream for both ends at once.
    fn reset(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        for side in [Side::Opener, Side::Acceptor] {
            if !stream.closed_by_end(side) {
                self.schedule(
                    self.now.mono,
                    Pending::Stream(Due::Gone(id, stream.node(side))),
                );
            }
        }
    }

    /// Delivers a stream's event and records it.
    fn bring(&mut self, node: NodeKey, event: Event<A::Packet>) -> Result<(), SimError> {
        let now = self.now.mono.as_nanos();
        self.counts.segments += 1;
        match &event {
            Event::StreamData { stream, bytes } => self.trace.record((now, stream, node, bytes)),
            Event::StreamClosed { stream } => self.trace.record((now, stream, node, "closed")),
            Event::StreamOpened { .. } | Event::Datagram { .. } => {}
        }
        self.dispatch(node, event)
    }

    /// Puts a segment on its way to `side`. A lost one is sent again until it arrives.
    fn push(&mut self, id: StreamId, side: Side, segment: Segment) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let link = self.world.link(stream.opener, Some(stream.acceptor));
        let position = self.world.position(stream.opener, Some(stream.acceptor));
        let mut arrival: MonoTime = self.now.mono + link.delay(position, &mut self.rng);
        for _ in 0..MAX_TRIES {
            if !link.loses(&mut self.rng) {
                break;
            }
            arrival = arrival + RETRANSMISSION;
        }
        if let Some(head_at) = stream.pipe_to(side).push(arrival, segment) {
            self.schedule(head_at, Pending::Stream(Due::Head(id, side)));
        }
    }
}
