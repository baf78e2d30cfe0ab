//! Commands from the handles, each with the place for its answer.

use tercet_enode::{NodeAddress, NodeId};
use tercet_rlpx::DisconnectReason;
use tokio::sync::oneshot;

use super::{Held, ServerDriver};
use crate::error::CommandError;

/// What a handle can ask for.
#[derive(Debug)]
pub(crate) enum Order {
    AddStatic(Box<NodeAddress>),
    RemoveStatic(NodeId),
    AddTrusted(NodeId),
    RemoveTrusted(NodeId),
    Disconnect(NodeId, DisconnectReason),
}

/// An order with the place for its answer.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) order: Order,
    pub(crate) answer: oneshot::Sender<Result<(), CommandError>>,
}

impl ServerDriver {
    pub(super) fn on_command(&mut self, command: Command) {
        let now = self.now();
        let result = match command.order {
            Order::AddStatic(address) => self.core.add_static(now, *address),
            Order::RemoveStatic(id) => known(self.core.remove_static(&id)),
            Order::AddTrusted(id) => self.core.add_trusted(id),
            Order::RemoveTrusted(id) => known(self.core.remove_trusted(&id)),
            Order::Disconnect(id, reason) => known(self.core.disconnect(&id, reason)),
        };
        self.mark_peers();
        self.peers_changed = true;
        self.perform();
        // The caller may have given up waiting.
        let _ = command.answer.send(result);
    }

    /// Brings the handles of the peers up to date with the sets.
    fn mark_peers(&self) {
        for held in self.conns.values() {
            if let Held::Peer(peer) = held {
                peer.set_trusted(self.core.is_trusted(&peer.id()));
                peer.set_static(self.core.is_static(&peer.id()));
            }
        }
    }
}

fn known(found: bool) -> Result<(), CommandError> {
    if found {
        Ok(())
    } else {
        Err(CommandError::Unknown)
    }
}
