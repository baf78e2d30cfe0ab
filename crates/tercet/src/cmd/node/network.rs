//! What a node serves without `--chain`: a public network whose only block it has is the genesis block. Peers see a node that
//! has yet to sync, which is true.

use alloy_consensus::{Header, ReceiptEnvelope};
use alloy_eips::BlockHashOrNumber;
use alloy_primitives::{B64, B256, Bytes, Sealable as _, Sealed, U256, b256, bytes};
use tercet_eth_peer::{ChainBackend, ForkSchedule, Head, Network};

/// The genesis block of a public network, and nothing after it.
#[derive(Debug)]
pub(crate) struct GenesisOnly {
    network: Network,
    forks: ForkSchedule,
    header: Sealed<Header>,
}

impl GenesisOnly {
    /// The network with this id; `None` for one not known here.
    pub(crate) fn new(network_id: u64) -> Option<Self> {
        let network = Network::ALL
            .into_iter()
            .find(|network| network.chain_id == network_id)?;
        let header = genesis_header(&network)?.seal_slow();
        Some(Self {
            forks: network.forks(),
            header,
            network,
        })
    }

    /// The network's common name.
    pub(crate) fn name(&self) -> &'static str {
        self.network.name
    }

    fn is_genesis(&self, hash: B256) -> bool {
        hash == self.header.hash()
    }
}

impl ChainBackend for GenesisOnly {
    fn genesis_hash(&self) -> B256 {
        self.header.hash()
    }

    fn chain_id(&self) -> u64 {
        self.network.chain_id
    }

    fn total_difficulty(&self) -> U256 {
        self.header.difficulty
    }

    fn forks(&self) -> &ForkSchedule {
        &self.forks
    }

    fn head(&self) -> Head {
        Head {
            number: 0,
            hash: self.header.hash(),
            timestamp: self.header.timestamp,
        }
    }

    fn earliest(&self) -> u64 {
        0
    }

    fn canonical_hash(&self, number: u64) -> Option<B256> {
        (number == 0).then(|| self.header.hash())
    }

    fn header(&self, id: BlockHashOrNumber) -> Option<Sealed<Header>> {
        let found = match id {
            BlockHashOrNumber::Number(number) => number == 0,
            BlockHashOrNumber::Hash(hash) => self.is_genesis(hash),
        };
        found.then(|| self.header.clone())
    }

    fn header_rlp(&self, hash: B256) -> Option<bytes::Bytes> {
        self.is_genesis(hash)
            .then(|| alloy_rlp::encode(self.header.inner()).into())
    }

    fn body_rlp(&self, hash: B256) -> Option<bytes::Bytes> {
        // No transactions, no ommers and, where Shanghai is active from the start, no withdrawals.
        let body: &[u8] = if self.header.withdrawals_root.is_some() {
            &[0xc3, 0xc0, 0xc0, 0xc0]
        } else {
            &[0xc2, 0xc0, 0xc0]
        };
        self.is_genesis(hash)
            .then(|| bytes::Bytes::copy_from_slice(body))
    }

    fn receipts(&self, hash: B256) -> Option<Vec<ReceiptEnvelope>> {
        self.is_genesis(hash).then(Vec::new)
    }
}

/// EIP-1559's base fee of a chain that starts with London.
const INITIAL_BASE_FEE: u64 = 1_000_000_000;

/// The genesis block's header of a public network; `None` for one not known here. The tests hold each to its hash.
fn genesis_header(network: &Network) -> Option<Header> {
    match network.chain_id {
        1 => Some(Header {
            state_root: b256!("d7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544"),
            difficulty: U256::from(0x4_0000_0000_u64),
            gas_limit: 5000,
            extra_data: bytes!("11bbe8db4e347b4e8c937c1c8370e4b5ed33adb3db69cbdb7a38e1e50b1b82fa"),
            nonce: B64::with_last_byte(0x42),
            ..Header::default()
        }),
        11_155_111 => Some(Header {
            state_root: b256!("5eb6e371a698b8d68f665192350ffcecbbbf322916f4b51bd79bb6887da3f494"),
            difficulty: U256::from(0x2_0000),
            gas_limit: 30_000_000,
            timestamp: 1_633_267_481,
            extra_data: Bytes::from_static(b"Sepolia, Athens, Attica, Greece!"),
            base_fee_per_gas: Some(INITIAL_BASE_FEE),
            ..Header::default()
        }),
        17_000 => Some(Header {
            state_root: b256!("69d8c9d72f6fa4ad42d4702b433707212f90db395eb54dc20bc85de253788783"),
            difficulty: U256::from(1),
            gas_limit: 25_000_000,
            timestamp: 1_695_902_100,
            nonce: B64::from(0x1234_u64.to_be_bytes()),
            base_fee_per_gas: Some(INITIAL_BASE_FEE),
            ..Header::default()
        }),
        560_048 => Some(Header {
            state_root: b256!("da87d7f5f91c51508791bbcbd4aa5baf04917830b86985eeb9ad3d5bfb657576"),
            difficulty: U256::from(1),
            gas_limit: 36_000_000,
            timestamp: 1_742_212_800,
            nonce: B64::from(0x1234_u64.to_be_bytes()),
            base_fee_per_gas: Some(INITIAL_BASE_FEE),
            withdrawals_root: Some(alloy_consensus::constants::EMPTY_WITHDRAWALS),
            blob_gas_used: Some(0),
            excess_blob_gas: Some(0),
            parent_beacon_block_root: Some(B256::ZERO),
            ..Header::default()
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_genesis_header_has_its_networks_hash() {
        for network in Network::ALL {
            let header = genesis_header(&network).unwrap();
            assert_eq!(
                header.hash_slow(),
                network.genesis_hash(),
                "{}",
                network.name
            );
        }
    }
}
