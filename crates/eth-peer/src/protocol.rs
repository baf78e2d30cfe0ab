//! A version of eth as a protocol of the server, and the task of one session.
//! The session machine decides; this task moves messages between it, the
//! server's peer, the pool and the gossip task.
//!
//! Nothing here waits inside a branch: what is to be sent, and what the gossip
//! is to be told, stands in short queues with branches of their own, and while
//! these are full no further message of the peer is taken. Serving and checking
//! transactions are done in the task, a few at a time.

use crate::fork_id::{decode_record_entry, encode_record_entry};
use crate::gossip::{Gossip, GossipInput, Received, Verdict};
use crate::limits::{MAX_MESSAGE_SIZE, MAX_OUTSTANDING_REPLIES};
use crate::network::{Command, EthEvent, SESSION_CHANNEL, SessionLink, Shared, count};
use crate::peerset::{AnswerTo, EthPeer};
use crate::pool::PoolError;
use crate::session::{Ask, RequestError, SessionCore, SessionError, SessionInput, SessionOutput};
use crate::wire::{Announcements, BlockRange, EthVersion, Status, WireTransaction};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use tercet_enode::{NodeId, NodeRecord};
use tercet_machine::Machine;
use tercet_server::{
    Capability, Message, Payload, Peer, Protocol, ProtocolError, ProtocolFuture, ProtocolIo,
    ProtocolSender,
};
use tokio::sync::mpsc;

/// Key of our entry in node records.
const RECORD_KEY: &[u8] = b"eth";

/// Transactions checked before other work gets a turn, some 40 µs each.
const CHECKED_AT_ONCE: usize = 16;

/// Requests of the application that wait for a session.
const ASKS: usize = 16;

/// One version of eth.
pub(crate) struct EthProtocol {
    version: EthVersion,
    capability: Capability,
    shared: Arc<Shared>,
}

impl EthProtocol {
    pub(crate) fn new(version: EthVersion, shared: Arc<Shared>) -> Option<Self> {
        let capability = Capability::new("eth", version.number()).ok()?;
        Some(EthProtocol {
            version,
            capability,
            shared,
        })
    }
}

impl Protocol for EthProtocol {
    fn capability(&self) -> Capability {
        self.capability
    }

    fn length(&self) -> u64 {
        self.version.length()
    }

    fn max_message_len(&self) -> usize {
        MAX_MESSAGE_SIZE
    }

    fn record_entries(&self) -> Vec<(Vec<u8>, Bytes)> {
        let entry = encode_record_entry(self.shared.chain.fork_id());
        vec![(RECORD_KEY.to_vec(), entry.into())]
    }

    /// Nodes whose record has no `eth` entry are not candidates. The filter
    /// reads the chain's head at each call.
    fn accepts_candidate(&self, record: &NodeRecord) -> bool {
        let Some(value) = record.get_raw(RECORD_KEY) else {
            return false;
        };
        let chain = &self.shared.chain;
        decode_record_entry(value).is_ok_and(|fork_id| {
            chain
                .forks()
                .validate(chain.head().fork_point(), fork_id)
                .is_ok()
        })
    }

    fn run(self: Arc<Self>, peer: Peer, io: ProtocolIo) -> ProtocolFuture {
        Box::pin(run_session(
            self.version,
            Arc::clone(&self.shared),
            peer,
            io,
        ))
    }
}

impl From<&SessionError> for ProtocolError {
    fn from(error: &SessionError) -> Self {
        let end = if error.is_breach() {
            ProtocolError::breach(error.reason())
        } else {
            ProtocolError::new(error.reason())
        };
        end.with_cause(error.clone())
    }
}

/// What a request of ours is for.
enum Token {
    /// The fetcher's request with this number.
    Fetch(u64),
    /// The application's.
    Application(AnswerTo),
}

/// A message of transactions on its way through the pool.
struct Batch {
    left: VecDeque<WireTransaction>,
    done: Vec<Received>,
    answer: Option<u64>,
}

/// Tells the gossip task that the session ended, however it does.
struct Departure {
    place: Option<mpsc::OwnedPermit<Command>>,
    id: NodeId,
}

impl Drop for Departure {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            place.send(Command::Left(self.id));
        }
    }
}

/// A message to be sent, and whether the gossip waits to hear that it was.
struct Outgoing {
    id: u64,
    payload: Payload,
    is_gossip: bool,
}

struct Session {
    core: SessionCore<Token>,
    version: EthVersion,
    shared: Arc<Shared>,
    peer: Peer,
    told: BlockRange,
    out: VecDeque<Outgoing>,
    to_gossip: VecDeque<Command>,
    batch: Option<Batch>,
    links: Option<Links>,
}

/// The ends given to the gossip task once Status is agreed.
struct Links {
    gossip: mpsc::Sender<Gossip>,
    asks: mpsc::Sender<(Ask, AnswerTo)>,
}

