//! Nodes from discovery on their way to the dial scheduler: each is judged by
//! the protocols first, by its record. For a node without one the record is
//! asked for; if it cannot be had the node is dialed all the same, because a
//! node that speaks only the oldest discovery has none.

use std::sync::Arc;

use tercet_discovery::{Discovery, RandomNodes};
use tercet_enode::Node;

use super::ServerDriver;
use super::tasks::Done;
use crate::core::ServerInput;
use crate::dial::ResolveTask;
use crate::protocol::Protocol;

/// Records asked for at once.
const MAX_JUDGING: usize = 16;

/// See the module.
pub(super) struct Candidates {
    source: Option<RandomNodes>,
    judging: usize,
}

impl Candidates {
    pub(super) fn new(discovery: Option<&Discovery>) -> Self {
        Self {
            source: discovery.map(Discovery::random_nodes),
            judging: 0,
        }
    }

    /// Whether to ask for a node when the scheduler has use for `wanted`.
    pub(super) fn wants(&self, wanted: usize) -> bool {
        self.source.is_some() && self.judging < wanted.min(MAX_JUDGING)
    }

    /// The next node; `None` when discovery has ended.
    pub(super) async fn next(&mut self) -> Option<Node> {
        self.source.as_mut()?.next().await
    }

    pub(super) fn on_judged(&mut self) {
        self.judging = self.judging.saturating_sub(1);
    }

    /// Asks for no more.
    pub(super) fn stop(&mut self) {
        self.source = None;
    }
}

impl ServerDriver {
    pub(super) fn on_candidate(&mut self, node: Option<Node>) {
        let (Some(node), Some(discovery)) = (node, &self.discovery) else {
            return self.candidates.stop();
        };
        if node.record().is_some() {
            if wanted_by_any(&self.local.protocols, &node) {
                self.input(ServerInput::Candidate(node));
            }
            return;
        }
        let (discovery, protocols) = (discovery.clone(), Arc::clone(&self.local.protocols));
        self.candidates.judging += 1;
        self.tasks.spawn(async move {
            let node = with_record(&discovery, node).await;
            Done::Judged(wanted_by_any(&protocols, &node).then_some(node))
        });
    }

    /// Asks discovery where a static node is.
    pub(super) fn resolve(&mut self, task: ResolveTask) {
        let discovery = self.discovery.clone();
        self.tasks.spawn(async move {
            let found = match discovery {
                Some(discovery) => find(&discovery, &task).await,
                None => None,
            };
            Done::Resolved(task.id(), found)
        });
    }
}

/// The node with its record, if it can be had.
async fn with_record(discovery: &Discovery, node: Node) -> Node {
    match discovery.request_enr(node.clone()).await {
        Ok(record) => node.clone().with_record(record).unwrap_or(node),
        Err(error) => {
            tracing::debug!(node = %node.id(), %error, "no record");
            node
        }
    }
}

fn wanted_by_any(protocols: &[Arc<dyn Protocol>], node: &Node) -> bool {
    match node.record() {
        Some(record) => protocols
            .iter()
            .any(|protocol| protocol.accepts_candidate(record)),
        None => true,
    }
}

/// A newer place of a node: asked of the node itself where it is known, else
/// of the nodes closest to it.
async fn find(discovery: &Discovery, task: &ResolveTask) -> Option<Node> {
    let found = match &task.known {
        Some(known) => discovery.resolve(known.clone()).await,
        None => discovery
            .lookup(task.key)
            .await
            .map(|nodes| nodes.into_iter().find(|node| node.id() == task.id())),
    };
    found.unwrap_or_else(|error| {
        tracing::debug!(node = %task.id(), %error, "cannot resolve");
        None
    })
}
