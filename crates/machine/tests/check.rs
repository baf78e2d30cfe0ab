//! The contract check finds each breach: one machine that keeps the contract, and one bent in each way.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a test fails by panicking

use std::cell::Cell;
use std::time::Duration;

use tercet_machine::check::{Limits, START, Step, Violation, contract};
use tercet_machine::{BoundedQueue, Machine, MonoTime, Now, TimerSet};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bend {
    None,
    /// Gives a number that differs between instances.
    Irreproducible(u64),
    /// Counts every timeout, asked for or not.
    CountsTimeouts,
    /// Moves its deadline whenever it is called.
    MovesDeadline,
    /// Leaves the deadline where it was.
    KeepsDeadline,
    /// Sets the next deadline one nanosecond on, for ever.
    Spins,
    /// Queues a thousand outputs for one input.
    Floods,
}

/// Echoes each input one second later.
struct Echo {
    bend: Bend,
    timers: TimerSet<u32>,
    out: BoundedQueue<u64>,
}

const SECOND: Duration = Duration::from_secs(1);

impl Echo {
    fn new(bend: Bend) -> Self {
        Self {
            bend,
            timers: TimerSet::new(),
            out: BoundedQueue::new(10_000),
        }
    }

    fn emit(&mut self, value: u64) {
        self.out.push(value).unwrap();
    }
}

impl Machine for Echo {
    type Input = u32;
    type Output = u64;

    fn handle(&mut self, now: Now, input: u32) {
        self.timers.set(input, now.mono + SECOND);
        if let Bend::Irreproducible(value) = self.bend {
            self.emit(value);
        }
        if self.bend == Bend::Floods {
            (0..1000).for_each(|value| self.emit(value));
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        match self.bend {
            Bend::KeepsDeadline => return,
            Bend::CountsTimeouts => self.emit(0),
            Bend::MovesDeadline => self.timers.set(99, now.mono + SECOND),
            Bend::Spins => self.timers.set(99, now.mono + Duration::from_nanos(1)),
            Bend::None | Bend::Irreproducible(_) | Bend::Floods => {}
        }
        while let Some(key) = self.timers.pop_expired(now.mono) {
            self.emit(u64::from(key));
        }
    }

    fn deadline(&self) -> Option<MonoTime> {
        self.timers.deadline()
    }

    fn poll(&mut self) -> Option<u64> {
        self.out.pop()
    }
}

fn script() -> Vec<Step<u32>> {
    let half = Step::Advance(Duration::from_millis(500));
    vec![
        Step::Input(1),
        half.clone(),
        Step::Input(2),
        half.clone(),
        half,
        Step::Advance(SECOND),
    ]
}

fn violation(bend: Bend) -> Violation {
    let instance = Cell::new(0);
    let make = || {
        instance.set(instance.get() + 1);
        match bend {
            Bend::Irreproducible(_) => Echo::new(Bend::Irreproducible(instance.get())),
            other => Echo::new(other),
        }
    };
    contract(
        make,
        &script(),
        Limits {
            queued: 100,
            timeouts: 1000,
        },
    )
    .unwrap_err()
}

#[test]
fn a_machine_that_keeps_the_contract_passes() {
    let report = contract(|| Echo::new(Bend::None), &script(), Limits::default()).unwrap();
    assert_eq!(
        (report.outputs, report.timeouts, report.most_queued),
        (2, 2, 1)
    );
    let empty = contract(|| Echo::new(Bend::None), &[], Limits::default()).unwrap();
    assert_eq!(empty.outputs, 0);
}

#[test]
fn every_breach_is_found_where_it_is() {
    assert_eq!(
        violation(Bend::Irreproducible(0)),
        Violation::NotReproducible { step: 0 }
    );
    assert_eq!(
        violation(Bend::CountsTimeouts),
        Violation::SpuriousTimeout { step: 0 }
    );
    assert_eq!(
        violation(Bend::MovesDeadline),
        Violation::SpuriousTimeout { step: 0 }
    );
    let due = START.mono + SECOND;
    assert_eq!(
        violation(Bend::KeepsDeadline),
        Violation::StaleDeadline {
            step: 3,
            now: due,
            deadline: due
        }
    );
    assert_eq!(
        violation(Bend::Spins),
        Violation::TooManyTimeouts {
            step: 4,
            limit: 1000
        }
    );
    assert_eq!(
        violation(Bend::Floods),
        Violation::QueueTooLong {
            step: 0,
            limit: 100
        }
    );
    assert!(violation(Bend::Floods).to_string().contains("step 0"));
}
