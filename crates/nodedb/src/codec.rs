//! The bytes of rows and contacts on disk. Decoding is total: a disk can return anything.
//!
//! RLP throughout. Row: `[[stored, ip, seq] | [], [[ip, first_seen, last_ping, last_pong, find_failures, find_failures_v5?], …]]`,
//! where a last number of 0 is left out (as nearly always, and as in rows from before it was counted); contact:
//! `[public key, ip, udp, tcp, record | ""]`. Times are milliseconds since 1970; a time that may be missing is stored
//! plus one, so that 0 says "never".

use std::net::IpAddr;

use rlp::{Rlp, RlpStream};
use tercet_enode::{Endpoint, Node, NodeId, NodeRecord, PublicKey};
use tercet_machine::UnixTime;

use crate::limits::{MAX_ADDRESSES, MAX_CACHED_VALUE, NODE_MAX_AGE};
use crate::row::{Address, Head, Row};
use crate::store::NodeMeta;

/// An entry that is not one of ours, or is no longer what we wrote.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Undecodable;

impl<E: std::error::Error> From<E> for Undecodable {
    fn from(_: E) -> Self {
        Self
    }
}

pub(crate) fn encode_row(row: &Row) -> Vec<u8> {
    let mut out = RlpStream::new_list(2);
    match &row.head {
        Some(head) => {
            out.begin_list(3).append(&head.stored.as_millis());
            append_ip(&mut out, head.ip);
            out.append(&head.seq);
        }
        None => {
            out.begin_list(0);
        }
    }
    out.begin_list(row.addresses.len());
    for address in &row.addresses {
        let NodeMeta {
            find_failures_v5, ..
        } = address.meta;
        out.begin_list(if find_failures_v5 == 0 { 5 } else { 6 });
        append_ip(&mut out, address.ip);
        out.append(&address.first_seen.as_millis());
        append_time(&mut out, address.meta.last_ping);
        append_time(&mut out, address.meta.last_pong);
        out.append(&address.meta.find_failures);
        if find_failures_v5 != 0 {
            out.append(&find_failures_v5);
        }
    }
    out.out().to_vec()
}

pub(crate) fn decode_row(bytes: &[u8]) -> Result<Row, Undecodable> {
    let row = list(whole(bytes)?, 2)?;
    let head = row.at(0)?;
    let head = match head.item_count()? {
        0 if head.is_list() => None,
        _ => Some(decode_head(list(head, 3)?)?),
    };
    let items = row.at(1)?;
    if !items.is_list() || items.item_count()? > MAX_ADDRESSES {
        return Err(Undecodable);
    }
    let addresses: Vec<Address> = items.iter().map(decode_address).collect::<Result<_, _>>()?;
    let row = Row { head, addresses };
    if row.is_empty() {
        return Err(Undecodable);
    }
    Ok(row)
}

fn decode_head(head: Rlp<'_>) -> Result<Head, Undecodable> {
    Ok(Head {
        stored: UnixTime::from_millis(head.val_at(0)?),
        ip: decode_ip(&head.at(1)?)?,
        seq: head.val_at(2)?,
    })
}

fn decode_address(item: Rlp<'_>) -> Result<Address, Undecodable> {
    let find_failures_v5 = match item.item_count()? {
        6 => item.val_at(5)?,
        _ => 0,
    };
    let item = list(item, if find_failures_v5 == 0 { 5 } else { 6 })?;
    Ok(Address {
        ip: decode_ip(&item.at(0)?)?,
        first_seen: UnixTime::from_millis(item.val_at(1)?),
        meta: NodeMeta {
            last_ping: decode_time(&item.at(2)?)?,
            last_pong: decode_time(&item.at(3)?)?,
            find_failures: item.val_at(4)?,
            find_failures_v5,
        },
    })
}

pub(crate) fn encode_contact(node: &Node) -> Vec<u8> {
    let endpoint = node.endpoint();
    let mut out = RlpStream::new_list(5);
    out.append(&node.public_key().to_bytes().as_slice());
    append_ip(&mut out, endpoint.ip);
    out.append(&endpoint.udp).append(&endpoint.tcp);
    let record: &[u8] = node.record().map_or(&[], |record| record.raw());
    out.append(&record);
    out.out().to_vec()
}

