//! Runs a crawl: the sockets, the clock, and the curve work spread over the runtime's threads, around the two machines. Files,
//! the screen and what is done with the nodes found are the command's.
#![allow(clippy::disallowed_methods)] // a driver: it reads the clock and gives work to other threads

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;

use tercet_discovery::Protocols;
use tercet_enode::{NodeRecord, RecordError, SecretKey};
use tercet_machine::{Clock, Machine as _, Now};
use thiserror::Error;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::io::{CrawlInput, CrawlOutput, Meeting};
use super::link::{BATCH, Link, Traffic};
use super::wire::{Job, JobDone, Wire, WireCounters, WireInput, WireOutput};
use super::{Crawl, CrawlConfig};
use crate::nodeset::KnownNode;

/// Jobs one thread takes at a time: some 500 µs.
const MAX_CHUNK: usize = 8;

/// While there is more to be read, time goes on for those that are waited for only after so many turns: an answer that lies in the
/// system's buffer is not late. That is a megabyte of answers of 250 bytes; a flood holds no contact longer.
const MAX_BUSY: usize = (1 << 20) / 250 / BATCH;

/// What a crawl is started with.
#[derive(Debug)]
pub(crate) struct DriverConfig {
    pub(crate) key: SecretKey,
    /// Where to listen; any port of both kinds of address without it.
    pub(crate) addr: Option<SocketAddr>,
    /// The address others reach the crawler at, if it is known.
    pub(crate) advertised: Option<IpAddr>,
    /// An address to be reached: where it is on this machine, nothing else is opened.
    pub(crate) towards: IpAddr,
    pub(crate) parallel: usize,
    pub(crate) protocols: Protocols,
}

/// A crawl did not start or broke off.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum CrawlError {
    /// There is no socket.
    #[error("cannot listen on UDP")]
    Bind(#[source] io::Error),
    /// The crawler's own record cannot be made.
    #[error("cannot sign a record")]
    Record(#[source] RecordError),
    /// A job failed by a defect.
    #[error("a task of this program failed")]
    Task(#[source] JoinError),
}

/// A running crawl.
#[derive(Debug)]
pub(crate) struct Driver {
    crawl: Crawl,
    wire: Wire,
    link: Link,
    clock: Clock,
    pending: Vec<Job>,
    jobs: JoinSet<Vec<JobDone>>,
    cores: usize,
    /// Turns since time last went on for those that are waited for.
    busy: usize,
    met: VecDeque<Meeting>,
    done: bool,
}

impl Driver {
    /// Opens the sockets. Nothing is asked before the first [`known`](Self::known).
    pub(crate) fn start(config: DriverConfig) -> Result<Self, CrawlError> {
        let link = Link::open(config.addr, config.towards).map_err(CrawlError::Bind)?;
        let clock = Clock::start();
        let local = link.local();
        // A crawler that uses its key again is heard only with a newer record.
        let mut record = NodeRecord::builder().seq(clock.now().unix.as_millis());
        let own = config
            .advertised
            .or(Some(local.ip()).filter(|ip| !ip.is_unspecified()));
        if let Some(ip) = own {
            record = record.ip(ip);
            record = if ip.is_ipv4() {
                record.udp(local.port())
            } else {
                record.udp6(local.port())
            };
        }
        let record = record.sign(&config.key).map_err(CrawlError::Record)?;
        let crawl = Crawl::new(CrawlConfig {
            own: config.key.node_id(),
            parallel: config.parallel,
            protocols: config.protocols,
            families: link.families(),
            seed: rand::random(),
        });
        Ok(Self {
            crawl,
            wire: Wire::new(config.key, record, rand::random()),
            link,
            clock,
            pending: Vec::new(),
            jobs: JoinSet::new(),
            cores: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            busy: 0,
            met: VecDeque::new(),
            done: false,
        })
    }

    /// A node to begin with.
    pub(crate) fn known(&mut self, node: KnownNode) {
        self.crawl.handle(self.clock.now(), CrawlInput::Known(node));
    }

    /// The crawl, to be looked at.
    pub(crate) fn crawl(&self) -> &Crawl {
        &self.crawl
    }

    /// The crawl's clock.
    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    pub(crate) fn traffic(&self) -> Traffic {
        self.link.traffic()
    }

    pub(crate) fn counters(&self) -> WireCounters {
        self.wire.counters()
    }

    /// The next node that was visited, in order.
    pub(crate) fn next_met(&mut self) -> Option<Meeting> {
        self.met.pop_front()
    }

    /// Whether the crawl came to its own end.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// Takes what came in and sends what is due, waiting for something to happen until `wake` at the latest.
    pub(crate) async fn turn(&mut self, wake: Instant) -> Result<(), CrawlError> {
        self.pump();
        if self.done || !self.met.is_empty() {
            return Ok(());
        }
        let deadlines = [self.crawl.deadline(), self.wire.deadline()];
        let due = deadlines.into_iter().flatten().min();
        let due = due.map_or(wake, |at| wake.min(self.clock.instant(at).into()));
        tokio::select! {
            () = self.link.ready() => {}
            done = self.jobs.join_next(), if !self.jobs.is_empty() => {
                if let Some(done) = done {
                    self.on_jobs(done)?;
                }
            }
            () = sleep_until(due) => {}
        }
        while let Some(done) = self.jobs.try_join_next() {
            self.on_jobs(done)?;
        }
        let now = self.clock.now();
        let wire = &mut self.wire;
        let more = self
            .link
            .exchange(|from, datagram| wire.handle(now, WireInput::Datagram { from, datagram }));
        self.busy += 1;
        if !more || self.busy >= MAX_BUSY {
            self.busy = 0;
            self.wire.handle_timeout(now);
        }
        self.crawl.handle_timeout(now);
        self.pump();
        Ok(())
    }

    fn on_jobs(&mut self, done: Result<Vec<JobDone>, JoinError>) -> Result<(), CrawlError> {
        let now = self.clock.now();
        for done in done.map_err(CrawlError::Task)? {
            self.wire.handle(now, WireInput::Done(done));
        }
        Ok(())
    }

    /// Carries what one machine says to the other and to the world, until both are silent.
    fn pump(&mut self) {
        let now = self.clock.now();
        loop {
            if let Some(output) = self.wire.poll() {
                match output {
                    WireOutput::Send { to, datagram } => self.link.send(to, datagram),
                    WireOutput::Job(job) => self.pending.push(*job),
                    WireOutput::Tell(input) => self.crawl.handle(now, input),
                }
            } else if let Some(output) = self.crawl.poll() {
                match output {
                    CrawlOutput::Ask(question) => self.wire.handle(now, WireInput::Ask(question)),
                    CrawlOutput::Met(meeting) => self.met.push_back(meeting),
                    CrawlOutput::Done => self.done = true,
                }
            } else {
                break;
            }
        }
        // Few jobs are spread, many are bundled.
        let chunk = self
            .pending
            .len()
            .div_ceil(2 * self.cores)
            .clamp(1, MAX_CHUNK);
        while !self.pending.is_empty() {
            let rest = self.pending.split_off(chunk.min(self.pending.len()));
            let jobs = std::mem::replace(&mut self.pending, rest);
            self.jobs
                .spawn(async move { jobs.into_iter().map(Job::run).collect() });
        }
    }
}
