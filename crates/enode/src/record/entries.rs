//! Typed record entries. An entry knows its key and how its value is written; records accept any key besides.

use std::net::{Ipv4Addr, Ipv6Addr};

use rlp::RlpStream;

use super::error::EntryError;
use super::layout::{integer, item_at};

/// A typed value with the record key it lives under.
pub trait Entry: Sized {
    /// The record key.
    const KEY: &'static [u8];

    /// The value as one RLP item.
    fn encode(&self) -> Vec<u8>;

    /// Reads the value from its RLP item.
    ///
    /// # Errors
    /// What is wrong with the value.
    fn decode(raw: &[u8]) -> Result<Self, EntryError>;
}

macro_rules! port_entry {
    ($name:ident, $key:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub u16);

        impl Entry for $name {
            const KEY: &'static [u8] = $key;

            fn encode(&self) -> Vec<u8> {
                rlp::encode(&self.0).to_vec()
            }

            fn decode(raw: &[u8]) -> Result<Self, EntryError> {
                u16::try_from(read_integer(raw)?)
                    .map(Self)
                    .map_err(|_| EntryError::Integer)
            }
        }
    };
}

port_entry!(Udp, b"udp", "`udp`: the discovery port.");
port_entry!(Tcp, b"tcp", "`tcp`: the RLPx port.");
port_entry!(Quic, b"quic", "`quic`: the QUIC port of consensus clients.");
port_entry!(
    Udp6,
    b"udp6",
    "`udp6`: the discovery port over IPv6 where it differs from `udp`."
);
port_entry!(
    Tcp6,
    b"tcp6",
    "`tcp6`: the RLPx port over IPv6 where it differs from `tcp`."
);
port_entry!(Quic6, b"quic6", "`quic6`: the QUIC port over IPv6.");

/// `ip`: an IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ip4(pub Ipv4Addr);

/// `ip6`: an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ip6(pub Ipv6Addr);

/// `eth`: the fork id of the chain an execution client follows (EIP-2124), `[[fork-hash, fork-next], …]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EthEntry {
    /// CRC-32 over genesis and past forks.
    pub fork_hash: [u8; 4],
    /// Block number or time of the next fork, 0 if none is known.
    pub fork_next: u64,
}

/// `snap`: the node serves snap sync; an empty list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapEntry;

impl Entry for Ip4 {
    const KEY: &'static [u8] = b"ip";

    fn encode(&self) -> Vec<u8> {
        rlp::encode(&self.0.octets().as_slice()).to_vec()
    }

    fn decode(raw: &[u8]) -> Result<Self, EntryError> {
        read_array::<4>(raw).map(|octets| Self(octets.into()))
    }
}

impl Entry for Ip6 {
    const KEY: &'static [u8] = b"ip6";

    fn encode(&self) -> Vec<u8> {
        rlp::encode(&self.0.octets().as_slice()).to_vec()
    }

    fn decode(raw: &[u8]) -> Result<Self, EntryError> {
        read_array::<16>(raw).map(|octets| Self(octets.into()))
    }
}

impl Entry for EthEntry {
    const KEY: &'static [u8] = b"eth";

    fn encode(&self) -> Vec<u8> {
        let mut stream = RlpStream::new_list(1);
        stream
            .begin_list(2)
            .append(&self.fork_hash.as_slice())
            .append(&self.fork_next);
        stream.out().to_vec()
    }

    /// Further elements of both lists are ignored, as EIP-2124 asks for the outer one.
    fn decode(raw: &[u8]) -> Result<Self, EntryError> {
        let id = list_payload(raw).and_then(first_item)?;
        let fields = list_payload(id)?;
        let hash = first_item(fields)?;
        let next = first_item(fields.get(hash.len()..).unwrap_or_default())?;
        Ok(Self {
            fork_hash: read_array(hash)?,
            fork_next: read_integer(next)?,
        })
    }
}

impl Entry for SnapEntry {
    const KEY: &'static [u8] = b"snap";

    fn encode(&self) -> Vec<u8> {
        RlpStream::new_list(0).out().to_vec()
    }

    fn decode(raw: &[u8]) -> Result<Self, EntryError> {
        list_payload(raw).map(|_| Self)
    }
}

/// The content of an RLP string that fills `raw`.
pub(super) fn read_bytes(raw: &[u8]) -> Result<&[u8], EntryError> {
    payload(raw, false)
}

fn read_array<const N: usize>(raw: &[u8]) -> Result<[u8; N], EntryError> {
    let bytes = read_bytes(raw)?;
    bytes.try_into().map_err(|_| EntryError::Length {
        expected: N,
        found: bytes.len(),
    })
}

fn read_integer(raw: &[u8]) -> Result<u64, EntryError> {
    integer(read_bytes(raw)?).ok_or(EntryError::Integer)
}

fn list_payload(raw: &[u8]) -> Result<&[u8], EntryError> {
    payload(raw, true)
}

fn payload(raw: &[u8], list: bool) -> Result<&[u8], EntryError> {
    let item = item_at(raw, 0).map_err(|_| EntryError::Malformed)?;
    if item.is_list != list {
        return Err(EntryError::Kind);
    }
    if item.payload.end != raw.len() {
        return Err(EntryError::Malformed);
    }
    raw.get(item.payload).ok_or(EntryError::Malformed)
}

/// The first item of `items`, with its header.
fn first_item(items: &[u8]) -> Result<&[u8], EntryError> {
    let item = item_at(items, 0).map_err(|_| EntryError::Malformed)?;
    items.get(..item.payload.end).ok_or(EntryError::Malformed)
}
