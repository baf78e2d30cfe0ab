//! A thread that reads beside the driver. It has a socket of its own on the same port, to which the system gives what arrives on the
//! second core. What can be done at once it does itself, from the datagram to its answer, so that neither has to cross to the other
//! core; on cores that are far from each other that takes longer than the work. What blocks or is shared is left to the driver.
//!
//! A sender's datagrams keep their order as long as they arrive on one core, as network cards see to.
#![allow(clippy::disallowed_methods)] // a driver's part: it starts a thread, and joins it when it is dropped

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio_util::sync::{CancellationToken, DropGuard};

use super::hand::Hand;
use super::turn::Shared;
use crate::socket::Cores;

/// See the module's documentation. Dropping it ends the thread, when it has sent what it had to send.
pub(crate) struct Beside {
    thread: Option<JoinHandle<()>>,
    /// Dropped before the thread is waited for.
    stop: Option<DropGuard>,
}

impl Beside {
    /// Starts the thread, if there is a core for it and the system lets two sockets share a port. `service` is cancelled if it panics.
    pub(crate) fn start(
        hand: &mut Hand,
        shared: &Arc<Shared>,
        service: &CancellationToken,
    ) -> Option<Self> {
        let cores = Cores::available()?;
        match Self::on(cores, hand, shared, service) {
            Ok(beside) => Some(beside),
            Err(error) => {
                tracing::debug!(%error, "no second reader");
                hand.alone();
                None
            }
        }
    }

    fn on(
        cores: Cores,
        hand: &mut Hand,
        shared: &Arc<Shared>,
        service: &CancellationToken,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let mut hand = {
            let _entered = runtime.enter();
            hand.beside(cores)?
        };
        let (shared, stop) = (Arc::clone(shared), CancellationToken::new());
        let (stopped, panicked) = (stop.clone(), service.clone().drop_guard());
        let thread = std::thread::Builder::new().name("discovery-read".to_owned());
        let thread = thread.spawn(move || {
            let panicked = panicked;
            runtime.block_on(read(&shared, &mut hand, &stopped));
            panicked.disarm();
        })?;
        Ok(Self {
            thread: Some(thread),
            stop: Some(stop.drop_guard()),
        })
    }
}

/// What the thread does.
async fn read(shared: &Shared, hand: &mut Hand, stop: &CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = hand.sent() => {} // counted below
            ready = hand.readable() => match ready {
                Ok(()) => {
                    let _ = shared.read(hand);
                }
                Err(error) => hand.failed(&error),
            },
        }
        hand.flush();
        if shared.publish(hand) {
            shared.left.notify_one();
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = shared.room() => {}
        }
    }
    hand.close();
    shared.publish(hand);
}

impl Drop for Beside {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if ended.is_some_and(|ended| ended.is_err()) {
            tracing::warn!("the thread that reads beside the driver panicked");
        }
    }
}
