//! Fork schedules of the public networks, as their genesis files give them.
//! A network not listed here is described by its own genesis file.

use super::ForkSchedule;
use alloy_primitives::{B256, b256};

/// A public network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its common name.
    pub name: &'static str,
    /// Chain id, which is also the network id.
    pub chain_id: u64,
    genesis_hash: B256,
    genesis_time: u64,
    blocks: &'static [u64],
    times: &'static [u64],
}

impl Network {
    /// Ethereum mainnet, up to the second blob-parameter fork (BPO2).
    pub const MAINNET: Network = Network {
        name: "mainnet",
        chain_id: 1,
        genesis_hash: b256!("d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"),
        // The genesis block says 0.
        genesis_time: 0,
        blocks: &[
            1_150_000, 1_920_000, 2_463_000, 2_675_000, 4_370_000, 7_280_000, 9_069_000, 9_200_000,
            12_244_000, 12_965_000, 13_773_000, 15_050_000,
        ],
        times: &[
            1_681_338_455,
            1_710_338_135,
            1_746_612_311,
            1_764_798_551,
            1_765_290_071,
            1_767_747_671,
        ],
    };

    /// Sepolia. Its block fork is the merge-netsplit block.
    pub const SEPOLIA: Network = Network {
        name: "sepolia",
        chain_id: 11_155_111,
        genesis_hash: b256!("25a5cc106eea7138acab33231d7160d69cb777ee0c2c553fcddf5138993e6dd9"),
        genesis_time: 1_633_267_481,
        blocks: &[1_735_371],
        times: &[
            1_677_557_088,
            1_706_655_072,
            1_741_159_776,
            1_760_427_360,
            1_761_017_184,
            1_761_607_008,
        ],
    };

    /// Hoodi.
    pub const HOODI: Network = Network {
        name: "hoodi",
        chain_id: 560_048,
        genesis_hash: b256!("bbe312868b376a3001692a646dd2d7d1e4406380dfd86b98aa8a34d1557c971b"),
        genesis_time: 1_742_212_800,
        blocks: &[],
        times: &[1_742_999_832, 1_761_677_592, 1_762_365_720, 1_762_955_544],
    };

    /// Holesky (retired).
    pub const HOLESKY: Network = Network {
        name: "holesky",
        chain_id: 17_000,
        genesis_hash: b256!("b5f7f912443c940f21fd611f12828d75b534364ed9e95ca4e307729a4661bde4"),
        genesis_time: 1_695_902_100,
        blocks: &[],
        times: &[
            1_696_000_704,
            1_707_305_664,
            1_740_434_112,
            1_759_308_480,
            1_759_800_000,
            1_760_389_824,
        ],
    };

    /// All networks known here.
    pub const ALL: [Network; 4] = [Self::MAINNET, Self::SEPOLIA, Self::HOODI, Self::HOLESKY];

    /// Hash of the genesis block.
    pub fn genesis_hash(&self) -> B256 {
        self.genesis_hash
    }

    /// The fork schedule.
    pub fn forks(&self) -> ForkSchedule {
        ForkSchedule::new(
            self.genesis_hash,
            self.genesis_time,
            self.blocks.iter().copied(),
            self.times.iter().copied(),
        )
    }
}
