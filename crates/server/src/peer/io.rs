//! The two ends a protocol holds of its peer's connection: an inbox bounded in
//! messages and bytes, and a sender bounded the same way. Both are per protocol,
//! so one that is slow fills only its own.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use tercet_machine::{BudgetGuard, ByteBudget};
use tercet_rlpx::Payload;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

/// Messages a protocol's inbox holds before the connection stops reading.
pub const INBOX_MESSAGES: usize = 1024;
/// Bytes of inbound payload a protocol may have in its inbox or in hand:
/// 16 MiB, so that the largest message there can be (2^24 - 1 bytes) fits
/// when nothing else is held.
pub const INBOX_BYTES: usize = 16 * 1024 * 1024;
/// Messages a protocol may have queued for sending.
pub const OUTBOX_MESSAGES: usize = 256;
/// Bytes a protocol may have queued for sending: 16 MiB, as for the inbox.
pub const OUTBOX_BYTES: usize = 16 * 1024 * 1024;

/// The payload of a received message. It counts against the protocol's inbox
/// budget until it is dropped, so a protocol that sits on messages slows its
/// own peer down instead of filling memory.
#[derive(Debug)]
pub struct InboundPayload {
    bytes: Bytes,
    // Only held for its drop.
    _held: Held,
}

impl InboundPayload {
    /// The bytes, as a cheap handle. A clone of it is not counted any more once
    /// this payload is dropped: take what is needed out and let the rest go.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl Deref for InboundPayload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Budget that wakes the reader when it comes free.
#[derive(Debug)]
struct Held {
    guard: Option<BudgetGuard>,
    freed: Arc<Notify>,
}

impl Drop for Held {
    fn drop(&mut self) {
        // The budget first, or the woken reader would find it still taken.
        self.guard = None;
        self.freed.notify_one();
    }
}

/// A message from the remote, its id counted from the protocol's first.
#[derive(Debug)]
pub struct Message {
    /// The id, always below the protocol's length.
    pub id: u64,
    /// The decompressed payload.
    pub payload: InboundPayload,
}

/// Why a message could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The connection has ended.
    #[error("the connection has ended")]
    Closed,
    /// The outbox is full (only from [`ProtocolSender::try_send`]).
    #[error("the outbox is full")]
    Full,
    /// The id is outside the protocol's range.
    #[error("message id outside the protocol's range")]
    UnknownMessage,
    /// The payload is larger than a message can be (2^24 - 1 bytes).
    #[error("payload larger than a message can be")]
    TooLarge,
}

/// What a protocol's run holds of the connection.
#[derive(Debug)]
pub struct ProtocolIo {
    inbox: mpsc::Receiver<Message>,
    freed: Arc<Notify>,
    sender: ProtocolSender,
}

impl ProtocolIo {
    /// The next message, or `None` once the connection has ended and the inbox
    /// is empty. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Message> {
        let message = self.inbox.recv().await;
        // A slot came free: a reader waiting for one may go on.
        self.freed.notify_one();
        message
    }

    /// The sending half, to clone as often as needed.
    pub fn sender(&self) -> &ProtocolSender {
        &self.sender
    }
}

/// Sends messages of one protocol to one peer. Clones share one outbox of
/// 256 messages and 16 MiB.
#[derive(Debug, Clone)]
pub struct ProtocolSender {
    queue: mpsc::Sender<Outgoing>,
    budget: Arc<Semaphore>,
    length: u64,
}

impl ProtocolSender {
    /// Queues a message, waiting for room. Messages of one sender leave in order.
    /// Cancel-safe: a send that is dropped has queued nothing.
    pub async fn send(&self, id: u64, payload: Payload) -> Result<(), SendError> {
        let cost = self.cost(id, &payload)?;
        let permit = Arc::clone(&self.budget).acquire_many_owned(cost).await;
        let permit = permit.map_err(|_| SendError::Closed)?;
        let outgoing = Outgoing {
            id,
            payload,
            _permit: permit,
        };
        self.queue
            .send(outgoing)
            .await
            .map_err(|_| SendError::Closed)
    }

