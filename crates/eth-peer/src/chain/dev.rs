//! A small made-up chain for networks of test nodes: some funded accounts whose
//! keys follow from their numbers, and blocks of simple transfers, all forks to
//! Prague active from genesis. Transfers need no virtual machine, and the two
//! system contracts that write at the beginning of a block (EIP-4788, EIP-2935)
//! write one slot each, so every root is the true one: `geth import` takes the
//! chain.

use super::memory::{AppendError, MemoryChain};
use super::state::{AccountState, KnownState};
use crate::backend::ChainBackend;
use crate::chain::genesis::GenesisError;
use crate::wire::{Block, BlockBody, BlockTransaction, PooledEnvelope, WireTransaction};
use alloy_consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy_consensus::transaction::SignableTransaction;
use alloy_consensus::{
    Eip658Value, Header, Receipt, ReceiptEnvelope, Transaction, TxEip1559, TxLegacy,
};
use alloy_eips::eip1559::BaseFeeParams;
use alloy_eips::eip2935::{HISTORY_STORAGE_ADDRESS, HISTORY_STORAGE_CODE};
use alloy_eips::eip4788::{BEACON_ROOTS_ADDRESS, BEACON_ROOTS_CODE};
use alloy_eips::eip7002::{
    WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, WITHDRAWAL_REQUEST_PREDEPLOY_CODE,
};
use alloy_eips::eip7251::{
    CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, CONSOLIDATION_REQUEST_PREDEPLOY_CODE,
};
use alloy_genesis::{ChainConfig, Genesis, GenesisAccount};
use alloy_primitives::{Address, B256, Signature, TxKind, U256, keccak256};
use alloy_trie::root::state_root_unhashed;
use std::collections::BTreeMap;
use tercet_enode::SecretKey;

/// Gas of a simple transfer.
const TRANSFER_GAS: u64 = 21_000;
/// Seconds between blocks, as on mainnet.
const SLOT: u64 = 12;
/// Gas limit of every block.
const GAS_LIMIT: u64 = 30_000_000;
/// Tip of every transfer in a block: 1 gwei.
const TIP: u128 = 1_000_000_000;
/// Fee cap of every transfer: 100 gwei.
const FEE_CAP: u128 = 100_000_000_000;
/// Slots of the ring of block hashes (EIP-2935).
const HISTORY_WINDOW: u64 = 8191;
/// Slots of the ring of beacon roots (EIP-4788).
const BEACON_ROOTS_WINDOW: u64 = 8191;
/// 1,000,000 ether in wei.
const FUNDS: U256 = U256::from_limbs([0x1bce_cced_a100_0000, 0xd3c2, 0, 0]);

/// What the chain should look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevChainConfig {
    /// Chain id and network id. Default 1337.
    pub chain_id: u64,
    /// Funded accounts, at least 1. Default 16.
    pub accounts: usize,
    /// Blocks after genesis. Default 8.
    pub blocks: u64,
    /// Transfers in each block, at most 1428 (30,000,000 / 21,000). More than
    /// 714 raise the base fee from block to block. Default 4.
    pub transfers: usize,
    /// Time of the genesis block, in seconds. Default 1,700,000,000.
    pub genesis_time: u64,
}

impl Default for DevChainConfig {
    fn default() -> Self {
        DevChainConfig {
            chain_id: 1337,
            accounts: 16,
            blocks: 8,
            transfers: 4,
            genesis_time: 1_700_000_000,
        }
    }
}

/// A funded account.
#[derive(Clone, Debug)]
pub struct DevAccount {
    key: SecretKey,
    address: Address,
    nonce: u64,
}

impl DevAccount {
    /// The account with this number: its key is the hash of a fixed text and the
    /// number.
    fn numbered(index: usize) -> Self {
        let mut seed = keccak256(format!("tercet dev account {index}"));
        let key = loop {
            match SecretKey::from_bytes(&seed.0) {
                Ok(key) => break key,
                // Not a number below the order of the curve, once in 2^128.
                Err(_) => seed = keccak256(seed),
            }
        };
        Self::new(key, 0)
    }

    /// An account from its key and the nonce of its next transaction.
    pub fn new(key: SecretKey, nonce: u64) -> Self {
        let address = Address::from_raw_public_key(&key.public_key().to_bytes());
        DevAccount {
            key,
            address,
            nonce,
        }
    }

    /// Its key.
    pub fn key(&self) -> &SecretKey {
        &self.key
    }

