//! The session as a machine: messages in, decoded and judged messages out.
//!
//! First comes Status, within 5 s; after it every message is one of a request
//! to serve, an answer to a request of ours, gossip, or a breach. Once a
//! session is closed it says nothing more.

use super::handshake::{StatusError, check_status, local_status};
use super::requests::{RequestTracker, Settled};
use crate::backend::ChainBackend;
use crate::limits::{MAX_MESSAGE_SIZE, STATUS_TIMEOUT};
use crate::serve::Query;
use crate::wire::{
    Announcements, BlockRange, DecodeError, EthVersion, GetBlockHeaders, HashRequest, MessageId,
    RawReply, Status, WireTransaction, decode_announcements, decode_pooled_transactions,
    decode_transactions, request_id,
};
use alloy_eips::BlockHashOrNumber;
use alloy_primitives::B256;
use bytes::Bytes;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use tercet_machine::{KeyedState, Machine, MonoTime, Now, Quota, TokenBucket};
use tercet_server::DisconnectReason;

/// Range updates a peer may send: one a second with room for 32 at once. The
/// eth spec has one every two minutes, EIP-7642 one every 32 blocks.
const RANGE_UPDATES: Quota = Quota::per_second(1, 32);

/// Why a session ended, as far as the peer is concerned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// No Status came within 5 s.
    #[error("no Status within {} s", STATUS_TIMEOUT.as_secs())]
    StatusTimeout,
    /// Another message came before Status.
    #[error("message {0:#04x} before Status")]
    NotStatus(u64),
    /// Status is not acceptable.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// A second Status came.
    #[error("a second Status")]
    SecondStatus,
    /// The version has no such message, or it belongs to proof of work.
    #[error("message {0:#04x}, which {1} does not have")]
    UnknownMessage(u64, EthVersion),
    /// A message is over 10 MiB.
    #[error("message of {0} bytes")]
    TooLarge(usize),
    /// A message cannot be read.
    #[error("unreadable {message:?}: {source}")]
    Decode {
        /// What it should be.
        message: MessageId,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// An answer to a request we did not make, or of another kind.
    #[error("{0:?} that answers no request")]
    UnrequestedAnswer(MessageId),
    /// A blob transaction in Transactions (EIP-4844 forbids it).
    #[error("a blob transaction was broadcast")]
    BlobBroadcast,
    /// A message has the same transaction twice.
    #[error("a transaction twice in one message")]
    DuplicateTransaction,
    /// An answer has a transaction that was not asked for.
    #[error("a pooled transaction nobody asked for")]
    UnrequestedTransaction,
    /// A range is reversed, or its hash zero.
    #[error("impossible block range {0} to {1}")]
    BlockRange(u64, u64),
    /// Range updates come too often.
    #[error("too many block range updates")]
    RangeFlood,
}

impl SessionError {
    /// What the peer is told.
    pub fn reason(&self) -> DisconnectReason {
        match self {
            SessionError::StatusTimeout => DisconnectReason::ReadTimeout,
            _ => DisconnectReason::SubprotocolError,
        }
    }

    /// Whether the peer broke the rules, rather than being slow or of another
    /// chain.
    pub fn is_breach(&self) -> bool {
        match self {
            SessionError::StatusTimeout => false,
            SessionError::Status(error) => !error.is_honest(),
            _ => true,
        }
    }
}

/// A request of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// GetBlockHeaders.
    Headers {
        /// The first one wanted.
        start: BlockHashOrNumber,
        /// How many.
        limit: u64,
        /// Blocks left out between two.
        skip: u64,
        /// Whether numbers fall.
        reverse: bool,
    },
    /// GetBlockBodies of the blocks with these hashes.
    Bodies(Vec<B256>),
    /// GetReceipts of the blocks with these hashes.
    Receipts(Vec<B256>),
    /// GetPooledTransactions with these hashes.
    PooledTransactions(Vec<B256>),
}

/// What happens to a session. `T` names a request of ours.
#[derive(Clone, Debug)]
pub enum SessionInput<T> {
    /// The peer sent a message.
    Message {
        /// Its id, counted from the capability's first.
        id: u64,
        /// Its decompressed payload.
        payload: Bytes,
    },
    /// Ask the peer for something.
    Ask {
        /// What.
        ask: Ask,
        /// Comes back with the answer.
        token: T,
    },
}

/// What a session wants or has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionOutput<T> {
    /// Send a message.
    Send {
        /// Which.
        message: MessageId,
        /// Its payload.
        payload: Vec<u8>,
    },
    /// Status has been exchanged; this is the peer's.
    Agreed(Status),
    /// Answer a request.
    Serve(Query),
    /// Transactions were broadcast: distinct, without blobs, signatures
    /// unchecked.
    Transactions(Vec<WireTransaction>),
    /// The answer to [`Ask::PooledTransactions`]: distinct, and all asked for.
    Pooled {
        /// The request's.
        token: T,
        /// What the peer has of what was asked for.
        transactions: Vec<WireTransaction>,
    },
    /// The answer to any other request.
    Answer {
        /// The request's.
        token: T,
        /// At most as many items as asked for, none decoded.
        reply: RawReply,
    },
    /// A request has no answer.
    Failed {
        /// The request's.
        token: T,
        /// It could not be made, rather than timed out.
        busy: bool,
    },
    /// Transactions were announced.
    Announced(Announcements),
    /// The peer's block range changed.
    Range(BlockRange),
    /// The session is over.
    Close(SessionError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    AwaitStatus(MonoTime),
    Active,
    Closed,
}

