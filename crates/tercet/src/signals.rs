//! Ctrl-C and SIGTERM, which end a command the same way: cleanly.

use std::io;

/// Listens from its making on, so that a signal between two awaits is not lost.
#[cfg(unix)]
#[derive(Debug)]
pub(crate) struct Interrupt {
    sigint: tokio::signal::unix::Signal,
    sigterm: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Interrupt {
    pub(crate) fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            sigint: signal(SignalKind::interrupt())?,
            sigterm: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for either signal.
    pub(crate) async fn recv(&mut self) {
        tokio::select! {
            _signal = self.sigint.recv() => {}
            _signal = self.sigterm.recv() => {}
        }
    }
}

/// Elsewhere there is only Ctrl-C.
#[cfg(not(unix))]
#[derive(Debug)]
pub(crate) struct Interrupt;

#[cfg(not(unix))]
impl Interrupt {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    /// Waits for Ctrl-C.
    pub(crate) async fn recv(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a handler Ctrl-C ends the process by itself.
            std::future::pending::<()>().await;
        }
    }
}