    /// Its address.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Nonce of its next transaction.
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    /// Signs a transfer and counts the nonce up.
    pub fn transfer(&mut self, transfer: DevTransfer) -> WireTransaction {
        let tx = self.sign(transfer);
        self.nonce += 1;
        WireTransaction::new(tx)
    }

    fn sign(&self, transfer: DevTransfer) -> PooledEnvelope {
        let DevTransfer {
            chain_id,
            to,
            value,
            kind,
        } = transfer;
        let (nonce, to) = (self.nonce, TxKind::Call(to));
        match kind {
            TransferKind::Legacy => {
                let tx = TxLegacy {
                    chain_id: Some(chain_id),
                    nonce,
                    gas_price: FEE_CAP,
                    gas_limit: TRANSFER_GAS,
                    to,
                    value,
                    ..TxLegacy::default()
                };
                let signature = self.signature(tx.signature_hash());
                tx.into_signed(signature).into()
            }
            TransferKind::Eip1559 => {
                let tx = TxEip1559 {
                    chain_id,
                    nonce,
                    gas_limit: TRANSFER_GAS,
                    max_fee_per_gas: FEE_CAP,
                    max_priority_fee_per_gas: TIP,
                    to,
                    value,
                    ..TxEip1559::default()
                };
                let signature = self.signature(tx.signature_hash());
                tx.into_signed(signature).into()
            }
        }
    }

    fn signature(&self, digest: B256) -> Signature {
        let signature = self.key.sign_recoverable(&digest.0);
        let [rs @ .., v] = signature.as_bytes();
        Signature::from_bytes_and_parity(rs, *v == 1)
    }
}

/// A transfer to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevTransfer {
    /// Chain it is signed for.
    pub chain_id: u64,
    /// Receiver.
    pub to: Address,
    /// Wei.
    pub value: U256,
    /// Form of the transaction.
    pub kind: TransferKind,
}

/// Form of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferKind {
    /// Legacy with chain id (EIP-155).
    Legacy,
    /// With priority fee (EIP-1559).
    Eip1559,
}

/// Why a chain was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DevChainError {
    /// No account to send from.
    #[error("a dev chain needs at least one account")]
    NoAccounts,
    /// More transfers than fit a block.
    #[error("{transfers} transfers do not fit a block, at most {max}")]
    TooManyTransfers {
        /// Transfers asked for.
        transfers: usize,
        /// Transfers that fit.
        max: usize,
    },
    /// Blocks more than half full raise the base fee by up to an eighth each,
    /// in the end above what a transfer pays at most.
    #[error(
        "the base fee of block {block} is {base_fee} wei, more than a transfer pays: fewer blocks or fewer transfers"
    )]
    BaseFee {
        /// The first block whose base fee is too high.
        block: u64,
        /// Its base fee in wei.
        base_fee: u64,
    },
    /// The genesis file describes no block.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// A block that was made does not fit: a fault of this code.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// A made-up chain with the keys of its accounts.
#[derive(Debug)]
pub struct DevChain {
    genesis: Genesis,
    chain: MemoryChain,
    accounts: Vec<DevAccount>,
    state: DevState,
}

impl DevChain {
    /// Makes the chain: the same for the same config.
    ///
    /// # Errors
    /// When the config asks for no accounts, for more transfers than fit a block,
    /// or for so many full blocks that the base fee outgrows the transfers' fee
    /// cap of 100 gwei.
    pub fn build(config: &DevChainConfig) -> Result<Self, DevChainError> {
        let max = usize::try_from(GAS_LIMIT / TRANSFER_GAS).unwrap_or(usize::MAX);
        if config.accounts == 0 {
            return Err(DevChainError::NoAccounts);
        }
        if config.transfers > max {
            return Err(DevChainError::TooManyTransfers {
                transfers: config.transfers,
                max,
            });
        }
        let accounts: Vec<_> = (0..config.accounts).map(DevAccount::numbered).collect();
        let genesis = genesis(config, &accounts);
        let chain = MemoryChain::new(&genesis)?;
        let state = DevState::new(&genesis);
        let mut dev = DevChain {
            genesis,
            chain,
            accounts,
            state,
        };
        for _ in 0..config.blocks {
            dev.add_block(config.transfers)?;
        }
        Ok(dev)
    }

    /// The genesis file.
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The chain.
    pub fn chain(&self) -> &MemoryChain {
        &self.chain
    }

