//! How a block store is opened.

use super::cipher::StoreKey;

/// What an operator may want to change.
#[derive(Debug, Clone)]
pub struct ChainOptions {
    /// Cache of what is read from disk, in bytes.
    pub cache_bytes: u64,
    /// States kept below the last one: those after as many blocks can still be read, proven and served.
    pub states_kept: u64,
    /// What values are encrypted with, if they are. Decided when the store is made.
    pub key: Option<StoreKey>,
}

impl Default for ChainOptions {
    /// 8 MiB of cache: the last blocks are what peers and clients ask for, and of older ones the system has pages.
    fn default() -> Self {
        Self { cache_bytes: 8 << 20, states_kept: 256, key: None }
    }
}