    /// Queues a message if there is room now.
    pub fn try_send(&self, id: u64, payload: Payload) -> Result<(), SendError> {
        let cost = self.cost(id, &payload)?;
        let permit = Arc::clone(&self.budget).try_acquire_many_owned(cost);
        let permit = permit.map_err(|error| match error {
            tokio::sync::TryAcquireError::Closed => SendError::Closed,
            tokio::sync::TryAcquireError::NoPermits => SendError::Full,
        })?;
        let outgoing = Outgoing {
            id,
            payload,
            _permit: permit,
        };
        self.queue.try_send(outgoing).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::Full,
            mpsc::error::TrySendError::Closed(_) => SendError::Closed,
        })
    }

    /// True once nothing can be sent any more.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Budget a payload takes: its length, and at least one byte.
    fn cost(&self, id: u64, payload: &Payload) -> Result<u32, SendError> {
        if id >= self.length {
            return Err(SendError::UnknownMessage);
        }
        if payload.len() >= OUTBOX_BYTES {
            return Err(SendError::TooLarge);
        }
        u32::try_from(payload.len().max(1)).map_err(|_| SendError::TooLarge)
    }
}

/// A message on its way out; its budget returns when it is written.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) id: u64,
    pub(crate) payload: Payload,
    _permit: OwnedSemaphorePermit,
}

/// The connection's end of one protocol's inbox, and the budget of its outbox.
#[derive(Debug)]
pub(crate) struct ProtocolLink {
    inbox: mpsc::Sender<Message>,
    inbound: ByteBudget,
    freed: Arc<Notify>,
    budget: Arc<Semaphore>,
}

/// What became of a delivery.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// In the inbox.
    Done,
    /// No room; here is the payload back.
    Full(Bytes),
    /// The protocol's run has ended.
    Gone,
}

impl ProtocolLink {
    /// Opens the queues of one protocol. `freed` wakes the reader.
    pub(crate) fn open(
        length: u64,
        freed: &Arc<Notify>,
    ) -> (ProtocolLink, mpsc::Receiver<Outgoing>, ProtocolIo) {
        let (inbox_tx, inbox_rx) = mpsc::channel(INBOX_MESSAGES);
        let (out_tx, out_rx) = mpsc::channel(OUTBOX_MESSAGES);
        let budget = Arc::new(Semaphore::new(OUTBOX_BYTES));
        let link = ProtocolLink {
            inbox: inbox_tx,
            inbound: ByteBudget::new(INBOX_BYTES),
            freed: Arc::clone(freed),
            budget: Arc::clone(&budget),
        };
        let sender = ProtocolSender {
            queue: out_tx,
            budget,
            length,
        };
        let io = ProtocolIo {
            inbox: inbox_rx,
            freed: Arc::clone(freed),
            sender,
        };
        (link, out_rx, io)
    }

    /// Hands a message to the protocol if both its bounds allow.
    pub(crate) fn deliver(&self, id: u64, bytes: Bytes) -> Delivery {
        let slot = match self.inbox.try_reserve() {
            Ok(slot) => slot,
            Err(mpsc::error::TrySendError::Full(())) => return Delivery::Full(bytes),
            Err(mpsc::error::TrySendError::Closed(())) => return Delivery::Gone,
        };
        let Some(guard) = self.inbound.try_acquire(bytes.len()) else {
            return Delivery::Full(bytes);
        };
        let held = Held {
            guard: Some(guard),
            freed: Arc::clone(&self.freed),
        };
        slot.send(Message {
            id,
            payload: InboundPayload { bytes, _held: held },
        });
        Delivery::Done
    }

    /// Ends the inbox: `recv` yields `None` after what is queued. Senders that
    /// wait for room wake up and fail.
    pub(crate) fn close(&mut self) {
        self.inbox = mpsc::channel(1).0;
        self.budget.close();
    }
}

impl Drop for ProtocolLink {
    fn drop(&mut self) {
        self.budget.close();
    }
}