    /// The funded accounts, with the nonces of their next transactions.
    pub fn accounts(&self) -> &[DevAccount] {
        &self.accounts
    }

    /// The state at the head.
    pub fn state(&self) -> KnownState {
        let mut known = KnownState::default();
        for (address, account) in &self.state.accounts {
            let nonce = account.nonce.unwrap_or(0);
            known.set(
                *address,
                AccountState {
                    nonce,
                    balance: account.balance,
                },
            );
        }
        known
    }

    /// Takes chain, state and accounts apart.
    pub fn into_parts(self) -> (MemoryChain, KnownState, Vec<DevAccount>) {
        let state = self.state();
        (self.chain, state, self.accounts)
    }

    /// Adds a block of `transfers` transfers, each account sending in turn to
    /// the next.
    fn add_block(&mut self, transfers: usize) -> Result<(), DevChainError> {
        let Some(parent) = self.chain.header(self.chain.head().number.into()) else {
            return Ok(());
        };
        let mut header = Header {
            parent_hash: parent.hash(),
            ommers_hash: parent.ommers_hash,
            beneficiary: self.genesis.coinbase,
            number: parent.number + 1,
            gas_limit: GAS_LIMIT,
            timestamp: parent.timestamp + SLOT,
            mix_hash: keccak256(parent.mix_hash),
            base_fee_per_gas: parent.next_block_base_fee(BaseFeeParams::ethereum()),
            withdrawals_root: parent.withdrawals_root,
            blob_gas_used: Some(0),
            excess_blob_gas: Some(0),
            parent_beacon_block_root: Some(keccak256(parent.hash())),
            requests_hash: parent.requests_hash,
            ..Header::default()
        };
        let base_fee = header.base_fee_per_gas.unwrap_or(0);
        if transfers > 0 && u128::from(base_fee) > FEE_CAP {
            return Err(DevChainError::BaseFee {
                block: header.number,
                base_fee,
            });
        }
        self.state.begin_block(&header);
        let (transactions, receipts) = self.transfers(transfers, &mut header);
        header.state_root = self.state.root();
        header.transactions_root = calculate_transaction_root(&transactions);
        header.receipts_root = calculate_receipt_root(&receipts);
        let body = BlockBody {
            transactions,
            withdrawals: Some(Default::default()),
            ..BlockBody::default()
        };
        self.chain.append(Block { header, body }, receipts)?;
        Ok(())
    }

    fn transfers(
        &mut self,
        count: usize,
        header: &mut Header,
    ) -> (Vec<BlockTransaction>, Vec<ReceiptEnvelope>) {
        let base_fee = u128::from(header.base_fee_per_gas.unwrap_or(0));
        let mut transactions = Vec::with_capacity(count);
        let mut receipts = Vec::with_capacity(count);
        let addresses: Vec<_> = self.accounts.iter().map(DevAccount::address).collect();
        let receivers = addresses
            .iter()
            .cycle()
            .skip(header.number as usize % addresses.len());
        let turns = (0..addresses.len()).cycle().zip(receivers).take(count);
        for (turn, (index, &to)) in turns.enumerate() {
            let Some(account) = self.accounts.get_mut(index) else {
                continue;
            };
            let transfer = DevTransfer {
                chain_id: self.genesis.config.chain_id,
                to,
                value: U256::from(1_000 + turn),
                kind: if turn % 2 == 0 {
                    TransferKind::Eip1559
                } else {
                    TransferKind::Legacy
                },
            };
            let envelope = account.sign(transfer);
            account.nonce += 1;
            let price = envelope.effective_gas_price(Some(base_fee as u64));
            self.state
                .transfer(account.address, transfer, price, price - base_fee);
            header.gas_used += TRANSFER_GAS;
            let receipt: Receipt = Receipt {
                status: Eip658Value::Eip658(true),
                cumulative_gas_used: header.gas_used,
                logs: Vec::new(),
            };
            receipts.push(ReceiptEnvelope::from_typed(envelope.tx_type(), receipt));
            transactions.push(envelope.into());
        }
        (transactions, receipts)
    }
}

/// The state as a genesis file's accounts, which the trie takes.
#[derive(Debug)]
struct DevState {
    accounts: BTreeMap<Address, GenesisAccount>,
    coinbase: Address,
}

impl DevState {
    fn new(genesis: &Genesis) -> Self {
        DevState {
            accounts: genesis.alloc.clone(),
            coinbase: genesis.coinbase,
        }
    }

