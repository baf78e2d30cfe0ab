//! What a completed handshake says about a node.

use std::net::SocketAddr;

use tercet_enode::{Endpoint, NodeId, NodeRecord};

use super::{V5Engine, canonical, names};
use crate::engine::Report;
use crate::kad::{Proof, Table};

impl V5Engine {
    /// A handshake with `id` at `from` was completed. `record` is the node's own, verified, if the handshake held one.
    ///
    /// A handshake is a round trip, so whoever names the address he comes from has proven it; what another address in his
    /// record is worth is only his word. A node without endpoint has a session and nothing more.
    pub(crate) fn handle_session(
        &mut self,
        table: &Table,
        from: SocketAddr,
        id: NodeId,
        record: Option<NodeRecord>,
        inbound: bool,
    ) {
        let from = canonical(from);
        if id == self.record.id() || !self.policy.permits(from.ip()) {
            return;
        }
        if inbound {
            self.report(Report::Unsolicited { from });
        }
        match record.filter(|record| record.id() == id) {
            Some(record) => self.on_own_record(from, record),
            None => self.on_heard(table, from, id),
        }
    }

    /// A node known at this address has come from there.
    pub(super) fn on_heard(&mut self, table: &Table, from: SocketAddr, id: NodeId) {
        if let Some(node) = table.get(&id)
            && node.endpoint().udp_addr() == from
        {
            let proof = Proof::Contact;
            let node = node.clone();
            self.report(Report::Heard { node, proof });
        }
    }

    fn on_own_record(&mut self, from: SocketAddr, record: NodeRecord) {
        let tcp = if from.is_ipv4() {
            record.tcp4()
        } else {
            record.tcp6().or(record.tcp4())
        };
        let is_named = names(&record, from);
        let Some(node) = self.policy.node(record.clone()) else {
            self.homeless.on_homeless(&record);
            return;
        };
        if is_named {
            let here = Endpoint::new(from.ip(), from.port(), tcp.unwrap_or(0));
            let (node, proof) = (node.with_endpoint(here), Proof::Contact);
            self.report(Report::Heard { node, proof });
        } else if self.policy.is_relayable(from.ip(), &node) {
            let proof = Proof::Hearsay;
            self.report(Report::Heard { node, proof });
        } else {
            self.homeless.on_homeless(&record);
        }
    }
}