async fn run_session(
    version: EthVersion,
    shared: Arc<Shared>,
    peer: Peer,
    mut io: ProtocolIo,
) -> Result<(), ProtocolError> {
    let (gossip, mut from_gossip) = mpsc::channel(SESSION_CHANNEL);
    let (asks, mut asked) = mpsc::channel(ASKS);
    // The place for the last word comes first, so that it can be said without
    // waiting. Without one the gossip task has ended.
    let commands = shared.commands.clone();
    let Ok(place) = commands.clone().reserve_owned().await else {
        return Ok(());
    };
    let _departure = Departure {
        place: Some(place),
        id: peer.id(),
    };

    let now = shared.clock.now();
    let chain = Arc::clone(&shared.chain);
    let core = SessionCore::new(now, version, shared.network_id, chain, shared.hash_state);
    let mut session = Session {
        core,
        version,
        told: shared.chain.range(),
        peer,
        out: VecDeque::new(),
        to_gossip: VecDeque::new(),
        batch: None,
        links: Some(Links { gossip, asks }),
        shared,
    };
    let sender = io.sender().clone();
    loop {
        if let Err(error) = session.drain() {
            session.send_what_fits(&sender);
            return Err(ProtocolError::from(&error));
        }
        let clock = session.shared.clock;
        let deadline = session.core.deadline().map(|at| clock.instant(at).into());
        let sleep = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let (may_receive, has_batch) = (session.may_receive(), session.batch.is_some());
        let next = session
            .out
            .front()
            .map(|next| (next.id, next.payload.clone()));
        let is_idle = next.is_none();
        let send = async {
            match next {
                Some((id, payload)) => sender.send(id, payload).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = io.recv(), if may_receive => match message {
                Some(message) => session.on_message(message),
                None => return Ok(()),
            },
            sent = send => match sent {
                Ok(()) => session.on_sent(),
                // The connection has ended; the server knows.
                Err(_) => return Ok(()),
            },
            room = commands.reserve(), if !session.to_gossip.is_empty() => match room {
                Ok(room) => if let Some(command) = session.to_gossip.pop_front() {
                    room.send(command);
                },
                Err(_) => return Ok(()),
            },
            gossip = from_gossip.recv(), if is_idle => match gossip {
                Some(gossip) => session.on_gossip(gossip),
                // The gossip task has ended.
                None => return Ok(()),
            },
            ask = asked.recv() => match ask {
                Some((ask, answer_to)) => session.ask(ask, Token::Application(answer_to)),
                None => return Ok(()),
            },
            () = tokio::task::yield_now(), if has_batch => session.check_some(),
            () = sleep => session.core.handle_timeout(clock.now()),
        }
    }
}

impl Session {
    /// Whether another message of the peer can be worked on.
    fn may_receive(&self) -> bool {
        self.batch.is_none()
            && self.to_gossip.is_empty()
            && self.out.len() < MAX_OUTSTANDING_REPLIES
    }

    fn on_message(&mut self, message: Message) {
        let Message { id, payload } = message;
        // The decoded message owns what it keeps, except slices of block
        // replies, which their requester holds.
        let payload = payload.bytes().clone();
        self.core.handle(
            self.shared.clock.now(),
            SessionInput::Message { id, payload },
        );
    }

    fn ask(&mut self, ask: Ask, token: Token) {
        self.core
            .handle(self.shared.clock.now(), SessionInput::Ask { ask, token });
    }

    fn on_sent(&mut self) {
        if self.out.pop_front().is_some_and(|sent| sent.is_gossip) {
            self.tell(GossipInput::Passed(self.peer.id()));
        }
    }

    fn on_gossip(&mut self, gossip: Gossip) {
        match gossip {
            Gossip::Message { message, payload } => {
                self.out.push_back(Outgoing {
                    id: message.id(),
                    payload,
                    is_gossip: true,
                });
            }
            Gossip::Fetch { number, hashes } => {
                self.ask(Ask::PooledTransactions(hashes), Token::Fetch(number));
                self.tell(GossipInput::Passed(self.peer.id()));
            }
        }
    }

    fn tell(&mut self, input: GossipInput) {
        self.to_gossip.push_back(Command::Gossip(input));
    }

    /// Carries out what the machine wants.
    fn drain(&mut self) -> Result<(), SessionError> {
        while let Some(output) = self.core.poll() {
            match output {
                SessionOutput::Send { message, payload } => {
                    let payload = payload.into();
                    self.out.push_back(Outgoing {
                        id: message.id(),
                        payload,
                        is_gossip: false,
                    });
                }
                SessionOutput::Agreed(status) => self.on_agreed(status),
                SessionOutput::Serve(query) => {
                    let (chain, pool) = (&*self.shared.chain, &*self.shared.pool);
                    let (message, payload) = query.answer(self.version, chain, pool);
                    let payload = payload.into();
                    self.out.push_back(Outgoing {
                        id: message.id(),
                        payload,
                        is_gossip: false,
                    });
                    count(&self.shared.counters.served, 1);
                }
                SessionOutput::Transactions(transactions) => self.begin(transactions, None),
                SessionOutput::Pooled {
                    token,
                    transactions,
                } => {
                    if let Token::Fetch(number) = token {
                        self.begin(transactions, Some(number));
                    }
                }
                SessionOutput::Answer { token, reply } => {
                    if let Token::Application(answer_to) = token {
                        // The asker may have gone.
                        let _ = answer_to.send(Ok(reply));
                    }
                }
                SessionOutput::Failed { token, busy } => self.on_failed(token, busy),
                SessionOutput::Announced(announced) => self.on_announced(announced),
                SessionOutput::Range(range) => {
                    let peer = self.peer.id();
                    self.to_gossip.push_back(Command::Range { peer, range });
                }
                SessionOutput::Close(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn on_agreed(&mut self, status: Status) {
        tracing::debug!(peer = %self.peer.id(), version = %self.version, "Status agreed");
        let Some(Links { gossip, asks }) = self.links.take() else {
            return;
        };
        let peer = Box::new(EthPeer::new(self.peer.id(), self.version, status, asks));
        let link = SessionLink {
            gossip,
            peer: self.peer.clone(),
        };
        self.to_gossip.push_back(Command::Joined {
            peer,
            link,
            told: self.told,
        });
    }

    fn on_failed(&mut self, token: Token, busy: bool) {
        match token {
            Token::Application(answer_to) => {
                let error = if busy {
                    RequestError::Busy
                } else {
                    RequestError::Timeout
                };
                let _ = answer_to.send(Err(error));
            }
            // The fetcher has a timeout of its own.
            Token::Fetch(number) if busy => {
                self.tell(GossipInput::Unasked {
                    peer: self.peer.id(),
                    number,
                });
            }
            Token::Fetch(_) => {}
        }
    }

    fn on_announced(&mut self, announced: Announcements) {
        let Announcements {
            entries: all,
            ignored,
        } = announced;
        let counters = &self.shared.counters;
        count(&counters.announced, (all.len() + ignored) as u64);
        count(&counters.cut_announcements, ignored as u64);
        let pool = &self.shared.pool;
        let unknown = all
            .iter()
            .filter(|entry| !pool.contains(&entry.hash))
            .copied()
            .collect();
        self.tell(GossipInput::Announced {
            peer: self.peer.id(),
            all,
            unknown,
        });
    }

    fn begin(&mut self, transactions: Vec<WireTransaction>, answer: Option<u64>) {
        count(&self.shared.counters.txs_seen, transactions.len() as u64);
        let done = Vec::with_capacity(transactions.len());
        self.batch = Some(Batch {
            left: transactions.into(),
            done,
            answer,
        });
    }

    /// Takes some transactions of the batch through the pool.
    fn check_some(&mut self) {
        let Some(mut batch) = self.batch.take() else {
            return;
        };
        for _ in 0..CHECKED_AT_ONCE {
            let Some(tx) = batch.left.pop_front() else {
                break;
            };
            let entry = tx.announcement();
            let verdict = self.check(tx);
            batch.done.push(Received { entry, verdict });
        }
        if batch.left.is_empty() {
            let peer = self.peer.id();
            let Batch {
                done: transactions,
                answer,
                ..
            } = batch;
            self.tell(GossipInput::Received {
                peer,
                transactions,
                answer,
            });
        } else {
            self.batch = Some(batch);
        }
    }

    fn check(&self, tx: WireTransaction) -> Verdict {
        let (hash, from) = (tx.hash(), self.peer.id());
        let Shared {
            pool,
            counters,
            events,
            ..
        } = &*self.shared;
        let (verdict, counter, event) = match pool.add(tx) {
            Ok(added) => {
                let event = EthEvent::TransactionAdded {
                    hash,
                    from: Some(from),
                };
                (Verdict::Added(added), &counters.added, event)
            }
            Err(PoolError::AlreadyKnown) => {
                let event = EthEvent::DuplicateTransaction { hash, from };
                (Verdict::Duplicate, &counters.duplicates, event)
            }
            Err(reason) => {
                tracing::debug!(peer = %from, %hash, %reason, "transaction refused");
                let event = EthEvent::TransactionRefused { hash, from, reason };
                (Verdict::Refused, &counters.refused, event)
            }
        };
        count(counter, 1);
        // Nobody may be listening.
        let _ = events.send(event);
        verdict
    }

    /// Hands over what is still to be sent without waiting, so that a peer that
    /// is about to be disconnected gets our Status before the reason.
    fn send_what_fits(&mut self, sender: &ProtocolSender) {
        while let Some(Outgoing { id, payload, .. }) = self.out.pop_front() {
            if sender.try_send(id, payload).is_err() {
                return;
            }
        }
    }
}
