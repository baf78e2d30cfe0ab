//! Whether an address may be advertised: one state machine for each family, between what others say ([`crate::vote`]) and
//! what the record says ([`crate::local`]).
//!
//! Votes tell where our packets seem to come from. That is not yet where packets to us arrive: a NAT that lets in only who
//! was sent something shows the same address to everybody and is reachable for nobody. Advertising it would cost every node
//! that finds our record a timeout. So an address needs evidence.
//!
//! **Evidence** is a *contact*: somebody we had sent nothing to completed a round trip that they began. Behind a
//! restricted NAT none can come; a spoofed source completes none. It must be of the scope of the address (a neighbour's visit
//! says nothing about the Internet), and two contacts must come from two networks, so that one friend, or one host that was
//! told of us by the owner of the next, is not enough. Nobody can see at which of our addresses a contact was aimed, but
//! a node has one public address a family.
//!
//! ```text
//!                          two contacts
//!   unknown ──vote──▶ candidate ───────────────▶ reachable ◀────contact──── doubtful
//!      ▲                 │                        ▲   │  1 h without contact  ▲ │
//!      │                 │ 2 min, if trials are on│   └───────────────────────┘ │ 1 h more
//!      │                 ▼           two contacts │                             │
//!   (the vote            trial ───────────────────┘                             │
//!    names another       │ 5 min                                                │
//!    address: candidate  ▼                                                      │
//!    again)           withdrawn ◀───────────────────────────────────────────────┘
//!                        └── 30 min, then twice as long each time up to 24 h ──▶ candidate
//! ```
//!
//! Advertised: trial, reachable, doubtful.
//!
//! **Why a trial.** A discv4 node is found without a record: neighbours pass on the address they saw. Its contacts come, or
//! do not, while it waits as a candidate. discv5 passes on records only: a node that advertises nothing is found by nobody,
//! has no contacts and could never begin. So when discv4 is off a candidate is advertised for five minutes, and
//! withdrawn if nobody came; the wait until the next trial doubles. A node behind a restricted NAT is then wrongly
//! advertised five minutes of the first 40, and five a day in the long run. (Others advertise at the first majority and withdraw
//! after a fixed wait, for ever; or never withdraw.)
//!
//! **A network at rest.** Whoever was asked something does not count when he comes. Where everybody has been asked, nobody can come
//! that counts, and that nobody comes says nothing. So a doubtful address stays for another hour if in the last one others went on
//! naming it and this node met nobody new: a stranger to it would be one who might come by himself.
//!
//! **Moving.** When the vote names another address, the old one is withdrawn at once. If it was reachable, the new one is
//! tried at once: the same host behind the same kind of NAT. If nobody comes it is withdrawn like any other trial. When the
//! vote names nothing any more (nobody was asked, or an attacker spoils the majority) what is reachable stays, as long as
//! contacts come.
//!
//! **What an attacker gains.** Contacts cannot be made up for an address where we are not, but an attacker who knows where we
//! are can make true ones while lying in the vote. So evidence only ever confirms what a majority of networks says, and
//! a liar must first win that. Silence cannot be forced: other people's contacts cannot be kept away.
//!
//! Memory: constant. No randomness.

use std::net::SocketAddr;
use std::time::Duration;

use tercet_machine::{MonoTime, Subnet};

use crate::vote::{Family, Scope};

/// How long contacts are waited for before a trial. A discv4 node in a live network has some within seconds.
pub(crate) const TEST_TIME: Duration = Duration::from_secs(2 * 60);

/// How long an untested address is advertised. Table checks of others, which fetch and use a new record, take less.
pub(crate) const TRIAL_TIME: Duration = Duration::from_secs(5 * 60);

/// Without contact for this long a reachable address is doubtful, and after as long again withdrawn, but in a network at rest. A node at a public
/// address is visited by newcomers every minute; an hour is two refresh intervals of everybody.
pub(crate) const SILENCE: Duration = Duration::from_secs(60 * 60);

/// How long an address stays withdrawn the first time; doubles with each further one without contact between.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_secs(30 * 60);

/// The longest pause.
pub(crate) const MAX_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// What is known of the voted address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// No address was voted yet.
    Unknown,
    /// Voted, waiting for contacts.
    Candidate { since: MonoTime },
    /// Advertised to see whether anybody comes.
    Trial { since: MonoTime },
    /// Contacts come.
    Reachable { last: MonoTime },
    /// None came for [`SILENCE`].
    Doubtful { last: MonoTime },
    /// None came at all, or no longer.
    Withdrawn { until: MonoTime },
}

