//! The recording of a node: what its replica took in, process by process, to be run again later.
//!
//! ```text
//! journal/life-<number of the process, 20 digits>.jrn
//! ┌────────────────────────────┬──────────────┬──────────────┬──
//! │ frame QJRN v2              │ frame QJEN   │ frame QJEN   │ …
//! │ cluster id 32 ‖ operator 1 │ one entry    │ one entry    │
//! └────────────────────────────┴──────────────┴──────────────┴──
//! ```
//!
//! What an entry is the host knows. A recording is a diagnostic, not a safety record, and so the opposite of the vote log
//! in every respect:
//!
//! - Nothing waits for the disk. What was written survives the end of the process, not that of the
//!   machine; [`Journal::finish`] syncs once.
//! - It is bounded. A file can be run again from its beginning only, so earlier processes are dropped for the present
//!   one, the oldest first, and when this alone has no room its recording ends.
//! - Reading takes no lock and changes nothing, also while a node writes: a file ends with its last whole frame.

mod reader;
#[cfg(test)]
mod tests;

pub use reader::{Life, lives};

use crate::StorageError;
use crate::files::{at, create_dir_durable, create_exclusive, remove_if_present};
use crate::frame::FrameKind;
use aequa_types::{ClusterId, OperatorIndex};
use ssz::Encode as _;
use ssz_derive::{Decode, Encode};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The buffer keeps this much between writes, and gives back what a large entry took.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

const HEAD_FRAME: FrameKind =
    FrameKind { name: "recording", magic: *b"QJRN", version: 2, flags_known: 0, payload_bytes_max: 256 };
const ENTRY_FRAME: FrameKind = FrameKind {
    name: "recorded entry",
    magic: *b"QJEN",
    version: 2,
    flags_known: 0,
    payload_bytes_max: 64 << 20,
};

/// Whose recording it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct Head {
    cluster_id: ClusterId,
    operator: OperatorIndex,
}

/// The recording of the present process.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    /// Recordings of earlier processes with their sizes, oldest first.
    earlier: VecDeque<(PathBuf, u64)>,
    buffer: Vec<u8>,
}

impl Journal {
    /// Begins the recording of a process in `dir`, where all of them never take more than `bytes_max` bytes.
    pub fn begin(
        dir: &Path,
        cluster_id: ClusterId,
        operator: OperatorIndex,
        bytes_max: u64,
    ) -> Result<Self, StorageError> {
        create_dir_durable(dir)?;
        let mut earlier = VecDeque::new();
        for path in reader::recordings(dir)? {
            let bytes = fs::metadata(&path).map_err(at("inspect", &path))?.len();
            earlier.push_back((path, bytes));
        }
        let number = reader::newest(dir)?.map_or(1, |newest| newest.saturating_add(1));
        let path = reader::path_of(dir, number);
        let file = create_exclusive(&path).map_err(at("create", &path))?;
        let buffer = HEAD_FRAME.encode(0, &Head { cluster_id, operator }.as_ssz_bytes())?;
        let mut journal = Self { path, file, bytes: 0, bytes_max, earlier, buffer };
        journal.write_out()?;
        Ok(journal)
    }

    /// Collects an entry for the next [`Journal::write_out`].
    pub fn append(&mut self, entry: &[u8]) -> Result<(), StorageError> {
        self.buffer.extend_from_slice(&ENTRY_FRAME.encode(0, entry)?);
        if self.buffer.len() > BUFFER_BYTES_KEPT { self.write_out() } else { Ok(()) }
    }

    /// Hands everything collected to the operating system. What does not fit any more is refused as too large.
    pub fn write_out(&mut self) -> Result<(), StorageError> {
        self.make_room()?;
        self.file.write_all(&self.buffer).map_err(at("write", &self.path))?;
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        Ok(())
    }

    /// Writes what is collected and makes the recording durable.
    pub fn finish(mut self) -> Result<(), StorageError> {
        self.write_out()?;
        self.file.sync_all().map_err(at("sync", &self.path))
    }

    /// Drops earlier recordings until what is collected fits.
    fn make_room(&mut self) -> Result<(), StorageError> {
        let own = self.bytes + self.buffer.len() as u64;
        let mut total = own + self.earlier.iter().map(|(_, bytes)| bytes).sum::<u64>();
        while total > self.bytes_max {
            let Some((oldest, bytes)) = self.earlier.pop_front() else {
                let as_size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
                let (bytes, bytes_max) = (as_size(own), as_size(self.bytes_max));
                return Err(StorageError::TooLarge { what: "recording of this process", bytes, bytes_max });
            };
            remove_if_present(&oldest).map_err(at("remove", &oldest))?;
            total -= bytes;
        }
        Ok(())
    }
}
