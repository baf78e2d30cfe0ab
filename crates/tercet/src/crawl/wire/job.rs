//! The curve work of a crawl, as jobs that own all they need.

use std::net::SocketAddr;

use bytes::Bytes;
use tercet_discovery::v4::codec::{DecodeError, Packet, UnverifiedPacket, encode};
use tercet_discovery::v4::{Message, PacketHash};
use tercet_discovery::v5::{HandshakeJob, HandshakeResult};
use tercet_enode::{NodeRecord, SecretKey, UnverifiedRecord};

use super::v4::Mark;

/// 30 to 150 µs of one core, or as much for each record.
#[derive(Debug)]
pub(crate) enum Job {
    /// Who signed a discv4 packet?
    Packet {
        from: SocketAddr,
        packet: UnverifiedPacket,
        asked: bool,
    },
    /// Sign one.
    Sign {
        mark: Mark,
        to: SocketAddr,
        key: SecretKey,
        message: Message,
    },
    /// One side of a discv5 handshake.
    Handshake(Box<HandshakeJob>),
    /// Check the records of an answer.
    Records {
        serial: u64,
        records: Vec<UnverifiedRecord>,
    },
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum JobDone {
    Packet {
        from: SocketAddr,
        packet: Result<Packet, DecodeError>,
        asked: bool,
    },
    Signed {
        mark: Mark,
        to: SocketAddr,
        datagram: Bytes,
        hash: PacketHash,
    },
    Handshake {
        from: SocketAddr,
        result: Box<HandshakeResult>,
    },
    /// The records that hold, and how many do not.
    Records {
        serial: u64,
        records: Vec<NodeRecord>,
        bad: usize,
    },
}

impl Job {
    /// Does the work.
    pub(crate) fn run(self) -> JobDone {
        match self {
            Self::Packet {
                from,
                packet,
                asked,
            } => JobDone::Packet {
                from,
                packet: packet.verify(),
                asked,
            },
            Self::Sign {
                mark,
                to,
                key,
                message,
            } => {
                let (datagram, hash) = encode(&key, &message);
                JobDone::Signed {
                    mark,
                    to,
                    datagram,
                    hash,
                }
            }
            Self::Handshake(job) => JobDone::Handshake {
                from: job.from(),
                result: Box::new(job.run()),
            },
            Self::Records { serial, records } => {
                let all = records.len();
                let records: Vec<_> = records
                    .into_iter()
                    .filter_map(|record| record.verify().ok())
                    .collect();
                let bad = all - records.len();
                JobDone::Records {
                    serial,
                    records,
                    bad,
                }
            }
        }
    }
}
