//! A crawl's questions as packets of both protocols, without I/O: who proves what to whom (`v4`), handshakes and the parts of an
//! answer (`v5`). Which protocol a datagram is of is told by one AES block, as on every socket both share.
//!
//! All curve work leaves as a [`Job`] that any thread may run, and comes back as a [`JobDone`]; the machine itself hashes, masks and
//! compares. A crawler is asked too, by those who hear of it: it answers pings, gives its record to who has proven its address,
//! and names nobody.

mod contact;
mod job;
mod records;
mod v4;
mod v5;

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use tercet_discovery::v4::codec::UnverifiedPacket;
use tercet_enode::{NodeRecord, SecretKey};
use tercet_machine::{Machine, MachineRng, MonoTime, Now};

pub(crate) use self::job::{Job, JobDone};
pub(super) use self::records::MAX_RESERVED_PORT;
use self::records::Records;
use self::v4::V4;
use self::v5::V5;
use super::io::{Ask, CrawlInput, Question};

/// Jobs for packets nobody waits for; beyond it they are dropped, so that a flood of pings cannot keep a crawl from its work.
const MAX_UNASKED_JOBS: usize = 256;

/// What happened.
#[derive(Debug)]
pub(crate) enum WireInput {
    /// Put a question.
    Ask(Question),
    /// A datagram came in.
    Datagram {
        from: SocketAddr,
        datagram: BytesMut,
    },
    /// A job was done.
    Done(JobDone),
}

/// What to do.
#[derive(Debug)]
pub(crate) enum WireOutput {
    /// Send a datagram.
    Send { to: SocketAddr, datagram: Bytes },
    /// Run this, anywhere, and hand back the result.
    Job(Box<Job>),
    /// Tell the crawl.
    Tell(CrawlInput),
}

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct WireCounters {
    /// Datagrams that are no packet of either protocol, or that nobody waits for.
    pub(crate) ignored: u64,
    /// Nodes and records in answers that may not be named, or not by whom named them.
    pub(crate) refused: u64,
    /// Unasked packets beyond [`MAX_UNASKED_JOBS`].
    pub(crate) flooded: u64,
}

/// What both protocols share.
#[derive(Debug)]
struct Shared {
    key: SecretKey,
    record: NodeRecord,
    records: Records,
    counters: WireCounters,
    out: VecDeque<WireOutput>,
    unasked: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Wire {
    shared: Shared,
    v4: V4,
    v5: V5,
}

impl Wire {
    /// Nothing asked yet. `record` is signed by `key`; `seed` is secret and never used twice.
    pub(crate) fn new(key: SecretKey, record: NodeRecord, seed: [u8; 32]) -> Self {
        let mut rng = MachineRng::from_seed(seed);
        Self {
            v4: V4::new(&mut rng),
            v5: V5::new(&mut rng, key.clone(), record.clone()),
            shared: Shared {
                records: Records::new(&mut rng, key.node_id()),
                key,
                record,
                counters: WireCounters::default(),
                out: VecDeque::new(),
                unasked: 0,
            },
        }
    }

    /// What was counted so far.
    pub(crate) fn counters(&self) -> WireCounters {
        self.shared.counters
    }

    fn on_datagram(&mut self, now: Now, from: SocketAddr, datagram: BytesMut) {
        if self.v5.covers(&datagram) {
            self.v5.on_datagram(&mut self.shared, now, from, datagram);
            return;
        }
        let Ok(packet) = UnverifiedPacket::parse(&datagram) else {
            self.shared.counters.ignored += 1;
            return;
        };
        match self.v4.is_awaited(now, from, &packet) {
            Some(true) => {
                self.v4.on_check(from);
                self.shared.job(Job::Packet {
                    from,
                    packet,
                    asked: true,
                });
            }
            Some(false) if self.shared.unasked < MAX_UNASKED_JOBS => {
                self.shared.unasked += 1;
                self.shared.job(Job::Packet {
                    from,
                    packet,
                    asked: false,
                });
            }
            Some(false) => self.shared.counters.flooded += 1,
            None => self.shared.counters.ignored += 1,
        }
    }

    fn on_done(&mut self, now: Now, done: JobDone) {
        let shared = &mut self.shared;
        match done {
            JobDone::Packet {
                from,
                packet,
                asked,
            } => {
                shared.unasked -= usize::from(!asked);
                match packet {
                    Ok(packet) => self.v4.on_packet(shared, now, from, packet),
                    Err(_) => shared.counters.ignored += 1,
                }
                if asked {
                    self.v4.on_checked(shared, now, from);
                }
            }
            JobDone::Signed {
                mark,
                to,
                datagram,
                hash,
            } => {
                shared.send(to, datagram);
                self.v4.on_signed(shared, now, mark, to, hash);
            }
            JobDone::Handshake { from, result } => self.v5.on_handshake(shared, now, from, *result),
            JobDone::Records {
                serial,
                records,
                bad,
            } => {
                shared.counters.refused += bad as u64;
                self.v5.on_records(shared, now, serial, records);
            }
        }
    }
}

impl Shared {
    fn send(&mut self, to: SocketAddr, datagram: Bytes) {
        self.out.push_back(WireOutput::Send { to, datagram });
    }

    fn job(&mut self, job: Job) {
        self.out.push_back(WireOutput::Job(Box::new(job)));
    }

    fn tell(&mut self, input: CrawlInput) {
        self.out.push_back(WireOutput::Tell(input));
    }
}

impl Machine for Wire {
    type Input = WireInput;
    type Output = WireOutput;

    fn handle(&mut self, now: Now, input: WireInput) {
        match input {
            WireInput::Ask(question) => match question.ask.clone() {
                Ask::V4 { target, record } => {
                    self.v4.ask(&mut self.shared, now, question, target, record);
                }
                Ask::V5(distances) => self.v5.ask(&mut self.shared, now, &question, distances),
            },
            WireInput::Datagram { from, datagram } => self.on_datagram(now, from, datagram),
            WireInput::Done(done) => self.on_done(now, done),
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        self.v4.handle_timeout(&mut self.shared, now);
        self.v5.handle_timeout(&mut self.shared, now);
    }

    fn deadline(&self) -> Option<MonoTime> {
        [self.v4.deadline(), self.v5.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn poll(&mut self) -> Option<WireOutput> {
        self.shared.out.pop_front()
    }
}

#[cfg(test)]
mod tests;
