//! The state as it is stored: every entry as it is after the last block, and of the last blocks what it was before.
//!
//! ```text
//! state     key                        ─▶ value after the last block
//! versions  key ‖ height               ─▶ value before that block: 0 where there was none, 1 ‖ value
//! touched   height                     ─▶ the keys the block changed, each length (u8) ‖ key
//! ```
//!
//! What a key held after height h is what it held before the first block above h that changed it. A read of the last
//! state is one lookup; one of an earlier state is one more. No key of the chain is the beginning of another, so
//! that those of `versions` cannot be confused.

#![allow(clippy::wildcard_enum_match_arm, reason = "errors of fjall, which grow")]

use super::keys::{corrupt, height_key, height_of_key};
use super::table::Table;
use crate::StorageError;
use aequa_chain::{Change, StateRead, StoredRow};
use aequa_types::Height;
use fjall::{Guard, OwnedWriteBatch, Readable as _, Snapshot};
use parking_lot::Mutex;
use std::fmt;
use std::ops::Bound;

const HEIGHT_BYTES: usize = 8;

/// Where the state is.
#[derive(Clone)]
pub(super) struct StateTables {
    pub entries: Table,
    pub versions: Table,
    pub touched: Table,
    /// How many states below the last one.
    pub kept: u64,
}

impl StateTables {
    /// Adds what a block changed to its batch, and drops the version that is one too many.
    pub fn write(
        &self,
        batch: &mut OwnedWriteBatch,
        height: Height,
        changes: &[Change],
    ) -> Result<(), StorageError> {
        let mut touched = Vec::new();
        for Change { key, before, after } in changes {
            match after {
                Some(value) => self.entries.put(batch, key, value)?,
                None => batch.remove(&self.entries, key.as_slice()),
            }
            self.versions.put(batch, version_key(key, height), version(before.as_deref()))?;
            touched.push(key.len() as u8);
            touched.extend_from_slice(key);
        }
        self.touched.put(batch, height_key(height), touched)?;
        if let Some(outdated) = height.0.checked_sub(self.kept).map(Height) {
            self.forget(batch, outdated)?;
        }
        Ok(())
    }

    /// Drops what was before a block: the state below it can no longer be read.
    fn forget(&self, batch: &mut OwnedWriteBatch, height: Height) -> Result<(), StorageError> {
        let Some(touched) = self.touched.get(height_key(height))? else { return Ok(()) };
        for key in keys_of(&touched)? {
            batch.remove(&self.versions, version_key(key, height));
        }
        batch.remove(&self.touched, height_key(height));
        Ok(())
    }

    /// The value under a key after the last block.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.entries.get(key)?.map(|value| value.to_vec()))
    }

    /// The first entry above a key after the last block.
    pub fn above(&self, key: &[u8]) -> Result<Option<StoredRow>, StorageError> {
        first(&self.entries, self.entries.range::<&[u8], _>((Bound::Excluded(key), Bound::Unbounded)))
    }

    /// The state after the block at `height`, `None` when what was before the next one is not kept. `last` is the last
    /// block of the snapshot.
    pub fn at(
        &self,
        snapshot: Snapshot,
        height: Height,
        last: Height,
    ) -> Result<Option<StateAt>, StorageError> {
        if height > last {
            return Ok(None);
        }
        if height < last && self.touched.get_in(&snapshot, height_key(height.next()))?.is_none() {
            return Ok(None);
        }
        Ok(Some(StateAt { tables: self.clone(), snapshot, height, failed: Mutex::new(None) }))
    }

    /// The lowest height whose state can be read.
    pub fn lowest(&self, last: Height) -> Result<Height, StorageError> {
        let Some(first) = self.touched.first_key_value() else { return Ok(last) };
        let first = height_of_key(&first.key()?)?;
        Ok(Height(first.0.saturating_sub(1)))
    }
}

/// The state as it was after a block, whatever happens since.
pub struct StateAt {
    tables: StateTables,
    snapshot: Snapshot,
    height: Height,
    failed: Mutex<Option<StorageError>>,
}

