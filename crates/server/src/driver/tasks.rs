//! The tasks the run loop has started, with the connection each works for.

use std::collections::HashMap;
use std::future::Future;

use tercet_enode::{Node, NodeId};
use tercet_rlpx::RlpxStream;
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, Id, JoinSet};

use crate::core::ConnId;
use crate::event::DialError;
use crate::peer::{PeerEnd, PeerStart, run_peer};
use crate::setup::Proven;

/// What a task has come to.
pub(super) enum Done {
    Proven(ConnId, Result<Box<Proven>, DialError>),
    Greeted(ConnId, Result<Box<RlpxStream<TcpStream>>, DialError>),
    Rejected(ConnId),
    Ended(ConnId, PeerEnd),
    Resolved(NodeId, Option<Node>),
    /// It panicked.
    Failed(ConnId),
}

/// See the module. Bounded by the machine: one task for each connection, one for
/// each static node being resolved.
pub(super) struct Tasks {
    set: JoinSet<Done>,
    owners: HashMap<Id, ConnId>,
    handles: HashMap<ConnId, AbortHandle>,
}

impl Tasks {
    pub(super) fn new() -> Self {
        Self {
            set: JoinSet::new(),
            owners: HashMap::new(),
            handles: HashMap::new(),
        }
    }

    /// Starts a stage of a connection's set-up.
    pub(super) fn spawn_setup(
        &mut self,
        conn: ConnId,
        task: impl Future<Output = Done> + Send + 'static,
    ) {
        let handle = self.set.spawn(task);
        self.owners.insert(handle.id(), conn);
        self.handles.insert(conn, handle);
    }

    /// Starts a peer.
    pub(super) fn spawn_peer(&mut self, conn: ConnId, start: PeerStart) {
        self.spawn_setup(
            conn,
            async move { Done::Ended(conn, run_peer(start).await) },
        );
    }

    /// Starts what belongs to no connection.
    pub(super) fn spawn(&mut self, task: impl Future<Output = Done> + Send + 'static) {
        self.set.spawn(task);
    }

    /// Stops the task of a connection; it reports nothing any more.
    pub(super) fn abort(&mut self, conn: ConnId) {
        if let Some(handle) = self.handles.remove(&conn) {
            handle.abort();
        }
    }

    /// The next result. Waits for ever when there is no task.
    pub(super) async fn next(&mut self) -> Done {
        loop {
            match self.set.join_next_with_id().await {
                None => std::future::pending().await,
                Some(Ok((id, done))) => {
                    let owner = self.forget(id);
                    // An aborted task may have finished first; its connection is
                    // gone and must not come back.
                    if owner.is_none_or(|(_, live)| live) {
                        return done;
                    }
                }
                Some(Err(error)) => {
                    let owner = self.forget(error.id());
                    if let Some((conn, true)) = owner {
                        tracing::error!(%error, "a connection's task failed");
                        return Done::Failed(conn);
                    }
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Stops everything and waits until it has stopped.
    pub(super) async fn stop(&mut self) {
        self.set.shutdown().await;
    }

    /// The connection a task worked for, and whether it had not been aborted.
    fn forget(&mut self, id: Id) -> Option<(ConnId, bool)> {
        let conn = self.owners.remove(&id)?;
        let live = self
            .handles
            .get(&conn)
            .is_some_and(|handle| handle.id() == id);
        if live {
            self.handles.remove(&conn);
        }
        Some((conn, live))
    }
}
