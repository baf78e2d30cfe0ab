//! Node records (ENR, EIP-778): decoding in two steps, checking, text form, and the choice of one endpoint.
//!
//! Bytes become an [`UnverifiedRecord`] (structure, identity) and only then a [`NodeRecord`] (signature). The first step
//! costs about a tenth of the second, and is enough to see by `(id, seq)` that a record is nothing new. Both keep the raw bytes,
//! so what was received is what is passed on, entries nobody here knows included.

mod addresses;
mod builder;
mod entries;
mod error;
#[cfg(feature = "enr")]
mod interop;
mod layout;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use base64::DecodeError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use rlp::RlpStream;

pub use builder::RecordBuilder;
pub use entries::{Entry, EthEntry, Ip4, Ip6, Quic, Quic6, SnapEntry, Tcp, Tcp6, Udp, Udp6};
pub use error::{EntryError, EntryKey, ParseRecordError, RecordError};
#[cfg(feature = "enr")]
pub use interop::EnrError;
pub use layout::MAX_RECORD_SIZE;

use crate::endpoint::Endpoint;
use crate::id::NodeId;
use crate::keccak::keccak256;
use crate::keys::PublicKey;
use crate::signature::Signature;
use addresses::{Addresses, Family};
use entries::read_bytes;
use layout::Layout;

/// The record key that names the identity scheme, and the one scheme there is.
const SCHEME: &[u8] = b"id";
const SCHEME_V4: &[u8] = b"v4";
/// The record key of the public key.
const PUBLIC_KEY: &[u8] = b"secp256k1";

const TEXT_PREFIX: &str = "enr:";
/// The longest text: the prefix and 300 bytes at 6 bits a character.
const MAX_TEXT_SIZE: usize = TEXT_PREFIX.len() + (MAX_RECORD_SIZE * 8).div_ceil(6);

/// A record whose structure and identity were read, but whose signature nobody has checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedRecord {
    layout: Layout,
    public_key: PublicKey,
}

impl UnverifiedRecord {
    /// Reads a record of at most 300 bytes that names scheme "v4" and a public key. The signature is not looked at.
    ///
    /// # Errors
    /// What is wrong and at which byte.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let layout = Layout::parse(bytes)?;
        let scheme = layout.value(SCHEME).and_then(|raw| read_bytes(raw).ok());
        match scheme {
            None => return Err(RecordError::NoScheme),
            Some(SCHEME_V4) => {}
            Some(other) => {
                return Err(RecordError::UnknownScheme {
                    scheme: EntryKey::new(other),
                });
            }
        }
        let raw = layout.value(PUBLIC_KEY).ok_or(RecordError::NoPublicKey)?;
        let key = read_bytes(raw).map_err(|_| RecordError::NoPublicKey)?;
        let public_key =
            PublicKey::from_compressed(key).map_err(|source| RecordError::PublicKey { source })?;
        Ok(Self { layout, public_key })
    }

    /// The id of the node the record claims to be of.
    #[must_use]
    #[inline]
    pub fn id(&self) -> NodeId {
        self.public_key.node_id()
    }

    /// The key whose hash the id is; whether it signed the record is not known yet.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// The sequence number; a higher one is a newer record.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.layout.seq()
    }

    /// The encoding, as received.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        self.layout.raw()
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`RecordError::SignatureLength`] or [`RecordError::BadSignature`].
    pub fn verify(self) -> Result<NodeRecord, RecordError> {
        let signature = self.layout.signature();
        let signature = signature
            .try_into()
            .map(Signature::from_bytes)
            .map_err(|_| RecordError::SignatureLength {
                found: signature.len(),
            })?;
        self.public_key
            .verify(&content_hash(self.layout.content()), &signature)
            .map_err(|_| RecordError::BadSignature)?;
        Ok(self.accept())
    }

    /// The record, where its signature is known to be right.
    fn accept(self) -> NodeRecord {
        let addresses = Addresses::read(&self.layout);
        NodeRecord(Arc::new(Verified {
            record: self,
            addresses,
        }))
    }
}

/// What a v4 signature signs: the hash of `[seq, k1, v1, …]`, whose items are in the record already.
fn content_hash(content: &[u8]) -> [u8; 32] {
    let mut stream = RlpStream::new();
    stream
        .begin_unbounded_list()
        .append_raw(content, 1)
        .finalize_unbounded_list();
    keccak256(&stream.out())
}

/// A node's signed record, verified. Cheap to clone; two are equal if their encodings are.
///
/// ```
/// use tercet_enode::NodeRecord;
/// let record: NodeRecord = "enr:-IS4QHCYrYZbAKWCBRlAy5zzaDZXJBGkcnh4MHcBFZntXNFrdvJjX04jRzjzCBOonrkTfj499SZuOh8R33Ls8RRc\
///     y5wBgmlkgnY0gmlwhH8AAAGJc2VjcDI1NmsxoQPKY0yuDUmstAHYpMa2_oxVtw0RW_QAdpzBQA8yWM0xOIN1ZHCCdl8".parse()?;
/// assert_eq!(record.seq(), 1);
/// assert_eq!(record.ip4(), Some([127, 0, 0, 1].into()));
/// assert_eq!(record.udp4(), Some(30303));
/// # Ok::<(), tercet_enode::ParseRecordError>(())
/// ```
#[derive(Clone)]
pub struct NodeRecord(Arc<Verified>);

struct Verified {
    record: UnverifiedRecord,
    addresses: Addresses,
}

impl NodeRecord {
    /// An empty builder.
    #[must_use]
    pub fn builder() -> RecordBuilder {
        RecordBuilder::new()
    }

