//! A run on several threads, with the same result as on one.
//!
//! Whatever a node sends takes the shortest latency of all links at least. So what happens within a window of that length happens
//! to each node by itself: each thread plays the window for its share of the nodes, one node after the other, and hands what they
//! have sent to nodes of another share to the thread that plays those.

use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tercet_machine::{Machine, MonoTime};

use crate::adapter::{Action, Adapter, Event};
use crate::agenda::Moment;
use crate::datagrams::{Flight, NUMBERS, Sent, arrive, send};
use crate::error::SimError;
use crate::node::{Node, Traffic};
use crate::share::{Pending, Share};
use crate::simulation::{Counts, NodeKey, Simulation, time};
use crate::world::{Place, World};

/// With fewer things than this to come a thread is not worth it: it costs about as much as ten of them, and most are not for
/// this window.
const WORTH_A_THREAD: usize = 128;

/// What is on its way to the nodes of one share.
type Mail<P> = Vec<(Moment, Flight<P>)>;

/// What happens to one node in a window.
enum What<P> {
    Wake,
    Datagram(Event<P>),
}

/// Waits for the others at the end of its scope, also if that is a panic: else they would wait for ever.
struct Meet<'a>(&'a Barrier);

impl Drop for Meet<'_> {
    fn drop(&mut self) {
        self.0.wait();
    }
}

/// One thread's part of a window.
struct Window<'a, A: Adapter> {
    world: &'a World,
    until: MonoTime,
    counts: Counts,
    /// Which share is played.
    own: usize,
    /// What is to go to each of the others.
    mail: Vec<Mail<A::Packet>>,
    traffic: Traffic<A>,
}

impl<A> Simulation<A>
where
    A: Adapter + Send,
    A::Machine: Send,
    A::Packet: Send,
    <A::Machine as Machine>::Input: Send,
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
        self.share_out(threads);
        let end = self.now.mono + duration;
        while let Some(first) = self.next_at().filter(|at| *at <= end) {
            let until = (first + window).min(end + Duration::from_nanos(1));
            self.play(until)?;
        }
        self.now = time(end);
        Ok(())
    }

    /// Deals the nodes out to so many shares, and what is going to happen with them.
    fn share_out(&mut self, shares: usize) {
        if self.shares.len() == shares {
            return;
        }
        let fresh = std::iter::repeat_with(Share::new).take(shares).collect();
        for former in std::mem::replace(&mut self.shares, fresh) {
            let (nodes, mut agenda) = former.into_parts();
            for node in nodes {
                let share = self.share_of(node.key);
                if let Some(share) = self.shares.get_mut(share) {
                    share.insert(node);
                }
            }
            while let Some((moment, what)) = agenda.pop() {
                self.put(moment, what);
            }
        }
    }

    /// Everything before `until`.
    fn play(&mut self, until: MonoTime) -> Result<(), SimError> {
        let count = self.shares.len();
        let inboxes: Vec<Mutex<Mail<A::Packet>>> =
            std::iter::repeat_with(Mutex::default).take(count).collect();
        let pending: usize = self.shares.iter().map(|share| share.agenda.len()).sum();
        let world = &self.world;
        let window = |own| Window::<A> {
            world,
            until,
            counts: Counts::default(),
            own,
            mail: std::iter::repeat_with(Vec::new).take(count).collect(),
            traffic: Vec::new(),
        };
        let mut results = Vec::with_capacity(count);
        if pending < WORTH_A_THREAD {
            for (own, share) in self.shares.iter_mut().enumerate() {
                results.push(window(own).play(share, &inboxes));
            }
            for (share, inbox) in self.shares.iter_mut().zip(&inboxes) {
                share.receive(inbox);
            }
        } else {
            let barrier = Barrier::new(count);
            let play = |own: usize, share: &mut Share<A>| {
                let result = {
                    let _all_are_done = Meet(&barrier);
                    window(own).play(share, &inboxes)
                };
                if let Some(inbox) = inboxes.get(own) {
                    share.receive(inbox);
                }
                result
            };
            let play = &play;
            let mut shares = self.shares.iter_mut().enumerate();
            let first = shares.next();
            thread::scope(|scope| {
                let others: Vec<_> = shares
                    .map(|(own, share)| scope.spawn(move || play(own, share)))
                    .collect();
                results.extend(first.map(|(own, share)| play(own, share)));
                for other in others {
                    match other.join() {
                        Ok(result) => results.push(result),
                        Err(panic) => std::panic::resume_unwind(panic),
                    }
                }
            });
        }
        for result in results {
            self.counts.add(&result?);
        }
        Ok(())
    }
}

impl<A: Adapter> Share<A> {
    fn receive(&mut self, inbox: &Mutex<Mail<A::Packet>>) {
        let mail = std::mem::take(&mut *inbox.lock().unwrap_or_else(PoisonError::into_inner));
        for (moment, flight) in mail {
            self.agenda.push(moment, Pending::Datagram(flight));
        }
    }
}

