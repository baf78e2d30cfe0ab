//! The end of a server: stop listening and dialing, let every peer go with
//! "client quitting", wait for their tasks, end discovery, flush the database.

use std::time::Duration;

use super::ServerDriver;

/// Time for a peer's task beyond its own limits (2 s for the Disconnect, 5 s
/// for the protocols, both at once) before it is cut off.
const GRACE: Duration = Duration::from_secs(1);

impl ServerDriver {
    pub(super) async fn shut_down(mut self) {
        self.listener = None;
        self.candidates.stop();
        self.links.commands.close();
        self.core.shutdown();
        let polite = tercet_rlpx::DISCONNECT_TIMEOUT;
        if tokio::time::timeout(polite, self.drain()).await.is_err() {
            self.core.abandon_setups();
            let rest = self.local.timeouts.join.saturating_sub(polite) + GRACE;
            if tokio::time::timeout(rest, self.drain()).await.is_err() {
                tracing::warn!("connections did not end in time and are cut off");
            }
        }
        self.tasks.stop().await;
        if let Some(discovery) = &self.discovery {
            discovery.shutdown().await;
        }
        if let Err(error) = self.db.flush().await {
            tracing::error!(%error, "the node database could not be flushed");
        }
    }

    /// Until no connection is left. Tasks that only ask discovery are not waited
    /// for: they end with it.
    async fn drain(&mut self) {
        self.perform();
        while !self.core.is_empty() && !self.tasks.is_empty() {
            let done = self.tasks.next().await;
            self.on_done(done);
            self.perform();
        }
    }
}
