//! The walk as an async iterator over a running service. What comes and when is decided in `walk`.

use std::pin::Pin;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{self, FuturesUnordered, Stream, StreamExt};
use tercet_enode::Node;
use tercet_machine::{Clock, MachineRng};
use tokio::sync::watch;
use tokio::time::Sleep;

use super::walk::Walk;
use crate::core::{Found, RequestError};
use crate::handle::Discovery;
use crate::kad::TableSnapshot;

/// Lookups of one walk at a time, unless said otherwise: as many as the core's refresh runs.
pub const DEFAULT_LOOKUPS: usize = 3;

/// Nodes met on an endless walk through the network: those in the table first, then everybody new that random lookups
/// come across. Looks for more only while somebody waits for [`next`](Self::next), so dropping it stops it. Nodes may be
/// dead, or of another network.
pub struct RandomNodes {
    discovery: Discovery,
    table: watch::Receiver<Arc<TableSnapshot>>,
    walk: Walk,
    clock: Clock,
    lookups: FuturesUnordered<BoxFuture<'static, Result<Found, RequestError>>>,
    parallel: usize,
    /// One timer for all pauses, made at the first.
    pause: Option<Pin<Box<Sleep>>>,
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
            lookups: FuturesUnordered::new(),
            parallel: DEFAULT_LOOKUPS,
            pause: None,
        }
    }

    /// With up to this many lookups at a time, at least one. They start a pause apart, and the pause grows while they find
    /// nobody new, so more of them do not wear out a small network.
    #[must_use]
    pub fn parallel(mut self, lookups: usize) -> Self {
        self.parallel = lookups.max(1);
        self
    }

    /// The walk as a stream: a source like any other.
    pub fn into_stream(self) -> impl Stream<Item = Node> + Send + 'static {
        stream::unfold(self, |mut walk| async move {
            walk.next().await.map(|node| (node, walk))
        })
    }

    /// The next node; waits until there is one. `None` once discovery has ended. May be cancelled at any time without
    /// losing a node.
    pub async fn next(&mut self) -> Option<Node> {
        loop {
            if let Some(node) = self.walk.pop() {
                return Some(node);
            }
            let resume = self.clock.instant(self.walk.next_lookup()).into();
            let pause = self
                .pause
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(resume)));
            if pause.deadline() != resume {
                pause.as_mut().reset(resume);
            }
            let free = self.lookups.len() < self.parallel;
            let busy = !self.lookups.is_empty();
            let event = tokio::select! {
                biased;
                changed = self.table.changed() => Event::Table(changed.is_ok()),
                found = self.lookups.next(), if busy => {
                    Event::Found(found.unwrap_or(Err(RequestError::Closed)))
                }
                () = self.discovery.closed() => Event::Closed,
                () = pause.as_mut(), if free => Event::Pause,
            };
            let now = self.clock.now().mono;
            match event {
                Event::Table(true) => {
                    let table = Arc::clone(&self.table.borrow_and_update());
                    self.walk.on_table(now, &table);
                }
                Event::Found(found) => {
                    // Busy or timed out: nobody found, and the pause grows.
                    self.walk.on_found(now, &found.unwrap_or_default());
                    let table = Arc::clone(&self.table.borrow_and_update());
                    self.walk.on_table(now, &table);
                }
                Event::Pause => {
                    let discovery = self.discovery.clone();
                    self.walk.on_started(now);
                    self.lookups
                        .push(Box::pin(async move { discovery.find_random().await }));
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