impl<A: Adapter> Window<'_, A> {
    fn play(
        mut self,
        share: &mut Share<A>,
        inboxes: &[Mutex<Mail<A::Packet>>],
    ) -> Result<Counts, SimError> {
        let mut events = self.due(share);
        events.sort_unstable_by_key(|(node, moment, _)| (*node, *moment));
        let mut events = events.into_iter().peekable();
        let mut fault = None;
        while let Some((node, ..)) = events.peek() {
            let key = *node;
            let own = std::iter::from_fn(|| events.next_if(|(node, ..)| *node == key));
            let played = self.play_node(share, key, own.map(|(_, moment, what)| (moment, what)));
            fault = fault.or(played.err());
        }
        for (inbox, mut mail) in inboxes.iter().zip(self.mail) {
            let mut inbox = inbox.lock().unwrap_or_else(PoisonError::into_inner);
            if inbox.is_empty() {
                *inbox = mail;
            } else {
                inbox.append(&mut mail);
            }
        }
        fault.map_or(Ok(self.counts), Err)
    }

    /// What happens in the window, as far as it is known at its beginning.
    fn due(&mut self, share: &mut Share<A>) -> Vec<(NodeKey, Moment, What<A::Packet>)> {
        let pending = share.agenda.take_before(self.until);
        let mut due = Vec::with_capacity(pending.len());
        for (moment, pending) in pending {
            match pending {
                Pending::Wake(node) => due.push((node, moment, What::Wake)),
                Pending::Datagram(flight) => {
                    let arrived = arrive(self.world, &mut self.counts, moment.at, flight);
                    due.extend(arrived.map(|(node, event)| (node, moment, What::Datagram(event))));
                }
                // There are no streams here: see `run_for_on`.
                Pending::Stream(_) => {}
            }
        }
        due
    }

    fn play_node(
        &mut self,
        share: &mut Share<A>,
        key: NodeKey,
        events: impl Iterator<Item = (Moment, What<A::Packet>)>,
    ) -> Result<(), SimError> {
        let mut events = events.peekable();
        // Wake-ups that were set in this window, for this window: an earlier one makes those before it stale.
        let mut soon: Option<Moment> = None;
        loop {
            let known = events.peek().map(|(moment, _)| *moment);
            let (moment, what) = match (known, soon) {
                (Some(known), Some(wake)) if wake < known => (wake, What::Wake),
                (None, Some(wake)) => (wake, What::Wake),
                (Some(_), _) => match events.next() {
                    Some(next) => next,
                    None => return Ok(()),
                },
                (None, None) => return Ok(()),
            };
            soon = soon.filter(|wake| *wake != moment);
            let Some(node) = share.node_mut(key) else {
                continue;
            };
            let wake = self.step(node, moment, what)?;
            match wake.filter(|wake| wake.at < self.until) {
                Some(wake) => soon = Some(wake),
                None => {
                    if let Some(wake) = wake {
                        share.agenda.push(wake, Pending::Wake(key));
                    }
                }
            }
            self.post(share, moment.at, key)?;
        }
    }

    /// One event. Returns the wake-up it sets; what the node sends is in `traffic`.
    fn step(
        &mut self,
        node: &mut Node<A>,
        moment: Moment,
        what: What<A::Packet>,
    ) -> Result<Option<Moment>, SimError> {
        let now = time(moment.at);
        let input = match what {
            What::Datagram(event) => node.receive(now, event),
            What::Wake => match node.wake(now)? {
                Some(was_due) => {
                    self.counts.timeouts += u64::from(was_due);
                    None
                }
                None => return Ok(None),
            },
        };
        node.pump(now, input, &mut 0, &mut self.traffic)?;
        Ok(node.arm(now.mono))
    }

    /// Sends what a node has to send.
    fn post(
        &mut self,
        share: &mut Share<A>,
        at: MonoTime,
        sender: NodeKey,
    ) -> Result<(), SimError> {
        for action in self.traffic.drain(..) {
            let Action::Send { to, packet } = action else {
                return Err(SimError::Stream { node: sender });
            };
            let Some(node) = share.node_mut(sender) else {
                break;
            };
            let Some(place) = self.world.place(sender) else {
                break;
            };
            let sent = Sent {
                at,
                sender,
                number: node.take_numbers(NUMBERS),
                from: place.addr,
                to,
                packet,
            };
            let mail = &mut self.mail;
            let (agenda, own, shares) = (&mut share.agenda, self.own, mail.len());
            send(self.world, &mut self.counts, sent, |moment, flight| {
                let to = Place::share(flight.to, shares);
                if to == own {
                    // It arrives after this window.
                    agenda.push(moment, Pending::Datagram(flight));
                } else if let Some(mail) = mail.get_mut(to) {
                    mail.push((moment, flight));
                }
            });
        }
        Ok(())
    }
}
