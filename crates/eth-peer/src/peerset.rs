//! The peers that agreed on Status, as others see them: a snapshot, and a way
//! to ask each for blocks.

use crate::session::{Ask, RequestError};
use crate::wire::{
    BlockBody, BlockRange, EthVersion, RawReply, Status, decode_body, decode_headers,
    decode_receipts,
};
use alloy_consensus::{Header, ReceiptEnvelope};
use alloy_eips::BlockHashOrNumber;
use alloy_primitives::B256;
use std::sync::Arc;
use tercet_enode::NodeId;
use tokio::sync::{mpsc, oneshot};

/// Where the answer to a request goes.
pub(crate) type AnswerTo = oneshot::Sender<Result<RawReply, RequestError>>;

/// A peer in a session of eth. Cheap to clone; requests fail with
/// [`RequestError::Closed`] once the session has ended.
#[derive(Clone, Debug)]
pub struct EthPeer {
    id: NodeId,
    version: EthVersion,
    status: Status,
    range: Option<BlockRange>,
    asks: mpsc::Sender<(Ask, AnswerTo)>,
}

/// All peers that agreed on Status, sorted by id.
pub type PeerSet = Arc<[EthPeer]>;

impl EthPeer {
    pub(crate) fn new(
        id: NodeId,
        version: EthVersion,
        status: Status,
        asks: mpsc::Sender<(Ask, AnswerTo)>,
    ) -> Self {
        EthPeer {
            id,
            version,
            status,
            range: status.range(),
            asks,
        }
    }

    pub(crate) fn set_range(&mut self, range: BlockRange) {
        self.range = Some(range);
    }

    /// Its id.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The version of eth agreed on.
    pub fn version(&self) -> EthVersion {
        self.version
    }

    /// The Status it sent.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// The blocks it has, as of its last update; unknown with eth/68.
    pub fn range(&self) -> Option<BlockRange> {
        self.range
    }

    /// Asks for `limit` headers from `start`, each `skip` blocks after the last
    /// (`reverse`: before it). The peer may send fewer. They are not checked to
    /// form a chain.
    ///
    /// # Errors
    /// When no readable answer comes in time.
    pub async fn headers(
        &self,
        start: BlockHashOrNumber,
        limit: u64,
        skip: u64,
        reverse: bool,
    ) -> Result<Vec<Header>, RequestError> {
        let reply = self
            .ask(Ask::Headers {
                start,
                limit,
                skip,
                reverse,
            })
            .await?;
        Ok(decode_headers(&reply.items)?)
    }

    /// Asks for bodies. The peer leaves out those it does not have; tell which
    /// is which with [`crate::verify_body`].
    ///
    /// # Errors
    /// When no readable answer comes in time.
    pub async fn bodies(&self, hashes: Vec<B256>) -> Result<Vec<BlockBody>, RequestError> {
        let reply = self.ask(Ask::Bodies(hashes)).await?;
        let bodies = reply.items.iter().map(|item| decode_body(item));
        Ok(bodies.collect::<Result<_, _>>()?)
    }

    /// Asks for the receipts of blocks, each given with its number of
    /// transactions. Check them with [`crate::verify_receipts`].
    ///
    /// # Errors
    /// When no readable answer comes in time, or a block has more receipts than
    /// transactions.
    pub async fn receipts(
        &self,
        blocks: &[(B256, usize)],
    ) -> Result<Vec<Vec<ReceiptEnvelope>>, RequestError> {
        let hashes = blocks.iter().map(|(hash, _)| *hash).collect();
        let reply = self.ask(Ask::Receipts(hashes)).await?;
        let max = blocks.iter().map(|(_, count)| *count).max().unwrap_or(0);
        let lists = reply
            .items
            .iter()
            .map(|item| decode_receipts(self.version, item, max));
        Ok(lists.collect::<Result<_, _>>()?)
    }

    async fn ask(&self, ask: Ask) -> Result<RawReply, RequestError> {
        let (answer_to, answer) = oneshot::channel();
        self.asks
            .try_send((ask, answer_to))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => RequestError::Busy,
                mpsc::error::TrySendError::Closed(_) => RequestError::Closed,
            })?;
        answer.await.unwrap_or(Err(RequestError::Closed))
    }
}