/// What a token stands for while its request is open.
struct Pending<T> {
    token: T,
    /// What pooled transactions were asked for.
    hashes: Vec<B256>,
}

/// The machine of one session. `T` names requests of ours.
pub struct SessionCore<T> {
    version: EthVersion,
    network_id: u64,
    chain: Arc<dyn ChainBackend>,
    stage: Stage,
    requests: RequestTracker<Pending<T>>,
    range_updates: TokenBucket,
    state: KeyedState,
    outputs: VecDeque<SessionOutput<T>>,
}

impl<T> SessionCore<T> {
    /// A session that begins by sending our Status.
    pub fn new(
        now: Now,
        version: EthVersion,
        network_id: u64,
        chain: Arc<dyn ChainBackend>,
        state: KeyedState,
    ) -> Self {
        let payload = local_status(version, network_id, &*chain).encode();
        SessionCore {
            version,
            network_id,
            chain,
            stage: Stage::AwaitStatus(now.mono + STATUS_TIMEOUT),
            requests: RequestTracker::new(),
            range_updates: TokenBucket::new(RANGE_UPDATES),
            state,
            outputs: VecDeque::from([SessionOutput::Send {
                message: MessageId::Status,
                payload,
            }]),
        }
    }

    fn close(&mut self, error: SessionError) {
        self.stage = Stage::Closed;
        self.outputs.push_back(SessionOutput::Close(error));
    }

    fn on_message(&mut self, now: MonoTime, id: u64, payload: &Bytes) -> Result<(), SessionError> {
        if payload.len() > MAX_MESSAGE_SIZE {
            return Err(SessionError::TooLarge(payload.len()));
        }
        let message = MessageId::from_id(self.version, id);
        if let Stage::AwaitStatus(_) = self.stage {
            return match message {
                Some(MessageId::Status) => self.on_status(payload),
                _ => Err(SessionError::NotStatus(id)),
            };
        }
        let message = message.ok_or(SessionError::UnknownMessage(id, self.version))?;
        let unreadable = |source| SessionError::Decode { message, source };
        match message {
            MessageId::Status => Err(SessionError::SecondStatus),
            MessageId::Transactions => {
                self.on_transactions(decode_transactions(payload).map_err(unreadable)?)
            }
            MessageId::NewPooledTransactionHashes => {
                let announced = decode_announcements(payload).map_err(unreadable)?;
                self.outputs.push_back(SessionOutput::Announced(announced));
                Ok(())
            }
            MessageId::BlockRangeUpdate => {
                let range = BlockRange::decode_update(payload).map_err(unreadable)?;
                self.on_range(now, range)
            }
            MessageId::PooledTransactions => self.on_pooled(payload),
            MessageId::BlockHeaders | MessageId::BlockBodies | MessageId::Receipts => {
                self.on_answer(message, payload)
            }
            MessageId::GetBlockHeaders
            | MessageId::GetBlockBodies
            | MessageId::GetReceipts
            | MessageId::GetPooledTransactions => {
                let query = Query::decode(message, payload).map_err(unreadable)?;
                self.outputs.extend(query.map(SessionOutput::Serve));
                Ok(())
            }
        }
    }

    fn on_status(&mut self, payload: &Bytes) -> Result<(), SessionError> {
        let status = Status::decode(self.version, payload).map_err(StatusError::from)?;
        check_status(self.version, self.network_id, &*self.chain, &status)?;
        self.stage = Stage::Active;
        self.outputs.push_back(SessionOutput::Agreed(status));
        Ok(())
    }

    fn on_transactions(&mut self, transactions: Vec<WireTransaction>) -> Result<(), SessionError> {
        if transactions.iter().any(WireTransaction::is_blob) {
            return Err(SessionError::BlobBroadcast);
        }
        self.check_distinct(&transactions)?;
        self.outputs
            .push_back(SessionOutput::Transactions(transactions));
        Ok(())
    }

    fn check_distinct(&self, transactions: &[WireTransaction]) -> Result<(), SessionError> {
        let mut seen = HashSet::with_capacity_and_hasher(transactions.len(), self.state);
        if transactions.iter().all(|tx| seen.insert(tx.hash())) {
            Ok(())
        } else {
            Err(SessionError::DuplicateTransaction)
        }
    }

    fn on_range(&mut self, now: MonoTime, range: BlockRange) -> Result<(), SessionError> {
        if !range.is_valid() {
            return Err(SessionError::BlockRange(range.earliest, range.latest));
        }
        if !self.range_updates.check(now) {
            return Err(SessionError::RangeFlood);
        }
        self.outputs.push_back(SessionOutput::Range(range));
        Ok(())
    }

