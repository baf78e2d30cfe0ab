//! Writes the rows of a crawl, a transaction a batch, on a thread of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use tercet_enode::{Endpoint, NodeId, NodeRecord};
use tercet_eth_peer::wire::{EthVersion, Status};
use tercet_machine::UnixTime;
use tercet_rlpx::Hello;
use tokio::sync::mpsc;

use super::StoreError;
use crate::nodeset::{KnownNode, fork_id};

/// One thing to remember.
#[derive(Debug)]
pub(crate) enum Row {
    /// A node was visited, and this is how it now stands.
    Met {
        known: Box<KnownNode>,
        place: Option<Endpoint>,
        sighting: Sighting,
    },
    /// What a node said of itself over RLPx.
    Spoke {
        id: NodeId,
        at: UnixTime,
        spoken: Box<Spoken>,
    },
    /// The crawl is over.
    End { at: UnixTime, complete: bool },
}

/// A visit.
#[derive(Debug, Clone)]
pub(crate) struct Sighting {
    pub(crate) protocol: &'static str,
    pub(crate) at: UnixTime,
    pub(crate) address: Option<SocketAddr>,
    /// `None` without an answer.
    pub(crate) rtt: Option<Duration>,
    pub(crate) error: Option<String>,
}

/// A Hello and, where it was waited for, the Status after it.
#[derive(Debug, Clone)]
pub(crate) struct Spoken {
    pub(crate) hello: Hello,
    pub(crate) status: Option<(EthVersion, Status)>,
}

/// The thread's state.
pub(super) struct Writer {
    connection: Connection,
    path: PathBuf,
    crawl: i64,
}

impl Writer {
    pub(super) fn begin(
        connection: Connection,
        path: PathBuf,
        now: UnixTime,
    ) -> Result<Self, StoreError> {
        let begun = connection.query_row(
            "INSERT INTO crawls (started) VALUES (?1) RETURNING crawl",
            [seconds(now)],
            |row| row.get(0),
        );
        match begun {
            Ok(crawl) => Ok(Self {
                connection,
                path,
                crawl,
            }),
            Err(source) => Err(StoreError::Write { path, source }),
        }
    }

    /// Writes until nobody sends any more.
    pub(super) fn run(mut self, mut batches: mpsc::Receiver<Vec<Row>>) -> Result<(), StoreError> {
        while let Some(batch) = batches.blocking_recv() {
            self.write(&batch).map_err(|source| StoreError::Write {
                path: self.path.clone(),
                source,
            })?;
        }
        self.connection
            .close()
            .map_err(|(_, source)| StoreError::Write {
                path: self.path,
                source,
            })
    }

    fn write(&mut self, batch: &[Row]) -> rusqlite::Result<()> {
        let crawl = self.crawl;
        let transaction = self.connection.transaction()?;
        for row in batch {
            match row {
                Row::Met {
                    known,
                    place,
                    sighting,
                } => {
                    let node = put_node(&transaction, known, place.as_ref(), sighting.at)?;
                    put_sighting(&transaction, crawl, node, sighting)?;
                }
                Row::Spoke { id, at, spoken } => put_spoken(&transaction, id, *at, spoken)?,
                Row::End { at, complete } => {
                    transaction.execute(
                        "UPDATE crawls SET ended = ?2, complete = ?3 WHERE crawl = ?1",
                        params![crawl, seconds(*at), complete],
                    )?;
                }
            }
        }
        transaction.commit()
    }
}

