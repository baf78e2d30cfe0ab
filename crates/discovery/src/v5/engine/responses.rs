//! What others answer to this node.

use std::net::{IpAddr, SocketAddr};

use tercet_enode::{Node, NodeId, NodeRecord};
use tercet_machine::Now;
use tercet_nodedb::Write;

use super::pending::{Asked, Gathering, Key, Pending};
use super::{Drop, V5Engine, canonical};
use crate::engine::{PongInfo, Report, RequestError};
use crate::kad::Table;
use crate::policy::Policy;
use crate::v5::{MessageKind, Response};

/// An answer in several messages is waited for anew at each, but never longer than this many times the timeout: a node
/// that lets them drip holds nobody up.
const MAX_WAITS: u32 = 3;

impl V5Engine {
    /// Whether this is a response to a request under way, from where it was asked.
    pub(super) fn expects<R>(
        &self,
        from: SocketAddr,
        key: Key,
        answer: &Response<R>,
    ) -> Result<(), Drop> {
        let pending = self.requests.get(&key).ok_or(Drop::Unsolicited)?;
        let kind = match answer {
            Response::Pong { .. } => MessageKind::Pong,
            Response::Nodes { .. } => MessageKind::Nodes,
            Response::Talk { .. } => MessageKind::TalkResponse,
        };
        if pending.to != from {
            Err(Drop::WrongAddress)
        } else if pending.asked.answered_by() != kind {
            Err(Drop::WrongKind)
        } else {
            Ok(())
        }
    }

    /// A response that is expected.
    pub(super) fn on_response(&mut self, now: Now, table: &Table, key: Key, answer: Response) {
        if let Response::Nodes { total, records } = answer {
            self.on_nodes(now, key, total, records);
            return;
        }
        let Some(pending) = self.requests.close(&key) else {
            return;
        };
        match answer {
            Response::Pong { enr_seq, recipient } => {
                self.on_pong(now, table, pending, enr_seq, canonical(recipient));
            }
            Response::Talk { payload } => self.report(Report::Talk {
                asker: pending.asker,
                payload,
            }),
            Response::Nodes { .. } => {}
        }
    }

    /// Nobody has answered in time. Part of an answer is one too.
    pub(super) fn on_silence(&mut self, pending: Pending) {
        let Pending {
            node, asker, asked, ..
        } = pending;
        match asked {
            Asked::Nodes(gathering) if gathering.begun => self.report(Report::Nodes {
                asker,
                from: node.id(),
                nodes: Vec::new(),
                last: true,
            }),
            _ => {
                self.counters.timeouts += 1;
                let error = RequestError::Timeout;
                self.report(Report::Failed { asker, node, error });
            }
        }
    }

    /// The pong came from where this node sent its ping, so the endpoint is proven and its vote counts.
    fn on_pong(
        &mut self,
        now: Now,
        table: &Table,
        pending: Pending,
        enr_seq: u64,
        seen_as: SocketAddr,
    ) {
        let (node, asker) = (pending.node, pending.asker);
        let (id, ip, at) = (node.id(), pending.to.ip(), now.unix);
        let usable = seen_as.port() != 0 && !seen_as.ip().is_unspecified();
        let info = PongInfo {
            rtt: now.mono - pending.sent,
            enr_seq: Some(enr_seq),
            seen_as: usable.then_some(seen_as),
        };
        let held = table.get(&id).map_or(0, Node::seq).max(node.seq());
        self.write(Write::Pong { id, ip, at });
        if usable {
            self.report(Report::Vote { voter: ip, seen_as });
        }
        self.report(Report::Alive(node.clone()));
        self.report(Report::Pong {
            asker,
            node: node.clone(),
            info,
        });
        if enr_seq > held {
            let seq = enr_seq;
            self.report(Report::Newer { node, seq });
        }
    }

    fn on_nodes(&mut self, now: Now, key: Key, total: u64, records: Vec<NodeRecord>) {
        let Some(pending) = self.requests.get_mut(&key) else {
            return;
        };
        let Asked::Nodes(gathering) = &mut pending.asked else {
            if let Some(pending) = self.requests.close(&key) {
                self.on_record(pending, records);
            }
            return;
        };
        if !std::mem::replace(&mut gathering.begun, true) {
            let total = usize::try_from(total).unwrap_or(usize::MAX);
            gathering.packets = gathering.packets.min(total);
        }
        gathering.packets = gathering.packets.saturating_sub(1);
        let named = records.len();
        let taken: Vec<_> = records.into_iter().take(gathering.records).collect();
        let surplus = named - taken.len();
        gathering.records -= taken.len();
        let last = gathering.packets == 0 || gathering.records == 0;
        let (id, ip, asker) = (pending.node.id(), pending.to.ip(), pending.asker);
        let believed = taken.len();
        let nodes = gathering.believed(&self.policy, (id, ip), taken);
        let refused = believed - nodes.len();
        let latest = pending.sent + self.reply_timeout * MAX_WAITS;
        self.counters.surplus_records += u64::try_from(surplus).unwrap_or(u64::MAX);
        self.counters.refused_records += u64::try_from(refused).unwrap_or(u64::MAX);
        if last {
            self.requests.close(&key);
        } else {
            let deadline = now.mono + self.reply_timeout;
            self.requests.extend(key, deadline.min(latest));
        }
        self.report(Report::Nodes {
            asker,
            from: id,
            nodes,
            last,
        });
    }

    /// The answer to a question for a node's own record: exactly that.
    fn on_record(&mut self, pending: Pending, records: Vec<NodeRecord>) {
        let Pending {
            node, asker, to, ..
        } = pending;
        let record = match <[NodeRecord; 1]>::try_from(records) {
            Ok([record]) if record.id() == node.id() => record,
            _ => {
                let error = RequestError::WrongRecord;
                self.report(Report::Failed { asker, node, error });
                return;
            }
        };
        // A record says whatever its owner likes: its endpoint is believed only as far as a relayed one.
        let node = match self.policy.node(record.clone()) {
            Some(fresh) if self.policy.is_relayable(to.ip(), &fresh) => {
                self.homeless.on_settled(&node.id());
                fresh
            }
            _ => {
                if self.homeless.get(&node.id()).is_some() {
                    self.homeless.on_homeless(&record);
                }
                node.clone().with_record(record.clone()).unwrap_or(node)
            }
        };
        self.report(Report::Record {
            asker,
            node,
            record,
        });
    }
}

impl Gathering {
    /// The nodes among `records` that `id`, at `ip`, may name.
    fn believed(
        &mut self,
        policy: &Policy,
        (id, ip): (NodeId, IpAddr),
        records: Vec<NodeRecord>,
    ) -> Vec<Node> {
        let asked = self.distances.as_slice();
        records
            .into_iter()
            .filter(|record| asked.contains(&id.log_distance(&record.id())))
            .filter_map(|record| policy.node(record))
            .filter(|node| policy.is_relayable(ip, node))
            .filter(|node| self.seen.insert(node.id()))
            .collect()
    }
}
