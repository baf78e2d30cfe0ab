//! Nodes on their way to the dial scheduler, from discovery's walk and from
//! every source the user has added, in turns. Each is judged by the protocols
//! first, by its record. For a node without one the record is asked for; if it
//! cannot be had the node is dialed all the same, because a node that speaks
//! only the oldest discovery has none.

use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt as _};
use tercet_discovery::{Discovery, FairMix, Source, Trust, filtered};
use tercet_enode::Node;

use super::ServerDriver;
use super::tasks::Done;
use crate::core::ServerInput;
use crate::dial::ResolveTask;
use crate::protocol::Protocol;

/// Records asked for at once.
const MAX_JUDGING: usize = 16;

/// Discovery's walk among the sources.
const DISCOVERY: &str = "discovery";

/// See the module.
pub(super) struct Candidates {
    nodes: Option<BoxStream<'static, Node>>,
}

impl Candidates {
    pub(super) fn new(
        mut sources: FairMix,
        discovery: Option<Discovery>,
        protocols: Arc<[Arc<dyn Protocol>]>,
    ) -> Self {
        if let Some(discovery) = &discovery {
            let walk = discovery.random_nodes().into_stream();
            sources.add(Source::new(DISCOVERY, Trust::Own, walk));
        }
        let nodes = sources.map(|found| {
            tracing::trace!(node = %found.node.id(), source = %found.source, "candidate");
            found.node
        });
        let judged = filtered(nodes, MAX_JUDGING, move |node| {
            judge(discovery.clone(), Arc::clone(&protocols), node)
        });
        Self {
            nodes: Some(judged.boxed()),
        }
    }

    /// Whether to ask for a node when the scheduler has use for `wanted`.
    pub(super) fn wants(&self, wanted: usize) -> bool {
        self.nodes.is_some() && wanted > 0
    }

    /// The next node that some protocol wants; `None` when there will be no more. May be cancelled without losing one.
    pub(super) async fn next(&mut self) -> Option<Node> {
        self.nodes.as_mut()?.next().await
    }

    /// Asks for no more.
    pub(super) fn stop(&mut self) {
        self.nodes = None;
    }
}

impl ServerDriver {
    pub(super) fn on_candidate(&mut self, node: Option<Node>) {
        match node {
            Some(node) => self.input(ServerInput::Candidate(node)),
            None => self.candidates.stop(),
        }
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

/// The node, with its record if that can be had, unless no protocol wants it.
async fn judge(
    discovery: Option<Discovery>,
    protocols: Arc<[Arc<dyn Protocol>]>,
    node: Node,
) -> Option<Node> {
    let node = match discovery {
        Some(discovery) if node.record().is_none() => with_record(&discovery, node).await,
        _ => node,
    };
    wanted_by_any(&protocols, &node).then_some(node)
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
