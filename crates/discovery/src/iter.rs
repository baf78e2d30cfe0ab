//! The walk as an async iterator over a running service. What comes and when is decided in `walk`.

use std::sync::Arc;

use futures::future::BoxFuture;
use tercet_enode::Node;
use tercet_machine::{Clock, MachineRng};
use tokio::sync::watch;

use crate::handle::Discovery;
use crate::kad::TableSnapshot;
use crate::v4::{Found, RequestError};
use crate::walk::Walk;

/// Nodes met on an endless walk through the network: those in the table first, then everybody new that random lookups
/// come across. Looks for more only while somebody waits for [`next`](Self::next), so dropping it stops it. Nodes may be
/// dead, or of another network.
pub struct RandomNodes {
    discovery: Discovery,
    table: watch::Receiver<Arc<TableSnapshot>>,
    walk: Walk,
    clock: Clock,
    lookup: Option<BoxFuture<'static, Result<Found, RequestError>>>,
}

/// What ends a wait.
enum Event {
    Table(bool),
    Found(Result<Found, RequestError>),
    Pause,
    Closed,
}

impl RandomNodes {
    pub(crate) fn new(discovery: Discovery, rng: MachineRng) -> Self {
        let mut table = discovery.table_watch();
        // What is there already counts as a change.
        table.mark_changed();
        Self {
            discovery,
            table,
            walk: Walk::new(rng),
            clock: Clock::start(),
            lookup: None,
        }
    }

    /// The next node; waits until there is one. `None` once discovery has ended. May be cancelled at any time without
    /// losing a node.
    pub async fn next(&mut self) -> Option<Node> {
        loop {
            if let Some(node) = self.walk.pop() {
                return Some(node);
            }
            let resume = self.clock.instant(self.walk.next_lookup()).into();
            let idle = self.lookup.is_none();
            let event = tokio::select! {
                biased;
                changed = self.table.changed() => Event::Table(changed.is_ok()),
                found = finished(&mut self.lookup) => Event::Found(found),
                () = self.discovery.closed() => Event::Closed,
                () = tokio::time::sleep_until(resume), if idle => Event::Pause,
            };
            let now = self.clock.now().mono;
            match event {
                Event::Table(true) => {
                    let table = Arc::clone(&self.table.borrow_and_update());
                    self.walk.on_table(now, &table);
                }
                Event::Found(found) => {
                    self.lookup = None;
                    // Busy or timed out: nobody found, and the pause grows.
                    self.walk.on_found(now, &found.unwrap_or_default());
                    let table = Arc::clone(&self.table.borrow_and_update());
                    self.walk.on_table(now, &table);
                }
                Event::Pause => {
                    let discovery = self.discovery.clone();
                    self.lookup = Some(Box::pin(async move { discovery.find_random().await }));
                }
                Event::Table(false) | Event::Closed => return None,
            }
        }
    }
}

impl std::fmt::Debug for RandomNodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RandomNodes")
            .field("walk", &self.walk)
            .finish_non_exhaustive()
    }
}

async fn finished(
    lookup: &mut Option<BoxFuture<'static, Result<Found, RequestError>>>,
) -> Result<Found, RequestError> {
    match lookup {
        Some(lookup) => lookup.await,
        None => std::future::pending().await,
    }
}
