//! What a crawled node says of itself over RLPx: its Hello, and its eth Status. Connections are bounded in number; no subnet is
//! dialled more often than it was asked over UDP, as every node is dialled once, after it has answered.

use std::collections::VecDeque;
use std::time::Duration;

use tercet_enode::{Node, NodeId};
use tercet_rlpx::SETUP_TIMEOUT;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::cmd::{hello, status, tcp_address};
use crate::crawl::store::Spoken;
use crate::error::{CliError, chain};

/// Connections at a time: with 5 s for each that is not answered some 13 nodes a second at worst, and 64 descriptors.
const MAX_DIALS: usize = 64;

/// What came of a dial.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) node: Node,
    /// The time of the whole exchange, and what was said; or why nothing was.
    pub(super) said: Result<(Duration, Spoken), String>,
}

/// The dials of a crawl.
#[derive(Debug)]
pub(super) struct Dials {
    status: bool,
    /// At most as many as the crawl keeps nodes.
    waiting: VecDeque<(Node, Option<Node>)>,
    running: JoinSet<Outcome>,
}

impl Dials {
    /// With `status` every node that speaks eth is asked for its Status too.
    pub(super) fn new(status: bool) -> Self {
        Self {
            status,
            waiting: VecDeque::new(),
            running: JoinSet::new(),
        }
    }

    /// Dials a node that takes connections, as soon as there is room: at the first of these addresses, else at the second.
    pub(super) fn add(&mut self, places: Vec<Node>) {
        let mut places = places
            .into_iter()
            .filter(|node| node.endpoint().tcp_addr().is_some());
        if let Some(first) = places.next() {
            self.waiting.push_back((first, places.next()));
            self.fill();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// The next dial to end; waits for ever if there is none.
    pub(super) async fn next(&mut self) -> Result<Outcome, CliError> {
        let Some(ended) = self.running.join_next().await else {
            return std::future::pending().await;
        };
        self.fill();
        ended.map_err(CliError::Task)
    }

    fn fill(&mut self) {
        while self.running.len() < MAX_DIALS
            && let Some(places) = self.waiting.pop_front()
        {
            self.running.spawn(speak_at(places, self.status));
        }
    }
}

/// One node: at its first address, or if that takes no connection at the other.
async fn speak_at((first, other): (Node, Option<Node>), status: bool) -> Outcome {
    let said = speak(&first, status).await;
    let (node, said) = match (said, other) {
        (Err(CliError::Connect { .. } | CliError::Timeout { .. }), Some(other)) => {
            let said = speak(&other, status).await;
            (other, said)
        }
        (said, _) => (first, said),
    };
    let said = said.map_err(|error| chain(&error));
    Outcome { node, said }
}

/// One connection. A node that says goodbye instead of its Status has said its Hello all the same.
async fn speak(node: &Node, wants_status: bool) -> Result<(Duration, Spoken), CliError> {
    let begun = Instant::now();
    let mut stream = hello::dial(node).await?;
    let said = stream.remote_hello().clone();
    let took = begun.elapsed();
    let mut received = None;
    if wants_status {
        let address = tcp_address(node)?;
        match timeout(SETUP_TIMEOUT, status::first_status(&mut stream, address)).await {
            Ok(Ok(status)) => received = Some(status),
            Ok(Err(error)) => {
                tracing::debug!(id = %short(&node.id()), error = %chain(&error), "no Status");
            }
            Err(_elapsed) => tracing::debug!(id = %short(&node.id()), "no Status in time"),
        }
    }
    hello::leave(stream).await;
    let (hello, status) = (said, received);
    Ok((took, Spoken { hello, status }))
}

fn short(id: &NodeId) -> String {
    let mut text = id.to_string();
    text.truncate(16);
    text
}
