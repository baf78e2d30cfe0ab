//! What stands between a source and its consumer: judging nodes, and keeping some ready.
#![allow(clippy::disallowed_methods)] // keeping nodes ready takes a task, which ends with its stream

use std::future::Future;

use futures::Stream;
use futures::stream::{self, StreamExt};
use tercet_enode::Node;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// The nodes that `judge` lets through, as it gives them back (with a record fetched on the way, say), in the order in which
/// they are judged. At most `at_once` (0 counts as 1) are judged at a time; that many nodes are held. Ends when `nodes` has
/// ended and the last one is judged.
pub fn filtered<S, F, J>(nodes: S, at_once: usize, judge: F) -> impl Stream<Item = Node>
where
    S: Stream<Item = Node>,
    F: FnMut(Node) -> J,
    J: Future<Output = Option<Node>>,
{
    nodes
        .map(judge)
        .buffer_unordered(at_once.max(1))
        .filter_map(std::future::ready)
}

/// Keeps up to `count` nodes (0 counts as 1) ready and one more in hand, also while the consumer is busy. What is ready is
/// still handed out after `nodes` has ended. Needs a tokio runtime; its task ends when the stream is dropped.
pub fn prefetched<S>(nodes: S, count: usize) -> impl Stream<Item = Node> + Send + Unpin + 'static
where
    S: Stream<Item = Node> + Send + 'static,
{
    let (ready, taken) = mpsc::channel(count.max(1));
    let task = AbortOnDropHandle::new(tokio::spawn(async move {
        let mut nodes = std::pin::pin!(nodes);
        while let Some(node) = nodes.next().await {
            // Nobody takes them any more.
            if ready.send(node).await.is_err() {
                break;
            }
        }
    }));
    stream::unfold((taken, task), |(mut taken, task)| async move {
        taken.recv().await.map(|node| (node, (taken, task)))
    })
    .boxed()
}
