//! The chains that live peers are shown: a made-up genesis beside their programs,
//! and the 600-block chain where it is there.

use std::path::Path;
use std::sync::Arc;

use alloy_eips::BlockHashOrNumber;
use serde_json::{Value, json};
use tercet_eth_peer::{ChainBackend, ChainFolder, MemoryChain};

use crate::workspace::{chain_folder, say, workspace_dir};

/// A chain and the genesis file that it starts from.
pub struct LiveChain {
    /// The file as others read it.
    pub genesis: Value,
    /// What our side serves.
    pub backend: Arc<dyn ChainBackend>,
}

impl LiveChain {
    /// A genesis block in Cancun, with Prague to come in 4,000,000,000.
    pub fn made_up() -> Self {
        let genesis = read(&workspace_dir().join("tests/interop/genesis.json"));
        let parsed = serde_json::from_value(genesis.clone()).unwrap();
        let backend = Arc::new(MemoryChain::new(&parsed).unwrap());
        Self { genesis, backend }
    }

    /// The 600-block chain beside the project; `None`: the reason was printed.
    pub fn real() -> Option<Self> {
        let Some(folder) = chain_folder() else {
            say("skipped: no ../shared/data/chain beside the project");
            return None;
        };
        let genesis = read(&folder.join("genesis.json"));
        let backend = Arc::new(ChainFolder::open(folder).unwrap());
        Some(Self { genesis, backend })
    }

    /// The configuration of the JavaScript peer on the same chain.
    pub fn js_config(&self, hardfork: &str) -> Value {
        let head = self.backend.head();
        json!({
            "genesis": self.genesis,
            "genesisHash": self.backend.genesis_hash(),
            "hardfork": hardfork,
            "bestHash": head.hash,
            "td": self.backend.total_difficulty(),
        })
    }

    /// The chain part of the Go peer's configuration. That peer works out hashes
    /// and fork id itself.
    pub fn go_config(&self) -> Value {
        let rlp = |number| {
            let header = self
                .backend
                .header(BlockHashOrNumber::Number(number))
                .unwrap();
            let rlp = self.backend.header_rlp(header.hash()).unwrap();
            format!("0x{}", hex::encode(rlp))
        };
        json!({
            "NetworkID": self.backend.network_id(),
            "Forks": self.genesis["config"],
            "Genesis": rlp(0),
            "Head": rlp(self.backend.head().number),
            "Earliest": self.backend.earliest(),
        })
    }
}

fn read(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}
