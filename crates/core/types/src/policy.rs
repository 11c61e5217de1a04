//! The parameters all operators share; they live in the cluster lock.

use crate::TxKind;
use alloy_primitives::B256;
use serde::{Deserialize, Serialize};
use ssz_types::VariableList;
use ssz_types::typenum::U16;
use tree_hash::TreeHash as _;
use tree_hash_derive::TreeHash;

/// Who leads a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaderPolicy {
    /// `(height + round) mod n` for blocks, `(slot + duty type + round) mod n` for duties.
    RoundRobin,
}

/// How a block's items are chosen and ordered. Data, not code: every operator re-checks it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuilderPolicy {
    /// Types in the order of their slots.
    pub order: Vec<TxKind>,
    /// Most items of a block.
    pub max_n: u64,
    /// Most items per type; 0 means `max_n`.
    pub window: u64,
    /// Smallest bid taken.
    pub min_bid: u64,
    /// Smallest fee taken.
    pub min_fee: u64,
    /// Byte budget: the sum of the items' SSZ sizes.
    pub max_bytes: u64,
    /// Batch length in consensus time; 0 = off.
    pub batch_ms: u64,
    /// Pairing selection.
    pub use_dfba: bool,
}

impl Default for BuilderPolicy {
    fn default() -> Self {
        Self {
            order: vec![TxKind::AuctionBidV1, TxKind::PlaintextV1],
            max_n: 1024,
            window: 0,
            min_bid: 0,
            min_fee: 0,
            max_bytes: 1 << 20,
            batch_ms: 0,
            use_dfba: false,
        }
    }
}

impl BuilderPolicy {
    /// Most items per type with the default resolved.
    pub fn window_or_max(&self) -> u64 {
        if self.window == 0 { self.max_n } else { self.window.min(self.max_n) }
    }

    /// Smallest ordering key taken for `kind`.
    pub fn min_key(&self, kind: TxKind) -> u64 {
        match kind {
            TxKind::PlaintextV1 => self.min_fee,
            TxKind::AuctionBidV1 => self.min_bid,
        }
    }

    /// hash_tree_root of the policy, carried by every header.
    pub fn hash(&self) -> B256 {
        #[derive(TreeHash)]
        struct Ssz {
            order: VariableList<u8, U16>,
            max_n: u64,
            window: u64,
            min_bid: u64,
            min_fee: u64,
            max_bytes: u64,
            batch_ms: u64,
            use_dfba: bool,
        }
        Ssz {
            order: self
                .order
                .iter()
                .map(|kind| kind.number())
                .take(16)
                .collect::<Vec<_>>()
                .try_into()
                .unwrap_or_default(),
            max_n: self.max_n,
            window: self.window_or_max(),
            min_bid: self.min_bid,
            min_fee: self.min_fee,
            max_bytes: self.max_bytes,
            batch_ms: self.batch_ms,
            use_dfba: self.use_dfba,
        }
        .tree_hash_root()
    }
}

/// Consensus parameters of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsensusParams {
    /// Who leads.
    pub leader: LeaderPolicy,
    /// K: heights between checkpoints.
    pub checkpoint_interval: u64,
    /// t(0) in milliseconds; doubled per round.
    pub round_timeout_ms: u64,
    /// Ceiling of the round timeout.
    pub round_timeout_cap_ms: u64,
    /// Least time between blocks; 0 = as fast as agreed.
    pub block_interval_ms: u64,
    /// Whether blocks without items are decided.
    pub empty_blocks: bool,
    /// How items are chosen.
    pub builder: BuilderPolicy,
}

impl Default for ConsensusParams {
    fn default() -> Self {
        Self {
            leader: LeaderPolicy::RoundRobin,
            checkpoint_interval: 100,
            round_timeout_ms: 1000,
            round_timeout_cap_ms: 60_000,
            block_interval_ms: 1000,
            empty_blocks: true,
            builder: BuilderPolicy::default(),
        }
    }
}