impl StateAt {
    /// The same state for another reader, who asks for itself whether it could be read.
    pub fn again(&self) -> Self {
        let Self { tables, snapshot, height, failed: _ } = self;
        Self { tables: tables.clone(), snapshot: snapshot.clone(), height: *height, failed: Mutex::new(None) }
    }

    /// Whether everything that was asked for could be read; to be called before an answer is given.
    pub fn check_reads(&self) -> Result<(), StorageError> {
        self.failed.lock().take().map_or(Ok(()), Err)
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let above = version_key(key, self.height.next())..=version_key(key, Height(u64::MAX));
        let StateTables { entries, versions, .. } = &self.tables;
        match first(versions, self.snapshot.range(&**versions, above))? {
            Some((_, version)) => value_of(&version),
            None => Ok(entries.get_in(&self.snapshot, key)?.map(|value| value.to_vec())),
        }
    }

    fn next(&self, key: &[u8]) -> Result<Option<StoredRow>, StorageError> {
        let StateTables { entries, versions, .. } = &self.tables;
        let mut key = key.to_vec();
        loop {
            let above = (Bound::Excluded(key.as_slice()), Bound::Unbounded);
            let there = first(entries, self.snapshot.range::<&[u8], _>(&**entries, above))?;
            let last_version = version_key(&key, Height(u64::MAX));
            let above = (Bound::Excluded(last_version.as_slice()), Bound::Unbounded);
            let was = first(versions, self.snapshot.range::<&[u8], _>(&**versions, above))?;
            let was = was.map(|(version, _)| without_height(&version).map(<[u8]>::to_vec)).transpose()?;
            key = match (there.map(|(key, _)| key), was) {
                (Some(there), Some(was)) => there.min(was),
                (Some(only), None) | (None, Some(only)) => only,
                (None, None) => return Ok(None),
            };
            if let Some(value) = self.value(&key)? {
                return Ok(Some((key, value)));
            }
        }
    }

    fn noted<T>(&self, read: Result<Option<T>, StorageError>) -> Option<T> {
        read.unwrap_or_else(|error| {
            self.failed.lock().get_or_insert(error);
            None
        })
    }
}

impl StateRead for StateAt {
    fn height(&self) -> Height {
        self.height
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.noted(self.value(key))
    }

    fn above(&self, key: &[u8]) -> Option<StoredRow> {
        self.noted(self.next(key))
    }
}

impl fmt::Debug for StateAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the state after block {}", self.height)
    }
}

fn first(table: &Table, mut entries: impl Iterator<Item = Guard>) -> Result<Option<StoredRow>, StorageError> {
    let Some(guard) = entries.next() else { return Ok(None) };
    let (key, value) = table.entry(guard)?;
    Ok(Some((key.to_vec(), value.to_vec())))
}

fn version_key(key: &[u8], height: Height) -> Vec<u8> {
    [key, &height_key(height)].concat()
}

fn without_height(version: &[u8]) -> Result<&[u8], StorageError> {
    let length = version.len().checked_sub(HEIGHT_BYTES).ok_or_else(|| corrupt("version key too short"))?;
    Ok(&version[..length])
}

fn version(value: Option<&[u8]>) -> Vec<u8> {
    value.map_or_else(|| vec![0], |value| [&[1], value].concat())
}

fn value_of(version: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
    match version {
        [0] => Ok(None),
        [1, value @ ..] => Ok(Some(value.to_vec())),
        _ => Err(corrupt("version of a state entry unreadable")),
    }
}

fn keys_of(touched: &[u8]) -> Result<Vec<&[u8]>, StorageError> {
    let (mut rest, mut keys) = (touched, Vec::new());
    while let Some((length, tail)) = rest.split_first() {
        let (key, tail) = tail
            .split_at_checked(usize::from(*length))
            .ok_or_else(|| corrupt("list of changed state keys cut short"))?;
        keys.push(key);
        rest = tail;
    }
    Ok(keys)
}
