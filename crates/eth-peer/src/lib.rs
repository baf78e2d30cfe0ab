//! The eth protocol.

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