/// Decodes the contact stored under `id`, and checks that it is that node's and that a record is signed by it.
pub(crate) fn decode_contact(id: &NodeId, bytes: &[u8]) -> Result<Node, Undecodable> {
    let contact = list(whole(bytes)?, 5)?;
    let key = PublicKey::from_slice(contact.at(0)?.data()?)?;
    let ip = decode_ip(&contact.at(1)?)?;
    let endpoint = Endpoint::new(ip, contact.val_at(2)?, contact.val_at(3)?);
    let node = Node::new(key, endpoint);
    if node.id() != *id {
        return Err(Undecodable);
    }
    match contact.at(4)?.data()? {
        [] => Ok(node),
        record => Ok(node.with_record(NodeRecord::decode(record)?)?),
    }
}

/// Whether the bytes have the shape of the contact of `id`, without the work of checking signatures: what opening a
/// database of 100,000 nodes can afford.
pub(crate) fn is_contact(id: &NodeId, bytes: &[u8]) -> Result<(), Undecodable> {
    let contact = list(whole(bytes)?, 5)?;
    let key: [u8; 64] = contact.at(0)?.data()?.try_into()?;
    decode_ip(&contact.at(1)?)?;
    contact.val_at::<u16>(2)?;
    contact.val_at::<u16>(3)?;
    contact.at(4)?.data()?;
    if tercet_enode::keccak256(&key) != *id.as_bytes() {
        return Err(Undecodable);
    }
    Ok(())
}

pub(crate) fn decode_number(bytes: &[u8]) -> Result<u64, Undecodable> {
    Ok(u64::from_be_bytes(bytes.try_into()?))
}

pub(crate) fn encode_cached(written: u64, value: &[u8]) -> Vec<u8> {
    [written.to_be_bytes().as_slice(), value].concat()
}

/// A value of the cache and its place in the order of writing.
pub(crate) fn decode_cached(bytes: &[u8]) -> Result<(u64, &[u8]), Undecodable> {
    let (written, value) = bytes.split_first_chunk().ok_or(Undecodable)?;
    if value.len() > MAX_CACHED_VALUE {
        return Err(Undecodable);
    }
    Ok((u64::from_be_bytes(*written), value))
}

/// For fuzzing: an entry that decodes as a row, lived with as a store does and encoded again.
#[must_use]
pub fn row_again(bytes: &[u8]) -> Option<Vec<u8>> {
    let row = decode_row(bytes).ok()?;
    let (beginning, end) = (UnixTime::EPOCH, UnixTime::from_millis(u64::MAX));
    for now in [beginning, end] {
        row.seed_meta(now, NODE_MAX_AGE);
        row.clone().expire(now, NODE_MAX_AGE);
    }
    Some(encode_row(&row))
}

/// For fuzzing: an entry that decodes as the contact of the node whose key it names, encoded again.
#[must_use]
pub fn contact_again(bytes: &[u8]) -> Option<Vec<u8>> {
    let key = Rlp::new(bytes).at(0).ok()?;
    let id = PublicKey::from_slice(key.data().ok()?).ok()?.node_id();
    decode_contact(&id, bytes)
        .ok()
        .map(|node| encode_contact(&node))
}

/// The bytes as one item with nothing after it.
fn whole(bytes: &[u8]) -> Result<Rlp<'_>, Undecodable> {
    let item = Rlp::new(bytes);
    if item.payload_info()?.total() != bytes.len() {
        return Err(Undecodable);
    }
    Ok(item)
}

fn list(item: Rlp<'_>, count: usize) -> Result<Rlp<'_>, Undecodable> {
    if !item.is_list() || item.item_count()? != count {
        return Err(Undecodable);
    }
    Ok(item)
}

fn append_ip(out: &mut RlpStream, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => out.append(&ip.octets().as_slice()),
        IpAddr::V6(ip) => out.append(&ip.octets().as_slice()),
    };
}

fn decode_ip(item: &Rlp<'_>) -> Result<IpAddr, Undecodable> {
    let bytes = item.data()?;
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Ok(octets.into());
    }
    Ok(<[u8; 16]>::try_from(bytes)?.into())
}

fn append_time(out: &mut RlpStream, time: Option<UnixTime>) {
    out.append(&time.map_or(0, |time| time.as_millis().saturating_add(1)));
}

fn decode_time(item: &Rlp<'_>) -> Result<Option<UnixTime>, Undecodable> {
    let stored: u64 = item.as_val()?;
    Ok(stored.checked_sub(1).map(UnixTime::from_millis))
}

#[cfg(test)]
mod tests;
