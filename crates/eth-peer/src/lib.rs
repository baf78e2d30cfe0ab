//! The eth protocol of devp2p, versions 68 and 69: nodes agree on a chain by
//! Status and fork id, serve each other headers, bodies and receipts, and gossip
//! transactions.
//!
//! [`EthNetwork`] is the whole of it as protocols for a [`tercet_server`]; it
//! takes blocks from a [`ChainBackend`] and transactions from a [`TxPool`],
//! both of which this crate has simple ones of. Below it the parts can be used
//! by themselves: messages in [`wire`], [`ForkSchedule`], the machines
//! [`SessionCore`] and [`GossipCore`], which do no input or output, and
//! [`Query::answer`], which serves a request.
//!
//! ```
//! use tercet_eth_peer::{ForkPoint, Network};
//!
//! let forks = Network::MAINNET.forks();
//! let merged = ForkPoint { number: 15_537_394, timestamp: 1_663_224_179 };
//! let id = forks.fork_id(merged);
//! assert_eq!(id.hash.0, [0xf0, 0xaf, 0xd0, 0xe3]);
//! assert_eq!(id.next, 1_681_338_455);
//!
//! // A node that has not begun to sync accepts it, one of another chain does not.
//! assert!(forks.validate(ForkPoint::default(), id).is_ok());
//! assert!(Network::SEPOLIA.forks().validate(merged, id).is_err());
//! ```

mod backend;
mod chain;
mod fork_id;
mod gossip;
pub mod limits;
#[cfg(feature = "tokio")]
mod network;
#[cfg(feature = "tokio")]
mod peerset;
mod pool;
#[cfg(feature = "tokio")]
mod protocol;
mod serve;
mod session;
mod tx;
pub mod wire;

pub use alloy_eip2124::{ForkHash, ForkId};
pub use backend::{ChainBackend, Head};
pub use chain::{
    AccountState, AppendError, ChainError, ChainFolder, DevAccount, DevChain, DevChainConfig,
    DevChainError, DevTransfer, ExportError, GenesisError, KnownState, LinkError, MemoryChain,
    StateError, StateView, TransferKind, UnknownState, genesis_header, verify_body, verify_link,
    verify_receipts, write_chain,
};
pub use fork_id::{
    ALLOY_TIMESTAMP_THRESHOLD, ForkIdError, ForkPoint, ForkSchedule, Network, TIMESTAMP_THRESHOLD,
    decode_record_entry, encode_record_entry,
};
pub use gossip::{Gossip, GossipCore, GossipInput, GossipOutput, Received, Verdict};
#[cfg(feature = "tokio")]
pub use network::{EthConfig, EthEvent, EthNetwork, EthStartError, EthStats, SubmitError};
#[cfg(feature = "tokio")]
pub use peerset::{EthPeer, PeerSet};
pub use pool::{MemoryPool, PoolConfig, PoolError, PooledTransaction, TxPool, intrinsic_gas};
pub use serve::Query;
pub use session::{
    Ask, RequestError, SessionCore, SessionError, SessionInput, SessionOutput, StatusError,
    check_status, local_status,
};

/// The README's example is compiled with the documentation's.
#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
