//! The chain a devnet serves and the transactions it will carry: from a folder whose `accounts.json` holds keys of funded
//! accounts, or made for the occasion.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy_primitives::{Address, B256, U256};
use serde::Deserialize;
use tercet_enode::{ParseKeyError, SecretKey};
use tercet_eth_peer::wire::WireTransaction;
use tercet_eth_peer::{
    ChainBackend, ChainError, ChainFolder, DevAccount, DevChain, DevChainConfig, DevChainError,
    DevTransfer, KnownState, StateView, TransferKind, UnknownState,
};
use thiserror::Error;

/// Transactions an account of the made chain sends at most: pools hold few of one sender.
const TXS_PER_ACCOUNT: usize = 8;
/// Wei an account must have for each transaction it is to send: 21,000 gas at 100 gwei, and a little to give away.
const WEI_PER_TX: u128 = 21_000 * 100_000_000_000 + 1_000_000;

/// Why there is no chain for a devnet.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum DevnetChainError {
    /// The made chain failed.
    #[error("cannot make a chain")]
    Dev(#[from] DevChainError),
    /// The folder holds no chain.
    #[error(transparent)]
    Folder(#[from] ChainError),
    /// The keys could not be read.
    #[error("{}: without keys of funded accounts use --txs 0", path.display())]
    Accounts { path: PathBuf, source: io::Error },
    /// The keys' file is something else.
    #[error("{}: expected {{\"0xADDRESS\": {{\"key\": \"0xKEY\"}}}}", path.display())]
    AccountsFile {
        path: PathBuf,
        source: serde_json::Error,
    },
    /// A key is none.
    #[error("{}: the key of {address}", path.display())]
    Key {
        path: PathBuf,
        address: Address,
        source: ParseKeyError,
    },
    /// No account can pay.
    #[error("{}: none of the accounts has funds for a transaction", path.display())]
    NoFunds { path: PathBuf },
}

/// What a devnet works with.
pub(super) struct Plan {
    pub(super) chain: Arc<dyn ChainBackend>,
    pub(super) state: Arc<dyn StateView>,
    pub(super) txs: Vec<WireTransaction>,
}

impl Plan {
    /// With the chain in `folder` or one of its own, and `txs` signed transactions.
    pub(super) fn new(folder: Option<&Path>, txs: usize) -> Result<Self, DevnetChainError> {
        match folder {
            Some(folder) => Self::from_folder(folder, txs),
            None => Self::made(txs),
        }
    }

    fn made(txs: usize) -> Result<Self, DevnetChainError> {
        let default = DevChainConfig::default();
        let accounts = default.accounts.max(txs.div_ceil(TXS_PER_ACCOUNT));
        let (chain, state, accounts) = DevChain::build(&DevChainConfig {
            accounts,
            ..default
        })?
        .into_parts();
        let txs = transactions(chain.chain_id(), accounts, txs);
        Ok(Self {
            chain: Arc::new(chain),
            state: Arc::new(state),
            txs,
        })
    }

    fn from_folder(folder: &Path, txs: usize) -> Result<Self, DevnetChainError> {
        let chain = ChainFolder::open(folder)?;
        let accounts = if txs == 0 {
            Vec::new()
        } else {
            accounts(folder, chain.state())?
        };
        let txs = transactions(chain.chain_id(), accounts, txs);
        let state: Arc<dyn StateView> = match chain.state() {
            Some(state) => Arc::new(state.clone()),
            None => Arc::new(UnknownState),
        };
        Ok(Self {
            chain: Arc::new(chain),
            state,
            txs,
        })
    }

    pub(super) fn hashes(&self) -> Arc<[B256]> {
        self.txs.iter().map(WireTransaction::hash).collect()
    }
}

/// The funded accounts whose keys are in the folder. Where the state is not known they count as funded and unused.
fn accounts(
    folder: &Path,
    state: Option<&KnownState>,
) -> Result<Vec<DevAccount>, DevnetChainError> {
    #[derive(Deserialize)]
    struct Account {
        key: String,
    }
    let path = folder.join("accounts.json");
    let file = std::fs::read(&path).map_err(|source| DevnetChainError::Accounts {
        path: path.clone(),
        source,
    })?;
    let entries: BTreeMap<Address, Account> =
        serde_json::from_slice(&file).map_err(|source| DevnetChainError::AccountsFile {
            path: path.clone(),
            source,
        })?;
    let mut accounts = Vec::new();
    for (address, Account { key }) in entries {
        let key: SecretKey =
            key.trim_start_matches("0x")
                .parse()
                .map_err(|source| DevnetChainError::Key {
                    path: path.clone(),
                    address,
                    source,
                })?;
        let (nonce, funded) = match state.and_then(|state| state.account(&address)) {
            Some(account) => (account.nonce, account.balance >= U256::from(WEI_PER_TX)),
            None => (0, state.is_none()),
        };
        if funded {
            accounts.push(DevAccount::new(key, nonce));
        }
    }
    if accounts.is_empty() {
        Err(DevnetChainError::NoFunds { path })
    } else {
        Ok(accounts)
    }
}

/// `count` transfers of one wei, each account sending in turn, each nonce following the last.
fn transactions(
    chain_id: u64,
    mut accounts: Vec<DevAccount>,
    count: usize,
) -> Vec<WireTransaction> {
    let Some(to) = accounts.first().map(DevAccount::address) else {
        return Vec::new();
    };
    let kinds = [TransferKind::Eip1559, TransferKind::Legacy]
        .into_iter()
        .cycle();
    let mut txs = Vec::with_capacity(count);
    for (kind, turn) in kinds.zip((0..accounts.len()).cycle()).take(count) {
        if let Some(account) = accounts.get_mut(turn) {
            txs.push(account.transfer(DevTransfer {
                chain_id,
                to,
                value: U256::ONE,
                kind,
            }));
        }
    }
    txs
}
