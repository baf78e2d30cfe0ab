//! What a crawl writes into its database, if it has one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tercet_enode::{Node, NodeId};
use tercet_machine::UnixTime;

use super::speak::Outcome;
use crate::crawl::store::{self, Row, Sighting, Store, StoreError};
use crate::crawl::{Crawl, Meeting};
use crate::nodeset::{Chain, NodeSet};

/// Adds to `known` what the database knows better, and says which chains its nodes are on.
pub(super) async fn resume(
    known: &mut NodeSet,
    path: PathBuf,
) -> Result<BTreeMap<NodeId, Chain>, StoreError> {
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let read = move || Ok((store::known(&path)?, store::chains(&path)?));
    let read = tokio::task::spawn_blocking(read);
    let (stored, chains) = read.await.map_err(StoreError::Task)??;
    for (id, node) in stored.iter() {
        let ours = known.get(id);
        if ours.is_none_or(|ours| ours.last_check < node.last_check) {
            known.insert(node.clone());
        }
    }
    Ok(chains)
}

/// A node was visited over discv4 or discv5.
pub(super) async fn met(
    store: &mut Store,
    crawl: &Crawl,
    met: Meeting,
    at: UnixTime,
) -> Result<(), StoreError> {
    let sighting = Sighting {
        protocol: match met.protocol {
            tercet_discovery::Protocol::V4 => "v4",
            tercet_discovery::Protocol::V5 => "v5",
        },
        at,
        address: met.at.map(|at| at.udp_addr()),
        rtt: met.rtt,
        error: None,
    };
    let Some((known, node)) = crawl.node(&met.id) else {
        return Ok(());
    };
    let place = node.map(Node::endpoint).copied();
    let known = Box::new(known.clone());
    store
        .add(Row::Met {
            known,
            place,
            sighting,
        })
        .await
}

/// A node was dialled.
pub(super) async fn dialled(
    store: &mut Store,
    crawl: &Crawl,
    outcome: Outcome,
    at: UnixTime,
) -> Result<(), StoreError> {
    let Outcome { node, said } = outcome;
    let id = node.id();
    let Some((known, place)) = crawl.node(&id) else {
        return Ok(());
    };
    let (rtt, error, spoken) = match said {
        Ok((took, spoken)) => (Some(took), None, Some(Box::new(spoken))),
        Err(error) => (None, Some(error), None),
    };
    let sighting = Sighting {
        protocol: "rlpx",
        at,
        address: node.endpoint().tcp_addr(),
        rtt,
        error,
    };
    let (known, place) = (Box::new(known.clone()), place.map(Node::endpoint).copied());
    store
        .add(Row::Met {
            known,
            place,
            sighting,
        })
        .await?;
    match spoken {
        Some(spoken) => store.add(Row::Spoke { id, at, spoken }).await,
        None => Ok(()),
    }
}
