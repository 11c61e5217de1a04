//! Ethereum networks that stakers know by name.

use alloy_primitives::{B256, FixedBytes, b256};

/// What tells a network from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// As stakers call it.
    pub name: &'static str,
    /// Version of its genesis fork.
    pub fork_version: FixedBytes<4>,
    /// EIP-155 id of its execution layer.
    pub chain_id: u64,
    /// Root of the validators of its genesis: names it in what validators sign (phase 0).
    pub genesis_validators_root: B256,
}

/// All of them.
pub const NETWORKS: [Network; 7] = [
    Network {
        name: "mainnet",
        fork_version: FixedBytes([0x00, 0x00, 0x00, 0x00]),
        chain_id: 1,
        genesis_validators_root: b256!("4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95"),
    },
    Network {
        name: "hoodi",
        fork_version: FixedBytes([0x10, 0x00, 0x09, 0x10]),
        chain_id: 560_048,
        genesis_validators_root: b256!("212f13fc4df078b6cb7db228f1c8307566dcecf900867401a92023d7ba99cb5f"),
    },
    Network {
        name: "holesky",
        fork_version: FixedBytes([0x01, 0x01, 0x70, 0x00]),
        chain_id: 17_000,
        genesis_validators_root: b256!("9143aa7c615a7f7115e2b6aac319c03529df8242ae705fba9df39b79c59fa8b1"),
    },
    Network {
        name: "sepolia",
        fork_version: FixedBytes([0x90, 0x00, 0x00, 0x69]),
        chain_id: 11_155_111,
        genesis_validators_root: b256!("d8ea171f3c94aea21ebc42a1ed61052acf3f9209c00e4efbaaddac09ed9b8078"),
    },
    Network {
        name: "goerli",
        fork_version: FixedBytes([0x00, 0x00, 0x10, 0x20]),
        chain_id: 5,
        genesis_validators_root: b256!("043db0d9a83813551ee2f33450d23797757d430911a9320530ad8a0eabc43efb"),
    },
    Network {
        name: "gnosis",
        fork_version: FixedBytes([0x00, 0x00, 0x00, 0x64]),
        chain_id: 100,
        genesis_validators_root: b256!("f5dcb5564e829aab27264b9becd5dfaa017085611224cb3036f573368dbb9d47"),
    },
    Network {
        name: "chiado",
        fork_version: FixedBytes([0x00, 0x00, 0x00, 0x6f]),
        chain_id: 10_200,
        genesis_validators_root: b256!("9d642dac73058fbf39c0ae41ab1e34e4d889043cb199851ded7095bc99eb4c1e"),
    },
];

/// The network with this genesis fork; none where nobody knows it by name.
pub fn of_fork(fork_version: FixedBytes<4>) -> Option<&'static Network> {
    NETWORKS.iter().find(|network| network.fork_version == fork_version)
}
