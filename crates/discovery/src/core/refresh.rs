//! The refresh: seeds and boot nodes into the table, a lookup of this node's own id, then three random ones. At
//! most one runs; whoever asks meanwhile waits for it, and all are released together.

use std::time::Duration;

use rand::RngExt;
use tercet_machine::{MachineRng, MonoTime, Now};
use tercet_nodedb::{NodeMeta, Seed};

use super::command::{OpId, Reply, RequestError};
use super::lookups::Purpose;
use super::{CoreOutput, DiscoveryCore};
use crate::engine::{Protocol, Target};
use crate::kad::{BUCKET_SIZE, Proof};

/// Seeds asked of the database (geth).
const SEEDS: usize = 30;

/// Age of the oldest pong of a seed (geth).
const SEED_MAX_AGE: Duration = Duration::from_secs(5 * 24 * 3600);

/// How long the database may take to name seeds. Reading 30 takes well under a millisecond; a disk that hangs
/// must not keep the node out of the network.
const SEEDS_TIMEOUT: Duration = Duration::from_secs(5);

/// Random lookups after that of the own id (geth).
const RANDOM_LOOKUPS: usize = 3;

/// First wait before a refresh that left the table empty is repeated; doubles each time.
const EMPTY_RETRY: Duration = Duration::from_secs(1);

/// Longest such wait.
const EMPTY_RETRY_MAX: Duration = Duration::from_secs(5 * 60);

/// First wait before a refresh that left few nodes live is repeated, unless they have come to be enough meanwhile: a sweep
/// of the fast list takes about as long. Doubles each time, up to the usual interval.
const FEW_RETRY: Duration = Duration::from_secs(10);

/// Fewer live nodes than this are few: one datagram lost at the start may have cost the rest.
const ENOUGH: usize = BUCKET_SIZE;

/// Callers waiting for a refresh.
const MAX_REFRESH_WAITERS: usize = 64;

#[derive(Clone, Copy, Debug)]
pub(super) enum Waiter {
    Op(OpId),
    /// A lookup that found the table empty.
    Lookup(OpId, Target),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Idle { next: MonoTime, few: bool },
    Seeds { give_up: MonoTime },
    Own,
    Random { left: usize },
}

#[derive(Debug)]
pub(super) struct Refresh {
    stage: Stage,
    waiters: Vec<Waiter>,
    /// The first refresh is over.
    joined: bool,
    /// Refreshes in a row that left the table empty.
    empty: u32,
    /// Refreshes in a row that left few nodes live, but not none.
    few: u32,
    rng: MachineRng,
}

impl Refresh {
    pub(super) const fn new(first: MonoTime, rng: MachineRng) -> Self {
        Self {
            stage: Stage::Idle {
                next: first,
                few: false,
            },
            waiters: Vec::new(),
            joined: false,
            empty: 0,
            few: 0,
            rng,
        }
    }

    pub(super) const fn has_joined(&self) -> bool {
        self.joined
    }

    pub(super) const fn deadline(&self) -> Option<MonoTime> {
        match self.stage {
            Stage::Idle { next, .. } => Some(next),
            Stage::Seeds { give_up } => Some(give_up),
            Stage::Own | Stage::Random { .. } => None,
        }
    }

    /// Brings the next refresh forward because the table is empty.
    pub(super) fn hurry(&mut self, now: MonoTime) {
        let soon = now + self.empty_retry();
        if let Stage::Idle { next, .. } = &mut self.stage {
            *next = soon.min(*next);
        }
    }

    fn empty_retry(&self) -> Duration {
        EMPTY_RETRY
            .saturating_mul(2u32.saturating_pow(self.empty))
            .min(EMPTY_RETRY_MAX)
    }
}

impl DiscoveryCore {
    /// Joins the refresh under way or starts one.
    pub(super) fn wait_for_refresh(
        &mut self,
        now: Now,
        waiter: Waiter,
    ) -> Result<(), RequestError> {
        if self.refresh.waiters.len() >= MAX_REFRESH_WAITERS {
            return Err(RequestError::Busy);
        }
        self.refresh.waiters.push(waiter);
        if matches!(self.refresh.stage, Stage::Idle { .. }) {
            self.start_refresh(now);
        }
        Ok(())
    }

    pub(super) fn on_refresh_timeout(&mut self, now: Now) {
        match self.refresh.stage {
            // They have come to be enough while it waited.
            Stage::Idle { next, few: true }
                if next <= now.mono && self.table.live_len() >= ENOUGH =>
            {
                self.refresh.few = 0;
                self.rest(now);
            }
            Stage::Idle { next, .. } if next <= now.mono => self.start_refresh(now),
            Stage::Seeds { give_up } if give_up <= now.mono => self.handle_seeds(now, Vec::new()),
            _ => {}
        }
    }

