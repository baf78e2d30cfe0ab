//! Many sources as one. They take turns; whose turn it is gets some time to deliver, and only when it does not may another
//! step in. A source that keeps everybody waiting gets half as long each time, and its full time again once it delivers on
//! its own turn. So a fast source cannot crowd out a slow one, and a dead one does not hold up the others.
#![allow(clippy::disallowed_methods)] // reads tokio's clock, to arm its one timer

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::stream::StreamExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};

use super::source::{Source, Sourced};

/// Sources of one mix.
pub const MAX_SOURCES: usize = 64;

/// Changes by handles that may wait.
const MAX_CHANGES: usize = 16;

/// Why a mix was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The mix has not been polled for a while, and as many changes as may wait are waiting.
    #[error("too many changes are waiting")]
    Busy,
    /// The mix is gone.
    #[error("the mix has ended")]
    Closed,
}

#[derive(Debug)]
enum Change {
    Add(Source),
    Remove(Arc<str>),
}

/// Adds and removes the sources of a [`FairMix`] from elsewhere.
#[derive(Clone, Debug)]
pub struct MixHandle {
    changes: mpsc::Sender<Change>,
}

impl MixHandle {
    /// Adds a source. One too many ([`MAX_SOURCES`]) is dropped with a warning.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn add(&self, source: Source) -> Result<(), SourceError> {
        self.change(Change::Add(source))
    }

    /// Drops the sources with this name.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn remove(&self, label: impl Into<Arc<str>>) -> Result<(), SourceError> {
        self.change(Change::Remove(label.into()))
    }

    fn change(&self, change: Change) -> Result<(), SourceError> {
        self.changes.try_send(change).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SourceError::Busy,
            mpsc::error::TrySendError::Closed(_) => SourceError::Closed,
        })
    }
}

struct Turn {
    source: Source,
    patience: Duration,
}

/// See the module's documentation. Ends when all sources have ended and no [`MixHandle`] is left that could add one.
pub struct FairMix {
    /// The first one has its turn.
    turns: VecDeque<Turn>,
    patience: Duration,
    /// One timer for all turns, made at the first wait.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: Waiting,
    changes: Option<mpsc::Receiver<Change>>,
}

/// What the one whose turn it is has had of its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waiting {
    Not,
    For,
    Over,
}

impl FairMix {
    /// An empty mix that gives each source `patience` on its turn: geth's 100 ms is a good value; zero lets whoever is ready
    /// step in at once. Polling it needs a tokio runtime with time.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self {
            turns: VecDeque::new(),
            patience,
            timer: None,
            waiting: Waiting::Not,
            changes: None,
        }
    }

    /// A mix and a handle to change it with. It does not end before the handle and its clones are dropped.
    #[must_use]
    pub fn with_handle(patience: Duration) -> (Self, MixHandle) {
        let (changes, received) = mpsc::channel(MAX_CHANGES);
        let mix = Self {
            changes: Some(received),
            ..Self::new(patience)
        };
        (mix, MixHandle { changes })
    }

    /// Adds a source; `false`, and it is dropped, if there are [`MAX_SOURCES`].
    pub fn add(&mut self, source: Source) -> bool {
        if self.turns.len() >= MAX_SOURCES {
            tracing::warn!(label = %source.label(), "one source too many is left out");
            return false;
        }
        self.turns.push_back(Turn {
            source,
            patience: self.patience,
        });
        true
    }

    /// Drops the sources with this name; says how many there were.
    pub fn remove(&mut self, label: &str) -> usize {
        let before = self.turns.len();
        let first = self
            .turns
            .front()
            .map(|turn| Arc::clone(turn.source.label()));
        self.turns.retain(|turn| &**turn.source.label() != label);
        if first.is_some_and(|first| &*first == label) {
            self.waiting = Waiting::Not;
        }
        before - self.turns.len()
    }

    /// The names of its sources, in the order of their turns.
    pub fn labels(&self) -> impl Iterator<Item = &Arc<str>> {
        self.turns.iter().map(|turn| turn.source.label())
    }

    fn take_changes(&mut self, cx: &mut Context<'_>) {
        while let Some(changes) = &mut self.changes {
            match changes.poll_recv(cx) {
                Poll::Ready(Some(Change::Add(source))) => drop(self.add(source)),
                Poll::Ready(Some(Change::Remove(label))) => drop(self.remove(&label)),
                Poll::Ready(None) => self.changes = None,
                Poll::Pending => return,
            }
        }
    }

    /// The turn goes to the next one.
    fn pass(&mut self) {
        if !self.turns.is_empty() {
            self.turns.rotate_left(1);
        }
        self.waiting = Waiting::Not;
    }

    /// Whether the one whose turn it is has had its time.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(first) = self.turns.front_mut() else {
            return false;
        };
        if self.waiting == Waiting::Not {
            let until = Instant::now() + first.patience;
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(until),
                None => self.timer = Some(Box::pin(sleep_until(until))),
            }
            self.waiting = Waiting::For;
        }
        if self.waiting == Waiting::For
            && (first.patience.is_zero()
                || self
                    .timer
                    .as_mut()
                    .is_none_or(|timer| timer.as_mut().poll(cx).is_ready()))
        {
            first.patience /= 2;
            self.waiting = Waiting::Over;
        }
        self.waiting == Waiting::Over
    }

    /// A node of one who steps in.
    fn poll_others(&mut self, cx: &mut Context<'_>) -> Option<Sourced> {
        let mut at = 1;
        while let Some(turn) = self.turns.get_mut(at) {
            match turn.source.poll_next_unpin(cx) {
                Poll::Ready(Some(node)) => {
                    let source = Arc::clone(turn.source.label());
                    return Some(Sourced { source, node });
                }
                Poll::Ready(None) => drop(self.turns.remove(at)),
                Poll::Pending => at += 1,
            }
        }
        None
    }
}

impl Stream for FairMix {
    type Item = Sourced;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Sourced>> {
        let this = self.get_mut();
        this.take_changes(cx);
        loop {
            let Some(first) = this.turns.front_mut() else {
                return match this.changes {
                    Some(_) => Poll::Pending,
                    None => Poll::Ready(None),
                };
            };
            match first.source.poll_next_unpin(cx) {
                Poll::Ready(Some(node)) => {
                    first.patience = this.patience;
                    let source = Arc::clone(first.source.label());
                    this.pass();
                    return Poll::Ready(Some(Sourced { source, node }));
                }
                Poll::Ready(None) => {
                    this.turns.pop_front();
                    this.waiting = Waiting::Not;
                }
                Poll::Pending => {
                    if !this.poll_over(cx) {
                        return Poll::Pending;
                    }
                    return match this.poll_others(cx) {
                        Some(found) => {
                            this.pass();
                            Poll::Ready(Some(found))
                        }
                        None => Poll::Pending,
                    };
                }
            }
        }
    }
}

impl fmt::Debug for FairMix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FairMix")
            .field("sources", &self.labels().collect::<Vec<_>>())
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}
