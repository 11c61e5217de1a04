//! Where a state is read from, and what a block does to it.

use crate::StoredRow;
use aequa_types::Height;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Bound;

/// A value under a key before and after a block; `None` where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key: of a row, of a page of the tree, or of the counts.
    pub key: Vec<u8>,
    /// What was there.
    pub before: Option<Vec<u8>>,
    /// What is there now.
    pub after: Option<Vec<u8>>,
}

impl Change {
    /// Whether a row of a table is changed, not what the tree is kept with.
    pub fn is_row(&self) -> bool {
        self.key.first().is_some_and(|table| *table != crate::page::TREE)
    }
}

/// Where a state is kept: rows, the pages of their tree, and counts, all by key. No key is the beginning of another, and
/// none is longer than 34 bytes.
///
/// Reads do not fail. What cannot be read is absent, and the reader says so by itself: whoever acts upon a read has
/// to ask it before anything leaves the process. Values that are there and wrong are found by [`crate::Chain::apply`].
pub trait StateRead: Debug + Send + Sync {
    /// The last block whose changes are here; 0 before any.
    fn height(&self) -> Height;

    /// The value under a key.
    fn get(&self, key: &[u8]) -> Option<Vec<u8>>;

    /// The first key above this one, with its value.
    fn above(&self, key: &[u8]) -> Option<StoredRow>;
}

/// A state in memory: of simulations and of tools.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryState {
    height: Height,
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl MemoryState {
    /// Takes over what a block changed.
    pub fn write(&mut self, height: Height, changes: &[Change]) {
        self.height = height;
        for Change { key, after, .. } in changes {
            match after {
                Some(value) => self.entries.insert(key.clone(), value.clone()),
                None => self.entries.remove(key),
            };
        }
    }
}

impl StateRead for MemoryState {
    fn height(&self) -> Height {
        self.height
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.entries.get(key).cloned()
    }

    fn above(&self, key: &[u8]) -> Option<StoredRow> {
        let (key, value) = self.entries.range::<[u8], _>((Bound::Excluded(key), Bound::Unbounded)).next()?;
        Some((key.clone(), value.clone()))
    }
}
