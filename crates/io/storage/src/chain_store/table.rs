//! A keyspace whose values may be encrypted: everything that reads or writes one goes through here.

use super::cipher::{Cipher, StoreKey};
use crate::StorageError;
use fjall::{Guard, Keyspace, OwnedWriteBatch, Readable as _, Snapshot, UserKey, UserValue};
use std::ops::Deref;

/// A keyspace, of which keys are read as they are, and values through the cipher.
#[derive(Clone)]
pub(super) struct Table {
    keyspace: Keyspace,
    cipher: Option<Cipher>,
}

impl Table {
    pub fn new(keyspace: Keyspace, name: &'static str, key: Option<&StoreKey>) -> Self {
        Self { keyspace, cipher: key.map(|key| Cipher::new(key, name)) }
    }

    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<UserValue>, StorageError> {
        let found = self.keyspace.get(&key)?;
        found.map(|value| self.opened(key.as_ref(), value)).transpose()
    }

    pub fn get_in(
        &self,
        snapshot: &Snapshot,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<UserValue>, StorageError> {
        let found = snapshot.get(&self.keyspace, &key)?;
        found.map(|value| self.opened(key.as_ref(), value)).transpose()
    }

    /// An entry that an iterator has come to.
    pub fn entry(&self, guard: Guard) -> Result<(UserKey, UserValue), StorageError> {
        let (key, value) = guard.into_inner()?;
        let value = self.opened(&key, value)?;
        Ok((key, value))
    }

    /// The same; its value only where the key is wanted.
    pub fn entry_if(
        &self,
        guard: Guard,
        is_wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<(UserKey, Option<UserValue>), StorageError> {
        let (key, value) = guard.into_inner_if(|key| is_wanted(key))?;
        let value = value.map(|value| self.opened(&key, value)).transpose()?;
        Ok((key, value))
    }

    pub fn insert(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), StorageError> {
        let value = self.sealed(key.as_ref(), value.as_ref())?;
        Ok(self.keyspace.insert(key.as_ref(), value)?)
    }

    /// Adds an entry to a batch.
    pub fn put(
        &self,
        batch: &mut OwnedWriteBatch,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<(), StorageError> {
        let value = self.sealed(key.as_ref(), value.as_ref())?;
        batch.insert(&self.keyspace, key.as_ref(), value);
        Ok(())
    }

    fn sealed(&self, key: &[u8], value: &[u8]) -> Result<UserValue, StorageError> {
        match &self.cipher {
            None => Ok(value.into()),
            Some(cipher) => Ok(cipher.seal(key, value)?.into()),
        }
    }

    fn opened(&self, key: &[u8], value: UserValue) -> Result<UserValue, StorageError> {
        match &self.cipher {
            None => Ok(value),
            Some(cipher) => Ok(cipher.open(key, &value)?.into()),
        }
    }
}

/// For what has to do with keys alone.
impl Deref for Table {
    type Target = Keyspace;

    fn deref(&self) -> &Keyspace {
        &self.keyspace
    }
}
