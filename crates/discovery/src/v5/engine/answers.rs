//! What this node answers to others.

use std::net::SocketAddr;

use rand::seq::SliceRandom;
use tercet_enode::{Endpoint, Node, NodeId, NodeRecord, check_relay};

use super::{V5Engine, names};
use crate::engine::Report;
use crate::kad::{BUCKET_SIZE, Table};
use crate::v5::{Distances, Request, RequestId, Response, TalkMessage, V5Peer, pack_nodes};

impl V5Engine {
    pub(super) fn on_request(
        &mut self,
        table: &Table,
        (from, id): (SocketAddr, NodeId),
        request: RequestId,
        ask: Request,
    ) {
        match ask {
            Request::Ping { enr_seq } => {
                let pong = Response::Pong {
                    enr_seq: self.record.seq(),
                    recipient: from,
                };
                self.respond(from, id, request, pong);
                self.on_ping(table, (from, id), enr_seq);
            }
            Request::FindNode { distances } => {
                let records = self.records_at(table, (from, id), &distances);
                for message in pack_nodes(request, records) {
                    self.send(from, V5Peer { id, key: None }, message);
                }
            }
            Request::Talk { protocol, payload } => self.report(Report::TalkRequest(TalkMessage {
                from,
                id,
                request,
                protocol,
                payload,
            })),
        }
    }

    fn on_ping(&mut self, table: &Table, (from, id): (SocketAddr, NodeId), enr_seq: u64) {
        // The database's pings are discv4's, where they say that the node holds a proof of our endpoint; this says no such thing.
        let Some(node) = table.get(&id).cloned() else {
            self.on_homeless_ping(table, (from, id), enr_seq);
            return;
        };
        if node.endpoint().udp_addr() != from {
            return;
        }
        self.on_heard(table, from, id);
        if enr_seq > node.seq() {
            let seq = enr_seq;
            self.report(Report::Newer { node, seq });
        }
    }

    /// A node without a place in the table says which number its record has: a newer one may name an endpoint. It is asked for
    /// where the ping came from, which a session has proven.
    fn on_homeless_ping(&mut self, table: &Table, (from, id): (SocketAddr, NodeId), seq: u64) {
        if let Some(known) = self.homeless.get(&id)
            && seq > known.seq
            && table.known(&id).is_none()
        {
            let node = Node::new(known.key, Endpoint::new(from.ip(), from.port(), 0));
            self.report(Report::Newer { node, seq });
        }
    }

    /// Records for a FINDNODE, at most 16: from each distance one in turn, so that a full bucket does not push out the rest;
    /// which ones of a bucket is drawn anew each time. Only of live nodes, where they were found alive.
    fn records_at(
        &mut self,
        table: &Table,
        (from, id): (SocketAddr, NodeId),
        distances: &Distances,
    ) -> Vec<NodeRecord> {
        let asked = distances.as_slice();
        let mut candidates: Vec<(usize, &Node)> = table
            .at_distances(asked)
            .filter(|(_, node)| {
                node.id() != id && check_relay(from.ip(), node.endpoint().ip).is_ok()
            })
            .filter_map(|(distance, node)| {
                let place = asked.iter().position(|asked| *asked == distance)?;
                Some((place, node))
            })
            .collect();
        candidates.shuffle(&mut self.rng);
        // Each gets its turn in its bucket; a stable sort by turn deals them out.
        let mut taken = vec![0_usize; asked.len()];
        for (place, _) in &mut candidates {
            if let Some(count) = taken.get_mut(*place) {
                *count += 1;
                *place = *count;
            }
        }
        candidates.sort_by_key(|(turn, _)| *turn);
        // Read last, as a record's endpoint is what takes time here.
        let records = candidates.into_iter().filter_map(|(_, node)| {
            let record = node.record()?;
            names(record, node.endpoint().udp_addr()).then(|| record.clone())
        });
        let own = asked.contains(&0).then(|| self.record.clone());
        own.into_iter().chain(records).take(BUCKET_SIZE).collect()
    }
}