fn put_node(
    transaction: &Transaction<'_>,
    known: &KnownNode,
    place: Option<&Endpoint>,
    at: UnixTime,
) -> rusqlite::Result<i64> {
    let (fork, id) = (fork_id(known.record()), known.address.id());
    let mut statement = transaction.prepare_cached(
        "INSERT INTO nodes (id, address, seq, ip, udp, tcp, fork_hash, fork_next, score,
                            first_seen, first_response, last_response, last_check)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
         ON CONFLICT (id) DO UPDATE SET
             address = excluded.address, seq = excluded.seq, ip = excluded.ip, udp = excluded.udp, tcp = excluded.tcp,
             fork_hash = excluded.fork_hash, fork_next = excluded.fork_next, score = excluded.score,
             first_response = excluded.first_response, last_response = excluded.last_response, last_check = excluded.last_check
         RETURNING node",
    )?;
    let row = params![
        id.as_bytes(),
        known.address.to_string(),
        number(known.record().map_or(0, NodeRecord::seq)),
        place.map(|place| place.ip.to_string()),
        place.map(|place| place.udp),
        place.and_then(Endpoint::tcp_addr).map(|tcp| tcp.port()),
        fork.map(|fork| fork.hash.0),
        fork.map(|fork| number(fork.next)),
        number(known.score),
        seconds(at),
        known.first_response.map(seconds),
        known.last_response.map(seconds),
        known.last_check.map(seconds),
    ];
    statement.query_row(row, |row| row.get(0))
}

fn put_sighting(
    transaction: &Transaction<'_>,
    crawl: i64,
    node: i64,
    sighting: &Sighting,
) -> rusqlite::Result<()> {
    let Sighting {
        protocol,
        at,
        address,
        rtt,
        error,
    } = sighting;
    let (at, answered) = (seconds(*at), rtt.is_some());
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO sightings (crawl, node, protocol, at, ip, port, rtt_us, error)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            crawl,
            node,
            protocol,
            at,
            address.map(|address| address.ip().to_string()),
            address.map(|address| address.port()),
            rtt.map(|rtt| i64::try_from(rtt.as_micros()).unwrap_or(i64::MAX)),
            error,
        ])?;
    transaction
        .prepare_cached(
            "INSERT INTO reachability (node, protocol, visits, answers, first_answer, last_answer, last_visit)
             VALUES (?1, ?2, 1, ?3, iif(?3, ?4, NULL), iif(?3, ?4, NULL), ?4)
             ON CONFLICT (node, protocol) DO UPDATE SET
                 visits = visits + 1, answers = answers + excluded.answers,
                 first_answer = ifnull(first_answer, excluded.first_answer),
                 last_answer = ifnull(excluded.last_answer, last_answer), last_visit = excluded.last_visit",
        )?
        .execute(params![node, protocol, answered, at])?;
    Ok(())
}

fn put_spoken(
    transaction: &Transaction<'_>,
    id: &NodeId,
    at: UnixTime,
    spoken: &Spoken,
) -> rusqlite::Result<()> {
    let mut find = transaction.prepare_cached("SELECT node FROM nodes WHERE id = ?1")?;
    let node: Option<i64> = find
        .query_row([id.as_bytes()], |row| row.get(0))
        .optional()?;
    // Only who was visited is dialled.
    let Some(node) = node else { return Ok(()) };
    let Spoken { hello, status } = spoken;
    transaction
        .prepare_cached("INSERT OR IGNORE INTO clients (name) VALUES (?1)")?
        .execute([&hello.client_id])?;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO hellos (node, at, client, p2p_version, listen_port)
             VALUES (?1, ?2, (SELECT client FROM clients WHERE name = ?3), ?4, ?5)",
        )?
        .execute(params![
            node,
            seconds(at),
            hello.client_id,
            number(hello.p2p_version),
            hello.listen_port
        ])?;
    transaction
        .prepare_cached("DELETE FROM capabilities WHERE node = ?1")?
        .execute([node])?;
    for capability in &hello.capabilities {
        transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO capabilities (node, name, version) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![node, capability.name.as_str(), capability.version])?;
    }
    if let Some((version, status)) = status {
        let fork = status.fork_id();
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO statuses (node, at, eth_version, network_id, genesis, fork_hash, fork_next, head)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                node,
                seconds(at),
                version.number(),
                number(status.network_id()),
                status.genesis().as_slice(),
                fork.hash.0,
                number(fork.next),
                status.head_hash().as_slice(),
            ])?;
    }
    Ok(())
}

fn seconds(time: UnixTime) -> i64 {
    number(time.as_secs())
}

/// SQLite's integers end at 2^63 - 1; what somebody says beyond it is kept as that.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
