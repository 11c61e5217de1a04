//! Bounds of the pools. They are a node's own: no other node can see them.

/// Count and size of what a space may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cap {
    /// Most transactions.
    pub transactions: usize,
    /// Most bytes: the sum of their SSZ sizes.
    pub bytes: usize,
}

/// Caps and expiry of the pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Shared by `plaintext_v1` and `auction_bid_v1`.
    pub open: Cap,
    /// Most transactions of one (sender, type), futures included.
    pub per_sender: usize,
    /// Heights a transaction is held for after its admission.
    pub expiry_heights: u64,
}

impl Default for Limits {
    /// The defaults of the contract: 65,536 transactions (64 full blocks) and 64 MiB, 64 per (sender, type)
    /// (the nonce gap), 7,200 heights (two hours at a block a second).
    fn default() -> Self {
        Self { open: Cap { transactions: 65_536, bytes: 64 << 20 }, per_sender: 64, expiry_heights: 7_200 }
    }
}

/// Dropped transactions whose reason is remembered for clients that ask; a quarter of a full pool.
pub(crate) const DROPPED_REMEMBERED_MAX: usize = 16_384;

/// Smallest SSZ form of any transaction in bytes: when less is left of a block, nothing fits any more.
pub(crate) const TX_BYTES_MIN: u64 = 118;
