//! One contact with a node over discv4: how far it is, and how much of an answer has come.

use std::time::Duration;

use tercet_discovery::Target;
use tercet_discovery::v4::{MAX_NEIGHBORS_PER_PACKET, PacketHash};
use tercet_enode::{Node, NodeId, NodeRecord};
use tercet_machine::MonoTime;

use crate::crawl::io::{Extent, FULL, Question};

/// Most nodes in the last packet of a full answer; a packet of more that is not full is an answer by itself.
const REST: usize = FULL - MAX_NEIGHBORS_PER_PACKET;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its Pong is waited for.
    Ping,
    /// Its Ping is waited for.
    Greeting,
    /// Its answers are.
    Asked,
}

/// How far it is with the node's own record.
#[derive(Debug)]
pub(super) enum OwnRecord {
    /// Not to be asked for.
    Unwanted,
    /// Wanted; once asked for, the hash of the question.
    Wanted(Option<PacketHash>),
    Here(NodeRecord),
}

#[derive(Debug)]
pub(super) struct Contact {
    pub(super) serial: u64,
    pub(super) target: Target,
    pub(super) patience: Duration,
    pub(super) stage: Stage,
    /// The hash of the Ping under way, once it is signed.
    pub(super) ping: Option<PacketHash>,
    pub(super) sent: MonoTime,
    pub(super) rtt: Option<Duration>,
    /// It has pinged us and was answered, so it holds a proof or is about to.
    pub(super) greeted: bool,
    pub(super) record: OwnRecord,
    pub(super) answer: Answer,
    /// Until when a packet that may have been overtaken is waited for.
    pub(super) linger: Option<MonoTime>,
    /// What was missing has been asked for once more.
    pub(super) repeated: bool,
}

impl Contact {
    pub(super) fn new(now: MonoTime, question: &Question, target: Target, record: bool) -> Self {
        Self {
            serial: question.serial,
            target,
            patience: question.patience,
            stage: Stage::Ping,
            ping: None,
            sent: now,
            rtt: None,
            greeted: false,
            record: if record {
                OwnRecord::Wanted(None)
            } else {
                OwnRecord::Unwanted
            },
            answer: Answer::default(),
            linger: None,
            repeated: false,
        }
    }

    pub(super) fn wants_record(&self) -> bool {
        matches!(self.record, OwnRecord::Wanted(_))
    }

    /// Nothing that was asked for is missing.
    pub(super) fn is_whole(&self) -> bool {
        !self.wants_record() && self.answer.extent() != Extent::Part
    }

    /// Not one of the questions was answered: the node may hold no proof of ours.
    pub(super) fn is_unheard(&self) -> bool {
        self.answer.is_empty() && !matches!(self.record, OwnRecord::Here(_))
    }
}

/// The neighbours that were named.
///
/// Their packets carry no number, and say neither how many there are nor which question they answer. What is known is that a full
/// answer has [`FULL`] nodes, and that all packets but the last are full.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) named: Vec<Node>,
    /// All in the packets, those not believed among them.
    seen: Vec<NodeId>,
    /// Packets that were full, and that were not.
    full: u8,
    last: u8,
}

impl Answer {
    /// Takes a packet; returns how many in it are left out.
    pub(super) fn take(
        &mut self,
        nodes: impl ExactSizeIterator<Item = Node>,
        believes: impl Fn(&Node) -> bool,
    ) -> usize {
        let packets = if nodes.len() < MAX_NEIGHBORS_PER_PACKET {
            &mut self.last
        } else {
            &mut self.full
        };
        *packets = packets.saturating_add(1);
        let mut left_out = 0;
        for node in nodes {
            if self.seen.contains(&node.id()) {
                continue;
            }
            let has_room = !self.is_full();
            if has_room {
                self.seen.push(node.id());
            }
            if has_room && believes(&node) {
                self.named.push(node);
            } else {
                left_out += 1;
            }
        }
        left_out
    }

    pub(super) fn is_empty(&self) -> bool {
        self.full == 0 && self.last == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.seen.len() >= FULL
    }

    /// Whether no more packets are expected, but those that were overtaken.
    pub(super) fn is_at_its_end(&self) -> bool {
        self.last > 0 || self.full > 1
    }

    /// How much of what the node knows this is.
    pub(super) fn extent(&self) -> Extent {
        if self.is_full() {
            return Extent::Full;
        }
        let few = (1..=REST).contains(&self.seen.len());
        let is_all = match (self.full, self.last) {
            (0, 0) => false,
            // So few may be the rest of a full answer whose other packet was lost.
            (0, 1) => !few,
            // As may a full packet be its beginning.
            (1, 0) => false,
            // Both are there; or it was asked again and said the same, so that nothing was lost.
            _ => true,
        };
        if is_all { Extent::All } else { Extent::Part }
    }
}