    /// Reads a record and checks its signature.
    ///
    /// # Errors
    /// What is wrong and at which byte.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        UnverifiedRecord::decode(bytes)?.verify()
    }

    /// A builder with this record's entries and sequence number, to sign a changed one.
    #[must_use]
    pub fn to_builder(&self) -> RecordBuilder {
        RecordBuilder::from_layout(&self.0.record.layout)
    }

    /// The id of the node that signed the record.
    #[must_use]
    #[inline]
    pub fn id(&self) -> NodeId {
        self.0.record.id()
    }

    /// The sequence number; a higher one is a newer record.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.0.record.seq()
    }

    /// The key that signed the record.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.0.record.public_key
    }

    /// The encoding, at most 300 bytes.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        self.0.record.raw()
    }

    /// The raw RLP item under `key`.
    #[must_use]
    pub fn get_raw(&self, key: &[u8]) -> Option<&[u8]> {
        self.0.record.layout.value(key)
    }

    /// A typed entry: `None` if the record does not have it, an error if it has something else under that key.
    #[must_use]
    pub fn get<E: Entry>(&self) -> Option<Result<E, EntryError>> {
        self.get_raw(E::KEY).map(E::decode)
    }

    /// All keys with the raw RLP of their values, ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone {
        self.0.record.layout.pairs()
    }

    /// `ip`; `None` also if it is malformed, as with the entries below.
    #[must_use]
    pub fn ip4(&self) -> Option<Ipv4Addr> {
        self.0.addresses.ip4
    }

    /// `ip6`.
    #[must_use]
    pub fn ip6(&self) -> Option<Ipv6Addr> {
        self.0.addresses.ip6
    }

    /// `udp`.
    #[must_use]
    pub fn udp4(&self) -> Option<u16> {
        self.0.addresses.udp4
    }

    /// `udp6` as written; [`endpoint`](Self::endpoint) knows what it falls back to.
    #[must_use]
    pub fn udp6(&self) -> Option<u16> {
        self.0.addresses.udp6
    }

    /// `tcp`.
    #[must_use]
    pub fn tcp4(&self) -> Option<u16> {
        self.0.addresses.tcp4
    }

    /// `tcp6` as written; [`endpoint`](Self::endpoint) knows what it falls back to.
    #[must_use]
    pub fn tcp6(&self) -> Option<u16> {
        self.0.addresses.tcp6
    }

    /// `eth`: the fork id.
    #[must_use]
    pub fn eth(&self) -> Option<EthEntry> {
        self.typed()
    }

    /// Whether the node says that it serves snap sync.
    #[must_use]
    pub fn snap(&self) -> bool {
        self.typed::<SnapEntry>().is_some()
    }

    /// The one endpoint to use, chosen as geth does: the address of the better class (global before private before
    /// link-local before loopback), IPv4 on a tie, with the ports of its family; `udp6` and `tcp6` fall back to `udp`
    /// and `tcp`. `None` without a usable address (none at all, multicast, unspecified).
    #[must_use]
    pub fn endpoint(&self) -> Option<Endpoint> {
        self.endpoints().next()
    }

    /// Every usable endpoint, the one of [`endpoint`](Self::endpoint) first: at most one of each family. For those who
    /// have a socket for both and try the second when the first is silent.
    pub fn endpoints(&self) -> impl Iterator<Item = Endpoint> + use<> {
        self.0.addresses.endpoints.into_iter().flatten()
    }

    /// The QUIC address of the chosen family, which consensus clients serve. Unlike the other ports, `quic6` does not
    /// fall back to `quic`.
    #[must_use]
    pub fn quic_endpoint(&self) -> Option<SocketAddr> {
        let (ip, family) = self.0.addresses.usable().into_iter().flatten().next()?;
        let port = match family {
            Family::V4 => self.typed::<Quic>().map(|entry| entry.0),
            Family::V6 => self.typed::<Quic6>().map(|entry| entry.0),
        };
        port.filter(|port| *port != 0)
            .map(|port| SocketAddr::new(ip, port))
    }

    fn typed<E: Entry>(&self) -> Option<E> {
        self.get().and_then(Result::ok)
    }
}

impl PartialEq for NodeRecord {
    fn eq(&self, other: &Self) -> bool {
        self.raw() == other.raw()
    }
}

impl Eq for NodeRecord {}

impl std::hash::Hash for NodeRecord {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.raw().hash(state);
    }
}

impl fmt::Display for NodeRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{TEXT_PREFIX}{}", URL_SAFE_NO_PAD.encode(self.raw()))
    }
}

impl fmt::Debug for NodeRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "NodeRecord({:?}, seq {}, {:?})",
            self.id(),
            self.seq(),
            self.endpoint()
        )
    }
}

impl FromStr for NodeRecord {
    type Err = ParseRecordError;

    fn from_str(text: &str) -> Result<Self, ParseRecordError> {
        let encoded = text
            .strip_prefix(TEXT_PREFIX)
            .ok_or(ParseRecordError::MissingPrefix)?;
        if text.len() > MAX_TEXT_SIZE {
            return Err(ParseRecordError::TooLong {
                found: text.chars().count(),
            });
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if let Some((at, found)) = text
            .chars()
            .enumerate()
            .skip(TEXT_PREFIX.len())
            .find(|(_, c)| !allowed(*c))
        {
            return Err(ParseRecordError::Character { at, found });
        }
        // The alphabet was checked above, so that only the end can be wrong.
        let bytes = URL_SAFE_NO_PAD
            .decode(encoded)
            .map_err(|_: DecodeError| ParseRecordError::Truncated)?;
        Ok(Self::decode(&bytes)?)
    }
}
