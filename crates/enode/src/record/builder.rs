//! Making records: collect entries, then sign. The result always decodes and verifies.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rlp::RlpStream;

use super::entries::{Entry, EthEntry, Ip4, Ip6, SnapEntry, Tcp, Tcp6, Udp, Udp6};
use super::error::{EntryKey, RecordError};
use super::layout::{Layout, item_at};
use super::{NodeRecord, PUBLIC_KEY, SCHEME, SCHEME_V4, UnverifiedRecord};
use crate::address::canonical_ip;
use crate::keccak::keccak256;
use crate::keys::SecretKey;

/// Entries of a record to be signed. Keys are kept sorted; a key set twice keeps the later value.
///
/// ```
/// use tercet_enode::{NodeRecord, SecretKey};
/// let key: SecretKey = "b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291".parse()?;
/// let record = NodeRecord::builder().seq(1).ip([127, 0, 0, 1].into()).udp(30303).sign(&key)?;
/// assert!(record.to_string().starts_with("enr:-IS4QHCYrYZbAKWCBRlAy5zzaDZXJBGkcnh4MHcBFZ"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordBuilder {
    seq: u64,
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Default for RecordBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl RecordBuilder {
    /// No entries, sequence number 1.
    #[must_use]
    pub fn new() -> Self {
        Self {
            seq: 1,
            entries: BTreeMap::new(),
        }
    }

    pub(super) fn from_layout(layout: &Layout) -> Self {
        let entries = layout
            .pairs()
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect();
        Self {
            seq: layout.seq(),
            entries,
        }
    }

    /// The sequence number; must rise with every change of a published record. Default 1.
    #[must_use]
    pub fn seq(mut self, seq: u64) -> Self {
        self.seq = seq;
        self
    }

    /// `ip` or `ip6`, by the family of the address (IPv4-mapped IPv6 counts as IPv4).
    #[must_use]
    pub fn ip(self, ip: IpAddr) -> Self {
        match canonical_ip(ip) {
            IpAddr::V4(ip) => self.insert(&Ip4(ip)),
            IpAddr::V6(ip) => self.insert(&Ip6(ip)),
        }
    }

    /// The discovery port.
    #[must_use]
    pub fn udp(self, port: u16) -> Self {
        self.insert(&Udp(port))
    }

    /// The RLPx port.
    #[must_use]
    pub fn tcp(self, port: u16) -> Self {
        self.insert(&Tcp(port))
    }

    /// The discovery port over IPv6; without it, `udp` is meant.
    #[must_use]
    pub fn udp6(self, port: u16) -> Self {
        self.insert(&Udp6(port))
    }

    /// The RLPx port over IPv6; without it, `tcp` is meant.
    #[must_use]
    pub fn tcp6(self, port: u16) -> Self {
        self.insert(&Tcp6(port))
    }

    /// The fork id of the chain (EIP-2124).
    #[must_use]
    pub fn eth(self, fork_hash: [u8; 4], fork_next: u64) -> Self {
        self.insert(&EthEntry {
            fork_hash,
            fork_next,
        })
    }

    /// Says that the node serves snap sync.
    #[must_use]
    pub fn snap(self) -> Self {
        self.insert(&SnapEntry)
    }

    /// Any typed entry.
    #[must_use]
    pub fn insert<E: Entry>(self, entry: &E) -> Self {
        self.insert_raw(E::KEY, &entry.encode())
    }

    /// Any key with a value that is one RLP item; checked by [`sign`](Self::sign). `id` and `secp256k1` belong to the
    /// signer, which overwrites them.
    #[must_use]
    pub fn insert_raw(mut self, key: &[u8], rlp: &[u8]) -> Self {
        self.entries.insert(key.to_vec(), rlp.to_vec());
        self
    }

    /// Takes an entry out.
    #[must_use]
    pub fn remove(mut self, key: &[u8]) -> Self {
        self.entries.remove(key);
        self
    }

    /// Signs with scheme "v4".
    ///
    /// # Errors
    /// [`RecordError::TooLarge`] if the signed record would exceed 300 bytes, [`RecordError::ValueNotRlp`] for a raw
    /// value that is not exactly one item.
    pub fn sign(mut self, key: &SecretKey) -> Result<NodeRecord, RecordError> {
        let public = key.public_key().to_compressed();
        self.entries
            .insert(SCHEME.to_vec(), rlp::encode(&SCHEME_V4).to_vec());
        self.entries.insert(
            PUBLIC_KEY.to_vec(),
            rlp::encode(&public.as_slice()).to_vec(),
        );
        for (entry, value) in &self.entries {
            let whole = item_at(value, 0).is_ok_and(|item| item.payload.end == value.len());
            if !whole {
                return Err(RecordError::ValueNotRlp {
                    key: EntryKey::new(entry),
                });
            }
        }
        let mut content = RlpStream::new_list(1 + 2 * self.entries.len());
        self.append_content(&mut content);
        let signature = key.sign(&keccak256(&content.out()));

        let mut record = RlpStream::new_list(2 + 2 * self.entries.len());
        record.append(&signature.as_bytes().as_slice());
        self.append_content(&mut record);
        // Read back, as its size has a bound; the signature was made a moment ago.
        Ok(UnverifiedRecord::decode(&record.out())?.accept())
    }

    fn append_content(&self, stream: &mut RlpStream) {
        stream.append(&self.seq);
        for (key, value) in &self.entries {
            stream.append(key).append_raw(value, 1);
        }
    }
}
