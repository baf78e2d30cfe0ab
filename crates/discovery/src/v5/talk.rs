//! Who answers the messages of other protocols (TALKREQ). The driver owns a [`TalkRegistry`], hands it every request and sends
//! what comes back; the engine knows only bytes.
//!
//! A place for the answer is reserved in the channel back to the driver before a handler starts, so an answer never waits and
//! never finds the channel full, and nothing here ever blocks the socket.
#![allow(clippy::disallowed_methods)] // part of the driver: handlers run as its tasks

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;

use bytes::Bytes;
use tercet_enode::NodeId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{TalkMessage, TalkResponse};

/// Handlers at work and answers not yet sent, as in geth. Further requests are answered empty at once.
pub const MAX_TALKS: usize = 1024;

/// Protocols registered.
pub const MAX_TALK_PROTOCOLS: usize = 64;

/// Longest answer, in bytes: the largest datagram, 1280, less mask (16), header (23), source id (32) and tag (16), less what
/// stands around the answer: type (1), list (3), request id (9), length (3).
pub const MAX_TALK_RESPONSE: usize = 1280 - (16 + 23 + 32 + 16) - (1 + 3 + 9 + 3);

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;
type Handler = Box<dyn Fn(TalkRequest) -> Work + Send + Sync>;

/// A request for a handler.
#[derive(Debug)]
pub struct TalkRequest {
    /// The address it came from.
    pub from: SocketAddr,
    /// Who asks; proven by the session.
    pub id: NodeId,
    /// The protocol.
    pub protocol: Bytes,
    /// Its message.
    pub payload: Bytes,
    /// Takes the answer. How long there is for it is the asking side's affair: geth waits 700 ms and allows its own
    /// handlers 400.
    pub responder: TalkResponder,
}

/// The answer is longer than a datagram holds; an empty one was sent in its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an answer of {found} bytes, of at most {MAX_TALK_RESPONSE}")]
pub struct TalkTooLong {
    /// Its bytes.
    pub found: usize,
}

/// Answers one request. Dropped without an answer it sends an empty one, as a request must have some answer.
pub struct TalkResponder {
    place: Option<mpsc::OwnedPermit<TalkResponse>>,
    empty: TalkResponse,
}

impl TalkResponder {
    /// Sends the answer, at most [`MAX_TALK_RESPONSE`] bytes.
    ///
    /// # Errors
    /// [`TalkTooLong`].
    pub fn respond(mut self, payload: Bytes) -> Result<(), TalkTooLong> {
        let found = payload.len();
        if found > MAX_TALK_RESPONSE {
            return Err(TalkTooLong { found });
        }
        self.empty.payload = payload;
        Ok(())
    }
}

impl Drop for TalkResponder {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            place.send(self.empty.clone());
        }
    }
}

impl fmt::Debug for TalkResponder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TalkResponder").field(&self.empty).finish()
    }
}

/// Why a protocol was not registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TalkRegisterError {
    /// It has a handler already.
    #[error("the protocol has a handler already")]
    Taken,
    /// [`MAX_TALK_PROTOCOLS`] are registered.
    #[error("{MAX_TALK_PROTOCOLS} protocols are registered already")]
    Full,
}

/// Counts since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct TalkCounters {
    /// Requests given to a handler.
    pub handled: u64,
    /// Requests for protocols nobody has registered.
    pub unknown: u64,
    /// Requests over [`MAX_TALKS`].
    pub refused: u64,
    /// Handlers that panicked.
    pub panicked: u64,
}

/// The handlers and what they are at work on. Dropping it ends them.
pub struct TalkRegistry {
    handlers: BTreeMap<Bytes, Handler>,
    work: JoinSet<()>,
    sender: mpsc::Sender<TalkResponse>,
    answers: mpsc::Receiver<TalkResponse>,
    counters: TalkCounters,
}

impl TalkRegistry {
    /// Without protocols.
    #[must_use]
    pub fn new() -> Self {
        let (sender, answers) = mpsc::channel(MAX_TALKS);
        Self {
            handlers: BTreeMap::new(),
            work: JoinSet::new(),
            sender,
            answers,
            counters: TalkCounters::default(),
        }
    }