    /// What the system calls at the beginning of a block store: the beacon root
    /// and its time (EIP-4788), the parent's hash (EIP-2935).
    fn begin_block(&mut self, header: &Header) {
        let slot = header.timestamp % BEACON_ROOTS_WINDOW;
        let root = header.parent_beacon_block_root.unwrap_or_default();
        self.store(
            BEACON_ROOTS_ADDRESS,
            slot,
            B256::from(U256::from(header.timestamp)),
        );
        self.store(BEACON_ROOTS_ADDRESS, slot + BEACON_ROOTS_WINDOW, root);
        let slot = header.number.saturating_sub(1) % HISTORY_WINDOW;
        self.store(HISTORY_STORAGE_ADDRESS, slot, header.parent_hash);
    }

    fn store(&mut self, contract: Address, slot: u64, value: B256) {
        let account = self.accounts.entry(contract).or_default();
        account
            .storage
            .get_or_insert_default()
            .insert(B256::from(U256::from(slot)), value);
    }

    /// Moves the value and pays for the gas; the base fee is burnt.
    fn transfer(&mut self, from: Address, transfer: DevTransfer, price: u128, tip: u128) {
        let gas = U256::from(TRANSFER_GAS);
        let sender = self.accounts.entry(from).or_default();
        sender.nonce = Some(sender.nonce.unwrap_or(0) + 1);
        sender.balance -= transfer.value + gas * U256::from(price);
        self.accounts.entry(transfer.to).or_default().balance += transfer.value;
        self.accounts.entry(self.coinbase).or_default().balance += gas * U256::from(tip);
    }

    fn root(&self) -> B256 {
        let accounts = self.accounts.iter();
        state_root_unhashed(
            accounts.map(|(at, account)| (*at, account.clone().into_trie_account())),
        )
    }
}

fn genesis(config: &DevChainConfig, accounts: &[DevAccount]) -> Genesis {
    let contract = |code: &alloy_primitives::Bytes| GenesisAccount {
        // As deployed: a contract's account begins with nonce 1.
        nonce: Some(1),
        ..GenesisAccount::default().with_code(Some(code.clone()))
    };
    let mut alloc = BTreeMap::from([
        (BEACON_ROOTS_ADDRESS, contract(&BEACON_ROOTS_CODE)),
        (HISTORY_STORAGE_ADDRESS, contract(&HISTORY_STORAGE_CODE)),
        (
            WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
            contract(&WITHDRAWAL_REQUEST_PREDEPLOY_CODE),
        ),
        (
            CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
            contract(&CONSOLIDATION_REQUEST_PREDEPLOY_CODE),
        ),
    ]);
    for account in accounts {
        alloc.insert(
            account.address,
            GenesisAccount::default().with_balance(FUNDS),
        );
    }
    Genesis {
        config: chain_config(config.chain_id),
        timestamp: config.genesis_time,
        gas_limit: GAS_LIMIT,
        coinbase: Address::from_word(keccak256("tercet dev coinbase")),
        extra_data: b"tercet dev".to_vec().into(),
        alloc,
        ..Genesis::default()
    }
}

/// Every fork to Prague from the first block, proof of stake from the first
/// block.
fn chain_config(chain_id: u64) -> ChainConfig {
    let first = Some(0);
    ChainConfig {
        chain_id,
        homestead_block: first,
        eip150_block: first,
        eip155_block: first,
        eip158_block: first,
        byzantium_block: first,
        constantinople_block: first,
        petersburg_block: first,
        istanbul_block: first,
        berlin_block: first,
        london_block: first,
        merge_netsplit_block: first,
        shanghai_time: first,
        cancun_time: first,
        prague_time: first,
        terminal_total_difficulty: Some(U256::ZERO),
        terminal_total_difficulty_passed: true,
        deposit_contract_address: Some(Address::ZERO),
        blob_schedule: blob_schedule(),
        ..ChainConfig::default()
    }
}

/// geth wants the blob schedule of every fork that is active.
fn blob_schedule() -> BTreeMap<String, alloy_eips::eip7840::BlobParams> {
    use alloy_eips::eip7840::BlobParams;
    BTreeMap::from([
        ("cancun".to_owned(), BlobParams::cancun()),
        ("prague".to_owned(), BlobParams::prague()),
    ])
}

#[cfg(test)]
mod tests;