    fn start_refresh(&mut self, now: Now) {
        self.refresh.stage = Stage::Seeds {
            give_up: now.mono + SEEDS_TIMEOUT,
        };
        self.out.push(CoreOutput::LoadSeeds {
            count: SEEDS,
            max_age: SEED_MAX_AGE,
        });
    }

    pub(super) fn handle_seeds(&mut self, now: Now, seeds: Vec<Seed>) {
        for Seed { node, meta, .. } in seeds.into_iter().take(SEEDS) {
            if self.policy.usable(&node).is_ok() {
                self.v4.restore(&node, &meta);
                let id = node.id();
                self.table.add(now.mono, node, Proof::Hearsay);
                self.table.restore_failures(&id, self.failures(&meta));
            }
        }
        if !matches!(self.refresh.stage, Stage::Seeds { .. }) {
            return;
        }
        self.table.recall(now.mono);
        for node in self.config.bootnodes.clone() {
            if self.policy.usable(&node).is_ok() {
                self.table.add(now.mono, node, Proof::Hearsay);
            }
        }
        self.refresh.stage = Stage::Own;
        // A refresh's lookups are not counted against the callers' limit, so this cannot be refused.
        let started = self.start_lookup(Target::from(self.record.public_key()), Purpose::Refresh);
        debug_assert_eq!(started, Ok(()));
        if !self.table.is_empty() {
            self.begin_lookups();
        }
    }

    /// Lookups that found the table empty begin as soon as there is somebody to ask: behind the refresh they would wait for dead nodes
    /// three times, in its lookups one after the other and in their own.
    fn begin_lookups(&mut self) {
        for waiter in std::mem::take(&mut self.refresh.waiters) {
            match waiter {
                Waiter::Lookup(op, target) => self.begin_lookup(op, target),
                Waiter::Op(_) => self.refresh.waiters.push(waiter),
            }
        }
    }

    fn begin_lookup(&mut self, op: OpId, target: Target) {
        if let Err(error) = self.start_lookup(target, Purpose::Op(op)) {
            self.done(op, Err(error));
        }
    }

    /// A lookup has ended. Where it heard of nobody while the first refresh is under way, that may yet find somebody; it is begun once
    /// more afterwards. Says whether it is.
    pub(super) fn begin_again(&mut self, op: OpId, target: Target) -> bool {
        let refresh = &mut self.refresh;
        let again = !refresh.joined && refresh.waiters.len() < MAX_REFRESH_WAITERS;
        if again {
            refresh.waiters.push(Waiter::Lookup(op, target));
        }
        again
    }

    /// Questions in a row that a node left unanswered, over whichever protocol it served better.
    fn failures(&self, meta: &NodeMeta) -> u32 {
        let over = |protocol, count| self.config.protocols.contains(protocol).then_some(count);
        let (v4, v5) = (meta.find_failures, meta.find_failures_v5);
        [over(Protocol::V4, v4), over(Protocol::V5, v5)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(0)
    }

    pub(super) fn on_refresh_lookup_done(&mut self, now: Now) {
        match self.refresh.stage {
            Stage::Own => {
                self.refresh.stage = Stage::Random {
                    left: RANDOM_LOOKUPS,
                };
                for _ in 0..RANDOM_LOOKUPS {
                    let target = self.lookups.random_target();
                    let started = self.start_lookup(target, Purpose::Refresh);
                    debug_assert_eq!(started, Ok(()));
                }
            }
            Stage::Random { left } if left > 1 => {
                self.refresh.stage = Stage::Random { left: left - 1 }
            }
            _ => self.finish_refresh(now),
        }
    }

    fn finish_refresh(&mut self, now: Now) {
        if !self.refresh.joined {
            self.refresh.joined = true;
            self.table.fill(now.mono);
        }
        self.rest(now);
        for waiter in std::mem::take(&mut self.refresh.waiters) {
            match waiter {
                Waiter::Op(op) => self.done(op, Ok(Reply::Refreshed)),
                Waiter::Lookup(op, target) => self.begin_lookup(op, target),
            }
        }
    }

    /// Draws the time of the next refresh.
    fn rest(&mut self, now: Now) {
        let refresh = &mut self.refresh;
        // Spread over the upper half of the interval, so that nodes started together drift apart.
        let half = self.config.refresh_interval / 2;
        let usual = half + half.mul_f64(refresh.rng.random());
        let (wait, few) = if self.table.is_empty() {
            let wait = refresh.empty_retry();
            refresh.empty = refresh.empty.saturating_add(1);
            (wait, false)
        } else if self.table.live_len() < ENOUGH {
            refresh.empty = 0;
            let wait = FEW_RETRY.saturating_mul(2_u32.saturating_pow(refresh.few));
            refresh.few = refresh.few.saturating_add(1);
            (wait.min(usual), true)
        } else {
            (refresh.empty, refresh.few) = (0, 0);
            (usual, false)
        };
        let next = now.mono + wait;
        refresh.stage = Stage::Idle { next, few };
    }
}
