//! Who a node is and where: keys, node ids and their XOR metric, endpoints and address classes, signed records (ENR) and
//! enode URLs. The bottom of the stack: pure data, no sockets, no clock, no storage.
//!
//! ```
//! use tercet_enode::{NodeRecord, SecretKey};
//!
//! let key: SecretKey = "b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291".parse()?;
//! let record = NodeRecord::builder().seq(7).ip([10, 3, 58, 6].into()).udp(30303).tcp(30303).sign(&key)?;
//!
//! // What came over the wire is compared before its signature is paid for.
//! let received = tercet_enode::UnverifiedRecord::decode(record.raw())?;
//! assert_eq!((received.id(), received.seq()), (key.node_id(), 7));
//! assert_eq!(received.verify()?, record);
//!
//! let node = tercet_enode::Node::from_record(record).ok_or("no endpoint")?;
//! assert!(node.enode_url().to_string().ends_with("@10.3.58.6:30303"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
mod endpoint;
mod hexadecimal;
mod id;
mod keccak;
mod keys;
mod node;
mod record;
mod signature;
#[cfg(feature = "serde")]
mod text;
mod url;

pub use address::{AddressClass, RelayError, canonical_ip, check_relay};
pub use endpoint::Endpoint;
pub use hexadecimal::HexError;
pub use id::{Distance, NodeId};
pub use keccak::{Keccak256, keccak256};
pub use keys::{KeyError, ParseKeyError, PublicKey, SecretKey};
pub use node::{Node, NodeAddress, ParseNodeError, WrongIdentity};
#[cfg(feature = "enr")]
pub use record::EnrError;
pub use record::{
    Entry, EntryError, EntryKey, EthEntry, Ip4, Ip6, MAX_RECORD_SIZE, NodeRecord, ParseRecordError,
    Quic, Quic6, RecordBuilder, RecordError, SnapEntry, Tcp, Tcp6, Udp, Udp6, UnverifiedRecord,
};
pub use signature::{RecoverableSignature, Signature};
pub use url::{EnodeUrl, Excerpt, Host, ParseEnodeError};

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
