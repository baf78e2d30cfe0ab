//! What runs beside the socket and reports when it is done: the read of the seeds, and the check of the clock. At most one of
//! each.
#![allow(clippy::disallowed_methods)] // a driver's part: it starts tasks and keeps their handles

use tercet_machine::{MachineRng, MonoTime};
use tercet_nodedb::{NodeDb, Seed, SeedQuery, StoreError};
use tokio::task::JoinHandle;

use crate::ntp::{ANSWER_TIMEOUT, ClockCheck, ClockError, Drift, measure};

/// See the module's documentation. Dropping it ends the check of the clock; a read of the database ends by itself.
pub(crate) struct Background {
    rng: MachineRng,
    clock_check: ClockCheck,
    seeds: Option<JoinHandle<Result<Vec<Seed>, StoreError>>>,
    clock: Option<Measuring>,
}

struct Measuring {
    server: String,
    task: JoinHandle<Result<Drift, ClockError>>,
}

/// What is done.
pub(crate) enum Finished {
    Seeds(Vec<Seed>),
    /// How far the clock is off, if the server said so.
    Clock(Option<Drift>),
}

impl Background {
    /// `ntp_server`: whom to ask for the time; nobody without one.
    pub(crate) const fn new(rng: MachineRng, ntp_server: Option<String>) -> Self {
        Self {
            rng,
            clock_check: ClockCheck::new(ntp_server),
            seeds: None,
            clock: None,
        }
    }

    /// Reads seeds from the database. An earlier read that has not ended is of no use any more.
    pub(crate) fn load_seeds(&mut self, db: &NodeDb, query: SeedQuery) {
        let (db, mut rng) = (db.clone(), self.rng.child("seeds"));
        self.seeds = Some(tokio::task::spawn_blocking(move || {
            db.seeds(&query, &mut rng)
        }));
    }

    /// The clock is suspected: asks the time server, if there is one and it is time to.
    pub(crate) fn suspect_clock(&mut self, now: MonoTime) {
        if self.clock.is_some() {
            return;
        }
        let Some(server) = self.clock_check.on_suspicion(now).map(str::to_owned) else {
            return;
        };
        let asked = server.clone();
        let task = tokio::spawn(async move { measure(&asked, ANSWER_TIMEOUT).await });
        self.clock = Some(Measuring { server, task });
    }

    /// The next that is done; pending while nothing runs. Safe to drop and call anew.
    pub(crate) async fn finished(&mut self) -> Finished {
        tokio::select! {
            seeds = ended(self.seeds.as_mut()) => {
                self.seeds = None;
                Finished::Seeds(or_none(seeds))
            }
            drift = ended(self.clock.as_mut().map(|clock| &mut clock.task)) => {
                let server = self.clock.take().map(|clock| clock.server).unwrap_or_default();
                Finished::Clock(or_unknown(drift, &server))
            }
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(clock) = &self.clock {
            clock.task.abort();
        }
    }
}

async fn ended<T>(task: Option<&mut JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

/// A database that cannot be read gives no seeds: the node still has its boot nodes.
fn or_none(read: Result<Result<Vec<Seed>, StoreError>, tokio::task::JoinError>) -> Vec<Seed> {
    match read {
        Ok(Ok(seeds)) => seeds,
        Ok(Err(error)) => {
            tracing::warn!(%error, "no seeds from the node database");
            Vec::new()
        }
        Err(error) => {
            tracing::warn!(%error, "the read of the seeds was cut off");
            Vec::new()
        }
    }
}

fn or_unknown(
    measured: Result<Result<Drift, ClockError>, tokio::task::JoinError>,
    server: &str,
) -> Option<Drift> {
    match measured {
        Ok(Ok(drift)) => {
            drift.report(server);
            Some(drift)
        }
        Ok(Err(error)) => {
            tracing::info!(server, %error, "many packets look expired, and the clock could not be checked");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "the check of the clock was cut off");
            None
        }
    }
}