/// The test of one family's address.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    trials: bool,
    address: Option<SocketAddr>,
    state: State,
    /// Whose contact was the first of the two.
    first: Option<Network>,
    pause: Duration,
    /// When the vote last named the address.
    named: MonoTime,
    /// Whether somebody new was met in the hour of doubt.
    met: bool,
}

/// Contacts count by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Network {
    Subnet(Subnet),
    /// In a private network or on this machine, where subnets say nothing, any two sockets.
    Host(SocketAddr),
}

impl Network {
    fn of(from: SocketAddr, scope: Scope) -> Self {
        match scope {
            Scope::Internet => Self::Subnet(Subnet::wide(from.ip())),
            Scope::Machine | Scope::Lan => Self::Host(from),
        }
    }
}

impl Reach {
    /// Nothing is known. With `trials` an address may be advertised before there is evidence.
    pub(crate) const fn new(trials: bool) -> Self {
        Self {
            trials,
            address: None,
            state: State::Unknown,
            first: None,
            pause: FIRST_PAUSE,
            named: MonoTime::ZERO,
            met: false,
        }
    }

    /// The address to advertise.
    pub(crate) const fn advertised(&self) -> Option<SocketAddr> {
        match self.state {
            State::Trial { .. } | State::Reachable { .. } | State::Doubtful { .. } => self.address,
            State::Unknown | State::Candidate { .. } | State::Withdrawn { .. } => None,
        }
    }

    /// The vote names this address.
    pub(crate) fn on_winner(&mut self, now: MonoTime, winner: SocketAddr) {
        self.named = now;
        if self.address == Some(winner) {
            return;
        }
        let moved = matches!(self.state, State::Reachable { .. } | State::Doubtful { .. })
            && self.address.map(|old| Scope::of(old.ip())) == Some(Scope::of(winner.ip()));
        self.address = Some(winner);
        self.first = None;
        self.pause = FIRST_PAUSE;
        self.state = if moved {
            State::Trial { since: now }
        } else {
            State::Candidate { since: now }
        };
    }

    /// So many hosts were asked something for the first time.
    pub(crate) const fn on_strangers(&mut self, count: u64) {
        self.met |= count > 0;
    }

    /// Somebody to whom nothing was sent completed a round trip.
    pub(crate) fn on_contact(&mut self, now: MonoTime, from: SocketAddr) {
        let Some(address) = self.address else {
            return;
        };
        let Some(scope) = Scope::of(address.ip()) else {
            return;
        };
        if Scope::of(from.ip()) != Some(scope) || Family::of(from.ip()) != Family::of(address.ip())
        {
            return;
        }
        match self.state {
            State::Unknown => {}
            State::Reachable { .. } | State::Doubtful { .. } => {
                self.state = State::Reachable { last: now };
            }
            State::Candidate { .. } | State::Trial { .. } | State::Withdrawn { .. } => {
                let network = Network::of(from, scope);
                match self.first {
                    Some(first) if first != network => {
                        self.first = None;
                        self.pause = FIRST_PAUSE;
                        self.state = State::Reachable { last: now };
                    }
                    _ => self.first = Some(network),
                }
            }
        }
    }

    /// Takes the steps that are due.
    pub(crate) fn handle_timeout(&mut self, now: MonoTime) {
        // Late or not, each step counts from when it was due, so that a driver that overslept ends up in the same state.
        while let Some(due) = self.deadline().filter(|due| *due <= now) {
            self.state = match self.state {
                State::Unknown => State::Unknown,
                State::Candidate { .. } => State::Trial { since: due },
                State::Doubtful { last } if !self.met && due < self.named + SILENCE => {
                    State::Doubtful {
                        last: last + SILENCE,
                    }
                }
                State::Trial { .. } | State::Doubtful { .. } => {
                    self.first = None;
                    let until = due + self.pause;
                    self.pause = (self.pause * 2).min(MAX_PAUSE);
                    State::Withdrawn { until }
                }
                State::Reachable { last } => {
                    self.met = false;
                    State::Doubtful { last }
                }
                State::Withdrawn { .. } => State::Candidate { since: due },
            };
        }
    }

    /// When the next step is due.
    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        match self.state {
            State::Unknown => None,
            State::Candidate { since } => self.trials.then(|| since + TEST_TIME),
            State::Trial { since } => Some(since + TRIAL_TIME),
            State::Reachable { last } => Some(last + SILENCE),
            State::Doubtful { last } => Some(last + SILENCE * 2),
            State::Withdrawn { until } => Some(until),
        }
    }
}

#[cfg(test)]
mod tests;
