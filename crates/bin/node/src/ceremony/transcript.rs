//! The machine's durable memory: its entries in a log.

use super::watch::CeremonyWatch;
use crate::exit::ExitError;
use aequa_dkg::{Entry, Promise, TranscriptStore};
use aequa_storage::StorageError;
use aequa_storage::entry_log::EntryLog;
use aequa_types::ClusterId;
use ssz::{Decode as _, Encode as _};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// A transcript on disk.
pub struct Transcript {
    log: EntryLog,
    promises: HashSet<Promise>,
    watch: Arc<CeremonyWatch>,
}

impl Transcript {
    /// Opens the transcript of a ceremony; gives what is in it.
    pub fn open(
        path: &Path,
        ceremony: ClusterId,
        watch: Arc<CeremonyWatch>,
    ) -> Result<(Self, Vec<Entry>), ExitError> {
        let (log, stored) = EntryLog::open(path, ceremony).map_err(refused)?;
        let entries = decode(path, stored)?;
        let promises = entries.iter().filter_map(Entry::promise).collect();
        Ok((Self { log, promises, watch }, entries))
    }
}

/// What is in a transcript. The file is not changed.
pub fn read(path: &Path, ceremony: ClusterId) -> Result<Vec<Entry>, ExitError> {
    if !path.is_file() {
        return Err(ExitError::unchecked(format!("there is no transcript {}", path.display())));
    }
    let stored = EntryLog::read(path, ceremony).map_err(|error| ExitError::unchecked(error.to_string()))?;
    decode(path, stored)
}

fn decode(path: &Path, stored: Vec<Vec<u8>>) -> Result<Vec<Entry>, ExitError> {
    let entry = |bytes: Vec<u8>| Entry::from_ssz_bytes(&bytes);
    stored.into_iter().map(entry).collect::<Result<_, _>>().map_err(|error| {
        ExitError::refused(format!("{}: an entry does not decode: {error:?}", path.display()))
    })
}

fn refused(error: StorageError) -> ExitError {
    ExitError::refused(error.to_string())
        .hint("without it this operator could contradict itself: it takes no part in this ceremony any more")
}

impl TranscriptStore for Transcript {
    type Error = StorageError;

    fn append(&mut self, entries: &[Entry]) -> Result<(), StorageError> {
        let bytes: Vec<Vec<u8>> = entries.iter().map(|entry| entry.as_ssz_bytes()).collect();
        self.watch.persist(|| self.log.append(&bytes))?;
        self.promises.extend(entries.iter().filter_map(Entry::promise));
        Ok(())
    }

    fn holds(&self, promise: &Promise) -> bool {
        self.promises.contains(promise)
    }
}
