//! Reads a crawl's database: the nodes to go on from, and what a summary counts.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use tercet_enode::{NodeAddress, NodeId};
use tercet_eth_peer::{ForkHash, ForkId};
use tercet_machine::UnixTime;

use super::{StoreError, open_to_read};
use crate::nodeset::{Chain, KnownNode, NodeSet};

/// What there is to count among the nodes that are in the set.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) nodes: usize,
    /// By full client name; `None` where there was no Hello.
    pub(crate) clients: BTreeMap<Option<String>, usize>,
    /// By the fork id of the Status or else of the record.
    pub(crate) forks: BTreeMap<Option<([u8; 4], u64)>, usize>,
    /// Who answered at the last visit over each protocol.
    pub(crate) protocols: BTreeMap<String, usize>,
    /// By capability and version.
    pub(crate) capabilities: BTreeMap<String, usize>,
}

/// The nodes in the set: those whose score is not 0.
pub(crate) fn known(path: &Path) -> Result<NodeSet, StoreError> {
    let connection = open_to_read(path)?;
    let bad = |what: String| StoreError::Row {
        path: path.to_owned(),
        what,
    };
    let read = || -> rusqlite::Result<Vec<_>> {
        let mut statement = connection.prepare(
            "SELECT address, score, first_response, last_response, last_check FROM nodes WHERE score > 0 ORDER BY id",
        )?;
        let rows = statement.query_map([], |row| {
            Ok((
                row.get::<_, String>(0)?,
                unsigned(row.get(1)?),
                [time(row, 2)?, time(row, 3)?, time(row, 4)?],
            ))
        })?;
        rows.collect()
    };
    let rows = read().map_err(|source| super::error(path, source))?;
    let nodes = rows.into_iter().map(|(text, score, times)| {
        let address: NodeAddress = text
            .parse()
            .map_err(|error| bad(format!("{text:.40}… is no node: {error}")))?;
        let [first_response, last_response, last_check] = times;
        Ok(KnownNode {
            address,
            score,
            first_response,
            last_response,
            last_check,
        })
    });
    nodes.collect()
}

/// The chains of the nodes in the set, by the last Status of each.
pub(crate) fn chains(path: &Path) -> Result<BTreeMap<NodeId, Chain>, StoreError> {
    let connection = open_to_read(path)?;
    let read = || -> rusqlite::Result<_> {
        let mut statement = connection.prepare(
            "SELECT n.id, s.network_id, s.genesis, s.fork_hash, s.fork_next
             FROM nodes n JOIN statuses s USING (node) WHERE n.score > 0",
        )?;
        let rows = statement.query_map([], |row| {
            let fork_id = ForkId {
                hash: ForkHash(row.get(3)?),
                next: unsigned(row.get(4)?),
            };
            let chain = Chain {
                network_id: unsigned(row.get(1)?),
                genesis: row.get(2)?,
                fork_id,
            };
            Ok((NodeId::new(row.get(0)?), chain))
        })?;
        rows.collect()
    };
    read().map_err(|source| super::error(path, source))
}

/// SQLite knows signed integers alone; none of ours is below 0 unless somebody else has written it.
fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn number(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<usize> {
    let count: i64 = row.get(at)?;
    Ok(usize::try_from(count).unwrap_or(0))
}

fn time(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Option<UnixTime>> {
    let time: Option<i64> = row.get(at)?;
    Ok(time.map(|time| UnixTime::from_secs(unsigned(time))))
}

/// Counts the nodes in the set.
pub(crate) fn counts(path: &Path) -> Result<Counts, StoreError> {
    let connection = open_to_read(path)?;
    count(&connection).map_err(|source| super::error(path, source))
}

fn count(connection: &Connection) -> rusqlite::Result<Counts> {
    let texts = |query: &str| -> rusqlite::Result<BTreeMap<Option<String>, usize>> {
        let mut statement = connection.prepare(query)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, number(row, 1)?)))?;
        rows.collect()
    };
    let mut forks = BTreeMap::new();
    let mut statement = connection.prepare(
        "SELECT ifnull(s.fork_hash, n.fork_hash) AS hash, ifnull(s.fork_next, n.fork_next) AS next, count(*)
         FROM nodes n LEFT JOIN statuses s USING (node) WHERE n.score > 0 GROUP BY hash, next",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let hash: Option<[u8; 4]> = row.get(0)?;
        let next: Option<i64> = row.get(1)?;
        let fork = hash.map(|hash| (hash, unsigned(next.unwrap_or(0))));
        forks.insert(fork, number(row, 2)?);
    }
    let named = |map: BTreeMap<Option<String>, usize>| {
        let named = map
            .into_iter()
            .filter_map(|(name, count)| Some((name?, count)));
        named.collect()
    };
    Ok(Counts {
        nodes: connection.query_row("SELECT count(*) FROM nodes WHERE score > 0", [], |row| number(row, 0))?,
        clients: texts(
            "SELECT c.name, count(*) FROM nodes n LEFT JOIN hellos h USING (node) LEFT JOIN clients c USING (client)
             WHERE n.score > 0 GROUP BY c.name",
        )?,
        forks,
        protocols: named(texts(
            "SELECT r.protocol, count(*) FROM nodes n JOIN reachability r USING (node)
             WHERE n.score > 0 AND r.last_answer = r.last_visit GROUP BY r.protocol",
        )?),
        capabilities: named(texts(
            "SELECT c.name || '/' || c.version, count(*) FROM nodes n JOIN capabilities c USING (node)
             WHERE n.score > 0 GROUP BY c.name, c.version",
        )?),
    })
}
