//! One node of a simulation: its machine, what connects it, and when it wants to be woken. Knows nothing of other nodes, so that
//! several can run at once.

use std::collections::VecDeque;

use tercet_machine::{Machine, MonoTime, Now};

use crate::adapter::{Action, Actions, Adapter, Event, InputOf, Packet};
use crate::agenda::Moment;
use crate::error::SimError;
use crate::simulation::NodeKey;
use crate::trace::Trace;

/// Outputs of one node at one moment.
const MAX_OUTPUTS: usize = 1_000_000;

pub(crate) struct Node<A: Adapter> {
    pub(crate) key: NodeKey,
    pub(crate) adapter: A,
    pub(crate) machine: A::Machine,
    /// Everything that was delivered to it.
    pub(crate) trace: Trace,
    /// The wake-up that counts; others are stale.
    wake_at: Option<MonoTime>,
    /// How many things it has brought about.
    number: u64,
}

/// What a node does to others, in order.
pub(crate) type Traffic<A> = Vec<Action<<A as Adapter>::Packet, InputOf<A>>>;

impl<A: Adapter> Node<A> {
    pub(crate) fn new(key: NodeKey, adapter: A, machine: A::Machine) -> Self {
        Self {
            key,
            adapter,
            machine,
            trace: Trace::default(),
            wake_at: None,
            number: 0,
        }
    }

    /// Numbers for so many things it brings about, in their order. Returns the first.
    pub(crate) const fn take_numbers(&mut self, count: u64) -> u64 {
        let first = self.number;
        self.number += count;
        first
    }

    /// A datagram arrives. Turned into an input, if the adapter takes it.
    pub(crate) fn receive(&mut self, now: Now, event: Event<A::Packet>) -> Option<InputOf<A>> {
        if let Event::Datagram { from, packet } = &event {
            self.trace.record((now.mono.as_nanos(), from));
            packet.trace(self.trace.hasher());
        }
        self.adapter.deliver(now, event)
    }

    /// A wake-up set for now. `None` if it does not count any more, else whether the machine had something to do.
    pub(crate) fn wake(&mut self, now: Now) -> Result<Option<bool>, SimError> {
        if self.wake_at != Some(now.mono) {
            return Ok(None);
        }
        self.wake_at = None;
        if self.machine.deadline().is_none_or(|at| at > now.mono) {
            return Ok(Some(false));
        }
        self.machine.handle_timeout(now);
        if let Some(deadline) = self.machine.deadline().filter(|at| *at <= now.mono) {
            return Err(SimError::StaleDeadline {
                node: self.key,
                now: now.mono,
                deadline,
            });
        }
        Ok(Some(true))
    }

    /// Hands over an input, if there is one, and does all that comes out of it, but for the `traffic`.
    pub(crate) fn pump(
        &mut self,
        now: Now,
        input: Option<InputOf<A>>,
        next_stream: &mut u64,
        traffic: &mut Traffic<A>,
    ) -> Result<(), SimError> {
        let mut actions = Actions {
            list: Vec::new(),
            next_stream: *next_stream,
        };
        let (mut input, mut inputs) = (input, VecDeque::new());
        let mut outputs = 0;
        loop {
            if let Some(input) = input {
                self.machine.handle(now, input);
            }
            while let Some(output) = self.machine.poll() {
                outputs += 1;
                if outputs > MAX_OUTPUTS {
                    return Err(SimError::Runaway {
                        node: self.key,
                        limit: MAX_OUTPUTS,
                    });
                }
                self.adapter.act(now, output, &mut actions);
                for action in actions.list.drain(..) {
                    match action {
                        Action::Input(input) => inputs.push_back(input),
                        action => traffic.push(action),
                    }
                }
            }
            input = inputs.pop_front();
            if input.is_none() {
                break;
            }
        }
        *next_stream = actions.next_stream;
        Ok(())
    }

    /// The wake-up to set, if the machine wants one before that already set: an earlier one will look at the deadline again.
    pub(crate) fn arm(&mut self, now: MonoTime) -> Option<Moment> {
        let deadline = self.machine.deadline()?.max(now);
        if self.wake_at.is_some_and(|wake_at| wake_at <= deadline) {
            return None;
        }
        self.wake_at = Some(deadline);
        Some(Moment {
            at: deadline,
            cause: Some(self.key),
            number: self.take_numbers(1),
        })
    }
}
