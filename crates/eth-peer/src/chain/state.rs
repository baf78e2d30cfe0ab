//! What a pool may know of accounts. A chain that is not executed knows little;
//! "not known" is an answer, and the pool then leaves that check out.

use alloy_genesis::Genesis;
use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_trie::TrieAccount;
use alloy_trie::root::state_root_unsorted;
use serde::Deserialize;
use std::collections::HashMap;

/// Nonce and balance of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountState {
    /// Nonce of its next transaction.
    pub nonce: u64,
    /// Balance in wei.
    pub balance: U256,
}

/// A view of the state at the head.
pub trait StateView: Send + Sync + 'static {
    /// An account; `None` if it is not known here, which is not the same as an
    /// empty account.
    fn account(&self, address: &Address) -> Option<AccountState>;
}

/// Knows no account.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnknownState;

impl StateView for UnknownState {
    fn account(&self, _: &Address) -> Option<AccountState> {
        None
    }
}

/// Why a state dump was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It is no state dump.
    #[error("not a state dump: {0}")]
    Json(#[from] serde_json::Error),
    /// It is the state of another block, or damaged.
    #[error("its accounts have the state root {found}, the head says {expected}")]
    Root {
        /// State root of the head.
        expected: B256,
        /// Root of the accounts.
        found: B256,
    },
}

/// A whole state, of which nonces and balances are kept: an account it does not
/// list is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownState {
    accounts: HashMap<Address, AccountState>,
}

/// The parts of `geth dump` that are read.
#[derive(Deserialize)]
struct Dump {
    accounts: HashMap<String, DumpAccount>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DumpAccount {
    balance: U256,
    nonce: u64,
    root: B256,
    code_hash: B256,
    /// Absent where the node did not know the preimage of the key.
    address: Option<Address>,
    key: Option<B256>,
}

impl KnownState {
    /// The state at genesis.
    pub fn from_genesis(genesis: &Genesis) -> Self {
        let accounts = genesis.alloc.iter().map(|(address, account)| {
            let nonce = account.nonce.unwrap_or(0);
            (
                *address,
                AccountState {
                    nonce,
                    balance: account.balance,
                },
            )
        });
        KnownState {
            accounts: accounts.collect(),
        }
    }

    /// Reads a dump as geth writes it (JSON), and checks that its accounts add
    /// up to the state root `expected`.
    ///
    /// # Errors
    /// When it is no dump or has another root.
    pub fn from_dump(file: &[u8], expected: B256) -> Result<Self, StateError> {
        let dump: Dump = serde_json::from_slice(file)?;
        let mut accounts = HashMap::with_capacity(dump.accounts.len());
        let mut leaves = Vec::with_capacity(dump.accounts.len());
        for (name, account) in dump.accounts {
            let address = account.address.or_else(|| name.parse().ok());
            let key = address.map(keccak256).or(account.key).unwrap_or_default();
            leaves.push((
                key,
                TrieAccount::new(
                    account.nonce,
                    account.balance,
                    account.root,
                    account.code_hash,
                ),
            ));
            if let Some(address) = address {
                let state = AccountState {
                    nonce: account.nonce,
                    balance: account.balance,
                };
                accounts.insert(address, state);
            }
        }
        let found = state_root_unsorted(leaves);
        if found != expected {
            return Err(StateError::Root { expected, found });
        }
        Ok(KnownState { accounts })
    }

    /// Sets an account.
    pub fn set(&mut self, address: Address, account: AccountState) {
        self.accounts.insert(address, account);
    }

    /// Accounts listed.
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Whether no account is listed.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }
}

impl StateView for KnownState {
    fn account(&self, address: &Address) -> Option<AccountState> {
        Some(self.accounts.get(address).copied().unwrap_or_default())
    }
}
