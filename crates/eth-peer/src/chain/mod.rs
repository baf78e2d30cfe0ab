//! Chains to serve from: a folder with a genesis file and exported blocks, one
//! in memory that grows block by block, and a small made-up one for test
//! networks. Blocks are linked and their roots checked; nothing is executed.

mod dev;
mod export;
mod folder;
mod genesis;
mod memory;
mod state;
mod verify;

pub use dev::{DevAccount, DevChain, DevChainConfig, DevChainError, DevTransfer, TransferKind};
pub use export::{ExportError, write_chain};
pub use folder::{ChainError, ChainFolder};
pub use genesis::{GenesisError, genesis_header};
pub use memory::{AppendError, MemoryChain};
pub use state::{AccountState, KnownState, StateError, StateView, UnknownState};
pub use verify::{LinkError, verify_body, verify_link, verify_receipts};