    /// Finds the request a reply belongs to; `None` for one given up on.
    fn settle(
        &mut self,
        message: MessageId,
        payload: &Bytes,
    ) -> Result<Option<(Pending<T>, usize)>, SessionError> {
        let id = request_id(payload).map_err(|source| SessionError::Decode { message, source })?;
        match self.requests.settle(id, message) {
            Settled::Open { token, max_items } => Ok(Some((token, max_items))),
            Settled::Late => Ok(None),
            Settled::Unknown => Err(SessionError::UnrequestedAnswer(message)),
        }
    }

    fn on_answer(&mut self, message: MessageId, payload: &Bytes) -> Result<(), SessionError> {
        let Some((pending, max_items)) = self.settle(message, payload)? else {
            return Ok(());
        };
        let token = pending.token;
        match RawReply::decode(payload, max_items) {
            Ok(reply) => {
                self.outputs
                    .push_back(SessionOutput::Answer { token, reply });
                Ok(())
            }
            Err(source) => Err(SessionError::Decode { message, source }),
        }
    }

    fn on_pooled(&mut self, payload: &Bytes) -> Result<(), SessionError> {
        let message = MessageId::PooledTransactions;
        let Some((pending, max_items)) = self.settle(message, payload)? else {
            return Ok(());
        };
        let (_, transactions) = decode_pooled_transactions(payload, max_items)
            .map_err(|source| SessionError::Decode { message, source })?;
        self.check_distinct(&transactions)?;
        let mut asked = HashSet::with_capacity_and_hasher(pending.hashes.len(), self.state);
        asked.extend(pending.hashes);
        if !transactions.iter().all(|tx| asked.contains(&tx.hash())) {
            return Err(SessionError::UnrequestedTransaction);
        }
        let token = pending.token;
        self.outputs.push_back(SessionOutput::Pooled {
            token,
            transactions,
        });
        Ok(())
    }

    fn on_ask(&mut self, now: MonoTime, ask: Ask, token: T) {
        let (reply, count, hashes) = match &ask {
            Ask::Headers { limit, .. } => {
                let count = usize::try_from(*limit).unwrap_or(usize::MAX);
                (MessageId::BlockHeaders, count, Vec::new())
            }
            Ask::Bodies(hashes) => (MessageId::BlockBodies, hashes.len(), Vec::new()),
            Ask::Receipts(hashes) => (MessageId::Receipts, hashes.len(), Vec::new()),
            Ask::PooledTransactions(hashes) => {
                (MessageId::PooledTransactions, hashes.len(), hashes.clone())
            }
        };
        match self
            .requests
            .open(now, reply, count, Pending { token, hashes })
        {
            Ok(request_id) => {
                let (message, payload) = ask.encode(request_id);
                self.outputs
                    .push_back(SessionOutput::Send { message, payload });
            }
            Err(Pending { token, .. }) => {
                self.outputs
                    .push_back(SessionOutput::Failed { token, busy: true });
            }
        }
    }
}

impl Ask {
    fn encode(self, request_id: u64) -> (MessageId, Vec<u8>) {
        let hashes = |message, hashes| (message, HashRequest { request_id, hashes }.encode());
        match self {
            Ask::Headers {
                start,
                limit,
                skip,
                reverse,
            } => {
                let request = GetBlockHeaders {
                    request_id,
                    start,
                    limit,
                    skip,
                    reverse,
                };
                (MessageId::GetBlockHeaders, request.encode())
            }
            Ask::Bodies(list) => hashes(MessageId::GetBlockBodies, list),
            Ask::Receipts(list) => hashes(MessageId::GetReceipts, list),
            Ask::PooledTransactions(list) => hashes(MessageId::GetPooledTransactions, list),
        }
    }
}

impl<T> Machine for SessionCore<T> {
    type Input = SessionInput<T>;
    type Output = SessionOutput<T>;

    fn handle(&mut self, now: Now, input: SessionInput<T>) {
        match (input, self.stage) {
            (SessionInput::Message { .. }, Stage::Closed) => {}
            (SessionInput::Message { id, payload }, _) => {
                if let Err(error) = self.on_message(now.mono, id, &payload) {
                    self.close(error);
                }
            }
            (SessionInput::Ask { ask, token }, Stage::Active) => self.on_ask(now.mono, ask, token),
            (SessionInput::Ask { token, .. }, _) => {
                self.outputs
                    .push_back(SessionOutput::Failed { token, busy: true });
            }
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        if let Stage::AwaitStatus(deadline) = self.stage
            && deadline <= now.mono
        {
            self.close(SessionError::StatusTimeout);
        }
        while let Some(Pending { token, .. }) = self.requests.pop_expired(now.mono) {
            self.outputs
                .push_back(SessionOutput::Failed { token, busy: false });
        }
    }

    fn deadline(&self) -> Option<MonoTime> {
        match self.stage {
            Stage::AwaitStatus(deadline) => Some(deadline),
            Stage::Active | Stage::Closed => self.requests.deadline(),
        }
    }

    fn poll(&mut self) -> Option<SessionOutput<T>> {
        self.outputs.pop_front()
    }
}

#[cfg(test)]
mod tests;
