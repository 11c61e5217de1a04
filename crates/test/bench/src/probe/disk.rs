//! The vote log of a node of the probe: space that is there already, one sync for each entry.

use super::wire::HEAD_BYTES;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Bytes set aside; entries begin again at the front when they are used up.
const LOG_BYTES: u64 = 8 << 20;
/// Bytes from one entry to the next: a page, so that no sync writes one twice.
const ENTRY_BYTES: u64 = 4096;

/// The log.
pub(super) struct Log {
    file: File,
    at: u64,
}

impl Log {
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().create_new(true).write(true).open(path)?;
        file.write_all(&vec![0; usize::try_from(LOG_BYTES).unwrap_or(0)])?;
        file.sync_all()?;
        Ok(Self { file, at: 0 })
    }

    /// Writes a message without its value, and waits until it is durable.
    pub fn append(&mut self, message: &[u8]) -> io::Result<()> {
        self.file.write_all_at(&message[..message.len().min(HEAD_BYTES)], self.at)?;
        self.at = (self.at + ENTRY_BYTES) % LOG_BYTES;
        self.file.sync_data()
    }
}