    /// Lets `handler` answer the requests of `protocol`.
    ///
    /// # Errors
    /// The protocol is taken, or there are too many.
    pub fn register<F, W>(&mut self, protocol: Bytes, handler: F) -> Result<(), TalkRegisterError>
    where
        F: Fn(TalkRequest) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        if self.handlers.contains_key(&protocol) {
            return Err(TalkRegisterError::Taken);
        }
        if self.handlers.len() >= MAX_TALK_PROTOCOLS {
            return Err(TalkRegisterError::Full);
        }
        let handler: Handler = Box::new(move |request| Box::pin(handler(request)));
        self.handlers.insert(protocol, handler);
        Ok(())
    }

    /// Takes a protocol's handler away; requests it works on go on. `true` if there was one.
    pub fn unregister(&mut self, protocol: &[u8]) -> bool {
        self.handlers.remove(protocol).is_some()
    }

    /// Gives a request to its handler, which runs as a task of its own. What is returned is to be sent at once: the empty
    /// answer to an unknown protocol, or to a request too many. Must be called within a tokio runtime.
    pub fn dispatch(&mut self, message: TalkMessage) -> Option<TalkResponse> {
        self.tidy();
        let empty = message.answer(Bytes::new());
        let Some(handler) = self.handlers.get(&message.protocol) else {
            self.counters.unknown += 1;
            return Some(empty);
        };
        let place = match self.sender.clone().try_reserve_owned() {
            // A handler may have answered and go on; that is work in flight too.
            Ok(place) if self.work.len() < MAX_TALKS => Some(place),
            _ => {
                self.counters.refused += 1;
                return Some(empty);
            }
        };
        self.counters.handled += 1;
        self.work.spawn(handler(TalkRequest {
            from: message.from,
            id: message.id,
            protocol: message.protocol,
            payload: message.payload,
            responder: TalkResponder { place, empty },
        }));
        None
    }

    /// The next answer to send. Safe to drop and call anew.
    pub async fn next_response(&mut self) -> TalkResponse {
        loop {
            // The registry holds a sender, so the channel does not end.
            if let Some(response) = self.answers.recv().await {
                return response;
            }
        }
    }

    /// What has been counted so far.
    #[must_use]
    pub const fn counters(&self) -> TalkCounters {
        self.counters
    }

    fn tidy(&mut self) {
        while let Some(ended) = self.work.try_join_next() {
            self.counters.panicked += u64::from(ended.is_err_and(|error| error.is_panic()));
        }
    }
}

impl Default for TalkRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TalkRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TalkRegistry")
            .field("protocols", &self.handlers.keys())
            .field("at_work", &self.work.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v5::RequestId;

    const P: Bytes = Bytes::from_static(b"p");

    fn ask(registry: &mut TalkRegistry, n: u8, protocol: Bytes) -> Option<TalkResponse> {
        registry.dispatch(TalkMessage {
            from: SocketAddr::from(([127, 0, 0, 1], 4000)),
            id: NodeId::new([9; 32]),
            request: RequestId::new(&[n]).unwrap(),
            protocol,
            payload: Bytes::from_static(b"hi"),
        })
    }

    #[tokio::test]
    async fn a_handler_answers_and_a_dropped_request_is_answered_empty() {
        let mut registry = TalkRegistry::new();
        let answer = |request: TalkRequest| async move {
            request.responder.respond(request.payload).unwrap();
        };
        registry.register(P, answer).unwrap();
        assert_eq!(registry.register(P, answer), Err(TalkRegisterError::Taken));
        let drop = |_: TalkRequest| async {};
        registry
            .register(Bytes::from_static(b"drop"), drop)
            .unwrap();
        let long = |request: TalkRequest| async move {
            let found = MAX_TALK_RESPONSE + 1;
            let sent = request.responder.respond(vec![0; found].into());
            assert_eq!(sent, Err(TalkTooLong { found }));
        };
        registry
            .register(Bytes::from_static(b"long"), long)
            .unwrap();
        let panics = |_: TalkRequest| async { panic!("a handler's own fault") };
        registry
            .register(Bytes::from_static(b"bad"), panics)
            .unwrap();
        for (protocol, payload) in [("p", "hi"), ("drop", ""), ("long", ""), ("bad", "")] {
            let at_once = ask(&mut registry, 3, Bytes::from_static(protocol.as_bytes()));
            assert_eq!(at_once, None);
            let response = registry.next_response().await;
            assert_eq!(response.payload, payload.as_bytes(), "{protocol}");
            assert_eq!(response.request.as_bytes(), [3]);
            assert_eq!(response.to.port(), 4000);
        }
    }

    #[tokio::test]
    async fn unknown_protocols_are_answered_at_once() {
        let mut registry = TalkRegistry::new();
        assert!(ask(&mut registry, 1, P).unwrap().payload.is_empty());
        registry.register(P, |_| async {}).unwrap();
        assert!(registry.unregister(b"p") && !registry.unregister(b"p"));
        assert!(ask(&mut registry, 1, P).is_some());
        assert_eq!(registry.counters().unknown, 2);
    }

    #[tokio::test]
    async fn work_and_protocols_are_bounded() {
        let mut registry = TalkRegistry::new();
        let held = |request: TalkRequest| async move {
            let _held = request;
            std::future::pending::<()>().await;
        };
        registry.register(P, held).unwrap();
        for _ in 0..MAX_TALKS {
            assert_eq!(ask(&mut registry, 1, P), None);
        }
        assert!(ask(&mut registry, 2, P).unwrap().payload.is_empty());
        assert_eq!(registry.counters().refused, 1);
        // Ended without an answer, each is answered all the same: there is room for every one.
        registry.work.shutdown().await;
        for _ in 0..MAX_TALKS {
            assert!(registry.next_response().await.payload.is_empty());
        }
        assert_eq!(ask(&mut registry, 1, P), None);
        for n in 1..MAX_TALK_PROTOCOLS {
            registry.register(vec![0; n].into(), |_| async {}).unwrap();
        }
        let more = registry.register(Bytes::new(), |_| async {});
        assert_eq!(more, Err(TalkRegisterError::Full));
    }
}
